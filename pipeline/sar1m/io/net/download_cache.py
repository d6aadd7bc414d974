"""The files of a build's downloads: whole, partial (to be resumed) and rejected (in quarantine).

A process claims a file by locking its partial file; the kernel frees the claim of a killed process, and the bytes stay.
Whole files appear by rename. A file in use is never removed: it is leased, by a shared lock that ends with the process
and for LEASE_S after it was asked for. An open file stays readable even after its name is gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from sar1m.store.cache.eviction import CachedFile, evict
from sar1m.store.durable import sync_directory, writing_to
from sar1m.store.file_lock import flock, try_lock
from sar1m.store.shared_numbers import SharedNumbers

LEASE_S: Final = 900.0
_MAKING: Final = threading.Lock()
_POLL_S: Final = (0.01, 0.05)
_KEPT_OPEN: Final = 32  # files a process holds leases on; the oldest lapses
_KEPT_IN_QUARANTINE: Final = 32


class DownloadCache:
    """Files under root/cache. size_bytes: the bound; leased files stay, even beyond it."""

    def __init__(self, root: Path, size_bytes: int) -> None:
        self.folder = root / "cache"
        self.quarantine_folder = root / "quarantine"
        self._size_bytes = size_bytes
        self._size = SharedNumbers(root / "cache-size", "<q")

    def add(self, stream: IO[bytes], partial: Path, final: Path, *, durable: bool) -> None:
        """Gives a claimed file its final name, after making room. durable: the file survives a power cut."""
        self._make_room(os.fstat(stream.fileno()).st_size)
        with writing_to(final):
            final.parent.mkdir(parents=True, exist_ok=True)
            if durable:
                os.fsync(stream.fileno())
            partial.replace(final)
            if durable:
                sync_directory(final.parent)

    def quarantine(self, partial: Path, name: str, reason: str) -> None:
        """Moves a claimed file to quarantine/, with the reason beside it. The newest few are kept."""
        folder = self.quarantine_folder
        with writing_to(folder):
            folder.mkdir(parents=True, exist_ok=True)
            partial.replace(folder / f"{partial.stem}-{name}")
            (folder / f"{partial.stem}-{name}.reason.txt").write_text(reason + "\n", encoding="utf-8")
            for old in sorted(_files(folder))[: -2 * _KEPT_IN_QUARANTINE]:
                old.path.unlink(missing_ok=True)

    def _make_room(self, more_bytes: int) -> None:
        with self._size.held() as numbers:
            known = int(numbers.read()[0]) + more_bytes
            if known > self._size_bytes:  # one process at a time looks
                rested_ns = time.time_ns() - int(LEASE_S * 1e9)
                known = more_bytes + evict(_files(self.folder), more_bytes, self._size_bytes, rested_ns=rested_ns)
            numbers.write(known)


def _files(folder: Path) -> Iterator[CachedFile]:
    """Every file below."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent) / name
            with contextlib.suppress(FileNotFoundError):  # another process made it whole or removed it
                status = path.stat()
                yield CachedFile(status.st_mtime_ns, status.st_size, path)


@contextlib.contextmanager
def claimed(partial: Path, final: Path) -> Iterator[IO[bytes] | None]:
    """Holds the partial file alone, opened for reading and writing; None once final is there.

    Waits for another process or thread that holds it. What the file held before stays: a killed download goes on.
    """
    stream = None
    while stream is None and not final.exists():
        stream = _locked(partial)
    if stream is None:
        yield None
        return
    with stream:
        if final.exists():  # made whole between the look and the lock: what is locked is a new, empty file
            partial.unlink()
            yield None
            return
        try:
            yield stream
        finally:
            stream.flush()
            flock(stream.fileno(), fcntl.LOCK_UN)


def _locked(partial: Path) -> IO[bytes] | None:
    """The file under that name, locked; None where it was renamed or removed while we waited."""
    with writing_to(partial):
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
    with contextlib.suppress(FileNotFoundError):
        stream = partial.open("r+b")
        try:
            while os.path.samestat(os.fstat(stream.fileno()), partial.stat()):
                if try_lock(stream.fileno()):
                    return stream
                # Not a blocking wait: once whole, the file may be leased for as long as a process lives.
                time.sleep(random.uniform(*_POLL_S))  # noqa: S311 - no secret hangs on it
            stream.close()
        except BaseException:
            stream.close()
            raise
    return None


class Leases:
    """Files that this process was given and may still be reading: locked, so that no process evicts them."""

    def __init__(self) -> None:
        self._held: OrderedDict[Path, int] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, path: Path) -> bool:
        """Leases a file. False where it is gone."""
        with self._lock:
            former = self._held.pop(path, None)
            descriptor = _leased(path)
            if former is not None:
                os.close(former)
            if descriptor is not None:
                self._held[path] = descriptor
            while len(self._held) > _KEPT_OPEN:
                os.close(self._held.popitem(last=False)[1])
        return descriptor is not None


def _leased(path: Path) -> int | None:
    """A descriptor that holds the file; None where it is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        flock(descriptor, fcntl.LOCK_SH)
        os.utime(path)
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
    except FileNotFoundError:
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def process_leases() -> Leases:
    """The leases of this process; those of a parent are not its child's to close."""
    with _MAKING:  # lru_cache alone lets two threads make one each
        return _leases_of(os.getpid())


@functools.lru_cache(maxsize=2)
def _leases_of(_process: int) -> Leases:
    return Leases()
