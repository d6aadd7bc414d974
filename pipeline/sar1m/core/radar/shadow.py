"""Shadow and layover: ground hidden from the radar by relief, and ground at the same slant range as other ground.

Rays run over the map away from the satellite, one pixel apart. Take a point on a ray at distance D from its start and
height z. The line of sight through the point meets height 0 at D + z tan(incidence). The circle of equal slant range
meets height 0 at D - z / tan(incidence).

A point is in shadow where the line of sight through a nearer point meets height 0 farther out than its own. A point is
in layover where the order of slant ranges is broken: a nearer point has a larger slant range, or a farther point a
smaller one. The slope itself (active layover) and the ground that it falls upon (passive layover) are both marked.
Source: G. Schreier (ed.), "SAR Geocoding: Data and Systems" (1993), layover and shadow maps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sar1m.core.radar.compiled import compiled
from sar1m.core.radar.sight import Sight
from sar1m.records import F32, F64, U8, Bool


class _RayRow(NamedTuple):
    """Heights and state of a row of the map, as the rays meet it: columns from a ray to its pixel (0 or 1), the part
    of the way (0 to 1) from there to the next column, and the distance along the ray in pixels."""

    height_m: F32
    state: U8
    shift: int
    part: np.float32
    distance_px: np.float32


class _RayField(NamedTuple):
    """Tangent and cotangent of the incidence by pixel pitch (1/m): at the left column, and the change a column."""

    tan_left: np.float32
    tan_change: np.float32
    cot_left: np.float32
    cot_change: np.float32


def layover_and_shadow(height_m: F32, sight: Sight) -> tuple[Bool, Bool]:
    """Masks of layover and of shadow, (rows, cols) each.

    Terrain beyond the map is not known: give heights with a margin. A pixel of unknown height is in neither mask and
    casts neither. The direction of sight is that of the middle of the map. Each pixel takes the state of the nearest
    ray, at most half a pixel away; the outermost pixels may have no ray and are then in neither mask.

    height_m: (rows, cols); NaN where unknown.
    """
    tangent = sight.tan_incidence
    lean_limit, shade_limit = float(tangent.min()), 1 / float(tangent.max())
    away = np.asarray(sight.away) / sight.pitch_m
    per_row, per_col = np.float32(away[0]), np.float32(away[1])
    if _steep(height_m, per_row, per_col, np.float32(lean_limit), np.float32(shade_limit)) == 0:
        empty = np.zeros(height_m.shape, dtype=np.bool_)
        return empty, empty.copy()
    down, right = sight.away
    flips = (slice(None, None, -1 if down < 0 else 1), slice(None, None, -1 if right < 0 else 1))
    seen, field = height_m[flips], tangent[flips]
    along, across = abs(down), abs(right)
    turned = across > along
    if turned:
        seen, field, along, across = seen.T, field.T, across, along
    state = _scan(np.ascontiguousarray(seen), np.ascontiguousarray(field), across / along, sight.pitch_m)
    state = (state.T if turned else state)[flips]
    return (state & 1).astype(np.bool_), (state & 2).astype(np.bool_)


@compiled
def _steep(height_m: F32, per_row: np.float32, per_col: np.float32, lean: np.float32, shade: np.float32) -> int:
    """Number of cells between four pixels in which layover or shadow can begin.

    That takes a slope that rises away from the satellite by more than lean, or falls by more than shade (both in metres
    a metre). per_row, per_col: components of the direction of sight, divided by the pixel pitch (1/m).
    """
    count = 0
    for row in range(height_m.shape[0] - 1):
        upper, lower = height_m[row], height_m[row + 1]
        for col in range(height_m.shape[1] - 1):
            top, bottom = per_col * (upper[col + 1] - upper[col]), per_col * (lower[col + 1] - lower[col])
            left, right = per_row * (lower[col] - upper[col]), per_row * (lower[col + 1] - upper[col + 1])
            greatest = (top if top > bottom else bottom) + (left if left > right else right)
            least = (bottom if top > bottom else top) + (right if left > right else left)
            count += (greatest >= lean) | (least <= -shade)
    return count


@compiled
def _outward(seen: _RayRow, field: _RayField, farthest_shade: F32, farthest: F32) -> None:
    """Moves all rays one row away from the satellite. Marks points that nearer ground shades or overlays."""
    height_m, state, shift, part, distance_px = seen
    tan_left, tan_change, cot_left, cot_change = field
    for n in range(height_m.size - 1):
        z = height_m[n] + part * (height_m[n + 1] - height_m[n])
        shade = distance_px + z * (tan_left + tan_change * np.float32(n))
        reach = distance_px - z * (cot_left + cot_change * np.float32(n))
        hidden = np.uint8(2) if shade < farthest_shade[n] else np.uint8(0)
        folded = np.uint8(1) if reach < farthest[n] else np.uint8(0)
        state[n + shift] |= hidden | folded
        farthest_shade[n] = shade if shade > farthest_shade[n] else farthest_shade[n]
        farthest[n] = reach if reach > farthest[n] else farthest[n]


@compiled
def _inward(seen: _RayRow, field: _RayField, nearest: F32) -> None:
    """Moves all rays one row towards the satellite. Marks points that farther ground overlays."""
    height_m, state, shift, part, distance_px = seen
    _, _, cot_left, cot_change = field
    for n in range(height_m.size - 1):
        z = height_m[n] + part * (height_m[n + 1] - height_m[n])
        reach = distance_px - z * (cot_left + cot_change * np.float32(n))
        state[n + shift] |= np.uint8(1) if reach > nearest[n] else np.uint8(0)
        nearest[n] = reach if reach < nearest[n] else nearest[n]


@compiled
def _scan(height_m: F32, tangent: F64, drift: float, pitch_m: float) -> U8:
    """State of each pixel: 1 for layover plus 2 for shadow.

    Rays start at row 0 and run down, moving right by drift (0 to 1) columns a row.
    tangent: (2, 2) tangent of the incidence at the map's corners. pitch_m: distance between pixels.
    """
    rows, cols = height_m.shape
    state = np.zeros((rows, cols), dtype=np.uint8)
    rays = cols + int(drift * rows) + 2
    farthest_shade = np.full(rays, -np.inf, dtype=np.float32)
    farthest, nearest = farthest_shade.copy(), -farthest_shade
    step = np.sqrt(1 + drift * drift)
    for pass_ in range(2):
        for n in range(rows):
            row = n if pass_ == 0 else rows - 1 - n
            moved = int(drift * row)
            part = np.float32(drift * row - moved)
            down = row / max(rows - 1, 1)
            left = (1 - down) * tangent[0, 0] + down * tangent[1, 0]
            right = (1 - down) * tangent[0, 1] + down * tangent[1, 1]
            field = _RayField(
                np.float32(left / pitch_m),
                np.float32((right - left) / pitch_m / max(cols - 1, 1)),
                np.float32(1 / left / pitch_m),
                np.float32((1 / right - 1 / left) / pitch_m / max(cols - 1, 1)),
            )
            first_ray = int(drift * rows) + 1 - moved
            seen = _RayRow(height_m[row], state[row], int(part >= 0.5), part, np.float32(row * step))
            if pass_ == 0:
                _outward(seen, field, farthest_shade[first_ray:], farthest[first_ray:])
            else:
                _inward(seen, field, nearest[first_ray:])
    return state
