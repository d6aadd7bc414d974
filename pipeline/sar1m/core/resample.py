"""Shifting and averaging rasters. SAR is linear power throughout: a mean of decibels is biased."""

from __future__ import annotations

import numpy as np
import scipy.fft
from scipy import ndimage

from sar1m.records import F32, F64, Bool

KERNEL_PX = 8  # half width of the kernel of shift_fraction
MIRROR_PX = 32  # margin mirrored around an image so that the periodic transform sees no step at its border


def shift_subpixel(image: F32, row_px: float, col_px: float) -> F32:
    """The image with its content moved row_px down and col_px to the right, in the same shape and units.

    The interpolation is ideal (shift theorem of the Fourier transform). It is exact for content below the Nyquist
    frequency, so that a shift and its opposite give the image back, and a shift by whole pixels copies them. It may
    overshoot beside steps, also below 0. A result is NaN where a source pixel next to the wanted point is NaN or
    outside the image. Other results do not depend on NaN pixels, which are replaced by the mean for the transform.

    image: (..., H, W).
    """
    valid = np.isfinite(image)
    outside = ~_source_is_valid(valid, row_px, col_px)
    if not valid.any():
        return np.full_like(image, np.nan)
    rows, cols = image.shape[-2:]
    mirror = MIRROR_PX + int(np.ceil(max(abs(row_px), abs(col_px))))
    margins = [(0, 0)] * (image.ndim - 2) + [(mirror, mirror)] * 2
    bridged = np.where(valid, image, np.mean(image, where=valid))
    padded = np.pad(bridged, margins, mode="symmetric")
    spectrum = scipy.fft.rfft2(padded)
    spectrum *= _phase_ramp(padded.shape[-2:], row_px, col_px)
    moved = scipy.fft.irfft2(spectrum, s=padded.shape[-2:])[..., mirror : mirror + rows, mirror : mirror + cols]
    return np.where(outside, np.nan, moved).astype(np.float32)


def shift_fraction(image: F32, row_px: float, col_px: float) -> F32:
    """The image with its content moved down and right by at most a pixel each, in the same shape and units.

    The kernel is a sinc with a Hann window over KERNEL_PX on each side: nearly ideal, and it reaches no further, so
    that an image may be worked on in strips. A result is NaN where a pixel next to the wanted point is NaN or outside
    the image; around such places the kernel counts the pixels that are there, and no others.

    image: (..., H, W). Raises ValueError for longer shifts.
    """
    if max(abs(row_px), abs(col_px)) > 1:
        raise ValueError(f"a shift of {row_px}, {col_px} px; at most a pixel each way")
    valid = np.isfinite(image)
    moved, weight = np.where(valid, image, np.float32(0)), valid.astype(np.float32)
    for axis, shift_px in ((-2, row_px), (-1, col_px)):
        taps = _taps(shift_px)
        moved = ndimage.correlate1d(moved, taps, axis=axis, mode="constant")
        weight = ndimage.correlate1d(weight, taps, axis=axis, mode="constant")
    outside = ~_source_is_valid(valid, row_px, col_px)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(outside, np.nan, moved / weight).astype(np.float32)


def _taps(shift_px: float) -> F64:
    """Weights of the pixels -KERNEL_PX..KERNEL_PX around a place for content moved up the axis; their sum is 1."""
    distance = shift_px + np.arange(-KERNEL_PX, KERNEL_PX + 1)
    inside = np.clip(distance / (KERNEL_PX + 1), -1, 1)
    taps: F64 = np.sinc(distance) * np.cos(np.pi / 2 * inside) ** 2
    taps /= taps.sum()
    return taps


def block_mean(image: F32, factor: int) -> F32:
    """Means over blocks of factor x factor pixels, (..., H // factor, W // factor); multilooking for SAR.

    A block with a NaN is NaN. Rows and columns left over at the lower and right edge are dropped.

    image: (..., H, W), for SAR in linear power.
    """
    if factor == 1:
        return image
    rows, cols = (size // factor * factor for size in image.shape[-2:])
    total = image[..., 0:rows:factor, :cols] + image[..., 1:rows:factor, :cols]
    for k in range(2, factor):
        total += image[..., k:rows:factor, :cols]
    mean: F32 = total[..., ::factor] + total[..., 1::factor]
    for k in range(2, factor):
        mean += total[..., k::factor]
    mean *= np.float32(1 / factor**2)
    return mean


def _phase_ramp(shape: tuple[int, ...], row_px: float, col_px: float) -> np.ndarray:
    down = np.exp(-2j * np.pi * row_px * scipy.fft.fftfreq(shape[0]))
    right = np.exp(-2j * np.pi * col_px * scipy.fft.rfftfreq(shape[1]))
    ramp: np.ndarray = np.outer(down, right).astype(np.complex64)
    return ramp


def _source_is_valid(valid: Bool, row_px: float, col_px: float) -> Bool:
    """Whether all source pixels around the point that moves onto a pixel are valid."""
    for axis, shift_px in ((-2, row_px), (-1, col_px)):
        low, high = int(np.floor(shift_px)), int(np.ceil(shift_px))
        valid = _moved_whole(valid, low, axis) & _moved_whole(valid, high, axis)
    return valid


def _moved_whole(valid: Bool, shift_px: int, axis: int) -> Bool:
    moved = np.zeros_like(valid)
    size = valid.shape[axis]
    if abs(shift_px) >= size:
        return moved
    kept = slice(max(shift_px, 0), size + min(shift_px, 0))
    source = slice(max(-shift_px, 0), size + min(-shift_px, 0))
    target_view, source_view = np.moveaxis(moved, axis, 0), np.moveaxis(valid, axis, 0)
    target_view[kept] = source_view[source]
    return moved
