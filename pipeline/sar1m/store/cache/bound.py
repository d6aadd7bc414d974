"""The folder of the cache, its bound, and what is thrown away first."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sar1m.store.cache.segment import HEAD_BYTES, SEGMENT_BYTES, SEGMENT_SUFFIX
from sar1m.store.errors import ConfigError, OutputError

FOLDER = "sarmae-cache-1"  # the number changes with the format of segments
_USAGE = struct.Struct("<QQ")  # bytes counted as used, and their complement: a torn or foreign file shows
_POLL_S = 0.02


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """How a remote store is fetched and kept. Raises ConfigError for a bound too small to work in.

    root: folder on a local disk; ours is the subfolder sarmae-cache-1 alone. max_bytes: allocated on disk, at most; all
    processes that share the folder must state the same. request_bytes: the largest GET. in_flight: GETs at once;
    a range of a block, 4.5 MB, takes 30 ms and 180 ms at 25 MB/s a stream, and 32 of them give 2,400 samples/s.
    timeout_s: of one attempt at a request, from connecting to its last byte. retries: further attempts after the
    first, with waits that double from 0.2 s to 10 s, for at most 4 * timeout_s in all.
    """

    root: Path
    max_bytes: int
    request_bytes: int = 12 * 2**20
    in_flight: int = 32
    timeout_s: float = 30.0
    retries: int = 6

    def __post_init__(self) -> None:
        if self.in_flight < 1 or self.retries < 0 or not 0 < self.timeout_s < 3600:
            raise ConfigError("cache: in_flight >= 1, retries >= 0 and 0 < timeout_s < 3600 were expected.")
        if self.request_bytes < SEGMENT_BYTES:
            raise ConfigError(f"cache.request_bytes = {self.request_bytes}: at least {SEGMENT_BYTES} expected.")
        least = 2 * self.in_flight * (self.request_bytes + HEAD_BYTES)
        if self.max_bytes < least:
            raise ConfigError(
                f"cache.max_bytes = {self.max_bytes}: too small for {self.in_flight} requests of {self.request_bytes} "
                f"bytes in flight; at least {least} expected."
            )


@contextlib.contextmanager
def using_cache(folder: Path) -> Iterator[None]:
    """Turns the system's refusal (disk full, read-only, bad block) into an OutputError that names the cache folder."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cache {folder}: cannot be used: {error.strerror or error}. Free space, lower cache.max_bytes or give "
            "another folder, then run again: what is cached stays good."
        ) from error


class CacheFolder:
    """The bound of a cache folder. Every allocation goes through `reserve`, under one lock for all processes."""

    def __init__(self, config: CacheConfig) -> None:
        self.path = config.root / FOLDER
        self._max_bytes = config.max_bytes
        self._patience_s = config.timeout_s

    def reserve(self, size: int, allocate: Callable[[], None]) -> None:
        """Makes room for size more bytes on disk and calls allocate, which takes them, before anyone else may.

        Segments are evicted from the least recently used on, 1/16 of the bound more than needed so that looking through
        the folder is rare. Waits while everything is pinned; raises ConfigError where that does not end, OutputError
        where the disk is full.
        """
        deadline = time.monotonic() + self._patience_s
        while True:
            with using_cache(self.path), self._locked() as usage:
                used = _read_usage(usage)
                if used is None or used + size > self._max_bytes:
                    used = self._evict(size)
                if used + size <= self._max_bytes:
                    _write_usage(usage, used + size)
                    allocate()
                    return
                _write_usage(usage, used)
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"cache {self.path}: max_bytes = {self._max_bytes} is less than what runs at once needs; {size} "
                    "more bytes are asked for while everything cached is in use. Raise max_bytes or prefetch less."
                )
            time.sleep(_POLL_S)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        self.path.mkdir(parents=True, exist_ok=True)
        usage = os.open(self.path / "usage", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(usage, fcntl.LOCK_EX)
            yield usage
        finally:
            os.close(usage)

    def _evict(self, size: int) -> int:
        """Bytes allocated now, by looking; after evicting what a further `size` bytes need."""
        found = sorted(_segments(self.path))
        used = sum(allocated for _, allocated, _ in found)
        if used + size <= self._max_bytes:
            return used
        goal = self._max_bytes - self._max_bytes // 16 - size
        for _, allocated, path in found:
            if used <= goal:
                break
            if _evict_unpinned(path):
                used -= allocated
        return used


def _segments(folder: Path) -> Iterator[tuple[int, int, str]]:
    """Time of last use (ns), bytes on disk and path of every segment, also of those that a killed process began."""
    for store in _folders(folder):
        for file in _folders(store):
            with os.scandir(file) as entries:
                for entry in entries:
                    if SEGMENT_SUFFIX in entry.name:
                        with contextlib.suppress(FileNotFoundError):
                            stat = entry.stat(follow_symlinks=False)
                            yield stat.st_mtime_ns, stat.st_blocks * 512, entry.path


def _folders(folder: str | os.PathLike[str]) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]


def _evict_unpinned(path: str) -> bool:
    """Unlinks a segment that nobody has pinned. False where it stays."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        Path(path).unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _read_usage(descriptor: int) -> int | None:
    content = os.pread(descriptor, _USAGE.size + 1, 0)
    if len(content) != _USAGE.size:
        return None
    used, complement = _USAGE.unpack(content)
    return int(used) if used == ~complement & 0xFFFFFFFFFFFFFFFF else None


def _write_usage(descriptor: int, used: int) -> None:
    os.ftruncate(descriptor, _USAGE.size)
    os.pwrite(descriptor, _USAGE.pack(used, ~used & 0xFFFFFFFFFFFFFFFF), 0)
