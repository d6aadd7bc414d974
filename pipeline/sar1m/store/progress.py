"""How long work reports its progress: one protocol for builds, releases, teacher caches, training runs and studies."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Protocol

LINE_EVERY_S: Final = 10.0  # between two lines of a stage


class Watch(Protocol):
    """Receives the progress of long work: a progress bar in a terminal, lines in a log, or nothing."""

    def note(self, text: str) -> None:
        """One line worth reading."""
        ...

    def stage(self, title: str, total: int) -> AbstractContextManager[Callable[[], None]]:
        """A stretch of work of `total` steps, 0 where the number is not known. Inside the context a call of the
        callable marks one step as done."""
        ...


class LineWatch:
    """A Watch that writes plain lines, for logs. write: takes one line, without its end."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def note(self, text: str) -> None:
        """Writes the text."""
        self._write(text)

    def stage(self, title: str, total: int) -> AbstractContextManager[Callable[[], None]]:
        """Writes how many steps are done every LINE_EVERY_S seconds at most, and the duration at the end."""
        return self._lines(title, total)

    @contextmanager
    def _lines(self, title: str, total: int) -> Iterator[Callable[[], None]]:
        started = written = time.monotonic()
        done = 0

        def step() -> None:
            nonlocal done, written
            done += 1
            if time.monotonic() - written >= LINE_EVERY_S:
                written = time.monotonic()
                self._write(f"{title}: {done} of {total}")

        yield step
        self._write(f"{title}: done in {time.monotonic() - started:.1f} s")
