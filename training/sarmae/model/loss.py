"""MAE's loss over pixels that were measured; pixels without data neither enter it nor the standardisation."""

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


def mean_squared_error(prediction: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Loss () over all measured values of the batch, and (B,) of each sample; all (B, M, V); float32 throughout.

    Where every value was measured the loss is MAE's mean over masked patches. A sample without any measured value has
    no part in the loss and 0.0 in the second result; a batch without any gives 0.0 and zero gradients.
    """
    error = (prediction.float() - target).square() * valid
    total, count = error.sum(dim=(1, 2)), valid.sum(dim=(1, 2))
    loss = total.sum() / count.sum().clamp(min=1)
    per_sample: Tensor = (total / count.clamp(min=1)).detach()
    return loss, per_sample


def standardised(target: Tensor, valid: Tensor) -> Tensor:
    """Targets (B, M, V) less their patch's mean, over its std."""
    moments = patch_moments(target, valid)
    return (target - moments.mean) / moments.std


def restored(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """The inverse of `standardised` on predictions (B, M, V), by the moments of the targets they stand for."""
    moments = patch_moments(target, valid)
    return torch.addcmul(moments.mean, prediction, moments.std)
