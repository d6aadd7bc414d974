"""Exponential moving average of weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

WARMUP = 10


def decay_at(step: int, decay: float) -> float:
    """The decay of a step, counted from 0, on its way up to `decay`."""
    return min(decay, (1 + step) / (WARMUP + step))


def steps_to_reach(decay: float) -> int:
    """The first step whose decay is the full one."""
    return max(0, math.ceil(round((WARMUP * decay - 1) / (1 - decay), 6)))


class MovingAverage:
    """Keeps decay * average + (1 - decay) * weights of every trained parameter of a model, beside it.

    The decay of step n, counted from 0, is min(decay, (1 + n) / (10 + n)): without this warm-up the random weights of
    the start would be most of the average until some 1 / (1 - decay) steps were taken. Source: TensorFlow,
    tf.train.ExponentialMovingAverage, num_updates.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self._averaged = {name: weight.detach().clone() for name, weight in self._weights.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Moves the averages towards the weights after step number `step`, counted from 0."""
        present = [weight.detach() for weight in self._weights.values()]
        torch._foreach_lerp_(list(self._averaged.values()), present, 1 - decay_at(step, self._decay))

    def state(self) -> dict[str, Tensor]:
        """The averages by parameter name; the tensors themselves, not copies."""
        return dict(self._averaged)

    def load(self, averaged: dict[str, Tensor]) -> None:
        """Sets the averages to those that `state` gave."""
        for name, kept in self._averaged.items():
            kept.copy_(averaged[name])
