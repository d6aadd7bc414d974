"""Exponential moving average of weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MovingAverage:
    """Keeps decay * average + (1 - decay) * weights of every trained parameter of a model, beside it."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self._averaged = {name: weight.detach().clone() for name, weight in self._weights.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Moves the averages towards the present weights."""
        present = [weight.detach() for weight in self._weights.values()]
        torch._foreach_lerp_(list(self._averaged.values()), present, 1 - self._decay)

    def state(self) -> dict[str, Tensor]:
        """The averages by parameter name; the tensors themselves, not copies."""
        return dict(self._averaged)

    def load(self, averaged: dict[str, Tensor]) -> None:
        """Sets the averages to those that `state` gave."""
        for name, kept in self._averaged.items():
            kept.copy_(averaged[name])
