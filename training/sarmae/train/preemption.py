"""Stopping at a signal of the batch system: save, then exit with a code on which it queues the job again."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Final, Self

from sar1m.store.entry import Interrupted

REQUEUE_EXIT: Final = 85  # what the job templates in docker/ take for `queue me again`; no other exit code of ours


class Preemption:
    """Notes SIGTERM, SIGUSR1 and SIGINT, and lets the loop finish its step. A second SIGINT interrupts at once.

    A context: handlers are put back on leaving. Only the main thread may enter it.
    """

    SIGNALS: Final = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)

    def __init__(self) -> None:
        self.signal: int | None = None
        self._former: dict[int, object] = {}

    def __enter__(self) -> Self:
        self._former = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, former in self._former.items():
            signal.signal(number, former)  # type: ignore[arg-type]

    @property
    def asked(self) -> bool:
        """Whether a signal asked to save and stop."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """130 for Ctrl-C, as shells have it; REQUEUE_EXIT for what batch systems send."""
        return 130 if self.signal == signal.SIGINT else REQUEUE_EXIT

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.signal == signal.SIGINT == number:
            raise Interrupted
        self.signal = number
