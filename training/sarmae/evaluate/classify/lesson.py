"""What every classifier is given, and what it gives back."""

# S samples, K classes

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sarmae.evaluate.classify.source import Source
from sarmae.evaluate.study_config import FitConfig

I64 = NDArray[np.int64]
Predict = Callable[[Source, I64], I64]  # images and the numbers of some of them, to positions of classes


@dataclass(frozen=True, kw_only=True, eq=False)
class Lesson:
    """One classifier's training.

    source: the images and the frozen encoder. train, val: numbers of the samples whose labels may be used, ascending.
    seen: numbers of all images of the train split; features are standardised by these, which needs no label. labels,
    groups: (S,) of all samples. classes: K.
    """

    source: Source
    train: I64
    val: I64
    seen: I64
    labels: I64
    groups: I64
    classes: int
    fit: FitConfig
    seed: int


def most_likely(logits: Tensor) -> I64:
    """(S,) position of the largest of (S, K)."""
    found: I64 = logits.argmax(dim=1).cpu().numpy()
    return found
