"""A satellite on a circular orbit of Sentinel-1's height and inclination, and its zero-Doppler geometry.

Everything here follows from the closed form of the orbit. No state vectors are used, so that the pipeline's
interpolation of them can be tested against it.
Source: two-body motion on a circle; Torres et al., Remote Sensing of Environment 120 (2012).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import optimize

from sar1m.core.radar.geodesy import ecef_from_geodetic, geodetic_from_ecef, normal_from_ecef
from sar1m.core.radar.product import Orbit
from sar1m.records import F64
from sarworld.safe.scenario import OrbitState

RADIUS_M: Final = 7_071_000.0
INCLINATION_RAD: Final = float(np.radians(98.18))
EARTH_GM_M3_S2: Final = 3.986004418e14  # WGS 84
EARTH_TURN_RAD_S: Final = 7.292115e-5  # WGS 84
MOTION_RAD_S: Final = float(np.sqrt(EARTH_GM_M3_S2 / RADIUS_M**3))
VECTORS: Final = 16
VECTOR_STEP_S: Final = 10.0
_NEWTON_STEPS: Final = 6


@dataclass(frozen=True, kw_only=True)
class CircularOrbit:
    """A circular orbit.

    phase_rad: argument of latitude at time 0. node_rad: Earth-fixed longitude of the ascending node at time 0.
    """

    phase_rad: float
    node_rad: float

    def state(self, time_s: npt.ArrayLike) -> tuple[F64, F64, F64]:
        """Position, velocity and acceleration, (..., 3) each, in the Earth-fixed frame at times (...) in seconds."""
        seconds = np.asarray(time_s, dtype=np.float64)
        phase = self.phase_rad + MOTION_RAD_S * seconds
        node = np.exp(1j * (self.node_rad - EARTH_TURN_RAD_S * seconds))
        turn, tilt = -1j * EARTH_TURN_RAD_S, np.cos(INCLINATION_RAD)
        in_plane = np.cos(phase) + 1j * tilt * np.sin(phase)
        slope = MOTION_RAD_S * (-np.sin(phase) + 1j * tilt * np.cos(phase))
        flat = (
            node * in_plane,
            node * (turn * in_plane + slope),
            node * ((turn**2 - MOTION_RAD_S**2) * in_plane + 2 * turn * slope),
        )
        rise = np.sin(INCLINATION_RAD)
        up = (np.sin(phase), MOTION_RAD_S * np.cos(phase), -(MOTION_RAD_S**2) * np.sin(phase))
        position, velocity, acceleration = (
            RADIUS_M * np.stack((f.real, f.imag, rise * u), axis=-1) for f, u in zip(flat, up, strict=True)
        )
        return position, velocity, acceleration

    def zero_doppler(self, points_m: F64, guess_s: float) -> tuple[F64, F64]:
        """Zero-Doppler time in s and slant range in m, each (...), of points (..., 3), by Newton's method."""
        time_s = np.full(points_m.shape[:-1], float(guess_s))
        for _ in range(_NEWTON_STEPS):
            position, velocity, acceleration = self.state(time_s)
            line = points_m - position
            doppler = _dot(velocity, line)
            time_s = time_s - doppler / (_dot(acceleration, line) - _dot(velocity, velocity))
        return time_s, np.linalg.norm(points_m - self.state(time_s)[0], axis=-1)

    def locate(self, time_s: npt.ArrayLike, slant_range_m: npt.ArrayLike, height_m: npt.ArrayLike) -> F64:
        """Points (..., 3) right of the track at zero-Doppler times, slant ranges and heights above the ellipsoid.

        Arguments broadcast. Newton's method on the height as a function of the look angle; NaN where the range does not
        reach the ground.
        """
        seconds, range_m, height = np.broadcast_arrays(
            *(np.asarray(values, dtype=np.float64) for values in (time_s, slant_range_m, height_m))
        )
        position, velocity, _ = self.state(seconds)
        along = velocity / np.linalg.norm(velocity, axis=-1, keepdims=True)
        down = -position + _dot(position, along)[..., None] * along
        down /= np.linalg.norm(down, axis=-1, keepdims=True)
        right = np.cross(along, -down)
        angle = self._first_look_angle(np.linalg.norm(position, axis=-1), range_m, height)
        for _ in range(_NEWTON_STEPS):
            aside = np.cos(angle)[..., None] * right - np.sin(angle)[..., None] * down
            points = position + range_m[..., None] * _sight(angle, down, right)
            reached = geodetic_from_ecef(points)[2]
            angle = angle - (reached - height) / (range_m * _dot(aside, normal_from_ecef(points)))
        found: F64 = position + range_m[..., None] * _sight(angle, down, right)
        return found

    @staticmethod
    def _first_look_angle(radius_m: F64, range_m: F64, height_m: F64) -> F64:
        # on a sphere, by the law of cosines
        earth_m = 6.371e6 + height_m
        angle: F64 = np.arccos(np.clip((radius_m**2 + range_m**2 - earth_m**2) / (2 * radius_m * range_m), -1, 1))
        return angle

    def vectors(self, first_s: float) -> Orbit:
        """The state vectors of the annotation, from first_s on."""
        time_s: F64 = first_s + VECTOR_STEP_S * np.arange(VECTORS, dtype=np.float64)
        position, velocity, _ = self.state(time_s)
        return Orbit(time_s=time_s, position_m=position.round(6), velocity_m_s=velocity.round(6), source="annotation")

    def heading_deg(self, time_s: float) -> float:
        """Direction of flight over ground in degrees clockwise from north, -180..180."""
        position, velocity, _ = self.state(time_s)
        lon, _, _ = geodetic_from_ecef(position)
        up = position / np.linalg.norm(position)
        east = np.array([-np.sin(np.radians(lon)), np.cos(np.radians(lon)), 0.0])
        return float(np.degrees(np.arctan2(velocity @ east, velocity @ np.cross(up, east))))


def incidence_deg(points_m: F64, sensor_m: F64) -> F64:
    """Angle in degrees between the ellipsoid's normal at points (..., 3) and the direction to the sensor (..., 3)."""
    line = sensor_m - points_m
    cosine = _dot(line, normal_from_ecef(points_m)) / np.linalg.norm(line, axis=-1)
    angle: F64 = np.degrees(np.arccos(cosine))
    return angle


def orbit_over(
    lon: float, lat: float, height_m: float, orbit_state: OrbitState, incidence: float, time_s: float
) -> CircularOrbit:
    """The orbit from which a place (degrees, ellipsoidal height) is seen to the right at time_s.

    incidence: under which it is seen, in degrees against the ellipsoid.
    Raises ValueError where the satellite never comes that far north or south.
    """
    point = ecef_from_geodetic(lon, lat, height_m)
    upward = orbit_state == "ascending"

    def at(unknown: F64) -> CircularOrbit:
        phase, node = unknown
        return CircularOrbit(
            phase_rad=float(phase - MOTION_RAD_S * time_s), node_rad=float(node + EARTH_TURN_RAD_S * time_s)
        )

    def misses(unknown: F64) -> list[float]:
        position, velocity, _ = at(unknown).state(time_s)
        doppler = velocity @ (point - position) / 7.5e3 / 7e5
        right = np.sign(np.cross(velocity, position) @ (point - position))
        return [float(doppler), float(np.radians(right * incidence_deg(point, position) - incidence))]

    sine = np.sin(np.radians(lat)) / np.sin(INCLINATION_RAD)
    if abs(sine) > 0.985:
        raise ValueError(f"latitude {lat} is too near the pole for Sentinel-1's orbit. Take one within 76 degrees.")
    rise = np.arcsin(sine)
    phase = float(rise if upward else np.pi - rise)
    under = np.arctan2(np.cos(INCLINATION_RAD) * np.sin(phase), np.cos(phase))
    # the track lies left of the place: west of it going north, east of it going south
    aside = np.radians(5.0) / np.cos(np.radians(lat)) * (-1 if upward else 1)
    found = optimize.root(misses, [phase, np.radians(lon) + aside - under], tol=1e-14)
    if max(abs(miss) for miss in misses(found.x)) > 1e-9:
        raise ValueError(f"no {orbit_state} orbit sees lon {lon}, lat {lat} under {incidence} degrees")
    return at(found.x)


def _sight(angle: F64, down: F64, right: F64) -> F64:
    """Unit vectors (..., 3) at look angles (...) from down towards right."""
    sight: F64 = np.cos(angle)[..., None] * down + np.sin(angle)[..., None] * right
    return sight


def _dot(a: F64, b: F64) -> F64:
    product: F64 = np.einsum("...i,...i->...", a, b)
    return product
