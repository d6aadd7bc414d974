"""A score: one number that a protocol gives for one encoder. Answers: what classifiers say of each tested sample."""

# S tested samples

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Score:
    """One result.

    protocol: `knn`, `linear`, `attentive`, `fine-tune`, `pyramid`, `fcos` ...
    setting: what was special, such as "10 a class", "30 % of the labels", "ENL 4"; empty for the plain case.
    low, high: 95 % bootstrap interval over the tested samples (groups of near-copies are drawn whole); None where there
    is none.
    tested: number of samples behind it.
    """

    protocol: str
    setting: str
    metric: str
    value: float
    low: float | None
    high: float | None
    tested: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """The answers of one encoder at one seed to the tested samples, in the plain setting.

    truth, groups: (S,) class and group of near-copies of each sample, in the order of the dataset.
    predicted: (S,) classes by protocol.
    """

    truth: I64
    groups: I64
    predicted: Mapping[str, I64]
