"""The choice between the two ways to compute attention: whichever is faster on the device of a run."""

from __future__ import annotations

from typing import Final

from sarmae.model.sarmae import SarMae

# Longest sequence at which the plain products are faster than torch's fused kernel on a CPU in float32. In bfloat16
# the kernel's backward pass costs 5 to 8 times theirs at every length. Measured forward and backward, torch 2.13, one
# thread, 8 samples: 12 heads of 64, 50 tokens: 6.2 ms fused, 4.1 plain (bfloat16: 18.2, 4.0); 16 heads of 32, 87
# tokens: 11.3, 7.0 (34.3, 6.8); 197 tokens: 33.0, 46.3 (66.4, 29.9).
LONGEST_PLAIN_FLOAT32: Final = 128


def choose_attention(model: SarMae, device_type: str, *, bf16: bool) -> None:
    """Sets the attention of the encoder's and the decoder's blocks for training on a device ("cpu", "cuda" ...).

    Off the CPU the fused kernel stays. The results differ by rounding alone. The encoder is judged by the visible
    tokens of a training step; over whole images (`SarMae.tokens`) it keeps that choice.
    """
    seen = 1 + model.spec.kept
    for blocks, tokens in ((model.encoder.blocks, seen), (model.decoder.blocks, seen + model.spec.decoded)):
        plain = device_type == "cpu" and (bf16 or tokens <= LONGEST_PLAIN_FLOAT32)
        for block in blocks:
            block.attn.fused_attn = not plain  # type: ignore[union-attr]  # timm's Block has an Attention there
