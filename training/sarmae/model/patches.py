"""Which patches are seen and which are decoded; pixels to patches and back."""

# B batch, N patches of an image, K kept (visible), M decoded, P polarisations, p side of a patch, V = P * p * p

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Masking(NamedTuple):
    """ids_keep (B, K) and ids_decode (B, M): patch numbers, row by row; mask (B, N): 1.0 where a patch is masked."""

    ids_keep: Tensor
    ids_decode: Tensor
    mask: Tensor


def mask_by_noise(noise: Tensor, kept: int, decoded: int) -> Masking:
    """Random masking from given noise, (B, N): the kept patches are those of smallest noise, in its ascending order.

    The decoded ones are those that follow. Independent, identically distributed noise makes each order equally likely,
    so they are a uniformly random subset of the masked ones and need no noise of their own.
    Source: He et al. 2021 (MAE), section 3.
    """
    order = noise.argsort(dim=1, stable=True)
    ids_keep, ids_decode = order[:, :kept], order[:, kept : kept + decoded]
    mask = torch.ones_like(noise).scatter(1, ids_keep, 0.0)
    return Masking(ids_keep, ids_decode, mask)


def take_patches(images: Tensor, ids: Tensor, patch_px: int) -> Tensor:
    """The patches named by ids (B, K) out of images (B, P, H, W): (B, K, P, p, p). The others are never touched."""
    batch, channels, height, width = images.shape
    rows, columns = height // patch_px, width // patch_px
    tiles = images.reshape(batch, channels, rows, patch_px, columns, patch_px).permute(0, 2, 4, 1, 3, 5)
    sample = torch.arange(batch, device=images.device)[:, None]
    return tiles[sample, ids // columns, ids % columns]


def flat_targets(patches: Tensor) -> Tensor:
    """(B, M, P, p, p) to (B, M, V) in the order of MAE's targets: row, column, channel."""
    return patches.permute(0, 1, 3, 4, 2).flatten(2)


def to_images(patches: Tensor, patch_px: int) -> Tensor:
    """All patches (B, N, V) of square images, in the order of the grid and of `flat_targets`, to (B, P, H, W)."""
    batch, count, values = patches.shape
    grid = round(count**0.5)
    tiles = patches.reshape(batch, grid, grid, patch_px, patch_px, values // patch_px**2)
    return tiles.permute(0, 5, 1, 3, 2, 4).reshape(batch, -1, grid * patch_px, grid * patch_px)
