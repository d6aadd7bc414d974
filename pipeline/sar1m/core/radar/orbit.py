"""The satellite's orbit: a piecewise polynomial through state vectors, and checks that refuse a wrong orbit.

Between two state vectors the orbit is the polynomial of degree 7 that has the position and velocity of the four vectors
around (Hermite interpolation; at the ends, the four outermost). On real products its error is under 1e-4 m.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from sar1m.core.radar.product import Orbit
from sar1m.records import F64
from sar1m.store.errors import SourceError

VECTORS: Final = 4  # state vectors one polynomial passes through
DEGREE: Final = 2 * VECTORS - 1
REACH: Final = 0.2  # of the outermost spacing: so far polynomials may be followed beyond the first and last vector
_RADIUS_M: Final = (6.95e6, 7.25e6)  # Sentinel-1 flies at 7.06e6 to 7.09e6 m from the Earth's centre
_SPEED_M_S: Final = (7.3e3, 7.9e3)  # Earth-fixed; Sentinel-1: 7.58e3 to 7.61e3 m/s
_VELOCITY_TOLERANCE_M_S: Final = 0.5  # real products: 0.003 precise, 0.012 from downlink, 0.06 at 1 s spacing
_CUBIC_LEAVES_M_S4: Final = 4e-6  # twice what a circular orbit leaves: omega^4 radius / 4!, times 3! spacings^3


@dataclass(frozen=True, kw_only=True, eq=False)
class OrbitState:
    """Position, velocity and acceleration, each (..., 3), in the Earth-fixed frame.

    The acceleration is the second derivative of the coordinates, and so includes the rotation of the frame.
    """

    position_m: F64
    velocity_m_s: F64
    acceleration_m_s2: F64


@dataclass(frozen=True, kw_only=True, eq=False)
class OrbitPolynomials:
    """The N - 3 polynomials of an orbit of N state vectors.

    Polynomial s is the sum over k of coefficient_m[k, :, s] u^k with u = (time - centre_s[s]) / scale_s[s].

    vector_time_s: (N,). centre_s, scale_s: (N - 3,). coefficient_m: (8, 3, N - 3).
    """

    vector_time_s: F64
    centre_s: F64
    scale_s: F64
    coefficient_m: F64


def fit_orbit(orbit: Orbit) -> OrbitPolynomials:
    """The interpolating polynomials of an orbit of at least four state vectors (which check_orbit ensures)."""
    members = np.arange(orbit.time_s.size - VECTORS + 1)[:, None] + np.arange(VECTORS)
    time_s = orbit.time_s[members]
    centre_s = (time_s[:, 0] + time_s[:, -1]) / 2
    scale_s = (time_s[:, -1] - time_s[:, 0]) / 2
    u = ((time_s - centre_s[:, None]) / scale_s[:, None])[..., None]
    power = np.arange(DEGREE + 1)
    slope = power * u ** np.maximum(power - 1, 0)
    system = np.concatenate((u**power, slope), axis=1)
    wanted = np.concatenate((orbit.position_m[members], orbit.velocity_m_s[members] * scale_s[:, None, None]), axis=1)
    coefficient_m = np.linalg.solve(system, wanted)
    return OrbitPolynomials(
        vector_time_s=orbit.time_s,
        centre_s=centre_s,
        scale_s=scale_s,
        coefficient_m=np.ascontiguousarray(np.moveaxis(coefficient_m, 0, -1)),
    )


def state_at(polynomials: OrbitPolynomials, time_s: F64) -> OrbitState:
    """Position, velocity and acceleration at times (...), each (3, ...): here the axis of the coordinates comes first.

    Outside the state vectors the outermost polynomial is continued. NaN gives NaN.
    """
    interval = np.searchsorted(polynomials.vector_time_s, time_s, side="right") - 1
    which = np.clip(interval - (VECTORS // 2 - 1), 0, polynomials.centre_s.size - 1)
    scale_s = polynomials.scale_s[which]
    u = (time_s - polynomials.centre_s[which]) / scale_s
    position = np.empty((3, *u.shape))
    velocity = np.zeros_like(position)
    acceleration = np.zeros_like(position)
    for axis in range(3):
        p, v, a = position[axis, ...], velocity[axis, ...], acceleration[axis, ...]
        p[...] = polynomials.coefficient_m[DEGREE, axis][which]
        for degree in range(DEGREE - 1, -1, -1):
            a *= u
            a += v
            v *= u
            v += p
            p *= u
            p += polynomials.coefficient_m[degree, axis][which]
    velocity /= scale_s
    acceleration *= 2 / scale_s**2
    return OrbitState(position_m=position, velocity_m_s=velocity, acceleration_m_s2=acceleration)


def positions_at(orbit: Orbit, time_s: F64) -> OrbitState:
    """Position, velocity and acceleration at times (...), each (..., 3).

    Outside the state vectors the outermost polynomial is continued; reach_s gives how far that is accurate.

    time_s: seconds after the product's epoch; NaN gives NaN.
    """
    state = state_at(fit_orbit(orbit), np.asarray(time_s, dtype=np.float64))
    return OrbitState(
        position_m=np.moveaxis(state.position_m, 0, -1),
        velocity_m_s=np.moveaxis(state.velocity_m_s, 0, -1),
        acceleration_m_s2=np.moveaxis(state.acceleration_m_s2, 0, -1),
    )


def reach_s(vector_time_s: F64) -> tuple[float, float]:
    """Earliest and latest time at which an orbit may be used: a fifth of the outermost spacing beyond its vectors.

    Measured on real products by leaving out the last vectors, which are 10 s apart: 2 s beyond, the error is 0.2 mm to
    4 mm (0.1 m with an orbit from downlink); 10 s beyond, 0.03 m to 13 m.
    """
    first_s, last_s = vector_time_s[0], vector_time_s[-1]
    return (
        float(first_s - REACH * (vector_time_s[1] - first_s)),
        float(last_s + REACH * (last_s - vector_time_s[-2])),
    )


def check_orbit(orbit: Orbit, first_s: float, last_s: float, name: str) -> None:
    """Refuses state vectors that cannot be Sentinel-1's, or do not cover a scene.

    Raises SourceError, naming the product and the orbit's source, where
    - there are fewer than four vectors, a value is not finite, or the times do not rise;
    - the radius or the speed is not Sentinel-1's;
    - a velocity differs from the slope of a cubic through four positions by more than 0.5 m/s plus the error of the
      cubic, 4e-6 m/s^4 times the cube of the longest spacing;
    - the scene, from first_s to last_s after the epoch, is not within reach_s.
    """
    about = f"{name}: orbit ({orbit.source})"
    remedy = "Take the product's annotated orbit or another orbit file."
    if orbit.time_s.size < VECTORS:
        raise SourceError(f"{about}: {orbit.time_s.size} state vectors; at least {VECTORS} are needed. {remedy}")
    if not all(np.isfinite(values).all() for values in (orbit.time_s, orbit.position_m, orbit.velocity_m_s)):
        raise SourceError(f"{about}: a state vector is not finite. {remedy}")
    spacing_s = np.diff(orbit.time_s)
    if np.any(spacing_s <= 0):
        at = int(np.argmin(spacing_s > 0))
        raise SourceError(
            f"{about}: the times of vectors {at} and {at + 1} do not rise ({spacing_s[at]:g} s). {remedy}"
        )
    _check_within(np.linalg.norm(orbit.position_m, axis=1), _RADIUS_M, f"{about}: distance from the Earth's centre, m")
    _check_within(np.linalg.norm(orbit.velocity_m_s, axis=1), _SPEED_M_S, f"{about}: Earth-fixed speed, m/s")
    off_m_s = _velocity_off_m_s(orbit)
    allowed_m_s = _VELOCITY_TOLERANCE_M_S + _CUBIC_LEAVES_M_S4 * float(spacing_s.max()) ** 3
    if off_m_s.max() > allowed_m_s:
        raise SourceError(
            f"{about}: the velocity of vector {int(np.argmax(off_m_s))} differs by {off_m_s.max():.3g} m/s from the "
            f"slope of the positions; at most {allowed_m_s:.2g} is expected of Earth-fixed vectors. {remedy}"
        )
    earliest_s, latest_s = reach_s(orbit.time_s)
    if not (earliest_s <= first_s and last_s <= latest_s):
        raise SourceError(
            f"{about}: its vectors reach from {orbit.time_s[0]:.3f} to {orbit.time_s[-1]:.3f} s after the first line, "
            f"the scene from {first_s:.3f} to {last_s:.3f} s; at most {REACH:g} of the vectors' spacing is "
            f"extrapolated. {remedy}"
        )


def _check_within(found: F64, limits: tuple[float, float], what: str) -> None:
    """Raises SourceError where a value, one a state vector, lies outside its limits."""
    outside = np.flatnonzero((found < limits[0]) | (found > limits[1]))
    if outside.size:
        raise SourceError(
            f"{what}: {found[outside[0]]:.6g} at vector {outside[0]}; Sentinel-1 has {limits[0]:g} to {limits[1]:g}. "
            "Take another orbit file, in an Earth-fixed frame and SI units."
        )


def _velocity_off_m_s(orbit: Orbit) -> F64:
    """Difference of each vector's velocity from the slope of the cubics through four neighbouring positions, (N,)."""
    members = np.arange(orbit.time_s.size - VECTORS + 1)[:, None] + np.arange(VECTORS)
    since_s = orbit.time_s[members] - orbit.time_s[members[:, :1]]
    scale_s = since_s[:, -1:]
    u = (since_s / scale_s)[..., None]
    power = np.arange(VECTORS)
    coefficient_m = np.linalg.solve(u**power, orbit.position_m[members])
    slope_m_s = (power * u ** np.maximum(power - 1, 0)) @ coefficient_m / scale_s[..., None]
    off_m_s = np.linalg.norm(slope_m_s - orbit.velocity_m_s[members], axis=-1)
    worst_m_s = np.zeros(orbit.time_s.size)
    np.maximum.at(worst_m_s, members, off_m_s)
    return worst_m_s
