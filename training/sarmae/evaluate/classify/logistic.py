"""Multinomial logistic regression, solved to convergence: the linear probe."""

# S samples, D width, R rank of the features, K classes

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from sarmae.errors import NonFiniteError
from sarmae.evaluate.classify.lesson import I64, Lesson, Predict, most_likely
from sarmae.evaluate.classify.measures import balanced_accuracy
from sarmae.evaluate.classify.source import Source
from sarmae.stream.keyed_random import DrawKey, uniform

FOLDS: Final = 5
STREAM: Final = "logistic-folds"
_NEGLIGIBLE: Final = 1e-12  # of the largest eigenvalue
_TOLERATED: Final = 1e-5  # where rounding of the loss ends the search earlier
_STEPS: Final = 40  # before the coordinates are renewed
_ROUNDS: Final = 50
_LEAST_CURVATURE: Final = 1e-12
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

    features: (S, D) float64, labels: (S,) int64. A class without samples has probability 0. L-BFGS in coordinates in
    which the curvature, taken alike for all classes, is the identity where it starts; it starts anew in fresh ones
    until it has converged, and each strength where a stronger one ended. Raises NonFiniteError where it does not
    converge.
    """
    present, labels = torch.unique(labels, return_inverse=True)
    axes = _principal_axes(features)
    coordinates = torch.cat([features @ axes, features.new_ones((len(features), 1))], dim=1)  # last column: biases
    state = features.new_zeros((coordinates.shape[1], len(present)))
    found: dict[float, Logistic] = {}
    for strength in sorted(set(strengths), reverse=True):
        penalty = features.new_full((len(state), 1), strength)
        penalty[-1] = 0
        state = _minimum(coordinates, labels, state, penalty)
        weight, bias = features.new_zeros((classes, features.shape[1])), features.new_full((classes,), -torch.inf)
        weight[present], bias[present] = (axes @ state[:-1]).T, state[-1]
        found[strength] = Logistic(weight=weight, bias=bias)
    return tuple(found[strength] for strength in strengths)


def _principal_axes(features: Tensor) -> Tensor:
    """(D, R) orthonormal axes that span the samples; the solution lies in their span."""
    wide = features.shape[0] < features.shape[1]
    squares, vectors = torch.linalg.eigh(features @ features.T if wide else features.T @ features)
    kept = squares > _NEGLIGIBLE * squares[-1].clamp_min(torch.finfo(torch.float64).tiny)
    axes: Tensor = features.T @ (vectors[:, kept] / squares[kept].sqrt()) if wide else vectors[:, kept]
    return axes


def _minimum(coordinates: Tensor, labels: Tensor, state: Tensor, penalty: Tensor) -> Tensor:
    """(R + 1, K) weights and biases. penalty: (R + 1, 1)."""
    left = torch.inf
    for _ in range(_ROUNDS):
        state, left = _approach(coordinates, labels, state, penalty)
        if left < _GRADIENT:
            return state
    if left < _TOLERATED:
        return state
    raise NonFiniteError(
        f"linear probe: the gradient is still {left:.1g} after {_ROUNDS * _STEPS} steps at strength "
        f"{penalty.max().item():g}; {_TOLERATED:g} expected. Raise fit.strengths, or look at the features."
    )


def _approach(coordinates: Tensor, labels: Tensor, state: Tensor, penalty: Tensor) -> tuple[Tensor, float]:
    """A better state (R + 1, K), and the largest component of the gradient there in the coordinates used."""
    shares = (coordinates @ state).softmax(dim=1)
    spread = (shares * (1 - shares)).mean(dim=1, keepdim=True)
    curvature = (
        coordinates.T @ (coordinates * spread) / len(coordinates) + penalty.clamp_min(_LEAST_CURVATURE).diagflat()
    )
    lower = torch.linalg.cholesky(curvature)
    unscale = torch.linalg.solve_triangular(lower.T, torch.eye(len(lower)).to(lower), upper=True)
    scaled, moved = coordinates @ unscale, nn.Parameter(lower.T @ state)
    solver = torch.optim.LBFGS(
        [moved],
        max_iter=_STEPS,
        max_eval=2 * _STEPS,
        history_size=_STEPS,
        line_search_fn="strong_wolfe",
        tolerance_grad=_GRADIENT,
        tolerance_change=0.0,
    )

    def closure() -> Tensor:
        solver.zero_grad()
        misfit = torch.nn.functional.cross_entropy(scaled @ moved, labels)
        loss: Tensor = misfit + (penalty * (unscale @ moved).square()).sum() / 2
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(closure)  # type: ignore[no-untyped-call]
    closure()
    left = torch.zeros(()) if moved.grad is None else moved.grad.abs().max()
    found: Tensor = unscale @ moved.detach()
    return found, left.item()


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
