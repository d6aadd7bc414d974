"""Test images with added speckle, to measure how features cope with fewer looks than they were trained on."""

# B batch, S samples, C polarisations, H W pixels

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sarmae.evaluate.labelled_images import Images
from sarmae.sare.quantiles import gamma_db, positions_of
from sarmae.stream.keyed_random import DrawKey, normal

STREAM = "fewer-looks"


def added_looks(own_looks: float, wanted_looks: float) -> float:
    """Looks of a gamma factor of mean 1 that brings intensities of own_looks down to wanted_looks; wanted_looks <
    own_looks.

    For independent factors, 1 + 1/L multiplies: 1 + 1/wanted = (1 + 1/own)(1 + 1/added). Source: Goodman, Speckle
    Phenomena in Optics, 2007, ch. 4.
    """
    return (1 + 1 / own_looks) / (1 / wanted_looks - 1 / own_looks)


class FewerLooks:
    """Images in decibels as if taken with wanted_looks equivalent looks.

    own_looks: (S,) looks of the images. An image with no more than wanted_looks stays as it is.
    The linear intensity is multiplied by a gamma factor of mean 1. The factor is drawn by (seed, image number), for
    each polarisation, independently from pixel to pixel; for any number of looks it stands at the same quantile. NaN
    stays NaN.
    Limit: the ENL of single pixels over a uniform surface is the wanted one, but real speckle is correlated between
    neighbours and this factor is not. Averages over windows therefore gain looks faster than in a real image of so few
    looks, and encoders that average lose less.
    """

    def __init__(self, images: Images, own_looks: NDArray[np.float64], wanted_looks: float, seed: int) -> None:
        self._images, self._own_looks, self._wanted_looks = images, own_looks, wanted_looks
        self._key = DrawKey(seed=seed, epoch=0, stream=STREAM)

    def __len__(self) -> int:
        return len(self._images)

    def read(self, numbers: Sequence[int]) -> Tensor:
        """(B, C, H, W) float32 dB, with the added speckle."""
        images = self._images.read(numbers)
        for place, number in enumerate(numbers):
            own_looks = float(self._own_looks[number])
            if own_looks > self._wanted_looks:
                field = normal(self._key, torch.tensor([number]), tuple(images.shape[1:]))[0]
                images[place] += _factors_db(added_looks(own_looks, self._wanted_looks))[positions_of(field).long()]
        return images


@lru_cache(maxsize=256)
def _factors_db(looks: float) -> Tensor:
    """(Z,) float32 factors in dB, by the quantile of a normal variate."""
    return torch.from_numpy(gamma_db(looks)).float()
