"""The images of a study are read before its first arm starts: one error for a set, not one a cell."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from sar1m.store import settings
from sar1m.store.progress import Watch
from sarmae.evaluate.classify.protocol import check_chips
from sarmae.evaluate.datasets import open_dataset
from sarmae.evaluate.detect.protocol import check_boxes
from sarmae.evaluate.labelled_images import BoxedScenes, LabelledChips, LabelledScenes
from sarmae.evaluate.segment.protocol import check_scenes
from sarmae.evaluate.study_config import TaskConfig


def check_data(tasks: Iterable[TaskConfig], watch: Watch) -> None:
    """Opens every dataset of these tasks once, and asks each task what it asks before it trains.

    One dataset is held at a time. What depends on the encoder is not checked.
    Raises the errors of open_dataset, and ConfigError or SourceError for the first task that cannot be trained and
    tested on its images.
    """
    alike: dict[str, list[TaskConfig]] = {}
    for task in tasks:
        alike.setdefault(settings.digest_of(task.dataset.model_dump(mode="json")), []).append(task)
    for sharing in alike.values():
        _check_one(sharing)
        watch.note(f"{', '.join(task.name for task in sharing)}: the images can be used.")


def _check_one(tasks: list[TaskConfig]) -> None:
    """The check of tasks that share a dataset."""
    dataset = open_dataset(tasks[0])
    for task in tasks:
        _check(replace(dataset, name=task.name), task)


def _check(dataset: LabelledChips | LabelledScenes | BoxedScenes, task: TaskConfig) -> None:
    if isinstance(dataset, LabelledChips):
        check_chips(dataset, task)
    elif isinstance(dataset, BoxedScenes):
        check_boxes(dataset)
    else:
        check_scenes(dataset)
