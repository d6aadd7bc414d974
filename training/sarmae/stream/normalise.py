"""The normalisation of the input: fixed for each band, in decibels, part of the model and of its checkpoint."""
# B batch, P polarisations, H W pixels

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from sar1m.store.errors import ConfigError


class Normalise(nn.Module):
    """(db - mean_db) / std_db per band, and back. mean_db, std_db: (P,) float32 buffers, saved in state_dict.

    Raises ConfigError where the two differ in length, are empty, or hold a non-finite value or a std not above 0.
    """

    mean_db: torch.Tensor
    std_db: torch.Tensor

    def __init__(self, mean_db: Sequence[float], std_db: Sequence[float]) -> None:
        super().__init__()
        sound = all(math.isfinite(value) for value in (*mean_db, *std_db)) and all(value > 0 for value in std_db)
        if not sound or not mean_db or len(mean_db) != len(std_db):
            raise ConfigError(
                f"normalisation: mean_db {list(mean_db)} and std_db {list(std_db)}; one finite mean and one finite, "
                "positive standard deviation a polarisation expected. Take them from stats/normalisation.json."
            )
        self.register_buffer("mean_db", torch.tensor(mean_db, dtype=torch.float32))
        self.register_buffer("std_db", torch.tensor(std_db, dtype=torch.float32))

    def forward(self, db: torch.Tensor) -> torch.Tensor:
        """(B, P, H, W) decibels to zero mean and unit variance. NaN (no data) becomes 0.0, the mean of its band.

        Raises ConfigError where db has not P bands.
        """
        if db.ndim != 4 or db.shape[1] != len(self.mean_db):
            raise ConfigError(
                f"normalisation: a batch of shape {tuple(db.shape)}; (batch, {len(self.mean_db)}, rows, columns) "
                "expected. Use a store with the polarisations that the model was made for."
            )
        normalised = (db - self.mean_db[:, None, None]).div_(self.std_db[:, None, None])
        return normalised.nan_to_num_(nan=0.0, posinf=math.inf, neginf=-math.inf)

    def denormalise(self, normalised: torch.Tensor) -> torch.Tensor:
        """(B, P, H, W) back to decibels; what was no data comes back as the mean of its band."""
        return normalised * self.std_db[:, None, None] + self.mean_db[:, None, None]
