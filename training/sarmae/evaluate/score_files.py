"""What a study has found so far: one file of scores an arm, task and seed, written whole; tables are made of these."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from sar1m.store import settings
from sar1m.store.durable import write_durably
from sar1m.store.errors import ConfigError
from sarmae.config import PretrainConfig
from sarmae.evaluate.study_config import ArmConfig, StudyConfig, TaskConfig, slug
from sarmae.evaluate.values import Score

SCORES_DIR: Final = "scores"
CHECKS_DIR: Final = "quick-checks"
RUNS_DIR: Final = "runs"
TEACHERS_DIR: Final = "teachers"
SCORES_FILE: Final = "scores.csv"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A score with the arm, task and seed it belongs to."""

    task: str
    arm: str
    seed: int
    score: Score


class Kept:
    """Files of a study's folder. An answer is taken again when what was asked is word for word the same.

    Images and weights that change behind a path are not noticed: give such a study another folder.
    """

    def __init__(self, study: StudyConfig, folder: Path) -> None:
        self.study = study
        self.folder = folder

    def run(self, arm: ArmConfig, seed: int) -> Path:
        """Folder of the pretraining run of an arm at a seed."""
        return self.folder / RUNS_DIR / slug(arm.name) / f"seed-{seed}"

    def teacher_cache(self, teacher: str) -> Path:
        """Folder of a teacher's features, for all arms that learn from it."""
        return self.folder / TEACHERS_DIR / slug(teacher)

    def scores(self, arm: ArmConfig, task: TaskConfig, seed: int) -> list[Score] | None:
        """The scores of one cell; None where there are none yet for what is asked now."""
        path = self._place(SCORES_DIR, slug(task.name), arm, seed)
        found = _read(path, self._asked(arm, seed, task.model_dump(mode="json")))
        return None if found is None else [Score(**score) for score in found]

    def keep_scores(self, arm: ArmConfig, task: TaskConfig, seed: int, scores: Sequence[Score]) -> None:
        """Writes one cell. Raises OutputError."""
        asked = self._asked(arm, seed, task.model_dump(mode="json"))
        _write(self._place(SCORES_DIR, slug(task.name), arm, seed), asked, [asdict(score) for score in scores])

    def checks(self, arm: ArmConfig, seed: int) -> list[dict[str, Any]] | None:
        """The quick checks of a pretrained arm at a seed, as records; None where there are none yet."""
        return _read(self._place(CHECKS_DIR, "", arm, seed), self._asked(arm, seed, {}))

    def keep_checks(self, arm: ArmConfig, seed: int, checks: Sequence[dict[str, Any]]) -> None:
        """Writes them. Raises OutputError."""
        _write(self._place(CHECKS_DIR, "", arm, seed), self._asked(arm, seed, {}), list(checks))

    def notes(self, task: TaskConfig) -> tuple[str, ...]:
        """What a task's images are, in sentences; none before the first answer."""
        return tuple(map(str, _read(self._notes_place(task), _question(task)) or ()))

    def keep_notes(self, task: TaskConfig, notes: Sequence[str]) -> None:
        """Writes them, where they are not there yet. Raises OutputError."""
        if self.notes(task) != tuple(notes):
            _write(self._notes_place(task), _question(task), list(notes))

    def rows(self) -> Iterator[Row]:
        """All scores there are, in the order of the study's tasks, arms and seeds."""
        for task in self.study.tasks:
            for arm in self.study.arms:
                for seed in self.study.seeds:
                    for score in self.scores(arm, task, seed) or ():
                        yield Row(task=task.name, arm=arm.name, seed=seed, score=score)

    def _notes_place(self, task: TaskConfig) -> Path:
        return self.folder / SCORES_DIR / slug(task.name) / "images.json"

    def _place(self, kind: str, task: str, arm: ArmConfig, seed: int) -> Path:
        return self.folder / kind / task / slug(arm.name) / f"seed-{seed}.json"

    def _asked(self, arm: ArmConfig, seed: int, question: dict[str, Any]) -> str:
        """Digest of everything that decides an answer; names, and which other arms are asked, decide nothing."""
        encoder = arm.model_dump(mode="json", include={"encoder", "weights"})
        base = pretraining(self.study, arm, seed).model_dump(mode="json")
        question = {key: value for key, value in question.items() if key not in {"name", "arms"}}
        return settings.digest_of({"encoder": encoder, "pretrain": base, "seed": seed, "question": question})


def pretraining(study: StudyConfig, arm: ArmConfig, seed: int) -> PretrainConfig:
    """The pretraining configuration of an arm at a seed. Raises ConfigError that names the arm."""
    try:
        config = settings.override(study.pretrain, arm.set)
    except ConfigError as error:
        raise ConfigError(f"arm {arm.name!r}: {error}") from error
    return config.model_copy(update={"train": config.train.model_copy(update={"seed": seed, "device": study.device})})


def scores_csv(rows: Sequence[Row]) -> bytes:
    """One line a score; figures in full, so that the same study gives the same bytes."""
    stream = io.StringIO()
    names = [field.name for field in fields(Score)]
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["task", "arm", "seed", *names])
    for row in rows:
        told = asdict(row.score)
        writer.writerow([row.task, row.arm, row.seed, *("" if told[name] is None else told[name] for name in names)])
    return stream.getvalue().encode()


def _question(task: TaskConfig) -> str:
    return settings.digest_of(task.dataset.model_dump(mode="json"))


def _read(path: Path, asked: str) -> list[Any] | None:
    """What is kept for a question; None for another question's answer, and for a file that is none of ours."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return list(kept["answers"]) if kept["asked"] == asked else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, asked: str, answers: Sequence[Any]) -> None:
    write_durably(path, [json.dumps({"asked": asked, "answers": answers}, indent=1).encode() + b"\n"])
