"""What a radar sees of the simulated world: mean backscatter by material and local incidence, speckle, noise."""

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
    """incidence_deg against the ellipsoid; look_azimuth_deg: direction of the beam over ground, clockwise from
    north."""

    incidence_deg: float
    look_azimuth_deg: float


def incidence_tangent(slope_down: F32, slope_right: F32, view: View) -> F32:
    """Tangent of the local incidence angle in the plane of incidence, (rows, cols); negative where ground lies over
    (slope towards the radar steeper than the incidence angle) and in shadow (back slope steeper than the beam)."""
    azimuth = math.radians(view.look_azimuth_deg)
    # height gained per metre along the beam: ground that rises away from the radar faces it
    facing = np.float32(-math.cos(azimuth)) * slope_down + np.float32(math.sin(azimuth)) * slope_right
    tangent = np.float32(math.tan(math.radians(view.incidence_deg)))
    return (tangent - facing) / (1 + tangent * facing)


def layover_or_shadow(local_tangent: F32) -> Bool:
    """Pixels whose backscatter means nothing: layover, active shadow, and their neighbourhood in angle."""
    masked: Bool = (local_tangent < MIN_TAN_INCIDENCE) | (local_tangent > MAX_TAN_INCIDENCE)
    return masked


def log_terrain_gain(local_tangent: F32, view: View) -> tuple[F32, F32]:
    """Natural logarithms of what local incidence does to gamma nought against the ellipsoid, both (rows, cols).

    First the illuminated area, tan(incidence) / tan(local incidence), alike for every material; then
    cos(local incidence) / cos(38 deg), to be multiplied by a material's falloff. Source: Small 2011, eq. 6-10.
    """
    local = np.clip(local_tangent, MIN_TAN_INCIDENCE, MAX_TAN_INCIDENCE)
    area = np.float32(math.log(math.tan(math.radians(view.incidence_deg)))) - np.log(local)
    falloff = -0.5 * np.log1p(local * local)
    falloff -= np.float32(math.log(math.cos(math.radians(REFERENCE_INCIDENCE_DEG))))
    return area, falloff


def add_speckle_and_noise(rng: np.random.Generator, mean_power: F32, *, looks: float, correlated: bool) -> F32:
    """An image of mean_power, (rows, cols) linear, after thermal noise, speckle and noise removal.

    Noise power enters before speckle and its mean is subtracted afterwards, as a denoised product does it: the mean is
    unbiased and dark pixels may be negative.
    """
    noise = np.float32(10 ** (NOISE_FLOOR_DB / 10))
    image = speckle_field(rng, mean_power.shape, looks=looks, correlated=correlated)
    image *= mean_power + noise
    image -= noise
    return image
