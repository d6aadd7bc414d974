"""The precision in which a run computes."""

from __future__ import annotations

import torch

from sarmae.config import TrainConfig


def computes_in_bf16(train: TrainConfig, device: torch.device) -> bool:
    """Whether matrix products run in bfloat16 on a device: as `precision` says, with `auto` on GPUs that have it."""
    if train.precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return train.precision == "bf16"
