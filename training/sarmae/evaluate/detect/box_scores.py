"""COCO metrics of detections, with 95 % intervals over the tested images."""

# I images, K classes, T thresholds, A ranges of areas

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sarmae.evaluate.detect.coco_metrics import coco_curves
from sarmae.evaluate.detect.detections import Detections
from sarmae.evaluate.detect.matching import AREAS_PX2, THRESHOLDS, MatchTable, match
from sarmae.evaluate.labelled_images import Boxes

F64 = NDArray[np.float64]

LEVEL: Final = 0.95
LEAST_DEFINED: Final = 0.5  # of the draws must hold an object to find, for an interval of a metric
_AT_75: Final = 5  # number of the threshold 0.75


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One COCO metric. low, high: 95 % bootstrap interval, None where there is none."""

    name: str
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class DetectionResults:
    """True boxes and detections of the tested images.

    image_px: side of the images as they are read.
    weights: (draws, I), how often each image counts in every draw of the bootstrap.
    """

    truth: Sequence[Boxes]
    found: Sequence[Detections]
    classes: Sequence[str]
    image_px: int
    weights: NDArray[np.int64]


def detection_metrics(tested: DetectionResults) -> list[Metric]:
    """COCO's metrics: AP (mean over thresholds 0.5 to 0.95 and over classes), AP50, AP75, AP of small, medium and large
    boxes where there are any, AR100, and AP of every tested class where there are several.

    Values are those of faster-coco-eval. An interval is between quantiles of the same metric over draws of the images.
    """
    curves = coco_curves(tested.truth, tested.found, tested.classes, tested.image_px)
    values = _named(curves.precision.mean(axis=1), curves.recall, tested.classes)
    drawn = _drawn(tested)
    return [
        Metric(name=name, value=value, **_interval(drawn.get(name, [])))
        for name, value in values.items()
        if np.isfinite(value)
    ]


def _named(average: F64, recall: F64, classes: Sequence[str]) -> dict[str, float]:
    """Metrics by name. average, recall: (T, K, A), NaN where there was no object."""
    sides = [name for name in AREAS_PX2 if name]
    named = {"AP": average[:, :, 0], "AP50": average[:1, :, 0], "AP75": average[_AT_75 : _AT_75 + 1, :, 0]}
    named |= {f"AP {name}": average[:, :, number] for number, name in enumerate(sides, start=1)}
    named["AR100"] = recall[:, :, 0]
    if len(classes) > 1:
        named |= {f"AP of {name}": average[:, number : number + 1, 0] for number, name in enumerate(classes)}
    return {name: _mean(values) for name, values in named.items()}


def _mean(values: F64) -> float:
    """Mean of the values that are not NaN; NaN without any."""
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def _drawn(tested: DetectionResults) -> Mapping[str, list[float]]:
    """Every metric for every draw of the bootstrap."""
    if not len(tested.weights):
        return {}
    tables = [
        [match(tested.truth, tested.found, label, area) for area in AREAS_PX2] for label in range(len(tested.classes))
    ]
    drawn: dict[str, list[float]] = {}
    for weights in tested.weights:
        for name, value in recount(tables, weights, tested.classes).items():
            drawn.setdefault(name, []).append(value)
    return drawn


def recount(
    tables: Sequence[Sequence[MatchTable]], weights: NDArray[np.int64], classes: Sequence[str]
) -> dict[str, float]:
    """The metrics by name, of images that count weights (I,) times each. tables: by class and range of AREAS_PX2."""
    average = np.empty((len(THRESHOLDS), len(classes), len(AREAS_PX2)))
    recall = np.empty_like(average)
    for label, of_class in enumerate(tables):
        for area, table in enumerate(of_class):
            average[:, label, area], recall[:, label, area] = table.curves(weights)
    return _named(average, recall, classes)


def _interval(values: Sequence[float]) -> dict[str, float | None]:
    defined = [value for value in values if np.isfinite(value)]
    if len(defined) < 2 or len(defined) < LEAST_DEFINED * len(values):
        return {"low": None, "high": None}
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"low": float(low), "high": float(high)}
