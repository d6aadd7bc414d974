"""The labelled images of the ablation: a simulated store, masks of its truth, ships, and real sets where they are.

A set that is there whole is taken as it is; each is written aside and put in place by a rename.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from bench_pretrain_parts.labelled import build_store, maps_of

from sarmae.stream.opening import open_store
from sarmae.stream.read_ahead import read_samples
from sarmae.stream.transforms import Dequantise
from sarworld.materials import LAND_COVER_NAMES

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))  # the simulated sets of the tests

from support.simulated_sets import write_ship_scenes, write_tif  # noqa: E402

SHARED = Path("../shared/data")  # beside the repository
CELLS = 120
MASK_PX = 128
MASKS = {"train": 160, "val": 40, "test": 160}
SHIPS = 180

MAIN_ARMS = (
    "MAE",
    "MAE + SARE gamma",
    "MAE + SARC EfficientNet-Lite0",
    "MAE + SARE gamma + SARC EfficientNet-Lite0",
    "random encoder",
    "ImageNet EfficientNet-Lite0",
    "raw statistics",
    "raw pixels",
)

FIT = {"epochs": 12, "batch": 16, "lr": 2e-3, "freeze": True}


def write_sets(work: Path) -> None:
    """Everything simulated, below work."""
    store = work / f"simulated-{CELLS}"
    build_store(store, CELLS)
    _once(work / "land-cover", lambda folder: _write_masks(store, folder))
    _once(work / "ships", lambda folder: write_ship_scenes(folder, scenes=SHIPS, side_px=128))


def real_tasks() -> list[dict[str, Any]]:
    """Tasks on the real images that are at hand, of the main arms; none where the folder is absent."""
    found = []
    if (SHARED / "aircraft_chips").is_dir():
        dataset = {"kind": "folders", "path": str(SHARED / "aircraft_chips"), "image_px": 128}
        asked = {"protocols": ["knn", "linear"], "label_shares": [0.1, 0.3]}
        found.append(_real("aircraft types (real, SAR-ACD)", "classification", dataset, **asked))
    if (SHARED / "flood_chips").is_dir():
        dataset = {"kind": "masks", "path": str(SHARED / "flood_chips"), "image_px": 128}
        shares = {"test_share": 0.4, "val_share": 0.0}
        found.append(_real("flood water (real)", "segmentation", dataset | shares, fit=FIT))
    return found


def _real(name: str, kind: str, dataset: dict[str, Any], **asked: Any) -> dict[str, Any]:
    return {"name": name, "kind": kind, "dataset": dataset, "arms": list(MAIN_ARMS), **asked}


def _once(folder: Path, write: Callable[[Path], object]) -> None:
    if folder.is_dir():
        return
    aside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    write(aside)
    aside.rename(folder)


def _write_masks(store: Path, folder: Path) -> None:
    """Centres of the store's images in dB with what covers the ground, in the store's own splits."""
    table = pd.read_parquet(store / "samples.parquet")
    maps = maps_of(store, CELLS, table)
    positions = {number: position for position, (number, _) in enumerate(LAND_COVER_NAMES)}
    for split, most in MASKS.items():
        rows = table[table.split == split].sort_values(["shard", "index"])
        chosen = np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)  # spread over all places
        opened = open_store(str(store), split=split, optical=False)
        sar_db = Dequantise(opened.index.sar, None)(read_samples(opened, chosen)).sar.numpy()
        for image, patch in zip(sar_db, rows.patch.iloc[chosen], strict=True):
            margin = (image.shape[-1] - MASK_PX) // 2
            window = np.s_[..., margin : margin + MASK_PX, margin : margin + MASK_PX]
            mask = np.vectorize(positions.__getitem__, otypes=[np.uint8])(maps[patch][window])
            write_tif(folder / split / "images" / f"{patch}.tif", image[window], opened.index.sar.labels)
            write_tif(folder / split / "masks" / f"{patch}.tif", mask[None])
