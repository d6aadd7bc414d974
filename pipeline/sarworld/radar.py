"""The simulated world seen by a radar: mean backscatter by material and local incidence, speckle, noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from sar1m.core.speckle import speckle_field
from sar1m.records import F32, Bool

REFERENCE_INCIDENCE_DEG: Final = 38.0
NOISE_FLOOR_DB: Final = -25.0  # NESZ read off real IW products; both polarisations
MIN_TAN_INCIDENCE: Final = 0.08  # foreshortening brighter than this is layover and masked
MAX_TAN_INCIDENCE: Final = 25.0


@dataclass(frozen=True, kw_only=True)
class View:
    """The geometry of a view.

    incidence_deg: against the ellipsoid.
    look_azimuth_deg: direction of the beam over ground, clockwise from north.
    """

    incidence_deg: float
    look_azimuth_deg: float


def incidence_tangent(slope_down: F32, slope_right: F32, view: View) -> F32:
    """Tangent of the local incidence angle in the plane of incidence, (rows, cols).

    It is negative in layover (slope towards the radar steeper than the incidence angle) and in shadow (slope away from
    the radar steeper than the beam).

    slope_down, slope_right: (rows, cols) metres of height for a metre southward and eastward.
    """
    azimuth = math.radians(view.look_azimuth_deg)
    # height gained per metre along the beam: ground that rises away from the radar faces it
    facing = np.float32(-math.cos(azimuth)) * slope_down + np.float32(math.sin(azimuth)) * slope_right
    tangent = np.float32(math.tan(math.radians(view.incidence_deg)))
    return (tangent - facing) / (1 + tangent * facing)


def layover_or_shadow(local_tangent: F32) -> Bool:
    """Mask of layover, of shadow, and of local incidence angles close to them, where backscatter is meaningless."""
    masked: Bool = (local_tangent < MIN_TAN_INCIDENCE) | (local_tangent > MAX_TAN_INCIDENCE)
    return masked


def log_terrain_gain(local_tangent: F32, view: View) -> tuple[F32, F32]:
    """Natural logarithms of two factors of gamma nought (against the ellipsoid) in terrain, (rows, cols) each.

    The first is the illuminated area, tan(incidence) / tan(local incidence), which is the same for every material. The
    second is cos(local incidence) / cos(38 deg), whose logarithm is to be multiplied by a material's falloff.
    Source: Small 2011, eq. 6-10.
    """
    local = np.clip(local_tangent, MIN_TAN_INCIDENCE, MAX_TAN_INCIDENCE)
    area = np.float32(math.log(math.tan(math.radians(view.incidence_deg)))) - np.log(local)
    falloff = -0.5 * np.log1p(local * local)
    falloff -= np.float32(math.log(math.cos(math.radians(REFERENCE_INCIDENCE_DEG))))
    return area, falloff


def add_speckle_and_noise(rng: np.random.Generator, mean_power: F32, *, looks: float, correlated: bool) -> F32:
    """An image with speckle and thermal noise whose mean has been removed, (rows, cols) linear power.

    Noise power is added before speckle, and its mean is subtracted afterwards, as in a denoised product. The mean is
    therefore unbiased, and dark pixels may be negative.

    mean_power: (rows, cols) linear. looks: equivalent number. correlated: as in speckle_field.
    """
    noise = np.float32(10 ** (NOISE_FLOOR_DB / 10))
    image = speckle_field(rng, mean_power.shape, looks=looks, correlated=correlated)
    image *= mean_power + noise
    image -= noise
    return image
