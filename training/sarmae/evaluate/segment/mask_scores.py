"""Scores of an encoder on masks: the heads trained on its grid, once for every share of the labels that is asked."""

# G groups of near-copies

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import torch

from sar1m.store.errors import ConfigError
from sarmae.evaluate.label_splits import share_of_groups
from sarmae.evaluate.segment.confusion import I64, Resampling, scores_of
from sarmae.evaluate.segment.fit_head import Head, KeptGrids, Scenes, tested, train
from sarmae.evaluate.study_config import TaskConfig
from sarmae.evaluate.values import Backbone, LabelledScenes, Score

SHARE_STREAM: Final = "segment-label-share"


def segment(
    backbone: Backbone, task: LabelledScenes, asked: TaskConfig, seed: int, device: torch.device
) -> list[Score]:
    """Scores on the test split: of a pyramid head, with the encoder trained along unless asked.fit.freeze (protocol
    `pyramid`, else `frozen pyramid`), then, where asked.protocols has `linear`, of a linear map on the frozen grid.

    Setting: "" for all labels, "30 % of the labels" for a share of the groups of train scenes, drawn by seed; a smaller
    share lies in every larger one. Pixels without a label, or without data in any channel, neither teach nor count.
    The same seed gives the same bits on a CPU; on an accelerator sums of gradients may differ in their last bits. The
    weights of the backbone stay as they are. Raises ConfigError for splits without scenes, and where no labelled pixel
    teaches or is tested.
    """
    _check_splits(task)
    scenes = Scenes(task=task, device=device)
    kept = KeptGrids(encoder=backbone.to(device).eval())
    resampling = Resampling(draws=asked.bootstrap, seed=seed)
    teaching, testing = (np.flatnonzero(task.splits == split) for split in ("train", "test"))

    def scores(protocol: Head, setting: str, numbers: I64) -> list[Score]:
        model = train(kept, protocol, scenes, numbers, (asked.fit, seed))
        tables = tested(model, scenes, testing, asked.fit.batch)
        return scores_of(tables, task.groups[testing], task.classes, (protocol, setting), resampling)

    found = []
    for protocol in _protocols(asked):
        plain = scores(protocol, "", teaching)
        found += plain
        for share in asked.label_shares:
            setting, stream = f"{share * 100:g} % of the labels", f"{SHARE_STREAM}: {task.name}"
            numbers = share_of_groups(teaching, task.groups, share, stream=stream, seed=seed)
            whole = len(numbers) == len(teaching)
            found += [replace(one, setting=setting) for one in plain] if whole else scores(protocol, setting, numbers)
    return found


def _protocols(asked: TaskConfig) -> tuple[Head, ...]:
    pyramid: Head = "frozen pyramid" if asked.fit.freeze else "pyramid"
    return (pyramid, "linear") if "linear" in asked.protocols else (pyramid,)


def _check_splits(task: LabelledScenes) -> None:
    for split in ("train", "test"):
        if not (task.splits == split).any():
            raise ConfigError(
                f"{task.name}: no scene in the split {split}; one or more expected. Change dataset.val_share and "
                "dataset.test_share, or give more scenes."
            )
