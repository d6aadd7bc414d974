"""Speckle: simulated fields, and the equivalent number of looks (ENL) of an image.

Fully developed multi-look speckle multiplies the mean power by a Gamma variate of mean 1 and squared coefficient of
variation 1/L (Goodman, Speckle Phenomena in Optics, 2007, ch. 3-4; Oliver and Quegan, Understanding SAR Images, 2004).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from scipy import ndimage, special

from sar1m.records import F32, F64

LAG1_CORRELATION: Final = 0.6  # of intensities, neighbouring pixels of a GRD image on its 10 m grid; lag 2 comes to 0.1
MAX_TAP_CORRELATION: Final = 0.5**0.5  # the largest lag-1 correlation that three symmetric taps can give
TABLE_LIMIT: Final = 6.0  # standard deviations; a normal field of 10^8 pixels hardly leaves it
TABLE_STEPS: Final = 1 << 15

MIN_WINDOWS: Final = 16  # fewer say nothing about where the bulk of the windows lies
LOG_GRID_STEP: Final = 0.01  # of ln(variance / mean^2): 1 % of ENL


def speckle_field(rng: np.random.Generator, shape: tuple[int, int], *, looks: float, correlated: bool) -> F32:
    """A field of multiplicative speckle of mean 1, (rows, cols); each pixel is distributed as Gamma(looks, 1/looks).

    correlated: False draws every pixel independently. True gives intensities with a correlation of 0.6 at lag 1 and of
        about 0.12 at lag 2, along rows and along columns (off the axes, the product of both). It uses a Gaussian
        copula: a normal field filtered by three taps along each axis, mapped through the quantile function of the Gamma
        distribution. Under 0.25 looks, three taps cannot reach the 0.6.
    Raises ValueError where looks is not positive.
    Source: Gaussian copula (NORTA), Cario and Nelson 1997.
    """
    if not looks > 0:
        raise ValueError(f"looks is {looks!r}; speckle needs a positive number of looks")
    if not correlated:
        return rng.standard_gamma(looks, size=shape, dtype=np.float32) / np.float32(looks)
    taps = _filter_taps(looks)
    padded = (shape[0] + 2, shape[1] + 2)
    normal: F32 = rng.standard_normal(size=padded, dtype=np.float32)
    for axis in (0, 1):
        normal = ndimage.correlate1d(normal, taps, axis=axis)
    return _quantiles_at(normal[1:-1, 1:-1], looks)


def _quantiles_at(normal: F32, looks: float) -> F32:
    scale = TABLE_STEPS / (2 * TABLE_LIMIT)
    position = normal * np.float32(scale)
    position += np.float32(TABLE_LIMIT * scale)
    np.clip(position, 0, TABLE_STEPS - 1, out=position)
    return np.take(_quantile_table(looks), position.astype(np.int32))


@lru_cache(maxsize=8)
def _quantile_table(looks: float) -> F32:
    edges = np.linspace(-TABLE_LIMIT, TABLE_LIMIT, TABLE_STEPS + 1)
    table: F32 = _gamma_of_normal((edges[1:] + edges[:-1]) / 2, looks).astype(np.float32)
    table.flags.writeable = False
    return table


def _gamma_of_normal(normal: F64, looks: float) -> F64:
    # each tail through its own complement, or the upper one would round to probability 1
    lower = special.gammaincinv(looks, special.ndtr(np.minimum(normal, 0)))
    upper = special.gammainccinv(looks, special.ndtr(-np.maximum(normal, 0)))
    quantile: F64 = np.where(normal < 0, lower, upper) / looks
    return quantile


@lru_cache(maxsize=8)
def _filter_taps(looks: float) -> tuple[float, float, float]:
    # taps (a, b, a) of unit energy: lag 1 is 2ab = rho, so 8 a^4 - 4 a^2 + rho^2 = 0
    rho = min(_normal_correlation(looks, LAG1_CORRELATION), MAX_TAP_CORRELATION)
    side = np.sqrt((1 - np.sqrt(max(1 - 2 * rho**2, 0.0))) / 4)
    return (float(side), float(np.sqrt(1 - 2 * side**2)), float(side))


def _normal_correlation(looks: float, wanted: float) -> float:
    """The correlation of two normal variates for which the Gamma variates made of them have the wanted correlation.

    By Mehler's expansion it is corr = sum_k c_k^2 rho^k / sum_k c_k^2, with c_k the Hermite coefficients of the
    quantile function.
    """
    nodes, weights = special.roots_hermitenorm(80)
    weighted = weights / weights.sum() * _gamma_of_normal(nodes, looks)
    orders = np.arange(1, 31)
    energy = np.array([(weighted @ special.eval_hermitenorm(k, nodes)) ** 2 / special.factorial(k) for k in orders])
    rho = np.linspace(0, 1, 1001)
    reached = (energy[:, None] * rho ** orders[:, None]).sum(axis=0) / energy.sum()
    return float(np.interp(wanted, reached, rho))


@dataclass(frozen=True, kw_only=True)
class EnlEstimate:
    """An estimate of the equivalent number of looks.

    value: NaN where it cannot be measured.
    spread: relative standard deviation among the estimates of single homogeneous windows (0.2 is 20 %).
    windows: number of homogeneous windows that were used.
    """

    value: float
    spread: float
    windows: int


UNMEASURED_ENL: Final = EnlEstimate(value=float("nan"), spread=float("nan"), windows=0)


def estimate_enl(power: F32, *, window: int = 7, step_px: int = 2) -> EnlEstimate:
    """Equivalent number of looks of an intensity image, from its homogeneous areas.

    The image is tiled by windows of window x window samples that are step_px pixels apart, in each of the step_px^2
    phases. Windows that contain a NaN, or whose mean or variance is not positive, are left out. Structure inside a
    window can only raise variance / mean^2. Homogeneous windows therefore form the lowest mode of its logarithm, and
    the estimate is the mean around that mode. Fewer than 16 windows give NaN.

    Correlation between the samples of a window lowers its variance and raises the estimate: for correlated GRD speckle
    (0.6 and 0.12 at lags 1 and 2) by 9 to 14 % with step_px=1, by 1 to 2 % with 2. Where few homogeneous areas are as
    large as a window (14 px by default), the estimate is 5 to 20 % too low. Where additive noise was subtracted, powers
    near the noise floor give too few looks: add the noise back first.

    power: (rows, cols) linear; NaN without data.
    Source: mode of local statistics, Foucher et al. 2000; E[var/mean^2] = 1/(L + 1/n) for Gamma variates (Lukacs 1955).
    """
    samples = window * window
    mean, variance = _window_moments(power, window, step_px)
    usable = (mean > 0) & (variance > 0)  # False for NaN
    if np.count_nonzero(usable) < MIN_WINDOWS:
        return UNMEASURED_ENL
    log_cv2 = np.log(variance[usable]) - 2 * np.log(mean[usable])
    centre, spread, count = _lowest_bulk(log_cv2)
    cv2 = np.exp(centre + spread**2 / 2)  # mean of a variate whose logarithm has this centre and spread
    return EnlEstimate(value=float(1 / cv2 - 1 / samples), spread=spread, windows=count)


def _window_moments(power: F32, window: int, step_px: int) -> tuple[F64, F64]:
    """Mean and unbiased variance, (n,) each, of the windows of all phases."""
    moments = []
    for phase in np.ndindex(step_px, step_px):
        sampled = power[phase[0] :: step_px, phase[1] :: step_px]
        rows, cols = (length // window for length in sampled.shape)
        tiles = sampled[: rows * window, : cols * window].reshape(rows, window, cols, window)
        stacked = tiles.transpose(0, 2, 1, 3).reshape(rows * cols, window * window).astype(np.float64)
        moments.append(np.stack([stacked.mean(axis=1), stacked.var(axis=1, ddof=1)]))
    mean, variance = np.concatenate(moments, axis=1)
    return mean, variance


def _lowest_bulk(values: F64) -> tuple[float, float, int]:
    """Centre, standard deviation and number of the values around their main mode.

    The width comes from the lower side of the mode, which heterogeneous windows do not affect.
    """
    mode = _mode(values)
    below = values[values <= mode]
    scale = float(np.sqrt(np.mean((below - mode) ** 2)))
    near = values[np.abs(values - mode) <= 2 * scale]
    return float(near.mean()), scale, int(near.size)


def _mode(values: F64) -> float:
    """Position of the largest peak of a smoothed histogram."""
    edges = np.arange(values.min() - LOG_GRID_STEP, values.max() + 2 * LOG_GRID_STEP, LOG_GRID_STEP)
    counts, _ = np.histogram(values, bins=edges)
    width = _bandwidth(values)
    density = ndimage.gaussian_filter1d(counts.astype(np.float64), width / LOG_GRID_STEP, mode="constant")
    return float(edges[np.argmax(density)] + LOG_GRID_STEP / 2)


def _bandwidth(values: F64) -> float:
    # Silverman's rule on the lower quartile's distance, which a tail of heterogeneous windows inflates the least
    low, middle = np.quantile(values, (0.1, 0.35))
    return float(max(2 * LOG_GRID_STEP, 1.06 * (middle - low) / 0.9 * values.size**-0.2))
