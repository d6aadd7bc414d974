"""Six estimators of the shift between SAR and optical, written for the truth of the benchmarks alone.

Each rests on another idea, none uses anything of the package, and all work on the same input: channels of logarithmic
SAR amplitude and of roots of optical brightness, smoothed once by a Gaussian of SMOOTHING_PX. Each gives a score for
every whole lag (higher is better) of an inner SAR window in the larger optical one, so that no lag lacks pixels.

Legend of shapes: C channels, F fields, n side of the optical window, m side of the inner SAR window, L = n - m + 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy import ndimage
from skimage.filters.rank import entropy
from skimage.morphology import disk

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

SMOOTHING_PX = 1.0
MI_BINS = 32
HOG_BINS, HOG_CELL_PX, HOG_CLIP, HOG_FLOOR = 9, 3.0, 0.4, 0.1
MIND_STEP_PX, MIND_PATCH_PX = 2, 1.5
PHASE_ORIENTATIONS, PHASE_SCALES, PHASE_SHORTEST_PX, PHASE_MULTIPLE, PHASE_SIGMA, PHASE_NOISE = (
    6,
    4,
    6.0,
    1.7,
    0.55,
    2.0,
)
ENTROPY_LEVELS, ENTROPY_RADIUS_PX = 32, 4
AROUND = ((-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1))


@dataclass(frozen=True, kw_only=True)
class Member:
    """fields: of channels (C, H, W), (F, H, W). score: of fields (F, m, m) in fields (F, n, n), (L, L)."""

    name: str
    fields: Callable[[F32], F32]
    score: Callable[[F32, F32], F64]


def smoothed(channels: F32) -> F32:
    """Channels (C, H, W) as the members want them."""
    return np.asarray(ndimage.gaussian_filter(channels, (0, SMOOTHING_PX, SMOOTHING_PX)), np.float32)


def mutual_information(fixed: F32, moving: F32) -> F64:
    """Mutual information by joint histograms of equal-population bins, summed over pairs of channels.

    Source: Viola and Wells 1997; Maes et al. 1997.
    """
    side = fixed.shape[-1]
    lags = moving.shape[-1] - side + 1
    total = np.zeros((lags, lags))
    levels = [_ranks(channel, MI_BINS) for channel in moving]
    for channel in fixed:
        first = _ranks(channel, MI_BINS).ravel() * MI_BINS
        for second in levels:
            for row, col in product(range(lags), repeat=2):
                near = second[row : row + side, col : col + side].ravel()
                total[row, col] += _information(np.bincount(first + near, minlength=MI_BINS**2))
    return total


def gradient_magnitude(channels: F32) -> F32:
    """Roots of gradient magnitudes, (C, H, W)."""
    down, right = np.gradient(channels, axis=(1, 2))
    return np.asarray(np.sqrt(np.hypot(down, right)), np.float32)


def orientation_histograms(channels: F32) -> F32:
    """Dense histograms of unsigned gradient orientation, (bins, H, W): soft cells, local L2 norm, clipped, summed.

    Source: Dalal and Triggs 2005.
    """
    total = np.zeros((HOG_BINS, *channels.shape[1:]), np.float32)
    for channel in channels:
        down, right = np.gradient(channel)
        magnitude = np.hypot(down, right)
        angle = (np.arctan2(down, right) % np.pi) * (HOG_BINS / np.pi)
        bins = np.arange(HOG_BINS)[:, None, None]
        apart = np.abs((angle - bins + HOG_BINS / 2) % HOG_BINS - HOG_BINS / 2)
        cells = ndimage.gaussian_filter(np.maximum(1 - apart, 0) * magnitude, (0, HOG_CELL_PX, HOG_CELL_PX))
        floor = HOG_FLOOR * cells.sum(axis=0).mean()
        norm = np.sqrt(ndimage.gaussian_filter((cells**2).sum(axis=0), HOG_CELL_PX) + floor**2)
        cells = np.minimum(cells / norm, HOG_CLIP)
        total += cells - cells.mean(axis=0)
    return total


def neighbourhood_descriptor(channels: F32) -> F32:
    """The modality independent neighbourhood descriptor of eight neighbours, (8, H, W), mean over channels.

    Source: Heinrich et al. 2012.
    """
    total = np.zeros((len(AROUND), *channels.shape[1:]), np.float32)
    for channel in channels:
        moved = [np.roll(channel, (MIND_STEP_PX * row, MIND_STEP_PX * col), (0, 1)) for row, col in AROUND]
        apart = np.stack([ndimage.gaussian_filter((one - channel) ** 2, MIND_PATCH_PX) for one in moved])
        variance = apart[:4].mean(axis=0)
        variance = np.clip(variance, variance.mean() / 100, variance.mean() * 100)
        likeness = np.exp(-apart / variance)
        total += likeness / likeness.max(axis=0)
    return total / np.float32(len(channels))


def phase_congruency(channels: F32) -> F32:
    """Phase congruency in each orientation by log-Gabor filters, less a noise threshold, mean over channels.

    Source: Kovesi 1999; as a descriptor for such pairs: Ye and Shen 2016.
    """
    rows, cols = channels.shape[1:]
    down, right = scipy.fft.fftfreq(rows)[:, None], scipy.fft.fftfreq(cols)[None]
    radius, direction = np.hypot(down, right), np.arctan2(-down, right)
    radius[0, 0] = 1
    wavelengths = [PHASE_SHORTEST_PX * PHASE_MULTIPLE**scale for scale in range(PHASE_SCALES)]
    bands = [_log_gabor(radius, one) for one in wavelengths]
    total = np.zeros((PHASE_ORIENTATIONS, rows, cols), np.float32)
    for channel in channels:
        spectrum = scipy.fft.fft2(channel)
        for number in range(PHASE_ORIENTATIONS):
            apart = np.abs(np.angle(np.exp(1j * (direction - number * np.pi / PHASE_ORIENTATIONS))))
            sector = ((np.cos(np.minimum(apart * PHASE_ORIENTATIONS / 2, np.pi)) + 1) / 2).astype(np.float32)
            total[number] += _congruency([scipy.fft.ifft2(spectrum * (band * sector)) for band in bands])
    return total / np.float32(len(channels))


def entropy_images(channels: F32) -> F32:
    """Local entropy in bits of rank levels, (C, H, W). Source: Wachinger and Navab 2012."""
    levels = [_ranks(channel, ENTROPY_LEVELS).astype(np.uint8) for channel in channels]
    return np.stack([entropy(one, disk(ENTROPY_RADIUS_PX)) for one in levels]).astype(np.float32)


def cross_products(fixed: F32, moving: F32) -> F64:
    """Sums of products at each lag, (F, L, L)."""
    side = moving.shape[-1]
    lags = side - fixed.shape[-1] + 1
    spectrum = np.conj(scipy.fft.rfft2(fixed, s=(side, side))) * scipy.fft.rfft2(moving)
    return np.asarray(scipy.fft.irfft2(spectrum, s=(side, side))[..., :lags, :lags], np.float64)


def normalised_products(fixed: F32, moving: F32) -> F64:
    """Normalised cross-correlation of each field, (F, L, L)."""
    side = fixed.shape[-1]
    fixed = fixed - fixed.mean(axis=(1, 2), keepdims=True)
    moving = moving - moving.mean(axis=(1, 2), keepdims=True)
    variance = box_sums(moving.astype(np.float64) ** 2, side) - box_sums(moving, side) ** 2 / side**2
    power = (fixed.astype(np.float64) ** 2).sum(axis=(1, 2))[:, None, None]
    score: F64 = cross_products(fixed, moving) / np.sqrt(np.maximum(variance * power, 1e-12))
    return score


def every_pair(fixed: F32, moving: F32) -> F64:
    """Mean normalised cross-correlation of every field of one with every field of the other, (L, L)."""
    scores = [normalised_products(np.broadcast_to(one, (len(moving), *one.shape)), moving) for one in fixed]
    return np.asarray(np.mean(scores, axis=(0, 1)))


def same_field(fixed: F32, moving: F32) -> F64:
    """Mean normalised cross-correlation of fields of the same number, (L, L)."""
    return np.asarray(normalised_products(fixed, moving).mean(axis=0))


def cosine(fixed: F32, moving: F32) -> F64:
    """Mean product of descriptors, (L, L)."""
    return np.asarray(cross_products(fixed, moving).sum(axis=0) / fixed[0].size)


def minus_squares(fixed: F32, moving: F32) -> F64:
    """Minus the mean squared difference of descriptors, up to a constant, (L, L)."""
    squares = box_sums((moving.astype(np.float64) ** 2).sum(axis=0, keepdims=True), fixed.shape[-1])[0]
    return np.asarray((2 * cross_products(fixed, moving).sum(axis=0) - squares) / fixed[0].size)


def box_sums(images: F32 | F64, side: int) -> F64:
    """Sums of (F, n, n) over every square of side pixels, (F, L, L)."""
    total = np.pad(images.astype(np.float64), ((0, 0), (1, 0), (1, 0))).cumsum(axis=1).cumsum(axis=2)
    sums: F64 = total[:, side:, side:] - total[:, :-side, side:] - total[:, side:, :-side] + total[:, :-side, :-side]
    return sums


def _ranks(channel: F32, bins: int) -> npt.NDArray[np.int64]:
    edges = np.quantile(channel, np.arange(1, bins) / bins)
    return np.asarray(np.searchsorted(edges, channel, side="right"), np.int64)


def _information(counts: npt.NDArray[np.int64]) -> float:
    joint = counts.reshape(MI_BINS, MI_BINS) / counts.sum()
    return _minus_entropy(joint) - _minus_entropy(joint.sum(axis=0)) - _minus_entropy(joint.sum(axis=1))


def _minus_entropy(shares: F64) -> float:
    some = shares[shares > 0]
    return float((some * np.log(some)).sum())


def _log_gabor(radius: F64, wavelength_px: float) -> F32:
    band = np.exp(-(np.log(radius * wavelength_px) ** 2) / (2 * np.log(PHASE_SIGMA) ** 2))
    band = band / (1 + (radius / 0.45) ** 30)
    band[0, 0] = 0
    return np.asarray(band, np.float32)


def _congruency(responses: list[npt.NDArray[np.complex64]]) -> F32:
    amplitudes = [np.abs(one) for one in responses]
    noise = np.median(amplitudes[0]) / np.sqrt(np.log(4))
    noise *= (1 - (1 / PHASE_MULTIPLE) ** PHASE_SCALES) / (1 - 1 / PHASE_MULTIPLE)
    threshold = noise * (np.sqrt(np.pi / 2) + PHASE_NOISE * np.sqrt((4 - np.pi) / 2))
    energy = np.abs(np.sum(responses, axis=0)) - threshold
    return np.asarray(np.maximum(energy, 0) / (np.sum(amplitudes, axis=0) + 1e-4), np.float32)


MEMBERS = (
    Member(name="mutual_information", fields=lambda channels: channels, score=mutual_information),
    Member(name="gradient_magnitude", fields=gradient_magnitude, score=every_pair),
    Member(name="orientation_histograms", fields=orientation_histograms, score=cosine),
    Member(name="neighbourhood_descriptor", fields=neighbourhood_descriptor, score=minus_squares),
    Member(name="phase_congruency", fields=phase_congruency, score=same_field),
    Member(name="local_entropy", fields=entropy_images, score=every_pair),
)
