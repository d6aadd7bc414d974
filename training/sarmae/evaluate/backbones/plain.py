"""Baselines without a weight: what the pixels tell by themselves."""

# B batch, C channels, H W pixels, h w cells of 16 px

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, pixel_unshuffle

from sarmae.evaluate.backbones.entrance import check_side, grid_of, plain_entrance
from sarmae.evaluate.values import Backbone, Inputs, Seen
from sarmae.stream.settings import TOKEN_PX

BINS: Final = 16
WIDEST: Final = 3.0  # standard deviations of the train split that the bins span either side; the outer ones are open


class PixelBackbone(Backbone):
    """Standardised pixels, 0 where there is no data. Width C * 256, channel by channel, row by row.

    pooled: the image's means over a grid of 16 x 16. grid: the pixels of each cell of 16 x 16 px.
    """

    learns = False
    stride_px = TOKEN_PX

    def __init__(self, name: str, inputs: Inputs) -> None:
        super().__init__()
        check_side(inputs.image_px, TOKEN_PX, name)
        self.name, self.width = name, len(inputs.channels) * TOKEN_PX**2
        self.entrance = plain_entrance(inputs)

    def forward(self, images: Tensor) -> Seen:
        """See Backbone."""
        grid_of(images, TOKEN_PX, self.name)
        pixels = self.entrance(images)
        return Seen(adaptive_avg_pool2d(pixels, TOKEN_PX).flatten(1), pixel_unshuffle(pixels, TOKEN_PX))

    def depth_groups(self) -> tuple[tuple[nn.Parameter, ...], ...]:
        """None."""
        return ()


class StatisticsBackbone(Backbone):
    """Mean, standard deviation and a histogram of BINS shares a channel, of standardised pixels with data.

    The bins are equal and fixed by the train split: WIDEST deviations either side of its mean. Width C * 18: C means,
    C deviations, then the shares, channel by channel within each bin. pooled: over the image; grid: over each cell of
    16 x 16 px. Where nothing was measured all are 0, the shares too, which no measured cell has.
    """

    learns = False
    stride_px = TOKEN_PX

    def __init__(self, name: str, inputs: Inputs) -> None:
        super().__init__()
        check_side(inputs.image_px, TOKEN_PX, name)
        self.name, self.width = name, len(inputs.channels) * (2 + BINS)
        self.entrance = plain_entrance(inputs)

    def forward(self, images: Tensor) -> Seen:
        """See Backbone."""
        grid_of(images, TOKEN_PX, self.name)
        values, measured = self.entrance(images), (~images.isnan()).float()
        cell = _moments(values, measured, (TOKEN_PX, TOKEN_PX))
        whole = _moments(values, measured, tuple(images.shape[-2:]))
        return Seen(whole.flatten(1), cell)

    def depth_groups(self) -> tuple[tuple[nn.Parameter, ...], ...]:
        """None."""
        return ()


def _moments(values: Tensor, measured: Tensor, window: tuple[int, ...]) -> Tensor:
    """(B, C * 18, h, w) over windows that do not overlap, of (B, C, H, W) values, 0.0 where measured is 0.0."""

    def share(which: Tensor) -> Tensor:
        return avg_pool2d(which, list(window))

    count = share(measured).clamp(min=1e-9)
    mean = share(values) / count
    centred = (values - nn.functional.interpolate(mean, size=values.shape[-2:])) * measured
    deviation = (share(centred.square()) / count).sqrt()
    place = ((values + WIDEST) * (BINS / (2 * WIDEST))).floor().clamp(0, BINS - 1)
    shares = [share((place == number).float() * measured) / count for number in range(BINS)]
    return torch.cat([mean, deviation, *shares], dim=1)
