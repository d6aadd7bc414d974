"""Elevation tiles and geoid grids for tests."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.transform import Affine

from sar1m.core.utm import lonlat_from_utm, utm_from_lonlat
from sar1m.records import RasterGrid
from support.geotiffs import write_tiff

LON_THINNING = ((85, 10), (80, 5), (70, 3), (60, 2), (50, 1.5), (0, 1))  # handbook of the Copernicus DEM
Surface = Callable[[np.ndarray, np.ndarray], np.ndarray]


def write_gtx(
    path: Path, undulation: Surface, *, step_deg: float = 2.0, lat: tuple = (-90, 90), lon: tuple = (-180, 178)
):
    """A .gtx grid of a function of longitude and latitude; global unless bounds (ends included) are given."""
    lats, lons = np.arange(lat[0], lat[1] + 1e-9, step_deg), np.arange(lon[0], lon[1] + 1e-9, step_deg)
    values = np.broadcast_to(undulation(lons[None], lats[:, None]), (lats.size, lons.size))
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(">4d2i", lat[0], lon[0], step_deg, step_deg, lats.size, lons.size)
    path.write_bytes(header + values.astype(">f4").tobytes())
    return path


def copernicus_file(lat: int, lon: int, resolution: str = "30") -> str:
    """The name of a tile: resolution 10 is GLO-30, 30 is GLO-90."""
    place = f"{'NS'[lat < 0]}{abs(lat):02d}_00_{'EW'[lon < 0]}{abs(lon):03d}_00"
    return f"Copernicus_DSM_COG_{resolution}_{place}_DEM/Copernicus_DSM_COG_{resolution}_{place}_DEM.tif"


def write_tile(folder: Path, lat: int, lon: int, surface: Surface, **options: Any) -> Path:
    """A GLO-90 tile of a surface: posts on whole arc-seconds, the southern and eastern ones left to the neighbours."""
    thinning = next(factor for start, factor in LON_THINNING if (lat if lat >= 0 else -lat - 1) >= start)
    rows, cols = 1200, round(1200 / thinning)
    lats, lons = lat + 1 - np.arange(rows) / rows, lon + np.arange(cols) / cols
    values = surface(lons[None], lats[:, None]).astype(np.float32)
    transform = Affine(1 / cols, 0, lon - 0.5 / cols, 0, -1 / rows, lat + 1 + 0.5 / rows)
    return write_tiff(folder / copernicus_file(lat, lon), values, crs="EPSG:4326", transform=transform, **options)


def grid_at(lon: float, lat: float, rows: int, cols: int, *, gsd_m: float = 10.0, epsg: int) -> RasterGrid:
    """A grid centred on a place."""
    x_m, y_m = (round(float(value)) for value in utm_from_lonlat(lon, lat, epsg))
    return RasterGrid(
        epsg=epsg, left_m=x_m - cols // 2 * gsd_m, top_m=y_m + rows // 2 * gsd_m, gsd_m=gsd_m, rows=rows, cols=cols
    )


def centres(grid: RasterGrid) -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude of every pixel centre."""
    x_m = grid.left_m + (np.arange(grid.cols) + 0.5) * grid.gsd_m
    y_m = grid.top_m - (np.arange(grid.rows) + 0.5) * grid.gsd_m
    return lonlat_from_utm(x_m[None], y_m[:, None], grid.epsg)
