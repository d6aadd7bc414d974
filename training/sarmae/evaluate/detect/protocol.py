"""The question "how well are objects found" from a task to scores."""

# S images, B batch, G groups

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from sar1m.store.errors import ConfigError
from sarmae.evaluate.detect.box_scores import Metric, Trial, measure
from sarmae.evaluate.detect.coco_metrics import faster_coco_eval
from sarmae.evaluate.detect.finding import Found, find
from sarmae.evaluate.detect.fit_detector import Lesson, Trained, train
from sarmae.evaluate.label_splits import share_of_groups
from sarmae.evaluate.study_config import TaskConfig
from sarmae.evaluate.uncertainty import group_draws
from sarmae.evaluate.values import Backbone, BoxedScenes, Boxes, Score

PROTOCOL: Final = "fcos"
SHARE_STREAM: Final = "detection-label-share"
I64 = NDArray[np.int64]


def detect(backbone: Backbone, task: BoxedScenes, asked: TaskConfig, seed: int, device: torch.device) -> list[Score]:
    """Trains a detector on the train split, tests it once on the test split, AP over all of the labels first.

    asked.fit.freeze, or an encoder without weights to learn, teaches the pyramid and the head alone; the setting says
    "frozen encoder" then. asked.label_shares adds trainings on shares of the train split's groups. Nothing is chosen,
    so the val split is not used. Boxes, their areas and all metrics are in the frame of the images as they are read,
    after any scaling by the dataset's image_px: COCO's small, medium and large count those pixels. Images are read by
    batches; what grows with their number is what was found (at most 100 objects each), match tables of that, and a
    frozen encoder's kept grids (sarmae.evaluate.detect.fit_detector). The weights of the backbone stay as they are. The
    same seed gives the same bits on a CPU.

    Raises ConfigError where splits or boxes cannot be used or faster-coco-eval is missing, NonFiniteError where
    training diverges.
    """
    check_scenes(task)
    faster_coco_eval()  # told now, not after hours of training
    backbone.to(device)
    taught, tested = (np.flatnonzero(task.splits == split) for split in ("train", "test"))
    weights = draw_weights(task.groups[tested], asked.bootstrap, seed)
    freeze = asked.fit.freeze or not backbone.learns

    def measured(numbers: I64) -> list[Metric]:
        lesson = Lesson(task=task, train=numbers.tolist(), config=asked.fit, freeze=freeze, seed=seed, device=device)
        found = find_all(train(backbone, lesson), task, tested, asked.fit.batch, device)
        return measure(_trial(task, tested, found, weights))

    plain = measured(taught)
    scores = [_score(metric, _setting(freeze, ""), len(tested)) for metric in plain]
    for share in asked.label_shares:
        stream = f"{SHARE_STREAM}: {task.name}"
        numbers = share_of_groups(taught, task.groups, share, stream=stream, seed=seed)
        metrics = plain if len(numbers) == len(taught) else measured(numbers)
        setting = _setting(freeze, f"{100 * share:g} % of the labels")
        scores += [_score(metric, setting, len(tested)) for metric in metrics]
    return scores


def find_all(trained: Trained, task: BoxedScenes, numbers: I64, batch: int, device: torch.device) -> list[Found]:
    """What is found in these images, so many at a time."""
    found: list[Found] = []
    with torch.no_grad():
        for start in range(0, len(numbers), batch):
            images = task.images.read([int(number) for number in numbers[start : start + batch]]).to(device)
            found += find(*trained.answer(images), images)
    return found


def draw_weights(groups: I64, draws: int, seed: int) -> I64:
    """(draws, I): how often each image counts in a draw of the bootstrap, groups of near-copies (I,) drawn whole.

    No draws where all images are near-copies of each other.
    """
    if len(np.unique(groups)) < 2:
        return np.empty((0, len(groups)), dtype=np.int64)
    drawn = [np.bincount(numbers, minlength=len(groups)) for numbers in group_draws(groups, draws=draws, seed=seed)]
    return np.array(drawn, dtype=np.int64).reshape(draws, len(groups))


def check_scenes(task: BoxedScenes) -> None:
    """Raises ConfigError where a detector cannot be taught or tested with these scenes, naming what is wrong."""
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


def _trial(task: BoxedScenes, numbers: I64, found: Sequence[Found], weights: I64) -> Trial:
    return Trial(
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
