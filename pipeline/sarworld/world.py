"""A simulated world drawn from a seed, and the images that a radar and an optical sensor take of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sar1m.records import F32, U8, Bool
from sarworld.fields import fractal_field, keyed_rng, margin_for, observe
from sarworld.landcover import Canvas, draw_materials
from sarworld.materials import OPTICAL_BANDS, POLARISATIONS, WATER_CLASS, Palette, draw_palette
from sarworld.optics import Clouds, Sun, clear_sky, draw_clouds, illumination
from sarworld.radar import View, add_speckle_and_noise, incidence_tangent, layover_or_shadow, log_terrain_gain

SIMULATOR_VERSION: Final = "1"  # raise it whenever any simulated pixel changes

SCATTERER_SHARE: Final = 0.12  # of building pixels: corners that face the radar
MOUNTAIN_SHARE: Final = 0.1  # of worlds: relief with layover and shadow
TEXTURE_REFLECTANCE: Final = 0.10  # relative, one standard deviation
TEXTURE_BACKSCATTER: Final = 0.06  # natural logarithm, one standard deviation: 0.26 dB


@dataclass(frozen=True, kw_only=True)
class WorldSpec:
    """The parameters of a world.

    seed, name: key its randomness.
    rows, cols, gsd_m: of the images.
    relief_m: standard deviation of height; None draws it.
    variation: scales texture inside parcels and differences between parcels of one kind; 0 for neither.
    """

    seed: int
    name: str
    rows: int
    cols: int
    gsd_m: float
    relief_m: float | None = None
    variation: float = 1.0

    def rng(self, purpose: str) -> np.random.Generator:
        """A generator for one purpose, which does not depend on what was drawn for others."""
        return keyed_rng(self.seed, self.name, purpose)


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """Ground truth on the raster of the images, with a margin of margin_px on each side.

    materials: (rows, cols) numbers in the palette, with margins.
    height_m: (rows, cols) with margins.
    texture: (rows, cols) with margins, of mean 0 and variance 1.
    """

    spec: WorldSpec
    margin_px: int
    palette: Palette
    materials: npt.NDArray[np.int16]
    height_m: F32
    texture: F32

    def slopes(self) -> tuple[F32, F32]:
        """Slopes in metres of height for a metre southward and eastward, (rows, cols) with margins; water is level."""
        wet = self.palette.land_cover[self.materials] == WATER_CLASS
        slopes: F32 = np.where(wet, np.float32(0), np.asarray(np.gradient(self.height_m, self.spec.gsd_m)))
        return slopes[0], slopes[1]

    def land_cover(self) -> U8:
        """WorldCover class numbers on the radar image, (rows, cols) without margins."""
        return self.palette.land_cover[_inner(self.materials, self.margin_px)]

    def water(self) -> Bool:
        """Water pixels, (rows, cols) without margins."""
        is_water: Bool = self.land_cover() == WATER_CLASS
        return is_water


def build_world(spec: WorldSpec, *, max_shift_px: float) -> World:
    """Draws the world of a spec. max_shift_px: the largest displacement of an image to be taken of it."""
    margin_px = margin_for(max_shift_px)
    canvas = Canvas(rows=spec.rows + 2 * margin_px, cols=spec.cols + 2 * margin_px, gsd_m=spec.gsd_m)
    rng = spec.rng("relief")
    relief_m = _draw_relief_m(rng) if spec.relief_m is None else spec.relief_m
    hills = fractal_field(rng, canvas.shape, slope=4.4, longest_px=8000 / spec.gsd_m, shortest_px=12)
    height_m = (300 + 2 * relief_m + relief_m * hills).astype(np.float32)
    texture = fractal_field(spec.rng("texture"), canvas.shape, slope=1.6, longest_px=800 / spec.gsd_m, shortest_px=2.5)
    return World(
        spec=spec,
        margin_px=margin_px,
        palette=draw_palette(spec.rng("palette"), variation=spec.variation),
        materials=draw_materials(spec.rng("land cover"), canvas, height_m),
        height_m=height_m,
        texture=texture,
    )


def _draw_relief_m(rng: np.random.Generator) -> float:
    return float(rng.uniform(150, 400) if rng.uniform() < MOUNTAIN_SHARE else rng.lognormal(np.log(35), 0.8))


def _inner(image: npt.NDArray[np.int16], margin_px: int) -> npt.NDArray[np.int16]:
    return image[margin_px:-margin_px, margin_px:-margin_px]


@dataclass(frozen=True, kw_only=True, eq=False)
class RadarScene:
    """A radar image of a world. mean_power: (P, rows, cols) linear gamma nought without speckle and noise.
    layover_shadow: (rows, cols)."""

    mean_power: F32
    layover_shadow: Bool

    def measured(self, spec: WorldSpec, *, looks: float, correlated: bool) -> F32:
        """Linear gamma nought with speckle and denoised thermal noise, (P, rows, cols); may be negative."""
        return np.stack(
            [
                add_speckle_and_noise(spec.rng(f"speckle {polarisation}"), power, looks=looks, correlated=correlated)
                for polarisation, power in zip(POLARISATIONS, self.mean_power, strict=True)
            ]
        )


def view_radar(world: World, view: View) -> RadarScene:
    """The radar image of a world without speckle: gamma nought against the ellipsoid, not displaced."""
    tangent = incidence_tangent(*world.slopes(), view)
    area, falloff = log_terrain_gain(tangent, view)
    common = area + world.palette.falloff[world.materials] * falloff
    common += np.float32(TEXTURE_BACKSCATTER * world.spec.variation) * world.texture
    corners, log_gain = _scatterers(world)
    images = []
    for log_gamma0 in world.palette.log_gamma0:
        power = np.exp(common + log_gamma0[world.materials])
        power.ravel()[corners] *= np.exp(log_gain)
        images.append(observe(power, (0.0, 0.0), world.margin_px))
    masked = layover_or_shadow(tangent)[world.margin_px : -world.margin_px, world.margin_px : -world.margin_px]
    return RadarScene(mean_power=np.stack(images), layover_shadow=masked)


def _scatterers(world: World) -> tuple[npt.NDArray[np.int64], F32]:
    """Flat indices of building pixels with a corner that faces the radar, and the natural logarithm of their gain."""
    rng = world.spec.rng("point scatterers")
    buildings = np.flatnonzero(world.materials == Palette.number("building"))
    corners = buildings[rng.uniform(size=buildings.size) < SCATTERER_SHARE * world.spec.variation]
    gain: F32 = rng.uniform(1.2, 3.9, size=corners.size).astype(np.float32)  # 5 to 17 dB
    return corners, gain


def view_optical(world: World, sun: Sun, shift_px: tuple[float, float], clouds: Clouds) -> F32:
    """The optical image of a world: surface reflectance in OPTICAL_BANDS, (4, rows, cols).

    shift_px: displacement (down, right) of the ground against the radar image.
    clouds: on the raster of the optical image, not displaced.
    """
    light = illumination(*world.slopes(), sun)
    light *= 1 + np.float32(TEXTURE_REFLECTANCE * world.spec.variation) * world.texture
    images = []
    for band in range(len(OPTICAL_BANDS)):
        ground = observe(world.palette.reflectance[band][world.materials] * light, shift_px, world.margin_px)
        images.append(clouds.over(ground, band))
    return np.stack(images)


def cover_with_clouds(spec: WorldSpec, sun: Sun, *, cloudy: bool) -> Clouds:
    """Draws the clouds over a world, on the raster of the images; a clear sky unless cloudy."""
    if not cloudy:
        return clear_sky((spec.rows, spec.cols))
    return draw_clouds(spec.rng("clouds"), (spec.rows, spec.cols), spec.gsd_m, sun)
