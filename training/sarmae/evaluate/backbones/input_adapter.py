"""The first step of every backbone: images of a task in their own units in, normalised channels of the encoder out.

Channels are matched by name. A channel that the encoder expects and the task lacks becomes the mean, in standardised
units, of the known ones. So an image with one channel is given to every channel of the encoder. This does to the input
what sarmae.weights.adapt_channels does to the weights (the sum over channels is kept), and leaves the weights as they
are.
"""

# B batch, C channels of the task, E channels of the encoder, H W pixels

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn

from sar1m.store.errors import ConfigError
from sarmae.evaluate.labelled_images import Inputs
from sarmae.stream.normalise import Normalise

RGB: Final = 3
CO_POLARISED: Final = ("VV", "HH")


class InputAdapter(nn.Module):
    """Standardises every channel, 0 where there is no data, then mixes the channels of the task into those of the
    encoder.

    normalise: over the C channels.
    mix: (E, C); None where the encoder takes the channels as they are.
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


def plain_adapter(inputs: Inputs) -> InputAdapter:
    """Keeps the channels; standardises by the task's train split."""
    return InputAdapter(Normalise(inputs.mean, inputs.std), None)


def sar_adapter(inputs: Inputs, channels: tuple[str, ...], normalise: Normalise) -> InputAdapter:
    """For an encoder of ours that was pretrained on `channels` (E), with `normalise` of decibels.

    A channel that the encoder knows by name is normalised as in pretraining where the units are dB. In other units, and
    for unknown channels, the statistics of the train split are used. Unknown channels are used only where no channel is
    known.
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
    return InputAdapter(Normalise(mean, std), None if channels == inputs.channels else mix)


def optical_adapter(inputs: Inputs, channels: int) -> InputAdapter:
    """For an encoder of pictures with `channels` channels, whose normalised inputs have mean 0 and standard deviation
    1.

    One channel of the task is copied to all. Two are given to an RGB encoder, co-polarised first, with their mean as
    the third. As many channels as the encoder has go in as they are; any other number is averaged.
    """
    count = len(inputs.channels)
    mix = torch.full((channels, count), 1.0 / count)
    if count == channels:
        mix = torch.eye(channels)
    elif count == 2 and channels == RGB:
        first = int(inputs.channels[0] not in CO_POLARISED and inputs.channels[1] in CO_POLARISED)
        mix[:2] = torch.eye(2)[[first, 1 - first]]
    return InputAdapter(Normalise(inputs.mean, inputs.std), mix)


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
            "A channel that is the same everywhere holds no information: check the images, or leave the channel out."
        )
