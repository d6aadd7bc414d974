"""Spatially correlated speckle: filters for the normal field under a Gaussian copula.

Source of the method: Cario and Nelson, Modeling and generating random vectors with arbitrary marginal distributions
and correlation matrix (NORTA), 1997; of the relation between the two correlations: Mehler's expansion.
"""
# B samples, P polarisations, H W pixels, R radius of the filter, T = R + 1 taps from the middle out, Z table positions

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch

from sarmae.sare.quantiles import F64, normal_positions

_LAGS: Final = 256  # of the circle on which filters are made; autocorrelations are long gone at half of it
_ORDERS: Final = 40  # of Mehler's expansion


def filter_radius(correlation_px: float) -> int:
    """R, pixels: taps beyond it would change no correlation by more than 0.008 (at 1.6 px: 0.002)."""
    return max(2, round(2 * correlation_px))


def gaussian_correlation(correlation_px: float) -> F64:
    """exp(-(lag / correlation_px)^2) at lags 0 to 128 pixels. 1.6 px gives 0.68 and 0.21 at lags 1 and 2:
    homogeneous areas of real Sentinel-1 chips of 10 m have 0.65 to 0.71 and 0.17 to 0.28; 1.4 px gives 0.60 and 0.13.
    """
    return np.exp(-((np.arange(_LAGS // 2 + 1) / correlation_px) ** 2))


def thinning_correlation(intensity: F64, scene_looks: float) -> F64:
    """Correlation that the Beta field needs so that the parts of a scene of L looks, whose intensities have this
    correlation, have no covariance at any lag given the mean power.

    (1 + r/L) (1 - s/(L+1)) = 1, hence s = (L+1) r / (L+r): E[Y Y'] = mu^2 (1 + r/L), and E[B (1-B')] is
    l (L-l) / L^2 times 1 - s/(L+1).
    """
    return (scene_looks + 1) * intensity / (scene_looks + intensity)


def filter_taps(factor: F64, wanted: F64, radius_px: int) -> F64:
    """(T,) taps of a symmetric filter of unit energy: normal noise filtered by it along rows and along columns and
    mapped through factor (Z,), linear, has the wanted autocorrelation at lags 0 to 128 on both axes.

    Where no such field exists, or the radius is too short, it comes as near as filters of that kind can. Diagonal
    lags have, nearly, the product of both axes.
    """
    normal = np.interp(wanted, *_correlation_after(factor))
    spectrum = np.maximum(np.fft.hfft(normal, _LAGS), 0)
    taps = np.fft.irfft(np.sqrt(spectrum[: _LAGS // 2 + 1]), _LAGS)[: radius_px + 1]
    return np.asarray(taps / math.sqrt(taps[0] ** 2 + 2 * (taps[1:] ** 2).sum()))


def _correlation_after(factor: F64) -> tuple[F64, F64]:
    """Correlations of pairs of factors, rising, and of the normal pairs they come from: the first is the sum of
    c_k^2 rho^k over the sum of c_k^2, with c_k the Hermite coefficients of the map."""
    normal = normal_positions()
    weighted = np.exp(-(normal**2) / 2) * factor
    hermite = [np.ones_like(normal), normal]  # each over sqrt(k!), so that all have variance 1
    for order in range(2, _ORDERS + 1):
        hermite.append((normal * hermite[-1] - math.sqrt(order - 1) * hermite[-2]) / math.sqrt(order))
    energy = np.array([(weighted @ polynomial) ** 2 for polynomial in hermite[1:]])
    rho = np.linspace(0, 1, 1001)
    powers = rho[:, None] ** np.arange(1, _ORDERS + 1)
    return powers @ energy / energy.sum(), rho


def filtered(white: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """(B, P, H, W) of white noise (B, P, H + 2R, W + 2R), filtered along rows and columns by the samples' own taps
    (B, T).

    Products and sums apart, never fused: each is rounded once wherever it runs, in the body and in the tail of a
    vector loop alike.
    """
    return _along(_along(white, taps, 2), taps, 3)


def _along(field: torch.Tensor, taps: torch.Tensor, axis: int) -> torch.Tensor:
    radius = taps.shape[1] - 1
    length = field.shape[axis] - 2 * radius
    smooth = field.narrow(axis, radius, length) * taps[:, 0, None, None, None]
    for distance in range(1, radius + 1):
        pair = field.narrow(axis, radius - distance, length) + field.narrow(axis, radius + distance, length)
        smooth.add_(pair.mul_(taps[:, distance, None, None, None]))
    return smooth
