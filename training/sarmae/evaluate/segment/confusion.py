"""Scores of label maps from one confusion matrix over all tested pixels, with intervals by resampling scenes."""

# B batch, S scenes, H W pixels, K classes

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sarmae.evaluate.uncertainty import bootstrap_interval
from sarmae.evaluate.values import IGNORED, Score

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class Measures(NamedTuple):
    """Of confusion matrices (..., K, K): per_class_iou (..., K), NaN where a class is neither in truth nor found;
    mean_iou, mean_accuracy and pixel_accuracy (...), NaN where nothing was tested."""

    per_class_iou: F64
    mean_iou: F64
    pixel_accuracy: F64
    mean_accuracy: F64


class Resampling(NamedTuple):
    """draws: of the bootstrap, 0 for none. seed: the same one draws the same scenes, arm for arm."""

    draws: int
    seed: int


def confusion_of(truth: Tensor, found: Tensor, classes: int) -> I64:
    """(B, K, K) pixels of each image by true (row) and found (column) class; IGNORED in truth counts nothing.

    truth, found: (B, H, W) int64; found within 0..K-1.
    """
    counted = truth != IGNORED
    image = torch.arange(len(truth), device=truth.device)[:, None, None].expand_as(truth)
    cell = (image * classes + truth) * classes + found
    counts = torch.bincount(cell[counted].cpu(), minlength=len(truth) * classes**2)
    table: I64 = counts.view(len(truth), classes, classes).numpy()
    return table


def measure(confusion: NDArray[np.generic]) -> Measures:
    """Measures of (..., K, K). The mean IoU leaves out classes neither in truth nor found, the mean accuracy those not
    in truth. Source: Everingham et al., The Pascal VOC challenge, IJCV 2010 (intersection over union)."""
    table = confusion.astype(np.float64)
    right = np.diagonal(table, axis1=-2, axis2=-1)
    true, found = table.sum(axis=-1), table.sum(axis=-2)
    total = table.sum(axis=(-2, -1))
    iou = _share(right, true + found - right)
    return Measures(
        per_class_iou=iou,
        mean_iou=_mean_of_known(iou),
        pixel_accuracy=_share(right.sum(axis=-1), total),
        mean_accuracy=_mean_of_known(_share(right, true)),
    )


def scores_of(
    tables: I64, groups: I64, classes: Sequence[str], labels: tuple[str, str], resampling: Resampling
) -> list[Score]:
    """mIoU, pixel and mean accuracy, and the IoU of every class that is in truth or found.

    tables: (S, K, K) of the tested scenes; groups: (S,), drawn whole. labels: protocol and setting of the scores.
    Classes that no tested pixel has are named by a score "test pixels: NAME" of 0: their IoU, where something was taken
    for them, is 0 and enters the mean, else they are left out.
    """
    flat = tables.reshape(len(tables), -1)
    tested = int((flat.sum(axis=1) > 0).sum())

    def score(metric: str, value: float, interval: tuple[float, float] | None) -> Score:
        low, high = (None, None) if interval is None else interval
        return Score(
            protocol=labels[0], setting=labels[1], metric=metric, value=value, low=low, high=high, tested=tested
        )

    def interval(metric: str) -> tuple[float, float] | None:
        def statistic(sums: F64) -> F64:
            return _by_name(measure(sums.reshape(-1, *tables.shape[1:])), classes)[metric]

        return bootstrap_interval(flat, statistic, groups, draws=resampling.draws, seed=resampling.seed)

    whole = _by_name(measure(tables.sum(axis=0)), classes)
    absent = [name for name, pixels in zip(classes, tables.sum(axis=(0, 2)), strict=True) if not pixels]
    return [
        *(score(metric, float(value), interval(metric)) for metric, value in whole.items() if not np.isnan(value)),
        *(score(f"test pixels: {name}", 0.0, None) for name in absent),
    ]


def _by_name(measures: Measures, classes: Sequence[str]) -> dict[str, F64]:
    """The main one first."""
    of_classes = {f"IoU: {name}": measures.per_class_iou[..., number] for number, name in enumerate(classes)}
    return {
        "mIoU": measures.mean_iou,
        "pixel accuracy": measures.pixel_accuracy,
        "mean accuracy": measures.mean_accuracy,
        **of_classes,
    }


def _share(part: F64, whole: F64) -> F64:
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


def _mean_of_known(values: F64) -> F64:
    """Along the last axis, NaN left out; NaN where all are."""
    known = ~np.isnan(values)
    return _share(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1).astype(np.float64))
