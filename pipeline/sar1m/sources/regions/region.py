"""The region of interest as the user writes it, and the grid cells it takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import shapely

from sar1m.core.grid import cells_in_box, cells_in_spans, in_order, make_cells, row_latitude_deg, rows_between
from sar1m.core.sphere import TURNS_DEG, spans_within_world
from sar1m.core.utm import NORTHERNMOST_LAT, SOUTHERNMOST_LAT, IntArray
from sar1m.records import Cell
from sar1m.sources.regions.countries import find_country, plain_name
from sar1m.sources.regions.polygon_file import SUFFIXES, read_polygons
from sar1m.store.errors import RegionError

_WORLD_CELLS: Final = 5_061_519  # cells between 80 S and 84 N


@dataclass(frozen=True, kw_only=True)
class Region:
    """Where to take samples from.

    label: fit to name a folder.
    argument: number of cells (simulated), absolute path (folder and safe: workers may run elsewhere), path (area from a
    file), else the text as given.
    geometry: lon/lat degrees, split at the antimeridian; None unless kind is area.
    notes: what was done to a file's geometry, for the user to read.
    """

    kind: Literal["sample", "simulated", "folder", "safe", "area"]
    label: str
    argument: str
    geometry: shapely.MultiPolygon | None = None
    notes: tuple[str, ...] = ()


def parse_region(text: str) -> Region:
    """The region that a text names: `sample`, `simulated:<cells>`, `folder:<path>`, `safe:<path>`, a country by name or
    ISO code, `west,south,east,north` in degrees (west > east crosses the antimeridian), or a path to GeoJSON or
    GeoPackage.

    Raises RegionError that says what is wrong with it and what would be right.
    """
    wanted = text.strip()
    if wanted.lower() == "sample":
        return Region(kind="sample", label="sample", argument="sample")
    prefixed = _PREFIXED.get(wanted.partition(":")[0].strip().lower())
    if prefixed is not None and ":" in wanted:
        return prefixed(wanted)
    if wanted.lower().startswith("/vsi") or "://" in wanted:
        raise RegionError(
            f"region {text!r}: only files on this machine are read. Download it first, then give its path."
        )
    if "," in wanted and re.match(r"[\s\d+\-.,]", wanted):
        return _box(wanted)
    if Path(wanted).suffix.lower() in SUFFIXES or "/" in wanted or ("." in wanted and Path(wanted).is_file()):
        return _from_file(wanted)
    country = find_country(wanted)
    geometry = _checked_area(country.geometry, f"region {text!r}")
    return Region(kind="area", label=_slug(country.name), argument=country.alpha_3, geometry=geometry)


def _slug(text: str) -> str:
    return plain_name(text).replace(" ", "-")


def _simulated(text: str) -> Region:
    number = text.partition(":")[2].strip()
    if not number.isascii() or not number.isdigit() or not 1 <= int(number) <= _WORLD_CELLS:
        raise RegionError(f"region {text!r}: expected simulated:<cells> with 1 to {_WORLD_CELLS} cells.")
    return Region(kind="simulated", label=f"simulated-{int(number)}", argument=str(int(number)))


def _folder(text: str) -> Region:
    named = text.partition(":")[2].strip()
    path = Path(named)
    if not named or not (path.is_dir() or (path.is_file() and path.suffix == ".csv")):
        raise RegionError(
            f"region {text!r}: {named or 'nothing'} is not an existing folder. Expected folder:<path> of a folder, or "
            "of the scenes.csv that describes one."
        )
    folder = path.resolve() if path.is_dir() else path.resolve().parent
    label = _slug(folder.name) or "root"
    return Region(kind="folder", label=f"folder-{label}", argument=str(path.absolute()))


def _safe(text: str) -> Region:
    named = text.partition(":")[2].strip()
    path = Path(named)
    if not named or not (path.is_dir() or (path.is_file() and path.suffix.lower() == ".zip")):
        raise RegionError(
            f"region {text!r}: {named or 'nothing'} is neither a folder nor a zip file. Expected safe:<path> of a "
            "folder with Sentinel-1 GRD products (*.SAFE folders or zip files), or of one product."
        )
    label = _slug(path.resolve().stem) or "root"
    return Region(kind="safe", label=f"safe-{label}", argument=str(path.absolute()))


_PREFIXED: Final[Mapping[str, Callable[[str], Region]]] = {"simulated": _simulated, "folder": _folder, "safe": _safe}


def _box(text: str) -> Region:
    try:
        edges = [float(part) for part in text.split(",")]
    except ValueError:
        edges = []
    if len(edges) != 4 or not np.all(np.isfinite(edges)):
        raise RegionError(f"region {text!r}: expected four numbers west,south,east,north in degrees.")
    west, south, east, north = edges
    if max(abs(south), abs(north)) > 90 and max(abs(west), abs(east)) <= 90:
        raise RegionError(
            f"region {text!r}: looks like lat,lon order, since {south:g} or {north:g} is no latitude. "
            f"Expected west,south,east,north: try {south:g},{west:g},{north:g},{east:g}."
        )
    if max(abs(west), abs(east)) > 180 or max(abs(south), abs(north)) > 90:
        raise RegionError(f"region {text!r}: lies outside the world: longitudes -180..180, latitudes -90..90.")
    if south > north:
        raise RegionError(f"region {text!r}: south ({south:g}) is not below north ({north:g}). Swap them.")
    if south == north or west == east:
        raise RegionError(f"region {text!r}: the area is empty. Expected south < north and west other than east.")
    area = shapely.MultiPolygon([shapely.box(a, south, b, north) for a, b in spans_within_world(west, east) if a < b])
    label = f"box-{_degrees(west, 'EW')}-{_degrees(south, 'NS')}-{_degrees(east, 'EW')}-{_degrees(north, 'NS')}"
    crosses = f"region {text!r}: crosses 180 degrees, since west ({west:g}) is over east ({east:g})"
    notes = (crosses,) if west > east else ()
    geometry = _checked_area(area, f"region {text!r}")
    return Region(kind="area", label=label, argument=text, geometry=geometry, notes=notes)


def _degrees(value: float, letters: str) -> str:
    return f"{abs(value):.10g}{letters[value < 0]}"


def _from_file(text: str) -> Region:
    path = Path(text)
    polygons, notes = read_polygons(path)
    for polygon in polygons:
        if not polygon.is_valid:
            raise RegionError(f"{path}: a polygon crosses itself or is broken: {shapely.is_valid_reason(polygon)}.")
    area = _split_at_antimeridian(shapely.union_all(polygons))
    label = f"file-{_slug(path.stem) or 'area'}"
    return Region(kind="area", label=label, argument=text, geometry=_checked_area(area, str(path)), notes=notes)


def _split_at_antimeridian(area: shapely.Geometry) -> shapely.MultiPolygon:
    """The same area within -180..180. Files may have parts up to 360 degrees beyond."""
    if area.is_empty or (area.bounds[0] >= -180 and area.bounds[2] <= 180):
        return shapely.MultiPolygon(_polygons(area))
    parts: list[shapely.Polygon] = []
    for turn in TURNS_DEG:
        inside = shapely.intersection(area, shapely.box(turn - 180, -90, turn + 180, 90))
        parts += _polygons(shapely.transform(inside, lambda lonlat, turn=turn: lonlat - [turn, 0]))
    return shapely.MultiPolygon(_polygons(shapely.union_all(parts)))


def _polygons(geometry: shapely.Geometry) -> list[shapely.Polygon]:
    return [part for part in shapely.get_parts(geometry).tolist() if part.geom_type == "Polygon" and part.area > 0]


def _checked_area(area: shapely.MultiPolygon, origin: str) -> shapely.MultiPolygon:
    if area.is_empty or area.area == 0:
        raise RegionError(f"{origin}: the area is empty. Expected a polygon with an inside.")
    _, south, _, north = area.bounds
    if south < SOUTHERNMOST_LAT or north > NORTHERNMOST_LAT:
        raise RegionError(
            f"{origin}: reaches from latitude {south:g} to {north:g}, but the samples are in UTM, which ends at "
            f"{SOUTHERNMOST_LAT:g} and {NORTHERNMOST_LAT:g}. Cut the region there."
        )
    return area


def cell_indices(area: shapely.MultiPolygon) -> tuple[IntArray, IntArray]:
    """Row and column of the grid cells that share some area with polygons in lon/lat degrees.

    Each cell once, from south to north, then from west to east. A polygon is cut into the grid's rows; a connected
    piece of it meets exactly the cells between its westernmost and its easternmost point in that row.
    """
    rows, west, east = [], [], []
    found = []
    for polygon in area.geoms:
        bounds = polygon.bounds
        if polygon.equals(shapely.box(*bounds)):
            found.append(cells_in_box(*bounds))
            continue
        for row, piece in _pieces_by_row(polygon, rows_between(bounds[1], bounds[3])):
            rows.append(row)
            west.append(piece.bounds[0])
            east.append(piece.bounds[2])
    found.append(cells_in_spans(rows, west, east))
    return in_order(np.concatenate([row for row, _ in found]), np.concatenate([column for _, column in found]))


def _pieces_by_row(polygon: shapely.Polygon, rows: IntArray) -> list[tuple[int, shapely.Polygon]]:
    """Connected pieces of a polygon, each with its row.

    The polygon is cut in half again and again, so that no cut has to follow a long outline as a whole.
    """
    west, _, east, _ = polygon.bounds
    if len(rows) == 1:
        return [(int(rows[0]), polygon)]
    middle = len(rows) // 2
    pieces = []
    for half in (rows[:middle], rows[middle:]):
        south, north = row_latitude_deg(half[0]), row_latitude_deg(half[-1] + 1)
        cut = shapely.intersection(polygon, shapely.box(west - 1, south, east + 1, north))
        for part in _polygons(cut):
            inner = rows_between(part.bounds[1], part.bounds[3])
            pieces += _pieces_by_row(part, inner[(inner >= half[0]) & (inner <= half[-1])])
    return pieces


def cells_of(region: Region) -> list[Cell]:
    """The grid cells of an area, from south to north, then from west to east; empty for the other kinds, whose
    sources bring their own places."""
    return make_cells(*cell_indices(region.geometry)) if region.geometry is not None else []
