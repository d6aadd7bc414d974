"""The mean radar image of a ground, and the true quantities of each of its cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import ndimage

from sar1m.core.radar.product import GrdProduct
from sar1m.records import F32, F64, Bool, RasterGrid
from sarworld.radar import REFERENCE_INCIDENCE_DEG
from sarworld.safe.corner_reflectors import REACH_PX, response
from sarworld.safe.echo_facets import sum_echo
from sarworld.safe.frame import Frame
from sarworld.safe.ground import SeenGround, look_at, world_grid
from sarworld.safe.radiometry import BETA_GAIN, LevelGround, level_ground, noise_power
from sarworld.safe.scenario import SceneSpec
from sarworld.safe.signal import valid_pixels
from sarworld.safe.truth import ImageTruth, MapTruth
from sarworld.safe.visibility import walk_profiles
from sarworld.world import TEXTURE_BACKSCATTER, World

_ORBIT_DEGREE: Final = 3
_BAND_OF: Final = {"VV": 0, "HH": 0, "VH": 1, "HV": 1}  # of the palette
_STEP_CELLS: Final = 0.5  # of walks along profiles
_NEAR_PX: Final = 8  # around the image, so that cells across its edge are whole


@dataclass(frozen=True, kw_only=True, eq=False)
class _Backscatter:
    """Backscatter of the ground's cells.

    gamma0: (P, rows, cols) linear, at the reference incidence. falloff: (rows, cols), as in sum_echo.
    """

    gamma0: F32
    falloff: F32


@dataclass(frozen=True, kw_only=True, eq=False)
class _Slopes:
    """Of each cell, (rows, cols). facing_m2: area projected along the line of sight, negative where it faces away.
    cosine: of the local incidence angle. pixels: how many pixels of the image the cell fills."""

    facing_m2: F64
    cosine: F64
    pixels: F64


def view_ground(
    spec: SceneSpec, frame: Frame, product: GrdProduct, world: World, grid: RasterGrid
) -> tuple[MapTruth, ImageTruth]:
    """The true map and the mean image of a world as the radar of a frame sees it. grid: without the world's margin."""
    seen = look_at(frame, world_grid(grid, world), world.height_m)
    clearance, layover = walk_profiles(
        _profile_ground(seen, world.height_m), _near(frame, seen), _STEP_CELLS * grid.gsd_m
    )
    backscatter, level = _backscatter(spec, world), level_ground(frame)
    image = np.zeros((len(backscatter.gamma0) + 1, frame.lines, frame.samples))
    nodes, orbit = _nodes(frame, seen, clearance)
    sum_echo(nodes, orbit, backscatter.gamma0, backscatter.falloff, spec.ground.facets, image)
    slopes = _slopes(nodes, orbit)
    on_map = _map_truth(seen, layover, clearance < 0, slopes, backscatter, level, world, grid)
    return on_map, _image_truth(spec, product, level, image)


def _backscatter(spec: SceneSpec, world: World) -> _Backscatter:
    shape, count = world.materials.shape, len(spec.acquisition.polarisations)
    if spec.ground.gamma0_db is not None:
        uniform = np.float32(10 ** (spec.ground.gamma0_db / 10))
        return _Backscatter(
            gamma0=np.full((count, *shape), uniform, dtype=np.float32), falloff=np.zeros(shape, dtype=np.float32)
        )
    texture = np.float32(TEXTURE_BACKSCATTER * spec.ground.variation) * world.texture
    bands = [_BAND_OF[polarisation] for polarisation in spec.acquisition.polarisations]
    log_gamma0 = np.stack([world.palette.log_gamma0[band][world.materials] + texture for band in bands])
    return _Backscatter(gamma0=np.exp(log_gamma0), falloff=world.palette.falloff[world.materials])


def _near(frame: Frame, seen: SeenGround) -> Bool:
    """Cells that show in the image or close to it."""
    lines = (seen.line > -_NEAR_PX) & (seen.line < frame.lines + _NEAR_PX)
    near: Bool = lines & (seen.sample > -_NEAR_PX) & (seen.sample < frame.samples + _NEAR_PX)
    return near


def _profile_ground(seen: SeenGround, height_m: F32) -> F64:
    return np.stack(
        [height_m.astype(np.float64), seen.slant_range_m, *seen.away, np.radians(seen.incidence_deg)], axis=-1
    )


def _nodes(frame: Frame, seen: SeenGround, clearance: F64) -> tuple[F64, F64]:
    """The arguments `nodes` and `orbit` of sum_echo."""
    origin = seen.points_m.mean(axis=(0, 1))
    nodes = np.concatenate([seen.points_m - origin, np.stack([seen.line, seen.sample, clearance], axis=-1)], axis=-1)
    line = np.linspace(-100, frame.lines + 100, 64)
    track, _, _ = frame.orbit.state(line * frame.line_interval_s)
    return nodes, np.polynomial.polynomial.polyfit(line, track - origin, _ORBIT_DEGREE)


def _image_truth(spec: SceneSpec, product: GrdProduct, level: LevelGround, image: F64) -> ImageTruth:
    lines, samples = image.shape[1:]
    area_beta = level.area_beta_m2(np.arange(lines), np.arange(samples))
    sine = np.sin(np.radians(level.incidence_deg(np.arange(lines), np.arange(samples))))
    blurred = np.stack([_resolved(layer) for layer in image]) if spec.signal.resolved else image
    beta0 = blurred[:-1] / area_beta
    nesz = [noise_power(channel, slice(0, lines), samples) * sine / BETA_GAIN**2 for channel in product.channels]
    return ImageTruth(
        beta0=beta0.astype(np.float32),
        sigma0=(beta0 * sine).astype(np.float32),
        area_m2=blurred[-1].astype(np.float32),
        area_beta_m2=area_beta.astype(np.float32),
        nesz=np.stack(nesz).astype(np.float32),
        valid=valid_pixels(spec),
    )


def _resolved(layer: F64) -> F64:
    """A layer blurred by the intensity of Sentinel-1's impulse response."""
    taps = response(np.arange(-REACH_PX, REACH_PX + 1.0)) ** 2
    for axis in (0, 1):
        layer = ndimage.correlate1d(layer, taps / taps.sum(), axis=axis, mode="nearest")
    return layer


def _map_truth(
    ground: SeenGround,
    layover: Bool,
    shadow: Bool,
    slopes: _Slopes,
    backscatter: _Backscatter,
    level: LevelGround,
    world: World,
    grid: RasterGrid,
) -> MapTruth:
    against_reference = np.maximum(slopes.cosine, 0) / np.cos(np.radians(REFERENCE_INCIDENCE_DEG))
    gamma0 = backscatter.gamma0 * against_reference**backscatter.falloff
    shadow = shadow | (slopes.facing_m2 <= 0)
    area_beta = level.area_beta_m2.ev(ground.line, ground.sample)
    beta0 = np.where(shadow | layover, np.nan, gamma0 * slopes.facing_m2 / (slopes.pixels * area_beta))
    inner = (slice(world.margin_px, -world.margin_px),) * 2
    return MapTruth(
        grid=grid,
        height_m=world.height_m[inner],
        line=ground.line[inner],
        sample=ground.sample[inner],
        incidence_deg=ground.incidence_deg[inner],
        local_incidence_deg=np.degrees(np.arccos(slopes.cosine))[inner].astype(np.float32),
        gamma0=gamma0[:, *inner].astype(np.float32),
        beta0=beta0[:, *inner].astype(np.float32),
        layover=layover[inner],
        shadow=shadow[inner],
    )


def _slopes(nodes: F64, orbit: F64) -> _Slopes:
    """The slopes of all cells, from sum_echo's arguments, by central differences."""
    down, right = ([np.gradient(nodes[..., k], axis=axis) for k in range(5)] for axis in (0, 1))
    normal = [down[b] * right[c] - down[c] * right[b] for b, c in ((1, 2), (2, 0), (0, 1))]
    sight = [np.polynomial.polynomial.polyval(nodes[..., 3], orbit[:, k]) - nodes[..., k] for k in range(3)]
    facing = sum(n * s for n, s in zip(normal, sight, strict=True)) / np.sqrt(sum(s * s for s in sight))
    cosine = facing / np.sqrt(sum(n * n for n in normal))
    return _Slopes(facing_m2=facing, cosine=cosine, pixels=np.abs(down[3] * right[4] - down[4] * right[3]))
