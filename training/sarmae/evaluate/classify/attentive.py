"""A pooling that learns where to look, and a linear layer: the attentive probe."""

# B batch, N patches, D width, K classes

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from sarmae.evaluate.classify.lesson import I64, Lesson, Predict, most_likely
from sarmae.evaluate.classify.source import BATCH, Source, Standard, standard_of
from sarmae.evaluate.fitting import fit, rated


class AttentivePool(nn.Module):
    """Logits (B, K) of a grid (B, D, h, w): patches standardised, weighed by softmax(query . patch / sqrt(D)), summed,
    and a linear layer. One query needs no projections of keys and values: the query and the layer can hold them.
    Starts as a plain mean with all classes alike, so nothing is drawn."""

    def __init__(self, standard: Standard, width: int, classes: int) -> None:
        super().__init__()
        self.standard = standard
        self.query = nn.Parameter(torch.zeros(width))
        self.weight = nn.Parameter(torch.zeros(classes, width))
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, grid: Tensor) -> Tensor:
        """(B, K)."""
        patches = self.standard(grid.flatten(2).transpose(1, 2))
        looks_at = (patches @ self.query / patches.shape[2] ** 0.5).softmax(dim=1)
        pooled = (looks_at[:, :, None] * patches).sum(dim=1)
        return nn.functional.linear(pooled, self.weight, self.bias)


def by_attention(lesson: Lesson) -> Predict:
    """The probe trained on the frozen grids by lesson.fit, without flips: the grids are those of the images as they
    are. Uses no val split."""
    source, device = lesson.source, lesson.source.device
    standard = _patch_standard(source, lesson.seen).to(device, torch.float32)
    pool = AttentivePool(standard, len(standard.mean), lesson.classes).to(device)
    labels = torch.from_numpy(lesson.labels).to(device)

    def step(numbers: Tensor, _epoch: int) -> Tensor:
        samples = lesson.train[numbers.numpy()]
        return nn.functional.cross_entropy(pool(source.grids(samples).to(device)), labels[samples])

    fit(step, rated(pool.parameters()), count=len(lesson.train), config=lesson.fit, seed=lesson.seed)

    @torch.no_grad()
    def predict(of: Source, numbers: I64) -> I64:
        parts = np.split(numbers, range(BATCH, len(numbers), BATCH))
        return most_likely(torch.cat([pool(of.grids(part).to(device)) for part in parts]))

    return predict


def _patch_standard(source: Source, numbers: I64) -> Standard:
    """Mean and spread of every feature over all patches."""
    total = squares = torch.zeros((), dtype=torch.float64)
    patches = 0
    for part in np.split(numbers, range(BATCH, len(numbers), BATCH)):
        grid = source.grids(part).double()
        total, squares = total + grid.sum(dim=(0, 2, 3)), squares + grid.square().sum(dim=(0, 2, 3))
        patches += len(part) * grid.shape[2] * grid.shape[3]
    mean = total / patches
    return standard_of(mean, (squares / patches - mean.square()).clamp_min(0).sqrt())
