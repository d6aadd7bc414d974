"""Multinomial logistic regression, solved to convergence: the linear probe."""

# S samples, D width of the features, K classes

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from sarmae.errors import NonFiniteError
from sarmae.evaluate.classify.classifier_training import I64, ClassifierTraining, Predict, most_likely
from sarmae.evaluate.classify.frozen_features import FrozenFeatures
from sarmae.evaluate.classify.measures import balanced_accuracy
from sarmae.evaluate.extra_packages import extra_package
from sarmae.stream.keyed_random import DrawKey, uniform

FOLDS: Final = 5
STREAM: Final = "logistic-folds"
_TOLERANCE: Final = 1e-8  # of the gradient, at which the search ends
_TOLERATED: Final = 1e-5  # where rounding of the loss ends it earlier
_STEPS: Final = 500


@dataclass(frozen=True, kw_only=True, eq=False)
class Logistic:
    """A linear classifier. weight: (K, D), bias: (K,), both float64. Logits are features @ weight.T + bias."""

    weight: Tensor
    bias: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """(S, K) of features (S, D)."""
        return features @ self.weight.T + self.bias


def by_logistic(training: ClassifierTraining) -> Predict:
    """Logistic regression on standardised pooled features. The val split chooses the strength among fit.strengths.

    The strength with the highest balanced accuracy on val is taken; of equals, the one with the lower cross-entropy.
    Without val samples, both are computed over up to five folds of the training samples, with groups of near-copies in
    one fold. Where a class has only one group, folds are not possible and the middle strength is taken.
    """
    source = training.source
    scaling = source.scaling(training.standardise_by)

    def features(of: FrozenFeatures, numbers: I64) -> Tensor:
        return scaling(of.pooled(numbers).double())

    labels = torch.from_numpy(training.labels)
    train = features(source, training.train), labels[training.train]
    fits = fit_logistic(*train, training.classes, training.fit.strengths)
    if len(training.val):
        validation = features(source, training.val)
        logits = [one.logits(validation) for one in fits]
        best = _best(logits, labels[training.val])
    else:
        best = _by_folds(training, *train)
    return lambda of, numbers: most_likely(fits[best].logits(features(of, numbers)))


def fit_logistic(features: Tensor, labels: Tensor, classes: int, strengths: tuple[float, ...]) -> tuple[Logistic, ...]:
    """The minimum, for each strength, of mean cross-entropy + strength / 2 * sum of squared weights; biases are free.

    features: (S, D) float64 on the CPU.
    labels: (S,) int64, of two classes or more. A class without samples has probability 0.
    classes: K.
    scikit-learn solves it by Newton's method, with as many threads as torch has; each strength starts from the solution
    of the next stronger one. Raises NonFiniteError where it does not converge.
    """
    linear_model = extra_package("sklearn.linear_model", "the linear probe")
    threads = extra_package("threadpoolctl", "the linear probe").threadpool_limits
    present, label = np.unique(labels.numpy(), return_inverse=True)
    model = linear_model.LogisticRegression(solver="newton-cg", tol=_TOLERANCE, max_iter=_STEPS, warm_start=True)
    found: dict[float, Logistic] = {}
    for strength in sorted(set(strengths), reverse=True):
        # of two classes scikit-learn fits one vector, the difference of ours: its square is twice the sum of theirs
        model.set_params(C=(2 if len(present) == 2 else 1) / (strength * len(features)))
        with threads(torch.get_num_threads()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the gradient is looked at below
            model.fit(features.numpy(), label)
        weight, bias = torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_)
        if len(present) == 2:
            weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
        _check_gradient(features, torch.from_numpy(label), Logistic(weight=weight, bias=bias), strength)
        every = Logistic(weight=weight.new_zeros(classes, weight.shape[1]), bias=bias.new_full((classes,), -torch.inf))
        every.weight[present], every.bias[present] = weight, bias
        found[strength] = every
    return tuple(found[strength] for strength in strengths)


def _check_gradient(features: Tensor, labels: Tensor, found: Logistic, strength: float) -> None:
    residual = found.logits(features).softmax(dim=1)
    residual[torch.arange(len(labels)), labels] -= 1
    slopes = residual.T @ features / len(features) + strength * found.weight
    left = max(slopes.abs().max().item(), residual.mean(dim=0).abs().max().item())
    if not left < _TOLERATED:
        raise NonFiniteError(
            f"linear probe: the gradient is still {left:.1g} after {_STEPS} steps at strength {strength:g}; "
            f"{_TOLERATED:g} expected. Raise fit.strengths, or look at the features."
        )


def _best(logits: list[Tensor], labels: Tensor) -> int:
    truth = labels.numpy()
    accuracy = [balanced_accuracy(truth, most_likely(one), one.shape[1]) for one in logits]
    loss = [torch.nn.functional.cross_entropy(one, labels).item() for one in logits]
    return min(range(len(logits)), key=lambda place: (-accuracy[place], loss[place]))


def _by_folds(training: ClassifierTraining, features: Tensor, labels: Tensor) -> int:
    """Position of the strength that predicts groups best when they are left out."""
    strengths = training.fit.strengths
    folds = _folds(training)
    if folds.max() == 0:
        return len(strengths) // 2
    logits = [features.new_zeros((len(features), training.classes)) for _ in strengths]
    for fold in range(int(folds.max()) + 1):
        out = torch.from_numpy(folds == fold)
        for place, one in enumerate(fit_logistic(features[~out], labels[~out], training.classes, strengths)):
            logits[place][out] = one.logits(features[out])
    return _best(logits, labels)


def _folds(training: ClassifierTraining) -> I64:
    """(n,) fold of each training sample: groups are dealt out class by class, in an order drawn by seed. All 0 where
    a class has only one group.
    """
    groups, first, place = np.unique(training.groups[training.train], return_index=True, return_inverse=True)
    classes = training.labels[training.train][first]
    count = min(FOLDS, int(np.unique(classes, return_counts=True)[1].min()))
    drawn = uniform(DrawKey(seed=training.seed, epoch=0, stream=STREAM), groups, 1)[:, 0]
    dealt = np.empty(len(groups), dtype=np.int64)
    dealt[np.lexsort((drawn, classes))] = np.arange(len(groups)) % count
    return dealt[place]
