"""Frozen values that pass between the parts of an evaluation: labelled images, what an encoder sees in them, scores."""

# B batch, S samples, C channels, D width of the features, h w the encoder's grid, H W pixels, K classes

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

Units = Literal["dB", "picture"]
Split = Literal["train", "val", "test"]
IGNORED = -1  # of a mask: a pixel without label, or without data


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What the images of a task are, as an encoder must know it before it sees one.

    units: `dB` is calibrated backscatter, `picture` grey values of 8 or 16 bits without a physical unit. channels:
    polarisations in order, or ("grey",). image_px: side of the square images. mean, std: of every channel over the
    measured pixels of the train split; an encoder with a normalisation of its own for these units uses that one.
    """

    units: Units
    channels: tuple[str, ...]
    image_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Images(Protocol):
    """Images by number, read when they are asked for. Every call with the same numbers gives the same values."""

    def __len__(self) -> int:
        """How many."""

    def read(self, numbers: Sequence[int]) -> Tensor:
        """(B, C, H, W) float32 in the units of Inputs, NaN where there is no data."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledChips:
    """A classification task. name: for tables. labels: (S,) int64, positions in classes. splits: (S,) of Split.

    groups: (S,) int64, samples of one group are near-copies of each other and never in two splits. attributes: columns
    (S,) float64 or str that results may be broken down by (region, incidence_deg, residual_px ...). notes: sentences
    a table must carry (what was left out and why, how it was split).
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
    """Masks by number, as large as the images."""

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
    """Objects of one image. corners: (n, 4) float32, x0 y0 x1 y1 in pixels of the image as it is read, x to the right.
    labels: (n,) int64. crowd: (n,) bool, regions in which found objects are neither right nor wrong."""

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


class Seen(NamedTuple):
    """What an encoder sees in a batch. pooled: (B, D), one vector an image. grid: (B, D, h, w), one a patch."""

    pooled: Tensor
    grid: Tensor


class Backbone(nn.Module):
    """An encoder behind one door: images in their own units in, features out. Subclasses: sarmae.evaluate.backbones.

    name: for tables. width: D. stride_px: pixels of the input a patch of the grid spans along a side. learns: whether
    it has weights that fine-tuning can change.
    """

    name: str
    width: int
    stride_px: int
    learns: bool

    def forward(self, images: Tensor) -> Seen:
        """images: (B, C, H, W) as Images.read gives them, NaN: no data. Normalises by itself."""
        raise NotImplementedError

    def depth_groups(self) -> tuple[tuple[nn.Parameter, ...], ...]:
        """Its weights from the input to the output, for layer-wise decay of the learning rate; empty without any."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number that came out. protocol: `knn`, `linear`, `attentive`, `fine-tune`, `pyramid`, `fcos` ...

    setting: what was special, such as "10 a class", "30 % of the labels", "ENL 4"; empty for the plain case. low, high:
    95 % bootstrap interval over the tested samples (groups of near-copies are drawn whole), None where there is none.
    tested: samples behind it.
    """

    protocol: str
    setting: str
    metric: str
    value: float
    low: float | None
    high: float | None
    tested: int
