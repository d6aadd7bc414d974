"""Folders of small rasters as users describe them, for tests."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from sar1m.config import BuildConfig, GridConfig
from sar1m.sources.folder.source import FolderSource
from support.geotiffs import speckled_db, utm_grid, write_tiff

CHIP = utm_grid(80, 80)
CONFIG = BuildConfig(grid=GridConfig(patch_px=64, patches_per_side=4, halo_px=8))


def read_all(source: FolderSource, config: BuildConfig = CONFIG):
    return [(candidate, source.read(candidate, config)) for candidate in source.candidates(config)]


def write_modalities(
    root: Path, rng: np.random.Generator, names: tuple[str, ...], sar: str = "S1RTC"
) -> dict[str, Any]:
    """Chips as TerraMesh publishes them; returns what was written by modality and name."""
    written: dict[str, Any] = {}
    for number, name in enumerate(names):
        grid = utm_grid(80, 80, left_m=500_000.0 + 5000 * number)
        layers = {
            sar: (speckled_db(rng, 2, 80, 80).astype(np.float64), {"datetime": "2021-07-21T16:40:10.000000000"}),
            "S2L2A": (rng.integers(1, 5000, (12, 80, 80)).astype(np.int16), {}),
            "S2RGB": (rng.integers(0, 255, (3, 80, 80)).astype(np.uint8), {"datetime": "2021-07-23T13:22:41"}),
            "LULC": (rng.integers(1, 10, (80, 80)).astype(np.uint8), {}),
            "DEM": (np.zeros((80, 80), dtype=np.int16), {}),
        }
        for modality, (values, tags) in layers.items():
            write_tiff(root / modality / f"{name}.tif", values, grid, tags=tags)
            written[f"{modality}/{name}"] = values
    return written


def write_table(root: Path, rows: list[dict[str, str]]) -> Path:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with (root / "scenes.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)
    return root / "scenes.csv"


SAR_ROW = {"pair": "p", "kind": "sar", "path": "vv.tif", "bands": "VV", "unit": "linear", "quantity": "sigma0"}
OPTICAL_ROW = {
    "pair": "p",
    "kind": "optical",
    "path": "rgb.tif",
    "bands": "B04 B03 B02",
    "unit": "dn",
    "baseline": "05.10",
}


def set_aside(source: FolderSource, config: BuildConfig = CONFIG) -> str:
    """Names and causes of what a source could not plan, a line each."""
    list(source.candidates(config))
    return "\n".join(f"{one.item_id}: {one.error}: {one.cause}" for one in source.failures.found)
