"""Shares of one patch that hold one stored number, or one that no measurement reaches: fill values nobody declared.

Measured on the values as they were read, before they are encoded. NaN is missing data and never counts as a value.
Numbers count as one where they agree to 15 bits (0.0001 dB, 0.00003 of reflectance): resampling leaves a plateau flat
up to the rounding of its sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from sar1m.core.quality import DB_FLOOR
from sar1m.records import F32, I32, I64

FULL_REFLECTANCE: Final = 1.5  # snow and cloud stay under it; 65535 DN, percent and pictures do not
WHITE: Final = 254.5  # of display pictures, 0 to 255
_DROPPED_BITS: Final = 8  # of the 23 of a float32
_CLIPPED: Final = 0.999  # what is clipped to the encoding's floor stands there up to rounding


def sar_plateau_frac(sar: F32, noise_floor_linear: Sequence[float]) -> float:
    """Share of the valid pixels that hold the most frequent value, of the worst polarisation; NaN without valid pixels.

    A floor to which a product clips the noise over calm water is no plateau: values from -60 dB up to the noise floor
    count as valid only (noise_floor_frac has its share of them). Real scenes give under 0.004, decibels in steps of
    1 dB up to 0.18, a fill value its share of the patch.

    sar: (P, H, W) linear power. noise_floor_linear: for each polarisation.
    """
    shares = []
    for power, floor in zip(sar, noise_floor_linear, strict=False):
        valid = power[np.isfinite(power)]
        if valid.size:
            measured = (valid > floor) | (valid < DB_FLOOR * _CLIPPED)
            shares.append(_most_frequent(_numbers(valid[measured])) / valid.size)
    return max(shares, default=float("nan"))


def optical_plateau_frac(optical: F32, *, display: bool) -> float:
    """Share of the valid pixels that hold the most frequent value; NaN without valid pixels.

    Reflectance: of the worst band. Display pictures, whose few values repeat: one colour, the same in all bands; white
    counts as valid only, since snow is white and white is a choice of who made the picture.

    optical: (B, H, W) reflectance, or 0..255.
    """
    if display:
        pixels = np.rint(optical[:, np.isfinite(optical).all(axis=0)]).astype(np.int64)
        coloured = pixels[:, ~(pixels > WHITE).all(axis=0)]
        colours = np.zeros(coloured.shape[1], dtype=np.int64)
        for band in coloured:
            colours = colours * 256 + band
        return _most_frequent(colours) / pixels.shape[1] if pixels.shape[1] else float("nan")
    known = [band[np.isfinite(band)] for band in optical]
    # one added: values around 0 then differ by their difference, as the others do
    return max((_most_frequent(_numbers(band + 1)) / band.size for band in known if band.size), default=float("nan"))


def saturated_frac(optical: F32, *, display: bool) -> float:
    """Share of the valid values at or over what a sensor can hold, of the worst band; NaN without valid values.

    Reflectance: 1.5, which no ground reaches; the largest stored numbers (65535) lie far over it. Display: white, 255.

    optical: (B, H, W) reflectance, or 0..255.
    """
    ceiling = WHITE if display else FULL_REFLECTANCE
    known = [band[np.isfinite(band)] for band in optical]
    return max((float(np.mean(band >= ceiling)) for band in known if band.size), default=float("nan"))


def _numbers(values: F32) -> I32:
    """Values by their leading bits, rounded, so that those within 15 bits of each other are mostly one number."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.int32)
    numbers: I32 = (bits + np.int32(1 << (_DROPPED_BITS - 1))) >> _DROPPED_BITS  # of finite values: no overflow
    return numbers


def _most_frequent(numbers: I32 | I64) -> int:
    """How often the most frequent of some numbers is there; 0 of none."""
    if not numbers.size:
        return 0
    ordered = np.sort(numbers)
    starts = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    return int(np.diff(np.concatenate([[0], starts, [ordered.size]])).max())
