"""Floating-point operations of a step, from the spec alone: what MFU is measured against."""

from __future__ import annotations

from typing import NamedTuple

from sarmae.model.spec import ModelSpec


class StepFlops(NamedTuple):
    """Operations a sample: one forward pass of the encoder, of the decoder, and one training step."""

    encoder: int
    decoder: int
    step: int


def step_flops(spec: ModelSpec) -> StepFlops:
    """Operations of the matrix products this model runs for one sample, a multiply-add counted as two.

    Only what is computed counts: visible patches are embedded, decoded ones are predicted. A backward pass is taken as
    twice its forward pass, recomputation and everything element by element as nothing: the convention of model FLOPs
    utilisation (Chowdhery et al. 2022, PaLM, appendix B).
    """
    seen, sequence = 1 + spec.kept, 1 + spec.kept + spec.decoded
    encoder = spec.kept * spec.patch_values * spec.width + spec.depth * _block(seen, spec.width)
    decoder = (
        seen * spec.width * spec.decoder_width
        + spec.decoder_depth * _block(sequence, spec.decoder_width)
        + spec.decoded * spec.decoder_width * spec.target_values
    )
    return StepFlops(2 * encoder, 2 * decoder, 3 * 2 * (encoder + decoder))


def _block(tokens: int, width: int) -> int:
    """Multiply-adds of a block: query, key, value, output (4 width**2), MLP (8 width**2), two products of attention."""
    return 12 * tokens * width**2 + 2 * tokens**2 * width
