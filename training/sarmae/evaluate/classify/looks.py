"""Test images with more speckle than they were taken with: how features bear fewer looks than they were taught on."""

# B batch, S samples, C polarisations, H W pixels

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sarmae.evaluate.values import Images
from sarmae.sare.quantiles import gamma_db, positions_of
from sarmae.stream.keyed_random import DrawKey, normal

STREAM = "fewer-looks"


def added_looks(taken: float, asked: float) -> float:
    """Looks of the unit-mean gamma factor that brings intensities of `taken` looks to `asked`; asked < taken.

    The squared coefficients of variation of independent factors multiply as 1 + 1/L:
    1 + 1/asked = (1 + 1/taken)(1 + 1/added). Source: Goodman, Speckle Phenomena in Optics, 2007, ch. 4.
    """
    return (1 + 1 / taken) / (1 / asked - 1 / taken)


class FewerLooks:
    """Images in decibels as if of `asked` equivalent looks. taken: (S,) their own; an image of no more stays as it is.

    The linear intensity is multiplied by a gamma factor of mean 1, its own in every polarisation, drawn by (seed, image
    number) and white from pixel to pixel; at every number of looks the factor stands at the same quantile. NaN stays
    NaN. The ENL of single pixels over a uniform surface is what was asked for. Speckle of real images is correlated
    between neighbours and this is not: averages over windows gain looks faster than in an image that was taken with so
    few, so an encoder that averages is spared a part of the harm.
    """

    def __init__(self, images: Images, taken: NDArray[np.float64], asked: float, seed: int) -> None:
        self._images, self._taken, self._asked = images, taken, asked
        self._key = DrawKey(seed=seed, epoch=0, stream=STREAM)

    def __len__(self) -> int:
        return len(self._images)

    def read(self, numbers: Sequence[int]) -> Tensor:
        """(B, C, H, W) float32 dB."""
        images = self._images.read(numbers)
        for place, number in enumerate(numbers):
            taken = float(self._taken[number])
            if taken > self._asked:
                field = normal(self._key, torch.tensor([number]), tuple(images.shape[1:]))[0]
                images[place] += _factors_db(added_looks(taken, self._asked))[positions_of(field).long()]
        return images


@lru_cache(maxsize=256)
def _factors_db(looks: float) -> Tensor:
    """(Z,) float32 table of the factor along a normal variate."""
    return torch.from_numpy(gamma_db(looks)).float()
