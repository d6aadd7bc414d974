"""Accuracies from a confusion matrix, and their intervals."""

# S samples, G groups, R draws, K classes

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sarmae.evaluate.uncertainty import F64, bootstrap_interval
from sarmae.evaluate.values import Score

I64 = NDArray[np.int64]
Measure = Callable[[F64], F64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What was predicted for some samples: truth, predicted, groups (S,), and what the rows are called.

    each: whether rows of single classes are wanted. draws, seed: of the bootstrap.
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
    """(...) share of right answers, of (..., K, K) counts with the truth along rows."""
    with np.errstate(invalid="ignore"):
        shares: F64 = _right(confusion).sum(axis=-1) / confusion.sum(axis=(-2, -1))
    return shares


def balanced(confusion: F64) -> F64:
    """(...) mean recall of the classes that have samples."""
    recalls = _recalls(confusion)
    there = ~np.isnan(recalls)
    with np.errstate(invalid="ignore"):
        means: F64 = np.where(there, recalls, 0).sum(axis=-1) / there.sum(axis=-1)
    return means


def macro_f1(confusion: F64) -> F64:
    """(...) mean F1 of the classes that have samples or are predicted, 2 TP / (2 TP + FP + FN)."""
    sizes = confusion.sum(axis=-1) + confusion.sum(axis=-2)
    there = sizes > 0
    scores = 2 * _right(confusion) / np.where(there, sizes, 1)
    with np.errstate(invalid="ignore"):
        means: F64 = scores.sum(axis=-1) / there.sum(axis=-1)
    return means


def recall(confusion: F64, *, place: int) -> F64:
    """(...) share of one class's samples that is found, NaN where it has none."""
    found: F64 = _recalls(confusion)[..., place]
    return found


MEASURES: Final[dict[str, Measure]] = {"balanced accuracy": balanced, "accuracy": overall, "macro F1": macro_f1}


def balanced_accuracy(truth: I64, predicted: I64, classes: int) -> float:
    """Mean recall of the classes that occur in truth."""
    confusion = np.zeros((classes, classes))
    np.add.at(confusion, (truth, predicted), 1)
    return float(balanced(confusion))


def score(answers: Answers) -> list[Score]:
    """Balanced accuracy, accuracy and macro F1, then the recalls where wanted; a class that is not tested has none.

    Intervals are 95 % of the bootstrap over groups of near-copies.
    """
    count = len(answers.classes)
    cells = np.zeros((len(answers.truth), count * count))
    cells[np.arange(len(cells)), answers.truth * count + answers.predicted] = 1
    measures = dict(MEASURES)
    if answers.each:
        tested = set(answers.truth.tolist())
        measures |= {
            f"recall: {name}": partial(recall, place=place)
            for place, name in enumerate(answers.classes)
            if place in tested
        }
    return [_score(answers, cells, metric, measure) for metric, measure in measures.items()]


def _score(answers: Answers, cells: F64, metric: str, measure: Measure) -> Score:
    count = len(answers.classes)

    def statistic(sums: F64) -> F64:
        return measure(sums.reshape(-1, count, count))

    interval = bootstrap_interval(cells, statistic, answers.groups, draws=answers.draws, seed=answers.seed)
    low, high = interval or (None, None)
    return Score(
        protocol=answers.protocol,
        setting=answers.setting,
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
