"""Segmentation heads on an encoder's grid: a light feature pyramid, and one linear map."""

# B batch, D width of the features, h w the encoder's grid, H W pixels, F width of the pyramid, K classes

from __future__ import annotations

import math
from typing import Final

from torch import Tensor, nn
from torch.nn import functional

from sarmae.evaluate.pyramid import STRIDES_PX, group_norm, pyramid_level

PYRAMID_WIDTH: Final = 96
_FLOOR: Final = 1e-6  # of a channel's deviation: one that does not vary becomes 0


class Standardise(nn.Module):
    """Standardises features (B, D, h, w) by the mean and deviation of each channel over the train split.

    Both are fixed before the first step, so that raw pixels and learned features meet the head at the same scale.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean[:, None, None].float())
        self.register_buffer("std", std.clamp(min=_FLOOR)[:, None, None].float())

    def forward(self, grid: Tensor) -> Tensor:
        """Standardised features (B, D, h, w)."""
        return (grid - self.mean) / self.std


class LinearHead(nn.Module):
    """A linear map from each cell to its class, interpolated bilinearly to pixels: the linear probe of segmentation."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.classify = nn.Conv2d(width, classes, 1)

    def forward(self, grid: Tensor, side_px: int) -> Tensor:
        """grid: (B, D, h, w). Logits (B, K, side_px, side_px)."""
        return to_pixels(self.classify(grid), side_px)


class PyramidHead(nn.Module):
    """Maps of strides 4, 8, 16 and 32 px from the encoder's last grid, added at the finest stride, and a class for each
    pixel.

    stride_px: of the encoder's grid. Finer maps come from transposed convolutions, coarser ones from maxima. A stride
    that is no power of two is rounded to the nearest.
    Source: Li et al., Exploring plain vision transformer backbones for object detection, 2022, section 3 (simple
    feature pyramid); Kirillov et al., Panoptic feature pyramid networks, 2019, section 3.1 (levels added at the finest
    stride).
    """

    def __init__(self, width: int, stride_px: int, classes: int) -> None:
        super().__init__()
        self.lateral = nn.Conv2d(width, PYRAMID_WIDTH, 1)
        self.levels = nn.ModuleList(
            pyramid_level(round(math.log2(stride_px / target_px)), PYRAMID_WIDTH) for target_px in STRIDES_PX
        )
        self.fuse = nn.Sequential(
            nn.Conv2d(PYRAMID_WIDTH, PYRAMID_WIDTH, 3, padding=1), group_norm(PYRAMID_WIDTH), nn.GELU()
        )
        self.classify = nn.Conv2d(PYRAMID_WIDTH, classes, 1)

    def forward(self, grid: Tensor, side_px: int) -> Tensor:
        """grid: (B, D, h, w). Logits (B, K, side_px, side_px)."""
        narrow = self.lateral(grid)
        finest, *coarser = (level(narrow) for level in self.levels)
        for level in coarser:
            finest = finest + functional.interpolate(level, finest.shape[-2:], mode="bilinear", align_corners=False)
        return to_pixels(self.classify(self.fuse(finest)), side_px)


def to_pixels(logits: Tensor, side_px: int) -> Tensor:
    """Logits at the pixels, (B, K, side_px, side_px), interpolated bilinearly."""
    return functional.interpolate(logits, (side_px, side_px), mode="bilinear", align_corners=False)
