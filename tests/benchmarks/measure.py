"""What the benchmarks share: the machine's description, times that can be trusted, tables, results on disk.

CPU time rather than wall time wherever one thread is measured: others on the machine disturb it less. Variants are
measured in turn, round by round, so that a slow minute hits all of them alike. Results name no host and no folder.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

RESULTS = Path(__file__).parent / "results"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "GDAL_NUM_THREADS": "1"}
PACKAGES = ("numpy", "scipy", "zarr", "numcodecs", "google-crc32c", "rasterio", "numba", "pyarrow", "pandas", "dask")
SAMPLING_S = 0.05  # between two looks at memory
MIB = 2**20


def run_with_one_thread() -> None:
    """Starts this script anew with numerical libraries held to one thread; they read these settings only once."""
    if any(os.environ.get(name) != value for name, value in ONE_THREAD.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ONE_THREAD)  # noqa: S606


def machine() -> dict[str, Any]:
    """Processor, cores, memory, date and versions: all a reader needs to judge the figures."""
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def cpu_model() -> str:
    """The processor's name as Linux tells it, else its architecture."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text(encoding="utf-8").splitlines() if listing.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


@dataclass
class Clock:
    """Seconds by name, one entry a measurement. cpu: this process's user and system time; else wall time."""

    cpu: bool = True
    seconds: dict[str, list[float]] = field(default_factory=dict)

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        """Adds one measurement."""
        now = time.process_time if self.cpu else time.perf_counter
        start = now()
        yield
        self.seconds.setdefault(name, []).append(now() - start)

    def rounds(self, count: int, variants: Mapping[str, Callable[[], object]]) -> None:
        """Measures every variant once a round, in turn."""
        for _ in range(count):
            for name, work in variants.items():
                with self.time(name):
                    work()


@dataclass(frozen=True)
class Spread:
    """Median of repeats with the quartiles around it."""

    median: float
    low: float
    high: float
    repeats: int

    @staticmethod
    def of(values: Sequence[float], scale: float = 1.0) -> Spread:
        """Of one value or more, each times scale."""
        scaled = [value * scale for value in values]
        low, _, high = statistics.quantiles(scaled, n=4, method="inclusive") if len(scaled) > 1 else scaled * 3
        return Spread(statistics.median(scaled), low, high, len(scaled))

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g})"


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished command: wall and CPU seconds (of it and all its children), and the largest resident memory of the
    process itself and of any one process it started."""

    wall_s: float
    cpu_s: float
    main_mib: float
    worker_mib: float


def run_command(command: Sequence[str]) -> Run:
    """Runs a command to its end. Raises RuntimeError with its last words where it fails."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = os.environ | ONE_THREAD
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        watch = _MemoryWatch(process.pid)
        watch.start()
        words, _ = process.communicate()
        watch.join()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {process.returncode}: {words.decode()[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    wall_s = time.perf_counter() - start
    return Run(wall_s=wall_s, cpu_s=cpu_s, main_mib=watch.main / MIB, worker_mib=watch.worker / MIB)


class _MemoryWatch(threading.Thread):
    """Looks at a process and all below it until it is gone; peaks in bytes of resident memory."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._process = psutil.Process(pid)
        self.main = self.worker = 0

    def run(self) -> None:
        try:
            while self._process.status() != psutil.STATUS_ZOMBIE:
                self.main = max(self.main, self._process.memory_info().rss)
                for child in self._process.children(recursive=True):
                    self.worker = max(self.worker, _rss(child))
                time.sleep(SAMPLING_S)
        except psutil.NoSuchProcess:
            return


def _rss(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


@dataclass(frozen=True, kw_only=True)
class Section:
    """One table of a report. rows: cells by column name, written as they are."""

    title: str
    note: str
    rows: Sequence[Mapping[str, Any]]

    def markdown(self) -> str:
        """Heading, note and table."""
        return f"## {self.title}\n\n{self.note}\n\n{table(self.rows)}\n"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A markdown table; columns are the keys of the first row."""
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([cell(row[name]) for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(value: object) -> str:
    """Three digits for what is measured, all digits for what is counted."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def write_results(name: str, title: str, command: str, sections: Sequence[Section]) -> str:
    """Writes results/<name>.json and .md; returns the markdown."""
    facts = machine()
    packages = ", ".join(f"{package} {number}" for package, number in facts["packages"].items())
    head = (
        f"# {title}\n\n`{command}`, {facts['date']}, on {facts['cores']} cores of {facts['cpu']}, "
        f"{facts['memory_gib']} GiB of memory; Python {facts['python']}, {packages}.\n"
    )
    markdown = "\n".join([head, *(section.markdown() for section in sections)])
    content = {"command": command, "machine": facts, "sections": [vars(section) for section in sections]}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1, default=vars) + "\n", encoding="utf-8")
    (RESULTS / f"{name}.md").write_text(markdown, encoding="utf-8")
    return markdown
