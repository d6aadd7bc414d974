"""Coding of features: principal components of eight bits each, 256 bytes a feature at most.

What is stored is z = C (f - m), the centred features on their D leading principal components, each component rounded to
127 steps either side of zero. Decoding goes all the way back, f' = m + C^T z: into the teacher's own space, its mean
included. A cosine with f' is therefore the cosine with f, but for rounding and for the variance left out: centring and
components are matters of storage and not of the target, the live and the cached teacher pull towards the same thing,
and a run may go from one to the other.
"""
# M vectors, T teacher width, D components kept

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

MOST_COMPONENTS: Final = 256
LARGEST_CODE: Final = 127


@dataclass(frozen=True, kw_only=True, eq=False)
class Basis:
    """The coding of a teacher's features; float32, on one device.

    mean: (T,). components: (D, T), orthonormal rows by falling variance. step: (D,), of the code of each component.
    """

    mean: Tensor
    components: Tensor
    step: Tensor

    @property
    def width(self) -> int:
        """T, width of the teacher."""
        return self.components.shape[1]

    @property
    def kept(self) -> int:
        """D, number of components."""
        return self.components.shape[0]

    def to(self, device: torch.device) -> Basis:
        """The same on a device."""
        return Basis(mean=self.mean.to(device), components=self.components.to(device), step=self.step.to(device))

    def encode(self, features: Tensor) -> Tensor:
        """(..., T) to int8 codes (..., D). What lies beyond the range of the fit is clipped."""
        levels = ((features.float() - self.mean) @ self.components.T / self.step).round()
        return levels.clamp(-LARGEST_CODE, LARGEST_CODE).to(torch.int8)

    def decode(self, codes: Tensor) -> Tensor:
        """int8 codes (..., D) to features (..., T); bfloat16 on CUDA, as live features are, else float32."""
        dtype = torch.bfloat16 if codes.device.type == "cuda" else torch.float32
        scaled = (self.components * self.step[:, None]).to(dtype)
        return codes.to(dtype) @ scaled + self.mean.to(dtype)


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """A basis and the share of the features' variance that its components hold."""

    basis: Basis
    variance_kept: float


def fit_basis(features: Tensor) -> Fit:
    """The leading min(T, 256) principal components of features (M, T), with steps that span what occurs in them.

    Deterministic on one machine: float64, and each component's largest entry is positive.
    """
    exact = features.double()
    mean = exact.mean(dim=0)
    centred = exact - mean
    variances, vectors = torch.linalg.eigh(centred.T @ centred / len(exact))
    kept = min(features.shape[1], MOST_COMPONENTS)
    components = vectors.flip(1).T[:kept]
    components = components * components.gather(1, components.abs().argmax(dim=1, keepdim=True)).sign()
    widest = (centred @ components.T).abs().amax(dim=0)
    tiny = torch.finfo(torch.float32).tiny
    return Fit(
        basis=Basis(
            mean=mean.float(),
            components=components.float(),
            step=(widest / LARGEST_CODE).clamp(min=tiny).float(),
        ),
        variance_kept=float(variances.flip(0)[:kept].sum() / variances.sum().clamp(min=tiny)),
    )
