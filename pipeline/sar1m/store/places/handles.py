"""Open files by name, a bounded number of them: a large store has more shards than a process may open."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

MAX_OPEN_FILES = 256  # a quarter of the usual soft limit of 1,024; a training process has other files too


class Descriptor:
    """An open file. It closes when no reader holds it any more, so that its number never changes meaning during a read.
    Raises OSError as os.open does."""

    def __init__(self, path: Path, flags: int = os.O_RDONLY) -> None:
        self.number = os.open(path, flags | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


K = TypeVar("K", bound=Hashable)
F = TypeVar("F")


class Handles(Generic[K, F]):
    """Files kept open for the next read; the first opened are forgotten first. Safe for threads.

    A forgotten file closes when its last holder lets go of it. A hit takes no lock: with a lock two decoding threads
    lost a quarter of their speed.
    """

    def __init__(self, opener: Callable[[K], F], limit: int = MAX_OPEN_FILES) -> None:
        self._opener = opener
        self._limit = limit
        self._open: dict[K, F] = {}
        self._lock = threading.Lock()

    def get(self, key: K) -> F:
        """The open file, opened once for all threads that ask at the same time. Raises what the opener raises."""
        file = self._open.get(key)
        if file is not None:
            return file
        with self._lock:
            file = self._open.get(key)
            if file is None:
                file = self._opener(key)
                while len(self._open) >= self._limit:
                    del self._open[next(iter(self._open))]
                self._open[key] = file
            return file

    def known(self, key: K) -> F | None:
        """The file where it is open already, else None."""
        return self._open.get(key)

    def forget(self, useless: Callable[[F], bool]) -> None:
        """Forgets the files for which useless is true; they are opened anew when asked for."""
        with self._lock:
            for key in [key for key, file in self._open.items() if useless(file)]:
                del self._open[key]

    def clear(self) -> None:
        """Forgets all."""
        with self._lock:
            self._open.clear()


def read_fully(descriptor: int, start: int, buffers: Sequence[memoryview]) -> int:
    """Fills buffers (contiguous bytes) from offset start, one after another, and returns how many bytes there were:
    fewer at the file's end. Raises OSError."""
    filled = os.preadv(descriptor, buffers, start)
    if filled == sum(map(len, buffers)):
        return filled
    filled = 0
    for buffer in buffers:  # a file system that returns less than a whole read, or the end of the file
        at = 0
        while at < len(buffer):
            count = os.preadv(descriptor, [buffer[at:]], start + filled)
            if count == 0:
                return filled
            at, filled = at + count, filled + count
    return filled
