"""Correlation of double-angle gradient orientation: what edges two sensors share, whatever their contrast.

A gradient g = gx + i gy turned to its double angle, g^2/|g|, is the same for an edge seen dark-to-bright and
bright-to-dark (Granlund 1978, "In search of a general picture processing operator"). Correlating such fields finds
the shift between a radar and an optical picture (Fitch, Kadyrov, Christmas and Kittler 2002, "Orientation
correlation"). Each image becomes three real fields: |g| and the two parts of its double angle. Fields add up over
channels, and their cross-spectra over fields, so that many channels cost one transform a side.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy import ndimage

from sar1m.records import F32, Bool

C64 = npt.NDArray[np.complex64]

SMOOTHING_PASSES = 4  # of the kernel (1 2 1)/4, each adding a variance of 1/2 px^2: sigma 1.4 px
ENERGY_WINDOW_PX = 25  # side of the box over which gradient energy is equalised
SUPPORT_PX = SMOOTHING_PASSES + 2  # how far a pixel without data reaches into the fields
TAPER_PX = 8
PEAK_GUARD_PX = 5  # half side of the square around the peak that the sidelobe statistics leave out
FIT_RADIUS_PX = 2  # the peak is fitted over 5 x 5 lags
MIN_OVERLAP = 0.2  # least share of the window that two images must have in common at a lag


@dataclass(frozen=True, kw_only=True)
class Peak:
    """A correlation peak: sub-pixel position against zero lag, peak-to-sidelobe ratio, and whether it lies inside
    the search window rather than on its rim. All NaN and False where the surface is flat."""

    row_px: float
    col_px: float
    psr: float
    inside: bool


NO_PEAK = Peak(row_px=float("nan"), col_px=float("nan"), psr=float("nan"), inside=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Surface:
    """Correlation over lags -search..search in both directions: products, (2 search + 1) squared, and overlap, the
    share of the window that the two images have in common at each lag. Surfaces of patches add up."""

    products: F32
    overlap: F32

    def __add__(self, other: Surface) -> Surface:
        return Surface(products=self.products + other.products, overlap=self.overlap + other.overlap)


def orientation_fields(brightness: F32, valid: Bool) -> F32:
    """Double-angle fields (C, 3, H, W) of C channels (C, H, W): |g|, Re and Im of g^2/|g|, over the local root mean
    square of |g|. brightness: logarithm or root of the physical value, finite everywhere; what stands where valid
    (H, W) is False has no effect, and the fields are zero there and within SUPPORT_PX of it. Flat channels: zero.
    """
    smooth = brightness.copy()
    for _ in range(SMOOTHING_PASSES):
        _binomial_pass(smooth, axis=-2)
        _binomial_pass(smooth, axis=-1)
    down, right = np.zeros_like(smooth), np.zeros_like(smooth)
    np.subtract(smooth[:, 2:], smooth[:, :-2], out=down[:, 1:-1])
    np.subtract(smooth[:, :, 2:], smooth[:, :, :-2], out=right[:, :, 1:-1])
    inner = valid if valid.all() else ndimage.binary_erosion(valid, _square(SUPPORT_PX), border_value=1)
    down *= inner
    right *= inner
    energy = down * down + right * right
    magnitude = np.sqrt(energy)
    scale = _reciprocal(np.sqrt(_local_mean(energy)))
    turned = scale * _reciprocal(magnitude)
    return np.stack([magnitude * scale, (right * right - down * down) * turned, 2 * down * right * turned], axis=1)


def window_spectra(fields: F32, valid: Bool, search_px: int) -> C64:
    """Half spectra (..., 4, h + search, (w + search) // 2 + 1) of fields (..., 3, h, w): the fields less their mean,
    tapered and padded against wrap-around, and last the weight itself (1 where valid, tapered), (h, w)."""
    weight = taper(fields.shape[-2], fields.shape[-1]) * valid
    total = float(weight.sum())
    mean = (fields * weight).sum(axis=(-2, -1), keepdims=True) / np.float32(total) if total > 0 else np.float32(0)
    weighted = np.empty((*fields.shape[:-3], 4, *fields.shape[-2:]), np.float32)
    np.multiply(fields - mean, weight, out=weighted[..., :3, :, :])
    weighted[..., 3, :, :] = weight
    padded = tuple(scipy.fft.next_fast_len(size + search_px, real=True) for size in fields.shape[-2:])
    return np.asarray(scipy.fft.rfft2(weighted, s=padded), dtype=np.complex64)


def correlate(fixed: C64, moving: C64, search_px: int, window: tuple[int, int]) -> Surface:
    """Surface of two windows of the shape window from their spectra (4, ...). A peak at (r, c) says that the content
    of moving lies r rows below and c columns right of fixed's."""
    padded = tuple(scipy.fft.next_fast_len(size + search_px, real=True) for size in window)
    cross = np.conj(fixed) * moving
    both = scipy.fft.irfft2(np.stack([cross[:3].sum(axis=0), cross[3]]), s=padded)
    lags = np.arange(-search_px, search_px + 1)
    products, overlap = both[(slice(None), *np.ix_(lags, lags))]
    full = float((taper(*window) ** 2).sum())
    return Surface(products=products / np.float32(full), overlap=overlap / np.float32(full))


def locate_peak(surface: Surface, patches: int = 1) -> Peak:
    """The highest peak of a surface, or of the sum of the surfaces of several patches.

    Lags at which the images share under MIN_OVERLAP of the window are left out. NO_PEAK where nothing varies.
    """
    usable = surface.overlap >= MIN_OVERLAP * patches
    height = np.where(usable, surface.products / np.where(usable, surface.overlap, 1), -np.inf)
    if not usable.all() or not np.ptp(height) > 0:
        return NO_PEAK
    side = height.shape[0]
    row, col = divmod(int(np.argmax(height)), side)
    outside = np.ones(height.shape, dtype=bool)
    guard = (
        slice(max(0, row - PEAK_GUARD_PX), row + PEAK_GUARD_PX + 1),
        slice(max(0, col - PEAK_GUARD_PX), col + PEAK_GUARD_PX + 1),
    )
    outside[guard] = False
    sidelobes = height[outside]
    psr = float((height[row, col] - sidelobes.mean()) / sidelobes.std())
    inside = 0 < row < side - 1 and 0 < col < side - 1
    offset_row, offset_col = _fit_quadratic(height, row, col)
    return Peak(row_px=row + offset_row - side // 2, col_px=col + offset_col - side // 2, psr=psr, inside=inside)


@lru_cache(maxsize=32)
def taper(rows: int, cols: int) -> F32:
    """Separable window, 1 inside, falling as a half cosine over the outer TAPER_PX pixels."""
    return np.outer(_taper(rows), _taper(cols)).astype(np.float32)


def _taper(size: int) -> npt.NDArray[np.float64]:
    width = min(TAPER_PX, size // 4)
    ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(width) + 0.5) / max(width, 1))
    return np.concatenate([ramp, np.ones(size - 2 * width), ramp[::-1]])


def _binomial_pass(image: F32, axis: int) -> None:
    """(1 2 1)/4 along an axis, in place: two running means of two, so that nothing moves."""
    view = np.moveaxis(image, axis, -1)
    middle = view[..., :-1] + view[..., 1:]
    view[..., 1:-1] = middle[..., :-1] + middle[..., 1:]
    view[..., 1:-1] *= np.float32(0.25)


def _local_mean(energy: F32) -> F32:
    size = (1, ENERGY_WINDOW_PX, ENERGY_WINDOW_PX)
    return np.maximum(ndimage.uniform_filter(energy, size=size, mode="nearest"), 0)


def _reciprocal(values: F32) -> F32:
    """1/x, and 0 where x is as good as 0, so that flat areas say nothing."""
    return np.where(values > 1e-6, 1 / np.maximum(values, np.float32(1e-6)), np.float32(0))


def _square(radius: int) -> Bool:
    return np.ones((2 * radius + 1, 2 * radius + 1), dtype=bool)


def _fit_quadratic(height: F32, row: int, col: int) -> tuple[float, float]:
    """Offset of the summit of a least-squares paraboloid over 5 x 5 lags around (row, col); (0, 0) where those are
    not all there or have no summit within a pixel and a half."""
    r = FIT_RADIUS_PX
    lags = height[max(0, row - r) : row + r + 1, max(0, col - r) : col + r + 1]
    if lags.shape != (2 * r + 1, 2 * r + 1):
        return 0.0, 0.0
    _, right, down, right2, cross, down2 = _paraboloid_solver() @ lags.ravel().astype(np.float64)
    determinant = 4 * right2 * down2 - cross**2
    if right2 >= 0 or determinant <= 0:
        return 0.0, 0.0
    offset_row = (cross * right - 2 * right2 * down) / determinant
    offset_col = (cross * down - 2 * down2 * right) / determinant
    limit = 1.5
    return float(np.clip(offset_row, -limit, limit)), float(np.clip(offset_col, -limit, limit))


@lru_cache(maxsize=1)
def _paraboloid_solver() -> npt.NDArray[np.float64]:
    down, right = (
        axis.ravel() for axis in np.mgrid[-FIT_RADIUS_PX : FIT_RADIUS_PX + 1, -FIT_RADIUS_PX : FIT_RADIUS_PX + 1]
    )
    return np.linalg.pinv(np.stack([np.ones(down.size), right, down, right**2, right * down, down**2], axis=1))
