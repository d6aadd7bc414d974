"""How long a build waits for workers or a scheduler, said aloud, and when it gives up."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from sar1m.store.errors import WorkersError
from sar1m.store.progress import LINE_EVERY_S

FIRST_LINE_S: Final = 3.0  # a worker that starts again takes as long, and is not worth a line


class Waiting:
    """A wait that may begin and end many times. Each lasts for limit_s seconds at most. say: takes one line."""

    def __init__(self, limit_s: float, say: Callable[[str], None]) -> None:
        self._limit_s = limit_s
        self._say = say
        self._since: float | None = None
        self._next_line = 0.0

    def goes_on(self, cause: str) -> None:
        """To be called again and again while the cause lasts. Says so every LINE_EVERY_S seconds.

        Raises WorkersError once the wait has lasted for limit_s.
        """
        now = time.monotonic()
        if self._since is None:
            self._since, self._next_line = now, now + min(FIRST_LINE_S, self._limit_s / 2)
        waited = now - self._since
        if waited >= self._limit_s:
            raise WorkersError(
                f"{cause}: waited {waited:.0f} s in vain. What is staged is kept: run the same command again once the "
                "workers are back, or wait longer with --patience SECONDS."
            )
        if now >= self._next_line:
            self._next_line = now + LINE_EVERY_S
            self._say(f"{cause}. Waiting for {waited:.0f} s, {self._limit_s:.0f} s at most.")

    def over(self) -> None:
        """What was waited for is there."""
        self._since = None
