"""A study: every arm at every seed answers every task. What is done is kept; the same command goes on.

    for arm, seed:   pretrain (or open) -> backbone -> for task: scores -> scores/<task>/<arm>/seed-<n>.json
    then:            scores.csv, summary.md, report.html, of these files alone

An arm at a seed is one process with one thread. All draws are keyed by seed and name and tables are in the study's
order, so on a CPU the same study gives the same scores bit for bit, whatever the processes and the interruptions.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Final

import torch

from sar1m.store import settings
from sar1m.store.durable import write_durably
from sar1m.store.errors import Sar1mError
from sar1m.store.progress import Watch
from sarmae.config import PretrainConfig
from sarmae.evaluate.answers import Answering
from sarmae.evaluate.extra_packages import extra_package
from sarmae.evaluate.overhead_table import write_overhead
from sarmae.evaluate.report.study_page import write_report
from sarmae.evaluate.score_files import Kept, pretraining
from sarmae.evaluate.study_config import ArmConfig, StudyConfig
from sarmae.sarc.cache_writer import write_cache
from sarmae.sarc.teachers import NO_TEACHER
from sarmae.train.loop import Progress, pretrain
from sarmae.train.preemption import Preemption

STUDY_FILE: Final = "study.toml"
TOLD_SHARES: Final = 4  # lines a pretraining run


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a study ended. answered, asked: cells (an arm, a seed, a task). failures: why others did not answer."""

    answered: int
    asked: int
    failures: tuple[str, ...]
    exit_code: int
    report: Path


@dataclass(frozen=True, kw_only=True)
class _Cell:
    """One process's work: an arm at a seed, all tasks."""

    study: StudyConfig
    folder: Path
    arm: ArmConfig
    seed: int

    @property
    def name(self) -> str:
        """For lines and errors."""
        return f"{self.arm.name}, seed {self.seed}"


def run_study(study: StudyConfig, folder: Path, watch: Watch) -> Outcome:
    """Answers what is not answered yet, then writes the tables and the page of all that is.

    Raises ConfigError before anything is computed where an arm's or a task's configuration cannot be; what fails later
    is told in the outcome, and everything else goes on.
    """
    for module in ("jinja2", "matplotlib", "scipy", "sklearn"):
        extra_package(module, "a study")  # said now, not after hours
    kept = Kept(study, folder)
    cells = [_Cell(study=study, folder=folder, arm=arm, seed=seed) for seed in study.seeds for arm in study.arms]
    for cell in cells:
        pretraining(study, cell.arm, cell.seed)  # a wrong key is told now, not after hours
    write_durably(folder / STUDY_FILE, [settings.to_toml(study).encode()])
    with Preemption() as preemption:
        _write_teachers(kept, watch)
        open_cells = [cell for cell in cells if _is_open(kept, cell)]
        watch.note(f"{len(cells)} arms and seeds, {len(cells) - len(open_cells)} of them answered already.")
        failures = _work_off(open_cells, preemption, watch)
    if study.analyses.overhead and not preemption.asked:
        write_overhead(kept, watch)
    answers = [kept.scores(cell.arm, task, cell.seed) for cell in cells for task in study.tasks_of(cell.arm)]
    return Outcome(
        answered=sum(scores is not None for scores in answers),
        asked=len(answers),
        failures=tuple(failures),
        exit_code=preemption.exit_code if preemption.asked else int(bool(failures)),
        report=write_report(kept, failures),
    )


def _is_open(kept: Kept, cell: _Cell) -> bool:
    """Whether a cell has anything left to do."""
    unanswered = any(kept.scores(cell.arm, task, cell.seed) is None for task in cell.study.tasks_of(cell.arm))
    checked = not cell.study.analyses.quick_checks or cell.arm.encoder is not None
    return unanswered or not (checked or kept.checks(cell.arm, cell.seed) is not None)


def _write_teachers(kept: Kept, watch: Watch) -> None:
    """Features of every teacher that an arm learns from, once for all of them."""
    teachers: dict[str, PretrainConfig] = {}
    for arm in kept.study.arms:
        config = pretraining(kept.study, arm, kept.study.seeds[0])
        if kept.study.cache_teachers and arm.encoder is None and config.sarc.cache is None:
            teachers.setdefault(config.sarc.teacher, config)
    for teacher, config in teachers.items():
        if teacher != NO_TEACHER:
            watch.note(f"Teacher {teacher}: {kept.teacher_cache(teacher)}")
            write_cache(config, kept.teacher_cache(teacher), watch)


# ---- processes ----


def _work_off(cells: list[_Cell], preemption: Preemption, watch: Watch) -> list[str]:
    """Runs the cells, so many at a time; gives one sentence for everything that failed."""
    context = multiprocessing.get_context("spawn")
    told: SimpleQueue[tuple[str, bool] | None] = context.SimpleQueue()
    failures: list[str] = []
    listener = threading.Thread(target=_listen, args=(told, watch, failures))
    listener.start()
    waiting, running = list(reversed(cells)), dict[SpawnProcess, _Cell]()
    try:
        while (waiting or running) and not (preemption.asked and not running):
            while waiting and not preemption.asked and len(running) < cells[0].study.processes:
                cell = waiting.pop()
                process = context.Process(target=_work, args=(cell, told), daemon=True)
                process.start()
                running[process] = cell
            connection.wait([process.sentinel for process in running], timeout=0.5)
            if preemption.asked:
                _ask_to_stop(running)
            for process in [process for process in running if not process.is_alive()]:
                _bury(process, running.pop(process), preemption, failures)
    finally:
        _ask_to_stop(running)
        for process in running:
            process.join()
        told.put(None)
        listener.join()
    return sorted(failures)


def _listen(told: SimpleQueue[tuple[str, bool] | None], watch: Watch, failures: list[str]) -> None:
    while (line := told.get()) is not None:
        text, failed = line
        watch.note(text)
        if failed:
            failures.append(text)


def _ask_to_stop(running: dict[SpawnProcess, _Cell]) -> None:
    for process in running:
        process.terminate()


def _bury(process: SpawnProcess, cell: _Cell, preemption: Preemption, failures: list[str]) -> None:
    process.join()
    if process.exitcode and not preemption.asked:
        failures.append(
            f"{cell.name}: its process ended with exit code {process.exitcode}; 0 expected (-9: killed, perhaps for "
            "want of memory). What it had finished is kept; the same command goes on."
        )


class _Told:
    """A watch of a cell's process: its lines go to the study's."""

    def __init__(self, cell: _Cell, told: SimpleQueue[tuple[str, bool] | None]) -> None:
        self._name = cell.name
        self._told = told

    def note(self, text: str) -> None:
        """One line."""
        self._told.put((f"{self._name}: {text}", False))

    def failed(self, text: str) -> None:
        """One line on what did not work."""
        self._told.put((f"{self._name}: {text}", True))


class _Quarters:
    """Reports a pretraining run at each quarter of its steps."""

    def __init__(self, told: _Told) -> None:
        self._told = told
        self._quarter = 0

    def __call__(self, progress: Progress) -> None:
        """One log step."""
        quarter = progress.step * TOLD_SHARES // progress.steps
        if quarter > self._quarter:
            self._quarter = quarter
            self._told.note(f"pretraining, step {progress.step} of {progress.steps}, loss {progress.loss:.4f}")


def _work(cell: _Cell, told: SimpleQueue[tuple[str, bool] | None]) -> None:
    """A cell's process, from beginning to end."""
    torch.set_num_threads(1)
    watch = _Told(cell, told)
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    kept = Kept(cell.study, cell.folder)
    with _alone(kept.run(cell.arm, cell.seed)):
        try:
            run = _pretrained(kept, cell, watch)
        except Sar1mError as error:
            watch.failed(str(error))
            return
        answering = Answering(kept, cell.arm, cell.seed, run)
        for task in cell.study.tasks_of(cell.arm):
            if kept.scores(cell.arm, task, cell.seed) is None:
                try:
                    watch.note(answering.answer(task))
                except Sar1mError as error:
                    watch.failed(f"{task.name}: {error}")
        if cell.study.analyses.quick_checks and run is not None:
            answering.check_quickly()


def _pretrained(kept: Kept, cell: _Cell, watch: _Told) -> Path | None:
    """The finished run of a cell's arm; None for an arm that is not pretrained here. Leaves the process when asked to
    stop on the way."""
    if cell.arm.encoder is not None:
        return None
    config, run = pretraining(cell.study, cell.arm, cell.seed), kept.run(cell.arm, cell.seed)
    if cell.study.cache_teachers and config.sarc.teacher != NO_TEACHER and config.sarc.cache is None:
        cache = str(kept.teacher_cache(config.sarc.teacher))
        config = config.model_copy(update={"sarc": config.sarc.model_copy(update={"cache": cache})})
    outcome = pretrain(config, run, on_log=_Quarters(watch))
    if outcome.exit_code:
        raise SystemExit(outcome.exit_code)
    return run


def _stop_with_parent() -> None:
    """A study that was killed leaves no process behind: what is under way is saved and ends."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time works on a cell; the next waits for a forgotten one to end."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
