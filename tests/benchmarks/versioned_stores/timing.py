"""Opening and reading for a while, in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

BATCH = 32
OPENINGS = 20

ReadRows = Callable[[np.ndarray], object]


@dataclass(frozen=True)
class Rates:
    """Milliseconds to open (median; the first, which loads what loads lazily, apart); per kind of reading (one random
    sample, a batch of random samples, a batch of neighbours) samples a second of wall time and CPU ms a sample."""

    open_ms: float
    first_open_ms: float
    one_rate: float
    one_cpu_ms: float
    batch_rate: float
    batch_cpu_ms: float
    run_rate: float
    run_cpu_ms: float

    def told(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def measure(open_it: Callable[[], tuple[ReadRows, int]], seconds: float) -> Rates:
    """open_it gives a reader of rows, and their number."""
    openings = []
    for _ in range(OPENINGS):
        start = time.perf_counter()
        read, count = open_it()
        openings.append(1000 * (time.perf_counter() - start))
    rng = np.random.default_rng(7)
    singly = _rate(lambda: read(rng.integers(count, size=1)), 1, seconds)
    batches = _rate(lambda: read(rng.choice(count, size=BATCH, replace=False)), BATCH, seconds)
    runs = _rate(lambda: read(rng.integers(count - BATCH) + np.arange(BATCH)), BATCH, seconds)
    return Rates(float(np.median(openings)), openings[0], *singly, *batches, *runs)


def _rate(read: Callable[[], object], samples: int, seconds: float) -> tuple[float, float]:
    for _ in range(3):
        read()
    done, wall, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < seconds:
        read()
        done += samples
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return done / wall, 1000 * cpu / done
