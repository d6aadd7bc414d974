"""Places in tables: outlines of patches as WKB, and what GeoParquet 1.1 says of them.

A box with west > east crosses the antimeridian: its outline is a MultiPolygon of two parts that meet at 180 degrees
(RFC 7946, section 3.1.9), and its bbox keeps west > east (section 5.2; GeoParquet 1.1, "bbox").
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import shapely

from sar1m.core.sphere import box_around, spans_within_world
from sar1m.records import F64

GEOPARQUET_VERSION: Final = "1.1.0"


def outlines_of(boxes: F64) -> npt.NDArray[np.object_]:
    """Polygons and MultiPolygons (n,) of boxes (n, 4), west, south, east, north in degrees."""
    found: npt.NDArray[np.object_] = np.asarray(shapely.box(*boxes.T), dtype=object).reshape(-1)
    for number in np.flatnonzero(boxes[:, 0] > boxes[:, 2]).tolist():
        west, south, east, north = boxes[number].tolist()
        parts = [shapely.box(a, south, b, north) for a, b in spans_within_world(west, east) if a < b]
        found[number] = parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
    return found


def outlines_wkb(boxes: F64) -> pa.Array:
    """The column `geometry` of boxes (n, 4)."""
    return pa.array(shapely.to_wkb(outlines_of(boxes)), type=pa.binary())


def geo_metadata(boxes: F64, covering: Mapping[str, Any] | None = None) -> str:
    """The file's metadata `geo` for the column of boxes (n, 4). covering: as GeoParquet has it."""
    crosses = boxes[:, 0] > boxes[:, 2]
    types = {one.geom_type for one in outlines_of(boxes[crosses]).tolist()}
    # No crs member: GeoParquet then means OGC:CRS84, longitude before latitude.
    about: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": sorted(types | ({"Polygon"} if not crosses.all() or not types else set())),
        **({"bbox": list(box_around(boxes))} if len(boxes) else {}),
        **({} if covering is None else {"covering": covering}),
    }
    return json.dumps(
        {"version": GEOPARQUET_VERSION, "primary_column": "geometry", "columns": {"geometry": about}}, sort_keys=True
    )


def with_geometry(boxes: F64, covering: Mapping[str, Any] | None = None) -> tuple[pa.Array, str]:
    """Both of them."""
    return outlines_wkb(boxes), geo_metadata(boxes, covering)
