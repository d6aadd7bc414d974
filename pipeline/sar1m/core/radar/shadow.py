"""Where relief hides the ground from the radar, or folds it: shadow and layover along the direction of sight.

Rays run over the map away from the satellite, a pixel apart. On a ray, with D the distance away and z the height, the
line of sight through a point meets the zero level at D + z tan(incidence), and the circle of equal slant range at
D - z / tan(incidence). A point is in shadow where something nearer meets it farther out, and in layover where the
order of slant ranges is broken: by something nearer that lies farther in range, or something farther that lies nearer.
Both halves of a fold, the slope itself (active) and what it falls upon (passive), come out alike.
Source: G. Schreier (ed.), "SAR Geocoding: Data and Systems" (1993), layover and shadow maps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sar1m.core.radar.compiled import compiled
from sar1m.core.radar.product import F64
from sar1m.core.radar.sight import Sight
from sar1m.records import F32, U8, Bool


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
    """Layover and shadow of the pixels (rows, cols) of a map, as seen by the radar.

    Terrain beyond the map throws none: give heights with a margin. A pixel of unknown height (NaN) is in neither and
    throws none. The direction of sight is that of the middle of the map; each pixel takes the state of the ray nearest
    to it, half a pixel away at most, but the outermost pixels may have none and then are in neither.
    """
    tangent = sight.tan_incidence
    lean_limit, shade_limit = float(tangent.min()), 1 / float(tangent.max())
    away = np.asarray(sight.away) / sight.pitch_m
    down_m, right_m = np.float32(away[0]), np.float32(away[1])
    if _steep(height_m, down_m, right_m, np.float32(lean_limit), np.float32(shade_limit)) == 0:
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
def _steep(height_m: F32, down_m: np.float32, right_m: np.float32, lean: np.float32, shade: np.float32) -> int:
    """How many cells between four pixels may hold a slope that rises away from the satellite by more than lean, or
    falls by more than shade (metres a metre). Without any, no layover and no shadow can begin."""
    count = 0
    for row in range(height_m.shape[0] - 1):
        upper, lower = height_m[row], height_m[row + 1]
        for col in range(height_m.shape[1] - 1):
            top, bottom = right_m * (upper[col + 1] - upper[col]), right_m * (lower[col + 1] - lower[col])
            left, right = down_m * (lower[col] - upper[col]), down_m * (lower[col + 1] - upper[col + 1])
            greatest = (top if top > bottom else bottom) + (left if left > right else right)
            least = (bottom if top > bottom else top) + (right if left > right else left)
            count += (greatest >= lean) | (least <= -shade)
    return count


@compiled
def _outward(seen: _RayRow, field: _RayField, farthest_shade: F32, farthest: F32) -> None:
    """One step of all rays away from the satellite: what lies behind something nearer."""
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
    """One step of all rays towards the satellite: what lies under something farther away."""
    height_m, state, shift, part, distance_px = seen
    _, _, cot_left, cot_change = field
    for n in range(height_m.size - 1):
        z = height_m[n] + part * (height_m[n + 1] - height_m[n])
        reach = distance_px - z * (cot_left + cot_change * np.float32(n))
        state[n + shift] |= np.uint8(1) if reach > nearest[n] else np.uint8(0)
        nearest[n] = reach if reach < nearest[n] else nearest[n]


@compiled
def _scan(height_m: F32, tangent: F64, drift: float, pitch_m: float) -> U8:
    """1 for layover, 2 for shadow, summed. Rays start at row 0 and run down, drift (0 to 1) columns right a row."""
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
