"""timm's Vision Transformer, run over the visible patches alone."""

# B batch, N patches, K kept (visible), P polarisations, p side of a patch, D width

from __future__ import annotations

import torch
from torch import Tensor, nn

from sarmae.model.positions import sincos_positions
from sarmae.model.spec import ModelSpec
from sarmae.timm_door import timm


class Encoder(timm.models.VisionTransformer):
    """timm's ViT with a class token, no classifier, and fixed sine-cosine positions that do not learn.

    Its parameters have timm's names, its forward_features is timm's; only `visible` is added.
    """

    cls_token: nn.Parameter
    pos_embed: nn.Parameter

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(
            img_size=spec.image_px,
            patch_size=spec.patch_px,
            in_chans=len(spec.polarisations),
            num_classes=0,
            embed_dim=spec.width,
            depth=spec.depth,
            num_heads=spec.heads,
            norm_layer=timm.layers.norm.LayerNorm,  # eps 1e-6, MAE's; the default of torch's own is 1e-5
            weight_init="skip",
        )
        self.pos_embed = nn.Parameter(sincos_positions(spec.width, spec.grid), requires_grad=False)

    def visible(self, patches: Tensor, ids_keep: Tensor) -> Tensor:
        """Tokens after the last norm, (B, 1 + K, D), class token first, of normalised patches (B, K, P, p, p).

        ids_keep (B, K): which patches they are. The patch embedding is a convolution whose windows do not overlap;
        here the same weights are a matrix over the visible patches. With all N in order this is forward_features.
        """
        projection = self.patch_embed.proj
        tokens = nn.functional.linear(patches.flatten(2), projection.weight.flatten(1), projection.bias)
        tokens = tokens + self.pos_embed[0][ids_keep + 1]
        class_token = (self.cls_token + self.pos_embed[:, :1]).expand(len(tokens), -1, -1)
        seen: Tensor = self.norm(self.blocks(torch.cat([class_token, tokens], dim=1)))
        return seen
