"""The geometry of a simulated image: the line and sample of points on the ground, from the closed form of the orbit.

Lines and samples count from 0 at the centre of the first pixel; times are seconds after the first line.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt

from sar1m.core.radar.geodesy import ecef_from_geodetic, geodetic_from_ecef
from sar1m.core.radar.product import SPEED_OF_LIGHT_M_S, Convention, GroundRange
from sar1m.records import F64
from sarworld.safe.atmosphere import slant_delay_m
from sarworld.safe.circular_orbit import CircularOrbit, incidence_deg, orbit_over
from sarworld.safe.scenario import SceneSpec

DEGREE: Final = 8
RECORD_STEP_S: Final = 1.0
RECORDS_BEFORE_S: Final = 1.909201  # as far before the first line as real products begin
WANDER_RECORDS: Final = 6  # period, in records, of the reference height
LEAST_RANGE_PER_HEIGHT: Final = 0.02
_SWEEP: Final = 1500  # slant ranges over the swath at which ground range is measured


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """The geometry of an image.

    spacing_m: of pixels, in ground range.
    reference_height_m: height of the level ground that the calibration refers to.
    tau_ref_s: two-way slant range time at which the bistatic term of the geolocation grid is 0.
    convention: the one that the pixels follow.
    """

    orbit: CircularOrbit
    epoch: datetime
    line_interval_s: float
    lines: int
    samples: int
    spacing_m: float
    reference_height_m: float
    tau_ref_s: float
    ground_range: GroundRange
    convention: Convention

    @property
    def centre_s(self) -> float:
        """Time of the middle line in s."""
        return (self.lines - 1) / 2 * self.line_interval_s

    def measured(self, points_m: F64, rule: Convention) -> tuple[F64, F64]:
        """Zero-Doppler time in s and slant range in m, each (...), as the radar measures them for points (..., 3)."""
        time_s, range_m = self.orbit.zero_doppler(points_m, self.centre_s)
        if rule.troposphere == "none":
            return time_s, range_m
        return time_s, range_m + self._delay_m(points_m, time_s)

    def _delay_m(self, points_m: F64, time_s: F64) -> F64:
        """The atmosphere's delay in m, (...), of points (..., 3) seen at times (...)."""
        return slant_delay_m(geodetic_from_ecef(points_m)[2], incidence_deg(points_m, self.orbit.state(time_s)[0]))

    def image_coordinates(self, points_m: F64, convention: Convention | None = None) -> tuple[F64, F64]:
        """Line and sample, each (...), of points (..., 3), by the frame's convention or another."""
        rule = convention or self.convention
        time_s, range_m = self.measured(points_m, rule)
        return self.line(time_s, range_m, rule), self.sample(time_s, range_m, rule)

    def line(self, time_s: F64, range_m: F64, rule: Convention) -> F64:
        """Lines of points seen at zero-Doppler times and slant ranges."""
        late_s = 0.0 if rule.azimuth == "zero_doppler" else range_m / SPEED_OF_LIGHT_M_S - self.tau_ref_s / 2
        return (time_s - late_s) / self.line_interval_s

    def sample(self, time_s: F64, range_m: F64, rule: Convention) -> F64:
        """Samples of points seen at zero-Doppler times and slant ranges."""
        return self.ground_m(time_s, range_m, nearest=rule.ground_range == "nearest") / self.spacing_m

    def ground_m(self, time_s: F64, range_m: F64, *, nearest: bool) -> F64:
        """Ground range in m at times and slant ranges, by the polynomials of the records.

        nearest: use the nearest record; otherwise records are interpolated.
        """
        records = self.ground_range
        times_s, range_m = np.broadcast_arrays(np.asarray(time_s, dtype=np.float64), range_m)
        ground_m = np.zeros(times_s.shape)
        for record in range(len(records.time_s)):
            weight = _record_weight(records.time_s, times_s, record, nearest=nearest)
            away_m = range_m - records.slant_reference_m[record]
            ground_m += weight * np.polynomial.polynomial.polyval(away_m, records.srgr[record])
        return ground_m

    def locate(
        self, line: npt.ArrayLike, sample: npt.ArrayLike, height_m: npt.ArrayLike, *, nearest: bool | None = None
    ) -> F64:
        """Points (..., 3) that show at lines and samples and have heights above the ellipsoid; arguments broadcast.

        nearest: True uses the convention of the geolocation grid, which knows no atmosphere, None that of the frame.
        """
        lines, samples, height = np.broadcast_arrays(
            *(np.asarray(values, dtype=np.float64) for values in (line, sample, height_m))
        )
        grid_like = nearest if nearest is not None else self.convention.ground_range == "nearest"
        bistatic = nearest if nearest is not None else self.convention.azimuth == "geolocation_grid"
        time_s = lines * self.line_interval_s
        range_m = self._slant_m(time_s, samples, grid_like)
        for _ in range(3 if bistatic else 0):
            time_s = lines * self.line_interval_s + (range_m / SPEED_OF_LIGHT_M_S - self.tau_ref_s / 2)
            range_m = self._slant_m(time_s, samples, grid_like)
        points_m = self.orbit.locate(time_s, range_m, height)
        if nearest is None and self.convention.troposphere != "none":
            points_m = self.orbit.locate(time_s, range_m - self._delay_m(points_m, time_s), height)
        return points_m

    def _slant_m(self, time_s: F64, sample: F64, nearest: bool) -> F64:
        """Slant ranges of samples, by the secant method."""
        wanted = sample * self.spacing_m
        before = np.full_like(wanted, self.ground_range.slant_reference_m[0])
        after = before + 0.6 * wanted + 1.0
        ground_before = self.ground_m(time_s, before, nearest=nearest)
        for _ in range(8):
            ground_after = self.ground_m(time_s, after, nearest=nearest)
            step = ground_after - ground_before
            slope = np.where(np.abs(step) > 1e-9, (after - before) / np.where(step == 0, 1, step), 0.0)
            before, after, ground_before = after, after + (wanted - ground_after) * slope, ground_after
        return after


def _record_weight(record_s: F64, time_s: F64, record: int, *, nearest: bool) -> F64:
    """Weight (...) of one record at times (...): 1 for the nearest, or shared linearly by the two around."""
    if nearest:
        closest = np.searchsorted((record_s[1:] + record_s[:-1]) / 2, time_s)
        return np.asarray(closest == record, dtype=np.float64)
    place = np.interp(time_s, record_s, np.arange(len(record_s), dtype=np.float64))
    weight: F64 = np.maximum(1 - np.abs(place - record), 0)
    return weight


def make_frame(spec: SceneSpec, reference_height_m: float) -> Frame:
    """The frame whose middle shows the centre of the scene at the incidence angle of the spec.

    Raises ValueError where no such orbit exists or the incidence lies outside the mode's swath.
    """
    taken, mode = spec.acquisition, spec.mode
    near_deg, far_deg = mode.incidence_deg
    if not near_deg < taken.incidence_deg < far_deg:
        raise ValueError(f"incidence {taken.incidence_deg} degrees lies outside {mode.name}: {near_deg} to {far_deg}")
    place = (spec.lon, spec.lat, reference_height_m)
    overhead = orbit_over(*place, taken.orbit_state, taken.incidence_deg, 0.0)
    centre = ecef_from_geodetic(*place)
    interval_s = _line_interval_s(overhead, centre, mode.spacing_m)
    middle_s = (spec.lines - 1) / 2 * interval_s
    # whole microseconds, as annotations write times
    epoch = taken.centre_time(spec.lon) - timedelta(microseconds=round(middle_s * 1e6))
    orbit = orbit_over(*place, taken.orbit_state, taken.incidence_deg, middle_s)
    swath_m = [_slant_at_incidence(orbit, middle_s, reference_height_m, edge) for edge in mode.incidence_deg]
    _, centre_m = orbit.zero_doppler(centre, middle_s)
    return Frame(
        orbit=orbit,
        epoch=epoch,
        line_interval_s=interval_s,
        lines=spec.lines,
        samples=spec.samples,
        spacing_m=mode.spacing_m,
        reference_height_m=reference_height_m,
        tau_ref_s=float(np.round(sum(swath_m) / SPEED_OF_LIGHT_M_S, 9)),  # mid-swath
        ground_range=_records(spec, orbit, swath_m[0], float(centre_m), swath_m[1], reference_height_m, interval_s),
        convention=taken.convention,
    )


def _line_interval_s(orbit: CircularOrbit, centre_m: F64, spacing_m: float) -> float:
    """Time in which the beam advances by one pixel over the ground."""
    time_s, range_m = orbit.zero_doppler(centre_m, 0.0)
    height_m = geodetic_from_ecef(centre_m)[2]
    ends = orbit.locate(time_s + np.array([-0.5, 0.5]), range_m, height_m)
    return float(np.round(spacing_m / np.linalg.norm(ends[1] - ends[0]), 15))


def _slant_at_incidence(orbit: CircularOrbit, time_s: float, height_m: float, wanted_deg: float) -> float:
    ranges_m = np.linspace(7.2e5, 1.15e6, 2000)
    points = orbit.locate(time_s, ranges_m, height_m)
    return float(np.interp(wanted_deg, incidence_deg(points, orbit.state(time_s)[0]), ranges_m))


def _records(
    spec: SceneSpec,
    orbit: CircularOrbit,
    near_m: float,
    centre_m: float,
    far_m: float,
    height_m: float,
    interval_s: float,
) -> GroundRange:
    """Slant-to-ground polynomials over the whole swath, one record a second.

    Ground range is measured from the near edge of the swath along the ellipsoid raised by a reference height, which
    varies from record to record. Its zero is then moved to the first sample of the image.
    """
    middle_s = (spec.lines - 1) / 2 * interval_s
    count = int(np.ceil((RECORDS_BEFORE_S * 2 + spec.lines * interval_s) / RECORD_STEP_S)) + 1
    times_s = np.round(-RECORDS_BEFORE_S + RECORD_STEP_S * np.arange(count), 6)
    ranges_m = np.linspace(near_m, far_m, _SWEEP)
    level = _ground_along(orbit, middle_s, ranges_m, height_m)
    raised = _ground_along(orbit, middle_s, ranges_m, height_m + 100.0)
    centre_ground_m = float(np.interp(centre_m, ranges_m, level))
    first_m = float(np.interp(centre_ground_m - (spec.samples - 1) / 2 * spec.mode.spacing_m, level, ranges_m))
    zero_m = float(np.interp(first_m, ranges_m, level))
    per_height = float(np.interp(centre_m, ranges_m, raised - level)) / 100.0
    if abs(per_height) < LEAST_RANGE_PER_HEIGHT:
        raise ValueError("the image lies at the swath's near edge, where the reference height moves nothing")
    # the rules differ most half-way between records that differ most: by half of that
    amplitude_m = 2 * spec.acquisition.rule_gap_px * spec.mode.spacing_m / abs(per_height)
    amplitude_m /= 2 * np.sin(np.pi / WANDER_RECORDS)
    wander = np.sin(2 * np.pi * (np.arange(count) - count // 2) / WANDER_RECORDS)
    first_m = float(np.round(first_m, 6))
    srgr, grsr = [], []
    for time_s, height in zip(times_s, height_m + amplitude_m * wander, strict=True):
        ground_m = _ground_along(orbit, float(time_s), ranges_m, float(height)) - zero_m
        srgr.append(_fit(ranges_m - first_m, ground_m))
        grsr.append(_fit(ground_m, ranges_m))
    return GroundRange(
        time_s=times_s,
        slant_reference_m=np.full(count, first_m),
        srgr=np.array(srgr),
        ground_reference_m=np.zeros(count),
        grsr=np.array(grsr),
    )


def _ground_along(orbit: CircularOrbit, time_s: float, ranges_m: F64, height_m: float) -> F64:
    """Ground range (n,) along the raised ellipsoid from the first of slant ranges (n,), by chords of 200 m."""
    points = orbit.locate(time_s, ranges_m, height_m)
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])


def _fit(x: F64, y: F64) -> npt.NDArray[np.float64]:
    """Coefficients of the fitted polynomial in x, constant first."""
    fitted = np.polynomial.Polynomial.fit(x, y, DEGREE)
    coefficients = np.asarray(fitted.convert().coef, dtype=np.float64).tolist()
    return np.asarray([float(f"{c:.15e}") for c in coefficients])  # as the annotation holds them
