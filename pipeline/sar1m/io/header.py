"""The header of a GeoTIFF: where it lies, and what it states of its values.

A raster that does not say where on the Earth it lies is refused by its name: one without a coordinate system or a
geotransform, in a local (engineering) system, or on another body.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyproj
import rasterio
import rasterio.warp
from pyproj.exceptions import CRSError
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

from sar1m.core.sphere import wrapped
from sar1m.io.files_beside import AuxWords, aux_words
from sar1m.io.raster_open import RasterInput, check_size, input_name, opened
from sar1m.io.stated import Stated, reconciled
from sar1m.records import F64, RasterGrid
from sar1m.store.errors import SourceError

ALIGNED_PX: Final = 1e-3  # grids that agree this well are one grid: their pixels are copied

_EARTH_RADII_M: Final = (6.33e6, 6.41e6)  # semi-major axes of the Earth's ellipsoids and spheres
PLACEHOLDERS: Final = ((1, 0, 0, 0, 1, 0), (1, 0, 0, 0, -1, 0))  # what stands where there is no geotransform
_WORLD_FILES: Final = (".tfw", ".tifw", ".tiffw", ".wld")
_SLACK_PX: Final = 1.0  # grids of whole worlds reach half a pixel beyond the poles


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

    @property
    def turn(self) -> float | None:
        """360 degrees in units of the coordinate system; None where that is not of longitudes and latitudes."""
        return _turn(self.crs_wkt)

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

    def xy(self, rows: npt.ArrayLike, cols: npt.ArrayLike) -> tuple[F64, F64]:
        """Coordinates in crs_wkt, (n,) each, of pixel coordinates; (0, 0) is the outer corner."""
        a, b, c, d, e, f = self.transform
        down, across = np.asarray(rows, dtype=np.float64), np.asarray(cols, dtype=np.float64)
        return a * across + b * down + c, d * across + e * down + f

    def lonlat(self, rows: npt.ArrayLike, cols: npt.ArrayLike) -> tuple[F64, F64]:
        """Longitudes (-180..180) and latitudes in degrees, (n,) each, of pixel coordinates; (0, 0) is the outer corner.

        Raises SourceError where the coordinate system does not reach them.
        """
        x, y = self.xy(rows, cols)
        lon, lat = moved_points(self.crs_wkt, wkt_of(4326), x, y)
        if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
            raise SourceError(
                f"{self.name}: lies where its coordinate system has no longitudes and latitudes (x from {x.min():g} to "
                f"{x.max():g}, y from {y.min():g} to {y.max():g}). {_ASSIGN}"
            )
        return np.where(np.abs(lon) > 180, wrapped(lon), lon), lat


_ASSIGN: Final = "Assign the right system and geotransform with gdal_edit.py -a_srs and -a_ullr."


def moved_points(from_wkt: str, to_wkt: str, x: F64, y: F64) -> tuple[F64, F64]:
    """Points (n,) in another coordinate system, x before y; infinite where that system does not reach them."""
    try:
        found = rasterio.warp.transform(CRS.from_wkt(from_wkt), CRS.from_wkt(to_wkt), x, y)
    except CPLE_BaseError:  # GDAL gives up where one of them cannot be moved
        found = pyproj.Transformer.from_crs(from_wkt, to_wkt, always_xy=True).transform(x, y)
    return np.asarray(found[0], np.float64), np.asarray(found[1], np.float64)


@lru_cache(maxsize=256)
def wkt_of(epsg: int) -> str:
    """The coordinate system of an EPSG code as text."""
    return str(CRS.from_epsg(epsg).to_wkt())


def read_header(source: RasterInput) -> RasterHeader:
    """The header of a GeoTIFF. No pixel is read.

    Raises SourceError where the input is missing, empty, not a TIFF, not local, of a complex or unknown type, larger
    than MAX_SIDE_PX, MAX_BANDS or MAX_TILE_BYTES, or does not say where on the Earth it lies; and where it and an
    .aux.xml beside it disagree.
    """
    with opened(source) as dataset:
        return header_of(dataset, source)


def header_of(dataset: rasterio.DatasetReader, source: RasterInput) -> RasterHeader:
    """The header of an open dataset. Raises SourceError as read_header does."""
    name = input_name(source)
    check_size(dataset, name)
    beside = aux_words(source) if isinstance(source, Path) else None
    _check_place(dataset, source, beside)
    stated, alpha = stated_words(dataset, name, beside)
    header = RasterHeader(
        name=name,
        rows=dataset.height,
        cols=dataset.width,
        dtype=dataset.dtypes[0],
        crs_wkt=dataset.crs.to_wkt(),
        epsg=dataset.crs.to_epsg(),
        transform=tuple(dataset.transform)[:6],
        stated=stated,
        alpha=alpha,
        descriptions=tuple(text or "" for text in dataset.descriptions),
        tags=tuple(sorted(dataset.tags().items())),
    )
    _check_degrees(header)
    return header


def _check_place(dataset: rasterio.DatasetReader, source: RasterInput, beside: AuxWords | None) -> None:
    """Raises SourceError where a raster does not say where on the Earth it lies, or an .aux.xml says something else."""
    name, transform = input_name(source), dataset.transform
    if dataset.crs is None:
        raise SourceError(
            f"{name}: no coordinate reference system; {_instead(dataset, source, beside)}. Expected a geocoded raster: "
            "geocode the scene first, or assign the system with gdal_edit.py -a_srs."
        )
    if tuple(transform)[:6] in PLACEHOLDERS:
        raise SourceError(
            f"{name}: no geotransform, so that nobody knows where it lies in {_title(dataset.crs.to_wkt())}; "
            f"{_instead(dataset, source, beside)}. Geocode the scene (gdalwarp), or assign its corners with "
            "gdal_edit.py -a_ullr."
        )
    if transform.determinant == 0 or not all(map(math.isfinite, tuple(transform)[:6])):
        raise SourceError(f"{name}: its pixels have no area (transform {tuple(transform)[:6]}). Assign a geotransform.")
    fault = fault_of_crs(dataset.crs.to_wkt())
    if fault:
        raise SourceError(
            f"{name}: its coordinate system {_title(dataset.crs.to_wkt())} {fault}. Expected one on the Earth, such as "
            "EPSG:32633: assign the right one with gdal_edit.py -a_srs."
        )
    if beside is not None:
        _check_beside(dataset, name, beside)


def _instead(dataset: rasterio.DatasetReader, source: RasterInput, beside: AuxWords | None) -> str:
    """What a raster has in place of a system or a geotransform."""
    points = len(dataset.gcps[0])
    found = [f"{points} ground control points"] if points else []
    found += ["rational polynomial coefficients (RPC)"] if dataset.rpcs is not None else []
    if beside is not None and (beside.crs or beside.transform or beside.points):
        found.append(f"a position in {beside.name}, which is not read: gdal_translate writes it into a copy")
    if isinstance(source, Path):
        near = [source.with_suffix(suffix) for suffix in _WORLD_FILES]
        found += [f"{path}, which is not read: gdal_translate writes it into a copy" for path in near if path.is_file()]
    return f"found {' and '.join(found)}" if found else "found none"


def _check_beside(dataset: rasterio.DatasetReader, name: str, beside: AuxWords) -> None:
    pixel = math.sqrt(abs(dataset.transform.determinant))
    fault = ""
    if beside.transform is not None:
        left, across, tilt, top, turn, down = (
            there - here for there, here in zip(beside.transform, dataset.transform.to_gdal(), strict=True)
        )
        off = (
            max(abs(left), abs(top))
            + (abs(across) + abs(turn)) * dataset.width
            + (abs(tilt) + abs(down)) * dataset.height
        )
        fault = f"a geotransform that is {off / pixel:.3g} px away" if not off <= ALIGNED_PX * pixel else ""
    if beside.crs is not None and not fault:
        try:
            same = CRS.from_user_input(beside.crs) == dataset.crs
        except (rasterio.errors.CRSError, ValueError):
            same = False
        fault = "" if same else f"the coordinate system {_title(beside.crs)}"
    if beside.points:
        fault = "ground control points"
    if fault:
        raise SourceError(
            f"{name}: the file states a place in {_title(dataset.crs.to_wkt())}, {beside.name} states {fault}. Remove "
            "or correct the one that is wrong."
        )


def stated_words(
    dataset: rasterio.DatasetReader, name: str, beside: AuxWords | None
) -> tuple[tuple[Stated, ...], tuple[int, ...]]:
    """What a file and an .aux.xml beside it state of each band, and the numbers of alpha bands.

    Raises SourceError where the two disagree."""
    stated = []
    for scale, offset, nodata, unit in zip(
        dataset.scales, dataset.offsets, dataset.nodatavals, dataset.units, strict=True
    ):
        silent = (scale, offset) == (1.0, 0.0)  # GDAL stores the two together
        own: dict[str, Any] = {} if silent else {"scale": scale, "offset": offset}
        stated.append(Stated(by="the file", nodata=nodata, unit=unit or None, **own))
    alpha = {number for number, colour in enumerate(dataset.colorinterp, start=1) if colour is ColorInterp.alpha}
    if beside is not None:
        alpha.update(beside.alpha)
        for number, words in beside.bands.items():
            if number <= len(stated):
                stated[number - 1] = reconciled(stated[number - 1], words, f"{name}, band {number}")
    return tuple(stated), tuple(sorted(alpha))


def _check_degrees(header: RasterHeader) -> None:
    """Raises SourceError for longitudes and latitudes that there are not."""
    if header.turn is None:
        return
    x, y = header.xy([0, 0, header.rows, header.rows], [0, header.cols, 0, header.cols])
    a, b, _, d, e, _ = header.transform
    slack = _SLACK_PX * (abs(a) + abs(b) + abs(d) + abs(e))
    if (
        np.abs(y).max() > header.turn / 4 + slack
        or np.ptp(x) > header.turn + slack
        or np.abs(x).max() > 1.5 * header.turn
    ):
        raise SourceError(
            f"{header.name}: in {_title(header.crs_wkt)} it reaches from {x.min():g} to {x.max():g} in longitude and "
            f"from {y.min():g} to {y.max():g} in latitude, which is not on the Earth. {_ASSIGN}"
        )


@lru_cache(maxsize=256)
def fault_of_crs(wkt: str) -> str:
    """What makes a coordinate system useless here; empty where nothing does."""
    try:
        crs = pyproj.CRS.from_wkt(wkt)
    except CRSError as error:
        return f"is not understood ({str(error)[:120]})"
    if crs.is_engineering:
        return "is local (engineering): nothing ties it to the Earth"
    if not (crs.is_geographic or crs.is_projected):
        return "has neither longitudes and latitudes nor map coordinates"
    radius_m = None if crs.ellipsoid is None else crs.ellipsoid.semi_major_metre
    if radius_m is None or not _EARTH_RADII_M[0] <= radius_m <= _EARTH_RADII_M[1]:
        return f"is of another body than the Earth (radius {0 if radius_m is None else radius_m / 1000:.0f} km)"
    return ""


@lru_cache(maxsize=256)
def _turn(wkt: str) -> float | None:
    crs = pyproj.CRS.from_wkt(wkt)
    return 2 * math.pi / crs.axis_info[0].unit_conversion_factor if crs.is_geographic else None


@lru_cache(maxsize=256)
def _title(wkt: str) -> str:
    """The name of a coordinate system for messages."""
    try:
        return repr(pyproj.CRS.from_user_input(wkt).name[:80])
    except CRSError:
        return repr(wkt[:80])
