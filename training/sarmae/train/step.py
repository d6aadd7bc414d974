"""One optimisation step: micro-batches, gradients, clipping, the guard against non-finite values, the update."""

# B batch, N patches, T teacher width

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from sar1m.store.errors import StoreError
from sarmae.train.ema import MovingAverage
from sarmae.train.objective import Losses, Objective, shares_of
from sarmae.train.parallel import Ranks
from sarmae.train.schedule import Schedule


class Views(NamedTuple):
    """The tensors of a step, on the device.

    input_db: (B, P, S, S) dB, what the encoder sees; NaN where there is no data.
    target_db: (B, P, S, S) dB, what is to be predicted.
    noise: (B, N), decides the mask.
    anchors: (B, N, T), the teacher's features; None without a teacher.
    paired: (B,) bool.
    """

    input_db: Tensor
    target_db: Tensor
    noise: Tensor
    anchors: Tensor | None
    paired: Tensor


class StepResult(NamedTuple):
    """The results of a step: tensors on the device that nobody has waited for yet.

    mae, sarc: () losses of the global batch, once they are averaged over the ranks.
    gradient_norm: () over all ranks, before clipping.
    bad: () bool, whether the norm was not finite; then nothing was updated.
    per_sample: (B,) reconstruction errors of the rank's samples.
    """

    mae: Tensor
    sarc: Tensor
    gradient_norm: Tensor
    bad: Tensor
    per_sample: Tensor


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """How steps are taken.

    passes: forward passes a step; the same number on every rank, however few samples a rank has.
    weight: lambda of the distance to the anchors.
    clip: largest gradient norm; None: no clipping.
    autocast: whether matrix products are computed in bfloat16.
    """

    passes: int
    weight: float
    clip: float | None
    autocast: bool


class Stepper:
    """Takes steps on an objective, which may be wrapped for many ranks. Never waits for the device."""

    def __init__(
        self,
        objective: nn.Module,
        optimiser: torch.optim.Optimizer,
        schedule: Schedule,
        settings: StepSettings,
        here: Ranks,
    ) -> None:
        self.objective, self.optimiser, self.schedule = objective, optimiser, schedule
        self.settings, self.here = settings, here
        self._trained = [weight for weight in objective.parameters() if weight.requires_grad]

    def __call__(self, step: int, views: Views, average: MovingAverage | None) -> StepResult:
        """Takes step number `step`, counted from 0."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedule(step)
        mae, sarc, per_sample = self._accumulate(views)
        norm = self._gradient_norm()
        bad = ~torch.isfinite(norm)
        if self.settings.clip is not None:
            scale = (self.settings.clip / (norm + 1e-6)).clamp(max=1.0)
            torch._foreach_mul_([weight.grad for weight in self._trained if weight.grad is not None], scale)
        self._update(bad)
        if average is not None:
            average.update(step)
        return StepResult(mae, sarc, norm, bad, per_sample)

    def _accumulate(self, views: Views) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of the means over the global batch, from passes over this rank's micro-batches."""
        counts = whole(self.objective).counts(views.input_db, views.target_db, views.noise, views.paired)
        shares = shares_of(self.here.sum(counts), self.here.size)
        self.optimiser.zero_grad(set_to_none=True)
        samples = len(views.paired)
        passes = []
        for part in _parts(samples, self.settings.passes):
            with self._without_reduction(last=part.stop == samples):
                losses = self._forward(views, shares, part)
                torch.autograd.backward(losses.mae + losses.sarc * self.settings.weight)
            passes.append(Losses(losses.mae.detach(), losses.sarc.detach(), losses.per_sample))
        mae, sarc, per_sample = zip(*passes, strict=True)
        return torch.stack(mae).sum(), torch.stack(sarc).sum(), torch.cat(per_sample)

    def _forward(self, views: Views, shares: Tensor, part: slice) -> Losses:
        anchors = None if views.anchors is None else views.anchors[part]
        with torch.autocast(self.here.device.type, dtype=torch.bfloat16, enabled=self.settings.autocast):
            losses: Losses = self.objective(
                views.input_db[part], views.target_db[part], views.noise[part], anchors, views.paired[part], shares
            )
        return losses

    def _without_reduction(self, *, last: bool) -> AbstractContextManager[None]:
        """Under DDP, keeps every pass but the last from summing gradients over the ranks."""
        if isinstance(self.objective, DistributedDataParallel) and not last:
            return self.objective.no_sync()
        return nullcontext()

    def _gradient_norm(self) -> Tensor:
        gradients = [weight.grad for weight in self._trained if weight.grad is not None]
        norms = torch.stack([_whole(part) for part in torch._foreach_norm(gradients)])
        norm: Tensor = torch.linalg.vector_norm(norms)
        return norm

    def _update(self, bad: Tensor) -> None:
        """Updates the weights. With found_inf 1 the fused optimiser changes nothing, without a wait for the device."""
        self.optimiser.found_inf = bad.float()  # type: ignore[attr-defined]
        self.optimiser.grad_scale = None  # type: ignore[attr-defined]
        self.optimiser.step()


def whole(objective: nn.Module) -> Objective:
    """The objective itself, out of what DDP wraps around it. FSDP shards it in place."""
    inner = objective.module if isinstance(objective, DistributedDataParallel) else objective
    return cast("Objective", inner)


def _whole(norm: Tensor) -> Tensor:
    """The norm of a sharded gradient over all its shards."""
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def _parts(samples: int, passes: int) -> Iterator[slice]:
    """Parts of a batch, equal or one sample apart. Their number is `passes` whatever a rank could read, because the
    ranks wait for each other in every pass."""
    if samples < passes:
        raise StoreError(
            f"A rank has {samples} samples left for {passes} passes (train.micro_batch): the others of its batch are "
            "damaged and were left out (data.max_faults). Repair the store, or raise train.micro_batch."
        )
    borders = [samples * number // passes for number in range(passes + 1)]
    for start, stop in pairwise(borders):
        yield slice(start, stop)
