"""Pictures in one folder a class: MSTAR, FUSAR-Ship, SAR-ACD and datasets with the same layout.

    root/A220/001.jpg                               classes at the top
    root/TRAIN/17_DEG/BMP2/SN_9563/HB03787.jpg      a split at the top is used; N_DEG folders are passed through
    root/Cargo/BulkCarrier/Ship_C01.tiff            the top folder is the class; `classes` may name deeper ones

Grey values are read as they are stored (see raster_file); no image is normalised by itself. Images are
cropped to image_px around their middle; smaller ones stand in the middle of a window without data. They are not
stretched, because in MSTAR the size of a chip reveals its class.
"""

# S samples

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from sar1m.store.errors import SourceError
from sarmae.evaluate.datasets.class_folders import Chip, find_chips, label_keys
from sarmae.evaluate.datasets.listing import root_of
from sarmae.evaluate.datasets.naming import named_classes, unused
from sarmae.evaluate.datasets.pictures import (
    PixelCache,
    centre_window,
    drawn,
    moments,
    read_grey,
    stacked,
)
from sarmae.evaluate.label_splits import AssignedSplits, SplitSamples, assign_splits, contradictions
from sarmae.evaluate.labelled_images import Inputs, LabelledChips
from sarmae.evaluate.near_copies import describe, find_groups
from sarmae.evaluate.study_config import DatasetConfig

_LEAST: Final = 2  # samples of a class: one to train on, one to test


class ChipFiles:
    """Picture files, as windows of image_px."""

    def __init__(self, paths: Sequence[Path], image_px: int) -> None:
        self._paths, self._image_px = tuple(paths), image_px
        self.whole = PixelCache(lambda number: read_grey(self._paths[number]))

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, numbers: Sequence[int]) -> torch.Tensor:
        """(B, 1, image_px, image_px) float32 grey values, NaN beyond the image."""
        side = self._image_px
        windows = (centre_window(self.whole(int(number)).pixels, side)[None] for number in numbers)
        return stacked(windows, (1, side, side))


def open_folders(config: DatasetConfig, name: str) -> LabelledChips:
    """Chips of class folders. attributes: folder (below the split), rows_px and cols_px of the file, depression_deg.

    Raises SourceError for a class folder without pictures or with a single one; for a picture that cannot be read or is
    coloured; and for pictures of different depths in one set. Raises ConfigError for classes that do not exist.
    """
    root = root_of(config)
    chips = find_chips(root, config.classes)
    keys = label_keys(chips, config.classes)
    classes, positions = named_classes(sorted(set(keys)), config.classes, root)
    notes = [f"left out: {', '.join(left)}"] if (left := unused(set(keys), positions)) else []
    used = [number for number, key in enumerate(keys) if key in positions]
    used = [used[place] for place in drawn(len(used), config)]
    chips, labels = [chips[number] for number in used], np.array([positions[keys[number]] for number in used])
    if config.most is not None:
        notes.append(f"{len(used)} images drawn (most = {config.most})")
    _check_counts(root, classes, labels)
    images = ChipFiles([chip.path for chip in chips], config.image_px)
    survey = _survey_chips(images, chips)
    attributes = _attributes(chips, survey.shapes)
    own = np.array([chip.split for chip in chips])
    assigned = assign_splits(config, SplitSamples(groups=survey.groups, labels=labels, own=own, attributes=attributes))
    if (mixed := contradictions(survey.groups, labels)) > 0:
        notes.append(f"{mixed} groups of near-copies carry more than one class: their labels contradict each other")
    check_classes(root, classes, labels[assigned.kept], assigned.splits)
    images = ChipFiles([chips[number].path for number in assigned.kept], config.image_px)
    return LabelledChips(
        name=name,
        inputs=_inputs(images, assigned, config, root),
        images=images,
        classes=classes,
        labels=labels[assigned.kept],
        splits=assigned.splits,
        groups=assigned.groups,
        attributes={column: values[assigned.kept] for column, values in attributes.items()},
        notes=(*notes, *assigned.notes, _size_note(survey.shapes[assigned.kept], config.image_px)),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _ChipSurvey:
    """shapes: (S, 2) rows and columns. groups: (S,) of near-copies."""

    shapes: NDArray[np.int64]
    groups: NDArray[np.int64]


def _survey_chips(images: ChipFiles, chips: Sequence[Chip]) -> _ChipSurvey:
    """Reads every picture once. Raises SourceError where they are not all of one depth."""
    descriptors, shapes = [], []
    first = images.whole(0).depth
    for number, chip in enumerate(chips):
        image = images.whole(number)
        if image.depth != first:
            raise SourceError(
                f"{chip.path}: holds {image.depth}, but {chips[0].path} holds {first}. Their grey values have no "
                "common scale: convert the set to one depth."
            )
        shapes.append(image.pixels.shape)
        descriptors.append(describe(image.pixels))
    return _ChipSurvey(shapes=np.array(shapes), groups=find_groups(np.stack(descriptors)))


def _attributes(chips: Sequence[Chip], shapes: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    return {
        "folder": np.array(["/".join(chip.folders) for chip in chips]),
        "rows_px": shapes[:, 0].astype(np.float64),
        "cols_px": shapes[:, 1].astype(np.float64),
        "depression_deg": np.array([chip.depression_deg for chip in chips]),
    }


def _inputs(images: ChipFiles, assigned: AssignedSplits, config: DatasetConfig, root: Path) -> Inputs:
    train = np.flatnonzero(assigned.splits == "train").tolist()
    mean, std = moments(images.read, train, 1, root)
    return Inputs(units="picture", channels=("grey",), image_px=config.image_px, mean=mean, std=std)


def _check_counts(root: Path, classes: Sequence[str], labels: NDArray[np.int64]) -> None:
    for position, name in enumerate(classes):
        if (found := int((labels == position).sum())) < _LEAST:
            raise SourceError(
                f"{root}: class {name!r} has {found} image{'s' * (found != 1)}; at least {_LEAST} expected, one to "
                "train on and one to test. Add images, raise `most`, or leave the class out by `classes`."
            )


def check_classes(where: object, classes: Sequence[str], labels: NDArray[np.int64], splits: NDArray[np.str_]) -> None:
    """Raises SourceError where a class has no training sample, or the test split has fewer than two classes."""
    for split, wanted in (("train", len(classes)), ("test", 2)):
        there = set(labels[splits == split].tolist())
        if not there:
            raise SourceError(
                f"{where}: no sample in {split}. Is there a folder of {split}, where the set has its own split? Else "
                "too few images are no near-copies of each other: add images, or change test_share."
            )
        if len(there) < wanted:
            absent = next(name for position, name in enumerate(classes) if position not in there)
            raise SourceError(
                f"{where}: {split} has no sample of class {absent!r} once near-copies are kept in one split. Give the "
                "class more images that are no copies, another split_seed, trust_split, or leave it out by `classes`."
            )


def _size_note(shapes: NDArray[np.int64], side_px: int) -> str:
    cropped, padded = (shapes > side_px).any(axis=1), (shapes < side_px).any(axis=1)
    return (
        f"grey values as stored; centre windows of {side_px} px, never stretched: of {len(shapes)} images "
        f"{int(cropped.sum())} cropped, {int(padded.sum())} padded with no data"
    )
