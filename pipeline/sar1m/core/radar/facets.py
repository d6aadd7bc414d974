"""The area of a map's surface that the radar lights, summed facet by facet in the pixels of the image.

Every cell between four pixels of the map is split into two facets, its upper and its lower half. In the image a facet
is drawn as the segment between the middles of its left and right sides. Its area is spread evenly along the segment,
so that neighbours join, and is shared between the two lines around the segment by distance. No area is lost, and a
plane of any slope gives an even area. Points instead of segments would have to be four times as many.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from sar1m.core.radar.compiled import compiled
from sar1m.core.radar.lattice import Lattice
from sar1m.core.radar.product import ImageWindow
from sar1m.core.radar.sight import Sight, row_factors
from sar1m.records import F32, U32, Bool

_FACETS: Final = 2  # a cell, from row to row
_STRIP_ROWS: Final = 32
_PAD: Final = 8  # pixels around the window, so that a facet partly inside is spread whole


def lit_area(lattice: Lattice, height_m: F32, sight: Sight, shadow: Bool, window: ImageWindow) -> F32:
    """Lit area in each pixel of a window, (lines, samples), projected at right angles to the line of sight.

    The unit is the area of a pixel of the image in the slant plane. NaN where facets of unknown height may fall.

    height_m: (rows, cols) of the lattice's map, above the ellipsoid; NaN where unknown.
    shadow: (rows, cols); cells with corners in shadow count by the part that is lit.
    """
    padded = np.zeros((window.lines + 2 * _PAD, window.samples + 2 * _PAD), dtype=np.float32)
    corner = ImageWindow(line=window.line - _PAD, sample=window.sample - _PAD, lines=0, samples=0)
    mid_m, per_half = np.float32(lattice.mid_height_m), np.float32(1 / lattice.half_height_m)
    last_row = lattice.grid.rows - 1
    low_m, high_m = lattice.mid_height_m - lattice.half_height_m, lattice.mid_height_m + lattice.half_height_m
    for start in range(0, last_row, _STRIP_ROWS):
        stop = min(start + _STRIP_ROWS, last_row)
        row_px = np.arange(start, stop + 1, dtype=np.float64)
        strip_m = height_m[start : stop + 1]
        factors = row_factors((sight.flat, sight.per_col, sight.per_row), row_px[:-1] + 0.5, 0.5, height_m.shape)
        line_px, sample_px = lattice.coordinates(row_px, strip_m, corner)
        _spread(strip_m, mid_m, per_half, shadow[start : stop + 1], line_px, sample_px, factors, padded)
        if np.isnan(strip_m).any():
            lower_m, upper_m = _rims(strip_m, low_m, high_m)
            lowest, highest = (lattice.coordinates(row_px, rim_m, corner) for rim_m in (lower_m, upper_m))
            _mark(strip_m, *lowest, *highest, padded)
    return padded[_PAD:-_PAD, _PAD:-_PAD]


@compiled
def _spread(
    height_m: F32,
    mid_m: np.float32,
    per_half: np.float32,
    shadow: Bool,
    line_px: F32,
    sample_px: F32,
    factors: F32,
    area: F32,
) -> None:
    """Adds the lit areas of the facets between some rows to the pixels that they fall into."""
    cells = height_m.shape[1] - 1
    lit = np.empty(cells, dtype=np.float32)
    side = np.empty((2, cells + 1), dtype=np.float32)
    index = np.empty((2, cells), dtype=np.uint32)
    share = np.empty((4, cells), dtype=np.float32)
    left_out = np.empty(cells, dtype=np.bool_)
    flat_area = area.reshape(-1)
    dark = shadow.any()
    for n in range(height_m.shape[0] - 1):
        _lit(height_m[n], height_m[n + 1], mid_m, per_half, factors[n], lit)
        if dark:
            _darken(shadow[n], shadow[n + 1], lit)
        for facet in range(_FACETS):
            part = np.float32((facet + 0.5) / _FACETS)
            _between(line_px[n], line_px[n + 1], part, side[0])
            _between(sample_px[n], sample_px[n + 1], part, side[1])
            wide = _halves(lit, side, area.shape, index, share, left_out)
            _add(index, share, area.shape[1], flat_area)
            if wide > 0:
                _add_wide(lit, side, left_out, flat_area, area.shape[1])


@compiled
def _lit(upper: F32, lower: F32, mid_m: np.float32, per_half: np.float32, factors: F32, lit: F32) -> None:
    """Writes to lit the projected area of the facets of a row of cells; 0 where they face away from the radar."""
    f, g, h = factors[0], factors[1], factors[2]
    f0, f1, f2, f3 = f[0], f[1], f[2], f[3]
    g0, g1, g2, g3 = g[0], g[1], g[2], g[3]
    h0, h1, h2, h3 = h[0], h[1], h[2], h[3]
    quarter, half, zero, facet = np.float32(0.25), np.float32(0.5), np.float32(0), np.float32(1 / _FACETS)
    for col in range(lit.size):
        x = np.float32(col)
        a, b, c, d = upper[col], upper[col + 1], lower[col], lower[col + 1]
        u = (quarter * ((a + b) + (c + d)) - mid_m) * per_half
        seen = (f0 + f1 * x) + u * (f2 + f3 * x)
        seen += half * ((b - a) + (d - c)) * ((g0 + g1 * x) + u * (g2 + g3 * x))
        seen += half * ((c - a) + (d - b)) * ((h0 + h1 * x) + u * (h2 + h3 * x))
        lit[col] = facet * seen if seen > zero else zero


@compiled
def _darken(above: Bool, below: Bool, lit: F32) -> None:
    """Reduces each cell's area by the share of its four corners that lie in shadow."""
    quarter = np.float32(0.25)
    for col in range(lit.size):
        dark = np.int32(above[col]) + np.int32(above[col + 1]) + np.int32(below[col]) + np.int32(below[col + 1])
        lit[col] *= quarter * np.float32(np.int32(4) - dark)


@compiled
def _between(upper: F32, lower: F32, part: np.float32, side: F32) -> None:
    """Writes to side the values at a part of the way from one row to the next."""
    for col in range(side.size):
        side[col] = upper[col] + part * (lower[col] - upper[col])


@compiled
def _halves(lit: F32, side: F32, shape: tuple[int, int], index: U32, share: F32, left_out: Bool) -> int:
    """Cuts each facet, a segment between two points of side (line, sample), where it passes from a sample to the next.

    Writes to index (2, n) the flat index of each half's upper line, and to share (4, n) what it gives to that line and
    to the next. Facets outside the image give nothing. Nor do those wider than two samples, which are marked in
    left_out (n,); returns their number.
    """
    stride = np.int32(shape[1])
    last_line, last_sample = np.float32(shape[0] - 2), np.float32(shape[1] - 2)
    zero, half, one, point = np.float32(0), np.float32(0.5), np.float32(1), np.float32(1e-4)
    line, sample = side[0], side[1]
    near_at, far_at = index[0], index[1]
    near_upper, near_lower, far_upper, far_lower = share[0], share[1], share[2], share[3]
    count = 0
    for n in range(lit.size):
        flipped = sample[n + 1] < sample[n]
        s0 = (sample[n + 1] if flipped else sample[n]) + half
        s1 = (sample[n] if flipped else sample[n + 1]) + half
        y0 = line[n + 1] if flipped else line[n]
        y1 = line[n] if flipped else line[n + 1]
        inside = (s0 >= zero) & (s1 < last_sample) & (y0 >= zero) & (y1 >= zero) & (y0 < last_line) & (y1 < last_line)
        s0 = s0 if inside else zero
        s1 = s1 if inside else zero
        y0 = y0 if inside else zero
        y1 = y1 if inside else zero
        first = np.int32(s0)
        edge = np.float32(first) + one
        wide = s1 > edge + one
        left_out[n] = wide
        count += 1 if wide else 0
        whole = lit[n] if inside & (s1 <= edge + one) else zero
        cut = ((edge if edge < s1 else s1) - s0) / (s1 - s0) if s1 - s0 > point else one
        nearer = y0 + half * cut * (y1 - y0)
        farther = y1 - half * (one - cut) * (y1 - y0)
        near_line, far_line = np.int32(nearer), np.int32(farther)
        near_lit = whole * cut
        far_lit = whole - near_lit
        near_next = near_lit * (nearer - np.float32(near_line))
        far_next = far_lit * (farther - np.float32(far_line))
        near_at[n] = np.uint32(near_line * stride + first)
        far_at[n] = np.uint32(far_line * stride + first + np.int32(1))
        near_upper[n] = near_lit - near_next
        near_lower[n] = near_next
        far_upper[n] = far_lit - far_next
        far_lower[n] = far_next
    return count


@compiled
def _add(index: U32, share: F32, stride: int, area: F32) -> None:
    """Adds the shares of the halves to the flat area."""
    below = np.uint32(stride)
    near_at, far_at = index[0], index[1]
    near_upper, near_lower, far_upper, far_lower = share[0], share[1], share[2], share[3]
    for n in range(near_at.size):
        near, far = near_at[n], far_at[n]
        area[near] += near_upper[n]
        area[near + below] += near_lower[n]
        area[far] += far_upper[n]
        area[far + below] += far_lower[n]


@compiled
def _add_wide(lit: F32, side: F32, left_out: Bool, area: F32, stride: int) -> None:
    """Spreads the facets that _halves left out, sample by sample."""
    below, half, one = np.uint32(stride), np.float32(0.5), np.float32(1)
    which = np.empty(lit.size, dtype=np.uint32)
    count = 0
    for n in range(lit.size):
        which[count] = n
        count += left_out[n]
    line, sample = side[0], side[1]
    for k in range(count):
        n = which[k]
        after = n + np.uint32(1)
        flipped = sample[after] < sample[n]
        start = (sample[after] if flipped else sample[n]) + half
        stop = (sample[n] if flipped else sample[after]) + half
        y = line[after] if flipped else line[n]
        per_sample = one / (stop - start)
        rise = ((line[n] if flipped else line[after]) - y) * per_sample
        density = lit[n] * per_sample
        nearer = start
        while nearer < stop:
            column = np.int32(nearer)
            edge = np.float32(column) + one
            farther = edge if edge < stop else stop
            middle = y + rise * (half * (nearer + farther) - start)
            upper = np.int32(middle)
            part = density * (farther - nearer)
            lower_part = part * (middle - np.float32(upper))
            at = np.uint32(upper * np.int32(stride) + column)
            area[at] += part - lower_part
            area[at + below] += lower_part
            nearer = edge


@compiled
def _rims(height_m: F32, low_m: float, high_m: float) -> tuple[F32, F32]:
    """Lower and upper bounds of unknown heights: each gap in a row is filled by the lower and by the higher of the
    heights at its two ends. Where an end is the edge of the map, low_m and high_m are the bounds."""
    lower, upper = height_m.copy(), height_m.copy()
    rows, cols = height_m.shape
    for row in range(rows):
        col = 0
        while col < cols:
            if not np.isnan(height_m[row, col]):
                col += 1
                continue
            start = col
            while col < cols and np.isnan(height_m[row, col]):
                col += 1
            least, greatest = low_m, high_m
            if start > 0 and col < cols:
                least = min(height_m[row, start - 1], height_m[row, col])
                greatest = max(height_m[row, start - 1], height_m[row, col])
            lower[row, start:col] = least
            upper[row, start:col] = greatest
    return lower, upper


@compiled
def _mark(
    height_m: F32, lowest_line: F32, lowest_sample: F32, highest_line: F32, highest_sample: F32, area: F32
) -> None:
    """Writes NaN to every pixel of area that a cell with an unknown corner may reach.

    lowest, highest: lines and samples of the map's pixels at the bounds of their heights.
    """
    lines, samples = area.shape
    for row in range(height_m.shape[0] - 1):
        for col in range(height_m.shape[1] - 1):
            if not np.isnan(height_m[row : row + 2, col : col + 2]).any():
                continue
            box = (slice(row, row + 2), slice(col, col + 2))
            first_line = min(lowest_line[box].min(), highest_line[box].min())
            last_line = max(lowest_line[box].max(), highest_line[box].max())
            first_sample = min(lowest_sample[box].min(), highest_sample[box].min())
            last_sample = max(lowest_sample[box].max(), highest_sample[box].max())
            top, left = max(int(np.floor(first_line)), 0), max(int(np.floor(first_sample + 0.5)), 0)
            bottom, right = min(int(np.ceil(last_line)), lines - 1), min(int(np.floor(last_sample + 0.5)), samples - 1)
            for line in range(top, bottom + 1):
                for sample in range(left, right + 1):
                    area[line, sample] = np.nan
