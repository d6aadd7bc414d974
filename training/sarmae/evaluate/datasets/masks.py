"""Images with class masks, cut into tiles: Sen1Floods11, S1RTC with LULC, AIR-PolSAR-Seg, images with masks.

Scenes are cut into tiles of image_px from their upper left corner; a tile that extends beyond the scene has no data
there. Tiles of one scene, and of scenes that are near-copies, are one group. Tiles without any labelled pixel are left
out. A pixel without data in any channel has no label.
"""

# B batch, C channels, T tiles, H W pixels

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from sar1m.store.errors import ConfigError, SourceError
from sarmae.evaluate.datasets.class_masks import LabelMeaning, Palettes, decide_meaning, label_text, read_mask
from sarmae.evaluate.datasets.listing import root_of
from sarmae.evaluate.datasets.mask_pairs import ImageMaskPair, ImageMaskPairs, find_pairs
from sarmae.evaluate.datasets.naming import LEFT_OUT, named_classes
from sarmae.evaluate.datasets.pictures import PixelCache, drawn, moments, stacked
from sarmae.evaluate.datasets.rasters import RasterImage, read_scene
from sarmae.evaluate.label_splits import SplitSamples, assign_splits
from sarmae.evaluate.labelled_images import IGNORED, Inputs, LabelledScenes, Units
from sarmae.evaluate.near_copies import describe, find_groups
from sarmae.evaluate.study_config import DatasetConfig, Scale

# By the folder of the masks: what its numbers mean. LULC: TerraMesh's order of the 10 m map of ESRI and Impact
# Observatory, without gaps (Blumenstiel et al., arXiv 2504.11172). Sen1Floods11: Bonafilia et al., CVPRW 2020.
_LULC: Final = ("water", "trees", "flooded vegetation", "crops", "built area", "bare ground", "snow and ice", "clouds")
_MEANINGS: Final[Mapping[str, Mapping[str, str]]] = {
    "lulc": {"0": LEFT_OUT, **{str(number): name for number, name in enumerate((*_LULC, "rangeland"), start=1)}},
    "labelhand": {"0": "land", "1": "water"},
}
_REGION: Final = re.compile(r"([A-Za-z]+)[_-]")


class MaskedScenes:
    """Scenes by number, with the class of each pixel; small sets are read once."""

    def __init__(
        self,
        pairs: Sequence[ImageMaskPair],
        meaning: LabelMeaning,
        positions: Mapping[int, int],
        scale: Scale | None = None,
    ) -> None:
        self.pairs, self._meaning, self._positions = tuple(pairs), meaning, dict(positions)
        self.pixels = PixelCache(lambda number: read_scene(self.pairs[number].images, scale).pixels)
        self.classes = PixelCache(self._classes)

    def _classes(self, number: int) -> NDArray[np.int64]:
        """(H, W) positions, IGNORED where there is no label or no data."""
        labels = self._meaning.of(read_mask(self.pairs[number].mask))
        classes = np.full(labels.shape, IGNORED, dtype=np.int64)
        for label, position in self._positions.items():
            classes[labels == label] = position
        classes[np.isnan(self.pixels(number)).any(axis=0)] = IGNORED
        return classes


@dataclass(frozen=True, kw_only=True, eq=False)
class Tiles:
    """(T,) int64 each: number of the scene, and its upper left pixel. side_px: of every tile."""

    scene: NDArray[np.int64]
    row: NDArray[np.int64]
    col: NDArray[np.int64]
    side_px: int

    def __len__(self) -> int:
        return len(self.scene)

    def window(self, number: int) -> tuple[slice, slice]:
        """Rows and columns of a tile in its scene; they may extend beyond it."""
        row, col = int(self.row[number]), int(self.col[number])
        return slice(row, row + self.side_px), slice(col, col + self.side_px)


class TileImages:
    """The images of the tiles."""

    def __init__(self, scenes: MaskedScenes, tiles: Tiles, channels: int) -> None:
        self._scenes, self._tiles, self._shape = scenes, tiles, (channels, tiles.side_px, tiles.side_px)

    def __len__(self) -> int:
        return len(self._tiles)

    def read(self, numbers: Sequence[int]) -> torch.Tensor:
        """(B, C, side_px, side_px) float32, NaN where there is no data."""
        return stacked((self._one(int(number)) for number in numbers), self._shape)

    def _one(self, number: int) -> NDArray[np.float32]:
        rows, cols = self._tiles.window(number)
        cut = self._scenes.pixels(int(self._tiles.scene[number]))[:, rows, cols]
        tile = np.full(self._shape, np.nan, dtype=np.float32)
        tile[:, : cut.shape[1], : cut.shape[2]] = cut
        return tile


class TileMasks:
    """The masks of the tiles."""

    def __init__(self, scenes: MaskedScenes, tiles: Tiles) -> None:
        self._scenes, self._tiles = scenes, tiles

    def read(self, numbers: Sequence[int]) -> torch.Tensor:
        """(B, side_px, side_px) int64 positions in the classes, IGNORED where there is no label."""
        side = self._tiles.side_px
        masks = torch.full((len(numbers), side, side), IGNORED, dtype=torch.int64)
        for mask, number in zip(masks, numbers, strict=True):
            rows, cols = self._tiles.window(int(number))
            cut = self._scenes.classes(int(self._tiles.scene[int(number)]))[rows, cols]
            mask[: cut.shape[0], : cut.shape[1]] = torch.from_numpy(cut)
        return masks


def open_masks(config: DatasetConfig, name: str) -> LabelledScenes:
    """Tiles with masks. hold_out may name scene (the stem) or region (the letters with which a stem begins).

    Scenes without any data are left out and noted. Raises SourceError for a mask that has another size than its image
    or no label at all, for fractional or unknown class numbers, and for scenes with different channels. Raises
    ConfigError for classes.
    """
    root = root_of(config)
    found = find_pairs(root)
    pairs = [found.pairs[number] for number in drawn(len(found.pairs), config)]
    survey = survey_scenes(pairs, config)
    pairs = [pairs[number] for number in survey.usable]
    classes, positions = _positions(survey, found, config.classes, root)
    assigned = assign_splits(config, _samples(pairs, survey))
    scenes = MaskedScenes([pairs[number] for number in assigned.kept], survey.meaning, positions, config.units)
    tiles, blank = cut_tiles(scenes, config.image_px)
    splits, images = assigned.splits[tiles.scene], TileImages(scenes, tiles, len(survey.channels))
    _check_splits(root, splits)
    mean, std = moments(images.read, np.flatnonzero(splits == "train").tolist(), len(survey.channels), root)
    side = config.image_px
    return LabelledScenes(
        name=name,
        inputs=Inputs(units=survey.units, channels=survey.channels, image_px=side, mean=mean, std=std),
        images=images,
        masks=TileMasks(scenes, tiles),
        classes=classes,
        splits=splits,
        groups=assigned.groups[tiles.scene],
        notes=(
            *found.notes,
            *survey.notes,
            *assigned.notes,
            f"{len(tiles)} tiles of {side} px out of {len(scenes.pairs)} scenes, {blank} without a label left out",
        ),
    )


def cut_tiles(scenes: MaskedScenes, side_px: int) -> tuple[Tiles, int]:
    """All tiles with a labelled pixel, scene by scene and row by row; and the number of tiles without any."""
    found, blank = [], 0
    for scene in range(len(scenes.pairs)):
        classes = scenes.classes(scene)
        for row in range(0, classes.shape[0], side_px):
            for col in range(0, classes.shape[1], side_px):
                if (classes[row : row + side_px, col : col + side_px] == IGNORED).all():
                    blank += 1
                else:
                    found.append((scene, row, col))
    columns = np.array(found, dtype=np.int64).reshape(-1, 3)
    return Tiles(scene=columns[:, 0], row=columns[:, 1], col=columns[:, 2], side_px=side_px), blank


@dataclass(frozen=True, kw_only=True, eq=False)
class SceneSurvey:
    """What one reading of all scenes found.

    usable: numbers of the scenes with data.
    masks, labels: of each usable scene, the file of its mask and the labels in it that count.
    meaning: of the labels of all masks.
    groups: of near-copies among the usable scenes.
    """

    usable: tuple[int, ...]
    masks: tuple[Path, ...]
    groups: NDArray[np.int64]
    labels: tuple[frozenset[int], ...]
    meaning: LabelMeaning
    units: Units
    channels: tuple[str, ...]
    notes: tuple[str, ...]


def survey_scenes(pairs: Sequence[ImageMaskPair], config: DatasetConfig) -> SceneSurvey:
    """Reads every scene and mask once. Raises the errors of open_masks."""
    usable, descriptors, found = [], [], []
    first: RasterImage | None = None
    palettes = Palettes()
    for number, pair in enumerate(pairs):
        scene, mask = read_scene(pair.images, config.units), read_mask(pair.mask)
        first = first or scene
        _check_scene(pair, scene, first, mask.labels.shape)
        palettes.add(pair.mask, mask)
        if np.isnan(scene.pixels).any(axis=0).all():
            continue
        usable.append(number)
        descriptors.append(describe(scene.pixels[0]))
        found.append((mask.coloured, mask.present))
    if first is None or not usable:
        raise SourceError(f"{pairs[0].mask.parent}: none of {len(pairs)} images holds data. Check the files.")
    masks = tuple(pairs[number].mask for number in usable)
    meaning = decide_meaning(masks, found, config.classes)
    labels = tuple(meaning.named(present, coloured=coloured) for coloured, present in found)
    for path, counted in zip(masks, labels, strict=True):
        if not counted:
            raise SourceError(f"{path}: an empty mask, no pixel has a label. Correct it, or remove the pair.")
    lost = [pair.stem for number, pair in enumerate(pairs) if number not in usable]
    dropped = sorted(meaning.ignored & frozenset().union(*(present for _, present in found)))
    return SceneSurvey(
        usable=tuple(usable),
        masks=masks,
        groups=find_groups(np.stack(descriptors)),
        labels=labels,
        meaning=meaning,
        units=first.units,
        channels=first.channels,
        notes=(
            *([f"{len(lost)} images without data left out ({lost[0]})"] if lost else []),
            *(f"{label} counts as no label; name it in `classes` where it is a class" for label in dropped),
        ),
    )


def _check_scene(pair: ImageMaskPair, scene: RasterImage, first: RasterImage, shape: tuple[int, ...]) -> None:
    path = next(iter(pair.images.values()))
    if shape != scene.pixels.shape[1:]:
        raise SourceError(
            f"{pair.mask}: {shape[0]} x {shape[1]} px, but {path} has {scene.pixels.shape[1]} x "
            f"{scene.pixels.shape[2]}. A mask must lie on the grid of its image."
        )
    if (scene.units, scene.channels) != (first.units, first.channels):
        raise SourceError(
            f"{path}: {scene.units} of {', '.join(scene.channels)}, but the first image holds {first.units} of "
            f"{', '.join(first.channels)}. All images of a set must have the same channels."
        )


def _positions(
    survey: SceneSurvey, found: ImageMaskPairs, config: Mapping[str, str], root: Path
) -> tuple[tuple[str, ...], dict[int, int]]:
    """Class names that occur, and the position of each label number. Raises SourceError for a number without name."""
    meaning = config or next((_MEANINGS[word] for word in found.masks if word in _MEANINGS), {})
    there = {label_text(label): label for label in sorted(frozenset().union(*survey.labels))}
    if any(name != LEFT_OUT for name in meaning.values()):
        _check_named(survey, meaning)
    words = {label: name for label, name in meaning.items() if label in there}
    try:
        names, positions = named_classes(list(there), words, f"{root}: masks")
    except ConfigError as error:
        dropped = [note for note in survey.notes if "no label" in note]
        raise ConfigError(" ".join([str(error), *(f"{note}." for note in dropped)])) from error
    return names, {there[label]: position for label, position in positions.items()}


def _check_named(survey: SceneSurvey, meaning: Mapping[str, str]) -> None:
    for mask, labels in zip(survey.masks, survey.labels, strict=True):
        for label in sorted(labels):
            if label_text(label) not in meaning:
                raise SourceError(
                    f"{mask}: label {label_text(label)} has no name; there are "
                    f'{", ".join(meaning)}. Name it in `classes`, or leave it out by naming it "".'
                )


def _samples(pairs: Sequence[ImageMaskPair], survey: SceneSurvey) -> SplitSamples:
    """Scenes as the samples of a split. Classes have no influence, because most scenes hold several."""
    regions = [_REGION.match(pair.stem) for pair in pairs]
    attributes = {
        "scene": np.array([pair.stem for pair in pairs]),
        "region": np.array([match[1] if match else pair.stem for match, pair in zip(regions, pairs, strict=True)]),
    }
    own, labels = np.array([pair.split for pair in pairs]), np.zeros(len(pairs), dtype=np.int64)
    return SplitSamples(groups=survey.groups, labels=labels, own=own, attributes=attributes)


def _check_splits(root: Path, splits: NDArray[np.str_]) -> None:
    for split in ("train", "test"):
        if split not in splits:
            raise SourceError(
                f"{root}: {len(splits)} tiles, none in {split}. Is there a folder or list of {split}, where the set "
                "has its own split? Else too few scenes are no near-copies of each other: add scenes, or change "
                "test_share and val_share."
            )
