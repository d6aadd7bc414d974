"""The labelled images of a task: what a dataset gives and every protocol takes."""

# B batch, S samples, C channels, H W pixels

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Units = Literal["dB", "picture"]
Split = Literal["train", "val", "test"]
IGNORED = -1  # of a mask: a pixel without label, or without data


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The images of a task, as an encoder must know them in advance.

    units: `dB` is calibrated backscatter; `picture` is grey values of 8 or 16 bits without a physical unit.
    channels: polarisations in order, or ("grey",).
    image_px: side of the square images.
    mean, std: of every channel, over the measured pixels of the train split. An encoder with its own normalisation for
    these units uses that one.
    """

    units: Units
    channels: tuple[str, ...]
    image_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Images(Protocol):
    """Images by number, read on demand. The same numbers always give the same values."""

    def __len__(self) -> int:
        """Number of images."""

    def read(self, numbers: Sequence[int]) -> Tensor:
        """(B, C, H, W) float32 in the units of Inputs, NaN where there is no data."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledChips:
    """A classification task.

    name: for tables.
    labels: (S,) int64, positions in classes.
    splits: (S,) of Split.
    groups: (S,) int64. Samples of one group are near-copies of each other and never in two splits.
    attributes: columns (S,) of float64 or str, by which results may be broken down (region, incidence_deg, residual_px
    ...).
    notes: sentences for the report (what was left out and why, how the splits were made).
    """

    name: str
    inputs: Inputs
    images: Images
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    splits: NDArray[np.str_]
    groups: NDArray[np.int64]
    attributes: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Masks(Protocol):
    """Masks by number, of the size of the images."""

    def read(self, numbers: Sequence[int]) -> Tensor:
        """(B, H, W) int64, positions in the classes, IGNORED where there is no label."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledScenes:
    """A segmentation task; fields as in LabelledChips."""

    name: str
    inputs: Inputs
    images: Images
    masks: Masks
    classes: tuple[str, ...]
    splits: NDArray[np.str_]
    groups: NDArray[np.int64]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Boxes:
    """The objects of one image.

    corners: (n, 4) float32, x0 y0 x1 y1 in pixels of the image as it is read, x to the right.
    labels: (n,) int64.
    crowd: (n,) bool: regions in which detections are neither right nor wrong.
    """

    corners: NDArray[np.float32]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class BoxedScenes:
    """A detection task: boxes (S,) by image; fields as in LabelledChips."""

    name: str
    inputs: Inputs
    images: Images
    boxes: tuple[Boxes, ...]
    classes: tuple[str, ...]
    splits: NDArray[np.str_]
    groups: NDArray[np.int64]
    notes: tuple[str, ...] = ()
