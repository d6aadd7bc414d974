"""The gate of torch.compile: it must compute what the eager model computes, at the start and as training goes on.

OlmoEarth saw a compiled loss part from the eager one only after some 2,500 steps: one look at the start is not enough.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn

from sarmae.errors import ParityError
from sarmae.train.objective import Losses, Objective, shares_of
from sarmae.train.parallel import gathered
from sarmae.train.step import Views

TOLERANCE_FP32: Final = 1e-4  # relative, of the loss: another order of sums
TOLERANCE_BF16: Final = 2e-2  # three digits of mantissa, averaged over thousands of values


@torch.no_grad()
def check_parity(compiled: nn.Module, objective: Objective, views: Views, *, autocast: bool, step: int) -> float:
    """Relative difference of the compiled loss from the eager one on the same weights and views.

    objective: what `compiled` is, or wraps. Raises ParityError where it is above the tolerance of the precision, or not
    a number.
    """
    shares = shares_of(objective.counts(views.input_db, views.target_db, views.noise, views.paired), ranks=1)
    given = (*views, shares)
    with torch.autocast(shares.device.type, dtype=torch.bfloat16, enabled=autocast):
        found = _total(compiled, given)
        with gathered(compiled):
            expected = _total(objective.forward, given)
    difference = abs(found - expected) / max(abs(expected), 1e-12)
    tolerance = TOLERANCE_BF16 if autocast else TOLERANCE_FP32
    if not difference <= tolerance:
        raise ParityError(
            f"Step {step}: the compiled loss is {found:.6g}, the eager one {expected:.6g} on the same batch: "
            f"{difference:.2g} apart, {tolerance:g} is allowed. Train with train.compile=false; the same command then "
            "goes on from the last checkpoint."
        )
    return difference


def _total(call: Callable[..., Losses], given: tuple[Tensor | None, ...]) -> float:
    losses = call(*given)
    return float(losses.mae + losses.sarc)
