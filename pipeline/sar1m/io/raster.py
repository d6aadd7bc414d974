"""Reads GeoTIFF files as float32 arrays on a wanted grid. GDAL is used here, in raster_open.py and in missing.py alone.

How files are opened, and what is refused, is described in raster_open.py; what a file says of its values in stated.py.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import rasterio
import rasterio.warp
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.windows import Window

from sar1m.io.files_beside import side_digest
from sar1m.io.header import ALIGNED_PX, RasterHeader, header_of, moved_points, wkt_of
from sar1m.io.missing import missing_by_mask
from sar1m.io.raster_open import GDAL_OPTIONS, RasterInput, opened
from sar1m.io.stated import UNDESCRIBED, Stated, Unit, is_nodata, reconciled, unit_factor
from sar1m.records import F32, F64, RasterGrid
from sar1m.store.errors import SourceError

Resampling = Literal["nearest", "bilinear", "cubic"]

MAX_READ_PX: Final = 2**27  # pixels of one band held at once while resampling
SAME_SCALE: Final = 0.05  # spacings that differ less are interpolated, not averaged

WIDE_M: Final = 1e6  # rasters that reach further have no one scale
WIDE_TURN: Final = 1 / 36  # of a turn in longitude or latitude: 10 degrees

_KERNEL_MARGIN_PX: Final = 4  # cubic reaches two pixels, one more for each rounding
# GDAL follows a projection exactly only at the ends and the middle of a line and may err by 1/8 px elsewhere. On lines
# of 256 px of 10 m that comes to under 0.06 px, 0.01 px in the mean (1,056 px: 0.2 and 0.03 px).
_MOST_MEASURED: Final = 1e15  # larger numbers, such as 1e20, stand for missing data
_WARP_TILE_PX: Final = 256


@dataclass(frozen=True, kw_only=True)
class ReadRule:
    """How stored numbers become values, before any resampling: scale * stored + offset, then the unit.

    unit: what the values are described as after scale and offset. `db` is converted to power, 10^(x/10), so that means
        are means of power; any other is kept, and a unit that the file states must fit it (unit_factor).
    described: what a description states. The file's own words fill what it leaves open and must agree with it.
    usual_scale: for numbers of which neither states scale and offset.
    zero_is_nodata: whether a stored 0 is no measurement (linear power beside the swath, DN of Sentinel-2). Not for
        decibels or classes, where 0 is a value.
    """

    resampling: Resampling
    unit: Unit = "as_is"
    described: Stated = UNDESCRIBED
    usual_scale: float = 1.0
    zero_is_nodata: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class WindowPixels:
    """Pixels of a raster on a grid.

    pixels: (bands, rows, cols); NaN outside the raster and where there is no data.
    resampled: False where pixels were copied.
    infinities: number of values that became NaN because they are infinite or larger than any measurement (1e15).
    """

    pixels: F32
    resampled: bool
    infinities: int


def file_digest(path: Path) -> str:
    """blake2b-128 of a file's bytes, hexadecimal, read in pieces. Raises SourceError where it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}. Check its name and permissions.") from error


def raster_digest(path: Path) -> str:
    """The file_digest of a raster; where a mask or an .aux.xml beside it says something of its pixels, of that too.

    Raises SourceError as file_digest, mask_beside and aux_words do.
    """
    return with_side_files(file_digest(path), path)


def with_side_files(own: str, path: Path) -> str:
    """The digest of a raster from that of its own bytes. Raises SourceError as raster_digest does."""
    beside = side_digest(path)
    return hashlib.blake2b(f"{own} {beside}".encode(), digest_size=16).hexdigest() if beside else own


def read_window(source: RasterInput, grid: RasterGrid, *, bands: tuple[int, ...], rule: ReadRule) -> WindowPixels:
    """The part of a raster that lies on a grid.

    Where the raster's pixels are those of the grid (same system, same spacing, offset by whole pixels to within
    ALIGNED_PX) they are copied. Otherwise they are resampled once, directly onto the grid. Numbers are float64 until
    the last step. Longitudes of the raster may be in any turn (-180..180, 0..360, across 180); one of the whole world
    is read on across its edge.

    bands: numbers of the bands to read, from 1.
    Raises SourceError as read_header does, and where a band is missing, a tile is damaged, or the part of the raster to
    read exceeds MAX_READ_PX.
    """
    with opened(source) as dataset:
        header = header_of(dataset, source)
        offset = _aligned_offset(header, grid)
        if offset is None:
            window, turns = _source_window(header, grid)
        else:
            window, turns = _overlap(header, grid, offset), ()
        parts = [_read_values(dataset, header, source, part, (bands, rule)) for part in _parts(header, window)]
    values = np.concatenate([part for part, _ in parts], axis=2)
    if offset is None:
        pixels = _warp(values, header, window, grid, (rule.resampling, turns))
    else:
        pixels = _place(values, window, grid, offset)
    return WindowPixels(
        pixels=pixels.astype(np.float32), resampled=offset is None, infinities=sum(found for _, found in parts)
    )


def read_pixels(
    source: RasterInput, *, top: int, left: int, rows: int, cols: int, described: Stated = UNDESCRIBED
) -> F64:
    """Heights of band 1 in metres, in a window of the raster's own pixels, (rows, cols), NaN where there is no data.

    top, left: first row and column of the window. described: what is known of the band beside what the file states.
    Raises SourceError as read_window does.
    """
    with opened(source) as dataset:
        header, window = header_of(dataset, source), Window(left, top, cols, rows)
        rule = ReadRule(resampling="nearest", unit="m", described=described)
        planes, _ = _read_values(dataset, header, source, window, ((1,), rule))
    return np.asarray(planes[0])


def _aligned_offset(header: RasterHeader, grid: RasterGrid) -> tuple[int, int] | None:
    """Row and column of the grid's first pixel in the raster; None where their pixels are not the same."""
    own = header.grid()
    if own is None or own.epsg != grid.epsg:
        return None
    if abs(own.gsd_m / grid.gsd_m - 1) * max(own.rows, own.cols, grid.rows, grid.cols) > ALIGNED_PX:
        return None
    row = (own.top_m - grid.top_m) / grid.gsd_m
    col = (grid.left_m - own.left_m) / grid.gsd_m
    if max(abs(row - round(row)), abs(col - round(col))) > ALIGNED_PX:
        return None
    return round(row), round(col)


def _overlap(header: RasterHeader, grid: RasterGrid, offset: tuple[int, int]) -> Window:
    """The raster's pixels that the aligned grid covers; 0 rows or columns where they do not meet."""
    row, col = offset
    top, left = min(max(row, 0), header.rows), min(max(col, 0), header.cols)
    bottom = min(max(row + grid.rows, top), header.rows)
    right = min(max(col + grid.cols, left), header.cols)
    return Window(left, top, right - left, bottom - top)


def _source_window(header: RasterHeader, grid: RasterGrid) -> tuple[Window, tuple[int, ...]]:
    """The raster's pixels that resampling onto the grid may use, found from points along and inside the grid; and the
    turns of the globe between the grid's longitudes and the raster's, one or two, 0 where there are none.

    Columns of a raster of the whole world may continue beyond its edges.
    """
    down, right = np.meshgrid(np.linspace(0, grid.rows, 22), np.linspace(0, grid.cols, 22), indexing="ij")
    x_m, y_m = grid.left_m + right.ravel() * grid.gsd_m, grid.top_m - down.ravel() * grid.gsd_m
    x, y = moved_points(wkt_of(grid.epsg), header.crs_wkt, x_m, y_m)
    there = np.isfinite(x) & np.isfinite(y)
    if not there.any():
        return Window(0, 0, 0, 0), (0,)
    x, y = x[there], y[there]
    turns = _turns_between(header, x)
    a, b, c, d, e, f = header.transform
    right_of, above = x + turns * (header.turn or 0.0) - c, y - f
    cols = (e * right_of - b * above) / (a * e - b * d)
    rows = (a * above - d * right_of) / (a * e - b * d)
    spacing = max(np.ptp(rows) / grid.rows, np.ptp(cols) / grid.cols, 1.0)  # source pixels a target pixel
    margin = _KERNEL_MARGIN_PX * spacing
    top, bottom = np.clip([rows.min() - margin, rows.max() + margin], 0, header.rows)
    left, right_edge = cols.min() - margin, cols.max() + margin
    if _world_cols(header) is None:
        left, right_edge = np.clip([left, right_edge], 0, header.cols)
    first_row, first_col = int(np.floor(top)), int(np.floor(left))
    window = Window(first_col, first_row, int(np.ceil(right_edge)) - first_col, int(np.ceil(bottom)) - first_row)
    return window, tuple(sorted({int(turn) for turn in turns}))


def _turns_between(header: RasterHeader, x: F64) -> F64:
    """Whole turns to add to longitudes so that they run on and lie as near to the middle of the raster as can be."""
    if header.turn is None:
        return np.zeros(x.shape)
    (middle,), _ = header.xy([header.rows / 2], [header.cols / 2])
    first = x[0] + np.rint((middle - x[0]) / header.turn) * header.turn
    return np.asarray(np.rint((first - x) / header.turn))


def _world_cols(header: RasterHeader) -> int | None:
    """Number of columns in a whole turn of longitude; None where the raster does not hold so many."""
    a, b, _, d, _, _ = header.transform
    if header.turn is None or b or d:
        return None
    cols = round(header.turn / abs(a))
    whole = abs(cols * abs(a) - header.turn) <= SAME_SCALE * abs(a) and header.cols >= cols
    return cols if whole else None


def _parts(header: RasterHeader, window: Window) -> list[Window]:
    """The window in parts that lie inside the raster; more than one where it runs across the edge of the world."""
    left, end, world = window.col_off, window.col_off + window.width, _world_cols(header)
    if world is None or (left >= 0 and end <= header.cols):
        return [window]
    parts = []
    while left < end:
        first = left % world
        taken = min(end - left, world - first)
        parts.append(Window(first, window.row_off, taken, window.height))
        left += taken
    return parts


def _read_values(
    dataset: rasterio.DatasetReader,
    header: RasterHeader,
    source: RasterInput,
    window: Window,
    wanted: tuple[tuple[int, ...], ReadRule],
) -> tuple[F64, int]:
    """Values of a window by a rule, (bands, rows, cols), NaN where there is no data; and the number of infinities."""
    bands, rule = wanted
    words = [_settled(header, band, rule) for band in bands]
    if window.width * window.height > MAX_READ_PX:
        raise SourceError(
            f"{header.name}: one block needs {window.height} x {window.width} px; at most {MAX_READ_PX} px are read at "
            "once. Resample the raster to about the target spacing first."
        )
    if not window.width or not window.height:
        return np.full((len(bands), window.height, window.width), np.nan), 0
    stored = dataset.read(list(bands), window=window)
    values = stored.astype(np.float64)
    for plane, raw, stated in zip(values, stored, words, strict=True):
        if stated.nodata is not None:
            plane[is_nodata(raw, stated.nodata)] = np.nan
    values[missing_by_mask(dataset, source, bands, window, header.alpha)] = np.nan
    if rule.zero_is_nodata:
        values[values == 0] = np.nan
    infinite = np.abs(values) > (_MOST_MEASURED if rule.unit != "as_is" else np.finfo(np.float64).max)
    values[infinite] = np.nan
    for index, (stated, band) in enumerate(zip(words, bands, strict=True)):
        factor = unit_factor(stated, rule.unit, _band_name(header, band))
        scale = rule.usual_scale if stated.scale is None else stated.scale
        values[index] = values[index] * (scale * factor) + (stated.offset or 0.0) * factor
    if rule.unit == "db":
        with np.errstate(over="ignore"):
            values = 10 ** (values / 10)
        infinite |= np.isinf(values)
        values[infinite] = np.nan
    return values, int(infinite.sum())


def _settled(header: RasterHeader, band: int, rule: ReadRule) -> Stated:
    """What holds of a band by its file and by the description. Raises SourceError where they disagree."""
    return reconciled(header.stated_of(band), rule.described, _band_name(header, band))


def _band_name(header: RasterHeader, band: int) -> str:
    return f"{header.name}, band {band}"


def _place(values: F64, window: Window, grid: RasterGrid, offset: tuple[int, int]) -> F64:
    pixels = np.full((len(values), grid.rows, grid.cols), np.nan)
    row, col = window.row_off - offset[0], window.col_off - offset[1]
    if values.size:
        pixels[:, row : row + values.shape[1], col : col + values.shape[2]] = values
    return pixels


def _scales(header: RasterHeader, grid: RasterGrid, window: Window) -> tuple[float, float]:
    """Size of a source pixel in target pixels, down and across; under 1 the kernel averages.

    It is taken at the raster's centre, so that it does not depend on the part that is read; of rasters wider
    than WIDE_M or WIDE_TURN, along which it changes, at the window's.
    """
    a, b, _, d, e, _ = header.transform
    middle_row, middle_col = header.rows / 2, header.cols / 2
    reach = max(np.hypot(a, d) * header.cols, np.hypot(b, e) * header.rows)
    if reach > (WIDE_M if header.turn is None else header.turn * WIDE_TURN):
        middle_row, middle_col = window.row_off + window.height / 2, window.col_off + window.width / 2
    lon, lat = header.lonlat([middle_row, middle_row + 1, middle_row], [middle_col, middle_col, middle_col + 1])
    x_m, y_m = moved_points(wkt_of(4326), wkt_of(grid.epsg), lon, lat)
    sizes = [float(np.hypot(x_m[i] - x_m[0], y_m[i] - y_m[0]) / grid.gsd_m) for i in (1, 2)]
    down, across = (1.0 if abs(size - 1) < SAME_SCALE else size for size in sizes)
    return down, across


def _warp(
    values: F64, header: RasterHeader, window: Window, grid: RasterGrid, how: tuple[Resampling, tuple[int, ...]]
) -> F64:
    """Values resampled onto the grid, band by band: a pixel missing in one band must not remove it from the others.

    how: the resampling, and the turns of _source_window. Each turn fills what those before it left empty.
    """
    pixels = np.full((len(values), grid.rows, grid.cols), np.nan)
    if not values.size:
        return pixels
    a, b, c, d, e, f = header.transform
    row, col = window.row_off, window.col_off
    resampling, turns = how
    down_scale, across_scale = _scales(header, grid, window)
    options = {
        "src_crs": CRS.from_wkt(header.crs_wkt),
        "src_nodata": np.nan,
        "dst_crs": CRS.from_epsg(grid.epsg),
        "dst_nodata": np.nan,
        "resampling": rasterio.warp.Resampling[resampling],
        "XSCALE": across_scale,  # GDAL's own guess varies with the part that is read
        "YSCALE": down_scale,
    }
    tiles = list(itertools.product(range(0, grid.rows, _WARP_TILE_PX), range(0, grid.cols, _WARP_TILE_PX)))
    with rasterio.Env(**GDAL_OPTIONS):
        for turn, (top, left) in itertools.product(turns, tiles):
            tile = pixels[:, top : top + _WARP_TILE_PX, left : left + _WARP_TILE_PX]
            transform = Affine(*grid.window(top, left, *tile.shape[1:]).transform)
            west = c + a * col + b * row - turn * (header.turn or 0.0)
            origin = Affine(a, b, west, d, e, f + d * col + e * row)
            for band, target in zip(values, tile, strict=True):
                moved = np.full(target.shape, np.nan)
                rasterio.warp.reproject(band, moved, src_transform=origin, dst_transform=transform, **options)
                np.copyto(target, moved, where=np.isnan(target))
    return pixels
