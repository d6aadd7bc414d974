"""The map of the simulated ground: the material of each pixel, with sharp boundaries."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sar1m.records import F32, Bool
from sarworld.fields import fractal_field
from sarworld.materials import PARCEL_COUNT, Palette

I16 = npt.NDArray[np.int16]
I32 = npt.NDArray[np.int32]

DISTRICT_PITCH_M: Final = 2600.0  # a district: fields of one orientation, bounded by roads
DISTRICT_REACH: Final = 1.7  # pitches from a seed beyond which its district cannot lie
WARP_M: Final = 160.0
ROAD_HALF_WIDTH_M: Final = 8.0
STREET_PITCH_M: Final = 135.0
PLOT_PITCH_M: Final = 45.0
BUILT_SHARE: Final = 0.45


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """The raster that a world is drawn on, margins included."""

    rows: int
    cols: int
    gsd_m: float

    @property
    def shape(self) -> tuple[int, int]:
        return (self.rows, self.cols)

    @property
    def size_m(self) -> tuple[float, float]:
        """Extent down and to the right."""
        return (self.rows * self.gsd_m, self.cols * self.gsd_m)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Frame:
    """Position of each pixel in metres down and right, slightly distorted so that straight lines look natural."""

    down_m: F32
    right_m: F32

    def window(self, rows: slice, cols: slice) -> _Frame:
        return _Frame(down_m=self.down_m[rows, cols], right_m=self.right_m[rows, cols])


def draw_materials(rng: np.random.Generator, canvas: Canvas, height_m: F32) -> I16:
    """Material number of each pixel, (rows, cols), numbered as in Palette.

    There are parcels in districts bounded by roads, woods, shrub and rock on high ground, rivers, lakes with reeds in
    low ground, and towns.
    """
    frame = _bent_frame(rng, canvas)
    materials, roads = _districts(rng, canvas, frame)
    rough = fractal_field(rng, canvas.shape, slope=2.8, longest_px=3000 / canvas.gsd_m, shortest_px=4)
    _paint_vegetation(rng, materials, height_m, rough)
    materials[roads] = Palette.number("road")
    _paint_towns(rng, canvas, frame, materials)
    _paint_water(rng, canvas, materials, height_m + 0.04 * float(height_m.std()) * rough)
    return materials


def _bent_frame(rng: np.random.Generator, canvas: Canvas) -> _Frame:
    grid = np.ogrid[: canvas.rows, : canvas.cols]
    bent = []
    for axis in grid:
        bend = fractal_field(rng, canvas.shape, slope=4.5, longest_px=4000 / canvas.gsd_m, shortest_px=12)
        bend *= np.float32(WARP_M)
        bend += axis.astype(np.float32) * np.float32(canvas.gsd_m)
        bent.append(bend)
    return _Frame(down_m=bent[0], right_m=bent[1])


def _districts(rng: np.random.Generator, canvas: Canvas, frame: _Frame) -> tuple[I16, Bool]:
    """Materials of the parcels, and the mask of roads between districts (Voronoi cells of a jittered lattice)."""
    nearest = np.full(canvas.shape, np.inf, dtype=np.float32)
    second = np.full(canvas.shape, np.inf, dtype=np.float32)
    district = np.zeros(canvas.shape, dtype=np.int16)
    seeds_m = _seeds(rng, canvas)
    for number, seed_m in enumerate(seeds_m):
        place = _around(seed_m, DISTRICT_REACH * DISTRICT_PITCH_M, canvas)
        part = frame.window(*place)
        distance = np.hypot(part.down_m - seed_m[0], part.right_m - seed_m[1])
        second[place] = np.minimum(second[place], np.maximum(distance, nearest[place]))
        np.copyto(district[place], np.int16(number), where=distance < nearest[place])
        nearest[place] = np.minimum(nearest[place], distance)
    return _parcels(rng, frame, district, len(seeds_m)), second - nearest < 2 * ROAD_HALF_WIDTH_M


def _around(centre_m: npt.NDArray[np.float32], reach_m: float, canvas: Canvas) -> tuple[slice, slice]:
    rows, cols = (
        slice(max(0, int((at - reach_m) / canvas.gsd_m)), max(0, int((at + reach_m) / canvas.gsd_m)))
        for at in centre_m.tolist()
    )
    return rows, cols


def _seeds(rng: np.random.Generator, canvas: Canvas) -> F32:
    """Seeds of the districts, (districts, 2), in metres down and right."""
    counts = [math.ceil(size / DISTRICT_PITCH_M) + 2 for size in canvas.size_m]
    lattice = np.stack(np.meshgrid(*(np.arange(count) - 1.0 for count in counts), indexing="ij"), axis=-1)
    jittered = (lattice + rng.uniform(0.15, 0.85, size=lattice.shape)) * DISTRICT_PITCH_M
    return jittered.reshape(-1, 2).astype(np.float32)


def _parcels(rng: np.random.Generator, frame: _Frame, district: I16, districts: int) -> I16:
    """Material of each pixel. Each district has rows of rectangular parcels in a direction of its own."""
    angle = rng.uniform(0, math.pi, districts)[district].astype(np.float32)
    width_m = rng.uniform(120, 330, districts).astype(np.float32)[district]
    length_m = rng.uniform(260, 700, districts).astype(np.float32)[district]
    across, along = _rotated(frame, np.sin(angle), np.cos(angle))
    row = np.floor(across / width_m).astype(np.int32) + 613 * district.astype(np.int32)
    column = np.floor(along / length_m + _unit_hash(row, 1)).astype(np.int32)
    return (_mix(row * 7919 + column * 104729) % PARCEL_COUNT).astype(np.int16)


def _rotated(frame: _Frame, sine: F32, cosine: F32) -> tuple[F32, F32]:
    return cosine * frame.down_m + sine * frame.right_m, cosine * frame.right_m - sine * frame.down_m


def _mix(number: I32) -> I32:
    # finalizer of MurmurHash3 (Appleby, public domain): one multiplication alone would leave stripes across the plots
    mixed = number.astype(np.uint32)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        mixed ^= mixed >> np.uint32(shift)
        mixed *= np.uint32(factor)
    return (mixed >> np.uint32(8)).astype(np.int32)


def _unit_hash(number: I32, salt: int) -> F32:
    return (_mix(number + salt * 31) & 1023).astype(np.float32) * np.float32(1 / 1024)


def _paint_vegetation(rng: np.random.Generator, materials: I16, height_m: F32, rough: F32) -> None:
    wooded = float(rng.uniform(-0.6, 1.6))  # threshold in standard deviations: 5 % to 70 % woods
    high = (height_m - height_m.mean()) / max(float(height_m.std()), 0.01)
    woods = rough + 0.5 * high > wooded
    conifers = high > float(rng.uniform(-1.0, 1.5))
    materials[woods] = Palette.number("broadleaf")
    materials[woods & conifers] = Palette.number("conifer")
    summit = high - 0.4 * rough
    materials[summit > float(rng.uniform(1.4, 2.6))] = Palette.number("shrub")
    materials[summit > float(rng.uniform(2.2, 3.2))] = Palette.number("rock")


def _paint_towns(rng: np.random.Generator, canvas: Canvas, frame: _Frame, materials: I16) -> None:
    for _ in range(int(rng.integers(2, 7))):
        centre_m = rng.uniform(0, canvas.size_m).astype(np.float32)
        radius_m = float(rng.lognormal(math.log(450), 0.6))
        place = _around(centre_m, 1.5 * radius_m + 3 * WARP_M, canvas)
        part = frame.window(*place)
        from_centre = _Frame(down_m=part.down_m - centre_m[0], right_m=part.right_m - centre_m[1])
        _paint_town(rng, from_centre, materials[place], radius_m)


def _paint_town(rng: np.random.Generator, frame: _Frame, materials: I16, radius_m: float) -> None:
    angle = np.float32(rng.uniform(0, math.pi))
    across, along = _rotated(frame, np.sin(angle), np.cos(angle))
    salt = int(rng.integers(1 << 20))
    plot = np.floor(across / PLOT_PITCH_M).astype(np.int32) * 7919
    plot += np.floor(along / PLOT_PITCH_M).astype(np.int32) * 131
    draw = _unit_hash(plot, salt)
    distance = np.hypot(across, along) / np.float32(radius_m)
    inside = distance + 0.8 * (draw - 0.5) < 1  # plots thin out towards the edge
    street = (across % STREET_PITCH_M < 13) | (along % (2 * STREET_PITCH_M) < 13)
    kind = np.where(_unit_hash(plot, salt + 1) < BUILT_SHARE, Palette.number("building"), Palette.number("garden"))
    kind = np.where(street, Palette.number("road"), kind)
    np.copyto(materials, kind.astype(np.int16), where=inside)


def _paint_water(rng: np.random.Generator, canvas: Canvas, materials: I16, shore_m: F32) -> None:
    """Paints lakes, reeds and rivers. Lakes fill the lowest ground; most worlds have few, some are half water."""
    wet = rng.uniform(0, 0.05) if rng.uniform() < 0.85 else rng.uniform(0.15, 0.75)
    sampled = shore_m[::8, ::8]
    level, reed_level = np.quantile(sampled, [wet, min(1.0, wet * 1.15 + 0.002)])
    materials[shore_m < reed_level] = Palette.number("reeds")
    course = fractal_field(rng, canvas.shape, slope=5.0, longest_px=6000 / canvas.gsd_m, shortest_px=40)
    course += np.float32(rng.normal() * math.sqrt(max(0.0, 1 - course.var())))  # a small raster may have no river
    steep = np.hypot(*np.gradient(course, canvas.gsd_m))
    half_width_m = float(rng.uniform(8, 45))
    materials[np.abs(course) < half_width_m * steep] = Palette.number("water")
    materials[shore_m < level] = Palette.number("water")
