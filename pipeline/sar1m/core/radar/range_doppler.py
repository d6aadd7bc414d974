"""Backward geocoding: the line and sample of an image at which a point on the ground shows.

A GRD image has zero-Doppler geometry. A point P shows at the time t at which the satellite's velocity v is at right
angles to the line of sight, v(t) . (P - S(t)) = 0, and at the slant range |P - S(t)|, where S is the satellite's
position. The delay of the atmosphere is added to the range where the convention asks for it.
Source: J. Curlander, R. McDonough, "Synthetic Aperture Radar: Systems and Signal Processing" (1991), range-Doppler
equations, for a focused image of zero Doppler. Lines and samples: Sentinel-1 product specification, S1-RS-MDA-52-7441.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sar1m.core.radar.geodesy import normal_from_ecef
from sar1m.core.radar.ground_range import ground_range_m
from sar1m.core.radar.orbit import OrbitPolynomials, OrbitState, fit_orbit, reach_s, state_at
from sar1m.core.radar.product import SPEED_OF_LIGHT_M_S, Convention, GrdGeometry, Orbit
from sar1m.core.radar.troposphere import slant_delay_m
from sar1m.records import F64

_CHUNK: Final = 65536  # points worked on at once: the handful of arrays needed stays in the cache
_STEPS: Final = 10  # three or four are needed from 13 s away
_LAST_STEP_S: Final = 1e-6  # so small a step leaves 1e-16 s (Newton's error is 1e-4 of its square) and 1e-10 m of range


@dataclass(frozen=True, kw_only=True, eq=False)
class ImagePoints:
    """Where points show in an image, all (...).

    All fields are NaN for a point that is not finite, lies left of the track, or has no zero-Doppler time within reach
    of the orbit. The sample alone is NaN outside the range of the slant-to-ground polynomials.

    line, sample: 0 at the centre of the first pixel; they may lie outside the image.
    azimuth_time_s: zero-Doppler time in seconds after the product's epoch.
    slant_range_m: as the radar measures it, with the delay that the convention has.
    incidence_deg: angle between the line of sight and the normal of the ellipsoid.
    """

    line: F64
    sample: F64
    azimuth_time_s: F64
    slant_range_m: F64
    incidence_deg: F64


def zero_doppler(orbit: Orbit, points_m: F64, guess_s: npt.ArrayLike) -> tuple[F64, F64]:
    """Zero-Doppler time (seconds after the epoch, exact to 1e-9 s) and slant range in metres of points, each (...).

    NaN where a point is not finite, lies left of the track (Sentinel-1 looks to the right), or Newton's iteration does
    not converge within reach of the orbit (orbit.reach_s).

    points_m: (..., 3) Earth-fixed.
    guess_s: where the iteration starts, one time for all points or one for each; any time within the scene will do.
    """
    polynomials = fit_orbit(orbit)
    shape = points_m.shape[:-1]
    points = points_m.reshape(-1, 3)
    guesses_s = np.broadcast_to(np.asarray(guess_s, dtype=np.float64), shape).ravel()
    time_s, range_m = np.empty(len(points)), np.empty(len(points))
    for start in range(0, len(points), _CHUNK):
        part = slice(start, start + _CHUNK)
        time_s[part], range_m[part], _ = _solve(polynomials, points[part].T, guesses_s[part])
    return time_s.reshape(shape), range_m.reshape(shape)


def image_coordinates(geometry: GrdGeometry, points_m: F64, convention: Convention) -> ImagePoints:
    """Where Earth-fixed points (..., 3) in metres show in an image, under a convention."""
    polynomials = fit_orbit(geometry.orbit)
    shape = points_m.shape[:-1]
    points = points_m.reshape(-1, 3)
    time_s, range_m, incidence_deg = np.empty((3, len(points)))
    middle_s = geometry.line_interval_s * geometry.lines / 2
    for start in range(0, len(points), _CHUNK):
        part = slice(start, start + _CHUNK)
        seen = points[part]
        time_s[part], range_m[part], sight_m = _solve(polynomials, seen.T, np.full(len(seen), middle_s))
        incidence_deg[part] = _angle_deg(-sight_m, normal_from_ecef(seen).T)
        if convention.troposphere == "standard_atmosphere":
            range_m[part] += slant_delay_m(seen, incidence_deg[part])
    ground_m = ground_range_m(geometry.ground_range, time_s, range_m, convention.ground_range)
    incidence_deg[np.isnan(time_s)] = np.nan
    return ImagePoints(
        line=_line(geometry, time_s, range_m, convention).reshape(shape),
        sample=(ground_m / geometry.range_spacing_m).reshape(shape),
        azimuth_time_s=time_s.reshape(shape),
        slant_range_m=range_m.reshape(shape),
        incidence_deg=incidence_deg.reshape(shape),
    )


def tau_ref_s(geometry: GrdGeometry) -> float:
    """Two-way slant range time, in s, at which the bistatic term of the product's geolocation grid is 0.

    It is not annotated. It is the mean over the grid's points of tau - 2 (azimuth time - line * line interval).
    """
    grid = geometry.grid
    late_s = grid.azimuth_time_s - grid.line * geometry.line_interval_s
    return float(np.mean(grid.slant_range_time_s - 2 * late_s))


def _line(geometry: GrdGeometry, time_s: F64, range_m: F64, convention: Convention) -> F64:
    """Lines at azimuth times, by the convention's azimuth rule."""
    if convention.azimuth == "zero_doppler":
        return time_s / geometry.line_interval_s
    bistatic_s = range_m / SPEED_OF_LIGHT_M_S - tau_ref_s(geometry) / 2
    return (time_s - bistatic_s) / geometry.line_interval_s


def _solve(polynomials: OrbitPolynomials, points_m: F64, guess_s: F64) -> tuple[F64, F64, F64]:
    """Zero-Doppler time (n,), slant range (n,) and line of sight (3, n) of points (3, n)."""
    earliest_s, latest_s = reach_s(polynomials.vector_time_s)
    time_s, step_s = guess_s, np.full_like(guess_s, np.inf)
    for _ in range(_STEPS):
        state = state_at(polynomials, time_s)
        sight_m = points_m - state.position_m
        velocity = state.velocity_m_s
        slope = _dot(state.acceleration_m_s2, sight_m) - _dot(velocity, velocity)
        aim_s = np.clip(time_s - _dot(velocity, sight_m) / slope, earliest_s, latest_s)
        time_s, step_s = aim_s, aim_s - time_s
        if not np.any(np.abs(step_s) > _LAST_STEP_S):
            break
    range_m = np.sqrt(_dot(sight_m, sight_m))
    inside = (time_s > earliest_s) & (time_s < latest_s)
    seen = (np.abs(step_s) <= _LAST_STEP_S) & inside & _on_the_right(state, sight_m)
    return np.where(seen, time_s, np.nan), np.where(seen, range_m, np.nan), sight_m


def _on_the_right(state: OrbitState, sight_m: F64) -> npt.NDArray[np.bool_]:
    """Whether lines of sight (3, n) point to the right of the direction of flight, (n,)."""
    right = np.cross(state.velocity_m_s, state.position_m, axis=0)
    return _dot(right, sight_m) > 0


def _angle_deg(first: F64, second: F64) -> F64:
    """Angles (n,) between vectors (3, n)."""
    cosine = _dot(first, second) / np.sqrt(_dot(first, first) * _dot(second, second))
    angle_deg: F64 = np.degrees(np.arccos(cosine))
    return angle_deg


def _dot(first: F64, second: F64) -> F64:
    """Scalar products (n,) of vectors (3, n)."""
    product: F64 = first[0] * second[0] + first[1] * second[1] + first[2] * second[2]
    return product
