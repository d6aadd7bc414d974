"""Configuration and bound of the cache folder."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sar1m.store.cache.eviction import CachedFile, evict
from sar1m.store.cache.segment import HEAD_BYTES, SEGMENT_BYTES, SEGMENT_SUFFIX
from sar1m.store.errors import ConfigError, OutputError, StoreError
from sar1m.store.shared_numbers import HeldNumbers, SharedNumbers

FOLDER = "sarmae-cache-1"  # the number changes with the format of segments
_ALL_BITS = 2**64 - 1
_POLL_S = 0.02


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """How a remote store is fetched and kept. Raises ConfigError for a bound too small to work in.

    root: folder on a local disk; the cache uses its subfolder sarmae-cache-1 alone.
    max_bytes: allocated on disk, at most. All processes that share the folder must state the same.
    request_bytes: the largest GET.
    in_flight: GETs at once. A block of 4.5 MB takes 30 ms and then 180 ms at 25 MB/s a stream; 32 at once give 2,400
    samples/s.
    timeout_s: of one attempt at a request, from connecting to the last byte.
    retries: attempts after the first, with waits that double from 0.2 s to 10 s, for at most 4 * timeout_s in all.
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
        self._usage = SharedNumbers(self.path / "usage", "<QQ")  # bytes in use, and their complement
        self._max_bytes = config.max_bytes
        self._patience_s = config.timeout_s

    def reserve(self, size: int, allocate: Callable[[], None]) -> None:
        """Makes room for size more bytes on disk and calls allocate, which takes them, before anyone else may.

        Segments are evicted from the least recently used on. Waits while all of them are pinned. Raises ConfigError
        where that does not end, OutputError where the disk is full.
        """
        deadline = time.monotonic() + self._patience_s
        while True:
            with using_cache(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
                with self._usage.held() as usage:
                    used = _known(usage)
                    if used is None or used + size > self._max_bytes:
                        used = evict(_segments(self.path), size, self._max_bytes)
                    fits = used + size <= self._max_bytes
                    used += size if fits else 0
                    usage.write(used, used ^ _ALL_BITS)
                    if fits:
                        allocate()
                        return
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"cache {self.path}: max_bytes = {self._max_bytes} is less than what runs at once needs; {size} "
                    "more bytes are asked for while everything cached is in use. Raise max_bytes or prefetch less."
                )
            time.sleep(_POLL_S)


def _segments(folder: Path) -> Iterator[CachedFile]:
    """Every segment with its bytes on disk, also those that a killed process began."""
    for store in _folders(folder):
        for file in _folders(store):
            with os.scandir(file) as entries:
                for entry in entries:
                    if SEGMENT_SUFFIX in entry.name:
                        with contextlib.suppress(FileNotFoundError):
                            stat = entry.stat(follow_symlinks=False)
                            yield CachedFile(stat.st_mtime_ns, stat.st_blocks * 512, Path(entry.path))


def _folders(folder: str | os.PathLike[str]) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]


def _known(usage: HeldNumbers) -> int | None:
    """Bytes in use as last written; None where the file is new, torn or not ours."""
    try:
        used, complement = map(int, usage.read())
    except StoreError:
        return None
    return used if used == complement ^ _ALL_BITS else None
