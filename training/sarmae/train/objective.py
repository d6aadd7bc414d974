"""The objective of a step: MAE's reconstruction error and the distance to the optical anchors."""

# B batch, P polarisations, N patches, K kept (visible), D encoder width, T teacher width

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from sarmae.model.loss import at_least_float32
from sarmae.model.patches import mask_by_noise
from sarmae.model.sarmae import SarMae

PROJECTOR_STD = 0.02


class Losses(NamedTuple):
    """Of one forward pass, float32: its parts of the step's means. mae: () of the squared error over all measured
    values to be predicted. sarc: () of (1 - cosine) over all anchored tokens. per_sample: (B,) each sample's own mean
    squared error, without gradient."""

    mae: Tensor
    sarc: Tensor
    per_sample: Tensor


class Projector(nn.Module):
    """Encoder tokens (..., D) to the teacher's width T: linear, GELU, linear."""

    def __init__(self, width: int, hidden: int, teacher_width: int, *, seed: int) -> None:
        super().__init__()
        self.first = nn.Linear(width, hidden)
        self.second = nn.Linear(hidden, teacher_width)
        generator = torch.Generator().manual_seed(seed)
        for layer in (self.first, self.second):
            nn.init.normal_(layer.weight, std=PROJECTOR_STD, generator=generator)
            nn.init.zeros_(layer.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens: (..., D). Returns (..., T)."""
        projected: Tensor = self.second(nn.functional.gelu(self.first(tokens)))
        return projected


class Objective(nn.Module):
    """The model and, with a teacher, the projector: one forward pass holds all that is trained, so that DDP and FSDP
    see every parameter at every step, also where a rank has drawn no pair."""

    def __init__(self, model: SarMae, projector: Projector | None) -> None:
        super().__init__()
        self.model, self.projector = model, projector

    def counts(self, input_db: Tensor, target_db: Tensor, noise: Tensor, paired: Tensor) -> Tensor:
        """(2,) int64: the measured values that are to be predicted, and the anchored tokens, of one forward pass.

        Arguments as of `forward`. It computes no features: a step asks for it before its first forward pass.
        """
        spec = self.model.spec
        masking = mask_by_noise(noise, spec.kept, spec.decoded)
        values = self.model.targets(target_db, masking.ids_decode).valid.sum()
        return torch.stack([values, self._anchored(input_db, masking.ids_keep, paired).sum()])

    def forward(
        self,
        input_db: Tensor,
        target_db: Tensor,
        noise: Tensor,
        anchors: Tensor | None,
        paired: Tensor,
        shares: Tensor,
    ) -> Losses:
        """The losses of one forward pass.

        input_db, target_db: (B, P, H, W) dB, NaN where there is no data.
        noise: (B, N).
        anchors: (B, N, T), the teacher's features; None without a teacher.
        paired: (B,) bool; the anchors of an unpaired sample are not used.
        shares: (2,) weight of one measured value and of one anchored token in the step's means, as `shares_of` gives.
        """
        out = self.model(input_db, target_db, noise)
        mae = out.loss * (out.values * shares[0])
        if self.projector is None or anchors is None:
            return Losses(mae, torch.zeros_like(mae), out.per_sample_loss)
        visible = at_least_float32(anchors.take_along_dim(out.ids_keep[:, :, None], dim=1))
        projected = at_least_float32(self.projector(out.visible))
        distance = 1 - nn.functional.cosine_similarity(projected, visible, dim=-1)  # (B, K)
        anchored = self._anchored(input_db, out.ids_keep, paired)
        return Losses(mae, torch.where(anchored, distance, 0.0).sum() * shares[1], out.per_sample_loss)

    def _anchored(self, input_db: Tensor, ids_keep: Tensor, paired: Tensor) -> Tensor:
        """(B, K) bool: the visible tokens of paired samples whose patch holds any data."""
        return paired[:, None] & (self.model.measured(input_db, ids_keep) > 0)


def shares_of(counts: Tensor, ranks: int) -> Tensor:
    """(2,) float32 shares for Objective, from its counts over all forward passes of all ranks. 1 where a count is 0.

    DDP and FSDP average gradients over ranks; times `ranks` the average is the sum. So a step's gradient is that of the
    means over the whole global batch, however it is cut into passes and ranks, and wherever pixels are missing.
    """
    return ranks / counts.clamp(min=1)
