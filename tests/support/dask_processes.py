"""A Dask scheduler and its workers as processes that a test may kill, stop and start again, on one port."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil

from servers.base import wait_until
from support.paths import ROOT

TESTS = ROOT / "tests"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class DaskProcesses:
    """A context; its end kills what is left."""

    def __init__(self, *paths: Path, protocol: str = "tcp", **environment: str) -> None:
        """paths: where the workers find modules, beside the tests' own and before the installed ones."""
        self.port = free_port()
        self.address = f"{protocol}://127.0.0.1:{self.port}"
        self.scheduler: subprocess.Popen | None = None
        self.workers: list[subprocess.Popen] = []
        former = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        search = os.pathsep.join(map(str, [*paths, TESTS, TESTS / "flow", *filter(None, former)]))
        self._environment = {**os.environ, **environment, "PYTHONPATH": search, "PYTHONWARNINGS": "ignore"}
        self._protocol = protocol

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.kill_workers()
        self.kill_scheduler()

    def start(self, workers: int = 1):
        """The scheduler, and so many workers."""
        self.start_scheduler()
        for _ in range(workers):
            self.start_worker()
        return self

    def start_scheduler(self) -> None:
        options = ["--port", str(self.port), "--no-dashboard", "--protocol", self._protocol, "--host", "127.0.0.1"]
        self.scheduler = self._run("dask_scheduler", *options)
        wait_until(self._listens)

    def start_worker(self, folder: Path | None = None, **environment: str) -> subprocess.Popen:
        """folder: where it runs. environment: its own."""
        options = ["--no-nanny", "--nthreads", "1", "--no-dashboard", "--memory-limit", "0"]
        worker = self._run(
            "dask_worker", self.address, *options, "--death-timeout", "60", folder=folder, environment=environment
        )
        self.workers.append(worker)
        return worker

    def kill_workers(self) -> None:
        while self.workers:
            end(self.workers.pop())

    def kill_scheduler(self) -> None:
        if self.scheduler is not None:
            end(self.scheduler)
            self.scheduler = None

    def restart(self, workers: int = 1) -> None:
        """Another scheduler on the same port, and other workers."""
        self.kill_scheduler()
        self.kill_workers()
        self.start(workers)

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def _run(self, module: str, *options: str, folder=None, environment=None) -> subprocess.Popen:
        command = [sys.executable, "-m", f"distributed.cli.{module}", *options]
        silent = subprocess.DEVNULL
        return subprocess.Popen(
            command, cwd=folder, env=self._environment | (environment or {}), stdout=silent, stderr=silent
        )


def end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()


def local_worker_processes() -> list[psutil.Process]:
    """The workers of a local cluster of this process."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            command = " ".join(child.cmdline())
            if "spawn_main" in command and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
    return found


def send(process: psutil.Process | subprocess.Popen, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.Error, ProcessLookupError):
        process.send_signal(number)
