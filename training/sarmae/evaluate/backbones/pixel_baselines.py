"""Baselines without weights: the pixels themselves, and their statistics."""

# B batch, C channels, H W pixels, h w cells of 16 px

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, pixel_unshuffle
from typing_extensions import override

from sarmae.evaluate.backbones.backbone import Backbone, Features
from sarmae.evaluate.backbones.input_adapter import check_side, grid_of, plain_adapter
from sarmae.evaluate.labelled_images import Inputs
from sarmae.stream.loader_settings import TOKEN_PX

BINS: Final = 16
WIDEST: Final = 3.0  # standard deviations of the train split that the bins span either side; the outer ones are open


class PixelBackbone(Backbone):
    """Standardised pixels, 0 where there is no data. Width: C * 256, channel by channel, row by row.

    pooled: means over a grid of 16 x 16 parts of the image.
    grid: the pixels of each cell of 16 x 16 px.
    """

    learns = False
    stride_px = TOKEN_PX

    def __init__(self, name: str, inputs: Inputs) -> None:
        super().__init__()
        check_side(inputs.image_px, TOKEN_PX, name)
        self.name, self.width = name, len(inputs.channels) * TOKEN_PX**2
        self.adapter = plain_adapter(inputs)

    @override
    def forward(self, images: Tensor) -> Features:
        grid_of(images, TOKEN_PX, self.name)
        pixels = self.adapter(images)
        return Features(adaptive_avg_pool2d(pixels, TOKEN_PX).flatten(1), pixel_unshuffle(pixels, TOKEN_PX))

    @override
    def depth_groups(self) -> tuple[tuple[nn.Parameter, ...], ...]:
        return ()


class StatisticsBackbone(Backbone):
    """Mean, standard deviation and a histogram of BINS shares for each channel, of standardised pixels with data.

    The bins have equal widths and are fixed by the train split: WIDEST standard deviations on either side of its mean.
    Width: C * 18 (C means, C deviations, then the shares, channel by channel within each bin).
    pooled: over the image. grid: over each cell of 16 x 16 px.
    Where there is no data all values are 0, also the shares, which never are all 0 in a cell with data.
    """

    learns = False
    stride_px = TOKEN_PX

    def __init__(self, name: str, inputs: Inputs) -> None:
        super().__init__()
        check_side(inputs.image_px, TOKEN_PX, name)
        self.name, self.width = name, len(inputs.channels) * (2 + BINS)
        self.adapter = plain_adapter(inputs)

    @override
    def forward(self, images: Tensor) -> Features:
        grid_of(images, TOKEN_PX, self.name)
        values, measured = self.adapter(images), (~images.isnan()).float()
        cell = _moments(values, measured, (TOKEN_PX, TOKEN_PX))
        whole = _moments(values, measured, tuple(images.shape[-2:]))
        return Features(whole.flatten(1), cell)

    @override
    def depth_groups(self) -> tuple[tuple[nn.Parameter, ...], ...]:
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
