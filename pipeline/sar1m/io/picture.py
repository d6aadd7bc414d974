"""Whole pictures as they are stored: TIFF, PNG or JPEG, with or without a place on the Earth.

raster.py reads what lies on the Earth, on a wanted grid. Here nothing is resampled, and a picture that states no place
is one that lies nowhere. What it states of its values, masks and alpha bands counts as there (stated.py, missing.py).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyproj
import rasterio
import rasterio.errors
from pyproj.exceptions import CRSError
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.io import MemoryFile
from rasterio.transform import Affine
from rasterio.windows import Window

from sar1m.io.files_beside import aux_words, mask_beside
from sar1m.io.header import ALIGNED_PX, PLACEHOLDERS, fault_of_crs, moved_points, stated_words, wkt_of
from sar1m.io.missing import missing_by_mask
from sar1m.io.raster_open import GDAL_OPTIONS, TiffBytes, check_size, input_name, opened
from sar1m.io.stated import Stated, is_nodata
from sar1m.records import F64, Bool, RasterGrid
from sar1m.store.durable import write_durably
from sar1m.store.errors import SourceError

PICTURE_SUFFIXES: Final = (".tif", ".tiff", ".png", ".jpg", ".jpeg")
MAX_PICTURE_BYTES: Final = 2**29  # decoded; 10,980 x 10,980 px of three 8-bit bands, or of two 16-bit bands
_OPAQUE: Final = {"uint16": 65_535, "int16": 32_767}


@dataclass(frozen=True, kw_only=True)
class Georeference:
    """Where pixels lie: transform is affine a, b, c, d, e, f of pixel corners, in units of the system crs_wkt."""

    crs_wkt: str
    transform: tuple[float, ...]

    def window(self, row: int, col: int) -> Georeference:
        """The same, counted from another first pixel."""
        a, b, c, d, e, f = self.transform
        return replace(self, transform=(a, b, c + a * col + b * row, d, e, f + d * col + e * row))

    def lonlat(self, rows: npt.ArrayLike, cols: npt.ArrayLike) -> tuple[F64, F64]:
        """Longitudes and latitudes in degrees of pixel coordinates, (n,) each; not finite where there are none."""
        a, b, c, d, e, f = self.transform
        down, right = np.asarray(rows, dtype=np.float64), np.asarray(cols, dtype=np.float64)
        return moved_points(self.crs_wkt, wkt_of(4326), a * right + b * down + c, d * right + e * down + f)

    def distance_m(self, start: tuple[float, float], end: tuple[float, float]) -> float:
        """Length on the ground, along the ellipsoid, between two pixel coordinates (row, column); NaN where unknown.

        A map's own metres are not those of the ground: those of EPSG:3395 are a fifth too long at 34 degrees."""
        lon, lat = self.lonlat([start[0], end[0]], [start[1], end[1]])
        if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
            return float("nan")
        return float(pyproj.Geod(ellps="WGS84").inv(lon[0], lat[0], lon[1], lat[1])[2])

    def square_grid(self, size: tuple[int, int]) -> RasterGrid | None:
        """The same as a grid of rows and columns; None where the pixels are no upright squares of a system with a
        code."""
        a, b, c, d, e, f = self.transform
        epsg = CRS.from_wkt(self.crs_wkt).to_epsg()
        if epsg is None or b or d or a <= 0 or abs(a + e) * max(size) > ALIGNED_PX * a:
            return None
        return RasterGrid(epsg=epsg, left_m=c, top_m=f, gsd_m=a, rows=size[0], cols=size[1])

    def offset_to(self, other: Georeference, size: tuple[int, int]) -> tuple[int, int] | None:
        """Row and column of the other's first pixel here; None where their pixels are not the same ones.

        size: rows and columns over which the pixels must stay the same, to within ALIGNED_PX."""
        if not _same_system(self.crs_wkt, other.crs_wkt):
            return None
        a, b, c, d, e, f = self.transform
        reach = max(size) * max(abs(x - y) for x, y in zip((a, b, d, e), _linear(other.transform), strict=True))
        pixel = abs(a * e - b * d) ** 0.5
        x, y = other.transform[2] - c, other.transform[5] - f
        col, row = (e * x - b * y) / (a * e - b * d), (a * y - d * x) / (a * e - b * d)
        if reach > ALIGNED_PX * pixel or max(abs(row - round(row)), abs(col - round(col))) > ALIGNED_PX:
            return None
        return round(row), round(col)


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """A picture as it is stored.

    driver: GTiff, PNG or JPEG. stored: (bands, H, W), every band of the file.
    missing: (H, W), True where a band of values holds no data.
    values: indices of the bands that are no alpha. stated, colours, descriptions: of every band.
    masked: whether a mask, in the file or beside it, says what is missing. ground: None where no place is stated.
    """

    name: str
    driver: str
    stored: npt.NDArray[Any]
    missing: Bool
    values: tuple[int, ...]
    stated: tuple[Stated, ...]
    colours: tuple[str, ...]
    descriptions: tuple[str, ...]
    masked: bool
    ground: Georeference | None

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, cols = self.stored.shape[-2:]
        return rows, cols

    def cropped(self, row: int, col: int, rows: int, cols: int) -> Picture:
        """A window of it; its place moves along."""
        area = np.s_[..., row : row + rows, col : col + cols]
        ground = None if self.ground is None else self.ground.window(row, col)
        return replace(self, stored=self.stored[area], missing=self.missing[area], ground=ground)


def read_picture(source: Path | TiffBytes) -> Picture:
    """A picture with what it states.

    Raises SourceError where it is missing, damaged, not of the three kinds, has a palette, is larger than
    MAX_PICTURE_BYTES once decoded, or where it and an .aux.xml beside it disagree.
    """
    with opened(source, pictures=True) as dataset:
        name = input_name(source)
        check_size(dataset, name)
        taken = dataset.width * dataset.height * sum(np.dtype(kind).itemsize for kind in dataset.dtypes)
        if taken > MAX_PICTURE_BYTES:
            raise SourceError(
                f"{name}: {dataset.height} x {dataset.width} px in {dataset.count} band(s) take {taken} bytes; at most "
                f"{MAX_PICTURE_BYTES} are held at once. Cut it into tiles, or keep fewer bands."
            )
        if ColorInterp.palette in dataset.colorinterp:
            raise SourceError(f"{name}: its numbers stand for colours of a palette. Convert it to RGB or grey.")
        beside = aux_words(source) if isinstance(source, Path) else None
        stated, alpha = stated_words(dataset, name, beside)
        values = tuple(index for index in range(dataset.count) if index + 1 not in alpha)
        if not values:
            raise SourceError(f"{name}: all {dataset.count} band(s) are alpha, a mask. Expected bands of values.")
        stored = dataset.read()
        missing = _missing(dataset, source, stored, stated, values)
        return Picture(
            name=name,
            driver=dataset.driver,
            stored=stored,
            missing=missing,
            values=values,
            stated=stated,
            colours=tuple(colour.name for colour in dataset.colorinterp),
            descriptions=tuple(text or "" for text in dataset.descriptions),
            masked=_has_mask(dataset, source),
            ground=_ground(dataset),
        )


def written_suffix(picture: Picture, suffix: str) -> str:
    """The suffix of a file that holds the picture without loss. A JPEG becomes a PNG: coding it anew changes pixels. A
    picture with a mask becomes a TIFF: no other kind has room for it."""
    driver = _written_driver(picture)
    return suffix if driver == picture.driver else {"PNG": ".png", "GTiff": ".tif"}[driver]


def write_picture(path: Path, picture: Picture) -> None:
    """Writes a picture without loss: the same numbers, type, nodata, scale, unit, names and colours of its bands, masks
    and, in a TIFF, place. The kind is that of written_suffix. Raises OutputError where the system refuses."""
    driver = _written_driver(picture)
    count, rows, cols = picture.stored.shape
    profile: dict[str, Any] = {
        "driver": driver,
        "count": count,
        "height": rows,
        "width": cols,
        "dtype": picture.stored.dtype.name,
        "nodata": picture.stated[picture.values[0]].nodata,
    }
    if driver == "GTiff":
        profile |= {"compress": "deflate", "tiled": True}
        if picture.ground is not None:
            profile |= {
                "crs": CRS.from_wkt(picture.ground.crs_wkt),
                "transform": Affine(*picture.ground.transform),
            }
    options = {**GDAL_OPTIONS, "GDAL_TIFF_INTERNAL_MASK": True, "GDAL_PAM_ENABLED": "NO"}
    with rasterio.Env(**options), warnings.catch_warnings(), MemoryFile() as memory:
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with memory.open(**profile) as dataset:
            if driver == "GTiff":
                _write_words(dataset, picture)
            dataset.write(picture.stored)
            if driver == "GTiff" and picture.masked:
                dataset.write_mask(~picture.missing)
        write_durably(path, [memory.read()])


def without(picture: Picture, stored: npt.NDArray[Any], missing: Bool) -> Picture:
    """The picture with other numbers, those missing marked by its own means: NaN, nodata, alpha or mask.

    stored: (bands, H, W). missing: (H, W). Raises ValueError where something is missing and it has no means.
    """
    marked = stored.copy()
    means = picture.masked
    for index, (band, stated) in enumerate(zip(marked, picture.stated, strict=True)):
        if index not in picture.values:
            band[missing] = 0
            means = True
        elif band.dtype.kind == "f" and (stated.nodata is None or np.isnan(stated.nodata)):
            band[missing] = np.nan
            means = True
        elif stated.nodata is not None:
            band[missing] = stated.nodata
            means = True
    if missing.any() and not means:
        raise ValueError(f"{picture.name}: has no number, alpha or mask for missing pixels")
    return replace(picture, stored=marked, missing=missing)


def opaque(dtype: np.dtype[Any]) -> int:
    """What an alpha band of a type holds where a pixel is opaque."""
    return _OPAQUE.get(dtype.name, 255)


def _written_driver(picture: Picture) -> str:
    return "GTiff" if picture.driver == "GTiff" or picture.masked else "PNG"


def _write_words(dataset: rasterio.io.DatasetWriter, picture: Picture) -> None:
    dataset.colorinterp = [ColorInterp[name] for name in picture.colours]
    dataset.descriptions = [text or None for text in picture.descriptions]
    dataset.scales = [1.0 if stated.scale is None else stated.scale for stated in picture.stated]
    dataset.offsets = [stated.offset or 0.0 for stated in picture.stated]
    dataset.units = [stated.unit or "" for stated in picture.stated]


def _missing(
    dataset: rasterio.DatasetReader,
    source: Path | TiffBytes,
    stored: npt.NDArray[Any],
    stated: tuple[Stated, ...],
    values: tuple[int, ...],
) -> Bool:
    """Where a band of values has no data, (H, W)."""
    window = Window(0, 0, dataset.width, dataset.height)
    alpha = [index + 1 for index in range(dataset.count) if index not in values]
    by_mask = missing_by_mask(dataset, source, [index + 1 for index in values], window, alpha)
    missing = np.asarray(by_mask.any(axis=0))
    for index in values:
        nodata = stated[index].nodata
        if nodata is not None:
            missing |= is_nodata(stored[index], nodata)
        if stored.dtype.kind == "f":
            missing |= ~np.isfinite(stored[index])
    return missing


def _has_mask(dataset: rasterio.DatasetReader, source: Path | TiffBytes) -> bool:
    known = {MaskFlags.all_valid, MaskFlags.nodata, MaskFlags.alpha}
    inside = any(not set(flags) & known for flags in dataset.mask_flag_enums)
    return inside or (isinstance(source, Path) and mask_beside(source) is not None)


def _ground(dataset: rasterio.DatasetReader) -> Georeference | None:
    transform = tuple(dataset.transform)[:6]
    if dataset.crs is None or transform in PLACEHOLDERS or dataset.transform.determinant == 0:
        return None
    wkt = str(dataset.crs.to_wkt())
    return None if fault_of_crs(wkt) else Georeference(crs_wkt=wkt, transform=transform)


def _same_system(one: str, other: str) -> bool:
    if one == other:
        return True
    try:
        return bool(pyproj.CRS.from_wkt(one) == pyproj.CRS.from_wkt(other))
    except CRSError:
        return False


def _linear(transform: tuple[float, ...]) -> tuple[float, float, float, float]:
    a, b, _, d, e, _ = transform
    return a, b, d, e
