"""Geoid undulation: the height above the WGS 84 ellipsoid of the geoid, from which maps count heights.

The grids are read here and not by PROJ. Where PROJ finds no grid it adds 0 without a warning, and that displaces a
radar image (in Rome 48.6 m, which are 5 px). Two formats are read: .gtx (NOAA VDatum: a header of 40 bytes, then rows
from the south as 4-byte floats, all big-endian) and the GeoTIFF grids of PROJ's collection. Both hold values at nodes.

Between nodes the value is bilinear, as in PROJ. The error of that, measured on the 2.5' grid of EGM2008 thinned to 15'
(the spacing of the EGM96 grid), is 0.08 m rms and at most 2.7 m.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from pyproj import CRS
from pyproj.datadir import get_data_dir, get_user_data_dir  # type: ignore[attr-defined]  # documented, not re-exported

from sar1m.core.sphere import east_of
from sar1m.io.header import RasterHeader, read_header
from sar1m.io.raster import file_digest, read_pixels, with_side_files
from sar1m.records import F64
from sar1m.store.errors import ConfigError, SourceError

GeoidModel = Literal["egm96", "egm2008"]

GRID_NAMES: Final[dict[GeoidModel, tuple[str, ...]]] = {
    "egm2008": ("us_nga_egm08_25.tif", "egm08_25.gtx"),
    "egm96": ("us_nga_egm96_15.tif", "egm96_15.gtx"),
}
LARGEST_UNDULATION_M: Final = 120.0  # EGM2008 runs from -107 m south of India to 86 m at New Guinea

_SYSTEM_FOLDERS: Final = (Path("/usr/share/proj"), Path("/usr/local/share/proj"))
_MODEL_MARKS: Final[dict[str, GeoidModel]] = {"egm96": "egm96", "egm08": "egm2008", "egm2008": "egm2008"}
_GTX_HEADER: Final = struct.Struct(">4d2i")
_GTX_NODATA: Final = np.float32(-88.8888)
_MAX_ROWS, _MAX_COLS = 21_601, 43_202  # 0.5', both ends: the finest published global grids have 1'
_EDGE_STEPS: Final = 1e-6  # nodes are stated to about twelve digits


@dataclass(frozen=True, kw_only=True)
class Geoid:
    """A grid file of undulations. Its values are read when they are needed.

    model: None where the file's name does not contain it.
    south_deg, west_deg: of the first (south-west) node. lat_step_deg, lon_step_deg: between nodes.
    from_north: whether rows in the file run from north to south.
    """

    path: Path
    model: GeoidModel | None
    rows: int
    cols: int
    south_deg: float
    west_deg: float
    lat_step_deg: float
    lon_step_deg: float
    from_north: bool

    @property
    def name(self) -> str:
        """The file's name without its ending and PROJ's prefix for the agency."""
        return self.path.stem.removeprefix("us_nga_")

    @property
    def digest(self) -> str:
        """blake2b-128 of the file's bytes, hexadecimal."""
        return known_digest(self.path)

    @property
    def is_zero(self) -> bool:
        """Whether the grid's middle row is 0 from end to end, as that of no geoid is: a placeholder that moves nothing.

        Raises SourceError where the file cannot be read.
        """
        return not self._stored(self.rows // 2, 0, 1, self.cols).any()

    def undulation_m(self, lon_deg: npt.ArrayLike, lat_deg: npt.ArrayLike) -> F64:
        """Height of the geoid above the ellipsoid in metres at points of any shape, poles included.

        lon_deg: in any turn.
        Raises SourceError where a point lies outside a regional grid, or the grid has no value or an impossible value
        there.
        """
        lon, lat = np.broadcast_arrays(np.asarray(lon_deg, np.float64), np.asarray(lat_deg, np.float64))
        if not lon.size:
            return np.zeros(lon.shape)
        row, col = self._positions(lon, lat)
        first_row = np.minimum(np.floor(row).astype(np.int64), self.rows - 2)
        first_col = np.floor(col).astype(np.int64)
        if self._turn_cols is None:
            first_col = np.minimum(first_col, self.cols - 2)
        top, left = int(first_row.min()), int(first_col.min())
        nodes = self._nodes(top, left, int(first_row.max()) + 2 - top, int(first_col.max()) + 2 - left)
        down, right = row - first_row, col - first_col
        i, j = first_row - top, first_col - left
        upper = nodes[i, j] * (1 - right) + nodes[i, j + 1] * right
        lower = nodes[i + 1, j] * (1 - right) + nodes[i + 1, j + 1] * right
        return np.asarray(upper * (1 - down) + lower * down)

    @property
    def _turn_cols(self) -> int | None:
        """Number of columns in 360 degrees of longitude; None for a regional grid."""
        turn = round(360 / self.lon_step_deg)
        whole = abs(turn * self.lon_step_deg - 360) < _EDGE_STEPS * 360 and self.cols >= turn
        return turn if whole else None

    def _positions(self, lon: F64, lat: F64) -> tuple[F64, F64]:
        """Rows from the south and columns from the west.

        Columns of a global grid continue from one turn into the next, so that neighbours stay neighbours.
        """
        row = (lat - self.south_deg) / self.lat_step_deg
        slack_deg = _EDGE_STEPS * self.lon_step_deg
        if self._turn_cols is None:
            col = east_of(lon, self.west_deg, least=-slack_deg) / self.lon_step_deg
            beyond = (col > self.cols - 1 + _EDGE_STEPS) | ~np.isfinite(col)
        else:
            middle = float(lon.flat[0])
            middle_col = east_of(middle, self.west_deg, least=0.0) / self.lon_step_deg
            col = middle_col + east_of(lon, middle) / self.lon_step_deg
            beyond = ~np.isfinite(col)
        beyond = beyond | ~((row >= -_EDGE_STEPS) & (row <= self.rows - 1 + _EDGE_STEPS))
        if beyond.any():
            where = f"longitude {lon[beyond].flat[0]:.4f}, latitude {lat[beyond].flat[0]:.4f}"
            raise SourceError(
                f"{self.path}: this geoid grid does not reach {where}. Give a global grid such as egm08_25."
            )
        return np.clip(row, 0, self.rows - 1), col

    def _nodes(self, top: int, left: int, rows: int, cols: int) -> F64:
        """Checked values of a window of nodes, rows from the south. Columns may continue into the next turn."""
        pieces = [self._stored(top, first, rows, taken) for first, taken in self._runs(left, cols)]
        values = np.concatenate(pieces, axis=1)
        wrong = ~(np.abs(values) <= LARGEST_UNDULATION_M)
        if wrong.any():
            raise SourceError(
                f"{self.path}: holds {values[wrong].flat[0]:g} where an undulation within {LARGEST_UNDULATION_M:g} m "
                "is expected: no value there, not a geoid grid, or damaged. Fetch it again or give another grid."
            )
        return values

    def _runs(self, left: int, cols: int) -> Iterator[tuple[int, int]]:
        """First stored column and number of columns of each run that makes up cols columns from left on."""
        stop = left + cols
        turn = self._turn_cols
        while left < stop:
            first = left if turn is None else left % turn
            taken = min(stop - left, self.cols - first)
            yield first, taken
            left += taken

    def _stored(self, top: int, left: int, rows: int, cols: int) -> F64:
        if self.from_north:
            first = self.rows - top - rows
            return read_pixels(self.path, top=first, left=left, rows=rows, cols=cols)[::-1]
        shape = (self.rows, self.cols)
        try:
            nodes = np.memmap(self.path, dtype=">f4", mode="r", offset=_GTX_HEADER.size, shape=shape)
        except (OSError, ValueError) as error:
            raise SourceError(f"{self.path}: cannot be read any more: {error}. Fetch or copy it again.") from error
        values = np.asarray(nodes[top : top + rows, left : left + cols])
        return np.where(values == _GTX_NODATA, np.nan, values.astype(np.float64))


def known_digest(path: Path) -> str:
    """The raster_digest of a file; its own bytes are read once in a process for each size and time of it.

    Raises SourceError.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}. Check its name and permissions.") from error
    return with_side_files(_digest_of_state(path, status.st_size, status.st_mtime_ns), path)


@lru_cache(maxsize=4096)
def _digest_of_state(path: Path, _size: int, _mtime_ns: int) -> str:
    return file_digest(path)


def read_geoid(path: Path) -> Geoid:
    """Reads the header of a grid file. Values are read when they are needed.

    Raises SourceError where the file is missing, truncated, of an impossible size or step, or not a grid in degrees.
    """
    if path.suffix.lower() == ".gtx":
        return _checked(_read_gtx(path))
    return _checked(_from_header(path, read_header(path)))


def _model(path: Path) -> GeoidModel | None:
    return next((model for mark, model in _MODEL_MARKS.items() if mark in path.name.lower()), None)


def _read_gtx(path: Path) -> Geoid:
    try:
        with path.open("rb") as stream:
            head = stream.read(_GTX_HEADER.size)
            size = os.fstat(stream.fileno()).st_size
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}. Expected a geoid grid.") from error
    if len(head) < _GTX_HEADER.size:
        raise SourceError(f"{path}: {size} bytes are too few for a .gtx grid. Fetch or copy it again.")
    south, west, lat_step, lon_step, rows, cols = _GTX_HEADER.unpack(head)
    expected = _GTX_HEADER.size + 4 * rows * cols
    if size != expected:
        raise SourceError(
            f"{path}: has {size} bytes, but its header announces {rows} x {cols} nodes, which take {expected}: "
            "truncated or not a .gtx grid. Fetch or copy it again."
        )
    return Geoid(
        path=path,
        model=_model(path),
        rows=rows,
        cols=cols,
        south_deg=south,
        west_deg=west,
        lat_step_deg=lat_step,
        lon_step_deg=lon_step,
        from_north=False,
    )


def _from_header(path: Path, header: RasterHeader) -> Geoid:
    a, b, c, d, e, f = header.transform
    if not CRS.from_wkt(header.crs_wkt).is_geographic or b or d or a <= 0 or e >= 0:
        raise SourceError(f"{path}: not a north-up grid in degrees. Give a geoid grid such as us_nga_egm08_25.tif.")
    return Geoid(
        path=path,
        model=_model(path),
        rows=header.rows,
        cols=header.cols,
        south_deg=f + e * (header.rows - 0.5),
        west_deg=c + a / 2,
        lat_step_deg=-e,
        lon_step_deg=a,
        from_north=True,
    )


def _checked(geoid: Geoid) -> Geoid:
    """The same grid. Raises SourceError where its header is impossible. Every comparison is false for NaN."""
    sizes = 2 <= geoid.rows <= _MAX_ROWS and 2 <= geoid.cols <= _MAX_COLS
    steps = 0 < geoid.lat_step_deg <= 90 and 0 < geoid.lon_step_deg <= 90 and abs(geoid.west_deg) <= 540
    north_deg = geoid.south_deg + (geoid.rows - 1) * geoid.lat_step_deg
    if not (sizes and steps and geoid.south_deg >= -90 - 1e-6 and north_deg <= 90 + 1e-6):
        raise SourceError(
            f"{geoid.path}: announces {geoid.rows} x {geoid.cols} nodes, latitudes {geoid.south_deg:g} to "
            f"{north_deg:g}, longitudes from {geoid.west_deg:g} in steps of {geoid.lon_step_deg:g} degrees: not a "
            "geoid grid of the Earth, or damaged. Fetch it again or give another grid."
        )
    return geoid


def find_geoid(model: GeoidModel, *, explicit: Path | None, folders: Sequence[Path]) -> Geoid | None:
    """The grid to use for heights above the geoid of a model; None where none is found.

    It is the first file with one of PROJ's names in the folders, then in PROJ's data folders, then in the system's.
    Where no grid of the model is found, a grid of the other model is taken. That is better than a refusal: most
    machines have only Debian's EGM96, and a metre of height moves a pixel by about 0.1 px. EGM2008 minus EGM96,
    measured on their grids, is 0.54 m rms, under 1.04 m on 95 % of the Earth and at most 12 m (eastern Himalaya; Alps
    2.7 m, Andes 8 m, Antarctica 10 m). The caller compares Geoid.model and records the difference.

    explicit: a file, which is then used, or a folder, which alone is then searched.
    Raises SourceError for a damaged grid.
    """
    if explicit is not None and not explicit.is_dir():
        return read_geoid(explicit)
    places = [*folders, *_proj_folders()] if explicit is None else [explicit]
    other: GeoidModel = "egm96" if model == "egm2008" else "egm2008"
    names = (*GRID_NAMES[model], *GRID_NAMES[other])
    candidates = (folder / name for name in names for folder in places)
    found = next((path for path in candidates if path.is_file()), None)
    return None if found is None else read_geoid(found)


def _proj_folders() -> list[Path]:
    """The folders of pyproj, of PROJ_DATA (which pyproj's wheels ignore) and of the system."""
    listed = f"{get_data_dir()}{os.pathsep}{os.environ.get('PROJ_DATA', '')}".split(os.pathsep)
    return [*(Path(place) for place in listed if place), Path(get_user_data_dir()), *_SYSTEM_FOLDERS]


def no_geoid(model: GeoidModel, purpose: str) -> ConfigError:
    """The error for a machine without any grid. purpose: what needs one."""
    name = GRID_NAMES[model][0]
    return ConfigError(
        f"{purpose}: no geoid grid ({', '.join(GRID_NAMES[model])}) was found, and without one every height is wrong "
        f"by up to 100 m. Install Debian's grid (apt-get install proj-data), or fetch PROJ's (pyproj sync --file "
        f"{name}), or give the path of one (safe.geoid)."
    )
