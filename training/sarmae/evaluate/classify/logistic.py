"""Multinomial logistic regression, solved to convergence: the linear probe."""

# S samples, D width, R rank of the features, K classes

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from sarmae.data.draws import DrawKey, uniform
from sarmae.evaluate.classify.lesson import I64, Lesson, Predict, most_likely
from sarmae.evaluate.classify.measures import balanced_accuracy
from sarmae.evaluate.classify.source import Source

FOLDS: Final = 5
STREAM: Final = "logistic-folds"
_NEGLIGIBLE: Final = 1e-12  # of the largest eigenvalue
_STEPS: Final = 2000
_GRADIENT: Final = 1e-7  # largest component at which the solution counts as found


@dataclass(frozen=True, kw_only=True, eq=False)
class Logistic:
    """weight: (K, D), bias: (K,) float64. Logits are features @ weight.T + bias."""

    weight: Tensor
    bias: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """(S, K) of (S, D)."""
        return features @ self.weight.T + self.bias


def by_logistic(lesson: Lesson) -> Predict:
    """Logistic regression on standardised pooled features, its strength among fit.strengths chosen by the val split.

    Chosen is the highest balanced accuracy on val, of equals the lower cross-entropy. Without val samples, both are
    counted over up to five folds of the taught samples, groups of near-copies whole; where a class has but one group,
    nothing can be compared and the middle strength is taken.
    """
    source = lesson.source
    standard = source.standard(lesson.seen).to(source.device, torch.float64)

    def features(of: Source, numbers: I64) -> Tensor:
        return standard(of.pooled(numbers).to(source.device, torch.float64))

    labels = torch.from_numpy(lesson.labels).to(source.device)
    taught = features(source, lesson.train), labels[lesson.train]
    fits = fit_logistic(*taught, lesson.classes, lesson.fit.strengths)
    if len(lesson.val):
        asked = features(source, lesson.val)
        logits = [one.logits(asked) for one in fits]
        best = _best(logits, labels[lesson.val])
    else:
        best = _by_folds(lesson, *taught)
    return lambda of, numbers: most_likely(fits[best].logits(features(of, numbers)))


def fit_logistic(features: Tensor, labels: Tensor, classes: int, strengths: tuple[float, ...]) -> tuple[Logistic, ...]:
    """The minimum, for each strength, of mean cross-entropy + strength / 2 * sum of squared weights; biases are free.

    features: (S, D) float64, labels: (S,) int64. A class without samples has probability 0. In the coordinates used
    (principal axes scaled by the curvature at equal probabilities) the curvature starts as nearly the identity, so that
    L-BFGS converges in tens of steps; each strength starts where a stronger one ended.
    """
    present, labels = labels.unique(return_inverse=True)
    axes, variances = _principal_axes(features)
    coordinates = features @ axes
    state = features.new_zeros((coordinates.shape[1] + 1, len(present)))  # last row: biases
    found: dict[float, Logistic] = {}
    for strength in sorted(set(strengths), reverse=True):
        scale = (variances / len(present) + strength).rsqrt()[:, None]
        state = _minimum(coordinates * scale.T, labels, state / _with_bias(scale), strength * scale**2)
        state = state * _with_bias(scale)
        weight, bias = features.new_zeros((classes, features.shape[1])), features.new_full((classes,), -torch.inf)
        weight[present], bias[present] = (axes @ state[:-1]).T, state[-1]
        found[strength] = Logistic(weight=weight, bias=bias)
    return tuple(found[strength] for strength in strengths)


def _principal_axes(features: Tensor) -> tuple[Tensor, Tensor]:
    """(D, R) orthonormal axes that span the samples, and their mean squares (R,). The solution lies in their span."""
    count, width = features.shape
    if count < width:
        squares, left = torch.linalg.eigh(features @ features.T)
        kept = squares > _NEGLIGIBLE * squares[-1].clamp_min(torch.finfo(torch.float64).tiny)
        axes = features.T @ (left[:, kept] / squares[kept].sqrt())
    else:
        squares, right = torch.linalg.eigh(features.T @ features)
        kept = squares > _NEGLIGIBLE * squares[-1].clamp_min(torch.finfo(torch.float64).tiny)
        axes = right[:, kept]
    return axes, squares[kept] / count


def _with_bias(scale: Tensor) -> Tensor:
    return torch.cat([scale, scale.new_ones((1, 1))])


def _minimum(coordinates: Tensor, labels: Tensor, start: Tensor, penalty: Tensor) -> Tensor:
    """(R + 1, K) minimum over weights and biases. penalty: (R, 1)."""
    state = start.clone().requires_grad_(True)
    solver = torch.optim.LBFGS(
        [state],
        max_iter=_STEPS,
        max_eval=2 * _STEPS,
        history_size=30,
        line_search_fn="strong_wolfe",
        tolerance_grad=_GRADIENT,
        tolerance_change=0.0,
    )

    def closure() -> Tensor:
        solver.zero_grad()
        logits = coordinates @ state[:-1] + state[-1]
        loss = torch.nn.functional.cross_entropy(logits, labels) + (penalty * state[:-1] ** 2).sum() / 2
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(closure)  # type: ignore[no-untyped-call]
    return state.detach()


def _best(logits: list[Tensor], labels: Tensor) -> int:
    truth = labels.cpu().numpy()
    accuracy = [balanced_accuracy(truth, most_likely(one), one.shape[1]) for one in logits]
    loss = [torch.nn.functional.cross_entropy(one, labels).item() for one in logits]
    return min(range(len(logits)), key=lambda place: (-accuracy[place], loss[place]))


def _by_folds(lesson: Lesson, features: Tensor, labels: Tensor) -> int:
    """Position of the strength that predicts left-out groups best."""
    strengths = lesson.fit.strengths
    folds = _folds(lesson)
    if folds.max() == 0:
        return len(strengths) // 2
    logits = [features.new_zeros((len(features), lesson.classes)) for _ in strengths]
    for fold in range(int(folds.max()) + 1):
        out = torch.from_numpy(folds == fold).to(features.device)
        for place, one in enumerate(fit_logistic(features[~out], labels[~out], lesson.classes, strengths)):
            logits[place][out] = one.logits(features[out])
    return _best(logits, labels)


def _folds(lesson: Lesson) -> I64:
    """(taught,) number of each taught sample's fold: groups dealt out class by class in an order drawn by seed. All 0
    where a class has but one group."""
    groups, first, place = np.unique(lesson.groups[lesson.train], return_index=True, return_inverse=True)
    classes = lesson.labels[lesson.train][first]
    count = min(FOLDS, int(np.unique(classes, return_counts=True)[1].min()))
    drawn = uniform(DrawKey(seed=lesson.seed, epoch=0, stream=STREAM), groups, 1)[:, 0]
    dealt = np.empty(len(groups), dtype=np.int64)
    dealt[np.lexsort((drawn, classes))] = np.arange(len(groups)) % count
    return dealt[place]
