"""The WGS 84 ellipsoid: geodetic degrees to Earth-centred, Earth-fixed metres and back, and the ellipsoid's normal.

Source: the closed form of geodesy text books one way; the other way B. R. Bowring, "Transformation from spatial to
geographical coordinates", Survey Review 23 (1976), iterated on the parametric latitude.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from sar1m.records import F64

SEMI_MAJOR_AXIS_M: Final = 6378137.0  # WGS 84
FLATTENING: Final = 1 / 298.257223563  # WGS 84
SEMI_MINOR_AXIS_M: Final = SEMI_MAJOR_AXIS_M * (1 - FLATTENING)
_FIRST_ECCENTRICITY_2: Final = FLATTENING * (2 - FLATTENING)
_SECOND_ECCENTRICITY_2: Final = _FIRST_ECCENTRICITY_2 / (1 - FLATTENING) ** 2
_BOWRING_STEPS: Final = 3  # the first leaves under 1e-11 rad near the surface; three reach rounding up to any orbit


def ecef_from_geodetic(lon_deg: npt.ArrayLike, lat_deg: npt.ArrayLike, height_m: npt.ArrayLike) -> F64:
    """Earth-fixed x, y, z in metres, (..., 3), of points given in degrees and height above the ellipsoid.

    Arguments broadcast. NaN in any argument gives NaN.
    """
    lon, lat = np.radians(np.asarray(lon_deg, dtype=np.float64)), np.radians(np.asarray(lat_deg, dtype=np.float64))
    height = np.asarray(height_m, dtype=np.float64)
    sin_lat, cos_lat = np.sin(lat), np.cos(lat)
    normal_radius = SEMI_MAJOR_AXIS_M / np.sqrt(1 - _FIRST_ECCENTRICITY_2 * sin_lat**2)
    from_axis = (normal_radius + height) * cos_lat
    along_axis = (normal_radius * (1 - _FIRST_ECCENTRICITY_2) + height) * sin_lat
    x, y, z = np.broadcast_arrays(from_axis * np.cos(lon), from_axis * np.sin(lon), along_axis)
    return np.stack((x, y, z), axis=-1)


def geodetic_from_ecef(points_m: F64) -> tuple[F64, F64, F64]:
    """Longitude (-180..180) and latitude in degrees and height above the ellipsoid in m, each (...).

    Exact to rounding (under 1e-8 m) from 100 km below the surface to beyond the orbits of satellites. On the polar axis
    the longitude is that of arctan2 (0, or 180 for a negative zero).

    points_m: (..., 3) Earth-fixed.
    """
    x, y, z = points_m[..., 0], points_m[..., 1], points_m[..., 2]
    from_axis = np.hypot(x, y)
    sin_lat, cos_lat = _latitude(from_axis, z)
    height = from_axis * cos_lat + z * sin_lat - SEMI_MAJOR_AXIS_M * np.sqrt(1 - _FIRST_ECCENTRICITY_2 * sin_lat**2)
    return np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(sin_lat, cos_lat)), height


def normal_from_ecef(points_m: F64) -> F64:
    """Outward unit vectors (..., 3) normal to the ellipsoid below points (..., 3) in Earth-fixed metres.

    NaN on the polar axis, where the meridian is not defined.
    """
    from_axis = np.hypot(points_m[..., 0], points_m[..., 1])
    sin_lat, cos_lat = _latitude(from_axis, points_m[..., 2])
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = cos_lat / from_axis
    return np.stack((points_m[..., 0] * scale, points_m[..., 1] * scale, sin_lat), axis=-1)


def _latitude(from_axis_m: F64, along_axis_m: F64) -> tuple[F64, F64]:
    """Sine and cosine of the geodetic latitude, from the distances to the axis and to the equator's plane."""
    sin_beta, cos_beta = _unit(along_axis_m * SEMI_MAJOR_AXIS_M, from_axis_m * SEMI_MINOR_AXIS_M)
    for _ in range(_BOWRING_STEPS):
        sin_lat, cos_lat = _unit(
            along_axis_m + _SECOND_ECCENTRICITY_2 * SEMI_MINOR_AXIS_M * sin_beta**3,
            from_axis_m - _FIRST_ECCENTRICITY_2 * SEMI_MAJOR_AXIS_M * cos_beta**3,
        )
        sin_beta, cos_beta = _unit((1 - FLATTENING) * sin_lat, cos_lat)
    return sin_lat, cos_lat


def _unit(rise: F64, run: F64) -> tuple[F64, F64]:
    """Sine and cosine of the angle whose tangent is rise / run; NaN where both are 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = 1 / np.sqrt(rise * rise + run * run)
        return rise * scale, run * scale
