"""Line and sample at which the pixels of a map show in a radar image: exact at nodes, interpolated between them.

Nodes stand every few pixels of the map, each at three heights. Azimuth time, line and sample are quadratic in height
through the three heights, and bilinear between the nodes.

The slant-to-ground polynomials change from record to record. As a function of azimuth time the sample therefore has
kinks (or jumps) at fixed times. Each stretch of azimuth time between two such times has its own sample nodes; a pixel
uses those of the stretch that its azimuth time lies in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np

from sar1m.core.radar.compiled import compiled
from sar1m.core.radar.geodesy import ecef_from_geodetic
from sar1m.core.radar.ground_range import ground_range_m
from sar1m.core.radar.product import Convention, GrdGeometry, ImageWindow
from sar1m.core.radar.range_doppler import ImagePoints, image_coordinates
from sar1m.core.utm import lonlat_from_utm
from sar1m.records import F32, F64, I64, RasterGrid
from sar1m.store.errors import SourceError

WORST_PX: Final = 0.05
_FINEST_SPACING_PX: Final = 4
_LEAST_HALF_RANGE_M: Final = 50.0  # below it the quadratic in height would live on rounding
_BEYOND_PX: Final = 16.0  # how far outside the image a checked point may lie: beyond, polynomials run wild

_NODE_HEIGHTS: Final = np.array([-1.0, 0.0, 1.0])
_CHECKED_HEIGHTS: Final = np.array([-1.0, -(3**-0.5), 3**-0.5, 1.0])  # ends, and where a quadratic errs most


@dataclass(frozen=True, kw_only=True, eq=False)
class Lattice:
    """Image coordinates of a map's pixels as functions of position and height.

    Heights are scaled to u = (height - mid_height_m) / half_height_m, which runs from -1 to 1 over the range of heights
    that the lattice was made for. Nodes are NaN where the satellite does not see the point.

    grid: the map.
    first_row, first_col: pixels from the first node to the map's pixel (0, 0).
    spacing_px: pixels between nodes; there are (I, J) nodes.
    time_s, line: (3, I, J) factors of 1, u and u^2; times in seconds after the product's epoch.
    break_s: (S - 1,) azimuth times at which the S stretches meet.
    sample: (S, 3, I, J) factors of 1, u and u^2 for each stretch.
    error_px: the largest error found against the exact solution; NaN where no part of the map is near the image.
    """

    geometry: GrdGeometry
    convention: Convention
    grid: RasterGrid
    first_row: int
    first_col: int
    spacing_px: int
    mid_height_m: float
    half_height_m: float
    time_s: F64
    line: F64
    break_s: F64
    sample: F64
    error_px: float

    def crop(self, rows: int, cols: int) -> Lattice:
        """The lattice of the map without a margin of `rows` above and below and `cols` left and right."""
        inner = self.grid.window(rows, cols, self.grid.rows - 2 * rows, self.grid.cols - 2 * cols)
        return replace(self, grid=inner, first_row=self.first_row + rows, first_col=self.first_col + cols)

    def window(self, margin_px: int = 3) -> ImageWindow:
        """The part of the image that the map covers, at all heights that the lattice was made for.

        margin_px: pixels added on every side, for the reach of an interpolation.
        The result is clipped to the image. It has 0 lines and 0 samples where the map lies outside the image.
        """
        rows, cols = self._nodes_around()
        corners = (_at_heights(self.line[:, rows, cols]), _at_heights(self.sample[:, :, rows, cols]))
        first_line, lines = _clip(corners[0], margin_px, self.geometry.lines)
        first_sample, samples = _clip(corners[1], margin_px, self.geometry.samples)
        if lines == 0 or samples == 0:
            return ImageWindow(line=0, sample=0, lines=0, samples=0)
        return ImageWindow(line=first_line, sample=first_sample, lines=lines, samples=samples)

    def coordinates(self, row_px: F64, height_m: F32, origin: ImageWindow) -> tuple[F32, F32]:
        """Line and sample in the image, (n, cols) each, of points in some rows and in every column of the map.

        row_px: (n,) rows of the map; they may lie between pixels.
        height_m: (n, cols) heights above the ellipsoid. NaN gives NaN.
        origin: lines and samples count from its first line and sample, so that float32 is exact to 1e-4 px.
        """
        line_px, sample_px = np.empty_like(height_m), np.empty_like(height_m)
        _interpolate(
            _Place(self.first_row + row_px, self.first_col, self.spacing_px),
            _Scale(np.float32(self.mid_height_m), np.float32(1 / self.half_height_m)),
            _Nodes(self.time_s, self.break_s, self.line, self.sample),
            float(origin.line),
            float(origin.sample),
            height_m,
            line_px,
            sample_px,
        )
        return line_px, sample_px

    def _nodes_around(self) -> tuple[slice, slice]:
        """Rows and columns of the nodes that enclose the map."""
        first_i, first_j = self.first_row // self.spacing_px, self.first_col // self.spacing_px
        last_i = -(-(self.first_row + self.grid.rows - 1) // self.spacing_px)
        last_j = -(-(self.first_col + self.grid.cols - 1) // self.spacing_px)
        return slice(first_i, last_i + 1), slice(first_j, last_j + 1)


class _Place(NamedTuple):
    """Rows (n,) and first column of the wanted points, in pixels from the first node, and the nodes' spacing."""

    row_px: F64
    first_col: int
    spacing_px: int


class _Scale(NamedTuple):
    """What turns a height into u: the middle of the lattice's heights and 1 / half their range."""

    mid_m: np.float32
    per_half: np.float32


class _Nodes(NamedTuple):
    """The fields of a Lattice of the same names."""

    time_s: F64
    break_s: F64
    line: F64
    sample: F64


@dataclass(frozen=True, kw_only=True, eq=False)
class _Stretches:
    """Stretches of azimuth time. Within each, the ground range of a fixed slant range is linear in time.

    break_s: (S - 1,) times between the stretches.
    start_s, stop_s: (S,) two times that define the line; equal where the ground range is constant.
    """

    break_s: F64
    start_s: F64
    stop_s: F64


def fit_lattice(
    geometry: GrdGeometry,
    grid: RasterGrid,
    height_range_m: tuple[float, float],
    convention: Convention,
    spacing_px: int = 64,
) -> Lattice:
    """Fits a lattice to a map, for heights within a range.

    The fit checks itself. Midway between nodes, at four heights, the interpolated coordinates are compared with the
    exact solution, at points within 16 px of the image. While the largest error exceeds 0.05 px, the spacing is halved.

    height_range_m: lowest and highest height above the ellipsoid; later calls must stay within it.
    spacing_px: the first spacing to try.
    Raises SourceError where the error is too large even at a spacing of 4 px, or the range of heights is not finite.
    """
    low_m, high_m = height_range_m
    if not (np.isfinite(low_m) and np.isfinite(high_m) and low_m <= high_m):
        raise SourceError(
            f"{geometry.name}: a lattice needs a finite range of heights, lowest first; found {height_range_m}. "
            "Give it only blocks whose heights are known somewhere."
        )
    while True:
        lattice = _solve_nodes(geometry, grid, (low_m, high_m), convention, spacing_px)
        error_px = _worst_error_px(lattice)
        if not error_px > WORST_PX:
            return replace(lattice, error_px=error_px)
        if spacing_px < 2 * _FINEST_SPACING_PX:
            raise SourceError(
                f"{geometry.name}: interpolation between nodes {spacing_px} px apart errs by {error_px:.3g} px, more "
                f"than {WORST_PX} px, over heights {low_m:.0f} to {high_m:.0f} m. Check the product's orbit and "
                "slant-to-ground polynomials, or leave the product out."
            )
        spacing_px //= 2


def node_points(grid: RasterGrid, row_px: F64, col_px: F64, height_m: F64) -> F64:
    """Earth-fixed points in metres, (heights, rows, cols, 3), at positions on a map.

    row_px, col_px: (rows,) and (cols,); (0, 0) is the centre of the first pixel.
    height_m: (heights,) above the ellipsoid.
    """
    x_m = grid.left_m + (col_px + 0.5) * grid.gsd_m
    y_m = grid.top_m - (row_px + 0.5) * grid.gsd_m
    lon_deg, lat_deg = lonlat_from_utm(x_m[None, :], y_m[:, None], grid.epsg)
    return ecef_from_geodetic(lon_deg, lat_deg, height_m[:, None, None])


def quadratic_in_height(values: F64) -> F64:
    """Factors of 1, u and u^2 of the parabolas through values at u = -1, 0 and 1; both (..., 3, I, J)."""
    below, middle, above = np.moveaxis(values, -3, 0)
    return np.stack((middle, (above - below) / 2, (above + below) / 2 - middle), axis=-3)


def _solve_nodes(
    geometry: GrdGeometry,
    grid: RasterGrid,
    height_range_m: tuple[float, float],
    convention: Convention,
    spacing_px: int,
) -> Lattice:
    """The lattice with nodes spacing_px apart, not yet checked."""
    mid_m = sum(height_range_m) / 2
    half_m = max((height_range_m[1] - height_range_m[0]) / 2, _LEAST_HALF_RANGE_M)
    row_px, col_px = (spacing_px * np.arange(max(-(-(n - 1) // spacing_px), 1) + 1.0) for n in (grid.rows, grid.cols))
    points_m = node_points(grid, row_px, col_px, mid_m + half_m * _NODE_HEIGHTS)
    seen = image_coordinates(geometry, points_m, convention)
    stretches = _stretches(geometry, convention, seen.azimuth_time_s)
    return Lattice(
        geometry=geometry,
        convention=convention,
        grid=grid,
        first_row=0,
        first_col=0,
        spacing_px=spacing_px,
        mid_height_m=mid_m,
        half_height_m=half_m,
        time_s=quadratic_in_height(seen.azimuth_time_s),
        line=quadratic_in_height(seen.line),
        break_s=stretches.break_s,
        sample=quadratic_in_height(_stretched_samples(geometry, convention, stretches, seen)),
        error_px=np.nan,
    )


def _stretches(geometry: GrdGeometry, convention: Convention, azimuth_time_s: F64) -> _Stretches:
    """The stretches between a product's records that the finite ones of some azimuth times lie in."""
    record_s = geometry.ground_range.time_s
    if convention.ground_range == "nearest":
        break_s, start_s, stop_s = (record_s[1:] + record_s[:-1]) / 2, record_s, record_s
    else:
        break_s, start_s, stop_s = record_s, np.append(record_s[:1], record_s), np.append(record_s, record_s[-1:])
    known_s = azimuth_time_s[np.isfinite(azimuth_time_s)]
    if known_s.size == 0:
        return _Stretches(break_s=break_s[:0], start_s=start_s[:1], stop_s=stop_s[:1])
    first, last = np.searchsorted(break_s, (known_s.min(), known_s.max()))
    kept = slice(first, last + 1)
    return _Stretches(break_s=break_s[first:last], start_s=start_s[kept], stop_s=stop_s[kept])


def _stretched_samples(geometry: GrdGeometry, convention: Convention, stretches: _Stretches, seen: ImagePoints) -> F64:
    """Samples of the nodes by the line of each stretch, (S, 3, I, J), extrapolated beyond the stretch's ends."""
    shape = (-1, 1, 1, 1)
    start_s, stop_s = stretches.start_s.reshape(shape), stretches.stop_s.reshape(shape)
    rule = convention.ground_range
    at_start_m = ground_range_m(geometry.ground_range, start_s, seen.slant_range_m, rule)
    at_stop_m = ground_range_m(geometry.ground_range, stop_s, seen.slant_range_m, rule)
    onward = (seen.azimuth_time_s - start_s) / np.where(stop_s > start_s, stop_s - start_s, 1.0)
    return (at_start_m + onward * (at_stop_m - at_start_m)) / geometry.range_spacing_m


def _worst_error_px(lattice: Lattice) -> float:
    """Largest difference in line or sample from the exact solution; NaN where no checked point is near the image."""
    grid = lattice.grid
    row_px, col_px = _checked_px(grid.rows, lattice.spacing_px), _checked_px(grid.cols, lattice.spacing_px)
    heights_m = lattice.mid_height_m + lattice.half_height_m * _CHECKED_HEIGHTS
    points_m = node_points(grid, row_px.astype(np.float64), col_px.astype(np.float64), heights_m)
    exact = image_coordinates(lattice.geometry, points_m, lattice.convention)
    line, sample = exact.line, exact.sample
    lines, samples = lattice.geometry.lines + _BEYOND_PX, lattice.geometry.samples + _BEYOND_PX
    near = (line > -_BEYOND_PX) & (line < lines) & (sample > -_BEYOND_PX) & (sample < samples)
    if not near.any():
        return np.nan
    origin = ImageWindow(line=int(line[near].min()), sample=int(sample[near].min()), lines=0, samples=0)
    worst_px = 0.0
    for level, height_m in enumerate(heights_m):
        level_m = np.full((row_px.size, grid.cols), height_m, dtype=np.float32)
        lines_px, samples_px = lattice.coordinates(row_px.astype(np.float64), level_m, origin)
        off_px = np.maximum(
            np.abs(lines_px[:, col_px] + origin.line - line[level]),
            np.abs(samples_px[:, col_px] + origin.sample - sample[level]),
        )
        worst_px = max(worst_px, float(np.max(np.where(near[level], off_px, 0.0))))
    return worst_px


def _checked_px(size: int, spacing_px: int) -> I64:
    """Pixels on nodes and midway between nodes along one axis, thinned to about 12.

    The thinning step is odd, so that both kinds stay. Pixels on nodes are needed too: where the error is convex along
    one axis and concave along the other, it is largest on the sides of a tile and not in its middle.
    """
    halves_px = np.minimum(np.arange(0, size + spacing_px // 2, spacing_px // 2), size - 1)
    return halves_px[:: 2 * (halves_px.size // 24) + 1]


def _at_heights(factors: F64) -> F64:
    """Values at u = -1, 0 and 1 of factors (..., 3, I, J)."""
    constant, slope, bend = np.moveaxis(factors, -3, 0)
    return np.stack((constant - slope + bend, constant, constant + slope + bend))


def _clip(coordinate_px: F64, margin_px: int, size: int) -> tuple[int, int]:
    """First pixel and number of pixels of a range of coordinates plus a margin, clipped to 0..size - 1."""
    known_px = coordinate_px[np.isfinite(coordinate_px)]
    if known_px.size == 0:
        return 0, 0
    first = max(int(np.floor(known_px.min())) - margin_px, 0)
    last = min(int(np.ceil(known_px.max())) + margin_px, size - 1)
    return first, max(last - first + 1, 0)


@compiled
def _stretch_of(break_s: F64, time_s: float) -> int:
    """Index of the stretch that a time lies in."""
    index = 0
    while index < break_s.size and time_s > break_s[index]:
        index += 1
    return index


@compiled
def _row_factors(nodes: F64, i: int, j: int, down: float, less: float, factors: F32) -> None:
    """Writes to factors (6,) those of 1, u and u^2 at the left edge of tile (i, j), and their change to its right edge.

    down: part of the way from the tile's upper nodes to its lower ones. less: subtracted from the value.
    """
    for k in range(3):
        left = (1.0 - down) * nodes[k, i, j] + down * nodes[k, i + 1, j]
        right = (1.0 - down) * nodes[k, i, j + 1] + down * nodes[k, i + 1, j + 1]
        factors[k] = left - less if k == 0 else left
        factors[3 + k] = right - left


@compiled
def _reach(factors: F32) -> tuple[float, float]:
    """Bounds of the values that a row of a tile can take at heights u of -1 to 1."""
    left, right = factors[0], factors[0] + factors[3]
    spread_left = abs(factors[1]) + abs(factors[2])
    spread_right = abs(factors[1] + factors[4]) + abs(factors[2] + factors[5])
    return min(left - spread_left, right - spread_right), max(left + spread_left, right + spread_right)


@compiled
def _fill(right: int, per_col: np.float32, height_m: F32, scale: _Scale, factors: F32, first: F32, second: F32) -> None:
    """Two fields of factors (2, 6) in some columns of a row, which start `right` columns from the tile's left edge."""
    p, q = factors[0], factors[1]
    a0, b0, c0, a1, b1, c1 = p[0], p[1], p[2], p[3], p[4], p[5]
    d0, e0, f0, d1, e1, f1 = q[0], q[1], q[2], q[3], q[4], q[5]
    for col in range(height_m.size):
        x = np.float32(col + right) * per_col
        u = (height_m[col] - scale.mid_m) * scale.per_half
        first[col] = (a0 + a1 * x) + u * ((b0 + b1 * x) + u * (c0 + c1 * x))
        second[col] = (d0 + d1 * x) + u * ((e0 + e1 * x) + u * (f0 + f1 * x))


@compiled
def _interpolate(
    place: _Place,
    scale: _Scale,
    nodes: _Nodes,
    first_line: float,
    first_sample: float,
    height_m: F32,
    line_px: F32,
    sample_px: F32,
) -> None:
    """Writes lines and samples, counted from the first, row by row, the columns between two nodes at a time."""
    row_px, first_col, spacing_px = place
    time_s, break_s, line, sample = nodes
    cols, tiles = height_m.shape[1], line.shape[2] - 1
    per_col = np.float32(1.0 / spacing_px)
    here, later = np.empty((2, 6), dtype=np.float32), np.empty((2, 6), dtype=np.float32)  # line | time, and sample
    late_s, other_px = np.empty((2, cols), dtype=np.float32)
    for n in range(row_px.size):
        i = min(int(row_px[n] // spacing_px), line.shape[1] - 2)
        down = row_px[n] / spacing_px - i
        start = 0
        while start < cols:
            j = min((first_col + start) // spacing_px, tiles - 1)
            stop = cols if j == tiles - 1 else min(cols, (j + 1) * spacing_px - first_col)
            right = first_col + start - j * spacing_px
            part_m, part_sample = height_m[n, start:stop], sample_px[n, start:stop]
            _row_factors(time_s, i, j, down, 0.0, later[0])
            earliest_s, latest_s = _reach(later[0])
            first, last = _stretch_of(break_s, earliest_s), _stretch_of(break_s, latest_s)
            _row_factors(line, i, j, down, first_line, here[0])
            _row_factors(sample[first], i, j, down, first_sample, here[1])
            _fill(right, per_col, part_m, scale, here, line_px[n, start:stop], part_sample)
            for stretch in range(first + 1, last + 1):
                _row_factors(time_s, i, j, down, break_s[stretch - 1], later[0])
                _row_factors(sample[stretch], i, j, down, first_sample, later[1])
                _fill(right, per_col, part_m, scale, later, late_s, other_px)
                for col in range(stop - start):
                    if late_s[col] > 0:
                        part_sample[col] = other_px[col]
            start = stop
