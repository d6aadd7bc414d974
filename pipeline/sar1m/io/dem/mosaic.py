"""The posts around a grid, joined from all rasters that hold some.

Rasters whose posts lie on one lattice (same coordinate system, same spacing, offset by whole pixels) become one array,
so that no seam shows between tiles. Where lattices differ, as between the latitude bands of GLO-30, each is extended by
REACH posts taken from the others, and each pixel uses the finest lattice that owns the post nearest to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from pyproj import CRS, Transformer
from scipy import ndimage

from sar1m.core.sphere import near_to
from sar1m.io.dem.kernel import REACH, heights_at
from sar1m.io.dem.sheets import LONLAT_WKT, Datum, Sheet, checked_header, header_edges, known_heights, stated_datum
from sar1m.io.raster import MAX_READ_PX, read_pixels
from sar1m.io.stated import Stated
from sar1m.records import F64, Bool
from sar1m.store.errors import ConfigError, SourceError

SeaLevel = Callable[[F64, F64], F64]  # height of the sea's surface in metres at longitudes and latitudes in degrees

LOWEST_M: Final = -500.0  # the Dead Sea's shore lies at -430 m
HIGHEST_M: Final = 9_000.0  # Everest: 8,849 m
UNDULATION_ROOM_M: Final = 110.0  # what ellipsoidal heights may add on either side

MARGIN_PX: Final = REACH + 2
_SAME_LATTICE_PX: Final = 0.02  # posts that agree this well are one lattice
_SAME_SPACING: Final = 1e-7  # relative: 0.1 px over a million
_METRES_A_DEGREE: Final = 111_320.0


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A raster on a lattice. row, col: of its first post in the lattice. described: of known_heights."""

    path: Path
    row: int
    col: int
    rows: int
    cols: int
    described: Stated


@dataclass(frozen=True, kw_only=True)
class PostLattice:
    """A lattice of posts in one coordinate system.

    left, top: of the pixel around post (0, 0), in units of the system, within a pixel of its origin.
    col_spacing, row_spacing: in units of the system. col_spacing_m, row_spacing_m: in metres.
    """

    crs_wkt: str
    left: float
    top: float
    col_spacing: float
    row_spacing: float
    col_spacing_m: float
    row_spacing_m: float
    tiles: tuple[Tile, ...]

    def rows_cols(self, x: F64, y: F64) -> tuple[F64, F64]:
        """Fractional rows and columns of points; 0 is the first post."""
        return (self.top - y) / self.row_spacing - 0.5, (x - self.left) / self.col_spacing - 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Mosaic:
    """A window of a lattice.

    thinning: rows and columns of posts that were averaged to one, where posts are finer than needed.
    row, col: of the window's first post, counted in averaged posts.
    values: (R, C) heights at the posts; NaN where unknown.
    covered: (R, C) whether a raster of the lattice covers the post.
    own: (R, C) whether pixels nearest to the post are filled from this mosaic.
    """

    lattice: PostLattice
    thinning: tuple[int, int]
    row: int
    col: int
    values: F64
    covered: Bool
    own: Bool

    def rows_cols(self, x: F64, y: F64) -> tuple[F64, F64]:
        """Fractional rows and columns of points in values."""
        rows, cols = self.lattice.rows_cols(x, y)
        return (rows + 0.5) / self.thinning[0] - 0.5 - self.row, (cols + 0.5) / self.thinning[1] - 0.5 - self.col

    def positions(self, rows: npt.NDArray[np.int64], cols: npt.NDArray[np.int64]) -> tuple[F64, F64]:
        """Coordinates, in the lattice's system, of posts given by row and column of values."""
        x = (cols + self.col + 0.5) * (self.thinning[1] * self.lattice.col_spacing) + self.lattice.left
        y = (rows + self.row + 0.5) * (-self.thinning[0] * self.lattice.row_spacing) + self.lattice.top
        return np.asarray(x, np.float64), np.asarray(y, np.float64)


@lru_cache(maxsize=64)
def _transformer(from_wkt: str, to_wkt: str) -> Transformer:
    """A transformer of pyproj with longitude before latitude, created once."""
    return Transformer.from_crs(CRS.from_wkt(from_wkt), CRS.from_wkt(to_wkt), always_xy=True)


def moved(x: F64, y: F64, from_wkt: str, to_wkt: str, near_x: float) -> tuple[F64, F64]:
    """Points in another coordinate system. Longitudes of the result lie within 180 degrees of near_x."""
    if from_wkt != to_wkt:
        x, y = _transformer(from_wkt, to_wkt).transform(x, y)
    if to_wkt == LONLAT_WKT or CRS.from_wkt(to_wkt).is_geographic:
        x = near_to(x, near_x)
    return x, y


def post_lattices(sheet: Sheet, x: F64, y: F64, datum: Datum) -> list[PostLattice]:
    """The lattices of a sheet that have posts near some points.

    x, y: of the points, in the sheet's system.
    Raises SourceError or ConfigError where a raster is unreadable, misplaced or of another datum.
    """
    found: list[PostLattice] = []
    for path, turn in sheet.touching(x, y, MARGIN_PX):
        lattice = _lattice_of(sheet, path, turn, datum, float(y.mean()))
        index = next((i for i, known in enumerate(found) if _same(known, lattice)), None)
        if index is None:
            found.append(lattice)
        else:
            found[index] = _joined(found[index], lattice)
    return found


def _lattice_of(sheet: Sheet, path: Path, turn: float, datum: Datum, middle_y: float) -> PostLattice:
    header = checked_header(path)
    stated = stated_datum(header)
    if stated not in (None, datum):
        raise ConfigError(
            f"{path}: states heights above {stated}, but is used as above {datum}. Set datum to {stated}."
        )
    left, _, _, top = header_edges(header)
    width, height = header.transform[0], -header.transform[4]
    row, col = -int(np.floor(top / height)), int(np.floor((left + turn) / width))
    unit_m = _METRES_A_DEGREE if sheet.geographic else _unit_m(sheet.crs_wkt)
    return PostLattice(
        crs_wkt=sheet.crs_wkt,
        left=left + turn - col * width,
        top=top + row * height,
        col_spacing=width,
        row_spacing=height,
        col_spacing_m=width * unit_m * (np.cos(np.radians(middle_y)) if sheet.geographic else 1.0),
        row_spacing_m=height * unit_m,
        tiles=(Tile(path=path, row=row, col=col, rows=header.rows, cols=header.cols, described=known_heights(header)),),
    )


@lru_cache(maxsize=64)
def _unit_m(crs_wkt: str) -> float:
    return float(CRS.from_wkt(crs_wkt).axis_info[0].unit_conversion_factor)


def _offset(known: PostLattice, other: PostLattice) -> tuple[float, float]:
    """Rows and columns from one lattice's first post to the other's."""
    return (known.top - other.top) / known.row_spacing, (other.left - known.left) / known.col_spacing


def _same(known: PostLattice, other: PostLattice) -> bool:
    widths = abs(known.col_spacing / other.col_spacing - 1), abs(known.row_spacing / other.row_spacing - 1)
    off = _offset(known, other)
    return max(widths) < _SAME_SPACING and max(abs(value - round(value)) for value in off) < _SAME_LATTICE_PX


def _joined(known: PostLattice, other: PostLattice) -> PostLattice:
    down, right = (round(value) for value in _offset(known, other))
    (tile,) = other.tiles
    placed = replace(tile, row=tile.row + down, col=tile.col + right)
    fields = {name: getattr(known, name) for name in known.__dataclass_fields__ if name != "tiles"}
    return PostLattice(**fields, tiles=(*known.tiles, placed))


def read_mosaic(lattice: PostLattice, x: F64, y: F64, *, gsd_m: float, datum: Datum) -> Mosaic:
    """Reads the posts of a lattice around some points.

    Posts that are finer than needed are averaged in groups of whole numbers. The groups do not depend on the window. A
    group with a missing post is NaN.

    x, y: of the points, in the lattice's system.
    gsd_m: the spacing at which heights are wanted.
    Raises SourceError for values that are no heights of land, and where the window is too large.
    """
    thinning = (_thinning(lattice.row_spacing_m, gsd_m), _thinning(lattice.col_spacing_m, gsd_m))
    rows, cols = lattice.rows_cols(x, y)
    top, height = _window(rows, thinning[0])
    left, width = _window(cols, thinning[1])
    shape = (height * thinning[0], width * thinning[1])
    if shape[0] * shape[1] > MAX_READ_PX:
        raise SourceError(
            f"{lattice.tiles[0].path}: one block needs {shape[0]} x {shape[1]} posts; at most {MAX_READ_PX} are read "
            "at once. Resample the elevation model to about the target spacing first."
        )
    values: F64 = np.full(shape, np.nan)
    covered: Bool = np.zeros(shape, dtype=np.bool_)
    for tile in lattice.tiles:
        _place(tile, values, covered, (top * thinning[0], left * thinning[1]), datum)
    if thinning != (1, 1):
        groups = (height, thinning[0], width, thinning[1])
        values = np.mean(values.reshape(groups), axis=(1, 3))
        covered = np.asarray(covered.reshape(groups).any(axis=(1, 3)))
    return Mosaic(
        lattice=lattice, thinning=thinning, row=top, col=left, values=values, covered=covered, own=covered.copy()
    )


def _thinning(spacing_m: float, gsd_m: float) -> int:
    return max(int(gsd_m / spacing_m + 0.1), 1)


def _window(positions: F64, thinning: int) -> tuple[int, int]:
    """First post and number of posts around positions, both in groups of thinning."""
    first = int(np.floor((positions.min() + 0.5) / thinning)) - MARGIN_PX
    return first, int(np.floor((positions.max() + 0.5) / thinning)) + 1 + MARGIN_PX - first


def _place(tile: Tile, values: F64, covered: Bool, corner: tuple[int, int], datum: Datum) -> None:
    """Copies a raster's part of a window into values where they are NaN. corner: the window's first post."""
    top, left = max(tile.row, corner[0]), max(tile.col, corner[1])
    rows = min(tile.row + tile.rows, corner[0] + values.shape[0]) - top
    cols = min(tile.col + tile.cols, corner[1] + values.shape[1]) - left
    if rows <= 0 or cols <= 0:
        return
    piece = read_pixels(
        tile.path, top=top - tile.row, left=left - tile.col, rows=rows, cols=cols, described=tile.described
    )
    _check_plausible(piece, tile.path, datum)
    window = np.s_[top - corner[0] : top - corner[0] + rows, left - corner[1] : left - corner[1] + cols]
    np.copyto(values[window], piece, where=np.isnan(values[window]))
    covered[window] = True


def _check_plausible(piece: F64, path: Path, datum: Datum) -> None:
    room_m = UNDULATION_ROOM_M if datum == "ellipsoid" else 0.0
    wrong = (piece < LOWEST_M - room_m) | (piece > HIGHEST_M + room_m)
    if wrong.any():
        raise SourceError(
            f"{path}: holds {piece[wrong].flat[0]:g}, no height of land in metres ({LOWEST_M:g} to {HIGHEST_M:g}). "
            "Heights are in another unit, or a value for missing data is not declared (gdal_edit.py -a_nodata)."
        )


def continue_beyond(mosaics: Sequence[Mosaic], sea_level: SeaLevel | None) -> None:
    """Extends each mosaic, in place, by posts beside its own: from the other mosaics, and else from the sea.

    Holes inside a raster stay.

    mosaics: finest first; the first one owns the sea.
    sea_level: None where posts that no raster covers stay NaN.
    """
    if len(mosaics) == 1 and sea_level is None:
        return
    stored = [mosaic.values.copy() for mosaic in mosaics]
    for index, mosaic in enumerate(mosaics):
        wanted = ~mosaic.covered
        if sea_level is None:
            wanted &= ndimage.binary_dilation(mosaic.covered, np.ones((3, 3)), iterations=REACH)
        rows, cols = np.nonzero(wanted)
        if not rows.size:
            continue
        x, y = mosaic.positions(rows, cols)
        others = [(other, values) for j, (other, values) in enumerate(zip(mosaics, stored, strict=True)) if j != index]
        heights, reached = _from_others(mosaic.lattice.crs_wkt, x, y, others)
        if sea_level is not None:
            open_sea = ~reached
            lon, lat = moved(x[open_sea], y[open_sea], mosaic.lattice.crs_wkt, LONLAT_WKT, 0.0)
            heights[open_sea] = sea_level(lon, lat)
            mosaic.own[rows[open_sea], cols[open_sea]] = index == 0
        mosaic.values[rows, cols] = heights


def _from_others(crs_wkt: str, x: F64, y: F64, others: Iterable[tuple[Mosaic, F64]]) -> tuple[F64, Bool]:
    """Heights at points of a coordinate system from other mosaics, and whether a raster of theirs covers the point."""
    heights, reached = np.full(x.shape, np.nan), np.zeros(x.shape, dtype=np.bool_)
    for other, values in others:
        near_x = other.positions(np.zeros(1, np.int64), np.asarray([values.shape[1] // 2]))[0].item()
        rows, cols = other.rows_cols(*moved(x, y, crs_wkt, other.lattice.crs_wkt, near_x))
        missing = np.isnan(heights)
        heights[missing] = heights_at(values, rows[missing], cols[missing])
        inside = (rows >= -0.5) & (cols >= -0.5) & (rows < values.shape[0] - 0.5) & (cols < values.shape[1] - 0.5)
        near_rows, near_cols = (np.floor(part[inside] + 0.5).astype(np.int64) for part in (rows, cols))
        reached[inside] |= other.covered[near_rows, near_cols]
    return heights, reached
