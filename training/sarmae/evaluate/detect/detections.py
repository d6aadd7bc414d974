"""Detections from a detector's output: scores, clipping, suppression."""

# B batch, C channels, H W pixels, L locations, n found

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sarmae.evaluate.detect.detector import DetectorOutput, Locations
from sarmae.evaluate.detect.geometry import suppress

LEAST_CHANCE: Final = 0.05  # of a class at a location; FCOS
CANDIDATES: Final = 1000  # an image, before suppression
MOST_OVERLAP: Final = 0.6  # of two found objects of a class; FCOS
MOST_FOUND: Final = 100  # an image; COCO counts no more


@dataclass(frozen=True, kw_only=True, eq=False)
class Detections:
    """Detected objects of one image, the best first. corners: (n, 4) float32, labels: (n,) int64, scores: (n,)
    float32.
    """

    corners: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]


def decode_detections(output: DetectorOutput, locations: Locations, images: Tensor) -> list[Detections]:
    """The detections of every image (B, C, H, W), at most MOST_FOUND each.

    Locations on pixels without data (NaN in every channel) give none. Boxes are clipped to the rectangle around the
    pixels with data. A score is the geometric mean of the class probability and of the centre-ness (FCOS, 2020).
    """
    measured = ~images.isnan().all(dim=1)
    return [_decode_one(output, locations, measured[i], i) for i in range(len(images))]


def _decode_one(output: DetectorOutput, locations: Locations, measured: Tensor, image: int) -> Detections:
    row, column = locations.y_px.floor().long(), locations.x_px.floor().long()
    present = (row < measured.shape[0]) & (column < measured.shape[1])
    present &= measured[row.clamp_max(measured.shape[0] - 1), column.clamp_max(measured.shape[1] - 1)]
    chance = torch.sigmoid(output.class_logits[image])
    scores = (chance * torch.sigmoid(output.centre_logits[image])[:, None]).sqrt()
    place, label = torch.nonzero((chance > LEAST_CHANCE) & present[:, None], as_tuple=True)
    best = torch.argsort(scores[place, label], descending=True, stable=True)[:CANDIDATES]
    place, label = place[best], label[best]
    corners = _clipped(output.corners[image, place], measured)
    solid = ((corners[:, 2:] - corners[:, :2]) > 0).all(1)
    corners, label, score = corners[solid], label[solid], scores[place, label][solid]
    kept = suppress(corners, score, label, MOST_OVERLAP)[:MOST_FOUND]
    return Detections(
        corners=corners[kept].cpu().numpy(), labels=label[kept].cpu().numpy(), scores=score[kept].cpu().numpy()
    )


def _clipped(corners: Tensor, measured: Tensor) -> Tensor:
    """Boxes clipped to the rectangle around the measured pixels; unchanged where there are none."""
    rows, columns = measured.any(1).nonzero()[:, 0], measured.any(0).nonzero()[:, 0]
    if not len(rows):
        return corners
    low = torch.stack([columns[0], rows[0]]).to(corners.dtype).repeat(2)
    high = torch.stack([columns[-1] + 1, rows[-1] + 1]).to(corners.dtype).repeat(2)
    return torch.minimum(torch.maximum(corners, low), high)
