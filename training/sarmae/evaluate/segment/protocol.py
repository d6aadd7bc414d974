"""A segmentation task from end to end: heads are trained on the grid, once for each share of the labels, and scored."""

# G groups of near-copies

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import torch

from sar1m.store.errors import ConfigError
from sarmae.evaluate.backbones.backbone import Backbone
from sarmae.evaluate.label_splits import share_of_groups
from sarmae.evaluate.labelled_images import IGNORED, LabelledScenes
from sarmae.evaluate.scores import Score
from sarmae.evaluate.segment.confusion import I64, segmentation_scores
from sarmae.evaluate.segment.fit_head import Head, KeptGrids, SceneReader, confusion_by_scene, train_head
from sarmae.evaluate.study_config import TaskConfig

SHARE_STREAM: Final = "segment-label-share"


def segment(
    backbone: Backbone, task: LabelledScenes, config: TaskConfig, seed: int, device: torch.device
) -> list[Score]:
    """Scores on the test split.

    Protocol `pyramid`: a pyramid head trained together with the encoder; `frozen pyramid` with config.fit.freeze. Then,
    where config.protocols has `linear`: a linear map on the frozen grid.
    Setting: "" for all labels, "30 % of the labels" for a share of the groups of train scenes. Shares are drawn by
    seed; a smaller share lies in every larger one.
    Pixels without a label, or without data in any channel, are not used. The weights of the backbone stay as they are.
    The same seed gives the same bits on a CPU; on an accelerator, sums of gradients may differ in their last bits.

    Raises ConfigError for splits without scenes, and where train or test has no labelled pixel.
    """
    check_scenes(task)
    scenes = SceneReader(task=task, device=device)
    kept = KeptGrids(encoder=backbone.to(device).eval())
    teaching, testing = (np.flatnonzero(task.splits == split) for split in ("train", "test"))

    def scores(protocol: Head, setting: str, numbers: I64) -> list[Score]:
        model = train_head(kept, protocol, scenes, numbers, config.fit, seed)
        tables = confusion_by_scene(model, scenes, testing, config.fit.batch)
        return segmentation_scores(
            tables,
            task.groups[testing],
            task.classes,
            protocol=protocol,
            setting=setting,
            draws=config.bootstrap,
            seed=seed,
        )

    found = []
    for protocol in _protocols(config):
        plain = scores(protocol, "", teaching)
        found += plain
        for share in config.label_shares:
            setting, stream = f"{share * 100:g} % of the labels", f"{SHARE_STREAM}: {task.name}"
            numbers = share_of_groups(teaching, task.groups, share, stream=stream, seed=seed)
            whole = len(numbers) == len(teaching)
            found += [replace(one, setting=setting) for one in plain] if whole else scores(protocol, setting, numbers)
    return found


def _protocols(config: TaskConfig) -> tuple[Head, ...]:
    pyramid: Head = "frozen pyramid" if config.fit.freeze else "pyramid"
    return (pyramid, "linear") if "linear" in config.protocols else (pyramid,)


def check_scenes(task: LabelledScenes) -> None:
    """Raises ConfigError for a split without scenes, or without a pixel that has both a label and data."""
    for split in ("train", "test"):
        if not (task.splits == split).any():
            raise ConfigError(
                f"{task.name}: no scene in the split {split}; one or more expected. Change dataset.val_share and "
                "dataset.test_share, or give more scenes."
            )
    scenes = SceneReader(task=task, device=torch.device("cpu"))
    for split in ("train", "test"):
        numbers = np.flatnonzero(task.splits == split)
        if not any(bool((scenes.read(numbers[one : one + 1])[1] != IGNORED).any()) for one in range(len(numbers))):
            raise scenes.unlabelled(split)
