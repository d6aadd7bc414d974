"""The objective of a step: MAE's reconstruction error and the distance to the optical anchors."""

# B batch, P polarisations, N patches, K kept (visible), D encoder width, T teacher width

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from sarmae.model.sarmae import SarMae

PROJECTOR_STD = 0.02


class Losses(NamedTuple):
    """Of one forward pass, float32. mae: () mean reconstruction error. sarc: () this pass's part of the mean of
    (1 - cosine) over all paired samples of the step. per_sample: (B,) reconstruction errors, without gradient."""

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

    def forward(
        self, input_db: Tensor, target_db: Tensor, noise: Tensor, anchors: Tensor | None, share: Tensor
    ) -> Losses:
        """The losses of one forward pass.

        input_db, target_db: (B, P, H, W) dB.
        noise: (B, N).
        anchors: (B, N, T), the teacher's features; None without a teacher.
        share: (B,) weight of each sample in the mean over all paired samples of the step; 0 for an unpaired one, whose
            anchors are not used.
        """
        out = self.model(input_db, target_db, noise)
        if self.projector is None or anchors is None:
            return Losses(out.loss, torch.zeros_like(out.loss), out.per_sample_loss)
        visible = anchors.take_along_dim(out.ids_keep[:, :, None], dim=1).float()
        cosine = nn.functional.cosine_similarity(self.projector(out.visible).float(), visible, dim=-1)  # (B, K)
        distance = torch.where(share > 0, 1 - cosine.mean(dim=1), 0.0)
        return Losses(out.loss, (distance * share).sum(), out.per_sample_loss)


def paired_shares(paired: Tensor, total: Tensor, ranks: int) -> Tensor:
    """(B,) float32 shares for Objective. paired: (B,) bool; total: () paired samples of the step over all ranks.

    DDP averages gradients over ranks; times `ranks` the average is the sum, and the sum of the shares over all ranks is
    1: the mean over the paired samples, however unevenly the ranks drew them.
    """
    return paired.float() * ranks / total.clamp(min=1)
