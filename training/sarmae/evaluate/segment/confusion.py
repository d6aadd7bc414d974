"""Scores of label maps: one confusion matrix over all tested pixels, with intervals over the scenes."""

# B batch, S scenes, H W pixels, K classes

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sarmae.evaluate.labelled_images import IGNORED
from sarmae.evaluate.scores import Score
from sarmae.evaluate.uncertainty import bootstrap_interval

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class SegmentationMeasures(NamedTuple):
    """Measures of confusion matrices (..., K, K).

    per_class_iou: (..., K), NaN for a class that is neither in the truth nor predicted.
    mean_iou, pixel_accuracy, mean_accuracy: (...), NaN where nothing was tested.
    """

    per_class_iou: F64
    mean_iou: F64
    pixel_accuracy: F64
    mean_accuracy: F64


def confusion_of(truth: Tensor, found: Tensor, classes: int) -> I64:
    """(B, K, K) pixels of each image, by true class (row) and predicted class (column). IGNORED pixels do not count.

    truth, found: (B, H, W) int64; found within 0..K-1.
    """
    counted = truth != IGNORED
    image = torch.arange(len(truth), device=truth.device)[:, None, None].expand_as(truth)
    cell = (image * classes + truth) * classes + found
    counts = torch.bincount(cell[counted].cpu(), minlength=len(truth) * classes**2)
    table: I64 = counts.view(len(truth), classes, classes).numpy()
    return table


def segmentation_measures(confusion: NDArray[np.generic]) -> SegmentationMeasures:
    """Measures of confusion matrices (..., K, K).

    The mean IoU leaves out classes that are neither in the truth nor predicted, the mean accuracy those not in the
    truth. Source: Everingham et al., The Pascal VOC challenge, IJCV 2010 (intersection over union).
    """
    table = confusion.astype(np.float64)
    right = np.diagonal(table, axis1=-2, axis2=-1)
    true, found = table.sum(axis=-1), table.sum(axis=-2)
    total = table.sum(axis=(-2, -1))
    iou = _share(right, true + found - right)
    return SegmentationMeasures(
        per_class_iou=iou,
        mean_iou=_mean_of_known(iou),
        pixel_accuracy=_share(right.sum(axis=-1), total),
        mean_accuracy=_mean_of_known(_share(right, true)),
    )


def segmentation_scores(
    tables: I64, groups: I64, classes: Sequence[str], *, protocol: str, setting: str, draws: int, seed: int
) -> list[Score]:
    """mIoU, pixel and mean accuracy, and the IoU of every class that is in the truth or predicted.

    tables: (S, K, K) of the tested scenes.
    groups: (S,), drawn whole.
    draws, seed: of the bootstrap; no intervals with 0 draws. The same seed draws the same scenes for every arm.
    A class without test pixels is named by a score "test pixels: NAME" of 0. Where it was predicted, its IoU is 0 and
    counts in the mean; else it is left out.
    """
    flat = tables.reshape(len(tables), -1)
    tested = int((flat.sum(axis=1) > 0).sum())

    def score(metric: str, value: float, interval: tuple[float, float] | None) -> Score:
        low, high = (None, None) if interval is None else interval
        return Score(protocol=protocol, setting=setting, metric=metric, value=value, low=low, high=high, tested=tested)

    def interval(metric: str) -> tuple[float, float] | None:
        def statistic(sums: F64) -> F64:
            return _by_name(segmentation_measures(sums.reshape(-1, *tables.shape[1:])), classes)[metric]

        return bootstrap_interval(flat, statistic, groups, draws=draws, seed=seed)

    whole = _by_name(segmentation_measures(tables.sum(axis=0)), classes)
    absent = [name for name, pixels in zip(classes, tables.sum(axis=(0, 2)), strict=True) if not pixels]
    return [
        *(score(metric, float(value), interval(metric)) for metric, value in whole.items() if not np.isnan(value)),
        *(score(f"test pixels: {name}", 0.0, None) for name in absent),
    ]


def _by_name(measures: SegmentationMeasures, classes: Sequence[str]) -> dict[str, F64]:
    """The measures by name, the main one first."""
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
    """Mean along the last axis without NaN; NaN where all are NaN."""
    known = ~np.isnan(values)
    return _share(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1).astype(np.float64))
