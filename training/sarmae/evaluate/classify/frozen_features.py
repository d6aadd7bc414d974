"""The features of a frozen encoder for the images of a task. Computed once and shared by all classifiers."""

# B batch, S samples, D width, h w the encoder's grid

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sarmae.errors import NonFiniteError
from sarmae.evaluate.backbones.backbone import Backbone
from sarmae.evaluate.labelled_images import Images

I64 = NDArray[np.int64]

BATCH: Final = 32
MAX_GRID_BYTES: Final = 2 << 30
_SHOWN: Final = 8
_CONSTANT: Final = 1e-6  # spread of a feature relative to the largest spread below which it counts as constant


class FeatureScaling(NamedTuple):
    """Standardises features: less their mean, divided by their standard deviation. A feature that does not vary
    becomes 0.
    """

    mean: Tensor
    factor: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Standardised features (..., D)."""
        return (features - self.mean) * self.factor

    def to(self, device: torch.device, dtype: torch.dtype) -> FeatureScaling:
        """The same scaling on a device, in a type."""
        return FeatureScaling(self.mean.to(device, dtype), self.factor.to(device, dtype))


class FrozenFeatures:
    """Some images of a task and a frozen encoder's features of them.

    numbers: of the images, ascending; features of other images cannot be read.
    max_grid_bytes: grids (float32) are kept where those of all numbers take at most so many bytes, else they are
    computed whenever they are read: memory is bounded, time is not. Pooled vectors are always kept, 4 D bytes a sample.
    Everything is kept on the CPU. Raises NonFiniteError, with the samples, where a feature is NaN or infinite.
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
        """(B, D) float32 pooled features."""
        if self._pooled is None:
            self._pooled = torch.cat([self._encode(part)[0] for part in self._batches()])
        return self._pooled[self._rows(numbers)]

    def grids(self, numbers: I64) -> Tensor:
        """(B, D, h, w) float32 grids of features."""
        if self._grids is None and self._grid_bytes() <= self._max_grid_bytes:
            self._grids = torch.cat([self._encode(part)[1] for part in self._batches()])
        if self._grids is not None:
            return self._grids[self._rows(numbers)]
        return torch.cat([self._encode(part)[1] for part in np.split(numbers, range(BATCH, len(numbers), BATCH))])

    def scaling(self, numbers: I64) -> FeatureScaling:
        """Mean and standard deviation of the pooled features of these samples."""
        spread, mean = torch.std_mean(self.pooled(numbers).double(), dim=0, correction=0)
        return scaling_of(mean, spread)

    def _batches(self) -> list[I64]:
        return np.split(self.numbers, range(BATCH, len(self.numbers), BATCH))

    def _rows(self, numbers: I64) -> Tensor:
        return torch.from_numpy(np.searchsorted(self.numbers, numbers))

    def _grid_bytes(self) -> int:
        one = self._encode(self.numbers[:1])[1]
        return one.numel() * one.element_size() * len(self.numbers)

    @torch.no_grad()
    def _encode(self, numbers: I64) -> tuple[Tensor, Tensor]:
        features = self.backbone(self.images.read(numbers.tolist()).to(self.device))
        pooled, grid = features.pooled.float().cpu(), features.grid.float().cpu()
        finite = pooled.isfinite().all(dim=1) & grid.flatten(1).isfinite().all(dim=1)
        if not finite.all():
            bad = numbers[~finite.numpy()]
            raise NonFiniteError(
                f"{self.backbone.name}: features of samples {', '.join(str(one) for one in bad[:_SHOWN])}"
                f"{' ...' if len(bad) > _SHOWN else ''} are NaN or infinite; finite ones expected. Look at these "
                "images, and at the encoder's weights."
            )
        return pooled, grid


def scaling_of(mean: Tensor, spread: Tensor) -> FeatureScaling:
    """The scaling for features of mean and standard deviation (D,)."""
    varies = spread > _CONSTANT * spread.max().clamp_min(torch.finfo(torch.float32).tiny)
    return FeatureScaling(mean, torch.where(varies, 1 / spread.where(varies, torch.ones_like(spread)), 0.0))
