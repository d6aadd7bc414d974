"""Conversion between slant range and ground range by the polynomials annotated in a GRD product.

Here, as in SNAP and sarsen, samples follow the slant-to-ground polynomials (srgr). The way back therefore solves these;
the annotated inverse (grsr) only gives the first guess. The products' own geolocation grids follow grsr of the nearest
record. In real products the two differ by up to 0.1 m at degree 8, but by 40 m at degree 4 (IPF 2.36, 2015).

Before the first record and after the last, the outermost record is used. Results are NaN outside the slant ranges over
which the ground range of every record increases, so that a point far off the swath never lands inside the image.
Source: Sentinel-1 product specification, S1-RS-MDA-52-7441, coordinateConversion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sar1m.core.radar.product import GroundRange, GroundRangeRule
from sar1m.records import F64

_CHUNK: Final = 65536  # points worked on at once: the handful of arrays needed stays in the cache
_NEWTON_STEPS: Final = 3
_CLOSED_M: Final = 1e-6  # ground range the inverse may leave
_SCAN_BEFORE_M: Final = 150e3  # slant ranges looked through for where ground range rises, from the reference
_SCAN_BEHIND_M: Final = 500e3
_SCAN_STEP_M: Final = 1e3


@dataclass(frozen=True, kw_only=True, eq=False)
class _InForce:
    """The polynomials in force at n times: those of a record, plus a part (0 to 1) of the change to the next record.

    limits_m: slant ranges between which they are valid.
    record: (n,). part: (n,); None where records are not interpolated.
    """

    records: GroundRange
    limits_m: tuple[float, float]
    record: npt.NDArray[np.intp]
    part: F64 | None

    def pick(self, by_record: F64) -> F64:
        """Values (n,) at the times, from values (R,) of the records."""
        start = by_record[self.record]
        return start if self.part is None else start + self.part * np.append(np.diff(by_record), 0.0)[self.record]

    def polynomial(self, coefficients: F64, x: F64) -> tuple[F64, F64]:
        """Value and derivative of the polynomials (R, K) at x (n,)."""
        value, slope = self.pick(coefficients[:, -1]), np.zeros_like(x)
        for degree in range(coefficients.shape[1] - 2, -1, -1):
            slope *= x
            slope += value
            value *= x
            value += self.pick(coefficients[:, degree])
        return value, slope

    def ground(self, slant_m: F64) -> tuple[F64, F64]:
        """Ground range in m and its derivative by slant range; NaN outside the limits."""
        value, slope = self.polynomial(self.records.srgr, slant_m - self.pick(self.records.slant_reference_m))
        outside = ~((slant_m >= self.limits_m[0]) & (slant_m <= self.limits_m[1]))
        value[outside] = np.nan
        slope[outside] = np.nan
        return value, slope


def ground_range_m(ground_range: GroundRange, azimuth_time_s: F64, slant_range_m: F64, rule: GroundRangeRule) -> F64:
    """Ground range in m of points seen at azimuth times (s after the epoch) and slant ranges in m; shapes broadcast."""
    return _by_chunk(lambda force, slant_m: force.ground(slant_m)[0], ground_range, azimuth_time_s, slant_range_m, rule)


def slant_range_m(ground_range: GroundRange, azimuth_time_s: F64, ground_range_m: F64, rule: GroundRangeRule) -> F64:
    """Slant range in m of points at azimuth times (s after the epoch) and ground ranges in m; shapes broadcast.

    The inverse of the function ground_range_m, to 1e-6 m in ground range; NaN where that is not reached.
    """
    return _by_chunk(_slant_of_ground, ground_range, azimuth_time_s, ground_range_m, rule)


def slant_per_ground(ground_range: GroundRange, azimuth_time_s: F64, slant_range_m: F64, rule: GroundRangeRule) -> F64:
    """Derivative of slant range by ground range, at azimuth times (s after the epoch) and *slant* ranges in m.

    It is about the sine of the incidence angle. Times the pixel spacing, it is the slant range that a sample covers.
    Shapes broadcast.
    """
    return _by_chunk(
        lambda force, slant_m: 1 / force.ground(slant_m)[1], ground_range, azimuth_time_s, slant_range_m, rule
    )


def _slant_of_ground(force: _InForce, ground_m: F64) -> F64:
    """Newton's iteration on the slant-to-ground polynomial, starting at the annotated inverse."""
    slant_m, _ = force.polynomial(force.records.grsr, ground_m - force.pick(force.records.ground_reference_m))
    for _ in range(_NEWTON_STEPS):
        reached_m, slope = force.ground(slant_m)
        slant_m = slant_m - (reached_m - ground_m) / slope
    left_m = np.abs(force.ground(slant_m)[0] - ground_m)
    return np.where(left_m <= _CLOSED_M, slant_m, np.nan)


def _by_chunk(
    formula: Callable[[_InForce, F64], F64],
    ground_range: GroundRange,
    azimuth_time_s: F64,
    range_m: F64,
    rule: GroundRangeRule,
) -> F64:
    """Applies a formula to broadcast arrays, _CHUNK points at a time."""
    time_s, distance_m = np.broadcast_arrays(
        np.asarray(azimuth_time_s, dtype=np.float64), np.asarray(range_m, dtype=np.float64)
    )
    flat_time_s, flat_m, found_m = time_s.ravel(), distance_m.ravel(), np.empty(time_s.size)
    limits_m = _rising_m(ground_range)
    for start in range(0, flat_m.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        record, onward = _records_at(ground_range.time_s, flat_time_s[part], rule)
        force = _InForce(records=ground_range, limits_m=limits_m, record=record, part=onward)
        found_m[part] = formula(force, flat_m[part])
    found_m[np.isnan(flat_time_s)] = np.nan
    return found_m.reshape(time_s.shape)


def _records_at(record_time_s: F64, time_s: F64, rule: GroundRangeRule) -> tuple[npt.NDArray[np.intp], F64 | None]:
    """Record in force at times (n,), and the part of the way to the next record; None where only the nearest counts."""
    if rule == "nearest" or record_time_s.size == 1:
        return np.searchsorted((record_time_s[1:] + record_time_s[:-1]) / 2, time_s), None
    record = np.clip(np.searchsorted(record_time_s, time_s, side="right") - 1, 0, record_time_s.size - 2)
    onward = (time_s - record_time_s[record]) / (record_time_s[record + 1] - record_time_s[record])
    return record, np.clip(onward, 0.0, 1.0)


def _rising_m(ground_range: GroundRange) -> tuple[float, float]:
    """Slant ranges between which the ground range of every record increases."""
    away_m = np.arange(-_SCAN_BEFORE_M, _SCAN_BEHIND_M + 1, _SCAN_STEP_M)
    slope = np.zeros((ground_range.time_s.size, away_m.size))
    for degree in range(ground_range.srgr.shape[1] - 1, 0, -1):
        slope = slope * away_m + degree * ground_range.srgr[:, degree, None]
    falls = np.any(slope <= 0, axis=0)
    before, behind = np.flatnonzero(falls & (away_m < 0)), np.flatnonzero(falls & (away_m >= 0))
    first = before[-1] + 1 if before.size else 0
    last = behind[0] - 1 if behind.size else away_m.size - 1
    references_m = ground_range.slant_reference_m
    return float(references_m.max() + away_m[first]), float(references_m.min() + away_m[last])
