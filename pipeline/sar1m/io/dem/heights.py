"""Heights above the WGS 84 ellipsoid on a map grid, from elevation rasters.

    the user's rasters ──▶ sheets (one for each coordinate system) ──▶ lattices ──▶ mosaic around the grid ──▶ pixels
    sheets.py: names, headers, vertical datum                         mosaic.py: seams, holes, sea         kernel.py

Geocoding needs heights above the ellipsoid, but elevation models give heights above a geoid. A model whose datum is
unknown and a machine without a geoid grid are therefore refused: an undulation of 0 is never assumed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np

from sar1m.core.sphere import near_to, wrapped
from sar1m.core.utm import lonlat_from_utm
from sar1m.io.dem.kernel import fill_missing
from sar1m.io.dem.mosaic import MARGIN_PX, Mosaic, continue_beyond, moved, post_lattices, read_mosaic
from sar1m.io.dem.sheets import (
    LONLAT_WKT,
    CopernicusName,
    Datum,
    DatumSetting,
    Sheet,
    common_datum,
    copernicus_name,
    list_rasters,
    parse_copernicus_name,
    sheets_of,
)
from sar1m.io.geoid import Geoid, find_geoid, known_digest, no_geoid
from sar1m.records import F64, RasterGrid
from sar1m.store.errors import SourceError

ZERO_GEOID: Final = "0 everywhere"
NODE_PX: Final = 32  # at most, from node to node; at 10 m a straight line errs by under 1 cm up to 75 degrees north
_DATUM_TITLES: Final[dict[Datum, str]] = {
    "egm2008": "EGM2008",
    "egm96": "EGM96",
    "ellipsoid": "heights above the ellipsoid",
}
_COPERNICUS_TITLES: Final = {"10": "COP-DEM GLO-30", "30": "COP-DEM GLO-90"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Dem:
    """Elevation rasters, and the geoid that turns their heights into heights above the ellipsoid.

    It holds paths only and can be pickled. Files are opened when heights are computed.

    geoid: None only where the rasters hold ellipsoidal heights and no geoid grid was found.
    """

    sheets: tuple[Sheet, ...]
    datum: Datum
    geoid: Geoid | None

    def heights(self, grid: RasterGrid, *, sea_level_outside: bool = False) -> F64:
        """Heights above the ellipsoid in metres at the pixel centres of a grid, (rows, cols), NaN where unknown.

        A pixel needs the four posts around it. The outermost half pixel of the area covered by rasters is therefore
        NaN, and so are pixels beside a hole. Heights do not depend on how a scene is cut into grids, except by less
        than a centimetre of position.

        sea_level_outside: whether pixels that no raster covers get the height of the geoid. Only the caller knows
            whether they are sea. Holes inside rasters stay NaN.
        Raises SourceError where a raster is damaged, misplaced or holds values that are no heights of land; ConfigError
        where sea level is asked for without a geoid grid.
        """
        lon, lat = _nodes(grid)
        undulation_m = self._undulation_m(lon, lat)
        sea_level = None if not sea_level_outside else self._sea_level_m
        heights = np.full((grid.rows, grid.cols), np.nan)
        mosaics = self._mosaics(grid, lon, lat)
        if mosaics:
            continue_beyond(mosaics, sea_level)
        elif sea_level is not None:
            surface = np.stack([np.full(lon.shape, 2.5), np.full(lon.shape, 2.5), self._required_geoid(lon, lat)])
            fill_missing(heights, surface, np.zeros((6, 6)), np.ones((6, 6), dtype=np.bool_))
        for mosaic in mosaics:
            rows, cols = mosaic.rows_cols(*_moved_nodes(lon, lat, mosaic.lattice.crs_wkt))
            fill_missing(heights, np.stack([rows, cols, undulation_m]), mosaic.values, mosaic.own)
        return heights

    def missing_tiles(self, grid: RasterGrid) -> tuple[str, ...]:
        """File names of the Copernicus tiles that a grid needs and that are missing: to be downloaded, or open sea.

        Empty where the model does not consist of Copernicus tiles. Names are those of the finest family present.
        """
        names = [name for sheet in self.sheets for path in sheet.paths if (name := parse_copernicus_name(path))]
        if not names:
            return ()
        finest = min(names, key=lambda name: name.lat_spacing_deg)
        present = {(name.lat, name.lon) for name in names}
        return tuple(
            copernicus_name(*cell, finest.prefix).file_name for cell in _cells(grid, finest) if cell not in present
        )

    def digest(self, grid: RasterGrid) -> str:
        """blake2b-128, hexadecimal, of everything that determines the heights on a grid.

        It covers the bytes of the rasters that touch the grid, in the order in which they are used, the datum and the
        geoid grid. The digest of a file is computed once in a process.
        """
        lon, lat = _nodes(grid)
        parts = [self.datum, self.geoid.digest if self.geoid else ""]
        for sheet in self.sheets:
            x, y = _moved_nodes(lon, lat, sheet.crs_wkt)
            parts += [known_digest(path) for path, _ in sheet.touching(x, y, MARGIN_PX)]
        return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()

    @property
    def description(self) -> str:
        """A text for provenance, such as `COP-DEM GLO-30 (EGM2008), geoid egm08_25`. It also states where the geoid of
        another model is used in place of the right one, or one that is 0 everywhere."""
        paths = [path for sheet in self.sheets for path in sheet.paths]
        names = [parse_copernicus_name(path) for path in paths]
        titles = sorted({_COPERNICUS_TITLES[name.prefix[-2:]] for name in names if name})
        others = [path.name for path, name in zip(paths, names, strict=True) if name is None]
        titles += others if len(others) < 2 else [f"{len(others)} rasters"]
        text = f"{' + '.join(titles)} ({_DATUM_TITLES[self.datum]})"
        if self.geoid is None or self.datum == "ellipsoid":
            return text
        if self.geoid.is_zero:
            return f"{text}, geoid {self.geoid.name}, which is {ZERO_GEOID}"
        stands_in = self.geoid.model not in (None, self.datum)
        return f"{text}, geoid {self.geoid.name}" + (f" in place of {_DATUM_TITLES[self.datum]}" if stands_in else "")

    def _undulation_m(self, lon: F64, lat: F64) -> F64:
        return np.zeros(lon.shape) if self.datum == "ellipsoid" else self._required_geoid(lon, lat)

    def _required_geoid(self, lon: F64, lat: F64) -> F64:
        if self.geoid is None:
            raise no_geoid("egm2008", "Heights of the sea")
        return self.geoid.undulation_m(lon, lat)

    def _sea_level_m(self, lon: F64, lat: F64) -> F64:
        """Heights of the sea's surface in the datum of the rasters."""
        return self._required_geoid(lon, lat) if self.datum == "ellipsoid" else np.zeros(lon.shape)

    def _mosaics(self, grid: RasterGrid, lon: F64, lat: F64) -> list[Mosaic]:
        """The mosaics of posts around a grid, finest lattice first."""
        found = []
        for sheet in self.sheets:
            x, y = _moved_nodes(lon, lat, sheet.crs_wkt)
            if not (np.isfinite(x).all() and np.isfinite(y).all()):
                continue  # the grid lies where this system has no coordinates, so none of its rasters does
            found += [(lattice, x, y) for lattice in post_lattices(sheet, x, y, self.datum)]
        found.sort(key=lambda entry: (entry[0].row_spacing_m, entry[0].col_spacing_m))
        return [read_mosaic(lattice, x, y, gsd_m=grid.gsd_m, datum=self.datum) for lattice, x, y in found]


def open_dem(places: Sequence[Path], *, datum: DatumSetting = "auto", geoid: Path | None = None) -> Dem:
    """Opens an elevation model.

    places: GeoTIFF files and folders of them, in any coordinate systems. Finer rasters take precedence.
    datum: what heights count from; `auto` takes what the rasters state (vertical coordinate system, Copernicus name).
    geoid: a grid file, or a folder that holds one under PROJ's name. None searches for a folder named geoid in or
        beside each place, then the folders where PROJ keeps grids.
    Raises SourceError where a place holds no readable raster; ConfigError where the datum is not stated, contradictory
    or unknown, or where no geoid grid is found.
    """
    paths = list_rasters(places)
    if not paths:
        raise SourceError("No elevation raster is given. Name a GeoTIFF or a folder of them.")
    sheets, datums = sheets_of(paths)
    common = common_datum(datums, datum)
    folders = [folder / "geoid" for place in places for folder in (place, place.parent)]
    model = "egm2008" if common == "ellipsoid" else common
    grid = find_geoid(model, explicit=geoid, folders=folders)
    if grid is None and common != "ellipsoid":
        raise no_geoid(model, f"{places[0]}: heights are above {_DATUM_TITLES[common]}")
    return Dem(sheets=sheets, datum=common, geoid=grid)


def _nodes(grid: RasterGrid) -> tuple[F64, F64]:
    """Longitudes and latitudes of nodes spread evenly from the first to the last pixel centre; longitudes run on."""
    rows, cols = (np.linspace(0.5, size - 0.5, -(-(size - 1) // NODE_PX) + 2) for size in (grid.rows, grid.cols))
    x_m, y_m = grid.left_m + cols[None] * grid.gsd_m, grid.top_m - rows[:, None] * grid.gsd_m
    lon, lat = lonlat_from_utm(x_m, y_m, grid.epsg)
    middle = lon[len(rows) // 2, len(cols) // 2]
    return near_to(lon, middle), lat


def _moved_nodes(lon: F64, lat: F64, crs_wkt: str) -> tuple[F64, F64]:
    return moved(lon, lat, LONLAT_WKT, crs_wkt, float(lon[lon.shape[0] // 2, lon.shape[1] // 2]))


def _cells(grid: RasterGrid, family: CopernicusName) -> list[tuple[int, int]]:
    """South-west corners of the tiles that hold the posts around a grid's pixels, sorted.

    A tile holds the posts on its western and northern edges.
    """
    lon, lat = _nodes(grid)
    cells = set()
    for up, right in product((0, 1), (0, 1)):
        posts_lat = (np.floor(lat / family.lat_spacing_deg) + up) * family.lat_spacing_deg
        south = np.ceil(np.round(posts_lat, 9)).astype(int) - 1
        for row_lat in np.unique(south):
            spacing = copernicus_name(int(row_lat), 0, family.prefix).lon_spacing_deg
            posts_lon = (np.floor(lon[south == row_lat] / spacing) + right) * spacing
            west = np.floor(np.round(posts_lon, 9)).astype(int)
            cells |= {(int(row_lat), int(value)) for value in wrapped(np.unique(west))}
    return sorted(cells)
