"""The elevation rasters that are present: their position and vertical datum.

The position of a Copernicus tile (GLO-30, GLO-90) follows from its name. A folder may hold all 26,000 of them, so a
tile is opened only when its heights are needed. The position of any other raster is read from its header.
Source: Copernicus DEM product handbook, naming and tiling; README of the COG tiles on AWS (posts on whole arc-seconds,
the row and column shared with the neighbour to the south and east left out, longitudes thinned towards the poles).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np
from pyproj import CRS

from sar1m.core.sphere import TURNS_DEG
from sar1m.io.header import RasterHeader, read_header
from sar1m.io.stated import UNDESCRIBED, Stated
from sar1m.records import F64
from sar1m.store.errors import ConfigError, SourceError

Datum = Literal["egm2008", "egm96", "ellipsoid"]
DatumSetting = Literal["auto", "egm2008", "egm96", "ellipsoid"]

LONLAT_WKT: Final = CRS.from_epsg(4326).to_wkt()

_COPERNICUS: Final = re.compile(r"(Copernicus_DSM_(?:COG_)?(10|30))_([NS])(\d\d)_00_([EW])(\d{3})_00_DEM\.tiff?", re.I)
_SPACING_ARCSEC: Final = {"10": 1.0, "30": 3.0}  # the names count tenths of arc-seconds
_LON_THINNING: Final = ((85, 10.0), (80, 5.0), (70, 3.0), (60, 2.0), (50, 1.5), (0, 1.0))  # from a latitude on
_VERTICAL_CODES: Final[dict[int, Datum]] = {3855: "egm2008", 5773: "egm96"}
_GEDTM: Final = re.compile(r"(?<![a-z])gedtm", re.I)
_GEOID_FOLDER: Final = "geoid"


@dataclass(frozen=True, kw_only=True)
class CopernicusName:
    """The parts of a tile's name.

    prefix: the name up to the resolution. lat, lon: degrees of the south-west corner.
    """

    prefix: str
    lat: int
    lon: int
    lat_spacing_deg: float
    lon_spacing_deg: float

    @property
    def file_name(self) -> str:
        """The name that this tile is downloaded under."""
        north_south = f"{'S' if self.lat < 0 else 'N'}{abs(self.lat):02d}_00"
        east_west = f"{'W' if self.lon < 0 else 'E'}{abs(self.lon):03d}_00"
        return f"{self.prefix}_{north_south}_{east_west}_DEM.tif"

    @property
    def edges_deg(self) -> tuple[float, float, float, float]:
        """West, south, east and north edge of the tile's pixels. Posts on whole degrees are the centres of pixels."""
        left, top = self.lon - self.lon_spacing_deg / 2, self.lat + 1 + self.lat_spacing_deg / 2
        return (left, top - 1, left + 1, top)


@dataclass(frozen=True, kw_only=True, eq=False)
class Sheet:
    """Rasters in one coordinate system; numbers are in its units.

    edges: (N, 4) left, bottom, right, top. spacing: (N,) the larger side of a pixel.
    """

    crs_wkt: str
    geographic: bool
    paths: tuple[Path, ...]
    edges: F64
    spacing: F64

    def touching(self, x: F64, y: F64, margin_px: float) -> Iterator[tuple[Path, float]]:
        """The rasters near the bounding box of points, within margin_px of their own pixels.

        Each comes with the number of degrees to add to its longitudes: whole turns, where the points' longitudes
        continue beyond 180 degrees.
        """
        reach = margin_px * self.spacing
        left, bottom, right, top = self.edges.T
        level = (bottom - reach <= y.max()) & (top + reach >= y.min())
        for turn in TURNS_DEG if self.geographic else (0.0,):
            beside = (left + turn - reach <= x.max()) & (right + turn + reach >= x.min())
            for index in np.flatnonzero(level & beside):
                yield self.paths[index], turn


class _Placed(NamedTuple):
    """A raster, its left, bottom, right and top edge, and the larger side of its pixels."""

    path: Path
    edges: tuple[float, float, float, float]
    spacing: float


def copernicus_name(lat: int, lon: int, prefix: str) -> CopernicusName:
    """The name of the tile with a south-west corner, in the family that the prefix names."""
    latitude = max(abs(lat + 0.5) - 0.5, 0)
    thinning = next(factor for start, factor in _LON_THINNING if latitude >= start)
    spacing_deg = _SPACING_ARCSEC[prefix[-2:]] / 3600
    return CopernicusName(
        prefix=prefix, lat=lat, lon=lon, lat_spacing_deg=spacing_deg, lon_spacing_deg=spacing_deg * thinning
    )


def parse_copernicus_name(path: Path) -> CopernicusName | None:
    """The parts of a Copernicus DEM tile's file name, or None for any other name."""
    match = _COPERNICUS.fullmatch(path.name)
    if match is None:
        return None
    prefix, _, north_south, lat, east_west, lon = match.groups()
    south, west = north_south.upper() == "S", east_west.upper() == "W"
    return copernicus_name(-int(lat) if south else int(lat), -int(lon) if west else int(lon), prefix)


def list_rasters(places: Sequence[Path]) -> tuple[Path, ...]:
    """The GeoTIFF files at places: files as they are, folders with all subfolders, sorted.

    Folders named geoid are left out, and so are the layers delivered with Copernicus heights (masks, error maps).
    Raises SourceError for a folder without a raster.
    """
    paths = [path for place in places for path in _rasters_at(place)]
    return tuple(dict.fromkeys(path.absolute() for path in paths))


def _rasters_at(place: Path) -> list[Path]:
    if not place.is_dir():
        return [place]  # where it cannot be read, raster_open.py reports it
    found = [
        path
        for path in sorted(place.rglob("*"))
        if path.suffix.lower() in (".tif", ".tiff")
        and _GEOID_FOLDER not in path.relative_to(place).parts
        and (parse_copernicus_name(path) or not path.name.startswith("Copernicus_DSM_"))
    ]
    if not found:
        raise SourceError(
            f"{place}: no elevation raster in it. Expected GeoTIFF files such as Copernicus GLO-30 tiles."
        )
    return found


def checked_header(path: Path) -> RasterHeader:
    """The header of an elevation raster.

    Raises SourceError where the raster is not north-up or not in degrees or a length, has several bands, or is not at
    the position that its Copernicus name states.
    """
    header = read_header(path)
    values = header.bands - len(header.alpha)
    if values != 1:
        raise SourceError(
            f"{path}: has {values} bands; an elevation raster has one. Write it alone: gdal_translate -b 1."
        )
    if header.turn is not None and abs(header.turn - 360) > 1e-6:
        raise SourceError(
            f"{path}: its coordinates are angles, but not degrees. Move it with gdalwarp -t_srs EPSG:4326."
        )
    a, b, _, d, e, _ = header.transform
    if b or d or a <= 0 or e >= 0:
        raise SourceError(f"{path}: not north-up. Turn it with gdalwarp first.")
    name = parse_copernicus_name(path)
    if name is None:
        return header
    off = np.abs(np.subtract(header_edges(header), name.edges_deg)).max()
    if not (CRS.from_wkt(header.crs_wkt).is_geographic or header.epsg == 4326) or off > 2.5 * name.lon_spacing_deg:
        raise SourceError(
            f"{path}: covers {header_edges(header)}, but the tile of this name covers {name.edges_deg} degrees. "
            "Fetch it again, or rename it where it is another raster."
        )
    return header


def known_heights(header: RasterHeader) -> Stated:
    """What is known of an elevation raster's numbers beside what it states.

    GEDTM30 stores decimetres and does not say so. Raises SourceError for any other raster of 32-bit integers without a
    scale: whole metres need 16 bits, so its numbers are no metres.
    Source: the table of scales of https://github.com/openlandmap/GEDTM30.
    """
    if header.stated[0].scale is not None or header.dtype not in ("int32", "uint32"):
        return UNDESCRIBED
    if _GEDTM.search(Path(header.name).name):
        return Stated(by="the documentation of GEDTM30", scale=0.1)
    raise SourceError(
        f"{header.name}: stores heights as {header.dtype} and states no scale. Whole metres need 16 bits, so these may "
        "be decimetres or centimetres: state the scale with gdal_edit.py -scale 0.1 (or 0.01). If they are metres, "
        "write them with gdal_translate -ot Int16."
    )


def header_edges(header: RasterHeader) -> tuple[float, float, float, float]:
    """Left, bottom, right, top of a north-up raster, in units of its system."""
    a, _, left, _, e, top = header.transform
    return (left, top + e * header.rows, left + a * header.cols, top)


def sheets_of(paths: Sequence[Path]) -> tuple[tuple[Sheet, ...], dict[Path, Datum | None]]:
    """Rasters grouped by coordinate system, and the vertical datum of each, None where it is not stated.

    Raises SourceError or ConfigError as checked_header and stated_datum do.
    """
    placed: dict[str, list[_Placed]] = {}
    datums: dict[Path, Datum | None] = {}
    for path in paths:
        name = parse_copernicus_name(path)
        if name is not None:
            placed.setdefault(LONLAT_WKT, []).append(_Placed(path, name.edges_deg, name.lon_spacing_deg))
            datums[path] = "egm2008"
            continue
        header = checked_header(path)
        spacing = max(header.transform[0], -header.transform[4])
        placed.setdefault(horizontal_wkt(header.crs_wkt), []).append(_Placed(path, header_edges(header), spacing))
        datums[path] = stated_datum(header)
    return tuple(_sheet(wkt, rasters) for wkt, rasters in placed.items()), datums


def _sheet(crs_wkt: str, rasters: Sequence[_Placed]) -> Sheet:
    return Sheet(
        crs_wkt=crs_wkt,
        geographic=CRS.from_wkt(crs_wkt).is_geographic,
        paths=tuple(raster.path for raster in rasters),
        edges=np.asarray([raster.edges for raster in rasters]),
        spacing=np.asarray([raster.spacing for raster in rasters]),
    )


@lru_cache(maxsize=256)
def horizontal_wkt(crs_wkt: str) -> str:
    """A system without its vertical part. All ways to write WGS 84 in degrees give the same text."""
    crs = CRS.from_wkt(crs_wkt)
    flat = crs.sub_crs_list[0] if crs.is_compound else crs.to_2d()
    return LONLAT_WKT if flat.to_epsg() == 4326 else str(flat.to_wkt())


def stated_datum(header: RasterHeader) -> Datum | None:
    """The vertical datum in a raster's coordinate system; None where that has no vertical part.

    Raises ConfigError for a vertical system other than EGM2008, EGM96 and the ellipsoid, or one not in metres.
    """
    datum = _datum_of(header.crs_wkt)
    if datum is None or datum in ("egm2008", "egm96", "ellipsoid"):
        return datum  # type: ignore[return-value]
    raise ConfigError(
        f"{header.name}: its vertical datum is {datum}. Expected EGM2008 (EPSG:3855), EGM96 (EPSG:5773) or heights "
        "above the ellipsoid, in metres. Convert it with gdalwarp -t_srs EPSG:4979 and use the result."
    )


@lru_cache(maxsize=256)
def _datum_of(crs_wkt: str) -> str | None:
    crs = CRS.from_wkt(crs_wkt)
    if len(crs.axis_info) < 3:
        return None
    factor = crs.axis_info[2].unit_conversion_factor
    if factor not in (1.0, 0.0):
        return f"{crs.name} in units of {factor:g} m"
    if not crs.is_compound:
        return "ellipsoid"
    vertical = crs.sub_crs_list[1]
    return _VERTICAL_CODES.get(vertical.to_epsg() or 0, vertical.name)


def common_datum(datums: dict[Path, Datum | None], setting: DatumSetting) -> Datum:
    """The common vertical datum of a set of rasters.

    datums: of each raster, None where it states none. setting: of the configuration.
    Raises ConfigError where a raster contradicts the setting or another raster, and where the setting is auto and a
    raster states no datum: heights wrongly taken as ellipsoidal are wrong by up to 100 m, and nothing shows it.
    """
    named = {path for path in datums if parse_copernicus_name(path)}
    for path, stated in datums.items():
        if setting == "auto" and stated is None:
            raise ConfigError(
                f"{path}: does not state its vertical datum. Set safe.dem_datum: egm96 (SRTM, most older models), "
                "egm2008 (Copernicus, recent ones) or ellipsoid."
            )
        if setting != "auto" and stated not in (None, setting) and path not in named:
            raise ConfigError(
                f"{path}: states heights above {stated}, the setting says {setting}. Set datum to auto, or correct "
                "the file with gdal_edit.py -a_srs."
            )
    if setting != "auto":
        return setting
    first, *others = datums.items()
    other = next((item for item in others if item[1] != first[1]), None)
    if other is not None:
        raise ConfigError(
            f"{first[0]} has heights above {first[1]}, {other[0]} above {other[1]}. Use rasters of one vertical datum."
        )
    return first[1] or "ellipsoid"
