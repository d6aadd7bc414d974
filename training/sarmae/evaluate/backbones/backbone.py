"""What every encoder is to the protocols: images in their own units in, features out."""

# B batch, C channels, H W pixels, D width of the features, h w the encoder's grid

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn


class Features(NamedTuple):
    """Features of a batch. pooled: (B, D), one vector an image. grid: (B, D, h, w), one vector a patch."""

    pooled: Tensor
    grid: Tensor


class Backbone(nn.Module):
    """An encoder as every protocol uses it: images in their own units in, features out.

    name: for tables.
    width: D.
    stride_px: side of a patch of the grid, in pixels of the input.
    learns: whether it has weights that fine-tuning can change.
    """

    name: str
    width: int
    stride_px: int
    learns: bool

    def forward(self, images: Tensor) -> Features:
        """Features of images (B, C, H, W) as Images.read gives them, NaN where there is no data. It normalises by
        itself.
        """
        raise NotImplementedError

    def depth_groups(self) -> tuple[tuple[nn.Parameter, ...], ...]:
        """Its weights in groups from input to output, for layer-wise decay of the learning rate; empty without
        weights.
        """
        raise NotImplementedError
