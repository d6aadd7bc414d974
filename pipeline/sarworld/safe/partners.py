"""Files that accompany a simulated product: a DEM, a geoid grid, and an optical image like Sentinel-2's."""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import rasterio
from pyproj import CRS
from rasterio.transform import Affine

from sar1m.core.grid import bounds_lonlat
from sar1m.core.sphere import spans_within_world
from sar1m.core.utm import lonlat_from_utm
from sar1m.records import F32, F64, RasterGrid
from sarworld.materials import OPTICAL_BANDS, WATER_CLASS
from sarworld.optics import Sun
from sarworld.safe.ground import height_at
from sarworld.safe.scenario import LICENCE, SceneSpec, Undulation
from sarworld.world import World, cover_with_clouds, view_optical

ARC_SECOND_DEG: Final = 1 / 3600
SUN: Final = Sun(zenith_deg=38.0, azimuth_deg=150.0)
BASELINE: Final = "05.10"
OFFSET_DN: Final = 1000  # added to reflectance times 10,000 since baseline 04.00
SCL_CLOUD: Final = 9
SCL_WATER: Final = 6
SCL_VEGETATION: Final = 4
GEOID_NAME: Final = "egm08_25.gtx"
_EGM2008: Final = "EPSG:3855"
_GEOID_STEP_DEG: Final = 0.05
_GEOID_MARGIN_DEG: Final = 0.5


def write_dem(folder: Path, spec: SceneSpec, grid: RasterGrid, height_m: F32) -> None:
    """Writes the heights of the ground as a GeoTIFF.

    Heights are ellipsoidal, which the file states only where it is in degrees. Where the spec gives an undulation they
    count from the geoid instead: the file states EGM2008, and the undulation is written to geoid/egm08_25.gtx beside
    the folder.

    height_m: (rows, cols) on the grid, above the ellipsoid.
    """
    folder.mkdir(parents=True, exist_ok=True)
    undulation = spec.partners.undulation
    if spec.partners.dem == "utm":
        rows, cols = np.ogrid[: grid.rows, : grid.cols]
        lon, lat = lonlat_from_utm(
            grid.left_m + (cols + 0.5) * grid.gsd_m, grid.top_m - (rows + 0.5) * grid.gsd_m, grid.epsg
        )
        heights, horizontal, transform = height_m, f"EPSG:{grid.epsg}", Affine(*grid.transform)
    else:
        lon, lat, transform = _arc_seconds(grid)
        heights, horizontal = height_at(grid, height_m, lon, lat).astype(np.float32), "EPSG:4326"
    if undulation is None:
        # GeoTIFF has no keys for a projected system with ellipsoidal heights: there the datum goes unstated
        wkt = CRS("EPSG:4979" if spec.partners.dem == "lonlat" else horizontal).to_wkt()
    else:
        heights = (heights - undulation(lon, lat)).astype(np.float32)
        wkt = CRS(f"{horizontal}+{_EGM2008.removeprefix('EPSG:')}").to_wkt()
        _write_geoid(folder.parent / "geoid", undulation, (float(lon.mean()), float(lat.mean())))
    _write_tiff(folder / f"{spec.name}-dem.tif", heights, wkt, transform)


def _arc_seconds(grid: RasterGrid) -> tuple[F64, F64, Affine]:
    """Longitude and latitude of posts on whole arc seconds over a grid, and the transform of the pixels around them.
    Longitudes run on beyond 180."""
    west, south, east, north = bounds_lonlat([grid])[0]
    east += 360.0 if west > east else 0.0
    first_col, last_col = np.ceil(west / ARC_SECOND_DEG), np.floor(east / ARC_SECOND_DEG)
    first_row, last_row = np.ceil(south / ARC_SECOND_DEG), np.floor(north / ARC_SECOND_DEG)
    lon, lat = np.meshgrid(
        np.arange(first_col, last_col + 1) * ARC_SECOND_DEG, np.arange(last_row, first_row - 1, -1) * ARC_SECOND_DEG
    )
    corner = (float(lon[0, 0]) - ARC_SECOND_DEG / 2, float(lat[0, 0]) + ARC_SECOND_DEG / 2)
    return lon, lat, Affine(ARC_SECOND_DEG, 0, corner[0], 0, -ARC_SECOND_DEG, corner[1])


def _write_geoid(folder: Path, undulation: Undulation, centre: tuple[float, float]) -> None:
    """Writes the undulation around a place in NOAA's .gtx format: a header, then rows from the south, big-endian."""
    folder.mkdir(parents=True, exist_ok=True)
    west, south = (np.floor(degrees / _GEOID_STEP_DEG) * _GEOID_STEP_DEG - _GEOID_MARGIN_DEG for degrees in centre)
    count = round(2 * _GEOID_MARGIN_DEG / _GEOID_STEP_DEG) + 1
    lon, lat = np.meshgrid(west + _GEOID_STEP_DEG * np.arange(count), south + _GEOID_STEP_DEG * np.arange(count))
    header = struct.pack(">4d2i", south, west, _GEOID_STEP_DEG, _GEOID_STEP_DEG, count, count)
    (folder / GEOID_NAME).write_bytes(header + undulation(lon, lat).astype(">f4").tobytes())


def write_optical(folder: Path, spec: SceneSpec, world: World, grid: RasterGrid, acquired: datetime) -> None:
    """Writes bands B02, B03, B04, B08 (uint16) and SCL (uint8) as GeoTIFFs on a grid, and their STAC item."""
    folder.mkdir(parents=True, exist_ok=True)
    clouds = cover_with_clouds(world.spec, SUN, cloudy=spec.partners.cloudy)
    reflectance = view_optical(world, SUN, spec.partners.optical_shift_px, clouds)
    scl = np.where(world.land_cover() == WATER_CLASS, SCL_WATER, SCL_VEGETATION)
    layers = {
        band: np.clip(np.rint(values * 10_000) + OFFSET_DN, 1, 65535).astype(np.uint16)
        for band, values in zip(OPTICAL_BANDS, reflectance, strict=True)
    }
    layers["SCL"] = np.where(clouds.mask, SCL_CLOUD, scl).astype(np.uint8)
    when = (acquired + timedelta(days=1)).astimezone(UTC).replace(hour=10, minute=20, second=31, microsecond=0)
    name = f"S2A_MSIL2A_{when:%Y%m%dT%H%M%S}_N{BASELINE.replace('.', '')}_R022_T32XXX_{when:%Y%m%dT%H%M%S}"
    wkt = CRS.from_epsg(grid.epsg).to_wkt()
    for band, values in layers.items():
        _write_tiff(folder / f"{name}_{band}.tif", values, wkt, Affine(*grid.transform))
    item = _stac_item(name, when, grid, tuple(layers))
    (folder / f"{name}.json").write_text(json.dumps(item, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _stac_item(name: str, when: datetime, grid: RasterGrid, bands: tuple[str, ...]) -> dict[str, Any]:
    west, south, east, north = (float(edge) for edge in bounds_lonlat([grid])[0])
    rings = [
        [[left, south], [right, south], [right, north], [left, north], [left, south]]
        for left, right in spans_within_world(west, east)
    ]
    whole = {"type": "Polygon", "coordinates": rings}
    across = {"type": "MultiPolygon", "coordinates": [[ring] for ring in rings]}  # RFC 7946, section 3.1.9
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": "sentinel-2-l2a",
        "geometry": whole if len(rings) == 1 else across,
        "bbox": [west, south, east, north],
        "properties": {
            "datetime": f"{when:%Y-%m-%dT%H:%M:%SZ}",
            "platform": "sentinel-2a",
            "s2:processing_baseline": BASELINE,
            "license": LICENCE,
        },
        "links": [],
        "assets": {band: {"href": f"./{name}_{band}.tif", "type": "image/tiff; application=geotiff"} for band in bands},
    }


def _write_tiff(path: Path, values: npt.NDArray[Any], wkt: str, transform: Affine) -> None:
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=1,
        height=values.shape[0],
        width=values.shape[1],
        dtype=values.dtype.name,
        crs=wkt,
        transform=transform,
        tiled=True,
        blockxsize=256,
        blockysize=256,
        compress="deflate",
        predictor=3 if values.dtype.kind == "f" else 2,
    ) as dataset:
        dataset.write(values, 1)
