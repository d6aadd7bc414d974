"""A head learns to segment: on the grids of a frozen encoder, which are kept, or together with the encoder."""

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
from sarmae.evaluate.fitting import fit, flip, flips_of, seeded, with_encoder
from sarmae.evaluate.segment.confusion import I64, confusion_of
from sarmae.evaluate.segment.heads import LinearHead, PyramidHead, Standardise
from sarmae.evaluate.study_config import FitConfig
from sarmae.evaluate.values import IGNORED, Backbone, LabelledScenes

Head = Literal["pyramid", "frozen pyramid", "linear"]
Key = tuple[int, bool, bool]  # number of a scene, upside down, left and right swapped

MOST_KEPT_BYTES: Final = 1 << 30


@dataclass(frozen=True, kw_only=True, eq=False)
class Scenes:
    """A task's scenes and masks by number, on a device."""

    task: LabelledScenes
    device: torch.device

    def read(self, numbers: I64) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) and (B, H, W); pixels without data in any channel are IGNORED. Raises ConfigError where masks do
        not fit the images or the classes."""
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
        """The error where no pixel of a split's scenes counts."""
        return ConfigError(
            f"{self.task.name}: no pixel of the {split} scenes that were drawn has both a label and data; one or more "
            "expected. Check the masks and dataset.classes, or raise the share of the labels."
        )


@dataclass(kw_only=True, eq=False)
class KeptGrids:
    """What a frozen encoder sees, made once for every scene and way it is flipped while there is room for it."""

    encoder: Backbone
    _kept: dict[Key, Tensor] = field(default_factory=dict)
    _bytes: int = 0

    @torch.no_grad()
    def __call__(self, images: Tensor, keys: list[Key]) -> Tensor:
        """(B, D, h, w) float32 of images (B, C, H, W), flipped already, known by keys."""
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
    """An encoder, its features' scale, and a head. kept: of an encoder that stays as it is."""

    def __init__(self, encoder: Backbone, kept: KeptGrids | None, scale: Standardise, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.kept, self.scale, self.head = encoder, kept, scale, head
        self.eval()

    def forward(self, images: Tensor, keys: list[Key]) -> Tensor:
        """Logits (B, K, H, W) of images (B, C, H, W)."""
        grid = self.encoder(images).grid.float() if self.kept is None else self.kept(images, keys)
        logits: Tensor = self.head(self.scale(grid), images.shape[-1])
        return logits


def train(kept: KeptGrids, protocol: Head, scenes: Scenes, numbers: I64, how: tuple[FitConfig, int]) -> Segmenter:
    """A head after the last epoch on these scenes (n,), with a copy of the encoder where that learns along.

    how: training and seed. Raises ConfigError where no pixel has a label, NonFiniteError where the loss is not finite.
    """
    config, seed = how
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

    weights = with_encoder(layers, head.parameters(), layer_decay=config.layer_decay)
    fit(step, weights, count=len(numbers), config=config, seed=seed)
    return model


@torch.no_grad()
def tested(model: Segmenter, scenes: Scenes, numbers: I64, batch: int) -> I64:
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


def _scale(kept: KeptGrids, scenes: Scenes, numbers: I64, batch: int) -> Standardise:
    """Mean and deviation of every channel over all cells of the scenes."""
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
    """Cross-entropy over the labelled pixels of a batch; 0 without any."""
    total = functional.cross_entropy(logits, truth, ignore_index=IGNORED, reduction="sum")
    return total / (truth != IGNORED).sum().clamp(min=1)


def _keys(numbers: I64, turns: Tensor | None = None) -> list[Key]:
    flips = [[False, False]] * len(numbers) if turns is None else turns.tolist()
    return [(number, rows, cols) for number, (rows, cols) in zip(numbers.tolist(), flips, strict=True)]


def _batches(numbers: I64, batch: int) -> list[I64]:
    return [numbers[first : first + batch] for first in range(0, len(numbers), batch)]
