"""One process or many: joining what torchrun started, DDP and FSDP2, sums over the ranks.

`torchrun --nproc-per-node N -m sarmae pretrain ...` starts N ranks; without it there is one. The gradient of the
global batch is the same either way: DDP averages over ranks, and `objective.shares_of` makes that the global mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal

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


def pick_device(name: str, local_rank: int = 0, ranks: int = 1) -> torch.device:
    """`auto`: the local rank's GPU where there is one, else the CPU. `cuda`: the local rank's GPU.

    Raises ConfigError for a device that is not here or cannot train, and for one GPU given to several ranks.
    """
    wanted = "cuda" if name == "auto" and torch.cuda.is_available() else name.replace("auto", "cpu")
    if wanted == "cuda":
        wanted = f"cuda:{local_rank}"
    try:
        device = torch.device(wanted)
        if device.type not in _DEVICES or (device.type == "cpu" and device.index):
            raise ConfigError(
                f"train.device: {name!r} is none to train on; expected auto, cpu, cuda, cuda:N, mps or xpu."
            )
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        first = str(error).split("\n", maxsplit=1)[0]
        shown = repr(name) if wanted == name else f"{name!r} ({wanted})"
        raise ConfigError(
            f"train.device: {shown} cannot be used here: {first}. This machine has "
            f"{torch.cuda.device_count()} GPUs. Set train.device=auto, and start at most one process a GPU."
        ) from error
    if ranks > 1 and name == wanted and device.index is not None:
        raise ConfigError(f"train.device: {name!r} would give one GPU to all {ranks} processes. Set train.device=auto.")
    return device


_DEVICES: Final = ("cpu", "cuda", "mps", "xpu")


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How this process was started: its rank among `size` processes, and its number on this machine."""

    rank: int
    size: int
    local_rank: int


def read_launch(environment: Mapping[str, str]) -> Launch:
    """What torchrun says in the environment; one process where nothing started several.

    Raises ConfigError, with what to type, where srun or mpirun started several processes without torchrun (each would
    train by itself in the same folder), and where torchrun's variables are incomplete or no numbers.
    """
    if "WORLD_SIZE" not in environment:
        _refuse_lone_tasks(environment)
        return Launch(rank=0, size=1, local_rank=0)
    size = _number(environment, "WORLD_SIZE", 1, None)
    if size == 1:
        return Launch(rank=0, size=1, local_rank=0)
    missing = [name for name in _OF_TORCHRUN if not environment.get(name)]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE is {size}, but {', '.join(missing)} is not set; torchrun sets {', '.join(_OF_TORCHRUN)}. "
            f"{_TYPE_TORCHRUN} For one process: unset WORLD_SIZE."
        )
    return Launch(
        rank=_number(environment, "RANK", 0, size - 1),
        size=size,
        local_rank=_number(environment, "LOCAL_RANK", 0, size - 1),
    )


_OF_TORCHRUN: Final = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_TYPE_TORCHRUN: Final = (
    "Start it with torchrun, one task a machine: torchrun --nproc-per-node GPUS -m sarmae pretrain ... "
    "(docker/jobs/pretrain.sbatch does so under SLURM)."
)
_LAUNCHERS: Final = {  # what each sets in every task: the number of tasks, and the task's own
    "srun": (("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"), "SLURM_PROCID"),
    "mpirun": (("OMPI_COMM_WORLD_SIZE", "PMI_SIZE"), "OMPI_COMM_WORLD_RANK"),
    "mpiexec": (("PMI_SIZE",), "PMI_RANK"),
}


def _refuse_lone_tasks(environment: Mapping[str, str]) -> None:
    for launcher, (counts, own) in _LAUNCHERS.items():
        name = next((count for count in counts if count in environment), None)
        if name is None or own not in environment or environment[name] in {"", "1"}:
            continue
        raise ConfigError(
            f"{launcher} started {environment[name]} tasks ({name}; this is number {environment[own]}) without "
            "torchrun: each would train a model of its own, all in one folder. "
            f"{_TYPE_TORCHRUN} For one process: {launcher} -n 1 sarmae pretrain ..., or unset {name}."
        )


def _number(environment: Mapping[str, str], name: str, least: int, most: int | None) -> int:
    text = environment[name]
    value = int(text) if text.isascii() and text.isdigit() else -1
    if value < least or (most is not None and value > most):
        expected = f"a whole number from {least}" + ("" if most is None else f" to {most}")
        raise ConfigError(f"The environment says {name}={text!r}; {expected} expected. {_TYPE_TORCHRUN}")
    return value


@contextmanager
def join_ranks(device_name: str, launch: Launch) -> Iterator[Ranks]:
    """Joins the other ranks where torchrun started some, and leaves them in the end."""
    device = pick_device(device_name, launch.local_rank, launch.size)
    if launch.size == 1:
        yield Ranks(rank=0, size=1, device=device)
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"The {launch.size} processes could not meet (MASTER_ADDR, MASTER_PORT): {error}. {_TYPE_TORCHRUN}"
        ) from error
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
