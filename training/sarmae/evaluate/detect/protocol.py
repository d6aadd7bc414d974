"""The question "how well are objects found" from a task to scores."""

# S images, B batch, G groups

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from sar1m.errors import ConfigError
from sarmae.data.draws import DrawKey, integers, uniform
from sarmae.evaluate.config import TaskConfig
from sarmae.evaluate.detect.finding import Found, find
from sarmae.evaluate.detect.scoring import Trial, measure
from sarmae.evaluate.detect.training import Lesson, Trained, train
from sarmae.evaluate.records import Backbone, BoxedScenes, Boxes, Score

PROTOCOL: Final = "fcos"
SHARE_STREAM: Final = "detection-label-share"
BOOTSTRAP_STREAM: Final = "detection-bootstrap"


def detect(backbone: Backbone, task: BoxedScenes, asked: TaskConfig, seed: int, device: torch.device) -> list[Score]:
    """Trains a detector on the train split, tests it once on the test split, AP over all of the labels first.

    asked.fit.freeze, or an encoder without weights to learn, teaches the pyramid and the head alone; the setting says
    "frozen encoder" then. asked.label_shares adds trainings on a share of the train images. Nothing is chosen, so the
    val split is not used. Boxes, their areas and all metrics are in the frame of the images as they are read, after any
    scaling by the dataset's image_px: COCO's small, medium and large count those pixels. Images are read by batches;
    what grows with their number is what was found (at most 100 objects each), match tables of that, and a frozen
    encoder's kept grids (sarmae.evaluate.detect.training). backbone is left as it was.

    Raises ConfigError where splits or boxes cannot be used, faster-coco-eval is missing or asked holds what detection
    does not know (shots, looks, breakdown); NonFiniteError where training diverges.
    """
    _check_asked(asked)
    check_scenes(task)
    taught = np.flatnonzero(task.splits == "train")
    tested = np.flatnonzero(task.splits == "test")
    freeze = asked.fit.freeze or not backbone.learns
    weights = draw_weights(task.groups[tested], asked.bootstrap, task.name)
    scores = []
    for share in sorted({1.0, *asked.label_shares}, reverse=True):
        lesson = Lesson(
            task=task,
            train=_some(taught, share, seed),
            config=asked.fit,
            freeze=freeze,
            seed=seed,
            device=device,
        )
        found = find_all(train(backbone, lesson), task, tested, asked.fit.batch, device)
        scores += _scores(_tested(task, tested, found, weights), _setting(freeze, share))
    return scores


def find_all(
    trained: Trained, task: BoxedScenes, numbers: Sequence[int] | NDArray[np.int64], batch: int, device: torch.device
) -> list[Found]:
    """What is found in these images, so many at a time."""
    found: list[Found] = []
    with torch.no_grad():
        for start in range(0, len(numbers), batch):
            images = task.images.read([int(number) for number in numbers[start : start + batch]]).to(device)
            found += find(*trained.answer(images), images)
    return found


def draw_weights(groups: NDArray[np.int64], draws: int, name: str) -> NDArray[np.int64]:
    """(draws, I): how often each image counts in a draw, groups of near-copies (I,) drawn whole and with replacement.

    The draws depend on the task's name alone, so that every encoder is judged on the same ones. None where all images
    are near-copies of each other.
    """
    _, member = np.unique(groups, return_inverse=True)
    count = int(member.max()) + 1
    if count < 2 or not draws:
        return np.empty((0, len(groups)), dtype=np.int64)
    key = DrawKey(seed=0, epoch=0, stream=f"{BOOTSTRAP_STREAM}|{name}")
    chosen = integers(key, np.arange(draws), count, count)
    return np.stack([np.bincount(row, minlength=count)[member] for row in chosen])


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


def _check_asked(asked: TaskConfig) -> None:
    unknown = [name for name in ("shots", "looks", "breakdown") if getattr(asked, name)]
    if unknown:
        raise ConfigError(
            f"task {asked.name!r}: {', '.join(unknown)} asked of detection, which knows label_shares alone. Leave them "
            "out, or ask a classification task."
        )
    wrong = [share for share in asked.label_shares if not 0 < share <= 1]
    if wrong:
        raise ConfigError(f"task {asked.name!r}: label share {wrong[0]:g}; a number over 0 and up to 1 expected.")


def _some(taught: NDArray[np.int64], share: float, seed: int) -> list[int]:
    """A share of the images, at least one, in their order; drawn by seed, the smaller share within the larger."""
    key = DrawKey(seed=seed, epoch=0, stream=SHARE_STREAM)
    order = np.argsort(uniform(key, np.arange(len(taught)), 1)[:, 0], kind="stable")
    chosen: list[int] = np.sort(taught[order[: max(1, math.floor(share * len(taught) + 0.5))]]).tolist()
    return chosen


def _setting(freeze: bool, share: float) -> str:
    parts = ["frozen encoder"] * freeze + [f"{100 * share:g} % of the labels"] * (share < 1)
    return ", ".join(parts)


def _tested(
    task: BoxedScenes, numbers: NDArray[np.int64], found: Sequence[Found], weights: NDArray[np.int64]
) -> Trial:
    return Trial(
        truth=[task.boxes[number] for number in numbers],
        found=found,
        classes=task.classes,
        image_px=task.inputs.image_px,
        weights=weights,
    )


def _scores(tested: Trial, setting: str) -> list[Score]:
    return [
        Score(
            protocol=PROTOCOL,
            setting=setting,
            metric=metric.name,
            value=metric.value,
            low=metric.low,
            high=metric.high,
            tested=len(tested.truth),
        )
        for metric in measure(tested)
    ]
