"""A build killed anywhere resumes to the same bytes. A process of its own forks the builds; see crash_runner.py."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from support.campaigns import campaign
from support.crash_runner import SMALL_BUILD, tree_digest
from support.paths import SUPPORT

RUNNER = SUPPORT / "crash_runner.py"


def run(folder, *arguments):
    command = [sys.executable, RUNNER, folder, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(folder, points):
    (undisturbed,) = run(folder, "count")
    chosen = list(points(undisturbed["changes"]))
    reports = run(folder, "kill", *chosen)
    assert len(reports) == len(chosen)
    for report in reports:
        assert report == {
            "point": report["point"],
            "killed": True,
            "complete_only_if_whole": True,
            "resumed": True,
            "digest": undisturbed["digest"],
            "faults": 0,
        }


def twice(changes):
    """In the midst of the work, and while the store is put in place."""
    return [changes // 2, changes - 5]


def spread(changes):
    """Points over the whole build; the last changes, where the store is put in place, all of them."""
    return sorted({*range(0, changes - 10, changes // 16 + 1), *range(changes - 10, changes)})


@pytest.mark.parametrize("points", [twice, *campaign(spread), pytest.param(range, marks=pytest.mark.long)])
def test_killed_at_points_over_the_whole_build_it_resumes_to_the_same_bytes(tmp_path, points):
    check(tmp_path, points)


@pytest.mark.long
def test_killed_at_random_times_with_workers_it_resumes_to_the_same_bytes(tmp_path):
    """The real command with two worker processes, its whole process group killed 40 times at random moments."""
    config = tmp_path / "small.toml"
    config.write_text(SMALL_BUILD)

    def start(out):
        command = [sys.executable, "-m", "sar1m", "build", "--region", "simulated:12", "--out", out]
        return subprocess.Popen(
            [*command, "--config", config, "--workers", "2"],
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    assert start(tmp_path / "undisturbed").wait() == 0
    digest = tree_digest(tmp_path / "undisturbed")
    rng = random.Random(5)
    for number in range(40):
        out = tmp_path / f"killed-{number}"
        build = start(out)
        time.sleep(rng.uniform(1.0, 8.0))
        if build.poll() is None:
            os.killpg(build.pid, signal.SIGKILL)
        build.wait()
        assert start(out).wait() == 0
        assert tree_digest(out) == digest
        shutil.rmtree(out)
