"""The levels of a feature pyramid made of an encoder's last grid, for the heads of segmentation and detection.

Source: Li et al., "Exploring plain vision transformer backbones for object detection", ECCV 2022, section 3.
"""

from __future__ import annotations

from typing import Final

from torch import nn

STRIDES_PX: Final = (4, 8, 16, 32)
NORM_GROUPS: Final = 8


def pyramid_level(doublings: int, width: int) -> nn.Sequential:
    """From the grid (B, width, h, w) to one level of the same width, normalised.

    doublings: how often the grid is doubled by transposed convolutions; below 0: how often it is halved by maxima, of
    what there is at a border and in a smaller grid.
    """
    layers: list[nn.Module] = []
    for _ in range(doublings):
        layers += [nn.ConvTranspose2d(width, width, 2, stride=2), group_norm(width), nn.GELU()]
    if doublings < 0:
        layers.append(nn.MaxPool2d(2**-doublings, ceil_mode=True))
    return nn.Sequential(*layers, nn.Conv2d(width, width, 3, padding=1), group_norm(width))


def group_norm(width: int) -> nn.GroupNorm:
    """Normalises NORM_GROUPS groups of channels, each sample by itself."""
    return nn.GroupNorm(NORM_GROUPS, width)
