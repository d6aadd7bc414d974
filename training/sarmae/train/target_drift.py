"""How far speckle moves the targets of a run: the steadier a target, the more of it can be predicted and learned."""

# B batch, P polarisations

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from sarmae.model.sarmae import SarMae

DRIFTS: Final = {looks: f"target drift under speckle of {looks} looks" for looks in (1, 4, 16)}  # names in the metrics


@torch.no_grad()
def target_drift(model: SarMae, images_db: Tensor, *, seed: int) -> dict[str, float]:
    """For each number of looks, the mean squared change of the targets when the images are speckled by as many more,
    over the targets' variance; 0: nothing moves, 2: nothing is left of the target. NaN where there is nothing to
    compare.

    images_db: (B, P, H, W), NaN: no data. The speckle is Gamma(L, 1/L), white. Every patch counts, masked or not. As
    the drift in SARATR-X-v2 (arXiv 2607.23238), whose rank correlation with accuracy is -0.93.
    """
    device, spec = images_db.device, model.spec
    every = torch.arange(spec.patches, device=device).expand(len(images_db), -1)
    generator = torch.Generator().manual_seed(seed)
    whole, measured = model.targets(images_db, every)
    drifts = {}
    for looks, name in DRIFTS.items():
        shape = torch.full(images_db.shape, float(looks))
        power = torch._standard_gamma(shape, generator=generator) / looks
        speckled, still = model.targets(images_db + 10 * power.log10().to(device), every)
        both = measured & still
        drifts[name] = float(((speckled - whole)[both].square().mean() / whole[both].var()).cpu())
    return drifts
