"""The classes of the nearest neighbours."""

# S samples, D width, K classes, N neighbours

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from sarmae.evaluate.classify.lesson import I64, Lesson, Predict, most_likely
from sarmae.evaluate.classify.source import Source

TEMPERATURE: Final = 0.07  # Wu et al., Unsupervised feature learning via non-parametric instance discrimination, 2018
_ASKED_AT_A_TIME: Final = 1024


def by_neighbours(lesson: Lesson) -> Predict:
    """Votes of the fit.neighbours most similar taught samples (all, where there are fewer).

    Similarity is the cosine of standardised pooled features, a vote weighs exp(similarity / 0.07). Needs no val split.
    """
    device = lesson.source.device
    standard = lesson.source.standard(lesson.seen).to(device, torch.float64)
    labels = torch.from_numpy(lesson.labels[lesson.train]).to(device)

    def unit(source: Source, numbers: I64) -> Tensor:
        return torch.nn.functional.normalize(standard(source.pooled(numbers).to(device, torch.float64)), dim=1)

    known = unit(lesson.source, lesson.train)
    nearest = min(lesson.fit.neighbours, len(known))

    def predict(source: Source, numbers: I64) -> I64:
        parts = torch.split(unit(source, numbers), _ASKED_AT_A_TIME)
        return most_likely(torch.cat([_votes(part @ known.T, labels, nearest, lesson.classes) for part in parts]))

    return predict


def _votes(similarity: Tensor, labels: Tensor, nearest: int, classes: int) -> Tensor:
    """(S, K) of cosines (S, taught)."""
    values, places = similarity.topk(nearest, dim=1)
    votes = torch.zeros((len(similarity), classes), dtype=similarity.dtype, device=similarity.device)
    return votes.scatter_add_(1, labels[places], ((values - 1) / TEMPERATURE).exp())
