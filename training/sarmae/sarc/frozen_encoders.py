"""Frozen encoders of optical images: RGB in, one feature vector for every 16 px patch out.

A trunk turns normalised images into a map (B, T, h, w); `FrozenTeacher` normalises before it and brings the map to the
grid of the ViT's patches after it. Where h, w are not that grid: the mean over areas if they are finer, bilinear
interpolation if they are coarser.
"""
# B batch, S side in pixels, h w trunk's map, N patches of 16 px (row by row), T teacher width

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from sarmae.stream.loader_settings import TOKEN_PX

RGB: Final = 3


class Transformer(Protocol):
    """What is used of timm's vision transformers."""

    embed_dim: int
    num_prefix_tokens: int
    patch_embed: Any
    norm: nn.Module

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) to prefix and patch tokens (B, L, T), normalised."""


class Pyramid(Protocol):
    """What is used of timm's models with maps of falling resolution."""

    feature_info: list[dict[str, Any]]

    def forward_intermediates(self, images: Tensor, **how: object) -> list[Tensor]:
        """The maps of the levels asked for."""


def _whole_patches(images: Tensor, patch_px: int) -> Tensor:
    """Images scaled, bilinearly, to the nearest multiple of the patch."""
    side_px = max(1, round(images.shape[-1] / patch_px)) * patch_px
    if images.shape[-1] == side_px:
        return images
    return interpolate(images, size=(side_px, side_px), mode="bilinear", antialias=True)


class TokenTrunk(nn.Module):
    """The last, normalised patch tokens of a timm transformer; class and register tokens are dropped.

    Images whose side is no multiple of the patch are first scaled, bilinearly, to the nearest multiple.
    """

    def __init__(self, transformer: Transformer) -> None:
        super().__init__()
        self.transformer = transformer
        self.width = transformer.embed_dim
        self._patch_px: int = transformer.patch_embed.patch_size[0]

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, T, h, w)."""
        images = _whole_patches(images, self._patch_px)
        grid = images.shape[-1] // self._patch_px
        tokens = self.transformer.forward_features(images)
        patches = tokens[:, self.transformer.num_prefix_tokens :]
        return patches.transpose(1, 2).view(len(images), self.width, grid, grid)


class PyramidTrunk(nn.Module):
    """One level of a timm model that makes maps of falling resolution; what comes after the level is not computed."""

    def __init__(self, pyramid: Pyramid, level: int) -> None:
        super().__init__()
        self.pyramid, self._level = pyramid, level
        self.width: int = pyramid.feature_info[level]["num_chs"]

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, T, h, w)."""
        maps = self.pyramid.forward_intermediates(
            images, indices=[self._level], stop_early=True, output_fmt="NCHW", intermediates_only=True
        )
        return maps[0]


class PatchTrunk(nn.Module):
    """A frozen random projection of the pixels of each patch: what remains of a teacher without any semantics."""

    def __init__(self, width: int, *, seed: int) -> None:
        super().__init__()
        self.width = width
        generator = torch.Generator().manual_seed(seed)
        fan_in = RGB * TOKEN_PX**2
        weight = torch.randn((width, RGB, TOKEN_PX, TOKEN_PX), generator=generator) / fan_in**0.5
        self.weight = nn.Parameter(weight)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, T, h, w); each vector depends on its own patch alone."""
        return nn.functional.conv2d(images, self.weight, stride=TOKEN_PX)


class EmbedTrunk(nn.Module):
    """Patch embedding and last norm of a timm transformer, without a block between and without positions: a linear
    map of each patch's pixels, standardised. Each vector depends on its own patch alone."""

    def __init__(self, transformer: Transformer) -> None:
        super().__init__()
        self.patch_embed, self.norm = transformer.patch_embed, transformer.norm
        self.width = transformer.embed_dim
        self._patch_px: int = transformer.patch_embed.patch_size[0]

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, T, h, w)."""
        images = _whole_patches(images, self._patch_px)
        grid = images.shape[-1] // self._patch_px
        tokens: Tensor = self.norm(self.patch_embed(images))
        return tokens.reshape(len(images), grid, grid, self.width).permute(0, 3, 1, 2)


class FirstLayersTrunk(nn.Module):
    """The first layers of a convolutional network, in their order."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        convolutions = [layer for layer in self.layers.modules() if isinstance(layer, nn.Conv2d)]
        self.width = convolutions[-1].out_channels

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, T, h, w)."""
        features: Tensor = self.layers(images)
        return features


Trunk = TokenTrunk | PyramidTrunk | PatchTrunk | EmbedTrunk | FirstLayersTrunk


class FrozenTeacher(nn.Module):
    """A trunk with its normalisation, in eval mode and without gradients. width: T.

    bf16: whether the trunk computes in bfloat16, and its features are that.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        trunk: Trunk,
        *,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
    ) -> None:
        super().__init__()
        self.trunk, self.width, self.bf16 = trunk, trunk.width, False
        self.register_buffer("mean", torch.tensor(mean).view(1, RGB, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, RGB, 1, 1))
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def forward(self, rgb: Tensor) -> Tensor:
        """(B, 3, S, S) display brightness 0..1, red first, S a multiple of 16, to (B, N, T)."""
        grid = rgb.shape[-1] // TOKEN_PX
        with torch.autocast(rgb.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            features = self.trunk((rgb - self.mean) / self.std)
            if features.shape[-1] > grid:
                features = interpolate(features, size=(grid, grid), mode="area")
            elif features.shape[-1] < grid:
                features = interpolate(features, size=(grid, grid), mode="bilinear")
        flat: Tensor = features.flatten(2).transpose(1, 2)
        return flat

    def weights_sha256(self) -> str:
        """Digest of all that decides the features: names, shapes and values of weights and normalisation."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()
