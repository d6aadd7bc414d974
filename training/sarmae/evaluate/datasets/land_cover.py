"""A finished store or release of ours as a classification task: the class is the main land cover of each sample.

Splits are those of the store, drawn by geographic block. Groups are cells of 10 km. A block's edge may cut a cell:
training samples of a tested cell are left out. Images are centre windows of image_px in dB.
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
from sarmae.evaluate.label_splits import SplitSamples, assign_splits
from sarmae.evaluate.labelled_images import Inputs, LabelledChips
from sarmae.evaluate.study_config import DatasetConfig
from sarmae.stream.layout import splits_of
from sarmae.stream.opening import PUBLISHED, Store, open_store
from sarmae.stream.read_ahead import read_samples
from sarmae.stream.transforms import Dequantise

LEAST_TRAINED: Final = 8  # samples of a class in train; classes with fewer are left out
_UNKNOWN: Final = "unknown"  # the store's class 0


class StoreImages:
    """Samples of several splits of a store, numbered across the splits, as centre windows."""

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


def open_labelled_store(config: DatasetConfig, name: str) -> LabelledChips:
    """Samples with a known land cover. attributes, which hold_out may name: those of samples_table.read_attributes.

    Raises ConfigError where the store has no land cover, its samples are smaller than image_px, or classes or hold_out
    name what does not exist. Raises StoreError for a broken store.
    """
    stores = _open(config)
    index = _store_samples(stores)
    attributes = read_attributes(stores)
    usable = np.flatnonzero(index.cover != _UNKNOWN)
    if not usable.size:
        raise ConfigError(
            f"{config.path}: knows no land cover. Build it with area.land_cover=true, or use another dataset to test."
        )
    usable = usable[drawn(len(usable), config)]
    found = sorted(set(index.cover[usable].tolist()))
    classes, positions = named_classes(found, config.classes, config.path)
    notes = [f"left out: {', '.join(left)}"] if (left := unused(found, positions)) else []
    usable = usable[np.isin(index.cover[usable], list(positions))]
    labels = np.array([positions[cover] for cover in index.cover[usable]])
    columns = {column: values[usable] for column, values in attributes.items()}
    groups = np.unique(columns["cell"], return_inverse=True)[1].astype(np.int64)
    samples = SplitSamples(
        groups=groups, labels=labels, own=index.split[usable], attributes=columns, kin="of one cell with"
    )
    assigned = assign_splits(config, samples)
    frequent = _frequent_classes(classes, labels[assigned.kept], assigned.splits)
    notes += [f"{classes[few]}: left out, fewer than {LEAST_TRAINED} samples of train" for few in frequent.rare]
    kept = assigned.kept[frequent.rows]
    images = StoreImages(stores, usable[kept], config.image_px)
    splits, labels = assigned.splits[frequent.rows], frequent.positions[labels[kept]]
    mean, std = moments(images.read, np.flatnonzero(splits == "train").tolist(), len(index.channels), config.path)
    return LabelledChips(
        name=name,
        inputs=Inputs(units="dB", channels=index.channels, image_px=config.image_px, mean=mean, std=std),
        images=images,
        classes=tuple(name for number, name in enumerate(classes) if number not in frequent.rare),
        labels=labels,
        splits=splits,
        groups=assigned.groups[frequent.rows],
        attributes={column: values[kept] for column, values in columns.items()},
        notes=(f"{len(kept)} samples by the land cover that takes most of each", *assigned.notes, *notes),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _StoreSamples:
    """split, cover: (S,) of all samples, split after split."""

    split: NDArray[np.str_]
    cover: NDArray[np.str_]
    channels: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class _FrequentClasses:
    """The classes with enough training samples.

    rows: of the samples of these classes.
    rare: positions of the other classes.
    positions: (K,) the new position of each class.
    """

    rows: NDArray[np.int64]
    rare: list[int]
    positions: NDArray[np.int64]


def _open(config: DatasetConfig) -> list[Store]:
    if config.path.startswith(PUBLISHED):
        raise ConfigError(f"{config.path}: the published pictures carry no land cover. Name a store of ours.")
    location = str(Path(config.path).expanduser()) if "://" not in config.path else config.path
    first = open_store(location, split="train", optical=False)
    others = [split for split in splits_of(first.place) if split != "train"]
    stores = [first, *(open_store(location, split=split, optical=False) for split in others)]
    spec = first.index.sar
    if any(store.index.sar.sample_shape != spec.sample_shape for store in stores):
        raise StoreError(f"{config.path}: splits of different shapes. Verify the store (sar1m verify).")
    if config.image_px > min(spec.sample_shape[1:]):
        raise ConfigError(
            f"{config.path}: samples of {spec.sample_shape[1]} x {spec.sample_shape[2]} px, image_px is "
            f"{config.image_px}. Use at most {min(spec.sample_shape[1:]) // 16 * 16}."
        )
    return stores


def _store_samples(stores: Sequence[Store]) -> _StoreSamples:
    covers = [np.array([_UNKNOWN, *store.index.land_cover_names[1:]])[store.index.land_cover] for store in stores]
    return _StoreSamples(
        split=np.concatenate([np.full(len(store.index), store.index.split) for store in stores]),
        cover=np.concatenate(covers),
        channels=stores[0].index.sar.labels,
    )


def _frequent_classes(classes: Sequence[str], labels: NDArray[np.int64], splits: NDArray[np.str_]) -> _FrequentClasses:
    """Raises ConfigError where fewer than two classes have LEAST_TRAINED training samples."""
    counts = np.bincount(labels[splits == "train"], minlength=len(classes))
    enough = counts >= LEAST_TRAINED
    if enough.sum() < 2 or not (splits == "test").any():
        counted = ", ".join(f"{name} {count}" for name, count in zip(classes, counts.tolist(), strict=True))
        raise ConfigError(
            f"two classes with {LEAST_TRAINED} samples of train, and samples of test, expected; train has {counted}, "
            f"test has {int((splits == 'test').sum())} samples. Take a larger store, or another hold_out."
        )
    rare = np.flatnonzero(~enough).tolist()
    return _FrequentClasses(rows=np.flatnonzero(enough[labels]), rare=rare, positions=np.cumsum(enough) - 1)
