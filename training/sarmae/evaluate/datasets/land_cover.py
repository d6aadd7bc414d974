"""A finished store or release of ours as a classification task: the land cover that takes most of each sample.

Splits are the store's own, drawn by geographic block. Groups are cells of 10 km: a block's edge may cross a cell, and
what is taught of a tested cell is left out. Images are centre windows of image_px in dB.
"""

# B batch, P polarisations, S samples, H W pixels

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from sar1m.store.errors import ConfigError, StoreError
from sarmae.evaluate.datasets.naming import named_classes, unused
from sarmae.evaluate.datasets.pictures import drawn, moments
from sarmae.evaluate.datasets.samples_table import read_attributes
from sarmae.evaluate.label_splits import Samples, part_samples
from sarmae.evaluate.study_config import DatasetConfig
from sarmae.evaluate.values import Inputs, LabelledChips
from sarmae.stream.layout import splits_of
from sarmae.stream.opening import PUBLISHED, Store, open_store
from sarmae.stream.read_ahead import read_samples
from sarmae.stream.transforms import Dequantise

LEAST_TAUGHT: Final = 8  # samples of a class in train; classes with fewer are left out
_UNKNOWN: Final = "unknown"  # the store's class 0


class StoreImages:
    """Samples of several splits of a store, numbered through, as centre windows."""

    def __init__(self, stores: Sequence[Store], numbers: NDArray[np.int64], image_px: int) -> None:
        self._stores, self._numbers, self._image_px = tuple(stores), numbers, image_px
        self._starts = np.cumsum([0, *(len(store.index) for store in stores)])
        self._decode = Dequantise(stores[0].index.sar, None)

    def __len__(self) -> int:
        return len(self._numbers)

    def read(self, numbers: Sequence[int]) -> torch.Tensor:
        """(B, P, image_px, image_px) float32 dB, NaN where there is no data. Raises ChunkError for damaged samples."""
        wanted = self._numbers[np.asarray(numbers, dtype=np.int64)]
        spec, side = self._stores[0].index.sar, self._image_px
        images = torch.empty((len(wanted), spec.sample_shape[0], side, side))
        row, col = ((length - side) // 2 for length in spec.sample_shape[1:])
        for store, start, stop in zip(self._stores, self._starts, self._starts[1:], strict=False):
            rows = np.flatnonzero((wanted >= start) & (wanted < stop))
            if rows.size:
                whole = self._decode(read_samples(store, wanted[rows] - start)).sar
                images[torch.from_numpy(rows)] = whole[:, :, row : row + side, col : col + side]
        return images


def open_labelled_store(asked: DatasetConfig, name: str) -> LabelledChips:
    """Samples with a known land cover. attributes and what hold_out may name: see store_table.

    Raises ConfigError where the store has no land cover, its samples are smaller than image_px, or classes or hold_out
    name what is not there; StoreError for what is broken.
    """
    stores = _open(asked)
    index = _joined(stores)
    attributes = read_attributes(stores)
    usable = np.flatnonzero(index.cover != _UNKNOWN)
    if not usable.size:
        raise ConfigError(
            f"{asked.path}: knows no land cover. Build it with area.land_cover=true, or use another dataset to test."
        )
    usable = usable[drawn(len(usable), asked)]
    found = sorted(set(index.cover[usable].tolist()))
    classes, positions = named_classes(found, asked.classes, asked.path)
    notes = [f"left out: {', '.join(left)}"] if (left := unused(found, positions)) else []
    usable = usable[np.isin(index.cover[usable], list(positions))]
    labels = np.array([positions[cover] for cover in index.cover[usable]])
    columns = {column: values[usable] for column, values in attributes.items()}
    groups = np.unique(columns["cell"], return_inverse=True)[1].astype(np.int64)
    samples = Samples(groups=groups, labels=labels, own=index.split[usable], attributes=columns, kin="of one cell with")
    parted = part_samples(asked, samples)
    taught = _well_taught(classes, labels[parted.kept], parted.splits)
    notes += [f"{classes[few]}: left out, fewer than {LEAST_TAUGHT} samples of train" for few in taught.rare]
    kept = parted.kept[taught.rows]
    images = StoreImages(stores, usable[kept], asked.image_px)
    splits, labels = parted.splits[taught.rows], taught.positions[labels[kept]]
    mean, std = moments(images.read, np.flatnonzero(splits == "train").tolist(), len(index.channels), asked.path)
    return LabelledChips(
        name=name,
        inputs=Inputs(units="dB", channels=index.channels, image_px=asked.image_px, mean=mean, std=std),
        images=images,
        classes=tuple(name for number, name in enumerate(classes) if number not in taught.rare),
        labels=labels,
        splits=splits,
        groups=parted.groups[taught.rows],
        attributes={column: values[kept] for column, values in columns.items()},
        notes=(f"{len(kept)} samples by the land cover that takes most of each", *parted.notes, *notes),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Joined:
    """split, cover: (S,) of all samples, split after split."""

    split: NDArray[np.str_]
    cover: NDArray[np.str_]
    channels: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Taught:
    """rows: of the samples whose class is taught enough. rare: positions of the others. positions: (K,) the new
    position of each class."""

    rows: NDArray[np.int64]
    rare: list[int]
    positions: NDArray[np.int64]


def _open(asked: DatasetConfig) -> list[Store]:
    if asked.path.startswith(PUBLISHED):
        raise ConfigError(f"{asked.path}: the published pictures carry no land cover. Name a store of ours.")
    location = str(Path(asked.path).expanduser()) if "://" not in asked.path else asked.path
    first = open_store(location, split="train", optical=False)
    others = [split for split in splits_of(first.objects) if split != "train"]
    stores = [first, *(open_store(location, split=split, optical=False) for split in others)]
    spec = first.index.sar
    if any(store.index.sar.sample_shape != spec.sample_shape for store in stores):
        raise StoreError(f"{asked.path}: splits of different shapes. Verify the store (sar1m verify).")
    if asked.image_px > min(spec.sample_shape[1:]):
        raise ConfigError(
            f"{asked.path}: samples of {spec.sample_shape[1]} x {spec.sample_shape[2]} px, image_px is "
            f"{asked.image_px}. Use at most {min(spec.sample_shape[1:]) // 16 * 16}."
        )
    return stores


def _joined(stores: Sequence[Store]) -> _Joined:
    covers = [np.array([_UNKNOWN, *store.index.land_cover_names[1:]])[store.index.land_cover] for store in stores]
    return _Joined(
        split=np.concatenate([np.full(len(store.index), store.index.split) for store in stores]),
        cover=np.concatenate(covers),
        channels=stores[0].index.sar.labels,
    )


def _well_taught(classes: Sequence[str], labels: NDArray[np.int64], splits: NDArray[np.str_]) -> _Taught:
    """Raises ConfigError where fewer than two classes have LEAST_TAUGHT samples of train."""
    counts = np.bincount(labels[splits == "train"], minlength=len(classes))
    enough = counts >= LEAST_TAUGHT
    if enough.sum() < 2 or not (splits == "test").any():
        told = ", ".join(f"{name} {count}" for name, count in zip(classes, counts.tolist(), strict=True))
        raise ConfigError(
            f"two classes with {LEAST_TAUGHT} samples of train, and samples of test, expected; train has {told}, test "
            f"has {int((splits == 'test').sum())} samples. Take a larger store, or another hold_out."
        )
    rare = np.flatnonzero(~enough).tolist()
    return _Taught(rows=np.flatnonzero(enough[labels]), rare=rare, positions=np.cumsum(enough) - 1)
