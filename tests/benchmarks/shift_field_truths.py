"""Real windows for bench_shift_field.py, and what two methods that share nothing with ours see in their patches.

Mutual information (Viola and Wells 1997) of eight levels each, and normalised cross-correlation of gradient magnitudes,
both over whole pixels of the search range with a parabola through 5 x 5 lags.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from sar1m.records import F32, F64

FOLDER = Path(__file__).parents[3] / "shared/data/s1s2_vh_rgb"
SEARCH_PX = 16
LEVELS = 8
SMOOTHING_PX = 1.5
TILES = ("11SLT", "11SMT")


@dataclass(frozen=True, kw_only=True, eq=False)
class Window:
    """sar (1, n, n) power of VH up to a constant, optical (3, n, n) blue, green, red as 8-bit brightness."""

    name: str
    tile: str
    sar: F32
    optical: F32


def real_windows() -> Iterator[Window]:
    """The windows of one tile alone; those that lie in both are dropped. None where the folder is absent."""
    if not FOLDER.exists():
        return
    pairs: list[dict[str, Any]] = json.loads((FOLDER / "pairs.json").read_text())
    names = [pair["name"] for pair in pairs]
    for pair in pairs:
        name = pair["name"]
        if names.count(name) > 1:
            continue
        amplitude = np.asarray(Image.open(FOLDER / "sar" / f"{name}.png").convert("L"), np.float32) / 255
        (picture,) = (FOLDER / "optical").glob(f"{name}.*")
        optical = np.moveaxis(np.asarray(Image.open(picture), np.float32), -1, 0)[::-1].copy()
        (tile,) = (tile for tile in TILES if f"T{tile}" in pair["s2"])
        yield Window(name=name, tile=tile, sar=amplitude[None] ** 2, optical=optical)


def independent_shifts(window: Window, row: int, col: int, side: int) -> F64:
    """(2, 2): rows and columns of the shift by mutual information and by gradient correlation; NaN at the edge of the
    search. row, col, side: the patch in the window, with SEARCH_PX around it."""
    sar = ndimage.gaussian_filter(np.log(np.maximum(window.sar[0], np.float32(10**-3.5))), SMOOTHING_PX)
    optical = ndimage.gaussian_filter(np.sqrt(window.optical).mean(axis=0), SMOOTHING_PX)
    fixed = sar[row : row + side, col : col + side]
    moving = optical[row - SEARCH_PX : row + side + SEARCH_PX, col - SEARCH_PX : col + side + SEARCH_PX]
    return np.array([_summit(mutual_information(fixed, moving)), _summit(gradient_correlation(fixed, moving))])


def mutual_information(fixed: F32, moving: F32) -> F64:
    """In nats at each whole lag at which fixed (m, m) lies inside moving (n, n); (n - m + 1, n - m + 1)."""
    sides = []
    for image in (fixed, moving):
        level = np.searchsorted(np.quantile(image, np.arange(1, LEVELS) / LEVELS), image, side="right")
        sides.append(scipy.fft.rfft2(np.stack([level == k for k in range(LEVELS)]).astype(np.float32), s=moving.shape))
    lags = len(moving) - len(fixed) + 1
    spectra = np.conj(sides[0])[:, None] * sides[1][None]
    counts = np.stack([scipy.fft.irfft2(one, s=moving.shape)[..., :lags, :lags] for one in spectra])
    joint = np.maximum(counts, 1e-3).astype(np.float64) / fixed.size
    return _negative_entropy(joint, (0, 1)) - sum(_negative_entropy(joint.sum(axis=a), (0,)) for a in (0, 1))


def _negative_entropy(shares: F64, axes: tuple[int, ...]) -> F64:
    total: F64 = (shares * np.log(shares)).sum(axis=axes)
    return total


def gradient_correlation(fixed: F32, moving: F32) -> F64:
    """Normalised cross-correlation of the roots of gradient magnitudes at the same lags."""
    one, other = (np.sqrt(np.hypot(*np.gradient(image))).astype(np.float64) for image in (fixed, moving))
    one, other = one - one.mean(), other - other.mean()
    lags = len(moving) - len(fixed) + 1
    spectrum = np.conj(scipy.fft.rfft2(one, s=other.shape)) * scipy.fft.rfft2(other)
    product = scipy.fft.irfft2(spectrum, s=other.shape)[:lags, :lags]
    sums, squares = (_box_sums(image, len(fixed)) for image in (other, other**2))
    variance = squares - sums**2 / fixed.size
    correlation: F64 = product / np.sqrt((one**2).sum() * np.maximum(variance, 1e-9))
    return correlation


def _box_sums(image: F64, side: int) -> F64:
    summed = np.pad(image.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    boxes: F64 = summed[side:, side:] - summed[:-side, side:] - summed[side:, :-side] + summed[:-side, :-side]
    return boxes


def _summit(surface: F64) -> NDArray[np.float64]:
    row, col = np.unravel_index(np.argmax(surface), surface.shape)
    if not all(2 <= at < side - 2 for at, side in zip((row, col), surface.shape, strict=True)):
        return np.array([np.nan, np.nan])
    down, right = (axis.ravel() for axis in np.mgrid[-2:3, -2:3])
    design = np.stack([np.ones(25), down, right, down**2, right**2, down * right], axis=1)
    near = surface[row - 2 : row + 3, col - 2 : col + 3].ravel()
    _, slope_down, slope_right, down2, right2, cross = np.linalg.lstsq(design, near, rcond=None)[0]
    offset = np.linalg.solve([[2 * down2, cross], [cross, 2 * right2]], [-slope_down, -slope_right])
    return np.array([row, col]) + np.clip(offset, -1.5, 1.5) - SEARCH_PX
