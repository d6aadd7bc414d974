"""Delay of a radar pulse in the troposphere, by a standard atmosphere: a target shows farther away than it is.

The delay along the line of sight is the delay towards the zenith over the cosine of the incidence angle. It is the
hydrostatic one: 2.3 m towards the zenith at sea level, less with height. Weather changes it by some 0.03 m. Left out is
what no standard atmosphere knows: water vapour (0.05 to 0.4 m towards the zenith) and the ionosphere (0.1 m for 7 units
of electron content at 5.4 GHz), each 0.01 to 0.1 px of ground range in most places.
Source: J. Saastamoinen, "Atmospheric correction for the troposphere and stratosphere in radio ranging of satellites",
AGU Geophysical Monograph 15 (1972), with the constants of J. Davis et al., Radio Science 20 (1985); pressure of the
U.S. Standard Atmosphere, 1976. That Sentinel-1 products do not contain it: A. Schubert et al., Remote Sensing 7 (2015).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from sar1m.core.radar.geodesy import geodetic_from_ecef
from sar1m.records import F64

_SEA_LEVEL_HPA: Final = 1013.25
_SEA_LEVEL_K: Final = 288.15
_LAPSE_K_M: Final = 0.0065
_PRESSURE_EXPONENT: Final = 9.80665 * 0.0289644 / (8.31432 * _LAPSE_K_M)  # g M / (R x lapse rate)
_EARTH_RADIUS_M: Final = 6_356_766.0  # of the standard's geopotential height
_DELAY_M_HPA: Final = 0.0022768


def pressure_hpa(height_m: npt.ArrayLike) -> F64:
    """Pressure of the standard atmosphere, (...), at heights above sea level up to 11 km."""
    height = np.asarray(height_m, dtype=np.float64)
    geopotential_m = _EARTH_RADIUS_M * height / (_EARTH_RADIUS_M + height)
    cooler: F64 = 1 - _LAPSE_K_M * geopotential_m / _SEA_LEVEL_K
    return _SEA_LEVEL_HPA * cooler**_PRESSURE_EXPONENT


def zenith_delay_m(lat_deg: npt.ArrayLike, height_m: npt.ArrayLike) -> F64:
    """Hydrostatic delay towards the zenith, one way, in m; arguments broadcast. NaN gives NaN.

    height_m: above sea level. One above the ellipsoid, up to 100 m different, errs by 0.03 m.
    """
    gravity = 1 - 0.00266 * np.cos(2 * np.radians(lat_deg)) - 2.8e-7 * np.asarray(height_m, dtype=np.float64)
    delay_m: F64 = _DELAY_M_HPA * pressure_hpa(height_m) / gravity
    return delay_m


def slant_delay_m(points_m: F64, incidence_deg: F64) -> F64:
    """Delay along the line of sight, one way, in m, (...).

    points_m: (..., 3) Earth-fixed. incidence_deg: (...) against the ellipsoid's normal, up to some 50 degrees: the
    curvature of the atmosphere, which is left out, takes 4 mm off at 46.
    """
    _, lat_deg, height_m = geodetic_from_ecef(points_m)
    delay_m: F64 = zenith_delay_m(lat_deg, height_m) / np.cos(np.radians(incidence_deg))
    return delay_m
