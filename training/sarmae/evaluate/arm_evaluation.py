"""One arm at one seed: its encoder is opened for the images of each task and scored."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

from sarmae.evaluate.backbones import open_backbone
from sarmae.evaluate.classify import classify
from sarmae.evaluate.datasets import open_dataset
from sarmae.evaluate.detect import detect
from sarmae.evaluate.labelled_images import BoxedScenes, LabelledChips
from sarmae.evaluate.quick.checks import quick_checks
from sarmae.evaluate.score_files import ScoreFiles
from sarmae.evaluate.scores import Score
from sarmae.evaluate.segment import segment
from sarmae.evaluate.study_config import ArmConfig, TaskConfig
from sarmae.train.parallel import pick_device


class ArmEvaluation:
    """An encoder and where its scores are kept.

    files: the study and its folder.
    run: folder of the arm's own pretraining at this seed; None for an encoder that is not pretrained by the study.
    """

    def __init__(self, files: ScoreFiles, arm: ArmConfig, seed: int, run: Path | None) -> None:
        self._files = files
        self._arm = arm
        self._seed = seed
        self._run = run

    def score_task(self, task: TaskConfig) -> str:
        """Scores the encoder on a task, keeps the scores, and returns the main one in a sentence. Raises our errors."""
        began = time.monotonic()
        scores = self._scores(task)
        self._files.keep_scores(self._arm, task, self._seed, scores)
        took = time.monotonic() - began
        main = (
            f"{scores[0].protocol}, {scores[0].metric} {scores[0].value:.3f}"
            if scores
            else "no score: the encoder has no weights to fine-tune"
        )
        return f"{task.name}: {main} ({took:.0f} s)"

    def check_quickly(self) -> None:
        """Runs the quick checks of the pretraining run and keeps them. Raises our errors."""
        if self._run is not None and self._files.checks(self._arm, self._seed) is None:
            stores = self._files.study.pretraining_of(self._arm, self._seed).data.stores
            checks = quick_checks(self._run, stores, self._seed, pick_device(self._files.study.device))
            self._files.keep_checks(self._arm, self._seed, [asdict(check) for check in checks])

    def _scores(self, task: TaskConfig) -> list[Score]:
        dataset, device = open_dataset(task), pick_device(self._files.study.device)
        self._files.keep_notes(task, dataset.notes)
        backbone = open_backbone(self._arm, dataset.inputs, study=self._files.study, seed=self._seed, run=self._run)
        backbone.to(device)
        if isinstance(dataset, LabelledChips):
            found = classify(backbone, dataset, task, self._seed, device)
            self._files.keep_answers(self._arm, task, self._seed, found.answers)
            return found.scores
        if isinstance(dataset, BoxedScenes):
            return detect(backbone, dataset, task, self._seed, device)
        return segment(backbone, dataset, task, self._seed, device)
