"""Open files by path, a bounded number of them: a large store has more shards than a process may open."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

MAX_OPEN_FILES = 128  # an eighth of the usual soft limit of 1,024; a training process has other files too


class Descriptor:
    """An open file, closed when the last who holds it lets go. Raises OSError as os.open does."""

    def __init__(self, path: Path, flags: int = os.O_RDONLY) -> None:
        self.number = os.open(path, flags | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


F = TypeVar("F")


class Handles(Generic[F]):
    """Files kept open for the next read; the first opened are forgotten first. Safe for threads.

    A forgotten file closes when its last holder lets go of it. A hit takes no lock: handing one over cost two decoding
    threads a quarter of their speed.
    """

    def __init__(self, opener: Callable[[Path], F], limit: int = MAX_OPEN_FILES) -> None:
        self._opener = opener
        self._limit = limit
        self._open: dict[Path, F] = {}
        self._lock = threading.Lock()

    def get(self, path: Path) -> F:
        """The open file, opened once for all who ask at the same time. Raises what the opener raises."""
        file = self._open.get(path)
        if file is not None:
            return file
        with self._lock:
            file = self._open.get(path)
            if file is None:
                file = self._opener(path)
                while len(self._open) >= self._limit:
                    del self._open[next(iter(self._open))]
                self._open[path] = file
            return file

    def forget(self, useless: Callable[[F], bool]) -> None:
        """The files of which this is true are opened anew by the next who asks."""
        with self._lock:
            for path in [path for path, file in self._open.items() if useless(file)]:
                del self._open[path]

    def clear(self) -> None:
        """Forgets all."""
        with self._lock:
            self._open.clear()


def read_fully(descriptor: int, start: int, buffer: memoryview) -> int:
    """Fills buffer (contiguous bytes) from offset start and returns how many bytes there were: fewer at the file's end.
    Raises OSError."""
    filled = 0
    while filled < len(buffer):
        count = os.preadv(descriptor, [buffer[filled:]], start + filled)
        if count == 0:
            break
        filled += count
    return filled
