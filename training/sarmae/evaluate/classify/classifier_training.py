"""What every classifier is trained on, and the prediction it returns."""

# S samples, K classes

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sarmae.evaluate.classify.frozen_features import FrozenFeatures
from sarmae.evaluate.study_config import FitConfig

I64 = NDArray[np.int64]
Predict = Callable[[FrozenFeatures, I64], I64]  # the classes (n,) of samples, by number


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassifierTraining:
    """The training of one classifier.

    source: the images and the frozen encoder's features of them.
    train, val: numbers of the samples whose labels may be used, ascending.
    standardise_by: numbers of all images of the train split. Features are standardised by these, which needs no label.
    labels, groups: (S,) of all samples.
    classes: K.
    """

    source: FrozenFeatures
    train: I64
    val: I64
    standardise_by: I64
    labels: I64
    groups: I64
    classes: int
    fit: FitConfig
    seed: int


def most_likely(logits: Tensor) -> I64:
    """(S,) the class with the largest of the logits (S, K)."""
    found: I64 = logits.argmax(dim=1).cpu().numpy()
    return found
