"""What a full cache throws away: the least recently used files that nobody holds. Both disk caches use it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from sar1m.store.file_lock import remove_unless_held


class CachedFile(NamedTuple):
    """A file of a cache. used_ns: time of last use (ns since 1970). size: bytes it counts for."""

    used_ns: int
    size: int
    path: Path


def evict(files: Iterable[CachedFile], more_bytes: int, max_bytes: int, *, rested_ns: int | None = None) -> int:
    """Removes files until more_bytes fit under max_bytes, and returns the bytes of those that stay.

    The least recently used go first; locked files stay, even beyond the bound. A sixteenth of max_bytes more than
    needed is freed, so that looking through the folder is rare.
    rested_ns: files that were used after this time stay too; None: no such files.
    """
    oldest_first = sorted(files)
    used = sum(file.size for file in oldest_first)
    if used + more_bytes <= max_bytes:
        return used
    goal = max_bytes - max_bytes // 16 - more_bytes
    for file in oldest_first:
        if used <= goal or (rested_ns is not None and file.used_ns >= rested_ns):
            break
        if remove_unless_held(file.path):
            used -= file.size
    return used
