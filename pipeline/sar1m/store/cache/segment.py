"""One segment of a cached file: a sparse file of a head and up to 8 MiB of pages, of which some are present.

Head: magic, random identity, then an entry a page: crc32c of its bytes, stamp of the remote object it came from, and a
check over both and the page's place. An entry of zeros, or one whose check fails, means the page is absent.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np

from sar1m.store.errors import OutputError
from sar1m.store.file_lock import flock, lockf
from sar1m.store.places.handles import Descriptor

PAGE_BYTES = 128 * 2**10
SEGMENT_BYTES = 8 * 2**20
HEAD_BYTES = 4096  # pages start where the disk's blocks do
SEGMENT_SUFFIX = ".segment"

_PAGES = SEGMENT_BYTES // PAGE_BYTES
_HEAD = struct.Struct("<8s16s")
_MAGIC = b"SARMSEG1"
_ENTRY = struct.Struct("<III4x")
_CHECKED = struct.Struct("<16sIII")
_POLL_S = 0.01


@dataclass(frozen=True, kw_only=True)
class Extent:
    """Where a segment lies, on the disk and in the remote file.

    first_byte: of the segment in the remote file.
    length: of its content in bytes, SEGMENT_BYTES or less at the file's end.
    """

    path: Path
    first_byte: int
    length: int

    def pages(self, start: int, stop: int) -> range:
        """Pages of this segment that hold any of the remote file's bytes [start, stop)."""
        first = max(start - self.first_byte, 0) // PAGE_BYTES
        return range(first, -(-min(stop - self.first_byte, self.length) // PAGE_BYTES))

    def page_bytes(self, pages: range) -> tuple[int, int]:
        """Start and stop in the remote file of adjacent pages."""
        stop = min(pages.stop * PAGE_BYTES, self.length)
        return self.first_byte + pages.start * PAGE_BYTES, self.first_byte + stop


class Segment:
    """An open segment. Made where it is missing; a file that is not a segment is replaced. Raises OSError.

    trusted: the pages that this process has checked or written itself, as bits, by identity of segment. All segments of
    a process share it, since a segment is closed and opened again. The file closes as Descriptor does.
    """

    def __init__(self, extent: Extent, trusted: dict[bytes, int]) -> None:
        self.extent = extent
        self._file, self._identity = _open_or_create(extent.path)
        self._descriptor = self._file.number
        self._trusted = trusted
        self._lock = threading.Lock()
        self._fetching = threading.Lock()
        self._pins = 0

    @property
    def evicted(self) -> bool:
        """The file has lost its name: what it holds is good, but nobody else will find it."""
        return os.fstat(self._descriptor).st_nlink == 0

    def trusts(self, pages: range) -> bool:
        """All these pages are present and were checked in this process."""
        wanted = _bits(pages)
        return self._trusted.get(self._identity, 0) & wanted == wanted

    def read_into(self, offset: int, buffers: Sequence[memoryview]) -> bool:
        """Fills buffers, one after another, from an offset in the segment's content.

        False where they reach beyond the segment or its pages are not all trusted; the buffers are undefined then.
        Every cache hit comes this way, so it does no more than it must. Raises OSError.
        """
        stop = offset + sum(map(len, buffers))
        first = offset // PAGE_BYTES
        wanted = ((1 << -(-stop // PAGE_BYTES) - first) - 1) << first
        return (
            stop <= self.extent.length
            and self._trusted.get(self._identity, 0) & wanted == wanted
            and os.preadv(self._descriptor, buffers, HEAD_BYTES + offset) == stop - offset
        )

    @contextlib.contextmanager
    def pinned(self) -> Iterator[None]:
        """No process evicts the segment while the context lasts. Its end is the time of last use."""
        with self._lock:
            if self._pins == 0:
                flock(self._descriptor, fcntl.LOCK_SH)
            self._pins += 1
        try:
            yield
        finally:
            with self._lock:
                now_ns = time.time_ns()  # the kernel's own stamps stand still for some milliseconds
                os.utime(self._descriptor, ns=(now_ns, now_ns))
                self._pins -= 1
                if self._pins == 0:
                    flock(self._descriptor, fcntl.LOCK_UN)

    @contextlib.contextmanager
    def fetching(self, patience_s: float) -> Iterator[None]:
        """One thread fetches while others wait, in this and in other processes. After patience_s a waiter goes on and
        fetches too.

        The lock is polled: the kernel takes a waiting thread for its whole process, and would report false deadlocks.
        """
        deadline = time.monotonic() + patience_s
        with self._fetching:
            while not self._lock_across_processes() and time.monotonic() < deadline:
                time.sleep(_POLL_S)
            try:
                yield
            finally:
                lockf(self._descriptor, fcntl.LOCK_UN)

    def _lock_across_processes(self) -> bool:
        try:
            lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def stamp(self) -> int | None:
        """Stamp of the remote object of the first present page, None where there is no page."""
        return next((entry[1] for page in range(_PAGES) if (entry := self._entry(page))), None)

    def missing(self, pages: range, stamp: int | None) -> list[range]:
        """Runs of pages that are absent, damaged, or of another remote object than stamp says. Checks the others."""
        runs: list[range] = []
        for page in pages:
            if self.trusts(range(page, page + 1)) or self._check(page, stamp):
                continue
            if runs and runs[-1].stop == page:
                runs[-1] = range(runs[-1].start, page + 1)
            else:
                runs.append(range(page, page + 1))
        return runs

    def allocate(self, pages: range) -> None:
        """Takes the pages' bytes on the disk. Raises OSError where it is full."""
        os.posix_fallocate(self._descriptor, HEAD_BYTES + pages.start * PAGE_BYTES, len(pages) * PAGE_BYTES)

    def write(self, pages: range, content: memoryview, stamp: int) -> None:
        """Stores adjacent pages, the bytes before the entries that make them present."""
        entries = b"".join(
            self._encode(page, google_crc32c.value(np.frombuffer(piece, np.uint8)), stamp)
            for page, piece in zip(pages, _pieces(content), strict=True)
        )
        _write_fully(self._descriptor, HEAD_BYTES + pages.start * PAGE_BYTES, content)
        _write_fully(self._descriptor, _entry_offset(pages.start), memoryview(entries))
        self._trust(pages)

    def _check(self, page: int, stamp: int | None) -> bool:
        entry = self._entry(page)
        if entry is None or (stamp is not None and entry[1] != stamp):
            return False
        start, stop = self.extent.page_bytes(range(page, page + 1))
        content = os.pread(self._descriptor, stop - start, HEAD_BYTES + start - self.extent.first_byte)
        if len(content) != stop - start or google_crc32c.value(content) != entry[0]:
            return False
        self._trust(range(page, page + 1))
        return True

    def _trust(self, pages: range) -> None:
        with self._lock:
            self._trusted[self._identity] = self._trusted.get(self._identity, 0) | _bits(pages)

    def _entry(self, page: int) -> tuple[int, int] | None:
        stored = os.pread(self._descriptor, _ENTRY.size, _entry_offset(page))
        if len(stored) < _ENTRY.size:
            return None
        crc, stamp, _ = _ENTRY.unpack(stored)
        return (crc, stamp) if stored == self._encode(page, crc, stamp) else None

    def _encode(self, page: int, crc: int, stamp: int) -> bytes:
        check = google_crc32c.value(_CHECKED.pack(self._identity, page, crc, stamp))
        return _ENTRY.pack(crc, stamp, check)


def _bits(pages: range) -> int:
    return ((1 << len(pages)) - 1) << pages.start


def _pieces(content: memoryview) -> Iterator[memoryview]:
    return (content[at : at + PAGE_BYTES] for at in range(0, len(content), PAGE_BYTES))


def _entry_offset(page: int) -> int:
    return 64 + page * _ENTRY.size


def _write_fully(descriptor: int, offset: int, content: memoryview) -> None:
    while len(content):
        written = os.pwrite(descriptor, content, offset)
        content, offset = content[written:], offset + written


def _open_or_create(path: Path) -> tuple[Descriptor, bytes]:
    for _ in range(100):  # others may create and evict it at the same time, but not for ever
        with contextlib.suppress(FileNotFoundError):
            file = Descriptor(path, os.O_RDWR)
            head = os.pread(file.number, _HEAD.size, 0)
            if len(head) == _HEAD.size and head.startswith(_MAGIC):
                return file, head[len(_MAGIC) :]
            path.unlink(missing_ok=True)
        _create(path)
    raise OutputError(f"{path}: vanishes as often as it is made. Does another program clean the cache folder?")


def _create(path: Path) -> None:
    """Makes an empty segment under its name, whole or not at all; leaves one that another process was first to make."""
    path.parent.mkdir(parents=True, exist_ok=True)
    begun = path.with_name(f"{path.name}.{os.getpid()}-{os.urandom(8).hex()}")
    try:
        with begun.open("xb") as stream:
            stream.write(_HEAD.pack(_MAGIC, os.urandom(16)).ljust(HEAD_BYTES, b"\0"))
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            os.link(begun, path)
    finally:
        begun.unlink(missing_ok=True)
