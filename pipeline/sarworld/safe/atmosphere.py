"""The delay of a pulse in the air above a place, by the refractivity along its path.

It shares no formula with the pipeline's troposphere.py: the layers of the standard atmosphere up to 85 km in place of
the pressure at the ground, and a straight path through shells around the Earth in place of a cosine.
Source: U.S. Standard Atmosphere, 1976; refractivity of dry air 77.604 K/hPa, G. Thayer, Radio Science 9 (1974).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from sar1m.records import F64

REFRACTIVITY_K_PA: Final = 77.604e-8
EARTH_RADIUS_M: Final = 6_356_766.0
GAS_K_M: Final = 0.034163195  # gravity x molar mass / gas constant
BASE_M: Final = np.array([0.0, 11e3, 20e3, 32e3, 47e3, 51e3, 71e3, 84.852e3])  # geopotential heights of the layers
LAPSE_K_M: Final = np.array([-6.5e-3, 0.0, 1.0e-3, 2.8e-3, 0.0, -2.8e-3, -2.0e-3])
GROUND_K: Final = 288.15
GROUND_PA: Final = 101_325.0
_NODES: Final = 12  # of a quadrature in each layer; leaves 1e-9 m


def slant_delay_m(height_m: npt.ArrayLike, incidence_deg: npt.ArrayLike) -> F64:
    """Delay one way in m, (...), to heights (...) under 11 km, seen under angles (...) against the vertical."""
    height, angle = np.broadcast_arrays(
        np.asarray(height_m, dtype=np.float64), np.radians(np.asarray(incidence_deg, dtype=np.float64))
    )
    geopotential_m = EARTH_RADIUS_M * height / (EARTH_RADIUS_M + height)
    sine_at_ground = (EARTH_RADIUS_M + height) * np.sin(angle)
    node, weight = np.polynomial.legendre.leggauss(_NODES)
    total, base_k, base_pa = np.zeros(height.shape), np.asarray(GROUND_K), np.asarray(GROUND_PA)
    for low_m, high_m, lapse in zip(BASE_M[:-1], BASE_M[1:], LAPSE_K_M, strict=True):
        first_m = np.where(low_m > 0, low_m, geopotential_m)
        for x, share in zip(node, weight, strict=True):
            at_m = first_m + (high_m - first_m) * (x + 1) / 2
            kelvin, pascal = _air(at_m - low_m, lapse, base_k, base_pa)
            stretch = EARTH_RADIUS_M / (EARTH_RADIUS_M - at_m)  # of geometric height
            sine = sine_at_ground / (EARTH_RADIUS_M * stretch)
            step_m = share * (high_m - first_m) / 2 * stretch**2 / np.sqrt(1 - sine**2)
            total = total + REFRACTIVITY_K_PA * pascal / kelvin * step_m
        base_k, base_pa = _air(high_m - low_m, lapse, base_k, base_pa)
    return total


def _air(above_m: F64, lapse: float, base_k: F64, base_pa: F64) -> tuple[F64, F64]:
    """Temperature in K and pressure in Pa at heights above the base of a layer in hydrostatic equilibrium."""
    kelvin = base_k + lapse * above_m
    if lapse == 0:
        return kelvin + 0 * above_m, base_pa * np.exp(-GAS_K_M * above_m / base_k)
    return kelvin, base_pa * (base_k / kelvin) ** (GAS_K_M / lapse)
