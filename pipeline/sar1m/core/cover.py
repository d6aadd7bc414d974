"""How much of each block lies inside the footprints of scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sar1m.core.sphere import near_to, turns_to
from sar1m.core.utm import FloatArray, IntArray, lonlat_from_utm
from sar1m.records import RasterGrid

_UPRIGHT: Final = 1e-6  # an edge narrower than this part of a block counts as upright
_PAIRS_AT_ONCE: Final = 16_384  # keeps intermediate arrays in the processor's cache

_Ring = Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockShapes:
    """Blocks (N,) as parallelograms in degrees.

    centre: (N, 2) lon, lat. half_span: (N, 2), half of the box around each.
    to_unit: (N, 2, 2), takes an offset in lon, lat from the centre to parts of the block's width and height.
    """

    centre: FloatArray
    to_unit: FloatArray
    half_span: FloatArray


def block_shapes(grids: Sequence[RasterGrid], near_lon: float) -> BlockShapes:
    """Shapes of blocks in UTM, longitudes within 180 degrees of near_lon.

    A block is taken as the parallelogram through the middles of its sides: meridians that draw together make it a
    trapezium, whose sides differ by 0.3 % at 60 degrees and 0.9 % at 80, by half of which a cover can be off.
    """
    left, bottom, right, top = np.asarray([g.bounds_m for g in grids], dtype=np.float64).reshape(-1, 4).T
    x_m, y_m = np.stack([left, right, left, right], axis=1), np.stack([bottom, bottom, top, top], axis=1)
    lon, lat = lonlat_from_utm(x_m, y_m, np.asarray([g.epsg for g in grids], dtype=np.int64)[:, None])
    corner = np.stack([near_to(lon, near_lon), lat], axis=2)
    across = (corner[:, 1] - corner[:, 0] + corner[:, 3] - corner[:, 2]) / 2
    up = (corner[:, 2] - corner[:, 0] + corner[:, 3] - corner[:, 1]) / 2
    determinant = across[:, 0] * up[:, 1] - across[:, 1] * up[:, 0]
    rows = [up[:, 1], -up[:, 0], -across[:, 1], across[:, 0]]
    return BlockShapes(
        centre=corner.mean(axis=1),
        to_unit=(np.stack(rows, axis=1) / determinant[:, None]).reshape(-1, 2, 2),
        half_span=(np.abs(across) + np.abs(up)) / 2,
    )


def cover_fractions(blocks: BlockShapes, rings: Sequence[_Ring]) -> npt.NDArray[np.float32]:
    """Fraction of each block inside each footprint, (N, R) in 0..1; straight edges in lon/lat, as GeoJSON has them.

    rings: closed, simple, either way round, longitudes running on; moved by whole turns to where the blocks are. Equal
    rings are worked out once. Exact for the parallelograms of block_shapes (see _inside for the formula).
    """
    found = np.zeros((len(rings), len(blocks.centre)), dtype=np.float32)  # by ring: columns are copied whole
    if not found.size:
        return found.T
    distinct = {tuple(ring): number for number, ring in reversed(list(enumerate(rings)))}
    middle_lon = float((blocks.centre[:, 0].min() + blocks.centre[:, 0].max()) / 2)
    by_length: dict[int, list[int]] = {}
    for ring, number in distinct.items():
        by_length.setdefault(len(ring), []).append(number)
    for numbers in by_length.values():
        outlines = np.asarray([rings[number] for number in numbers], dtype=np.float64)
        outlines[..., 0] += turns_to(outlines[..., 0].mean(axis=1, keepdims=True), middle_lon)
        found[numbers] = _cover(blocks, outlines)
    return found[[distinct[tuple(ring)] for ring in rings]].T


def _cover(blocks: BlockShapes, outlines: FloatArray) -> npt.NDArray[np.float32]:
    """(R, N) for rings of one length, (R, V, 2)."""
    low, high = outlines.min(axis=1)[:, None], outlines.max(axis=1)[:, None]
    first, last = blocks.centre - blocks.half_span, blocks.centre + blocks.half_span
    ring, block = np.nonzero(
        (low[..., 0] < last[:, 0])
        & (high[..., 0] > first[:, 0])
        & (low[..., 1] < last[:, 1])
        & (high[..., 1] > first[:, 1])
    )
    found = np.zeros((len(outlines), len(blocks.centre)), dtype=np.float32)
    for start in range(0, block.size, _PAIRS_AT_ONCE):
        some = slice(start, start + _PAIRS_AT_ONCE)
        found[ring[some], block[some]] = _inside(blocks, outlines, block[some], ring[some])
    return found


def _inside(blocks: BlockShapes, outlines: FloatArray, block: IntArray, ring: IntArray) -> FloatArray:
    """Area of a ring inside a unit square, by Green's theorem: the sum over the ring's edges of the integral of
    min(max(u, 0), 1) dv over the edge's part with 0 <= v <= 1. With H' = min(max(u, 0), 1) an edge from a to b gives
    (H(u_b) - H(u_a)) / (u_b - u_a) times its height."""
    matrix, centre = blocks.to_unit[block], blocks.centre[block]
    lon, lat = (outlines[ring, :, axis].T - centre[:, axis] for axis in (0, 1))  # (V, pairs)
    u = matrix[:, 0, 0] * lon + matrix[:, 0, 1] * lat + 0.5
    v = matrix[:, 1, 0] * lon + matrix[:, 1, 1] * lat + 0.5
    height = v[1:] - v[:-1]
    slope = np.divide(u[1:] - u[:-1], height, out=np.zeros_like(height), where=height != 0)
    held = np.clip(v, 0.0, 1.0)
    first, last = u[:-1] + (held[:-1] - v[:-1]) * slope, u[:-1] + (held[1:] - v[:-1]) * slope
    width = last - first
    upright = np.abs(width) < _UPRIGHT
    mean = np.clip((first + last) / 2, 0.0, 1.0)
    np.divide(_ramp_integral(last) - _ramp_integral(first), width, out=mean, where=~upright)
    area: FloatArray = np.abs(((held[1:] - held[:-1]) * mean).sum(axis=0))
    return np.minimum(area, 1.0)


def _ramp_integral(u: FloatArray) -> FloatArray:
    """Integral of min(max(u, 0), 1) from 0."""
    held = np.clip(u, 0.0, 1.0)
    return held * held / 2 + np.maximum(u - 1.0, 0.0)
