"""What stands before an encoder: a task's images in their own units in, the encoder's normalised channels out.

Channels meet by name. A channel that an encoder expects and a task lacks is the mean, in standardised units, of those
that it has: with one channel every one of the encoder's sees it. On the input this does what
sarmae.weights.adapt_channels does to the weights (its sum over channels is kept), and leaves the weights as they are.
"""

# B batch, C channels of the task, E channels of the encoder, H W pixels

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn

from sar1m.store.errors import ConfigError
from sarmae.evaluate.values import Inputs
from sarmae.stream.normalise import Normalise

RGB: Final = 3
CO_POLARISED: Final = ("VV", "HH")


class Entrance(nn.Module):
    """Standardises every channel, 0 where there is no data, then mixes the task's channels into the encoder's.

    normalise: over the C channels. mix: (E, C), or None where the encoder takes them as they are.
    """

    mix: Tensor | None

    def __init__(self, normalise: Normalise, mix: Tensor | None) -> None:
        super().__init__()
        self.normalise = normalise
        self.register_buffer("mix", mix)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) as Images.read gives them to (B, E, H, W). ConfigError for another number of channels."""
        standardised: Tensor = self.normalise(images)
        if self.mix is None:
            return standardised
        return nn.functional.conv2d(standardised, self.mix[:, :, None, None])


def plain_entrance(inputs: Inputs) -> Entrance:
    """Channels as they come, by the statistics of the task's train split."""
    return Entrance(Normalise(inputs.mean, inputs.std), None)


def sar_entrance(inputs: Inputs, channels: tuple[str, ...], normalise: Normalise) -> Entrance:
    """For an encoder of ours that was pretrained on channels (E), in decibels by normalise.

    A channel of the task that the encoder knows by name is normalised as in pretraining where the units are dB, and by
    the train split's statistics where they are not; one that it does not know by the train split's statistics. It is
    looked at only where no channel is known.
    """
    mean, std = list(inputs.mean), list(inputs.std)
    known = [place for place, name in enumerate(inputs.channels) if name in channels]
    for place in known if inputs.units == "dB" else ():
        own = channels.index(inputs.channels[place])
        mean[place], std[place] = float(normalise.mean_db[own]), float(normalise.std_db[own])
    mix = torch.zeros(len(channels), len(inputs.channels))
    seen = known or list(range(len(inputs.channels)))
    for row, name in zip(mix, channels, strict=True):
        found = [inputs.channels.index(name)] if name in inputs.channels else seen
        row[found] = 1.0 / len(found)
    return Entrance(Normalise(mean, std), None if channels == inputs.channels else mix)


def optical_entrance(inputs: Inputs, channels: int) -> Entrance:
    """For an encoder of pictures with so many channels, in whose normalised space a channel has mean 0 and std 1.

    One channel is told to all. Of two, co-polarised first, an RGB encoder sees both and their mean. Three go in as they
    are, and any other number as its mean.
    """
    count = len(inputs.channels)
    mix = torch.full((channels, count), 1.0 / count)
    if count == channels:
        mix = torch.eye(channels)
    elif count == 2 and channels == RGB:
        first = int(inputs.channels[0] not in CO_POLARISED and inputs.channels[1] in CO_POLARISED)
        mix[:2] = torch.eye(2)[[first, 1 - first]]
    return Entrance(Normalise(inputs.mean, inputs.std), mix)


def grid_of(images: Tensor, patch_px: int, name: str) -> tuple[int, int]:
    """Patches along rows and columns of (B, C, H, W). ConfigError where a side is no multiple of the patch."""
    height, width = images.shape[-2:]
    check_side(height, patch_px, name)
    check_side(width, patch_px, name)
    return height // patch_px, width // patch_px


def check_side(side_px: int, patch_px: int, name: str) -> None:
    """ConfigError where a side of an image is no multiple of an encoder's patch."""
    if side_px < patch_px or side_px % patch_px:
        nearest = max(round(side_px / patch_px), 1) * patch_px
        raise ConfigError(
            f"{name}: images of {side_px} px, and its patches are of {patch_px} px; a multiple expected. Set the "
            f"dataset's image_px to {nearest} where that is a multiple of 16, or leave this arm out."
        )


def check_statistics(inputs: Inputs) -> None:
    """ConfigError where a task's statistics cannot normalise its channels."""
    lengths = {len(inputs.channels), len(inputs.mean), len(inputs.std)}
    sound = all(map(math.isfinite, (*inputs.mean, *inputs.std))) and all(value > 0 for value in inputs.std)
    if len(lengths) > 1 or not inputs.channels or not sound:
        raise ConfigError(
            f"images of {', '.join(inputs.channels)} ({inputs.units}): mean {list(inputs.mean)}, standard deviation "
            f"{list(inputs.std)} over the train split; one finite mean and one positive deviation a channel expected. "
            "A channel that is the same everywhere tells nothing: look at the images, or leave it out of them."
        )
