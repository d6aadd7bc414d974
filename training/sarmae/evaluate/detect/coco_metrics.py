"""COCO's metrics of detections, computed by faster-coco-eval."""

# T thresholds, R recalls, K classes, A ranges of areas

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sarmae.evaluate.detect.detections import Detections
from sarmae.evaluate.extra_packages import extra_package
from sarmae.evaluate.labelled_images import Boxes


class Curves(NamedTuple):
    """precision: (T, R, K, A), and recall: (T, K, A), with at most 100 detections an image; NaN where there is no
    object.

    A: all areas, small, medium, large.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]


def coco_curves(truth: Sequence[Boxes], found: Sequence[Detections], classes: Sequence[str], image_px: int) -> Curves:
    """The curves of detections in these images, by faster-coco-eval.

    Areas are those of the boxes, in pixels of the images as they are read: our records hold no outlines.
    """
    package = faster_coco_eval()
    facts = {
        "images": [{"id": n, "height": image_px, "width": image_px} for n in range(1, len(truth) + 1)],
        "categories": [{"id": n, "name": name} for n, name in enumerate(classes, start=1)],
    }
    wanted, guessed = package.COCO(), package.COCO()
    wanted.dataset = {**facts, "annotations": _true(truth)}
    guessed.dataset = {**facts, "annotations": _found(found)}
    for side in (wanted, guessed):
        side.createIndex()
    judge = package.COCOeval_faster(wanted, guessed, "bbox")
    judge.evaluate()
    judge.accumulate()
    precision, recall = (np.asarray(judge.eval[key], dtype=np.float64)[..., -1] for key in ("precision", "recall"))
    return Curves(np.where(precision < 0, np.nan, precision), np.where(recall < 0, np.nan, recall))


def faster_coco_eval() -> ModuleType:
    """The package that computes the metrics. Raises ConfigError where it is missing."""
    package: ModuleType = extra_package("faster_coco_eval", "detection")
    return package


def _true(truth: Sequence[Boxes]) -> list[dict[str, Any]]:
    rows = [
        (image, corners, int(label), {"iscrowd": int(crowd)})
        for image, boxes in enumerate(truth, start=1)
        for corners, label, crowd in zip(boxes.corners, boxes.labels, boxes.crowd, strict=True)
    ]
    return [_annotation(number, *row) for number, row in enumerate(rows, start=1)]


def _found(found: Sequence[Detections]) -> list[dict[str, Any]]:
    rows = [
        (image, corners, int(label), {"score": float(score)})
        for image, one in enumerate(found, start=1)
        for corners, label, score in zip(one.corners, one.labels, one.scores, strict=True)
    ]
    return [_annotation(number, *row) for number, row in enumerate(rows, start=1)]


def _annotation(
    number: int, image: int, corners: NDArray[np.float32], label: int, more: dict[str, Any]
) -> dict[str, Any]:
    """A record in the format of COCO. Numbers count from 1, because COCO reads 0 as no match."""
    x0, y0, x1, y1 = (float(side) for side in corners)
    box = [x0, y0, x1 - x0, y1 - y0]
    return {
        "id": number,
        "image_id": image,
        "category_id": label + 1,
        "bbox": box,
        "area": box[2] * box[3],
        "iscrowd": 0,
        **more,
    }
