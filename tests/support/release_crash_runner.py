"""Makes a release many times, killing it at chosen points, and reports what the same command gives afterwards.

    python release_crash_runner.py BUILD FOLDER count                 file-system changes of an undisturbed release
    python release_crash_runner.py BUILD FOLDER kill POINT [POINT..]  SIGKILL before each of these, then again

Forks as crash_runner does, with whose changes it counts. Prints one JSON object a line.
"""

import json
import os
import signal
import sys
from pathlib import Path

from sar1m.releases.make import ReleaseRequest, make_release
from sar1m.releases.verification import verify_release
from support import crash_runner
from support.crash_runner import Silence, count_changes, in_child, killed_at, tree_digest


def main() -> None:
    build, folder, task, *points = sys.argv[1:]

    def make(out: Path) -> None:
        make_release([Path(build)], out, ReleaseRequest(version="1.0.0", check_builds=False), Silence())

    crash_runner.run_build = make  # what count_changes and killed_at run
    if task == "count":
        out = Path(folder) / "undisturbed"
        print(json.dumps({"changes": count_changes(out), "digest": tree_digest(out)}), flush=True)
    for point in map(int, points):
        out = Path(folder) / f"killed-{point}"
        killed = in_child(killed_at(out, point))
        whole = not out.exists() or verify_release(out, Silence()).faults == ()
        again = in_child(lambda out=out: make(out))
        report = {
            "point": point,
            "killed": os.WIFSIGNALED(killed) and os.WTERMSIG(killed) == signal.SIGKILL,
            "whole_or_absent": whole,
            "resumed": again == 0,
            "digest": tree_digest(out),
            "left_over": (out.with_name(out.name + ".making")).exists(),
        }
        print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
