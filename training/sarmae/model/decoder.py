"""MAE's decoder: a narrow transformer over the encoder's tokens and a learned token for each patch to be decoded."""

# B batch, N patches, K kept (visible), M decoded, D encoder width, d decoder width, V values of a target

from __future__ import annotations

import torch
from torch import Tensor, nn

from sarmae.model.positions import sincos_positions
from sarmae.model.spec import ModelSpec
from sarmae.timm_door import timm


class MaeDecoder(nn.Module):
    """Self-attention over the visible tokens and M mask tokens, whichever patches these stand for.

    With M = N - K this is MAE's decoder. With fewer, the mask tokens left out are neither decoded nor attended to: the
    saving of CrossMAE (Fu et al. 2024) with MAE's joint self-attention instead of cross-attention. Attention does not
    ask in which order tokens stand, so the sequence is class token, visible, masked: nothing is shuffled back.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        width = spec.decoder_width
        self.embed = nn.Linear(spec.width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed: Tensor
        self.register_buffer("pos_embed", sincos_positions(width, spec.grid))
        self.blocks = nn.Sequential(*(_block(spec) for _ in range(spec.decoder_depth)))
        self.norm = timm.layers.norm.LayerNorm(width)
        self.pred = nn.Linear(width, spec.target_values)

    def forward(self, tokens: Tensor, ids_keep: Tensor, ids_decode: Tensor) -> Tensor:
        """(B, 1 + K + M, d), before the last norm, of the encoder's tokens (B, 1 + K, D); `predict` makes values."""
        ids = torch.cat([ids_keep, ids_decode], dim=1) + 1
        places = self.pos_embed[0][nn.functional.pad(ids, (1, 0))]
        hidden = self.mask_token.expand(*ids_decode.shape, -1)
        sequence = torch.cat([self.embed(tokens), hidden], dim=1) + places
        decoded: Tensor = self.blocks(sequence)
        return decoded

    def predict(self, features: Tensor) -> Tensor:
        """Values of patches, (B, any, V), as of `make_targets`, from features (B, any, d) of `forward`."""
        values: Tensor = self.pred(self.norm(features))
        return values


def _block(spec: ModelSpec) -> timm.models.vision_transformer.Block:
    """A block as the encoder's, of the decoder's width; timm's LayerNorm is the one with eps 1e-6."""
    return timm.models.vision_transformer.Block(
        spec.decoder_width, spec.decoder_heads, qkv_bias=True, norm_layer=timm.layers.norm.LayerNorm
    )
