"""The scores of a study so far: one file for each arm, task and seed, written whole. All tables are made of these."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np

from sar1m.store import settings
from sar1m.store.durable import write_durably
from sar1m.store.errors import StoreError
from sar1m.store.foreign_text import spreadsheet_cell
from sar1m.store.side_files import read_json
from sarmae.evaluate.scores import I64, Answers, Score
from sarmae.evaluate.study_config import ArmConfig, StudyConfig, TaskConfig, slug

SCORES_DIR: Final = "scores"
ANSWERS_DIR: Final = "answers"
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


class ScoreFiles:
    """Files in the folder of a study. Kept scores are used again when their configuration is exactly the same.

    Images and weights that change while their path stays the same are not noticed: give such a study another folder.
    """

    def __init__(self, study: StudyConfig, folder: Path) -> None:
        self.study = study
        self.folder = folder

    def run(self, arm: ArmConfig, seed: int) -> Path:
        """Folder of the pretraining run of an arm at a seed."""
        return self.folder / RUNS_DIR / slug(arm.name) / f"seed-{seed}"

    def teacher_cache(self, teacher: str) -> Path:
        """Folder of a teacher's features, shared by all arms that learn from it."""
        return self.folder / TEACHERS_DIR / slug(teacher)

    def scores(self, arm: ArmConfig, task: TaskConfig, seed: int) -> list[Score] | None:
        """The scores of one cell; None where there are none for the present configuration."""
        path = self._place(SCORES_DIR, slug(task.name), arm, seed)
        found = _read(path, self._digest(arm, seed, task.model_dump(mode="json")))
        return None if found is None else [Score(**score) for score in found]

    def keep_scores(self, arm: ArmConfig, task: TaskConfig, seed: int, scores: Sequence[Score]) -> None:
        """Writes the scores of one cell. Raises OutputError."""
        asked = self._digest(arm, seed, task.model_dump(mode="json"))
        _write(self._place(SCORES_DIR, slug(task.name), arm, seed), asked, [asdict(score) for score in scores])

    def answers(self, arm: ArmConfig, task: TaskConfig, seed: int) -> Answers | None:
        """The answers of one cell to each tested sample; None where none are kept for the present configuration: they
        are kept for classification alone, and were not kept by the first versions.
        """
        path = self._place(ANSWERS_DIR, slug(task.name), arm, seed)
        found = _read(path, self._digest(arm, seed, task.model_dump(mode="json")))
        try:
            return None if found is None else _answers(*found)
        except (AttributeError, KeyError, TypeError, ValueError):
            return None  # not ours, or damaged

    def keep_answers(self, arm: ArmConfig, task: TaskConfig, seed: int, answers: Answers) -> None:
        """Writes the answers of one cell; before its scores, so that finished scores have them. Raises OutputError."""
        asked = self._digest(arm, seed, task.model_dump(mode="json"))
        predicted = {protocol: _line(found) for protocol, found in answers.predicted.items()}
        record = {"truth": _line(answers.truth), "groups": _line(answers.groups), "predicted": predicted}
        _write(self._place(ANSWERS_DIR, slug(task.name), arm, seed), asked, [record])

    def checks(self, arm: ArmConfig, seed: int) -> list[dict[str, Any]] | None:
        """The quick checks of a pretrained arm at a seed, as records; None where there are none."""
        return _read(self._place(CHECKS_DIR, "", arm, seed), self._digest(arm, seed, {}))

    def keep_checks(self, arm: ArmConfig, seed: int, checks: Sequence[dict[str, Any]]) -> None:
        """Writes the quick checks. Raises OutputError."""
        _write(self._place(CHECKS_DIR, "", arm, seed), self._digest(arm, seed, {}), list(checks))

    def notes(self, task: TaskConfig) -> tuple[str, ...]:
        """The dataset's notes on the images of a task, in sentences; none before the first score."""
        return tuple(map(str, _read(self._notes_place(task), _question(task)) or ()))

    def keep_notes(self, task: TaskConfig, notes: Sequence[str]) -> None:
        """Writes the notes of a task, unless they are there. Raises OutputError."""
        if self.notes(task) != tuple(notes):
            _write(self._notes_place(task), _question(task), list(notes))

    def rows(self) -> Iterator[Row]:
        """All scores, in the order of the study: tasks, arms, seeds."""
        for task in self.study.tasks:
            for arm in self.study.arms:
                for seed in self.study.seeds:
                    for score in self.scores(arm, task, seed) or ():
                        yield Row(task=task.name, arm=arm.name, seed=seed, score=score)

    def _notes_place(self, task: TaskConfig) -> Path:
        return self.folder / SCORES_DIR / slug(task.name) / "images.json"

    def _place(self, kind: str, task: str, arm: ArmConfig, seed: int) -> Path:
        return self.folder / kind / task / slug(arm.name) / f"seed-{seed}.json"

    def _digest(self, arm: ArmConfig, seed: int, question: dict[str, Any]) -> str:
        """Digest of everything that decides a score. Names, and which other arms a task has, decide nothing."""
        encoder = arm.model_dump(mode="json", include={"encoder", "weights"})
        base = self.study.pretraining_of(arm, seed).model_dump(mode="json")
        question = {key: value for key, value in question.items() if key not in {"name", "arms"}}
        return settings.digest_of({"encoder": encoder, "pretrain": base, "seed": seed, "question": question})


def scores_csv(rows: Sequence[Row]) -> bytes:
    """One line for each score, with all digits, so that the same study gives the same bytes."""
    stream = io.StringIO()
    names = [field.name for field in fields(Score)]
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["task", "arm", "seed", *names])
    for row in rows:
        score = asdict(row.score)
        cells = [row.task, row.arm, row.seed, *("" if score[name] is None else score[name] for name in names)]
        writer.writerow([spreadsheet_cell(cell) if isinstance(cell, str) else cell for cell in cells])
    return stream.getvalue().encode()


def _line(numbers: I64) -> str:
    return " ".join(map(str, numbers.tolist()))


def _numbers(line: str) -> I64:
    return np.array([int(word) for word in line.split()], dtype=np.int64)


def _answers(record: dict[str, Any]) -> Answers:
    predicted = {str(protocol): _numbers(line) for protocol, line in record["predicted"].items()}
    answers = Answers(truth=_numbers(record["truth"]), groups=_numbers(record["groups"]), predicted=predicted)
    if {len(column) for column in (answers.groups, *predicted.values())} - {len(answers.truth)}:
        raise ValueError("columns of unequal length")
    return answers


def _question(task: TaskConfig) -> str:
    return settings.digest_of(task.dataset.model_dump(mode="json"))


def _read(path: Path, asked: str) -> list[Any] | None:
    """The kept records; None where they belong to another configuration, or the file is not ours."""
    try:
        kept = read_json(path, error=StoreError, remedy="")
        return list(kept["answers"]) if kept["asked"] == asked else None
    except (StoreError, KeyError, TypeError):
        return None


def _write(path: Path, asked: str, answers: Sequence[Any]) -> None:
    write_durably(path, [json.dumps({"asked": asked, "answers": answers}, indent=1).encode() + b"\n"])
