"""A release killed anywhere is absent or whole, and the same command then gives the same bytes."""

import json
import subprocess
import sys

import pytest

from support.campaigns import campaign
from support.paths import SUPPORT

RUNNER = SUPPORT / "release_crash_runner.py"


def run(build, folder, *arguments):
    command = [sys.executable, RUNNER, build, folder, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(build, folder, points):
    (undisturbed,) = run(build, folder, "count")
    chosen = list(points(undisturbed["changes"]))
    reports = run(build, folder, "kill", *chosen)
    assert len(reports) == len(chosen) > 0
    for report in reports:
        assert report == {
            "point": report["point"],
            "killed": True,
            "whole_or_absent": True,
            "resumed": True,
            "digest": undisturbed["digest"],
            "left_over": False,
        }


def twice(changes):
    """In the midst of the work, and before the rename that makes the release visible."""
    return [changes // 2, changes - 2]


def spread(changes):
    """Points over the whole, the rename that makes it visible and what follows among them."""
    return sorted({*range(0, changes - 6, changes // 10), *range(changes - 6, changes)})


@pytest.mark.parametrize("points", [twice, *campaign(spread)])
def test_killed_at_points_over_the_whole_release(built, tmp_path, points):
    check(built.part, tmp_path, points)


@pytest.mark.long
def test_killed_at_every_change(built, tmp_path):
    check(built.large, tmp_path, range)
