"""Measurement GeoTIFFs: digital numbers with the geolocation grid as ground control points."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.windows import Window

from sar1m.core.radar.product import GrdGeometry

_OPTIONS: Final = {"driver": "GTiff", "count": 1, "dtype": "uint16", "blockysize": 1}
Strip = tuple[int, npt.NDArray[np.uint16]]


def write_measurement(path: Path, geometry: GrdGeometry, strips: Iterable[Strip]) -> None:
    """Writes an image from strips.

    As in real measurements, nothing is compressed and each line is a strip of the TIFF.

    strips: first line and (lines, samples) of each; together they fill the image.
    """
    grid = geometry.grid
    points = [
        # real products write line and pixel as they are, although GDAL counts from a pixel's outer corner
        GroundControlPoint(
            row=float(grid.line[n]),
            col=float(grid.sample[n]),
            x=float(grid.lon[n]),
            y=float(grid.lat[n]),
            z=float(grid.height_m[n]),
            id=str(n + 1),
        )
        for n in range(len(grid.line))
    ]
    with rasterio.open(
        path, "w", height=geometry.lines, width=geometry.samples, gcps=points, crs=CRS.from_epsg(4326), **_OPTIONS
    ) as dataset:
        for line, numbers in strips:
            dataset.write(numbers, 1, window=Window(0, line, numbers.shape[1], numbers.shape[0]))
