"""Boxes as corners x0 y0 x1 y1 in pixels of the image as it is read: overlaps, mirroring, greedy suppression."""

# N, M boxes

from __future__ import annotations

import torch
from torch import Tensor

_SMALLEST_AREA_PX2 = 1e-6  # under a quotient: two boxes without area overlap by 0


def areas(corners: Tensor) -> Tensor:
    """Areas in square pixels, (...) of corners (..., 4); 0 where a side is negative."""
    return (corners[..., 2:] - corners[..., :2]).clamp_min(0).prod(-1)


def overlaps(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of all pairs of boxes (N, 4) and (M, 4): (N, M), 0 for boxes without area."""
    low = torch.maximum(first[:, None, :2], second[None, :, :2])
    high = torch.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = (high - low).clamp_min(0).prod(-1)
    union = areas(first)[:, None] + areas(second)[None, :] - shared
    return shared / union.clamp_min(_SMALLEST_AREA_PX2)


def generalised_overlaps(first: Tensor, second: Tensor) -> Tensor:
    """Generalised intersection over union of boxes (N, 4) and (N, 4), pair by pair: (N,) in [-1, 1].

    It falls with the distance where boxes do not touch. Source: Rezatofighi et al., "Generalized intersection over
    union", CVPR 2019, algorithm 1.
    """
    shared = torch.cat([torch.maximum(first, second)[:, :2], torch.minimum(first, second)[:, 2:]], dim=1)
    around = torch.cat([torch.minimum(first, second)[:, :2], torch.maximum(first, second)[:, 2:]], dim=1)
    both = areas(shared)
    union = (areas(first) + areas(second) - both).clamp_min(_SMALLEST_AREA_PX2)
    hull = areas(around).clamp_min(_SMALLEST_AREA_PX2)
    return both / union - (hull - union).clamp_min(0) / hull


def mirror(corners: Tensor, *, across: bool, down: bool, image_px: tuple[int, int]) -> Tensor:
    """Boxes (N, 4) in the mirrored image.

    across: left and right are swapped. down: top and bottom are swapped.
    image_px: rows and columns of the image.
    """
    x0, y0, x1, y1 = corners.unbind(-1)
    if across:
        x0, x1 = image_px[1] - x1, image_px[1] - x0
    if down:
        y0, y1 = image_px[0] - y1, image_px[0] - y0
    return torch.stack([x0, y0, x1, y1], dim=-1)


def suppress(corners: Tensor, scores: Tensor, labels: Tensor, most_overlap: float) -> Tensor:
    """Numbers of the boxes that greedy non-maximum suppression keeps, the best first. Of equal scores, the earlier box
    is better.

    corners: (N, 4). scores, labels: (N,).
    most_overlap: a box is dropped where a better box of its class, which is kept, overlaps it by more.
    The result is exactly that of the greedy algorithm. Instead of one box at a time, all boxes are judged at once by
    the boxes kept so far, until nothing changes: box k is right after at most k rounds, in practice after a few. Source
    of the rounds: Zheng et al., "Enhancing geometric factors in model learning and inference", 2020 (Cluster-NMS).
    """
    order = torch.argsort(scores, descending=True, stable=True)
    ranked, classes = corners[order], labels[order]
    rivals = (overlaps(ranked, ranked) > most_overlap) & (classes[:, None] == classes[None, :])
    better = rivals.triu(diagonal=1).to(torch.float32)
    kept = torch.ones(len(order), dtype=torch.bool, device=corners.device)
    while True:
        judged = kept.to(torch.float32) @ better == 0
        if torch.equal(judged, kept):
            return order[kept]
        kept = judged
