"""A study: every arm, at every seed, is evaluated on every task. Finished scores are kept, so the same command resumes.

    for arm, seed:   pretrain (or open) -> backbone -> for task: scores -> scores/<task>/<arm>/seed-<n>.json
    then:            scores.csv, summary.md, report.html, made of these files alone

One process with one thread evaluates an arm at a seed. All random draws are keyed by seed and name, and tables are in
the order of the study. So on a CPU the same study gives the same scores bit for bit, for any number of processes and
after any interruption.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Final

import torch

from sar1m.store import settings
from sar1m.store.durable import make_folders, nothing_left_behind, write_durably, writing_to
from sar1m.store.errors import Sar1mError
from sar1m.store.file_lock import locked_file
from sar1m.store.progress import Watch
from sarmae.config import PretrainConfig
from sarmae.evaluate.arm_evaluation import ArmEvaluation
from sarmae.evaluate.data_check import check_data
from sarmae.evaluate.extra_packages import extra_package
from sarmae.evaluate.overhead_table import write_overhead
from sarmae.evaluate.report.study_page import write_report
from sarmae.evaluate.score_files import ScoreFiles
from sarmae.evaluate.study_config import ArmConfig, StudyConfig, TaskConfig
from sarmae.sarc.cache_writer import write_cache
from sarmae.sarc.teachers import NO_TEACHER
from sarmae.train.loop import Progress, pretrain
from sarmae.train.preemption import Preemption

STUDY_FILE: Final = "study.toml"
PROGRESS_LINES: Final = 4  # notes of one pretraining run


@dataclass(frozen=True, kw_only=True)
class StudyOutcome:
    """How a study ended.

    answered, asked: number of scored and of all cells. A cell is an arm, a seed and a task.
    failures: one sentence for each cell, arm or process that failed.
    report: path of the page.
    """

    answered: int
    asked: int
    failures: tuple[str, ...]
    exit_code: int
    report: Path


@dataclass(frozen=True, kw_only=True)
class _Cell:
    """The work of one process: an arm at a seed, on all its tasks."""

    study: StudyConfig
    folder: Path
    arm: ArmConfig
    seed: int

    @property
    def name(self) -> str:
        return f"{self.arm.name}, seed {self.seed}"


def run_study(study: StudyConfig, folder: Path, watch: Watch) -> StudyOutcome:
    """Evaluates every cell that has no scores yet, then writes the tables and the page of all scores.

    study: what is evaluated.
    folder: of the study; it keeps scores, runs and the page.
    watch: gets one note for every finished task.
    Returns counts and failures: a failure of one cell does not stop the others. Raises, before anything is computed:
    ConfigError for an arm that has no valid configuration and for a package that is not installed, OutputError for a
    folder that cannot be made, and the errors of check_data for images that a task without scores cannot use. Then
    nothing is written, and a folder that was not there is not there.
    """
    for module in ("jinja2", "matplotlib", "scipy", "sklearn"):
        extra_package(module, "a study")  # an error now, not after hours
    files = ScoreFiles(study, folder)
    cells = [_Cell(study=study, folder=folder, arm=arm, seed=seed) for seed in study.seeds for arm in study.arms]
    for cell in cells:
        study.pretraining_of(cell.arm, cell.seed)  # a wrong key is an error now, not after hours
    open_cells = [cell for cell in cells if _is_open(files, cell)]
    with nothing_left_behind(folder, keep=STUDY_FILE):
        with writing_to(folder):
            make_folders(folder)
        check_data((task for task in study.tasks if _is_unanswered(files, task)), watch)
    write_durably(folder / STUDY_FILE, [settings.to_toml(study).encode()])
    with Preemption() as preemption:
        _write_teachers(files, watch)
        watch.note(f"{len(cells)} arms and seeds, {len(cells) - len(open_cells)} of them answered already.")
        failures = _work_off(open_cells, preemption, watch)
    if study.analyses.overhead and not preemption.asked:
        write_overhead(files, watch)
    answers = [files.scores(cell.arm, task, cell.seed) for cell in cells for task in study.tasks_of(cell.arm)]
    return StudyOutcome(
        answered=sum(scores is not None for scores in answers),
        asked=len(answers),
        failures=tuple(failures),
        exit_code=preemption.exit_code if preemption.asked else int(bool(failures)),
        report=write_report(files, failures),
    )


def _is_open(files: ScoreFiles, cell: _Cell) -> bool:
    """Whether a cell lacks scores or its quick checks."""
    unanswered = any(files.scores(cell.arm, task, cell.seed) is None for task in cell.study.tasks_of(cell.arm))
    checked = not cell.study.analyses.quick_checks or cell.arm.encoder is not None
    return unanswered or not (checked or files.checks(cell.arm, cell.seed) is not None)


def _is_unanswered(files: ScoreFiles, task: TaskConfig) -> bool:
    """Whether an arm that has this task lacks scores of it at a seed."""
    asked = [arm for arm in files.study.arms if task in files.study.tasks_of(arm)]
    return any(files.scores(arm, task, seed) is None for arm in asked for seed in files.study.seeds)


def _write_teachers(files: ScoreFiles, watch: Watch) -> None:
    """Caches the features of every teacher that an arm learns from, once for all arms."""
    teachers: dict[str, PretrainConfig] = {}
    for arm in files.study.arms:
        config = files.study.pretraining_of(arm, files.study.seeds[0])
        if files.study.cache_teachers and arm.encoder is None and config.sarc.cache is None:
            teachers.setdefault(config.sarc.teacher, config)
    for teacher, config in teachers.items():
        if teacher != NO_TEACHER:
            watch.note(f"Teacher {teacher}: {files.teacher_cache(teacher)}")
            write_cache(config, files.teacher_cache(teacher), watch)


# ---- processes ----


def _work_off(cells: list[_Cell], preemption: Preemption, watch: Watch) -> list[str]:
    """Runs the cells, study.processes at a time. Returns one sentence for each failure."""
    context = multiprocessing.get_context("spawn")
    messages: SimpleQueue[tuple[str, bool] | None] = context.SimpleQueue()
    failures: list[str] = []
    listener = threading.Thread(target=_listen, args=(messages, watch, failures))
    listener.start()
    waiting, running = list(reversed(cells)), dict[SpawnProcess, _Cell]()
    try:
        while (waiting or running) and not (preemption.asked and not running):
            while waiting and not preemption.asked and len(running) < cells[0].study.processes:
                cell = waiting.pop()
                process = context.Process(target=_work, args=(cell, messages), daemon=True)
                _start_deaf_to_ctrl_c(process)
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
        messages.put(None)
        listener.join()
    return sorted(failures)


def _start_deaf_to_ctrl_c(process: SpawnProcess) -> None:
    """Starts it with SIGINT blocked, which a terminal sends to all: the study stops its processes itself."""
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _listen(messages: SimpleQueue[tuple[str, bool] | None], watch: Watch, failures: list[str]) -> None:
    while (line := messages.get()) is not None:
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


class _CellWatch:
    """The watch in the process of a cell. It sends its notes to the process of the study."""

    def __init__(self, cell: _Cell, messages: SimpleQueue[tuple[str, bool] | None]) -> None:
        self._name = cell.name
        self._messages = messages

    def note(self, text: str) -> None:
        self._messages.put((f"{self._name}: {text}", False))

    def failed(self, text: str) -> None:
        """A note on what failed."""
        self._messages.put((f"{self._name}: {text}", True))


class _Quarters:
    """Reports a pretraining run at each quarter of its steps."""

    def __init__(self, watch: _CellWatch) -> None:
        self._watch = watch
        self._quarter = 0

    def __call__(self, progress: Progress) -> None:
        quarter = progress.step * PROGRESS_LINES // progress.steps
        if quarter > self._quarter:
            self._quarter = quarter
            self._watch.note(f"pretraining, step {progress.step} of {progress.steps}, loss {progress.loss:.4f}")


def _work(cell: _Cell, messages: SimpleQueue[tuple[str, bool] | None]) -> None:
    """The whole process of a cell."""
    torch.set_num_threads(1)
    watch = _CellWatch(cell, messages)
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    files = ScoreFiles(cell.study, cell.folder)
    folder = files.run(cell.arm, cell.seed)
    with locked_file(folder.with_name(f".{folder.name}.lock")):  # a forgotten process may still work on this cell
        try:
            run = _pretrained(files, cell, watch)
        except Sar1mError as error:
            watch.failed(str(error))
            return
        evaluation = ArmEvaluation(files, cell.arm, cell.seed, run)
        for task in cell.study.tasks_of(cell.arm):
            if files.scores(cell.arm, task, cell.seed) is None:
                try:
                    watch.note(evaluation.score_task(task))
                except Sar1mError as error:
                    watch.failed(f"{task.name}: {error}")
        if cell.study.analyses.quick_checks and run is not None:
            evaluation.check_quickly()


def _pretrained(files: ScoreFiles, cell: _Cell, watch: _CellWatch) -> Path | None:
    """The finished run of an arm; None for an arm that is not pretrained here. Ends the process, with the run's exit
    code, where the run was asked to stop.
    """
    if cell.arm.encoder is not None:
        return None
    config, run = cell.study.pretraining_of(cell.arm, cell.seed), files.run(cell.arm, cell.seed)
    if cell.study.cache_teachers and config.sarc.teacher != NO_TEACHER and config.sarc.cache is None:
        cache = str(files.teacher_cache(config.sarc.teacher))
        config = config.model_copy(update={"sarc": config.sarc.model_copy(update={"cache": cache})})
    outcome = pretrain(config, run, on_log=_Quarters(watch))
    if outcome.exit_code:
        raise SystemExit(outcome.exit_code)
    return run


def _stop_with_parent() -> None:
    """Ends this process when its parent is gone, after saving, so that a killed study leaves no process behind."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
