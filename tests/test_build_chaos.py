"""Whole builds under bursts of kills, restarts of the scheduler and a worker that is cut off: the same bytes."""

import random
import signal
import threading
import time

import pytest

from sar1m.building import BuildRequest, build
from sar1m.config import parse_config
from sar1m.flow import WorkersSettings
from servers.base import wait_until
from support.crash_runner import SMALL_BUILD, Silence, tree_digest
from support.dask_processes import DaskProcesses, local_worker_processes, send
from support.hang_guard import STUCK_S
from support.once import once

pytestmark = pytest.mark.long

CONFIG = parse_config(SMALL_BUILD, origin="small")
CELLS = 24
KILLS, RESTARTS = 15, 5  # a seed, of four each
SEEDS = range(4)


def run(out, **where):
    settings = WorkersSettings(**where)
    return build(BuildRequest(region=f"simulated:{CELLS}", out=out, config=CONFIG, workers=settings), Silence())


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    def make(folder):
        run(folder, workers=0)
        return tree_digest(folder)

    return once(tmp_path_factory, "calm-build", make)


def staged(out):
    return len(list((out / "staging").glob("*/??/*.zip")))


def beside(disturb, out):
    """Runs disturb once the first block is staged, beside the build."""

    def waiting():
        wait_until(lambda: staged(out) > 0)
        disturb()

    thread = threading.Thread(target=waiting)
    thread.start()
    return thread


@pytest.mark.parametrize("seed", SEEDS)
def test_bursts_of_kills(seed, tmp_path, calm):
    """An item whose workers were killed three times, and three times more alone, is named; the next run prepares it."""
    draw, killed = random.Random(seed), []

    def burst():
        while len(killed) < KILLS and not (tmp_path / "BUILD_COMPLETE.json").exists():
            for process in local_worker_processes()[: KILLS - len(killed)]:
                send(process, signal.SIGKILL)
                killed.append(process.pid)
            time.sleep(draw.uniform(0.5, 3))

    thread = beside(burst, tmp_path)
    summary = run(tmp_path, workers=2, patience_s=STUCK_S)
    thread.join()
    assert killed
    assert {item.error for item in summary.failed} <= {"WorkerDied"}
    if summary.failed:
        run(tmp_path, workers=0)
    assert tree_digest(tmp_path) == calm


@pytest.mark.parametrize("seed", SEEDS)
def test_schedulers_that_restart(seed, tmp_path, calm):
    draw = random.Random(seed)
    with DaskProcesses().start() as dask:

        def restart():
            for _ in range(RESTARTS):
                before = staged(tmp_path)
                dask.restart()
                wait_until(lambda before=before: staged(tmp_path) > before or staged(tmp_path) == CELLS)
                time.sleep(draw.uniform(0, 1))

        thread = beside(restart, tmp_path)
        summary = run(tmp_path, scheduler=dask.address, patience_s=STUCK_S)
        thread.join()
    assert summary.failed == ()
    assert tree_digest(tmp_path) == calm


def test_a_worker_that_is_cut_off(tmp_path, calm):
    with DaskProcesses().start(workers=2) as dask:
        thread = beside(lambda: send(dask.workers[0], signal.SIGSTOP), tmp_path)
        summary = run(tmp_path, scheduler=dask.address, patience_s=20)
        thread.join()
    assert summary.failed == ()
    assert tree_digest(tmp_path) == calm
