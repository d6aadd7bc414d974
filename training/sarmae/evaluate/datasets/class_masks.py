"""Class masks: the numbers or colours in a file, and what they mean, decided once for a whole set."""

# H W pixels

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sar1m.store.errors import SourceError
from sar1m.store.side_files import shown
from sarmae.evaluate.datasets.raster_file import read_raster
from sarmae.evaluate.labelled_images import IGNORED

NO_DATA: Final = int(np.iinfo(np.int64).min)  # of a mask as stored: the file says that there is no data
BY_CUSTOM: Final = (-1, 255)  # no label, unless `classes` names them
_COLOUR: Final = 1 << 24  # a colour is _COLOUR + 65536 red + 256 green + blue
_WHOLE: Final = 2.0**53  # up to here a float64 holds every whole number


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassMask:
    """labels: (H, W) as stored, NO_DATA where the file says so. coloured: whether labels are colours. palette:
    (256, 3) the colours of numbers, or None.
    """

    labels: NDArray[np.int64]
    coloured: bool
    palette: NDArray[np.uint8] | None

    @property
    def present(self) -> frozenset[int]:
        """The labels that occur."""
        return frozenset(np.unique(self.labels).tolist()) - {NO_DATA}


@dataclass(frozen=True, kw_only=True)
class LabelMeaning:
    """What the labels of a set mean. grey: whether all colours are grey, and stand for their numbers. ignored: labels
    that count as none.
    """

    grey: bool
    ignored: frozenset[int]

    def of(self, mask: ClassMask) -> NDArray[np.int64]:
        """(H, W) labels, IGNORED where there is none."""
        labels = mask.labels & 0xFF if mask.coloured and self.grey else mask.labels
        nothing = (mask.labels == NO_DATA) | np.isin(labels, [*self.ignored])
        return np.where(nothing, IGNORED, labels)

    def named(self, present: frozenset[int], *, coloured: bool) -> frozenset[int]:
        """Of the labels of a file, those that count."""
        return frozenset(label & 0xFF if coloured and self.grey else label for label in present) - self.ignored


def read_mask(path: Path) -> ClassMask:
    """The labels of a file of one band, or of three bands of 8 bits, which are colours.

    Raises SourceError where the file is damaged, has other bands, a scale, values that are not whole, or was a JPEG,
    which changes the numbers of classes.
    """
    raster = read_raster(path)
    if raster.lossy:
        raise SourceError(f"{shown(path)}: a mask in JPEG, which changes class numbers. Give it as PNG or TIFF.")
    if raster.scaled:
        raise SourceError(f"{shown(path)}: a mask with a scale or an offset; class numbers as they are expected.")
    values = raster.values
    missing = np.zeros(values.shape[1:], dtype=np.bool_) if raster.missing is None else raster.missing.any(axis=0)
    if len(values) == 3 and values.dtype == np.uint8:
        red, green, blue = values.astype(np.int64)
        labels = _COLOUR + (red << 16) + (green << 8) + blue
    elif len(values) == 1:
        labels = _whole_numbers(path, values[0])
    else:
        raise SourceError(f"{shown(path)}: {len(values)} bands of {values.dtype}; one band of class numbers expected.")
    return ClassMask(labels=np.where(missing, NO_DATA, labels), coloured=len(values) == 3, palette=raster.palette)


class Palettes:
    """The colour of each number in a set of masks: a number with two colours has two meanings."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[str, Path]] = {}

    def add(self, path: Path, mask: ClassMask) -> None:
        """Raises SourceError where the palette gives a number that occurs another colour than an earlier file."""
        for label in sorted(mask.present - {*BY_CUSTOM}) if mask.palette is not None else ():
            colour = "#" + bytes(mask.palette[label]).hex() if mask.palette is not None else ""
            its, first = self._known.setdefault(label, (colour, path))
            if its != colour:
                raise SourceError(
                    f"{shown(path)}: {label} is {colour} by its palette, in {shown(first)} it is {its}. What the "
                    "number means is not clear: write all masks with one palette, or without any."
                )


def decide_meaning(
    paths: Sequence[Path], masks: Sequence[tuple[bool, frozenset[int]]], classes: Mapping[str, str]
) -> LabelMeaning:
    """What the labels of all masks mean together. masks: of each, whether it is coloured, and its labels.

    A set with one colour that is not grey is a set of colours. Raises SourceError where another file of it has numbers.
    -1 and 255 count as no label, unless classes names them.
    """
    colourful = next(
        (path for path, (_, labels) in zip(paths, masks, strict=True) if any(map(_is_colour, labels))), None
    )
    numbers = next((path for path, (coloured, _) in zip(paths, masks, strict=True) if not coloured), None)
    if colourful is not None and numbers is not None:
        raise SourceError(
            f"{shown(numbers)}: a mask of numbers, but {shown(colourful)} holds colours. What they have in common is "
            "not known: write all masks of the set in one way."
        )
    ignored = frozenset(label for label in BY_CUSTOM if label_text(label) not in classes)
    return LabelMeaning(grey=colourful is None, ignored=ignored if colourful is None else frozenset())


def label_text(label: int) -> str:
    """A label as `classes` names it: its number, or #rrggbb."""
    return f"#{label - _COLOUR:06x}" if _COLOUR <= label < 2 * _COLOUR else str(label)


def _is_colour(label: int) -> bool:
    red, green, blue = (label >> 16) & 0xFF, (label >> 8) & 0xFF, label & 0xFF
    return _COLOUR <= label < 2 * _COLOUR and not red == green == blue


def _whole_numbers(path: Path, values: NDArray[Any]) -> NDArray[np.int64]:
    """(H, W) int64, NO_DATA for NaN."""
    if values.dtype.kind == "f":
        unknown = np.isnan(values)
        known = values[~unknown]
        odd = known[(known != np.floor(known)) | (np.abs(known) > _WHOLE)]
        if odd.size:
            raise SourceError(
                f"{shown(path)}: a mask with the value {odd[0]:g}; whole class numbers expected. Was it resampled? Use "
                "the nearest neighbour for masks."
            )
        return np.where(unknown, NO_DATA, np.where(unknown, 0, values).astype(np.int64))
    if values.dtype == np.uint64 and values.max(initial=0) > np.iinfo(np.int64).max:
        raise SourceError(f"{shown(path)}: a mask with the value {values.max()}; class numbers of 63 bits expected.")
    return values.astype(np.int64)
