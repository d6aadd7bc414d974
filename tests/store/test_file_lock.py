"""Locks where the file system has none: every lock says so and what to do, and the way on keeps two processes apart."""

import ast
import errno
import fcntl
import os
import subprocess
import sys
import types
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from sar1m.config import DownloadConfig
from sar1m.io.net.download_cache import Leases, claimed
from sar1m.io.net.limits import Limiter
from sar1m.io.safe import measurement
from sar1m.sources.services.cdse import tokens
from sar1m.store import file_lock
from sar1m.store.errors import ConfigError, LockedError, OutputError
from sar1m.store.shared_numbers import SharedNumbers
from sarmae.sarc.feature_cache import FeatureWriter
from support.paths import ROOT

real_flock = fcntl.flock


@pytest.fixture
def disks(tmp_path, monkeypatch):
    """Two folders: on `far` nothing can be locked, on `near` everything."""
    far, near = tmp_path / "far", tmp_path / "near"
    far.mkdir()
    near.mkdir()
    disks = types.SimpleNamespace(far=far, near=near, number=errno.ENOLCK)

    def flock(file, operation):
        number = file if isinstance(file, int) else file.fileno()
        if Path(f"/proc/self/fd/{number}").readlink().is_relative_to(far):
            raise OSError(disks.number, os.strerror(disks.number))
        real_flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(fcntl, "lockf", flock)
    monkeypatch.delenv(file_lock.LOCKS_VARIABLE, raising=False)
    return disks


def leased(folder):
    (folder / "block").touch()
    Leases().take(folder / "block")


def removed(folder):
    (folder / "segment").touch()
    file_lock.remove_unless_held(folder / "segment")


def entered(context):
    with ExitStack() as stack:
        stack.enter_context(context)


LOCKS = {
    "output": lambda folder: entered(file_lock.output_lock(folder)),
    "run": lambda folder: entered(file_lock.output_lock(folder, lock="run.lock", work="run")),
    "file": lambda folder: entered(file_lock.locked_file(folder / "products/key.lock")),
    "numbers": lambda folder: entered(SharedNumbers(folder / "pace", "<d").held()),
    "connections": lambda folder: entered(Limiter(folder, DownloadConfig()).turn("example.org")),
    "download": lambda folder: entered(claimed(folder / "0.part", folder / "0.block")),
    "lease": leased,
    "eviction": removed,
    "inflated": lambda folder: entered(measurement._lock(folder / "band.lock")),
    "token": lambda folder: entered(tokens._locked(folder / "token")),
    "features": lambda folder: FeatureWriter(folder / "features", 4, np.arange(3)),
}
LOCK_FILES = ("output", "run", "file", "numbers", "connections")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS], ids=errno.errorcode.get)
@pytest.mark.parametrize("lock", LOCKS)
def test_a_disk_without_locks_is_named_with_the_way_on(disks, lock, number):
    disks.number = number
    with pytest.raises(OutputError, match=rf"{disks.far}.*no file locks.*SAR1M_LOCKS.*local disk"):
        LOCKS[lock](disks.far)
    assert len(list(Path("/proc/self/fd").iterdir())) < 200


@pytest.mark.parametrize("lock", LOCK_FILES)
def test_the_way_on_leads_on(disks, monkeypatch, lock):
    monkeypatch.setenv(file_lock.LOCKS_VARIABLE, str(disks.near))
    LOCKS[lock](disks.far)
    assert list(disks.near.glob("*.lock"))


def test_a_cache_that_is_a_link_to_a_local_disk_needs_no_locks_of_the_other(disks):
    (disks.near / "cache").mkdir()
    (disks.far / "cache").symlink_to(disks.near / "cache")
    for lock in ("download", "lease", "eviction", "inflated", "connections"):
        LOCKS[lock](disks.far / "cache")


def test_two_processes_are_kept_apart_on_the_way_on_and_what_is_locked_is_kept_in_its_place(disks, monkeypatch):
    monkeypatch.setenv(file_lock.LOCKS_VARIABLE, str(disks.near))
    code = (
        "import sys\nfrom pathlib import Path\nfrom sar1m.store.file_lock import output_lock\n"
        "with output_lock(Path(sys.argv[1])):\n print('held', flush=True)\n sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(disks.far)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"held\n"
        (disks.near / "link").symlink_to(disks.far)
        for same in (disks.far, disks.near / "link"):
            with pytest.raises(LockedError, match=rf"process {other.pid}"), file_lock.output_lock(same):
                pass
        other.stdin.close()
        other.wait()
    with file_lock.output_lock(disks.far):
        pass
    with SharedNumbers(disks.far / "pace", "<d").held() as numbers:
        numbers.write(7.0)
    assert (disks.far / "pace").stat().st_size > 0


@pytest.mark.parametrize("named", ["relative", "/nowhere/at/all"])
def test_a_folder_of_locks_that_is_none_is_refused(tmp_path, monkeypatch, named):
    monkeypatch.setenv(file_lock.LOCKS_VARIABLE, named)
    with pytest.raises(ConfigError, match=rf"SAR1M_LOCKS={named}: expected"), file_lock.output_lock(tmp_path):
        pass


def test_every_lock_is_taken_here():
    for path in [*(ROOT / "pipeline/sar1m").rglob("*.py"), *(ROOT / "training/sarmae").rglob("*.py")]:
        calls = {ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}
        assert path.name == "file_lock.py" or not calls & {"fcntl.flock", "fcntl.lockf"}, path
