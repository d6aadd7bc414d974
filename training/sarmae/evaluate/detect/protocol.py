"""A detection task from end to end: a detector is trained and its detections are scored."""

# S images, B batch, G groups

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from sar1m.store.errors import ConfigError
from sarmae.evaluate.backbones.backbone import Backbone
from sarmae.evaluate.detect.box_scores import DetectionResults, Metric, detection_metrics
from sarmae.evaluate.detect.coco_metrics import faster_coco_eval
from sarmae.evaluate.detect.detections import Detections, decode_detections
from sarmae.evaluate.detect.fit_detector import DetectorTraining, TrainedDetector, train_detector
from sarmae.evaluate.label_splits import share_of_groups
from sarmae.evaluate.labelled_images import BoxedScenes, Boxes
from sarmae.evaluate.scores import Score
from sarmae.evaluate.study_config import TaskConfig
from sarmae.evaluate.uncertainty import group_draws

PROTOCOL: Final = "fcos"
SHARE_STREAM: Final = "detection-label-share"
I64 = NDArray[np.int64]


def detect(backbone: Backbone, task: BoxedScenes, config: TaskConfig, seed: int, device: torch.device) -> list[Score]:
    """Trains a detector on the train split and scores it on the test split. The first score is AP with all labels.

    With config.fit.freeze, and for an encoder without weights, only the pyramid and the head are trained; the setting
    then says "frozen encoder". config.label_shares adds trainings on shares of the groups of the train split. Nothing
    is chosen, so the val split is not used.
    Boxes, areas and metrics are in pixels of the images as they are read, after scaling to dataset.image_px. So COCO's
    small, medium and large refer to scaled pixels.
    Memory grows with the number of images only by the detections (at most 100 an image), their match tables and the
    kept grids of a frozen encoder. The weights of the backbone stay as they are. The same seed gives the same bits on a
    CPU.

    Raises ConfigError where splits or boxes cannot be used or faster-coco-eval is missing; NonFiniteError where
    training diverges.
    """
    check_boxes(task)
    backbone.to(device)
    train, tested = (np.flatnonzero(task.splits == split) for split in ("train", "test"))
    weights = draw_weights(task.groups[tested], config.bootstrap, seed)
    freeze = config.fit.freeze or not backbone.learns

    def measured(numbers: I64) -> list[Metric]:
        training = DetectorTraining(
            task=task, train=numbers.tolist(), config=config.fit, freeze=freeze, seed=seed, device=device
        )
        found = find_all(train_detector(backbone, training), task, tested, config.fit.batch, device)
        return detection_metrics(_trial(task, tested, found, weights))

    plain = measured(train)
    scores = [_score(metric, _setting(freeze, ""), len(tested)) for metric in plain]
    for share in config.label_shares:
        stream = f"{SHARE_STREAM}: {task.name}"
        numbers = share_of_groups(train, task.groups, share, stream=stream, seed=seed)
        metrics = plain if len(numbers) == len(train) else measured(numbers)
        setting = _setting(freeze, f"{100 * share:g} % of the labels")
        scores += [_score(metric, setting, len(tested)) for metric in metrics]
    return scores


def find_all(
    trained: TrainedDetector, task: BoxedScenes, numbers: I64, batch: int, device: torch.device
) -> list[Detections]:
    """The detections of these images, `batch` images at a time."""
    found: list[Detections] = []
    with torch.no_grad():
        for start in range(0, len(numbers), batch):
            images = task.images.read([int(number) for number in numbers[start : start + batch]]).to(device)
            found += decode_detections(*trained.predict(images), images)
    return found


def draw_weights(groups: I64, draws: int, seed: int) -> I64:
    """(draws, I): how often each image counts in every draw of the bootstrap. groups: (I,) near-copies, drawn whole.

    There are no draws where all images are near-copies of each other.
    """
    if len(np.unique(groups)) < 2:
        return np.empty((0, len(groups)), dtype=np.int64)
    drawn = [np.bincount(numbers, minlength=len(groups)) for numbers in group_draws(groups, draws=draws, seed=seed)]
    return np.array(drawn, dtype=np.int64).reshape(draws, len(groups))


def check_boxes(task: BoxedScenes) -> None:
    """Raises ConfigError, with the image and box, where a detector cannot be trained or tested on these scenes; also
    where faster-coco-eval is missing.
    """
    faster_coco_eval()  # an error now, not after hours of training
    for number, boxes in enumerate(task.boxes):
        _check_boxes(task, number, boxes)
    for split in ("train", "test"):
        numbers = np.flatnonzero(task.splits == split)
        objects = sum(int((~task.boxes[number].crowd).sum()) for number in numbers)
        if not objects:
            raise ConfigError(
                f"{task.name}: {len(numbers)} images with {objects} objects in the {split} split; at least one object "
                "expected (crowd regions do not count). Give the dataset more images, or another test_share or "
                "split_seed."
            )


def _check_boxes(task: BoxedScenes, number: int, boxes: Boxes) -> None:
    sides = boxes.corners[:, 2:] - boxes.corners[:, :2]
    wrong = np.flatnonzero(~(np.isfinite(boxes.corners).all(1) & (sides > 0).all(1)))
    if len(wrong):
        corners = ", ".join(f"{side:g}" for side in boxes.corners[wrong[0]])
        raise ConfigError(
            f"{task.name}, image {number}, box {wrong[0]}: corners {corners}; finite x0 < x1 and y0 < y1 expected, in "
            "pixels. Correct the annotation or leave the box out."
        )
    strange = np.flatnonzero((boxes.labels < 0) | (boxes.labels >= len(task.classes)))
    if len(strange):
        raise ConfigError(
            f"{task.name}, image {number}, box {strange[0]}: class {boxes.labels[strange[0]]}; 0 to "
            f"{len(task.classes) - 1} expected ({', '.join(task.classes)}). Name the class in the dataset's classes."
        )


def _setting(freeze: bool, labels: str) -> str:
    return ", ".join(part for part in ("frozen encoder" * freeze, labels) if part)


def _trial(task: BoxedScenes, numbers: I64, found: Sequence[Detections], weights: I64) -> DetectionResults:
    return DetectionResults(
        truth=[task.boxes[number] for number in numbers],
        found=found,
        classes=task.classes,
        image_px=task.inputs.image_px,
        weights=weights,
    )


def _score(metric: Metric, setting: str, tested: int) -> Score:
    return Score(
        protocol=PROTOCOL,
        setting=setting,
        metric=metric.name,
        value=metric.value,
        low=metric.low,
        high=metric.high,
        tested=tested,
    )
