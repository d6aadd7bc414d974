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
import numpy.typing as npt
import rasterio
import rasterio.warp
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.transform import Affine
from rasterio.windows import Window

from sar1m.io.missing import missing_by_mask
from sar1m.io.raster_open import GDAL_OPTIONS, RasterInput, check_size, input_name, opened
from sar1m.io.side_files import aux_words, side_digest
from sar1m.io.stated import Stated, Unit, is_nodata, reconciled, unit_factor
from sar1m.records import F32, F64, RasterGrid
from sar1m.store.errors import SourceError

Resampling = Literal["nearest", "bilinear", "cubic"]

MAX_READ_PX: Final = 2**27  # pixels of one band held at once while resampling
ALIGNED_PX: Final = 1e-3  # grids that agree this well are one grid: their pixels are copied
SAME_SCALE: Final = 0.05  # spacings that differ less are interpolated, not averaged

UNDESCRIBED: Final = Stated(by="the description")

_KERNEL_MARGIN_PX: Final = 4  # cubic reaches two pixels, one more for each rounding
# GDAL follows a projection exactly only at the ends and the middle of a line and may err by 1/8 px elsewhere. On lines
# of 256 px of 10 m that comes to under 0.06 px, 0.01 px in the mean (1,056 px: 0.2 and 0.03 px).
_WARP_TILE_PX: Final = 256


@dataclass(frozen=True, kw_only=True)
class RasterHeader:
    """The header of a GeoTIFF.

    transform: affine a, b, c, d, e, f of pixel corners, in units of crs_wkt.
    epsg: None where the coordinate system matches no code.
    stated: what the file, and an .aux.xml beside it, state of each band. alpha: numbers of bands that are masks by
    their colour interpretation.
    descriptions: one for each band, "" where absent. tags: of the file.
    """

    name: str
    rows: int
    cols: int
    dtype: str
    crs_wkt: str
    epsg: int | None
    transform: tuple[float, float, float, float, float, float]
    stated: tuple[Stated, ...]
    alpha: tuple[int, ...]
    descriptions: tuple[str, ...]
    tags: tuple[tuple[str, str], ...]

    @property
    def bands(self) -> int:
        return len(self.descriptions)

    def stated_of(self, band: int) -> Stated:
        """What the file states of a band of values, numbered from 1.

        Raises SourceError where there is no such band, or it is an alpha band: a mask of the others.
        """
        if not 1 <= band <= self.bands:
            raise SourceError(
                f"{self.name}: has {self.bands} band(s), but band {band} is asked for. Correct the description of its "
                "bands or give the complete file."
            )
        if band in self.alpha:
            raise SourceError(
                f"{self.name}: band {band} is described as a band of values, but the file says that it is alpha, a "
                f"mask. Skip it in the description, or correct the file: gdal_edit.py -colorinterp_{band} undefined."
            )
        return self.stated[band - 1]

    def grid(self) -> RasterGrid | None:
        """The raster's own grid, or None where it is not north-up with square pixels on a WGS 84 / UTM zone."""
        a, b, c, d, e, f = self.transform
        square = b == 0 and d == 0 and a > 0 and abs(a + e) * max(self.rows, self.cols) <= ALIGNED_PX * a
        if self.epsg is None or self.epsg // 100 not in (326, 327) or not square:
            return None
        return RasterGrid(epsg=self.epsg, left_m=c, top_m=f, gsd_m=a, rows=self.rows, cols=self.cols)

    def lonlat(self, rows: npt.ArrayLike, cols: npt.ArrayLike) -> tuple[F64, F64]:
        """Longitudes and latitudes in degrees, (n,) each, of pixel coordinates; (0, 0) is the outer corner."""
        a, b, c, d, e, f = self.transform
        down, across = np.asarray(rows, dtype=np.float64), np.asarray(cols, dtype=np.float64)
        x, y = a * across + b * down + c, d * across + e * down + f
        lon, lat = rasterio.warp.transform(CRS.from_wkt(self.crs_wkt), CRS.from_epsg(4326), x, y)
        return np.asarray(lon), np.asarray(lat)


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
    infinities: number of stored infinities that became NaN.
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
    beside = side_digest(path)
    own = file_digest(path)
    return hashlib.blake2b(f"{own} {beside}".encode(), digest_size=16).hexdigest() if beside else own


def read_header(source: RasterInput) -> RasterHeader:
    """The header of a GeoTIFF. No pixel is read.

    Raises SourceError where the input is missing, empty, not a TIFF, not local, without a coordinate system, of a
    complex or unknown type, or larger than MAX_SIDE_PX, MAX_BANDS or MAX_TILE_BYTES.
    """
    with opened(source) as dataset:
        return _header(dataset, source)


def read_window(source: RasterInput, grid: RasterGrid, *, bands: tuple[int, ...], rule: ReadRule) -> WindowPixels:
    """The part of a raster that lies on a grid.

    Where the raster's pixels are those of the grid (same system, same spacing, offset by whole pixels to within
    ALIGNED_PX) they are copied. Otherwise they are resampled once, directly onto the grid. Numbers are float64 until
    the last step.

    bands: numbers of the bands to read, from 1.
    Raises SourceError as read_header does, and where a band is missing, a tile is damaged, or the part of the raster to
    read exceeds MAX_READ_PX.
    """
    with opened(source) as dataset:
        header = _header(dataset, source)
        offset = _aligned_offset(header, grid)
        window = _source_window(header, grid) if offset is None else _overlap(header, grid, offset)
        values, infinities = _read_values(dataset, header, source, window, (bands, rule))
    if offset is None:
        pixels = _warp(values, header, window, grid, rule.resampling)
    else:
        pixels = _place(values, window, grid, offset)
    return WindowPixels(pixels=pixels.astype(np.float32), resampled=offset is None, infinities=infinities)


def read_pixels(source: RasterInput, *, top: int, left: int, rows: int, cols: int) -> F64:
    """Heights of band 1 in metres, in a window of the raster's own pixels, (rows, cols), NaN where there is no data.

    top, left: first row and column of the window.
    Raises SourceError as read_window does.
    """
    with opened(source) as dataset:
        header, window = _header(dataset, source), Window(left, top, cols, rows)
        planes, _ = _read_values(dataset, header, source, window, ((1,), ReadRule(resampling="nearest", unit="m")))
    return np.asarray(planes[0])


def _header(dataset: rasterio.DatasetReader, source: RasterInput) -> RasterHeader:
    name = input_name(source)
    check_size(dataset, name)
    if dataset.crs is None:
        points = len(dataset.gcps[0])
        found = f"found {points} ground control points" if points else "found none"
        raise SourceError(
            f"{name}: no coordinate reference system; {found}. Expected a geocoded raster: geocode the scene first, "
            "or assign the system with gdal_edit.py -a_srs."
        )
    transform = dataset.transform
    if transform.determinant == 0:
        raise SourceError(f"{name}: its pixels have no area (transform {tuple(transform)[:6]}). Assign a geotransform.")
    stated, alpha = _words(dataset, source)
    return RasterHeader(
        name=name,
        rows=dataset.height,
        cols=dataset.width,
        dtype=dataset.dtypes[0],
        crs_wkt=dataset.crs.to_wkt(),
        epsg=dataset.crs.to_epsg(),
        transform=tuple(transform)[:6],
        stated=stated,
        alpha=alpha,
        descriptions=tuple(text or "" for text in dataset.descriptions),
        tags=tuple(sorted(dataset.tags().items())),
    )


def _words(dataset: rasterio.DatasetReader, source: RasterInput) -> tuple[tuple[Stated, ...], tuple[int, ...]]:
    """What a file and an .aux.xml beside it state of each band, and the numbers of alpha bands."""
    stated = []
    for scale, offset, nodata, unit in zip(
        dataset.scales, dataset.offsets, dataset.nodatavals, dataset.units, strict=True
    ):
        silent = (scale, offset) == (1.0, 0.0)  # GDAL stores the two together
        stated.append(
            Stated(
                by="the file",
                scale=None if silent else scale,
                offset=None if silent else offset,
                nodata=nodata,
                unit=unit or None,
            )
        )
    alpha = {number for number, colour in enumerate(dataset.colorinterp, start=1) if colour is ColorInterp.alpha}
    beside = aux_words(source) if isinstance(source, Path) else None
    if beside is not None:
        alpha.update(beside.alpha)
        for number, words in beside.bands.items():
            if number <= len(stated):
                stated[number - 1] = reconciled(stated[number - 1], words, f"{input_name(source)}, band {number}")
    return tuple(stated), tuple(sorted(alpha))


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


def _source_window(header: RasterHeader, grid: RasterGrid) -> Window:
    """The raster's pixels that resampling onto the grid may use, found from points along and inside the grid."""
    down, right = np.meshgrid(np.linspace(0, grid.rows, 22), np.linspace(0, grid.cols, 22), indexing="ij")
    x_m, y_m = grid.left_m + right.ravel() * grid.gsd_m, grid.top_m - down.ravel() * grid.gsd_m
    x, y = rasterio.warp.transform(CRS.from_epsg(grid.epsg), CRS.from_wkt(header.crs_wkt), x_m, y_m)
    a, b, c, d, e, f = header.transform
    right_of, above = np.asarray(x) - c, np.asarray(y) - f
    cols = (e * right_of - b * above) / (a * e - b * d)
    rows = (a * above - d * right_of) / (a * e - b * d)
    finite = np.isfinite(cols) & np.isfinite(rows)
    if not finite.any():
        return Window(0, 0, 0, 0)
    rows, cols = rows[finite], cols[finite]
    spacing = max(np.ptp(rows) / grid.rows, np.ptp(cols) / grid.cols, 1.0)  # source pixels a target pixel
    margin = _KERNEL_MARGIN_PX * spacing
    top, bottom = np.clip([rows.min() - margin, rows.max() + margin], 0, header.rows)
    left, right_edge = np.clip([cols.min() - margin, cols.max() + margin], 0, header.cols)
    first_row, first_col = int(np.floor(top)), int(np.floor(left))
    return Window(first_col, first_row, int(np.ceil(right_edge)) - first_col, int(np.ceil(bottom)) - first_row)


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
    infinite = np.isinf(values)
    values[infinite] = np.nan
    for index, (stated, band) in enumerate(zip(words, bands, strict=True)):
        factor = unit_factor(stated, rule.unit, _band_name(header, band))
        scale = rule.usual_scale if stated.scale is None else stated.scale
        values[index] = values[index] * (scale * factor) + (stated.offset or 0.0) * factor
    return (10 ** (values / 10) if rule.unit == "db" else values), int(infinite.sum())


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


def _scales(header: RasterHeader, grid: RasterGrid) -> tuple[float, float]:
    """Size of a source pixel in target pixels, down and across, at the raster's centre; under 1 the kernel averages."""
    middle_row, middle_col = header.rows / 2, header.cols / 2
    lon, lat = header.lonlat([middle_row, middle_row + 1, middle_row], [middle_col, middle_col, middle_col + 1])
    x_m, y_m = rasterio.warp.transform(CRS.from_epsg(4326), CRS.from_epsg(grid.epsg), lon, lat)
    sizes = [float(np.hypot(x_m[i] - x_m[0], y_m[i] - y_m[0]) / grid.gsd_m) for i in (1, 2)]
    down, across = (1.0 if abs(size - 1) < SAME_SCALE else size for size in sizes)
    return down, across


def _warp(values: F64, header: RasterHeader, window: Window, grid: RasterGrid, resampling: Resampling) -> F64:
    """Values resampled onto the grid, band by band: a pixel missing in one band must not remove it from the others."""
    pixels = np.full((len(values), grid.rows, grid.cols), np.nan)
    if not values.size:
        return pixels
    a, b, c, d, e, f = header.transform
    row, col = window.row_off, window.col_off
    origin = Affine(a, b, c + a * col + b * row, d, e, f + d * col + e * row)
    down_scale, across_scale = _scales(header, grid)
    options = {
        "src_transform": origin,
        "src_crs": CRS.from_wkt(header.crs_wkt),
        "src_nodata": np.nan,
        "dst_crs": CRS.from_epsg(grid.epsg),
        "dst_nodata": np.nan,
        "resampling": rasterio.warp.Resampling[resampling],
        "XSCALE": across_scale,  # GDAL's own guess varies with the part that is read
        "YSCALE": down_scale,
    }
    starts = itertools.product(range(0, grid.rows, _WARP_TILE_PX), range(0, grid.cols, _WARP_TILE_PX))
    with rasterio.Env(**GDAL_OPTIONS):
        for top, left in starts:
            tile = pixels[:, top : top + _WARP_TILE_PX, left : left + _WARP_TILE_PX]
            transform = Affine(*grid.window(top, left, *tile.shape[1:]).transform)
            for band, target in zip(values, tile, strict=True):
                moved = np.full(target.shape, np.nan)
                rasterio.warp.reproject(band, moved, dst_transform=transform, **options)
                target[:] = moved
    return pixels
