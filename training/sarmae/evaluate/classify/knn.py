"""k-nearest-neighbour classification."""

# S samples, D width, K classes, N training samples

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from sarmae.evaluate.classify.classifier_training import I64, ClassifierTraining, Predict, most_likely
from sarmae.evaluate.classify.frozen_features import FrozenFeatures

TEMPERATURE: Final = 0.07  # Wu et al., Unsupervised feature learning via non-parametric instance discrimination, 2018
_QUERIES_AT_A_TIME: Final = 1024


def by_neighbours(training: ClassifierTraining) -> Predict:
    """The fit.neighbours most similar training samples vote (all, where there are fewer).

    Similarity is the cosine of standardised pooled features; a vote weighs exp(similarity / 0.07). The val split is not
    used.
    """
    device = training.source.device
    scaling = training.source.scaling(training.standardise_by).to(device, torch.float64)
    labels = torch.from_numpy(training.labels[training.train]).to(device)

    def unit(source: FrozenFeatures, numbers: I64) -> Tensor:
        return torch.nn.functional.normalize(scaling(source.pooled(numbers).to(device, torch.float64)), dim=1)

    known = unit(training.source, training.train)
    nearest = min(training.fit.neighbours, len(known))

    def predict(source: FrozenFeatures, numbers: I64) -> I64:
        parts = torch.split(unit(source, numbers), _QUERIES_AT_A_TIME)
        return most_likely(torch.cat([_votes(part @ known.T, labels, nearest, training.classes) for part in parts]))

    return predict


def _votes(similarity: Tensor, labels: Tensor, nearest: int, classes: int) -> Tensor:
    """(S, K) sums of votes. similarity: (S, N) cosines to the training samples."""
    values, places = similarity.topk(nearest, dim=1)
    votes = torch.zeros((len(similarity), classes), dtype=similarity.dtype, device=similarity.device)
    return votes.scatter_add_(1, labels[places], ((values - 1) / TEMPERATURE).exp())
