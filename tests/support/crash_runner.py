"""Runs a small build many times in one process tree, killing it at chosen points, and reports what resuming gives.

    python crash_runner.py FOLDER count                 how many file-system changes an undisturbed build makes
    python crash_runner.py FOLDER kill POINT [POINT..]  SIGKILL before each of these changes, then the same build again

A change is a rename, a removal, a new folder, a file opened for writing, or an fsync. The process forks for every
build, so that the libraries are imported once. Prints one JSON object a line.
"""

import contextlib
import hashlib
import json
import os
import signal
import stat
import sys
from pathlib import Path

from sar1m.building import BuildRequest, build
from sar1m.config import parse_config
from sar1m.flow import WorkersSettings
from sar1m.store.schema import SCRATCH_DIRS
from sar1m.store.seal import verify

SMALL_BUILD = """
name = "crash"
[grid]
patch_px = 64
patches_per_side = 2
halo_px = 8
[registration]
search_px = 8
self_test_share = 0.5
[screening]
min_dynamic_range_db = 0.0
max_cloud_frac = 0.3
[split]
block_km = 20.0
buffer_km = 1.0
val_share = 0.2
test_share = 0.2
[pack]
shard_samples = 4
[balance]
max_unpaired_share = 0.6
"""
REGION = "simulated:4"
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir"}


class Silence:
    """A Watch nobody looks at."""

    def stage(self, title, total):
        return contextlib.nullcontext(lambda: None)

    def note(self, text):
        pass


def run_build(out: Path) -> None:
    config = parse_config(SMALL_BUILD, origin="small")
    build(BuildRequest(region=REGION, out=out, config=config, workers=WorkersSettings(workers=0)), Silence())


def tree_digest(out: Path) -> str:
    """Of names and bytes of everything that is not scratch."""
    digest = hashlib.sha256()
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if path.is_file() and name.split("/", 1)[0] not in SCRATCH_DIRS:
            digest.update(name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def watch_changes(at_change) -> None:
    """Calls at_change before every change to the file system, from here to the end of the process."""
    fsync = os.fsync

    def watched_fsync(handle):
        at_change()
        return fsync(handle)

    os.fsync = watched_fsync

    def hook(event, arguments):
        if event in CHANGES or (event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wxa+")):
            at_change()

    sys.addaudithook(hook)


class PowerLoss:
    """What a disk would hold after a power failure: contents that were synced, under names whose folder was synced."""

    def __init__(self, root, monkeypatch):
        self.root, self.content, self.names, self.states = root, {}, {}, []
        fsync = os.fsync

        def recording(handle):
            fsync(handle)
            status = os.fstat(handle)
            if stat.S_ISDIR(status.st_mode):
                self.names[status.st_ino] = {one.name: one.inode() for one in os.scandir(f"/proc/self/fd/{handle}")}
            else:
                self.content[status.st_ino] = Path(f"/proc/self/fd/{handle}").read_bytes()
            self.states.append(self.survivors())

        monkeypatch.setattr(os, "fsync", recording)

    def survivors(self) -> dict[str, bytes]:
        """A file that was named but never synced comes back empty."""
        return dict(self._below(self.root.stat().st_ino, "")) if self.root.exists() else {}

    def _below(self, folder, prefix):
        for name, number in self.names.get(folder, {}).items():
            if number in self.names:
                yield from self._below(number, f"{prefix}{name}/")
            elif number in self.content:
                yield f"{prefix}{name}", self.content[number]
            elif (self.root / prefix / name).is_file():
                yield f"{prefix}{name}", b""


def in_child(work) -> int:
    """Runs work in a fork; its wait status."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - a fork must never fall through into its parent's code
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def dying_at(work, point: int):
    """Work that SIGKILL ends before its point-th change."""

    def run():
        left = point

        def at_change():
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        watch_changes(at_change)
        work()

    return run


def killed_at(out: Path, point: int):
    return dying_at(lambda: run_build(out), point)


def interrupted(work, point: int) -> bool:
    """Whether work in a fork met its point-th change and was killed there."""
    code = os.waitstatus_to_exitcode(in_child(dying_at(work, point)))
    assert code in {0, -signal.SIGKILL}, "the work failed of itself: see its message above"
    return code != 0


def count_changes(out: Path) -> int:
    reading, writing = os.pipe()

    def work():
        seen = 0

        def at_change():
            nonlocal seen
            seen += 1

        watch_changes(at_change)
        run_build(out)
        os.write(writing, str(seen).encode())

    status = in_child(work)
    if status:
        raise SystemExit(f"the undisturbed build failed: {status}")
    return int(os.read(reading, 64))


def main() -> None:
    folder, task, *points = sys.argv[1:]
    if task == "count":
        out = Path(folder) / "undisturbed"
        print(json.dumps({"changes": count_changes(out), "digest": tree_digest(out)}), flush=True)
    for point in map(int, points):
        out = Path(folder) / f"killed-{point}"
        killed = in_child(killed_at(out, point))
        visible = (out / "BUILD_COMPLETE.json").exists()
        whole = not visible or verify(out) == []
        resumed = in_child(lambda out=out: run_build(out))
        report = {
            "point": point,
            "killed": os.WIFSIGNALED(killed) and os.WTERMSIG(killed) == signal.SIGKILL,
            "complete_only_if_whole": whole,
            "resumed": resumed == 0,
            "digest": tree_digest(out),
            "faults": len(verify(out)),
        }
        print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
