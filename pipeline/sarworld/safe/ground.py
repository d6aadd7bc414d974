"""The ground of a scene: heights, materials, and the radar coordinates of every cell."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy import interpolate, ndimage

from sar1m.core.radar.geodesy import ecef_from_geodetic, geodetic_from_ecef
from sar1m.core.utm import lonlat_from_utm, utm_epsg, utm_from_lonlat
from sar1m.records import F32, F64, RasterGrid
from sarworld.fields import margin_for
from sarworld.landcover import Canvas, draw_materials
from sarworld.materials import draw_palette
from sarworld.safe.circular_orbit import incidence_deg
from sarworld.safe.frame import Frame
from sarworld.safe.scenario import SceneSpec
from sarworld.world import World, WorldSpec, build_world

LATTICE_STEP: Final = 32  # cells between exactly solved points; cubic splines between leave under 1e-4 px
LATTICE_HEIGHTS: Final = 3
PAD_CELLS: Final = 12
RELIEF_SPAN: Final = 4.5  # standard deviations of height that the ground outside the image allows for


def reference_height_m(spec: SceneSpec) -> float:
    """Mean height of the ground in m: of the given surface, else of the fractal relief to be drawn."""
    surface = spec.ground.surface
    return 300 + 2 * spec.ground.relief_m if surface is None else float(np.mean(surface.height_m))


def truth_grid(spec: SceneSpec, frame: Frame) -> RasterGrid:
    """The UTM grid of the ground: the footprint of the image, with room for the displacement by heights.

    A surface that is given keeps its own grid. Raises ValueError where that does not cover the image.
    """
    gsd_m = spec.mode.spacing_m
    epsg = int(utm_epsg(spec.lon, spec.lat)) if spec.ground.surface is None else spec.ground.surface.grid.epsg
    ends = (np.array([0, frame.lines - 1, 0, frame.lines - 1]), np.array([0, 0, frame.samples - 1, frame.samples - 1]))
    lon, lat, _ = geodetic_from_ecef(frame.locate(*ends, frame.reference_height_m))
    x_m, y_m = utm_from_lonlat(lon, lat, epsg)
    pad_m = PAD_CELLS * gsd_m + _height_span_m(spec) / math.tan(math.radians(spec.acquisition.incidence_deg))
    left_m, right_m = (math.floor((x_m.min() - pad_m) / gsd_m), math.ceil((x_m.max() + pad_m) / gsd_m))
    bottom_m, top_m = (math.floor((y_m.min() - pad_m) / gsd_m), math.ceil((y_m.max() + pad_m) / gsd_m))
    needed = RasterGrid(
        epsg=epsg,
        left_m=left_m * gsd_m,
        top_m=top_m * gsd_m,
        gsd_m=gsd_m,
        rows=top_m - bottom_m,
        cols=right_m - left_m,
    )
    surface = spec.ground.surface
    if surface is None:
        return needed
    _check_covers(surface.grid, needed)
    return surface.grid


def _height_span_m(spec: SceneSpec) -> float:
    surface = spec.ground.surface
    if surface is None:
        return RELIEF_SPAN * spec.ground.relief_m
    return float(np.max(np.abs(surface.height_m - np.mean(surface.height_m))))


def _check_covers(grid: RasterGrid, needed: RasterGrid) -> None:
    have, want = grid.bounds_m, needed.bounds_m
    if have[0] > want[0] or have[1] > want[1] or have[2] < want[2] or have[3] < want[3]:
        raise ValueError(
            f"the surface covers {have} (left, bottom, right, top in m), but the image with room for its relief needs "
            f"{want}. Give a larger surface or a smaller image."
        )


def build_ground(spec: SceneSpec, grid: RasterGrid) -> World:
    """Heights and materials on a grid, with a margin wide enough for the displacement of the optical image."""
    ground, shift = spec.ground, spec.partners.optical_shift_px
    world_spec = WorldSpec(
        seed=spec.seed,
        name=spec.name,
        rows=grid.rows,
        cols=grid.cols,
        gsd_m=grid.gsd_m,
        relief_m=ground.relief_m,
        variation=ground.variation,
    )
    largest_px = max(abs(shift[0]), abs(shift[1]))
    if ground.surface is None:
        return build_world(world_spec, max_shift_px=largest_px)
    flat = build_world(replace(world_spec, relief_m=0.0), max_shift_px=largest_px)
    height_m = np.pad(ground.surface.height_m.astype(np.float32), margin_for(largest_px), mode="edge")
    canvas = Canvas(rows=height_m.shape[0], cols=height_m.shape[1], gsd_m=grid.gsd_m)
    return replace(
        flat,
        height_m=height_m,
        palette=draw_palette(world_spec.rng("palette"), variation=ground.variation),
        materials=draw_materials(world_spec.rng("land cover"), canvas, height_m),
    )


def world_grid(grid: RasterGrid, world: World) -> RasterGrid:
    """The grid of a world's arrays, margin included."""
    margin = world.margin_px
    return grid.window(-margin, -margin, grid.rows + 2 * margin, grid.cols + 2 * margin)


@dataclass(frozen=True, kw_only=True, eq=False)
class SeenGround:
    """Radar coordinates of every cell centre, (rows, cols).

    points_m: (rows, cols, 3) Earth-fixed.
    slant_range_m: as the radar measures it.
    incidence_deg: against the ellipsoid's normal.
    away: (2, rows, cols) cells down and right for a metre of ground away from the radar at constant azimuth.
    """

    points_m: F64
    line: F64
    sample: F64
    slant_range_m: F64
    incidence_deg: F32
    away: F64


def look_at(frame: Frame, grid: RasterGrid, height_m: F32) -> SeenGround:
    """Radar coordinates of a grid's cells: exact on a lattice of cells and heights, by splines between."""
    lattice = _lattice(frame, grid, height_m)
    rows, cols = np.arange(grid.rows, dtype=np.float64), np.arange(grid.cols, dtype=np.float64)
    height = (height_m - lattice.heights_m[0]) / (lattice.heights_m[-1] - lattice.heights_m[0])
    time_s, range_m, angle_deg = (_through_heights(levels, (rows, cols), height) for levels in lattice.levels)
    lon, lat = _lonlat(grid, rows[:, None], cols[None, :])
    return SeenGround(
        points_m=ecef_from_geodetic(lon, lat, height_m),
        line=frame.line(time_s, range_m, frame.convention),
        sample=frame.sample(time_s, range_m, frame.convention),
        slant_range_m=range_m,
        incidence_deg=angle_deg.astype(np.float32),
        away=_away(lattice, grid, (rows, cols)),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Lattice:
    """Exact solutions. levels: for time, slant range and incidence, one spline in (row, col) for each height."""

    heights_m: F64
    levels: list[list[interpolate.RectBivariateSpline]]


def _lattice(frame: Frame, grid: RasterGrid, height_m: F32) -> _Lattice:
    row, col = (np.append(np.arange(0, length - 1, LATTICE_STEP), length - 1.0) for length in (grid.rows, grid.cols))
    low, high = float(height_m.min()) - 5, float(height_m.max()) + 5
    heights_m = np.linspace(low, high, LATTICE_HEIGHTS)
    lon, lat = _lonlat(grid, row[:, None], col[None, :])
    points = ecef_from_geodetic(lon, lat, heights_m[:, None, None])
    time_s, range_m = frame.measured(points, frame.convention)
    angle_deg = incidence_deg(points, frame.orbit.state(time_s)[0])
    levels = [
        [interpolate.RectBivariateSpline(row, col, level) for level in values]
        for values in (time_s, range_m, angle_deg)
    ]
    return _Lattice(heights_m=heights_m, levels=levels)


def _through_heights(levels: list[interpolate.RectBivariateSpline], cells: tuple[F64, F64], height: F64) -> F64:
    """Values at a height, by the parabola through three levels at heights 0, 1/2 and 1."""
    low, middle, high = (level(*cells) for level in levels)
    bend = 2 * (low - 2 * middle + high)
    value: F64 = low + height * (4 * middle - 3 * low - high + height * bend)
    return value


def _away(lattice: _Lattice, grid: RasterGrid, cells: tuple[F64, F64]) -> F64:
    """Direction of constant azimuth time and growing slant range on level ground, (2, rows, cols) in cells a metre."""
    times, ranges = lattice.levels[0][1], lattice.levels[1][1]
    down, right = times(*cells, dx=1), times(*cells, dy=1)
    along = np.stack([-right, down]) / np.hypot(down, right)
    farther = along[0] * ranges(*cells, dx=1) + along[1] * ranges(*cells, dy=1)
    away: F64 = along * np.sign(farther) / grid.gsd_m
    return away


def _lonlat(grid: RasterGrid, row: F64, col: F64) -> tuple[F64, F64]:
    """Degrees of cell centres; row and col broadcast."""
    x_m, y_m = grid.left_m + (col + 0.5) * grid.gsd_m, grid.top_m - (row + 0.5) * grid.gsd_m
    return lonlat_from_utm(x_m, y_m, grid.epsg)


def height_at(grid: RasterGrid, height_m: F32, lon: F64, lat: F64) -> F64:
    """Height in m at positions (...) in degrees: bilinear between cell centres, constant beyond the grid's edge."""
    x_m, y_m = utm_from_lonlat(lon, lat, grid.epsg)
    row, col = (grid.top_m - y_m) / grid.gsd_m - 0.5, (x_m - grid.left_m) / grid.gsd_m - 0.5
    height: F64 = ndimage.map_coordinates(height_m.astype(np.float64), (row, col), order=1, mode="nearest")
    return height
