"""Samples of a simulated store with the truth about them: what covers the ground, by image and by 16 px cell."""

# S samples, P polarisations, C classes, G cells along a side

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from measure import run_command
from torch import Tensor

from sar1m.config import BuildConfig
from sar1m.sources.simulated import SimulatedSource
from sar1m.store import settings
from sarmae.stream.opening import open_store
from sarmae.stream.read_ahead import read_samples
from sarmae.stream.transforms import Dequantise
from sarworld.materials import LAND_COVER_NAMES

SPLITS = ("train", "val", "test")
CELL_PX = 16
# Blocks of 100 km hold whole clusters of simulated cells, so that the held-out cells are many; SAR alone is as good.
SPLIT = ("split.block_km=100", "split.val_share=0.15", "split.test_share=0.3", "balance.max_unpaired_share=1")


@dataclass(frozen=True, kw_only=True, eq=False)
class Labelled:
    """One split. sar_db: (S, P, 256, 256), NaN: no data. fractions: (S, C) of the image by class of LAND_COVER_NAMES.
    cells: (S, G, G) int64, the class that takes most of each cell of 16 px."""

    sar_db: Tensor
    fractions: Tensor
    cells: Tensor

    @property
    def dominant(self) -> Tensor:
        """(S,) the class that takes most of the image."""
        return self.fractions.argmax(dim=1)


def build_store(folder: Path, cells: int) -> None:
    """A finished store of simulated cells; one that is there is taken as it is."""
    overrides = [word for pair in SPLIT for word in ("--set", pair)]
    build = [sys.executable, "-m", "sar1m", "build", "--region", f"simulated:{cells}", "--out", str(folder), *overrides]
    run_command(build)


def read_labelled(folder: Path, cells: int) -> dict[str, Labelled]:
    """All splits. Samples of val and test whose simulated cell has a part in train are left out: cells are held out
    whole. What covers the ground is simulated anew, some 0.6 s a cell, and kept beside the store."""
    table = pd.read_parquet(folder / "samples.parquet")
    maps = maps_of(folder, cells, table)
    trained = set(table.cell[table.split == "train"])
    return {split: _read_split(folder, split, table, maps, trained) for split in SPLITS}


def _read_split(
    folder: Path, split: str, table: pd.DataFrame, maps: dict[str, np.ndarray], trained: set[str]
) -> Labelled:
    rows = table[table.split == split].sort_values(["shard", "index"])
    usable = np.flatnonzero((split == "train") | ~rows.cell.isin(trained).to_numpy())
    store = open_store(str(folder), split=split, optical=False)
    sar_db = Dequantise(store.index.sar, None)(read_samples(store, usable)).sar
    classes = np.array([number for number, _ in LAND_COVER_NAMES])
    covers = np.stack([maps[patch] for patch in rows.patch.iloc[usable]])
    shares = torch.from_numpy(covers[:, None] == classes[:, None, None]).float()
    by_cell = torch.nn.functional.avg_pool2d(shares, CELL_PX)
    return Labelled(sar_db=sar_db, fractions=shares.mean(dim=(2, 3)).double(), cells=by_cell.argmax(dim=1))


def maps_of(folder: Path, cells: int, table: pd.DataFrame) -> dict[str, np.ndarray]:
    """(256, 256) uint8 class numbers by name of the patch. Raises RuntimeError where they are not the store's."""
    kept = folder.with_name(f"{folder.name}-land-cover.npz")
    if not kept.is_file():
        np.savez_compressed(kept, **_simulate_maps(folder, cells, set(table.patch)))
    with np.load(kept) as archive:
        maps = {name: archive[name] for name in archive.files}
    numbers = {name: number for number, name in LAND_COVER_NAMES}
    for patch, fractions in zip(table.patch, table.land_cover, strict=True):
        found = {name: float((maps[patch] == numbers[name]).mean()) for name, _ in fractions}
        if any(abs(found[name] - share) > 1e-4 for name, share in fractions):
            raise RuntimeError(f"{kept}: {patch} differs from the store. Remove the file.")
    return maps


def _simulate_maps(folder: Path, cells: int, patches: set[str]) -> dict[str, np.ndarray]:
    text = settings.read_text(folder / "provenance/config.toml")
    config, source = settings.parse(BuildConfig, text, origin=str(folder)), SimulatedSource(cells)
    maps: dict[str, np.ndarray] = {}
    for candidate in source.candidates(config):
        wanted = [place for place in candidate.patches if place.name in patches]
        if wanted:
            cover, side = source.read(candidate, config).land_cover, config.grid.patch_px
            halo = candidate.halo_px
            for place in wanted:
                row, col = place.row + halo, place.col + halo
                maps[place.name] = cover[row : row + side, col : col + side]
    return maps
