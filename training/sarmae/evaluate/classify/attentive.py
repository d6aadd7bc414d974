"""The attentive probe: a pooling that learns a weight for each patch, and a linear layer."""

# B batch, N patches, D width, K classes

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from sarmae.evaluate.classify.classifier_training import I64, ClassifierTraining, Predict, most_likely
from sarmae.evaluate.classify.frozen_features import BATCH, FeatureScaling, FrozenFeatures, scaling_of
from sarmae.evaluate.fitting import fit, parameter_groups


class AttentivePool(nn.Module):
    """Logits (B, K) of a grid (B, D, h, w).

    Patches are standardised, weighted by softmax(query . patch / sqrt(D)), summed, and classified by a linear layer.
    With one query, projections of keys and values are not needed: the query and the layer can hold them. It starts as a
    plain mean with all classes equal, so nothing is drawn.
    """

    def __init__(self, scaling: FeatureScaling, width: int, classes: int) -> None:
        super().__init__()
        self.scaling = scaling
        self.query = nn.Parameter(torch.zeros(width))
        self.weight = nn.Parameter(torch.zeros(classes, width))
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, grid: Tensor) -> Tensor:
        """Logits (B, K)."""
        patches = self.scaling(grid.flatten(2).transpose(1, 2))
        attention = (patches @ self.query / patches.shape[2] ** 0.5).softmax(dim=1)
        pooled = (attention[:, :, None] * patches).sum(dim=1)
        return nn.functional.linear(pooled, self.weight, self.bias)


def by_attention(training: ClassifierTraining) -> Predict:
    """The probe, trained on the frozen grids by training.fit. Without flips: the grids are those of the images as
    they are. The val split is not used.
    """
    source, device = training.source, training.source.device
    scaling = _patch_scaling(source, training.standardise_by).to(device, torch.float32)
    pool = AttentivePool(scaling, len(scaling.mean), training.classes).to(device)
    labels = torch.from_numpy(training.labels).to(device)

    def step(numbers: Tensor, _epoch: int) -> Tensor:
        samples = training.train[numbers.numpy()]
        return nn.functional.cross_entropy(pool(source.grids(samples).to(device)), labels[samples])

    fit(step, parameter_groups(pool.parameters()), count=len(training.train), config=training.fit, seed=training.seed)

    @torch.no_grad()
    def predict(of: FrozenFeatures, numbers: I64) -> I64:
        parts = np.split(numbers, range(BATCH, len(numbers), BATCH))
        return most_likely(torch.cat([pool(of.grids(part).to(device)) for part in parts]))

    return predict


def _patch_scaling(source: FrozenFeatures, numbers: I64) -> FeatureScaling:
    """Mean and standard deviation of every feature over all patches."""
    total = squares = torch.zeros((), dtype=torch.float64)
    patches = 0
    for part in np.split(numbers, range(BATCH, len(numbers), BATCH)):
        grid = source.grids(part).double()
        total, squares = total + grid.sum(dim=(0, 2, 3)), squares + grid.square().sum(dim=(0, 2, 3))
        patches += len(part) * grid.shape[2] * grid.shape[3]
    mean = total / patches
    return scaling_of(mean, (squares / patches - mean.square()).clamp_min(0).sqrt())
