"""The detector on an encoder's last grid: a simple feature pyramid, and one anchor-free head for all its levels.

Sources: Li et al., "Exploring plain vision transformer backbones for object detection", ECCV 2022, section 3 (levels
made of one last feature map by transposed convolutions and pooling); Tian et al., "FCOS: fully convolutional one-stage
object detection", ICCV 2019 (four distances from a location to the sides of its box, class, centre-ness; centre-ness
beside the distances as in the 2020 version). Unlike there, the grid is first brought to PYRAMID_WIDTH, so that the head
has the same size for encoders of any width.
"""

# B batch, D width of the features, h w the encoder's grid, W width of the pyramid, K classes, L locations of all levels

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from sarmae.evaluate.pyramid import STRIDES_PX, group_norm, pyramid_level

PYRAMID_WIDTH: Final = 64
TOWER_LAYERS: Final = 2  # 3 x 3 convolutions before each of the two kinds of outputs; FCOS has 4
PRIOR: Final = 0.01  # share of locations that hold an object, at the start (Lin et al. 2017, focal loss, section 4.1)
LARGEST_EXPONENT: Final = 6.0  # a side at most 403 strides away: nothing overflows in the first steps


@dataclass(frozen=True, kw_only=True, eq=False)
class Locations:
    """The locations that predict a box, of all levels in a row.

    x_px, y_px: (L,) in the image.
    stride_px, level: (L,) of their level; the finest level is 0.
    level_strides_px: stride by number of the level.
    """

    x_px: Tensor
    y_px: Tensor
    stride_px: Tensor
    level: Tensor
    level_strides_px: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class DetectorOutput:
    """class_logits: (B, L, K). corners: (B, L, 4), pixels of the image. centre_logits: (B, L), of the centre-ness."""

    class_logits: Tensor
    corners: Tensor
    centre_logits: Tensor


class Detector(nn.Module):
    """A feature pyramid and its head.

    width: of the encoder's features.
    stride_px: of its grid.
    classes: how many.
    The strides of the levels are stride_px times powers of two, as near to STRIDES_PX as possible: a grid of stride 16
    gives exactly these, one of stride 14 gives 3.5, 7, 14 and 28. The first weights come from torch's global generator:
    build it within sarmae.evaluate.fitting.seeded.
    """

    def __init__(self, width: int, stride_px: int, classes: int) -> None:
        super().__init__()
        doublings = [round(math.log2(stride_px / stride)) for stride in STRIDES_PX]
        self.strides_px = tuple(stride_px / 2.0**doubling for doubling in doublings)
        self.project = nn.Sequential(nn.Conv2d(width, PYRAMID_WIDTH, 1), group_norm(PYRAMID_WIDTH))
        self.levels = nn.ModuleList(pyramid_level(doubling, PYRAMID_WIDTH) for doubling in doublings)
        self.class_tower = _tower()
        self.side_tower = _tower()
        self.classify = nn.Conv2d(PYRAMID_WIDTH, classes, 3, padding=1)
        self.regress = nn.Conv2d(PYRAMID_WIDTH, 4, 3, padding=1)
        self.centre = nn.Conv2d(PYRAMID_WIDTH, 1, 3, padding=1)
        self.scales = nn.Parameter(torch.ones(len(STRIDES_PX)))
        self._draw_weights()

    def forward(self, grid: Tensor) -> tuple[DetectorOutput, Locations]:
        """Predictions from a grid (B, D, h, w)."""
        projected = self.project(grid)
        maps = [level(projected) for level in self.levels]
        locations = self._locations([(m.shape[2], m.shape[3]) for m in maps], grid.device)
        logits, sides, centres = [], [], []
        for features, scale, stride_px in zip(maps, self.scales, self.strides_px, strict=True):
            class_features, side_features = self.class_tower(features), self.side_tower(features)
            exponents = (self.regress(side_features) * scale).clamp_max(LARGEST_EXPONENT)
            logits.append(_flat(self.classify(class_features)))
            sides.append(_flat(exponents.exp() * stride_px))
            centres.append(_flat(self.centre(side_features))[..., 0])
        corners = _corners(torch.cat(sides, dim=1), locations)
        output = DetectorOutput(
            class_logits=torch.cat(logits, dim=1), corners=corners, centre_logits=torch.cat(centres, dim=1)
        )
        return output, locations

    def _locations(self, sizes: list[tuple[int, int]], device: torch.device) -> Locations:
        """The middles of the cells of every level."""
        places = [_middles(size, stride_px, device) for size, stride_px in zip(sizes, self.strides_px, strict=True)]
        x_px, y_px = torch.cat(places).unbind(1)
        strides_px = torch.tensor(self.strides_px, device=device)
        level = torch.repeat_interleave(torch.tensor([len(place) for place in places], device=device))
        return Locations(x_px=x_px, y_px=y_px, stride_px=strides_px[level], level=level, level_strides_px=strides_px)

    def _draw_weights(self) -> None:
        """He's normal in the pyramid and the towers, 0.01 in the last layers; biases 0, but PRIOR for the classes."""
        last = {self.classify, self.regress, self.centre}
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                fan_in = module.in_channels * (math.prod(module.kernel_size) if isinstance(module, nn.Conv2d) else 1)
                nn.init.normal_(module.weight, std=0.01 if module in last else math.sqrt(2 / fan_in))
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # every layer of ours has one
        nn.init.constant_(self.classify.bias, -math.log((1 - PRIOR) / PRIOR))  # type: ignore[arg-type]


def _tower() -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(TOWER_LAYERS):
        layers += [nn.Conv2d(PYRAMID_WIDTH, PYRAMID_WIDTH, 3, padding=1), group_norm(PYRAMID_WIDTH), nn.ReLU()]
    return nn.Sequential(*layers)


def _middles(size: tuple[int, int], stride_px: float, device: torch.device) -> Tensor:
    """(h w, 2): x and y of the middles of the cells of a map, row by row."""
    down, across = ((torch.arange(count, device=device) + 0.5) * stride_px for count in size)
    y, x = torch.meshgrid(down, across, indexing="ij")
    return torch.stack([x.reshape(-1), y.reshape(-1)], dim=1)


def _flat(output: Tensor) -> Tensor:
    """(B, C, h, w) to (B, h w, C)."""
    return output.flatten(2).transpose(1, 2)


def _corners(sides_px: Tensor, locations: Locations) -> Tensor:
    """Boxes from the distances (B, L, 4) to their left, upper, right and lower side."""
    left, upper, right, lower = sides_px.unbind(-1)
    x, y = locations.x_px, locations.y_px
    return torch.stack([x - left, y - upper, x + right, y + lower], dim=-1)
