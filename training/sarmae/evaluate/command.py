"""The command `sarmae evaluate`: a quick evaluation of some encoders, or a whole study from a file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.table import Table

from sar1m.store import settings
from sar1m.store.errors import ConfigError
from sar1m.store.printer import Printer
from sarmae.config import CONFIG_FOLDERS, PretrainConfig
from sarmae.evaluate.score_files import ScoreFiles
from sarmae.evaluate.study import StudyOutcome, run_study
from sarmae.evaluate.study_config import (
    ENCODERS,
    TASK_OF_DATASET,
    ArmConfig,
    DatasetConfig,
    StudyConfig,
    TaskConfig,
    slug,
)
from sarmae.evaluate.summary import ArmResult, main_questions, summarise
from sarmae.terminal import console_watch
from sarmae.train.loop import CONFIG_FILE

STUDY_FOLDERS: Final = tuple(folder / "studies" for folder in CONFIG_FOLDERS)
BASELINES: Final = ("random", "statistics")  # always evaluated too: an encoder must be better than these


def evaluate(
    data: Sequence[str], encoders: Sequence[str], config: str | None, out: Path | None, overrides: Sequence[str]
) -> int:
    """Evaluates encoders and prints the tables. Returns the exit code: 0 where every cell of the study has scores.

    data: KIND:PATH each, with a KIND of TASK_OF_DATASET.
    encoders: as --encoder takes them.
    config: file or name of a study, instead of data and encoders.
    out: folder of the study, studies/<name> by default.
    overrides: KEY=VALUE each.
    Raises ConfigError.
    """
    console = Printer()
    study = settings.override(_study(data, encoders, config), list(overrides))
    folder = Path("studies") / study.name if out is None else out
    outcome = run_study(study, folder, console_watch(console))
    _print_results(console, summarise(ScoreFiles(study, folder)), outcome)
    return outcome.exit_code


def _study(data: Sequence[str], encoders: Sequence[str], name: str | None) -> StudyConfig:
    """The study in a file, or one made of data and encoders. Raises ConfigError."""
    if name is not None:
        if data or encoders:
            raise ConfigError("--config: a study names its own data and encoders; give either --config or DATA.")
        path = settings.find_file(name, STUDY_FOLDERS)
        return settings.parse(StudyConfig, settings.read_text(path), origin=str(path))
    if not data or not encoders:
        raise ConfigError(
            "Give labelled images and at least one --encoder, as in `sarmae evaluate folders:my/chips --encoder "
            "run:runs/base`, or a whole study with --config."
        )
    wrong = [given for given in encoders if not re.match(ENCODERS, given)]
    if wrong:
        raise ConfigError(
            f"--encoder {wrong[0]}: no encoder of that name. Expected run:FOLDER (of a pretraining), file:PATH "
            "(weights), timm:NAME, efficientnet_lite0, random, pixels or statistics."
        )
    tasks = [_task(place) for place in data]
    arms = [ArmConfig(name=given, encoder=given) for given in dict.fromkeys((*encoders, *BASELINES))]
    run = next((given.removeprefix("run:") for given in encoders if given.startswith("run:")), None)
    pretrain = PretrainConfig() if run is None else _config_of(Path(run))
    return StudyConfig(name=slug(tasks[0].name), pretrain=pretrain, arms=tuple(arms), tasks=tuple(tasks))


def _task(place: str) -> TaskConfig:
    kind, _, path = place.partition(":")
    if kind not in TASK_OF_DATASET or not path:
        kinds = ", ".join(f"{kind}:PATH" for kind in TASK_OF_DATASET)
        raise ConfigError(f"{place}: found no kind of data in it; expected {kinds}.")
    return TaskConfig.model_validate(
        {"name": Path(path).name or kind, "kind": TASK_OF_DATASET[kind], "dataset": DatasetConfig(kind=kind, path=path)}
    )


def _config_of(run: Path) -> PretrainConfig:
    """The configuration of a run, so that the random encoder gets the same architecture."""
    path = run / CONFIG_FILE
    return settings.parse(PretrainConfig, settings.read_text(path), origin=str(path))


def _print_results(console: Printer, results: Sequence[ArmResult], outcome: StudyOutcome) -> None:
    by_question = {(result.question, result.arm): result for result in results}
    for task, questions in main_questions(results).items():
        table = Table(title=f"{task}, {questions[0].metric}", title_justify="left", box=None)
        table.add_column("encoder", overflow="fold")
        for question in questions:
            table.add_column(question.protocol, justify="right")
        for arm in dict.fromkeys(result.arm for result in results if result.question.task == task):
            answers = [by_question.get((question, arm)) for question in questions]
            table.add_row(arm, *("–" if answer is None else answer.text for answer in answers))
        console.print(table)
    watch = console_watch(console)
    for failure in outcome.failures:
        watch.note(f"No scores: {failure}")
    if outcome.answered < outcome.asked and not outcome.failures:
        watch.note("Stopped before the end. The same command resumes.")
    watch.note(
        f"{outcome.answered} of {outcome.asked} cells (an arm, a seed and a task each) have scores. "
        f"Page: {outcome.report}"
    )
