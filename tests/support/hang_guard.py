"""A limit on work that may hang, by its own processor time: on a busy machine it waits longer and fails nothing."""

import contextlib
import faulthandler
import signal
from collections.abc import Iterator

HANG_CPU_S = 10.0
STUCK_S = 600.0  # of the clock, for what waits and does not compute


def arm() -> None:
    """From here on a hang ends the process, in C too, and its traceback shows where."""
    for number in (signal.SIGPROF, signal.SIGALRM):
        faulthandler.register(number, chain=True)


@contextlib.contextmanager
def hang_guard(cpu_s: float = HANG_CPU_S, stuck_s: float = STUCK_S) -> Iterator[None]:
    """The process is ended when the block inside computes for cpu_s or lasts for stuck_s seconds."""
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    signal.setitimer(signal.ITIMER_REAL, stuck_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
