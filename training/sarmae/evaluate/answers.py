"""One arm at one seed: its encoder opened for each task's images, and what it answers."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

from sarmae.evaluate.backbones import open_backbone
from sarmae.evaluate.classify import classify
from sarmae.evaluate.datasets import open_dataset
from sarmae.evaluate.detect import detect
from sarmae.evaluate.quick.checks import quick_checks
from sarmae.evaluate.score_files import Kept, pretraining
from sarmae.evaluate.segment import segment
from sarmae.evaluate.study_config import ArmConfig, TaskConfig
from sarmae.evaluate.values import BoxedScenes, LabelledChips, Score
from sarmae.train.parallel import pick_device


class Answering:
    """run: folder of the arm's own pretraining at this seed, None for an encoder that exists."""

    def __init__(self, kept: Kept, arm: ArmConfig, seed: int, run: Path | None) -> None:
        self._kept = kept
        self._arm = arm
        self._seed = seed
        self._run = run

    def answer(self, task: TaskConfig) -> str:
        """Answers a task, keeps the scores, and tells the main one in a sentence. Raises our errors."""
        began = time.monotonic()
        scores = self._scores(task)
        self._kept.keep_scores(self._arm, task, self._seed, scores)
        took = time.monotonic() - began
        main = f"{scores[0].protocol}, {scores[0].metric} {scores[0].value:.3f}" if scores else "nothing to fine-tune"
        return f"{task.name}: {main} ({took:.0f} s)"

    def check_quickly(self) -> None:
        """The quick checks of the run, kept. Raises our errors."""
        if self._run is not None and self._kept.checks(self._arm, self._seed) is None:
            stores = pretraining(self._kept.study, self._arm, self._seed).data.stores
            checks = quick_checks(self._run, stores, self._seed, pick_device(self._kept.study.device))
            self._kept.keep_checks(self._arm, self._seed, [asdict(check) for check in checks])

    def _scores(self, task: TaskConfig) -> list[Score]:
        dataset, device = open_dataset(task), pick_device(self._kept.study.device)
        self._kept.keep_notes(task, dataset.notes)
        backbone = open_backbone(self._arm, dataset.inputs, study=self._kept.study, seed=self._seed, run=self._run)
        backbone.to(device)
        if isinstance(dataset, LabelledChips):
            return classify(backbone, dataset, task, self._seed, device)
        if isinstance(dataset, BoxedScenes):
            return detect(backbone, dataset, task, self._seed, device)
        return segment(backbone, dataset, task, self._seed, device)
