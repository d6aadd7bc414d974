"""Quality measures of one patch. NaN is missing data and never counts as a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.fft

from sar1m.records import F32, F64, U8, Bool

DB_FLOOR = 10**-6.0  # linear power, -60 dB: the floor of the stored encoding, far under any Sentinel-1 noise
SAR_FLOOR_LINEAR = 10**-3.5  # -35 dB, under the noise floor of Sentinel-1 (NESZ -22 to -25 dB): for logarithms
HASH_BLOCKS = 32  # block means a side before the transform
HASH_SIDE = 8  # coefficients a side after it: 64 bits
NO_HASH = 0
FLOOR_QUANTILE = 0.01

BRIGHT_BLUE = 0.18  # reflectance; clear land, bare soil included, stays under it on our real chips
MAX_WHITENESS = 0.7  # Gomez-Chova et al. 2007, as used by Zhu & Woodcock 2012 (Fmask), eq. 2
MIN_HAZE = 0.08  # Zhu & Woodcock 2012, eq. 3: blue - 0.5 red > 0.08
MAX_CLOUD_NDVI = 0.8  # Zhu & Woodcock 2012, eq. 1
MIN_SNOW_NDSI = 0.4  # Hall et al. 1995; Fmask's 0.15 takes thin cloud for snow without a thermal band
MIN_SNOW_NIR = 0.11  # Zhu & Woodcock 2012, eq. 20: keeps water out
MIN_SNOW_GREEN = 0.1  # the same


@dataclass(frozen=True, kw_only=True, eq=False)
class BrightMasks:
    """Results of the brightness test.

    cloud: (H, W); contains snow too where snow is None.
    snow: (H, W); None where no short-wave infrared band was given.
    """

    cloud: Bool
    snow: Bool | None


def sar_nodata_frac(sar: F32) -> float:
    """Share of pixels of sar (P, H, W) where any polarisation is not a finite number; 1.0 where all are missing."""
    return _share(~np.isfinite(sar).all(axis=0))


def optical_nodata_frac(optical: F32) -> float:
    """Share of pixels of optical (B, H, W) where any band is not a finite number; 1.0 where all are missing."""
    return _share(~np.isfinite(optical).all(axis=0))


def band_floors(bands: F32) -> tuple[float, float]:
    """The lowest and the highest floor of several bands (B, H, W). A floor is the value that one valid pixel in a
    hundred of a band lies under. NaN where no band has a valid pixel."""
    known = [np.sort(valid) for band in bands if (valid := band[np.isfinite(band)]).size]
    floors = [float(_between(*_around(band, FLOOR_QUANTILE))) for band in known]
    return min(floors, default=float("nan")), max(floors, default=float("nan"))


def mask_frac(mask: Bool | None) -> float | None:
    """Share of True pixels of a mask (H, W) in all pixels of the patch; None where the mask is unknown."""
    return None if mask is None else _share(mask)


def dynamic_range_db(sar: F32, *, floor_linear: float = DB_FLOOR) -> float:
    """98th minus 2nd percentile of the first polarisation in dB; NaN where it has no valid pixel.

    sar: (P, H, W) linear power.
    floor_linear: lower and negative values count as this.
    """
    valid = np.sort(sar[0][np.isfinite(sar[0])])
    if valid.size == 0:
        return float("nan")
    levels = []
    for share in (0.02, 0.98):
        ends, part = _around(valid, share)
        levels.append(_between(10 * np.log10(np.maximum(ends.astype(np.float64), floor_linear)), part))
    return float(levels[1] - levels[0])


def noise_floor_frac(sar: F32, noise_floor_linear: Sequence[float]) -> float:
    """Share of valid pixels at or below the noise floor (negative power included), of the worst polarisation.

    Polarisations without valid pixels are left out; NaN where none has any.

    sar: (P, H, W) linear power. noise_floor_linear: for each polarisation.
    Raises ValueError where a polarisation has no noise floor.
    """
    if len(noise_floor_linear) < len(sar):
        raise ValueError(f"{len(sar)} polarisations, but {len(noise_floor_linear)} noise floors; give one for each")
    shares = []
    for power, floor in zip(sar, noise_floor_linear, strict=False):
        valid = power[np.isfinite(power)]
        if valid.size:
            shares.append(_share(valid <= floor))
    return max(shares, default=float("nan"))


def mean_db(sar: F32) -> tuple[float, ...]:
    """Mean power in dB of the valid pixels of each polarisation: 10 log10 of the linear mean.

    NaN where there is no valid pixel, and where the mean is not positive and has no value in dB. Noise removal can
    leave more negative than positive power.

    sar: (P, H, W) linear power.
    """
    means = [power[np.isfinite(power)].astype(np.float64) for power in sar]
    linear = [float(valid.mean()) if valid.size else float("nan") for valid in means]
    return tuple(float(10 * np.log10(mean)) if mean > 0 else float("nan") for mean in linear)


def perceptual_hash(sar: F32, *, floor_linear: float = DB_FLOOR) -> int:
    """64 bits, as a signed integer, that stay (nearly) the same for the same ground under small noise.

    Each polarisation is averaged in linear power over 32 x 32 blocks and converted to dB; then polarisations are
    averaged. Of the 8 x 8 lowest coefficients of the cosine transform, without those constant along an axis, bit k is
    set where the k-th exceeds their median (Zauner 2010, "pHash"). Blocks without data take the mean of the others, for
    this purpose only. 0 for a patch without data or without contrast.

    sar: (P, H, W) linear power, H and W at least 32.
    Raises ValueError for a smaller patch.
    """
    if min(sar.shape[1:]) < HASH_BLOCKS:
        raise ValueError(f"patch of {sar.shape[1:]} px; a perceptual hash needs at least {HASH_BLOCKS} a side")
    levels = np.mean([_block_levels_db(power, floor_linear) for power in sar], axis=0)
    if np.ptp(levels) == 0:
        return NO_HASH
    low = scipy.fft.dctn(levels, norm="ortho")[1 : HASH_SIDE + 1, 1 : HASH_SIDE + 1].ravel()
    bits = np.packbits(low > np.median(low))
    return int.from_bytes(bits.tobytes(), "big", signed=True)


def land_cover_fractions(classes: U8, names: Sequence[tuple[int, str]]) -> dict[str, float]:
    """Share of pixels by class name. Absent classes are left out; a number without a name is called class_<number>.

    classes: (H, W) numbers. names: number and name of each class.
    """
    name_of = dict(names)
    counts = np.bincount(classes.ravel()).tolist()  # numpy's unique would sort all pixels: four times the time
    fractions: dict[str, float] = {}
    for number, count in ((number, count) for number, count in enumerate(counts) if count):
        name = name_of.get(number, f"class_{number}")
        fractions[name] = fractions.get(name, 0.0) + count / classes.size
    return fractions


def brightness_masks(visible: F32, nir: F32, swir: F32 | None = None) -> BrightMasks:
    """Masks of cloud and snow without a scene classification.

    Cloud: blue > 0.18, whiteness < 0.7, blue - 0.5 red > 0.08, NDVI < 0.8 (the spectral tests of Fmask, Zhu & Woodcock
    2012, with a floor on brightness). Snow, where swir is given: NDSI > 0.4, green > 0.1, NIR > 0.11 (Hall et al.
    1995); it is then not cloud. A pixel without data in any band is neither.

    Limits: thin cirrus, haze with blue under 0.18 and cloud shadow are not detected. Bright roofs, salt and dry sand
    can count as cloud, and ice cloud as snow.

    All arguments are reflectance 0..1 with the radiometric offset removed.
    visible: (3, H, W) red, green, blue. nir: (H, W). swir: (H, W) at 1.6 um.
    """
    red, green, blue = visible.astype(np.float64)
    mean_visible = np.maximum((red + green + blue) / 3, np.finfo(np.float32).tiny)
    whiteness = (np.abs(red - mean_visible) + np.abs(green - mean_visible) + np.abs(blue - mean_visible)) / mean_visible
    vegetation = _normalised_difference(nir.astype(np.float64), red)
    bright = (blue > BRIGHT_BLUE) & (whiteness < MAX_WHITENESS) & (blue - 0.5 * red > MIN_HAZE)
    bright &= vegetation < MAX_CLOUD_NDVI
    if swir is None:
        return BrightMasks(cloud=bright, snow=None)
    snow = _normalised_difference(green, swir.astype(np.float64)) > MIN_SNOW_NDSI
    snow &= (green > MIN_SNOW_GREEN) & (nir > MIN_SNOW_NIR)
    return BrightMasks(cloud=bright & ~snow & np.isfinite(swir), snow=snow)


def _around(ordered: F32, share: float) -> tuple[F32, float]:
    """The two values of an ordered row between which a quantile lies, and how far it is from the first to the second.

    Sorting takes half the time of numpy's quantile.
    """
    place = share * (ordered.size - 1)
    first = int(place)
    return ordered[[first, min(first + 1, ordered.size - 1)]], place - first


def _between(ends: F32 | F64, part: float) -> np.floating[Any]:
    low, high = ends
    value: np.floating[Any] = high - (high - low) * (1 - part) if part >= 0.5 else low + (high - low) * part
    return value


def _share(mask: Bool | np.bool_) -> float:
    return float(np.count_nonzero(mask) / mask.size)


def _normalised_difference(one: F64, two: F64) -> F64:
    """(one - two) / (one + two); 0 where the sum is not positive, NaN where either is."""
    total = one + two
    return np.where(total <= 0, 0.0, (one - two) / np.where(total <= 0, 1.0, total))


def _block_levels_db(power: F32, floor_linear: float) -> F64:
    """Block means in dB, (32, 32). Blocks without data take the mean of the others; 0 where none has data."""
    valid = np.isfinite(power)
    sums = _block_sums(np.where(valid, power, 0).astype(np.float64))
    counts = _block_sizes(power.shape) if valid.all() else _block_sums(valid.astype(np.float64))
    filled = counts > 0
    if not filled.any():
        return np.zeros_like(sums)
    level = 10 * np.log10(np.maximum(sums / np.maximum(counts, 1), floor_linear))
    return np.where(filled, level, level[filled].mean())


@lru_cache(maxsize=8)
def _block_sizes(shape: tuple[int, ...]) -> F64:
    sizes = _block_sums(np.ones(shape))
    sizes.flags.writeable = False
    return sizes


def _block_sums(values: F64) -> F64:
    rows, cols = (np.arange(HASH_BLOCKS) * side // HASH_BLOCKS for side in values.shape)
    sums: F64 = np.add.reduceat(np.add.reduceat(values, rows, axis=0), cols, axis=1)
    return sums
