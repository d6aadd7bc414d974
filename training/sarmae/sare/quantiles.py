"""Speckle as a function of a standard normal variate: table of its factor in decibels, exact to the table's step.

A factor with distribution function F is F^-1(Phi(z)) for a standard normal z. Read at 4,096 places along z it becomes
a table of 16 KB that lies in the first-level cache; one normal field then serves every model, white or correlated
(Gaussian copula), and multiplying a power by the factor is adding its decibels. Nothing but the tables passes through
exp or log, so every batch, thread count and device gives the same bits from the same tables.
"""
# Z table positions

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

F64 = npt.NDArray[np.float64]

POSITIONS: Final = 4096
LIMIT: Final = (
    6.0  # standard deviations; keyed_random.normal ends at 4.32, a filtered field passes 6 once in 5e8 pixels
)
_SCALE: Final = POSITIONS / (2 * LIMIT)
_STEPS: Final = 1 << 13  # of the integral: 1e-5 of a standard deviation off scipy's quantiles
_NEGLIGIBLE: Final = -36.0  # log density under its peak; 6 standard deviations of a normal variate are -18

DB_PER_NEPER: Final = 10 / math.log(10)  # decibels of a power e times as large


def normal_positions() -> F64:
    """(Z,) normal variates at the middles of the table's intervals."""
    return (np.arange(POSITIONS, dtype=np.float64) + 0.5) / _SCALE - LIMIT


def positions_of(normal: torch.Tensor) -> torch.Tensor:
    """int32 table positions of normal variates within +-LIMIT, same shape. Overwrites its argument."""
    return normal.mul_(_SCALE).add_(POSITIONS // 2).to(torch.int32)


def gamma_db(looks: float) -> F64:
    """(Z,) Gamma(looks, 1/looks) in decibels: speckle of fully developed multi-look intensity, mean 1, variance
    1/looks. looks > 0.

    Source: Goodman, Speckle Phenomena in Optics, 2007, ch. 4.
    """

    def log_density(neper: F64) -> F64:  # of ln G for G ~ Gamma(looks, 1)
        return looks * neper - np.exp(neper)

    return DB_PER_NEPER * (_quantiles(log_density, peak=math.log(looks)) - math.log(looks))


def thinned_db(scene_looks: float, kept_looks: float) -> tuple[F64, F64]:
    """(Z,) factors in decibels that thin a scene of L looks into l looks and into the other L - l:
    B L / l and (1 - B) L / (L - l) with B ~ Beta(l, L - l), at the same z. 0 < l < L.

    Both have mean 1. Times Gamma(L) intensity they give Gamma(l) and Gamma(L - l), independent given the mean power.
    Source: Neufeld et al., Data thinning for convolution-closed distributions, JMLR 25 (2024), example of the Gamma.
    """
    left_looks = scene_looks - kept_looks

    def log_density(logit: F64) -> F64:  # of ln(B / (1 - B))
        return -kept_looks * np.logaddexp(0, -logit) - left_looks * np.logaddexp(0, logit)

    logit = _quantiles(log_density, peak=math.log(kept_looks / left_looks))
    kept = -np.logaddexp(0, -logit) + math.log(scene_looks / kept_looks)
    left = -np.logaddexp(0, logit) + math.log(scene_looks / left_looks)
    return DB_PER_NEPER * kept, DB_PER_NEPER * left


def lognormal_db(sigma: float) -> F64:
    """(Z,) exp(sigma z) in decibels. Its mean is exp(sigma^2 / 2), not 1."""
    return DB_PER_NEPER * sigma * normal_positions()


def _quantiles(log_density: Callable[[F64], F64], *, peak: float) -> F64:
    """(Z,) values of a variate with this log-concave density, given up to a constant, that peaks there."""
    low, high = (peak + side * _reach(log_density, peak, side) for side in (-1, 1))
    values = np.linspace(low, high, _STEPS + 1)
    density = np.exp(log_density(values) - log_density(np.array(peak)))
    mass = (density[1:] + density[:-1]) / 2
    # each tail from its own end, or the upper one would be lost to rounding
    below, above = np.cumsum(mass)[:-1], np.cumsum(mass[::-1])[::-1][1:]
    lower = torch.special.ndtri(torch.from_numpy(below / mass.sum())).numpy()
    upper = -torch.special.ndtri(torch.from_numpy(above / mass.sum())).numpy()
    return np.interp(normal_positions(), np.where(below < above, lower, upper), values[1:-1])


def _reach(log_density: Callable[[F64], F64], peak: float, side: int) -> float:
    """Distance from the peak at which the density has become negligible on one side."""
    distances = np.geomspace(1e-3, 700, 500)  # exp stays finite; enough for 0.05 looks
    negligible = log_density(peak + side * distances) - log_density(np.array(peak)) < _NEGLIGIBLE
    return float(distances[np.argmax(negligible)] if negligible.any() else distances[-1])
