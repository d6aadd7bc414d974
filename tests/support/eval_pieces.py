"""A tiny encoder and made-up labelled images for the tests of evaluations."""

# S samples, C channels, D width, H W pixels, K classes

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sarmae.evaluate.backbones.backbone import Backbone, Features
from sarmae.evaluate.labelled_images import BoxedScenes, Boxes, Inputs, LabelledChips, LabelledScenes
from sarmae.evaluate.study_config import DatasetConfig, FitConfig, TaskConfig

SIDE_PX = 32
DATASETS = {"classification": "folders", "segmentation": "masks", "detection": "coco"}


class TinyBackbone(Backbone):
    """A patch embedding and one residual layer, weights by seed."""

    def __init__(
        self, *, channels: int = 1, width: int = 24, stride_px: int = 8, seed: int = 0, learns: bool = True
    ) -> None:
        super().__init__()
        self.name, self.width, self.stride_px, self.learns = "tiny", width, stride_px, learns
        draws = torch.Generator().manual_seed(seed)
        self.embed = nn.utils.skip_init(nn.Conv2d, channels, width, stride_px, stride=stride_px)
        self.mix = nn.utils.skip_init(nn.Linear, width, width)
        with torch.no_grad():
            fan_in = channels * stride_px**2
            self.embed.weight.normal_(0, fan_in**-0.5, generator=draws)
            self.embed.bias.normal_(0, 0.1, generator=draws)
            self.mix.weight.normal_(0, width**-0.5, generator=draws)
            self.mix.bias.zero_()
        self.requires_grad_(learns)

    def forward(self, images: Tensor) -> Features:
        normalised = (images + 10.0).nan_to_num(nan=0.0, posinf=torch.inf) / 6.0
        tokens = torch.nn.functional.gelu(self.embed(normalised)).permute(0, 2, 3, 1)
        tokens = tokens + torch.nn.functional.gelu(self.mix(tokens))
        return Features(tokens.mean(dim=(1, 2)), tokens.permute(0, 3, 1, 2))

    def depth_groups(self) -> tuple[tuple[nn.Parameter, ...], ...]:
        return (tuple(self.embed.parameters()), tuple(self.mix.parameters())) if self.learns else ()


@dataclass
class HeldImages:
    """Images in memory; counts what was read."""

    values: Tensor
    reads: int = 0

    def __len__(self) -> int:
        return len(self.values)

    def read(self, numbers: Sequence[int]) -> Tensor:
        self.reads += len(numbers)
        return self.values[torch.as_tensor(list(numbers), dtype=torch.int64)].clone()


@dataclass
class HeldMasks:
    """Masks in memory."""

    values: Tensor

    def read(self, numbers: Sequence[int]) -> Tensor:
        return self.values[torch.as_tensor(list(numbers), dtype=torch.int64)].clone()


def inputs(channels: tuple[str, ...] = ("VV",), side_px: int = SIDE_PX) -> Inputs:
    count = len(channels)
    return Inputs(units="dB", channels=channels, image_px=side_px, mean=(-10.0,) * count, std=(6.0,) * count)


def splits_of(count: int, seed: int = 0) -> NDArray[np.str_]:
    """Half train, a fifth val, the rest test, shuffled."""
    order = np.random.default_rng(seed).permutation(count)
    splits = np.empty(count, dtype="<U5")
    splits[order[: count // 2]] = "train"
    splits[order[count // 2 : count * 7 // 10]] = "val"
    splits[order[count * 7 // 10 :]] = "test"
    return splits


def textures(labels: NDArray[np.int64], *, signal_db: float, seed: int = 0) -> Tensor:
    """(S, 1, H, W) dB: white noise of 3 dB, and stripes whose direction and period are the class's."""
    draws = np.random.default_rng(seed)
    rows, cols = np.mgrid[:SIDE_PX, :SIDE_PX]
    pictures = []
    for label in labels:
        along = rows if label % 2 else cols
        stripes = np.sign(np.sin(2 * np.pi * along / (4 + 4 * (label // 2)) + 0.3)) * signal_db
        pictures.append(-10.0 + stripes + draws.normal(0, 3.0, (SIDE_PX, SIDE_PX)))
    return torch.from_numpy(np.stack(pictures).astype(np.float32))[:, None]


def made_chips(
    *, count: int = 120, classes: int = 3, signal_db: float = 4.0, seed: int = 0, copies: int = 1, **changes: Any
) -> LabelledChips:
    """Chips of striped textures; without signal_db, labels mean nothing. copies: samples in a group of near-copies."""
    groups = np.arange(count, dtype=np.int64) // copies
    labels = groups % classes
    splits = splits_of(int(groups[-1]) + 1, seed)[groups]
    attributes: Mapping[str, NDArray[Any]] = {
        "incidence_deg": np.random.default_rng(seed + 1).uniform(30, 45, count),
        "region": np.where(np.arange(count) % 4 < 2, "north", "south"),
    }
    fields: dict[str, Any] = {
        "name": "stripes",
        "inputs": inputs(),
        "images": HeldImages(textures(labels, signal_db=signal_db, seed=seed)),
        "classes": tuple(f"class-{number}" for number in range(classes)),
        "labels": labels,
        "splits": splits,
        "groups": groups,
        "attributes": attributes,
    }
    return LabelledChips(**(fields | changes))


def made_scenes(*, count: int = 40, side_px: int = 64, seed: int = 0, contrast_db: float = 8.0) -> LabelledScenes:
    """Scenes of two classes: a bright half plane over a dark one, a border without label."""
    draws = np.random.default_rng(seed)
    rows, cols = np.mgrid[:side_px, :side_px] - side_px / 2
    angles = draws.uniform(0, 2 * np.pi, (count, 1, 1))
    bright = (np.cos(angles) * rows + np.sin(angles) * cols > draws.uniform(-8, 8, (count, 1, 1))).astype(np.int64)
    pictures = -14.0 + contrast_db * bright + draws.normal(0, 2.0, bright.shape)
    masks = bright.copy()
    masks[:, :2] = -1
    return LabelledScenes(
        name="half planes",
        inputs=inputs(side_px=side_px),
        images=HeldImages(torch.from_numpy(pictures.astype(np.float32))[:, None]),
        masks=HeldMasks(torch.from_numpy(masks)),
        classes=("dark", "bright"),
        splits=splits_of(count, seed),
        groups=np.arange(count, dtype=np.int64),
    )


def made_boxes(*, count: int = 40, side_px: int = 64, seed: int = 0) -> BoxedScenes:
    """Scenes with one to three bright rectangles of two kinds, wide ones and high ones, on dark ground."""
    draws = np.random.default_rng(seed)
    pictures = draws.normal(-18.0, 2.0, (count, 1, side_px, side_px)).astype(np.float32)
    boxes = []
    for picture in pictures:
        corners, labels = [], []
        for _ in range(int(draws.integers(1, 4))):
            label = int(draws.integers(2))
            wide, high = (20, 10) if label == 0 else (10, 20)
            x0, y0 = int(draws.integers(0, side_px - wide)), int(draws.integers(0, side_px - high))
            picture[0, y0 : y0 + high, x0 : x0 + wide] += 14.0
            corners.append((x0, y0, x0 + wide, y0 + high))
            labels.append(label)
        boxes.append(
            Boxes(
                corners=np.array(corners, dtype=np.float32),
                labels=np.array(labels, dtype=np.int64),
                crowd=np.zeros(len(labels), dtype=np.bool_),
            )
        )
    return BoxedScenes(
        name="rectangles",
        inputs=inputs(side_px=side_px),
        images=HeldImages(torch.from_numpy(pictures)),
        boxes=tuple(boxes),
        classes=("wide", "high"),
        splits=splits_of(count, seed),
        groups=np.arange(count, dtype=np.int64),
    )


def task_config(kind: str = "classification", **changes: Any) -> TaskConfig:
    """A task as a study asks it, with a training short enough for tests. fit: keys of FitConfig to change."""
    fit = FitConfig(**({"epochs": 8, "batch": 16, "lr": 3e-3} | changes.pop("fit", {})))
    fields: dict[str, Any] = {
        "name": "made-up",
        "kind": kind,
        "dataset": DatasetConfig(kind=DATASETS[kind], path="nowhere", image_px=SIDE_PX),
        "bootstrap": 200,
        "fit": fit,
    }
    return TaskConfig(**(fields | changes))
