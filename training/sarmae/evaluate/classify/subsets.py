"""Subsets of the labels: shots (labels a class) and shares, drawn by seed, with regard to near-copies.

Both the train and the val split are reduced: someone with ten labels a class for training has not a thousand to choose
a regularisation with.
"""

# S samples

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sarmae.stream.keyed_random import DrawKey, uniform

I64 = NDArray[np.int64]

SHOTS_STREAM = "label-shots"
SHARES_STREAM = "label-shares"


def shots(numbers: I64, labels: I64, groups: I64, *, each: int, seed: int) -> I64:
    """Up to `each` samples of every class, out of the samples `numbers`; ascending.

    labels, groups: (S,) of all samples.
    First one sample of each group of near-copies is taken, then a second one of each, and so on. So copies are used
    only where a class has fewer groups than `each`. A class with fewer samples gives all it has.
    """
    key = DrawKey(seed=seed, epoch=0, stream=SHOTS_STREAM)

    def order(members: I64) -> I64:
        drawn = uniform(key, members, 1)[:, 0]
        shuffled = members[np.argsort(drawn, kind="stable")]
        return shuffled[np.argsort(_copy_number(groups[shuffled]), kind="stable")]

    return _firsts(numbers, labels, order, lambda _: each)


def share(numbers: I64, labels: I64, groups: I64, *, part: float, seed: int) -> I64:
    """A share of every class, out of the samples `numbers`; at least one of each, ascending.

    labels, groups: (S,) of all samples.
    part: above 0, up to 1.
    Whole groups of near-copies are taken one after another (the last may be cut), so that a third of the labels is also
    a third of the scenes. With one seed, a smaller share lies within a larger one.
    """
    key = DrawKey(seed=seed, epoch=0, stream=SHARES_STREAM)

    def order(members: I64) -> I64:
        return members[np.lexsort((members, groups[members], uniform(key, groups[members], 1)[:, 0]))]

    return _firsts(numbers, labels, order, lambda count: max(1, round(part * count)))


def _firsts(numbers: I64, labels: I64, order: Callable[[I64], I64], kept: Callable[[int], int]) -> I64:
    """The first samples of every class in its order. kept: how many of a class of that size."""
    classes = [numbers[labels[numbers] == label] for label in np.unique(labels[numbers])]
    chosen = [order(members)[: kept(len(members))] for members in classes]
    return np.sort(np.concatenate([*chosen, np.empty(0, dtype=np.int64)]))


def _copy_number(groups: I64) -> I64:
    """How many samples of the same group stand before each."""
    by_group = np.argsort(groups, kind="stable")
    sorted_groups = groups[by_group]
    starts = np.r_[True, sorted_groups[1:] != sorted_groups[:-1]]
    first = np.maximum.accumulate(np.where(starts, np.arange(len(groups)), 0))
    number = np.empty(len(groups), dtype=np.int64)
    number[by_group] = np.arange(len(groups)) - first
    return number
