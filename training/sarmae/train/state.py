"""Weights and moments of a run as flat, whole tensors, the same from one process, DDP or FSDP, and back again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.tensor import DTensor, distribute_tensor

from sarmae.errors import CheckpointError
from sarmae.train.ema import MovingAverage

AVERAGE_PREFIX = "average."  # of the moving average's tensors beside the weights


def gather(
    objective: nn.Module, optimiser: torch.optim.Optimizer, average: MovingAverage | None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights and moments on the CPU, by name. Every rank must call it; only rank 0 gets them.

    weights: of the objective and, under AVERAGE_PREFIX, of the moving average. moments: as <parameter>/<moment>."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    found, optimised = get_state_dict(objective, optimiser, options=options)
    weights: dict[str, Tensor] = dict(found)  # type: ignore[arg-type]  # ours hold tensors alone
    moments: Mapping[str, Mapping[str, Tensor]] = optimised.get("state", {})  # type: ignore[assignment]
    flat = {f"{name}/{kind}": tensor for name, kinds in moments.items() for kind, tensor in kinds.items()}
    averaged = {} if average is None else {f"{AVERAGE_PREFIX}{name}": _whole(t) for name, t in average.state().items()}
    return {**weights, **averaged}, flat


def restore(
    objective: nn.Module,
    optimiser: torch.optim.Optimizer,
    average: MovingAverage | None,
    weights: Mapping[str, Tensor],
    moments: Mapping[str, Tensor],
) -> None:
    """Puts what `gather` returned back in place. Raises CheckpointError where names or shapes are another model's."""
    trained = {name: tensor for name, tensor in weights.items() if not name.startswith(AVERAGE_PREFIX)}
    options = StateDictOptions(full_state_dict=True)
    present, optimised = get_state_dict(objective, optimiser, options=options)
    _check(trained, present)
    nested: dict[str, Any] = {}
    for name, tensor in moments.items():
        parameter, kind = name.rsplit("/", 1)
        nested.setdefault(parameter, {})[kind] = tensor
    set_state_dict(
        objective,
        optimiser,
        model_state_dict=dict(trained),
        optim_state_dict={"state": nested, "param_groups": optimised["param_groups"]},
        options=options,
    )
    if average is not None:
        _restore_average(average, weights)


def _restore_average(average: MovingAverage, saved: Mapping[str, Tensor]) -> None:
    state = average.state()
    absent = [name for name in state if f"{AVERAGE_PREFIX}{name}" not in saved]
    if absent:
        raise CheckpointError(
            f"The checkpoint holds no moving average of {len(absent)} weights, train.ema asks for one. Set train.ema "
            "as the run that wrote it had it, or start a new run."
        )
    average.load({name: _like(saved[f"{AVERAGE_PREFIX}{name}"], present) for name, present in state.items()})


def _whole(tensor: Tensor) -> Tensor:
    whole: Tensor = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return whole.cpu()


def _like(tensor: Tensor, present: Tensor) -> Tensor:
    if isinstance(present, DTensor):
        return distribute_tensor(tensor.to(present.device), present.device_mesh, present.placements)
    return tensor


def _check(saved: Mapping[str, Tensor], present: Mapping[str, Any]) -> None:
    missing, extra = sorted(present.keys() - saved.keys()), sorted(saved.keys() - present.keys())
    other = [
        f"{name}: {tuple(saved[name].shape)} in the checkpoint, {tuple(present[name].shape)} here"
        for name in sorted(present.keys() & saved.keys())
        if saved[name].shape != present[name].shape
    ]
    if missing or extra or other:
        odd = [f"missing: {name}" for name in missing] + [f"unknown: {name}" for name in extra] + other
        raise CheckpointError(
            "The checkpoint is of another model:\n  " + "\n  ".join(odd[:8]) + "\nUse the run's own configuration "
            "(config.toml beside the checkpoints), or another OUT for another model."
        )
