"""MAE's loss over pixels that were measured; pixels without data neither enter it nor the standardisation.

A patch of which only a part was measured is standardised by the mean and the spread of that part (norm_pix), and each
of its measured values weighs as much as any other of the batch.
"""

# B batch, M decoded patches, V values of a patch

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

VARIANCE_FLOOR = 1e-6  # He et al. 2021, released definition of normalised pixels


class PatchMoments(NamedTuple):
    """mean and std of each patch's measured values, (B, M, 1) each; std = sqrt(unbiased variance + VARIANCE_FLOOR).

    0 and sqrt(VARIANCE_FLOOR) where nothing was measured, the latter also where only one value was.
    """

    mean: Tensor
    std: Tensor


def patch_moments(target: Tensor, valid: Tensor) -> PatchMoments:
    """Moments of targets (B, M, V) over the values that valid (B, M, V, bool) marks, all polarisations together."""
    count = valid.sum(dim=-1, keepdim=True)
    mean = (target * valid).sum(dim=-1, keepdim=True) / count.clamp(min=1)
    variance = ((target - mean).square() * valid).sum(dim=-1, keepdim=True) / (count - 1).clamp(min=1)
    return PatchMoments(mean, (variance + VARIANCE_FLOOR).sqrt())


class SquaredErrors(NamedTuple):
    """mean: () over all measured values of the batch. values: () int64, how many these are. per_sample: (B,) means over
    each sample's own, without gradient."""

    mean: Tensor
    values: Tensor
    per_sample: Tensor


def squared_errors(prediction: Tensor, target: Tensor, valid: Tensor) -> SquaredErrors:
    """Squared errors of predictions (B, M, V) of targets (B, M, V) where valid (B, M, V, bool); float32 or wider.

    Where every value was measured the mean is MAE's over masked patches. A sample without any measured value has no
    part in it and 0.0 of its own; a batch without any gives 0.0 and zero gradients.
    """
    error = (at_least_float32(prediction) - target).square() * valid
    total, count = error.sum(dim=(1, 2)), valid.sum(dim=(1, 2))
    values = count.sum()
    return SquaredErrors(total.sum() / values.clamp(min=1), values, (total / count.clamp(min=1)).detach())


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor in float32, or in float64 where it is."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def standardised(target: Tensor, valid: Tensor) -> Tensor:
    """Targets (B, M, V) less their patch's mean, over its std."""
    moments = patch_moments(target, valid)
    return (target - moments.mean) / moments.std


def restored(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """The inverse of `standardised` on predictions (B, M, V), by the moments of the targets they stand for."""
    moments = patch_moments(target, valid)
    return torch.addcmul(moments.mean, prediction, moments.std)
