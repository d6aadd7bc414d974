"""Labelled images as people have them on disk, opened as what a task needs."""

from __future__ import annotations

from sarmae.evaluate.datasets.coco_boxes import open_coco
from sarmae.evaluate.datasets.folders import open_folders
from sarmae.evaluate.datasets.land_cover import open_labelled_store
from sarmae.evaluate.datasets.masks import open_masks
from sarmae.evaluate.labelled_images import BoxedScenes, LabelledChips, LabelledScenes
from sarmae.evaluate.study_config import TaskConfig


def open_dataset(task: TaskConfig) -> LabelledChips | LabelledScenes | BoxedScenes:
    """The images and labels of a task: LabelledChips for classification, LabelledScenes for segmentation, BoxedScenes
    for detection. Every image is read once, to find near-copies and the mean of the train split.

    Raises ConfigError where the dataset's keys name what is not there; SourceError (StoreError for a store) with the
    file that is broken or not what its layout promises.
    """
    config = task.dataset
    match config.kind:
        case "folders":
            return open_folders(config, task.name)
        case "store":
            return open_labelled_store(config, task.name)
        case "masks":
            return open_masks(config, task.name)
        case _:
            return open_coco(config, task.name)
