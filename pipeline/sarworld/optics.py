"""The simulated world seen by an optical sensor: reflectance in sunlight, clouds and their shadows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from sar1m.records import F32, Bool
from sarworld.fields import fractal_field

CLOUD_REFLECTANCE: Final = (0.62, 0.60, 0.60, 0.63)  # B02, B03, B04, B08 of thick cloud
SHADOW_DEPTH: Final = 0.65  # share of the light that a thick cloud takes away
MASKED_OPACITY: Final = 0.08  # cloud or shadow counts from here on


@dataclass(frozen=True, kw_only=True)
class Sun:
    """Direction of the sun. zenith_deg: from the vertical. azimuth_deg: clockwise from north."""

    zenith_deg: float
    azimuth_deg: float

    @property
    def slope_gain(self) -> tuple[float, float]:
        """Gain of illumination for a slope of 1 down the rows (southward) and along the columns (eastward)."""
        tangent, azimuth = math.tan(math.radians(self.zenith_deg)), math.radians(self.azimuth_deg)
        return (tangent * math.cos(azimuth), -tangent * math.sin(azimuth))


def illumination(slope_down: F32, slope_right: F32, sun: Sun) -> F32:
    """Light on sloping ground divided by that on level ground, (rows, cols); at least 0.15 (diffuse light).

    slope_down, slope_right: (rows, cols) metres of height for a metre southward and eastward.
    Source: Lambert's law on a plane.
    """
    gain_down, gain_right = sun.slope_gain
    light = 1 + np.float32(gain_down) * slope_down + np.float32(gain_right) * slope_right
    light /= np.sqrt(1 + slope_down**2 + slope_right**2)
    return np.maximum(light, np.float32(0.15))


@dataclass(frozen=True, kw_only=True, eq=False)
class Clouds:
    """Clouds on the raster of the optical image. opacity, shadow: (rows, cols) in 0..1."""

    opacity: F32
    shadow: F32

    @property
    def mask(self) -> Bool:
        """Pixels that a scene classification marks as cloud or cloud shadow."""
        masked: Bool = (self.opacity > MASKED_OPACITY) | (self.shadow > MASKED_OPACITY)
        return masked

    def over(self, ground: F32, band: int) -> F32:
        """Reflectance of the ground, (rows, cols), as seen through the clouds. band: index in OPTICAL_BANDS."""
        lit = ground * (1 - np.float32(SHADOW_DEPTH) * self.shadow)
        return lit + self.opacity * (np.float32(CLOUD_REFLECTANCE[band]) * (0.7 + 0.3 * self.opacity) - lit)


def clear_sky(shape: tuple[int, int]) -> Clouds:
    """Clouds of opacity 0, (rows, cols)."""
    nothing = np.zeros(shape, dtype=np.float32)
    return Clouds(opacity=nothing, shadow=nothing)


def draw_clouds(rng: np.random.Generator, shape: tuple[int, int], gsd_m: float, sun: Sun) -> Clouds:
    """Draws clouds with soft edges over 5 % to 80 % of the image, and the shadows that they cast."""
    cover = float(rng.uniform(0.05, 0.8))
    height_m = float(rng.uniform(600, 2200))
    field = fractal_field(rng, shape, slope=3.3, longest_px=5000 / gsd_m, shortest_px=3)
    threshold = np.quantile(field[::8, ::8], 1 - cover)
    opacity = np.clip((field - np.float32(threshold)) / np.float32(0.8), 0, 1)
    opacity = opacity * opacity * (3 - 2 * opacity)
    length_px = height_m * math.tan(math.radians(sun.zenith_deg)) / gsd_m
    azimuth = math.radians(sun.azimuth_deg)
    cast = (round(length_px * math.cos(azimuth)), round(-length_px * math.sin(azimuth)))
    return Clouds(opacity=opacity, shadow=np.roll(opacity, cast, axis=(0, 1)))
