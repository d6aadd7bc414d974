"""Small GeoTIFFs for tests."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

from sar1m.records import RasterGrid


def utm_grid(rows: int, cols: int, *, gsd_m: float = 10.0, left_m: float = 500_000.0, top_m: float = 5_000_000.0):
    """A grid in zone 33 north."""
    return RasterGrid(epsg=32633, left_m=left_m, top_m=top_m, gsd_m=gsd_m, rows=rows, cols=cols)


def write_tiff(path: Path, values: np.ndarray, grid: RasterGrid | None = None, **options: Any) -> Path:
    """Writes (bands, rows, cols) or (rows, cols) values; crs, transform, nodata, tags may be given."""
    bands = values[None] if values.ndim == 2 else values
    tags = options.pop("tags", {})
    profile = {"crs": f"EPSG:{grid.epsg}", "transform": Affine(*grid.transform)} if grid is not None else {}
    profile |= {"count": len(bands), "height": bands.shape[1], "width": bands.shape[2], "dtype": bands.dtype.name}
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # masks lie nowhere
        with rasterio.open(path, "w", driver="GTiff", **(profile | options)) as dataset:
            dataset.write(bands)
            dataset.update_tags(**tags)
    return path


def speckled_db(rng: np.random.Generator, bands: int, rows: int, cols: int) -> np.ndarray:
    """Backscatter-like decibels, float32: -12 dB and 4 looks."""
    return (10 * np.log10(0.06 * rng.gamma(4.0, 0.25, (bands, rows, cols)))).astype(np.float32)
