"""Accuracies from a confusion matrix, and their intervals."""

# S samples, G groups, R draws, K classes

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sarmae.evaluate.scores import Score
from sarmae.evaluate.uncertainty import F64, bootstrap_interval

I64 = NDArray[np.int64]
Measure = Callable[[F64], F64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """What was predicted for some samples.

    protocol, setting: of the scores.
    truth, predicted, groups: (S,).
    draws, seed: of the bootstrap.
    each: whether the recall of every class is wanted.
    """

    protocol: str
    setting: str
    classes: Sequence[str]
    truth: I64
    predicted: I64
    groups: I64
    draws: int
    seed: int
    each: bool = False


def overall(confusion: F64) -> F64:
    """Share of correct predictions. confusion: (..., K, K) counts, the truth along rows. Returns (...)."""
    with np.errstate(invalid="ignore"):
        shares: F64 = _right(confusion).sum(axis=-1) / confusion.sum(axis=(-2, -1))
    return shares


def balanced(confusion: F64) -> F64:
    """Mean recall of the classes that have samples. confusion: (..., K, K) counts. Returns (...)."""
    recalls = _recalls(confusion)
    there = ~np.isnan(recalls)
    with np.errstate(invalid="ignore"):
        means: F64 = np.where(there, recalls, 0).sum(axis=-1) / there.sum(axis=-1)
    return means


def macro_f1(confusion: F64) -> F64:
    """Mean F1, 2 TP / (2 TP + FP + FN), of the classes that have samples or are predicted. Returns (...)."""
    sizes = confusion.sum(axis=-1) + confusion.sum(axis=-2)
    there = sizes > 0
    scores = 2 * _right(confusion) / np.where(there, sizes, 1)
    with np.errstate(invalid="ignore"):
        means: F64 = scores.sum(axis=-1) / there.sum(axis=-1)
    return means


def recall(confusion: F64, *, place: int) -> F64:
    """(...) share of the samples of class `place` that are found; NaN where it has no samples."""
    found: F64 = _recalls(confusion)[..., place]
    return found


MEASURES: Final[dict[str, Measure]] = {"balanced accuracy": balanced, "accuracy": overall, "macro F1": macro_f1}


def balanced_accuracy(truth: I64, predicted: I64, classes: int) -> float:
    """Mean recall of the classes that occur in truth."""
    confusion = np.zeros((classes, classes))
    np.add.at(confusion, (truth, predicted), 1)
    return float(balanced(confusion))


def classification_scores(predictions: Predictions) -> list[Score]:
    """Balanced accuracy, accuracy, macro F1 and, where wanted, the recall of every class with test samples.

    Intervals are 95 % of the bootstrap over groups of near-copies.
    """
    count = len(predictions.classes)
    cells = np.zeros((len(predictions.truth), count * count))
    cells[np.arange(len(cells)), predictions.truth * count + predictions.predicted] = 1
    measures = dict(MEASURES)
    if predictions.each:
        tested = set(predictions.truth.tolist())
        measures |= {
            f"recall: {name}": partial(recall, place=place)
            for place, name in enumerate(predictions.classes)
            if place in tested
        }
    return [_score(predictions, cells, metric, measure) for metric, measure in measures.items()]


def _score(predictions: Predictions, cells: F64, metric: str, measure: Measure) -> Score:
    count = len(predictions.classes)

    def statistic(sums: F64) -> F64:
        return measure(sums.reshape(-1, count, count))

    interval = bootstrap_interval(cells, statistic, predictions.groups, draws=predictions.draws, seed=predictions.seed)
    low, high = interval or (None, None)
    return Score(
        protocol=predictions.protocol,
        setting=predictions.setting,
        metric=metric,
        value=float(statistic(cells.sum(axis=0))[0]),
        low=low,
        high=high,
        tested=len(cells),
    )


def _right(confusion: F64) -> F64:
    diagonal: F64 = np.diagonal(confusion, axis1=-2, axis2=-1)
    return diagonal


def _recalls(confusion: F64) -> F64:
    with np.errstate(invalid="ignore"):
        recalls: F64 = _right(confusion) / confusion.sum(axis=-1)
    return recalls
