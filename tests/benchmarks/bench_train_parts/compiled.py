"""torch.compile: what it gains, what it costs to start, and whether the loss stays what it was."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch
from bench_train_parts.arms import FULL, Arm, Bed, made_spec

GATE_STEPS, GATE = 20, 0.01
EAGER = replace(FULL, label="eager", teacher="")
COMPILED = replace(EAGER, label="compiled", compiled=True)


def compile_rows(size: str, batch: int, rounds: int, *, quick: bool) -> list[dict[str, Any]]:
    """An eager and a compiled arm from the same weights. RuntimeError where the gate does not hold."""
    losses: dict[Arm, list[float]] = {}
    beds, first = {}, {}
    for arm in (EAGER, COMPILED):
        beds[arm] = Bed(made_spec(size), batch, torch.device("cpu"), rate=1e-3)
        start = time.process_time()
        beds[arm].step(arm)
        first[arm] = time.process_time() - start
        losses[arm] = [float(beds[arm].step(arm)) for _ in range(5 if quick else GATE_STEPS)]
    apart = max(abs(a - b) / a for a, b in zip(losses[EAGER], losses[COMPILED], strict=True))
    if apart > GATE:
        raise RuntimeError(f"torch.compile: losses {apart:.2%} apart within {GATE_STEPS} steps; {GATE:.0%} allowed")
    seconds = _in_turn(beds, rounds)
    return [
        {
            "arm": arm.label,
            "CPU s a step": seconds[arm],
            "x eager": seconds[EAGER] / seconds[arm],
            "first step CPU s": first[arm],
            "loss at first": f"{losses[arm][0]:.5f}",
            "at last": f"{losses[arm][-1]:.5f}",
            "largest apart": f"{apart:.1e}",
        }
        for arm in (EAGER, COMPILED)
    ]


def _in_turn(beds: dict[Arm, Bed], rounds: int) -> dict[Arm, float]:
    """Median CPU seconds of a step."""
    taken: dict[Arm, list[float]] = {arm: [] for arm in beds}
    for _ in range(rounds):
        for arm, bed in beds.items():
            start = time.process_time()
            bed.step(arm)
            taken[arm].append(time.process_time() - start)
    return {arm: sorted(values)[len(values) // 2] for arm, values in taken.items()}
