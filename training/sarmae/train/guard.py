"""The guard against non-finite values: steps without effect are counted, too many in a row end the run by name."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sarmae.errors import NonFiniteError
from sarmae.train.step import StepResult

NAMED_SAMPLES = 16


@dataclass(frozen=True, kw_only=True)
class _Noted:
    step: int
    bad: Tensor
    errors: Tensor
    ids: Tensor


class Guard:
    """Counts bad steps. limit: bad steps in a row that end the run. Waits for the device only in `check`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._noted: list[_Noted] = []
        self.total, self._in_a_row = 0, 0

    def note(self, step: int, result: StepResult, ids: Tensor) -> None:
        """Notes a step's result, on any device, and the ids (B,) of the samples this rank had in it."""
        self._noted.append(_Noted(step=step, bad=result.bad, errors=result.per_sample, ids=ids))

    def check(self) -> None:
        """Raises NonFiniteError once `limit` steps in a row were bad, naming the samples of the last of them."""
        if not self._noted:
            return
        flags = torch.stack([noted.bad for noted in self._noted]).tolist()
        for noted, bad in zip(self._noted, flags, strict=True):
            self.total += bad
            self._in_a_row = self._in_a_row + 1 if bad else 0
            if self._in_a_row >= self._limit:
                raise NonFiniteError(_report(noted, self._in_a_row))
        self._noted.clear()


def _report(noted: _Noted, in_a_row: int) -> str:
    own = noted.ids[~torch.isfinite(noted.errors).to(noted.ids.device)]
    if len(own):
        cause = f"Samples of this rank whose own error was not finite, by sample_key: {_named(own)}."
    else:
        cause = (
            f"No sample's own error is at fault, so weights or rate are. Samples, by sample_key: {_named(noted.ids)}."
        )
    return (
        f"Step {noted.step}: loss or gradients were not finite for {in_a_row} steps in a row (train.max_bad_steps); "
        f"nothing was updated in them. {cause} Look at these samples; if they are sound, lower train.lr, set "
        "train.clip=1.0, or train with train.precision=fp32. The same command goes on from the last checkpoint."
    )


def _named(ids: Tensor) -> str:
    more = f" and {len(ids) - NAMED_SAMPLES} more" if len(ids) > NAMED_SAMPLES else ""
    return ", ".join(str(key) for key in ids[:NAMED_SAMPLES].tolist()) + more
