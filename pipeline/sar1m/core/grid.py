"""The Major TOM grid of 10 km cells, and the block of patches that stands on each of them.

Source: Francis and Czerkawski, "Major TOM: Expandable Datasets for Earth Observation" (2024), arXiv 2402.12095.
Rows divide the half meridian of a sphere of 6378.137 km into ceil(pi R / 10 km) = 2004 equal bands; a row's columns
divide the circle at its southern edge into ceil(2 pi R cos(lat) / 10 km) equal spans. `282D_485L` is row 282 below
the equator, column 485 left of Greenwich: rows 0U, 1U, ... have their southern edge on or above the equator, columns
0R, 1R, ... their western edge on or right of Greenwich. In a row with an odd number of columns the easternmost cell
reaches across the antimeridian. A cell owns its southern and western edges (the official look-up gives a point that
lies exactly on such an edge to the neighbour instead).

Projection: the UTM zone of the lower-left corner, with the exceptions for Norway and Svalbard. The authors' first
tables lacked the exceptions; their present code has them, and so have Sentinel-2's tiles.

Footprint: square, lower-left corner of its middle 10 km on the cell's lower-left corner (not centred on the cell's
middle), and 340 m more on every side. Checked on three published TerraMesh chips: chip `<cell>_<i>_<j>` of 224 px
starts 264 i px right of and 264 j px below the footprint's upper-left corner, to less than 1e-6 m: the first number
counts columns from the west, the second rows from the north. Our patches are named and ordered alike, and our block
shares the footprint's centre to half a pixel, so that it lies inside the published footprints.

The package majortom-eg has the same rows and numbers of columns but other names (geohashes), and in rows with an odd
number of columns its edges are half a column off: there Greenwich is no edge. Beyond 89 degrees it keeps 70 columns.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from sar1m.config import GridConfig
from sar1m.core.sphere import east_of, wrapped
from sar1m.core.utm import FloatArray, IntArray, lonlat_from_utm, utm_epsg, utm_from_lonlat
from sar1m.records import Cell, PatchPlace, RasterGrid
from sar1m.store.errors import RegionError

ROWS: Final = 2004  # ceil(pi * 6378.137 km / 10 km)
FIRST_ROW: Final = -ROWS // 2
_EQUATOR_COLUMNS: Final = 2 * np.pi * 6378.137 / 10.0  # before rounding up
_CELL_SIDE_M: Final = 10_000.0
_NAME: Final = re.compile(r"(0|[1-9]\d{0,3})([UD])_(0|[1-9]\d{0,3})([LR])")
_EDGE_POINTS: Final = 9  # of a raster edge: a parallel bends by 11 m over a block at 80 deg, by 0.2 m between points


def row_latitude_deg(row: npt.ArrayLike) -> FloatArray:
    """Latitude of the southern edge of rows (negative south of the equator), any shape."""
    return np.asarray(row, dtype=np.int64) * 180.0 / ROWS


def columns_in_row(row: npt.ArrayLike) -> IntArray:
    """Number of columns of rows, any shape; at least one (the row at the south pole)."""
    circle = _EQUATOR_COLUMNS * np.cos(np.radians(row_latitude_deg(row)))
    return np.maximum(np.ceil(circle), 1).astype(np.int64)


def _row_at(lat: npt.ArrayLike) -> IntArray:
    degrees = np.asarray(lat, dtype=np.float64)
    if not np.all(np.abs(degrees) <= 90):  # also catches NaN
        raise RegionError("A latitude is not between -90 and 90 degrees. Give longitude first, then latitude.")
    row = np.floor(degrees * ROWS / 180.0).astype(np.int64)
    row = row - (row_latitude_deg(row) > degrees)  # rounding must not move a corner out of its own cell
    row = row + (row_latitude_deg(row + 1) <= degrees)
    return np.minimum(row, FIRST_ROW + ROWS - 1)


def _column_at(lon: npt.ArrayLike, columns: IntArray) -> IntArray:
    """Column counted on from Greenwich without wrapping at the antimeridian."""
    degrees = np.asarray(lon, dtype=np.float64)
    if not np.all(np.isfinite(degrees)):
        raise RegionError("A longitude is not a finite number of degrees.")
    column = np.floor(degrees * columns / 360.0).astype(np.int64)
    column = column - (column * 360.0 / columns > degrees)
    return column + ((column + 1) * 360.0 / columns <= degrees)


def _column_in_world(column: IntArray, columns: IntArray) -> IntArray:
    return (column + columns // 2) % columns - columns // 2


def cells_at(lon: npt.ArrayLike, lat: npt.ArrayLike) -> tuple[IntArray, IntArray]:
    """Row and column of the cells that contain points in degrees, any shapes that broadcast; longitudes wrap.

    Raises RegionError for latitudes outside -90..90 and for numbers that are not finite.
    """
    x, y = np.broadcast_arrays(np.asarray(lon, dtype=np.float64), np.asarray(lat, dtype=np.float64))
    row = _row_at(y)
    columns = columns_in_row(row)
    return row, _column_in_world(_column_at(x, columns), columns)


def cells_in_spans(row: npt.ArrayLike, west: npt.ArrayLike, east: npt.ArrayLike) -> tuple[IntArray, IntArray]:
    """Row and column of the cells that meet spans of longitude, each in a row: shapes (n,), west <= east in degrees.

    Longitudes may run beyond the antimeridian. A cell that only touches a span's eastern end is left out, unless the
    span has no length. Each cell comes once, from south to north, then from west to east.
    """
    rows = np.atleast_1d(np.asarray(row, dtype=np.int64))
    columns = columns_in_row(rows)
    first, end = _column_at(west, columns), _column_at(east, columns)
    last = np.maximum(np.where(end * 360.0 / columns == east, end - 1, end), first)
    count = np.minimum(last - first + 1, columns)
    span = np.repeat(np.arange(rows.size), count)
    step = np.arange(span.size) - np.repeat(np.cumsum(count) - count, count)
    column = _column_in_world(first[span] + step, columns[span])
    return in_order(rows[span], column)


def in_order(row: IntArray, column: IntArray) -> tuple[IntArray, IntArray]:
    """Cells (n,) from south to north, then from west to east, each once."""
    key = np.sort(
        (row - FIRST_ROW) * 8192 + column + 4096, kind="stable"
    )  # 4008 columns at most; stable is quick on runs
    once = np.ones(key.shape, dtype=np.bool_)
    once[1:] = key[1:] != key[:-1]
    return key[once] // 8192 + FIRST_ROW, key[once] % 8192 - 4096


def rows_between(south: float, north: float) -> IntArray:
    """Rows that meet a span of latitude in degrees; a row that only touches its northern end is left out."""
    first, last = int(_row_at(south)), int(_row_at(north))
    if last > first and row_latitude_deg(last) == north:
        last -= 1
    return np.arange(first, last + 1, dtype=np.int64)


def cells_in_box(west: float, south: float, east: float, north: float) -> tuple[IntArray, IntArray]:
    """Row and column of the cells that meet a box in degrees, in the order of cells_in_spans.

    west > east means a box across the antimeridian.
    """
    rows = rows_between(south, north)
    eastern = east + 360.0 if west > east else east
    return cells_in_spans(rows, np.full(rows.shape, west), np.full(rows.shape, eastern))


def corners_lonlat(row: npt.ArrayLike, column: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Longitude in -180..180 and latitude of the lower-left corners of cells in degrees, any shape."""
    return np.asarray(column, dtype=np.int64) * 360.0 / columns_in_row(row), row_latitude_deg(row)


def cell_names(row: npt.ArrayLike, column: npt.ArrayLike) -> list[str]:
    """Names such as 282D_485L of cells given as (n,) rows and columns."""
    pairs = zip(np.asarray(row).tolist(), np.asarray(column).tolist(), strict=True)
    return [f"{abs(r)}{'D' if r < 0 else 'U'}_{abs(c)}{'L' if c < 0 else 'R'}" for r, c in pairs]


def parse_cell_name(name: str) -> tuple[int, int]:
    """Row and column of a cell's name. Raises RegionError where the name is malformed or outside the grid."""
    match = _NAME.fullmatch(name)
    if match is None or match[1] + match[2] == "0D" or match[3] + match[4] == "0L":
        raise RegionError(f"{name!r} is not the name of a Major TOM cell. Expected a form such as 282D_485L or 0U_0R.")
    row = int(match[1]) * (-1 if match[2] == "D" else 1)
    column = int(match[3]) * (-1 if match[4] == "L" else 1)
    if not FIRST_ROW <= row < FIRST_ROW + ROWS:
        raise RegionError(f"{name!r} lies outside the Major TOM grid: rows run from 1002D to 1001U.")
    columns = int(columns_in_row(row))
    if not -(columns // 2) <= column < columns - columns // 2:
        raise RegionError(
            f"{name!r} lies outside the Major TOM grid: its row has {columns} columns, "
            f"from {columns // 2}L to {columns - columns // 2 - 1}R."
        )
    return row, column


def make_cells(row: npt.ArrayLike, column: npt.ArrayLike) -> list[Cell]:
    """Cell records, in the order given, of (n,) rows and columns."""
    lon, lat = corners_lonlat(row, column)
    fields = zip(cell_names(row, column), lon.tolist(), lat.tolist(), utm_epsg(lon, lat).tolist(), strict=True)
    return [Cell(name=name, lon=x, lat=y, epsg=epsg) for name, x, y, epsg in fields]


def block_grids(cells: Sequence[Cell], config: GridConfig) -> list[RasterGrid]:
    """The raster of each cell's patches, without halo: patches_per_side * patch_px pixels a side.

    Centred on the footprint's centre (5 km right of and above the cell's lower-left corner in UTM), then moved by at
    most half a pixel so that the upper-left corner stands on whole multiples of gsd_m: with 10 m, Sentinel-2's 10 m
    pixels are used as they are. With the default 1024 px of 10 m a block overlaps its neighbours by up to some 300 m.
    Where the cell is turned against grid north (3 degrees at the edge of a zone at 75 deg) it misses up to 2.6 % of its
    own cell, and all blocks together up to 1.3 % (measured at 60 deg south).
    """
    side_px = config.patches_per_side * config.patch_px
    x_m, y_m = utm_from_lonlat([c.lon for c in cells], [c.lat for c in cells], [c.epsg for c in cells])
    half_m = side_px * config.gsd_m / 2
    left_m = np.rint((x_m + _CELL_SIDE_M / 2 - half_m) / config.gsd_m) * config.gsd_m
    top_m = np.rint((y_m + _CELL_SIDE_M / 2 + half_m) / config.gsd_m) * config.gsd_m
    return [
        RasterGrid(epsg=cell.epsg, left_m=left, top_m=top, gsd_m=config.gsd_m, rows=side_px, cols=side_px)
        for cell, left, top in zip(cells, left_m.tolist(), top_m.tolist(), strict=True)
    ]


def block_patches(cell_name: str, config: GridConfig) -> tuple[PatchPlace, ...]:
    """Patches of a block, row by row from the north-west: `<cell>_<column from the west>_<row from the north>`."""
    steps = range(config.patches_per_side)
    return tuple(
        PatchPlace(name=f"{cell_name}_{column}_{row}", row=row * config.patch_px, col=column * config.patch_px)
        for row in steps
        for column in steps
    )


def centres_lonlat(grids: Sequence[RasterGrid]) -> tuple[FloatArray, FloatArray]:
    """Longitude and latitude in degrees of the centres of rasters in UTM, each (n,). Raises SourceError otherwise."""
    bounds = np.asarray([g.bounds_m for g in grids], dtype=np.float64).reshape(-1, 4)
    x_m, y_m = (bounds[:, 0] + bounds[:, 2]) / 2, (bounds[:, 1] + bounds[:, 3]) / 2
    return lonlat_from_utm(x_m, y_m, [g.epsg for g in grids])


def bounds_lonlat(grids: Sequence[RasterGrid]) -> FloatArray:
    """West, south, east, north in degrees of rasters in UTM, (n, 4); west > east across the antimeridian.

    Edges are followed at 9 points each: the error stays under 0.2 m for blocks of 10 km. Raises SourceError where
    a raster is not in a WGS 84 / UTM zone.
    """
    left, bottom, right, top = np.asarray([g.bounds_m for g in grids], dtype=np.float64).reshape(-1, 4).T[..., None]
    along = np.linspace(0.0, 1.0, _EDGE_POINTS)
    across, up = left + (right - left) * along, bottom + (top - bottom) * along
    x_m = np.hstack([across, across, np.broadcast_to(left, up.shape), np.broadcast_to(right, up.shape)])
    y_m = np.hstack([np.broadcast_to(bottom, across.shape), np.broadcast_to(top, across.shape), up, up])
    lon, lat = lonlat_from_utm(x_m, y_m, np.asarray([g.epsg for g in grids], dtype=np.int64)[:, None])
    offset = east_of(lon, lon[:, :1])
    west, east = lon[:, 0] + offset.min(axis=1), lon[:, 0] + offset.max(axis=1)
    return np.stack([wrapped(west), lat.min(axis=1), wrapped(east), lat.max(axis=1)], axis=1)
