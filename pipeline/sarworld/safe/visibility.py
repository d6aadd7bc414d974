"""Shadow and layover by walking along profiles of the ground, compiled."""

from __future__ import annotations

import numpy as np

from sar1m.core.radar.compiled import compiled
from sar1m.records import F64, Bool

EARTH_RADIUS_M = 6.371e6
_FAR = 1e9


@compiled
def walk_profiles(ground: F64, wanted: Bool, step_m: float) -> tuple[F64, Bool]:
    """Clearance of the ray to the radar above the ground in m (negative in shadow), and layover, (rows, cols) each.

    From every wanted cell the profile is walked in both directions, until nothing farther away can matter or the raster
    ends. A cell is in layover where another place of the profile has the same slant range: ground nearer to the radar
    is farther in range, or the reverse. Cells that are not wanted count as lit and free of layover.

    ground: (rows, cols, 5) height in m, slant range in m, cells down and cells right for a metre of ground away from
        the radar at constant azimuth, and incidence against level ground in radians.
    wanted: (rows, cols). step_m: of the walk.
    """
    rows, cols = ground.shape[0], ground.shape[1]
    clearance, layover = np.full((rows, cols), _FAR), np.zeros((rows, cols), dtype=np.bool_)
    lowest, highest = ground[:, :, 0].min(), ground[:, :, 0].max()
    for row in range(rows):
        for col in range(cols):
            if not wanted[row, col]:
                continue
            least, before = _walk(ground, row, col, -step_m, lowest, highest)
            _, behind = _walk(ground, row, col, step_m, lowest, highest)
            clearance[row, col] = least
            layover[row, col] = before or behind
    return clearance, layover


@compiled
def _walk(ground: F64, row: int, col: int, step_m: float, lowest: float, highest: float) -> tuple[float, bool]:
    height, own_range, tangent = ground[row, col, 0], ground[row, col, 1], np.tan(ground[row, col, 4])
    least, distance_m, over = _FAR, 0.0, False
    while True:
        distance_m += step_m  # negative towards the radar
        away_m = abs(distance_m)
        ray = height + away_m / tangent + away_m * away_m / (2 * EARTH_RADIUS_M)
        if step_m < 0 and ray > highest and height - away_m * tangent < lowest:
            break
        if step_m > 0 and height + away_m * tangent > highest + 1:
            break
        y, x = row + distance_m * ground[row, col, 2], col + distance_m * ground[row, col, 3]
        if y < 0 or x < 0 or y >= ground.shape[0] - 1 or x >= ground.shape[1] - 1:
            break
        over = over or (_at(ground, 1, y, x) - own_range) * step_m < 0
        least = min(least, ray - _at(ground, 0, y, x))
    return least, over


@compiled
def _at(ground: F64, k: int, y: float, x: float) -> float:
    """Component k at row y, column x, bilinear."""
    i, j = int(y), int(x)
    v, u = y - i, x - j
    upper = ground[i, j, k] * (1 - u) + ground[i, j + 1, k] * u
    lower = ground[i + 1, j, k] * (1 - u) + ground[i + 1, j + 1, k] * u
    return float(upper * (1 - v) + lower * v)
