"""Which readers open a folder that knows nothing of this project, each tried: pixels of one sample, or why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def with_zarr(folder: Path, row: int) -> np.ndarray:
    """zarr-python alone."""
    import zarr  # noqa: PLC0415

    array: Any = zarr.open_group(folder, mode="r")["sar"]
    return np.asarray(array[row])


def with_xarray(folder: Path, row: int) -> np.ndarray:
    """xarray's zarr engine, digital numbers."""
    import xarray as xr  # noqa: PLC0415

    opened = xr.open_zarr(folder, consolidated=False, mask_and_scale=False, chunks=None)
    return np.asarray(opened["sar"][row])


def with_tensorstore(folder: Path, row: int) -> np.ndarray:
    """TensorStore's zarr3 driver."""
    import tensorstore as ts  # noqa: PLC0415

    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{folder / 'sar'}/"}}
    return np.asarray(ts.open(spec, open=True).result()[row].read().result())


def with_gdal(folder: Path, row: int) -> np.ndarray:
    """GDAL's Zarr driver, as rasterio ships it; a band a channel of a sample."""
    import rasterio  # noqa: PLC0415

    with rasterio.open(f'ZARR:"{folder}":/sar:{row}:0') as first:
        return first.read(1)[None]


READERS: dict[str, Callable[[Path, int], np.ndarray]] = {
    "zarr-python": with_zarr,
    "xarray": with_xarray,
    "TensorStore": with_tensorstore,
    "GDAL (rasterio)": with_gdal,
}


def try_readers(folder: Path, row: int, expected: np.ndarray) -> dict[str, str]:
    """Yes, or the first words of the error, by reader."""
    found = {}
    for name, read in READERS.items():
        try:
            pixels = read(folder, row)
            found[name] = "yes" if np.array_equal(pixels, expected[: len(pixels)]) else "other pixels"
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what a user sees
            words = " ".join(str(error).replace(str(folder), "...").split())
            found[name] = f"no ({type(error).__name__}: {words[:60]})"
    return found
