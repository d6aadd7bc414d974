"""Trains a segmentation head: on the kept grids of a frozen encoder, or together with the encoder."""

# B batch, C channels, H W pixels, D width of the features, h w the encoder's grid, K classes

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sar1m.store.errors import ConfigError
from sarmae.evaluate.backbones.backbone import Backbone
from sarmae.evaluate.fitting import fit, flip, flips_of, layerwise_groups, seeded
from sarmae.evaluate.labelled_images import IGNORED, LabelledScenes
from sarmae.evaluate.segment.confusion import I64, confusion_of
from sarmae.evaluate.segment.heads import LinearHead, PyramidHead, Standardise
from sarmae.evaluate.study_config import FitConfig

Head = Literal["pyramid", "frozen pyramid", "linear"]
Key = tuple[int, bool, bool]  # number of a scene, upside down, left and right swapped

MOST_KEPT_BYTES: Final = 1 << 30


@dataclass(frozen=True, kw_only=True, eq=False)
class SceneReader:
    """Reads the scenes and masks of a task, on a device."""

    task: LabelledScenes
    device: torch.device

    def read(self, numbers: I64) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) and masks (B, H, W). Pixels without data in any channel are IGNORED.

        Raises ConfigError where masks do not fit the images or the classes.
        """
        images, truth = self.task.images.read(numbers.tolist()), self.task.masks.read(numbers.tolist())
        lowest, highest, classes = int(truth.min()), int(truth.max()), len(self.task.classes)
        if images.shape[-2:] != truth.shape[-2:] or highest >= classes or lowest < IGNORED:
            raise ConfigError(
                f"{self.task.name}: scenes {numbers[:4].tolist()}: images of {tuple(images.shape[-2:])} px, masks of "
                f"{tuple(truth.shape[-2:])} px with labels {lowest} to {highest}; expected masks as large as the "
                f"images with labels {IGNORED} (ignored) to {classes - 1}. Check dataset.classes and the masks."
            )
        truth = truth.masked_fill(images.isnan().any(dim=1), IGNORED)
        return images.to(self.device), truth.to(self.device)

    def unlabelled(self, split: str) -> ConfigError:
        """The error for a split without a labelled pixel."""
        return ConfigError(
            f"{self.task.name}: no pixel of the {split} scenes that were drawn has both a label and data; one or more "
            "expected. Check the masks and dataset.classes, or raise the share of the labels."
        )


@dataclass(kw_only=True, eq=False)
class KeptGrids:
    """The grids of a frozen encoder, computed once for every scene and flip, and kept up to MOST_KEPT_BYTES."""

    encoder: Backbone
    _kept: dict[Key, Tensor] = field(default_factory=dict)
    _bytes: int = 0

    @torch.no_grad()
    def __call__(self, images: Tensor, keys: list[Key]) -> Tensor:
        """Grids (B, D, h, w) float32 of images (B, C, H, W) that are flipped already. keys: scene and flips of each."""
        new = [row for row, key in enumerate(keys) if key not in self._kept]
        made = dict(zip(new, self.encoder(images[new]).grid.float(), strict=True)) if new else {}
        grids = torch.stack([made[row] if row in made else self._kept[key] for row, key in enumerate(keys)])
        for row, grid in made.items():
            size = grid.nelement() * grid.element_size()
            if self._bytes + size <= MOST_KEPT_BYTES:
                self._kept[keys[row]] = grid.clone()
                self._bytes += size
        return grids


class Segmenter(nn.Module):
    """An encoder, the scaling of its features, and a head. kept: the grids of an encoder that is frozen, else None."""

    def __init__(self, encoder: Backbone, kept: KeptGrids | None, scale: Standardise, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.kept, self.scale, self.head = encoder, kept, scale, head
        self.eval()

    def forward(self, images: Tensor, keys: list[Key]) -> Tensor:
        """Logits (B, K, H, W) of images (B, C, H, W)."""
        grid = self.encoder(images).grid.float() if self.kept is None else self.kept(images, keys)
        logits: Tensor = self.head(self.scale(grid), images.shape[-1])
        return logits


def train_head(
    kept: KeptGrids, protocol: Head, scenes: SceneReader, numbers: I64, config: FitConfig, seed: int
) -> Segmenter:
    """A head after the last epoch on these scenes. An encoder that learns too is copied.

    numbers: (n,) of the scenes.
    Raises ConfigError where no pixel has a label; NonFiniteError where the loss is not finite.
    """
    learns = protocol == "pyramid" and kept.encoder.learns
    encoder = copy.deepcopy(kept.encoder) if learns else kept.encoder
    head = _head(encoder, protocol, len(scenes.task.classes), seed).to(scenes.device)
    scale = _scale(kept, scenes, numbers, config.batch).to(scenes.device)
    model = Segmenter(encoder, None if learns else kept, scale, head)
    layers = encoder.depth_groups() if learns else ()

    def step(places: Tensor, epoch: int) -> Tensor:
        chosen = numbers[places.numpy()]
        images, truth = scenes.read(chosen)
        turns = flips_of(places, seed=seed, epoch=epoch) & config.flips
        return _loss(model(flip(images, turns), _keys(chosen, turns)), flip(truth, turns))

    weights = layerwise_groups(layers, head.parameters(), layer_decay=config.layer_decay)
    fit(step, weights, count=len(numbers), config=config, seed=seed)
    return model


@torch.no_grad()
def confusion_by_scene(model: Segmenter, scenes: SceneReader, numbers: I64, batch: int) -> I64:
    """(n, K, K) confusion of each of these scenes. Raises ConfigError where no pixel has a label."""
    tables = []
    for part in _batches(numbers, batch):
        images, truth = scenes.read(part)
        tables.append(confusion_of(truth, model(images, _keys(part)).argmax(dim=1), len(scenes.task.classes)))
    whole = np.concatenate(tables)
    if not whole.any():
        raise scenes.unlabelled("test")
    return whole


def _head(encoder: Backbone, protocol: Head, classes: int, seed: int) -> nn.Module:
    if protocol == "linear":
        return seeded(lambda: LinearHead(encoder.width, classes), seed=seed, name="segment-linear")
    return seeded(lambda: PyramidHead(encoder.width, encoder.stride_px, classes), seed=seed, name="segment-pyramid")


def _scale(kept: KeptGrids, scenes: SceneReader, numbers: I64, batch: int) -> Standardise:
    """Mean and standard deviation of every channel over all cells of the scenes."""
    total = torch.zeros(2, kept.encoder.width, dtype=torch.float64)
    cells, labelled = 0, 0
    for part in _batches(numbers, batch):
        images, truth = scenes.read(part)
        grid = kept(images, _keys(part)).double()
        total += torch.stack([grid.sum(dim=(0, 2, 3)), grid.square().sum(dim=(0, 2, 3))]).cpu()
        cells += grid[:, 0].numel()
        labelled += int((truth != IGNORED).sum())
    if not labelled:
        raise scenes.unlabelled("train")
    mean, square = total / cells
    return Standardise(mean, (square - mean.square()).clamp(min=0).sqrt())


def _loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean cross-entropy over the labelled pixels of a batch; 0 without any."""
    total = functional.cross_entropy(logits, truth, ignore_index=IGNORED, reduction="sum")
    return total / (truth != IGNORED).sum().clamp(min=1)


def _keys(numbers: I64, turns: Tensor | None = None) -> list[Key]:
    flips = [[False, False]] * len(numbers) if turns is None else turns.tolist()
    return [(number, rows, cols) for number, (rows, cols) in zip(numbers.tolist(), flips, strict=True)]


def _batches(numbers: I64, batch: int) -> list[I64]:
    return [numbers[first : first + batch] for first in range(0, len(numbers), batch)]
