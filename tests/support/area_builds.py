"""What tests of whole builds of one small block share."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

import pyarrow.parquet
import xarray

from sar1m.core.grid import bounds_lonlat
from sar1m.records import RasterGrid

KEYS = {
    "grid.patch_px": 64,
    "grid.patches_per_side": 2,
    "grid.halo_px": 8,
    "registration.search_px": 8,
    "safe.dem_datum": "ellipsoid",
    "balance.max_unpaired_share": 1,
}


def settings(more: Mapping[str, object]) -> list[str]:
    """Options of the command line: KEYS and more."""
    return list(chain.from_iterable(("--set", f"{key}={value}") for key, value in (KEYS | dict(more)).items()))


SETTINGS = settings({})


def box_inside(block: RasterGrid) -> str:
    """A region inside a block's cell, so that it alone is taken."""
    west, south, east, north = bounds_lonlat([block])[0]
    lon, lat = (west + east) / 2, (south + north) / 2
    return f"{lon - 0.001:.4f},{lat - 0.001:.4f},{lon + 0.001:.4f},{lat + 0.001:.4f}"


def opened(out):
    """Arrays and rows of a store that lies in one split."""
    (path,) = (out / "data").glob("*.zarr")
    samples = pyarrow.parquet.read_table(out / "samples.parquet").to_pandas()
    return xarray.open_zarr(path, consolidated=False).load(), samples.sort_values("index").reset_index(drop=True)
