"""One process or many: joining what torchrun started, DDP and FSDP2, sums over the ranks.

`torchrun --nproc-per-node N -m sarmae pretrain ...` starts N ranks; without it there is one. The gradient of the
global batch is the same either way: DDP averages over ranks, and `objective.shares_of` makes that the global mean.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import distributed, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from sar1m.store.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """All processes of a run, and which of them this one is. device: what this one computes on."""

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Rank 0 writes logs and checkpoints."""
        return self.rank == 0

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over the ranks, in place."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank. Signals reach ranks at different moments, but all must stop together."""
        if self.size == 1:
            return flag
        return bool(self.sum(torch.tensor([float(flag)], device=self.device)).item())

    def wait(self) -> None:
        """Waits until all ranks have come here."""
        if self.size > 1:
            distributed.barrier()


def pick_device(name: str) -> torch.device:
    """`auto`: the local rank's GPU where there is one, else the CPU. Raises ConfigError for a device not here."""
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if name == "auto":
        name = f"cuda:{local_rank}" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"train.device: {name!r} cannot be used here: {error}. Set train.device=auto.") from error
    return device


@contextmanager
def join_ranks(device_name: str) -> Iterator[Ranks]:
    """Joins the other ranks where torchrun started some, and leaves them in the end."""
    device = pick_device(device_name)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Ranks(rank=0, size=1, device=device)
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Ranks(rank=distributed.get_rank(), size=distributed.get_world_size(), device=device)
    finally:
        distributed.destroy_process_group()


def spread(
    model: nn.Module, blocks: list[nn.Module], here: Ranks, parallel: Literal["ddp", "fsdp"], *, bf16: bool
) -> nn.Module:
    """The model spread over all ranks.

    ddp: each rank has a copy; gradients are averaged while they are computed.
    fsdp: parameters, gradients and moments are sharded (FSDP2), each of `blocks` by itself and then the rest. bf16:
        whether they are computed in bfloat16; they are summed in float32.
    """
    if here.size == 1:
        return model
    if parallel == "ddp":
        return DistributedDataParallel(model, device_ids=[here.device] if here.device.type == "cuda" else None)
    # inputs stay float32: targets would lose precision, and the noise that orders patches would get ties
    kinds = {"param_dtype": torch.bfloat16, "reduce_dtype": torch.float32} if bf16 else {}
    policy = MixedPrecisionPolicy(**kinds, cast_forward_inputs=False)
    for block in blocks:
        fully_shard(block, mp_policy=policy)
    fully_shard(model, mp_policy=policy)
    return model


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Whole weights on every rank, so that parts of the model can be used by themselves. Every rank must enter."""
    if isinstance(model, FSDPModule):
        model.unshard()
    try:
        yield
    finally:
        if isinstance(model, FSDPModule):
            model.reshard()
