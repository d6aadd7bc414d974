"""The learning rate as a pure function of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass

BASE_BATCH = 256  # samples for which lr is stated (He et al. 2021, appendix A: linear scaling with the batch)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Linear warm-up from 0, then half a cosine down to floor. peak: learning rate at the end of the warm-up; steps:
    of the whole run, warm-up included."""

    peak: float
    floor: float
    warmup_steps: int
    steps: int

    def __call__(self, step: int) -> float:
        """The rate of step `step`, counted from 0. Step 0 of a warm-up already moves; after the last step, floor."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(self.steps - self.warmup_steps, 1)
        return self.floor + (self.peak - self.floor) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def scaled_rate(lr: float, global_batch: int) -> float:
    """The rate of a global batch, from the rate per BASE_BATCH samples."""
    return lr * global_batch / BASE_BATCH
