"""Starting runs in processes of their own, watching their memory, and keeping what they measured."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from loader_peers.memory import own_bytes, proportional_sizes
from measure import ONE_THREAD

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
LOOK_S = 0.5  # between two looks at memory
TIMEOUT_S = 600

Mode = tuple[str, int]  # label of a contender, its workers


class RunError(Exception):
    """A run that ended badly, with its last words."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One run: figures of one_run.Figures and the largest memory of the process tree, in bytes: own (anonymous and
    shared, as proportional set size) and with mapped files."""

    figures: dict[str, Any]
    own_bytes: int
    mapped_bytes: int
    resident_before: float

    @property
    def rate(self) -> float:
        """Samples a second."""
        return float(self.figures["samples"] / self.figures["wall_s"])

    @property
    def cpu_s_per_1000(self) -> float:
        """CPU seconds a thousand samples."""
        return float(1000 * self.figures["cpu_s"] / self.figures["samples"])


@dataclass(frozen=True)
class Launcher:
    """Runs one_run.py under an interpreter that has the peers."""

    python: Path

    def __call__(self, *words: object, watch: Callable[[int], None] = lambda _pid: None) -> dict[str, Any]:
        """Its last line of output. Raises RunError where it fails or takes longer than TIMEOUT_S."""
        paths = (ROOT / "training", ROOT / "pipeline", HERE.parent)
        environment = os.environ | ONE_THREAD | {"PYTHONPATH": os.pathsep.join(map(str, paths))}
        command = [str(self.python), "-m", "loader_peers.one_run", *map(str, words)]
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        ) as process:
            watch(process.pid)
            try:
                told, complaint = process.communicate(timeout=TIMEOUT_S)
            except subprocess.TimeoutExpired as error:
                raise RunError(f"took longer than {TIMEOUT_S} s") from error
            finally:
                _end_group(process.pid)
        if process.returncode:
            raise RunError(" ".join(complaint.decode(errors="replace").split())[-400:] or f"exit {process.returncode}")
        return dict(json.loads(told.decode().strip().splitlines()[-1]))


def _end_group(group: int) -> None:
    """Workers that a run left behind would disturb the next."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


class MemoryWatch(threading.Thread):
    """Peaks of a process tree, in bytes of proportional set size, until it is gone."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.own, self.mapped = pid, 0, 0

    def run(self) -> None:
        """Looks every LOOK_S."""
        while psutil.pid_exists(self.pid):
            try:
                tree = [self.pid, *(child.pid for child in psutil.Process(self.pid).children(recursive=True))]
            except psutil.NoSuchProcess:
                return
            sizes = [proportional_sizes(pid) for pid in tree]
            self.own = max(self.own, sum(map(own_bytes, sizes)))
            self.mapped = max(self.mapped, sum(size.get("Pss", 0) for size in sizes))
            time.sleep(LOOK_S)


@dataclass
class Ledger:
    """Results by mode, one a round; what failed, by label."""

    warm: dict[Mode, list[Result]] = field(default_factory=lambda: defaultdict(list))
    cold: dict[Mode, list[Result]] = field(default_factory=lambda: defaultdict(list))
    failed: dict[str, str] = field(default_factory=dict)

    def ratio(self, one: Mode, other: Mode, of: Callable[[Result], float]) -> float:
        """Median over the warm rounds of one's figure over the other's in the same round."""
        return median(of(a) / of(b) for a, b in zip(self.warm[one], self.warm[other], strict=False))

    def best(self, modes: Sequence[Mode], of: Callable[[Result], float], *, largest: bool) -> Mode:
        """Which of some modes has the largest or smallest median, warm."""
        return (max if largest else min)(modes, key=lambda mode: median(map(of, self.warm[mode])))
