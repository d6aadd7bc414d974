"""Correlation of orientation fields, and the peaks of its surfaces: the shift between a radar and an optical picture
(Fitch, Kadyrov, Christmas and Kittler 2002, "Orientation correlation").

Fields are added in the spectrum, so that each channel takes one transform back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt
import scipy.fft

from sar1m.records import F32, F64, Bool

TAPER_PX = 2
FIT_LAGS = np.arange(-2, 3) * 0.5  # the peak is fitted over 5 x 5 points half a lag apart
SINC_RADIUS = 5  # lags on each side that interpolation between them uses
SINC_STEPS = 32  # a lag; where the points are centred, which limits no accuracy
SUMMIT_ROUNDS = 3
GUARD_PX = 3  # half side of the square around the peak that the sidelobe statistics leave out
NEAR_PX = 2  # lags on each side of the common peak where the peaks of single channels are looked for
AMONG_PX = 4  # lags on each side between channels of one side, which lie close together
MIN_OVERLAP = 0.2  # share of a window that the two images must have in common at every lag


@dataclass(frozen=True, kw_only=True)
class Peak:
    """A correlation peak. NaN and False where the surface is flat or is based on too few pixels.

    row_px, col_px: lag, to a fraction of a pixel. psr: peak-to-sidelobe ratio.
    noise_px: by how much the noise of the surface moves the summit along either axis, one standard deviation, taken
        from slopes away from the peak and the curvature at it; infinite where the peak has no curvature.
    inside: whether the peak lies inside the search window, and not on its edge.
    """

    row_px: float
    col_px: float
    psr: float
    noise_px: float
    inside: bool


NO_PEAK = Peak(row_px=float("nan"), col_px=float("nan"), psr=float("nan"), noise_px=float("nan"), inside=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Surfaces:
    """Correlation of one window. Those of several windows may be added: they share one constant divisor.

    by_fixed: (P, L, L) each fixed channel with the sum of the moving ones. by_moving: (B, L, L) the sum of the fixed
        channels with each moving one. Both add up to the same surface.
    among_moving: (B, K, K) each moving channel with the sum of the others; flat where there is one alone.
    overlap: (L, L) the share of the window that is valid in both, at each lag.
    """

    by_fixed: F32
    by_moving: F32
    among_moving: F32
    overlap: F32

    def __add__(self, other: Surfaces) -> Surfaces:
        return Surfaces(**{name: value + getattr(other, name) for name, value in vars(self).items()})


def correlate(fixed: F32, moving: F32, fixed_valid: Bool, moving_valid: Bool, search_px: int) -> Surfaces:
    """Correlation surfaces of the fixed channels with the moving ones, and the overlap of the two sides at each lag.

    A high value at (search_px + r, search_px + c) means that the content of moving lies r rows below and c columns
    right of that of fixed. Surfaces are periodic. What wraps around adds a little noise; in return noise is the same at
    every lag, and transforms are smaller. L is 2 search_px + 1, K is 2 AMONG_PX + 1.

    fixed: (P, 3, h, w). moving: (B, 3, h, w).
    fixed_valid, moving_valid: (h, w) where the fields do not depend on missing pixels. Zeros along a gap that counted
        as valid would correlate with each other at lag 0.
    """
    window = fixed.shape[-2:]
    whole = bool(fixed_valid.all() and moving_valid.all())
    weights = [taper(*window)] * 2 if whole else [taper(*window) * valid for valid in (fixed_valid, moving_valid)]
    shape = _transform_shape(window, 0)
    crosses = np.zeros((len(fixed) + 2 * len(moving), shape[0], shape[1] // 2 + 1), np.complex64)
    by_fixed, by_moving, among = np.split(crosses, [len(fixed), len(fixed) + len(moving)])
    for number in range(fixed.shape[1]):  # one field of all channels at a time: the arrays stay small
        left, right = (
            _spectra(_weighted(fields[:, number], weight), shape)
            for fields, weight in zip((fixed, moving), weights, strict=True)
        )
        np.conj(left, out=left)
        all_right = right.sum(axis=0)
        by_moving += left.sum(axis=0) * right
        left *= all_right
        by_fixed += left
        all_right = all_right - right
        among += np.conj(all_right, out=all_right) * right
    full = np.float32(np.vdot(taper(*window), taper(*window)))
    reach = max(search_px, AMONG_PX)
    surfaces = _central_lags(crosses, shape[1], reach) / full
    searched = surfaces[:, reach - search_px : reach + search_px + 1, reach - search_px : reach + search_px + 1]
    near = np.s_[reach - AMONG_PX : reach + AMONG_PX + 1]
    return Surfaces(
        by_fixed=searched[: len(fixed)],
        by_moving=searched[len(fixed) : len(fixed) + len(moving)],
        among_moving=surfaces[len(fixed) + len(moving) :, near, near],
        overlap=_full_overlap(*window, search_px) if whole else _overlap(weights[0], weights[1], search_px) / full,
    )


def locate_peaks(surfaces: F32, overlap: F32) -> tuple[Peak, ...]:
    """The highest peak of each surface.

    The search uses the sums, whose noise is the same at every lag since they are periodic. The sub-pixel fit uses means
    (sums divided by overlap), which are not biased towards lag 0. The result is NO_PEAK where a surface is constant, or
    a lag has an overlap under MIN_OVERLAP.

    surfaces: (K, L, L), where L leaves lags beyond GUARD_PX on each side. overlap: (L, L).
    """
    if overlap.min() < MIN_OVERLAP:
        return (NO_PEAK,) * len(surfaces)
    return tuple(
        _peak(surface, surface / overlap) if varies else NO_PEAK
        for surface, varies in zip(surfaces, np.ptp(surfaces, axis=(1, 2)) > 0, strict=True)
    )


def summits_near(surfaces: F32, overlap: F32, row_px: float, col_px: float) -> F64:
    """The summits (K, 2) in lags, rows and columns, of surfaces (K, L, L) within NEAR_PX of a lag.

    NaN where the highest point there lies on the edge of that square, or the square leaves the search window.
    """
    side = overlap.shape[0]
    row, col = (round(at) + side // 2 for at in (row_px, col_px))
    found = np.full((len(surfaces), 2), np.nan)
    if not (NEAR_PX <= row < side - NEAR_PX and NEAR_PX <= col < side - NEAR_PX):
        return found
    means: F32 = surfaces / overlap
    for number, mean in enumerate(means):
        square = mean[row - NEAR_PX : row + NEAR_PX + 1, col - NEAR_PX : col + NEAR_PX + 1]
        down, right = divmod(int(np.argmax(square)), 2 * NEAR_PX + 1)
        if 0 < down < 2 * NEAR_PX and 0 < right < 2 * NEAR_PX:
            at = row - NEAR_PX + down, col - NEAR_PX + right
            found[number] = np.add(_summit(mean, *at), at) - side // 2
    return found


@lru_cache(maxsize=32)
def taper(rows: int, cols: int) -> F32:
    """A separable window, (rows, cols): 1 inside, falling to 0 as a half cosine over the outer TAPER_PX pixels."""
    return np.outer(_taper(rows), _taper(cols)).astype(np.float32)


def _taper(size: int) -> F64:
    ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(TAPER_PX) + 0.5) / TAPER_PX)
    profile = np.ones(size)
    profile[:TAPER_PX] = ramp
    profile[-TAPER_PX:] = ramp[::-1]
    return profile


def _transform_shape(window: tuple[int, ...], margin_px: int) -> tuple[int, int]:
    """A shape of fast transforms in which lags up to margin_px do not wrap around."""
    rows, cols = (scipy.fft.next_fast_len(size + margin_px, real=True) for size in window)
    return rows, cols


def _spectra(images: F32, shape: tuple[int, int]) -> npt.NDArray[np.complex64]:
    """Half spectra of images (..., h, w) padded to shape. In two steps, as the second can then work in place."""
    rows = scipy.fft.rfft(images, n=shape[1])
    spectra: npt.NDArray[np.complex64] = scipy.fft.fft(rows, n=shape[0], axis=-2, overwrite_x=True)
    return spectra


def _weighted(fields: F32, weight: F32) -> F32:
    """Fields (..., h, w) minus their weighted mean, times the weight (h, w)."""
    mean = np.einsum("...hw,hw->...", fields, weight) / max(weight.sum(), np.float32(1))
    centred: F32 = fields - mean[..., None, None]
    centred *= weight
    return centred


def _overlap(fixed_weight: F32, moving_weight: F32, search_px: int) -> F32:
    shape = _transform_shape(fixed_weight.shape, search_px)
    cross = np.conj(_spectra(fixed_weight, shape)) * _spectra(moving_weight, shape)
    return _central_lags(cross, shape[1], search_px)


@lru_cache(maxsize=32)
def _full_overlap(rows: int, cols: int, search_px: int) -> F32:
    window = taper(rows, cols)
    return _overlap(window, window, search_px) / np.float32(np.vdot(window, window))


def _central_lags(spectrum: npt.NDArray[np.complex64], cols: int, search_px: int) -> F32:
    """Lags -search_px..search_px along both axes of the periodic correlation with a half spectrum.

    spectrum: (..., H, cols // 2 + 1), overwritten. Other rows are not transformed.
    """
    lags = np.arange(-search_px, search_px + 1)
    rows = scipy.fft.ifft(spectrum, axis=-2, overwrite_x=True).take(lags, axis=-2, mode="wrap")
    surfaces: F32 = scipy.fft.irfft(rows, n=cols).take(lags, axis=-1, mode="wrap")
    return surfaces


def _peak(height: F32, mean: F32) -> Peak:
    side = height.shape[0]
    row, col = divmod(int(np.argmax(height)), side)
    near = height[max(0, row - GUARD_PX) : row + GUARD_PX + 1, max(0, col - GUARD_PX) : col + GUARD_PX + 1]
    count = height.size - near.size
    level = (float(height.sum(dtype=np.float64)) - float(near.sum(dtype=np.float64))) / count
    power = (float(np.vdot(height, height)) - float(np.vdot(near, near))) / count
    psr = (float(height[row, col]) - level) / math.sqrt(max(power - level**2, 1e-30))
    inside = 0 < row < side - 1 and 0 < col < side - 1
    offset_row, offset_col = _summit(mean, row, col) if inside else (0.0, 0.0)
    return Peak(
        row_px=row + offset_row - side // 2,
        col_px=col + offset_col - side // 2,
        psr=psr,
        noise_px=_noise(mean, row, col) if inside else float("nan"),
        inside=inside,
    )


def _noise(mean: F32, row: int, col: int) -> float:
    """Peak.noise_px. To first order a noise n moves a summit of curvature H by the gradient of n over H."""
    near = mean[row - 1 : row + 2, col - 1 : col + 2].astype(np.float64)
    middle = 2 * near[1, 1]
    down2, right2 = near[2, 1] + near[0, 1] - middle, near[1, 2] + near[1, 0] - middle
    cross = (near[2, 2] + near[0, 0] - near[2, 0] - near[0, 2]) / 4
    determinant = down2 * right2 - cross**2
    if down2 >= 0 or determinant <= 0:
        return math.inf
    slopes = np.stack([_slopes(mean), _slopes(mean.T).T]).astype(np.float64)
    close = slopes[:, max(0, row - GUARD_PX) : row + GUARD_PX + 1, max(0, col - GUARD_PX) : col + GUARD_PX + 1]
    close[:] = 0
    inverse = np.array([[right2, -cross], [-cross, down2]]) / determinant
    moved = inverse @ slopes.reshape(2, -1)
    return math.sqrt(float(np.vdot(moved, moved)) / (slopes.size - close.size))


def _slopes(mean: F32) -> F32:
    """Slopes a lag down a surface, one-sided on its border."""
    slopes = np.empty_like(mean)
    np.subtract(mean[2:], mean[:-2], out=slopes[1:-1])
    slopes[1:-1] *= np.float32(0.5)
    slopes[0], slopes[-1] = mean[1] - mean[0], mean[-1] - mean[-2]
    return slopes


def _summit(mean: F32, row: int, col: int) -> tuple[float, float]:
    """Offset of the peak from the lag (row, col), at most 1.5 lags.

    It is the summit of a least-squares paraboloid through 5 x 5 interpolated points half a lag apart. The points are
    then centred on the summit found, and the fit is repeated; otherwise estimates would be biased towards whole lags.
    """
    reach = np.arange(-SINC_RADIUS, SINC_RADIUS + 1)
    rows, cols = (reach + at for at in (row, col))
    around = mean.take(rows, axis=0, mode="clip").take(cols, axis=1, mode="clip").astype(np.float64)
    offset_row = offset_col = 0.0
    centre = None
    for _ in range(SUMMIT_ROUNDS):
        steps_row, steps_col = round(offset_row * SINC_STEPS), round(offset_col * SINC_STEPS)
        if (steps_row, steps_col) == centre:
            break
        centre = steps_row, steps_col
        points = _sinc_weights(steps_row) @ around @ _sinc_weights(steps_col).T
        more_row, more_col = _paraboloid_summit(points)
        offset_row = _within(steps_row / SINC_STEPS + more_row, 1.5)
        offset_col = _within(steps_col / SINC_STEPS + more_col, 1.5)
    return offset_row, offset_col


def _paraboloid_summit(points: F64) -> tuple[float, float]:
    """Summit, in lags from the middle of 5 x 5 points half a lag apart, at most one; (0, 0) where there is none."""
    right, down, right2, cross, down2 = (_paraboloid_solver() @ points.ravel()).tolist()
    determinant = 4 * right2 * down2 - cross**2
    if right2 >= 0 or determinant <= 0:
        return 0.0, 0.0
    return (
        _within((cross * right - 2 * right2 * down) / determinant, 1),
        _within((cross * down - 2 * down2 * right) / determinant, 1),
    )


def _within(value: float, limit: float) -> float:
    return min(max(value, -limit), limit)


@cache
def _sinc_weights(steps: int) -> F64:
    """Weights (5, 2 SINC_RADIUS + 1) that interpolate five points half a lag apart from whole lags.

    The points are centred at the offset steps / SINC_STEPS. The kernel is a sinc with a Hann window; rows sum to 1.
    """
    distance = FIT_LAGS[:, None] + steps / SINC_STEPS - np.arange(-SINC_RADIUS, SINC_RADIUS + 1)
    weights: F64 = np.sinc(distance) * np.cos(np.pi / 2 * np.clip(distance / (SINC_RADIUS + 1), -1, 1)) ** 2
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


@lru_cache(maxsize=1)
def _paraboloid_solver() -> F64:
    """Matrix from 5 x 5 points to the coefficients of x, y, x^2, xy, y^2 (x to the right, y down)."""
    down, right = (axis.ravel() for axis in np.meshgrid(FIT_LAGS, FIT_LAGS, indexing="ij"))
    design = np.stack([np.ones(down.size), right, down, right**2, right * down, down**2], axis=1)
    solver: F64 = np.linalg.pinv(design)[1:]
    return solver
