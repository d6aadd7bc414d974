"""Training of heads, and of encoders below them: one loop for classification, segmentation and detection.

    head = seeded(lambda: Head(backbone.width, classes), seed=seed, name="head")
    groups = parameter_groups(head.parameters())
    # or: layerwise_groups(backbone.depth_groups(), head.parameters(), layer_decay=...)
    losses = fit(step, groups, count=len(train), config=config.fit, seed=seed)

    def step(numbers: Tensor, epoch: int) -> Tensor:         # (B,) int64 on the CPU, 0 .. count - 1
        images = task.images.read(train[numbers].tolist())
        if config.fit.flips:
            images = flip(images, flips_of(numbers, seed=seed, epoch=epoch))
        ...
        return loss                                          # scalar with a gradient

Nothing is drawn from a global generator: the order of an epoch and the flips depend on (seed, epoch, number), the first
weights on (seed, name). Leave modules in eval() mode: then the statistics of batch norms are fixed and no layer drops
out, so the output for a sample depends on nothing else. New heads use group or layer norm.
"""

# B batch, S samples, H W pixels

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import torch
from torch import Tensor, nn

from sar1m.store.errors import ConfigError
from sarmae.errors import NonFiniteError
from sarmae.evaluate.study_config import FitConfig
from sarmae.stream.keyed_random import DrawKey, integers, uniform
from sarmae.train.schedule import Schedule

Made = TypeVar("Made", bound=nn.Module)
Step = Callable[[Tensor, int], Tensor]  # sample positions (B,) int64 and the epoch, to a loss

MAX_GRADIENT_NORM: Final = 5.0  # of all weights together; ordinary steps stay below it
ORDER_STREAM: Final = "fit-order"
FLIP_STREAM: Final = "fit-flip"


@dataclass(frozen=True, kw_only=True, eq=False)
class ParameterGroup:
    """Weights with the same learning rate and weight decay.

    scale: factor on the learning rate.
    decays: whether weight decay applies.
    """

    parameters: tuple[nn.Parameter, ...]
    scale: float
    decays: bool


def parameter_groups(parameters: Iterable[nn.Parameter], *, scale: float = 1.0) -> tuple[ParameterGroup, ...]:
    """Weights with one learning rate, in two groups: matrices, with weight decay, and the rest, without.

    The rest is biases and norms (at most one axis), and tokens and position embeddings ((1, N, D)). Weights without a
    gradient are left out.
    """
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    parts = [
        ParameterGroup(parameters=tuple(one for one in learning if _decays(one) == decays), scale=scale, decays=decays)
        for decays in (True, False)
    ]
    return tuple(part for part in parts if part.parameters)


def layerwise_groups(
    depth_groups: Sequence[Sequence[nn.Parameter]], head: Iterable[nn.Parameter], *, layer_decay: float
) -> tuple[ParameterGroup, ...]:
    """The weights of an encoder and of a head, for one training with layer-wise decay.

    depth_groups: of the encoder, from input to output.
    layer_decay: the head learns at the full rate, group g of n (from the input, 0) at layer_decay^(n - g) of it.
    Source: Clark et al., ELECTRA, ICLR 2020, and Bao et al., BEiT, ICLR 2022.
    """
    depth = len(depth_groups)
    scales = [layer_decay ** (depth - place) for place in range(depth)]
    layers = [
        part for group, scale in zip(depth_groups, scales, strict=True) for part in parameter_groups(group, scale=scale)
    ]
    return (*layers, *parameter_groups(head))


def fit(
    step: Step, weights: Sequence[ParameterGroup], *, count: int, config: FitConfig, seed: int
) -> tuple[float, ...]:
    """Trains the weights by AdamW. The learning rate warms up and then falls to 0 along half a cosine, over
    config.epochs.

    step: loss of a batch.
    count: number of samples. Every epoch uses each sample once, in a new order; the last batch may be smaller.
    Returns the mean loss of each epoch. The weights are those after the last epoch. Raises ConfigError without samples
    or weights; NonFiniteError where a loss is NaN or infinite.
    """
    if count < 1 or not weights:
        raise ConfigError(f"fit: {count} samples and {len(weights)} groups of weights; at least one of each expected.")
    optimiser = _optimiser(weights, config)
    rate = schedule(config, count=count)
    every = [parameter for group in weights for parameter in group.parameters]
    losses = []
    taken = 0
    for epoch in range(config.epochs):
        total = 0.0
        for numbers in torch.split(epoch_order(count, seed=seed, epoch=epoch), config.batch):
            for group, asked in zip(optimiser.param_groups, weights, strict=True):
                group["lr"] = rate(taken) * asked.scale
            loss = step(numbers, epoch)
            value = loss.item()
            _check(value, numbers, epoch, config)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(every, MAX_GRADIENT_NORM)
            optimiser.step()
            total += value * len(numbers)
            taken += 1
        losses.append(total / count)
    return tuple(losses)


def schedule(config: FitConfig, *, count: int) -> Schedule:
    """The learning rate by step, of a training on count samples."""
    steps = config.epochs * -(-count // config.batch)
    return Schedule(peak=config.lr, floor=0.0, warmup_steps=round(config.warmup_share * steps), steps=steps)


def epoch_order(count: int, *, seed: int, epoch: int) -> Tensor:
    """(count,) int64: every position once, shuffled by (seed, epoch)."""
    key = DrawKey(seed=seed, epoch=epoch, stream=ORDER_STREAM)
    return uniform(key, torch.arange(count), 1)[:, 0].argsort(stable=True)


def flips_of(numbers: Tensor, *, seed: int, epoch: int) -> Tensor:
    """(B, 2) bool: whether each sample is flipped upside down, and whether left and right are swapped."""
    return integers(DrawKey(seed=seed, epoch=epoch, stream=FLIP_STREAM), numbers, 2, 2).bool()


def flip(pictures: Tensor, flips: Tensor) -> Tensor:
    """Pictures or masks (B, ..., H, W), flipped. flips: of flips_of."""
    axes = (-1,) + (1,) * (pictures.ndim - 1)
    for column, axis in ((0, -2), (1, -1)):
        turned = flips[:, column].view(axes).to(pictures.device)
        pictures = torch.where(turned, pictures.flip(axis), pictures)
    return pictures


def seeded(make: Callable[[], Made], *, seed: int, name: str) -> Made:
    """What `make` builds, with first weights that depend on (seed, name) alone. The global generator is not changed."""
    word = hashlib.blake2b(f"{seed}|{name}".encode(), digest_size=8).digest()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int.from_bytes(word, "little") >> 1)
        return make()


def _decays(parameter: nn.Parameter) -> bool:
    return not (parameter.ndim <= 1 or (parameter.ndim == 3 and parameter.shape[0] == 1))


def _optimiser(weights: Sequence[ParameterGroup], config: FitConfig) -> torch.optim.AdamW:
    groups = [
        {"params": list(group.parameters), "weight_decay": config.weight_decay if group.decays else 0.0}
        for group in weights
    ]
    return torch.optim.AdamW(groups, lr=config.lr)


def _check(loss: float, numbers: Tensor, epoch: int, config: FitConfig) -> None:
    if not abs(loss) < float("inf"):
        shown = ", ".join(str(number) for number in numbers[:8].tolist())
        raise NonFiniteError(
            f"fit: the loss is {loss} in epoch {epoch}, on training samples {shown}{' ...' if len(numbers) > 8 else ''}"
            f" (counted from 0 in the train split); a finite loss expected. Lower fit.lr ({config.lr:g}), or look at "
            "the images."
        )
