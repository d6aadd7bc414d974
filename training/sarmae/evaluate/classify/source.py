"""What a frozen encoder sees in a task's images, computed once and kept for every classifier that asks."""

# B batch, S samples, D width, h w the encoder's grid

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sarmae.errors import NonFiniteError
from sarmae.evaluate.values import Backbone, Images

I64 = NDArray[np.int64]

BATCH: Final = 32
MAX_GRID_BYTES: Final = 2 << 30
_SHOWN: Final = 8
_STILL: Final = 1e-6  # spread of a feature relative to the liveliest one under which it tells nothing


class Standard(NamedTuple):
    """Features less their mean, over their standard deviation; one that does not vary becomes 0."""

    mean: Tensor
    factor: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """(..., D) of (..., D)."""
        return (features - self.mean) * self.factor

    def to(self, device: torch.device, dtype: torch.dtype) -> Standard:
        """The same elsewhere."""
        return Standard(self.mean.to(device, dtype), self.factor.to(device, dtype))


class Source:
    """Some of a task's images and a frozen encoder's features of them.

    numbers: the images' numbers in ascending order; only these may be asked for. Pooled vectors stay in memory, 4 D
    bytes a sample. Grids stay where those of all numbers take at most max_grid_bytes (float32), and are computed anew
    whenever they are asked for where they take more: memory is bounded, time is not. Everything is kept on the CPU.
    Raises NonFiniteError where a feature is NaN or infinite, naming the samples.
    """

    def __init__(
        self,
        backbone: Backbone,
        images: Images,
        numbers: I64,
        device: torch.device,
        *,
        max_grid_bytes: int = MAX_GRID_BYTES,
    ) -> None:
        self.backbone, self.images, self.numbers, self.device = backbone, images, numbers, device
        self._max_grid_bytes = max_grid_bytes
        self._pooled: Tensor | None = None
        self._grids: Tensor | None = None

    def pooled(self, numbers: I64) -> Tensor:
        """(B, D) float32."""
        if self._pooled is None:
            self._pooled = torch.cat([self._see(part)[0] for part in self._batches()])
        return self._pooled[self._rows(numbers)]

    def grids(self, numbers: I64) -> Tensor:
        """(B, D, h, w) float32."""
        if self._grids is None and self._grid_bytes() <= self._max_grid_bytes:
            self._grids = torch.cat([self._see(part)[1] for part in self._batches()])
        if self._grids is not None:
            return self._grids[self._rows(numbers)]
        return torch.cat([self._see(part)[1] for part in np.split(numbers, range(BATCH, len(numbers), BATCH))])

    def standard(self, numbers: I64) -> Standard:
        """Mean and spread of the pooled features of these samples."""
        spread, mean = torch.std_mean(self.pooled(numbers).double(), dim=0, correction=0)
        return standard_of(mean, spread)

    def _batches(self) -> list[I64]:
        return np.split(self.numbers, range(BATCH, len(self.numbers), BATCH))

    def _rows(self, numbers: I64) -> Tensor:
        return torch.from_numpy(np.searchsorted(self.numbers, numbers))

    def _grid_bytes(self) -> int:
        one = self._see(self.numbers[:1])[1]
        return one.numel() * one.element_size() * len(self.numbers)

    @torch.no_grad()
    def _see(self, numbers: I64) -> tuple[Tensor, Tensor]:
        seen = self.backbone(self.images.read(numbers.tolist()).to(self.device))
        pooled, grid = seen.pooled.float().cpu(), seen.grid.float().cpu()
        sound = pooled.isfinite().all(dim=1) & grid.flatten(1).isfinite().all(dim=1)
        if not sound.all():
            bad = numbers[~sound.numpy()]
            raise NonFiniteError(
                f"{self.backbone.name}: features of samples {', '.join(str(one) for one in bad[:_SHOWN])}"
                f"{' ...' if len(bad) > _SHOWN else ''} are NaN or infinite; finite ones expected. Look at these "
                "images, and at the encoder's weights."
            )
        return pooled, grid


def standard_of(mean: Tensor, spread: Tensor) -> Standard:
    """From mean and standard deviation (D,) of every feature."""
    lively = spread > _STILL * spread.max().clamp_min(torch.finfo(torch.float32).tiny)
    return Standard(mean, torch.where(lively, 1 / spread.where(lively, torch.ones_like(spread)), 0.0))
