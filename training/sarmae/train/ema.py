"""Exponential moving average of weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MovingAverage:
    """Keeps decay * average + (1 - decay) * weights after every step, for every trained parameter, beside the model."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._averaged = {name: weight.detach().clone() for name, weight in _trained(model).items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Takes the present weights in."""
        average, present = list(self._averaged.values()), [weight.detach() for weight in _trained(model).values()]
        torch._foreach_lerp_(average, present, 1 - self._decay)

    def state(self) -> dict[str, Tensor]:
        """The averages by parameter name, not copies."""
        return dict(self._averaged)

    def load(self, averaged: dict[str, Tensor]) -> None:
        """Takes averages saved by `state`."""
        for name, kept in self._averaged.items():
            kept.copy_(averaged[name])


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
