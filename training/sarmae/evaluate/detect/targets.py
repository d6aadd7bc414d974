"""What each location has to predict, and the loss.

Source: Tian et al., FCOS, 2019/2020: centre sampling; of two boxes at a location the smaller one; focal loss over all
locations; regression and centre-ness over locations with an object.
"""

# B batch, L locations, n boxes of an image, K classes

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # torch's own name for it

from sarmae.evaluate.detect.detector import DetectorOutput, Locations
from sarmae.evaluate.detect.geometry import areas, generalised_overlaps
from sarmae.evaluate.labelled_images import Boxes

SIDE_PER_STRIDE: Final = 8  # a level takes boxes of a mean side up to so many of its strides: 32, 64, 128 px, all above
CENTRE_STRIDES: Final = 1.5  # locations of a box lie no further from its centre
FOCUS: Final = 2.0  # Lin et al., "Focal loss for dense object detection", ICCV 2017: gamma and alpha
OBJECT_WEIGHT: Final = 0.25
NOTHING: Final = -1
LEFT_OUT: Final = -2


class BoxTensors(NamedTuple):
    """Boxes as tensors: corners (n, 4), labels (n,), crowd (n,)."""

    corners: Tensor
    labels: Tensor
    crowd: Tensor

    @classmethod
    def of(cls, boxes: Boxes, device: torch.device) -> BoxTensors:
        """The boxes of an image, on a device."""
        return cls(*(torch.as_tensor(column).to(device) for column in (boxes.corners, boxes.labels, boxes.crowd)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Targets:
    """Of one image. labels: (L,) int64, NOTHING for background, LEFT_OUT in crowd regions.

    corners: (L, 4) of the box of each location; without meaning where there is none.
    """

    labels: Tensor
    corners: Tensor


def assign(objects: BoxTensors, locations: Locations) -> Targets:
    """The box that every location has to predict.

    A box belongs to one level, chosen by its mean side (the root of its area). Of that level it gets the locations that
    lie inside it and within CENTRE_STRIDES of its centre along both axes. A box that is too small or thin to hold a
    location of its level is enlarged until it reaches the nearest one: boxes under 4 px are found, somewhat too large.
    Where boxes share a location, the smallest one gets it; a box directly below a smaller one may get none. Crowd
    regions are neither objects nor background.
    """
    inside_crowd = _inside(objects.corners[objects.crowd], locations).any(1)
    background = torch.where(inside_crowd, LEFT_OUT, NOTHING)
    corners, labels = objects.corners[~objects.crowd], objects.labels[~objects.crowd]
    if not len(corners):
        return Targets(labels=background, corners=torch.zeros(len(locations.x_px), 4, device=background.device))
    strides_px = locations.level_strides_px
    level = torch.bucketize(areas(corners).sqrt(), strides_px[:-1] * SIDE_PER_STRIDE)
    reach_px = strides_px[level]
    enlarged = _reaching(corners, reach_px)
    centre = (corners[:, :2] + corners[:, 2:]) / 2
    away_px = torch.maximum(
        (locations.x_px[:, None] - centre[None, :, 0]).abs(), (locations.y_px[:, None] - centre[None, :, 1]).abs()
    )
    claimed = (locations.level[:, None] == level[None, :]) & (away_px <= CENTRE_STRIDES * reach_px)
    claimed &= _inside(enlarged, locations)
    size, owner = torch.where(claimed, areas(enlarged)[None, :], torch.inf).min(1)
    return Targets(labels=torch.where(size.isfinite(), labels[owner], background), corners=enlarged[owner])


def _inside(corners: Tensor, locations: Locations) -> Tensor:
    """(L, n): whether a location lies in a box. The border belongs to the box."""
    x, y = locations.x_px[:, None], locations.y_px[:, None]
    x0, y0, x1, y1 = corners.unbind(-1)
    return (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)


def _reaching(corners: Tensor, stride_px: Tensor) -> Tensor:
    """The boxes, enlarged where needed, so that each holds the location of its level that is next to its centre."""
    centre = (corners[:, :2] + corners[:, 2:]) / 2
    nearest = ((centre / stride_px[:, None]).floor() + 0.5) * stride_px[:, None]
    return torch.cat([torch.minimum(corners[:, :2], nearest), torch.maximum(corners[:, 2:], nearest)], dim=1)


def centreness(corners: Tensor, x_px: Tensor, y_px: Tensor) -> Tensor:
    """Centre-ness (n,) of locations x_px, y_px (n,) in boxes (n, 4): 1 in the middle, 0 on the border. Source: FCOS,
    equation 3.
    """
    left, right = x_px - corners[:, 0], corners[:, 2] - x_px
    upper, lower = y_px - corners[:, 1], corners[:, 3] - y_px
    across = torch.minimum(left, right) / torch.maximum(left, right).clamp_min(1e-6)
    down = torch.minimum(upper, lower) / torch.maximum(upper, lower).clamp_min(1e-6)
    return (across * down).clamp_min(0).sqrt()


def detection_loss(output: DetectorOutput, locations: Locations, targets: Sequence[Targets]) -> Tensor:
    """Focal loss + generalised IoU + centre-ness, each divided by the number of locations with an object (at least 1).

    A batch without objects trains only the background.
    """
    labels = torch.stack([target.labels for target in targets])
    image, place = torch.nonzero(labels >= 0, as_tuple=True)
    objects = max(1, len(place))
    loss = _focal(output.class_logits, labels) / objects
    wanted = torch.stack([target.corners for target in targets])[image, place]
    apart = 1 - generalised_overlaps(output.corners[image, place], wanted)
    middle = centreness(wanted, locations.x_px[place], locations.y_px[place])
    guessed = F.binary_cross_entropy_with_logits(output.centre_logits[image, place], middle, reduction="sum")
    return loss + (apart.sum() + guessed) / objects


def _focal(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum over classes and over the locations that are not left out."""
    wanted = torch.zeros_like(logits)
    image, place = torch.nonzero(labels >= 0, as_tuple=True)
    wanted[image, place, labels[image, place]] = 1
    chance = torch.sigmoid(logits)
    wrong = torch.where(wanted > 0, 1 - chance, chance)
    weight = torch.where(wanted > 0, OBJECT_WEIGHT, 1 - OBJECT_WEIGHT) * wrong**FOCUS
    each = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none") * weight
    return (each.sum(-1) * (labels != LEFT_OUT)).sum()
