"""Polygons from a file the user gives, in lon/lat degrees.

GeoJSON is parsed here; a GeoPackage or shapefile is opened only if it begins like one: GDAL would follow whatever else
a file may contain (virtual formats reach other files and the network).
"""

from __future__ import annotations

import math
import re
import sqlite3
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import geopandas
import numpy as np
import pyogrio
import shapely
from pyproj import CRS
from pyproj.exceptions import CRSError

from sar1m.sources.regions.on_globe import polygons_on_globe
from sar1m.store.errors import RegionError, printable
from sar1m.store.side_files import read_json

SUFFIXES: Final = (".geojson", ".json", ".gpkg")
NAMED_SUFFIXES: Final = (*SUFFIXES, ".shp")  # how ecoregions are published
MAX_BYTES: Final = 2**30
_BEGINNINGS: Final = {".gpkg": b"SQLite format 3\x00", ".shp": b"\x00\x00\x27\x0a"}
_KINDS: Final = {".gpkg": "GeoPackage", ".shp": "shapefile"}
_LONGEST_NAME: Final = 256
_PARTS_DEEP: Final = 2  # a collection of multipolygons has polygons two steps down


@dataclass(frozen=True, kw_only=True, eq=False)
class _Contents:
    """What a file holds: its geometries, a name for each (None where none is asked for or given), and its coordinate
    system."""

    geometries: np.ndarray
    names: list[str | None]
    crs: CRS | None


def read_polygons(path: Path) -> tuple[list[shapely.Polygon], tuple[str, ...]]:
    """All polygons of a GeoJSON or GeoPackage file in lon/lat degrees (not yet checked for validity), and notes on
    what was done to them. West lies in -180 <= lon < 180; east may lie beyond 180.

    A file in another known system is reprojected, with a note; without one, numbers must be able to be degrees.
    Raises RegionError where the file is missing, empty, of another format, without polygons or not in lon/lat, and
    where it does not say which way round the Earth an edge goes (on_globe.py).
    """
    if not path.is_file():
        raise RegionError(f"{path}: no such file. Expected a country, four numbers, or a GeoJSON or GeoPackage file.")
    polygons, _, notes = _placed(path, SUFFIXES, None)
    return polygons, notes


def read_named_polygons(path: Path, attribute: str) -> tuple[list[shapely.Polygon], list[str | None]]:
    """All polygons of a GeoJSON, GeoPackage or shapefile in lon/lat degrees, and what an attribute calls each; None
    where it is empty.

    Raises RegionError as read_polygons, and where no polygon has the attribute.
    """
    if not path.is_file():
        raise RegionError(f"{path}: no such file. Expected polygons in one of {', '.join(NAMED_SUFFIXES)}.")
    polygons, names, _ = _placed(path, NAMED_SUFFIXES, attribute)
    return polygons, names


def _placed(
    path: Path, suffixes: tuple[str, ...], attribute: str | None
) -> tuple[list[shapely.Polygon], list[str | None], tuple[str, ...]]:
    suffix, size = path.suffix.lower(), path.stat().st_size
    if suffix not in suffixes:
        raise RegionError(f"{path}: not a vector file that is read here. Expected one of {', '.join(suffixes)}.")
    if size == 0:
        raise RegionError(f"{path}: the file is empty. Expected polygons in GeoJSON or GeoPackage.")
    if size > MAX_BYTES:
        raise RegionError(f"{path}: has {size:,} bytes, over the {MAX_BYTES:,} that are read. Thin its outlines.")
    read = _from_gdal if suffix in _BEGINNINGS else _from_geojson
    contents = read(path, attribute)
    parts, names = _parts(contents)
    polygons = [part for part in parts if part.geom_type == "Polygon" and not part.is_empty]
    others = Counter(part.geom_type for part in parts if part.geom_type != "Polygon" and not part.is_empty)
    if not polygons:
        kinds = sorted({part.geom_type for part in parts}) or ["nothing"]
        raise RegionError(f"{path}: no polygon with an inside; found {', '.join(kinds)}. Draw the area as polygons.")
    if others:  # of places to leave out, each would be a leak
        found = ", ".join(f"{count} {kind}" for kind, count in sorted(others.items()))
        raise RegionError(
            f"{path}: holds {found} beside its polygons. Points and lines have no area: draw polygons around them, or "
            "remove them."
        )
    named = [name for part, name in zip(parts, names, strict=True) if part.geom_type == "Polygon" and not part.is_empty]
    placed, owner, notes = polygons_on_globe(polygons, contents.crs, str(path))
    return placed, [named[number] for number in owner], notes


def _parts(contents: _Contents) -> tuple[list[Any], list[str | None]]:
    """Single geometries, and the name of the one that each is a part of."""
    parts, owner = shapely.force_2d(contents.geometries), np.arange(len(contents.geometries))
    for _ in range(_PARTS_DEEP):
        parts, inside = shapely.get_parts(parts, return_index=True)
        owner = owner[inside]
    return parts.tolist(), [contents.names[number] for number in owner]


def _from_geojson(path: Path, attribute: str | None) -> _Contents:
    remedy = "Expected a Feature, a FeatureCollection or a geometry in GeoJSON."
    document = read_json(path, error=RegionError, remedy=remedy, max_bytes=MAX_BYTES)
    try:
        features = _features(document)
        with np.errstate(invalid="ignore"):  # not-a-number coordinates are reported below, with the file's name
            shapes = np.asarray([shapely.geometry.shape(feature["geometry"]) for feature in features], dtype=object)
        properties = [] if attribute is None else [(feature.get("properties") or {}) for feature in features]
        names = [_name(one.get(attribute)) for one in properties] or [None] * len(shapes)
    except _UNFIT as error:
        raise RegionError(
            f"{path}: not a GeoJSON file: {_short(error)}. Expected a Feature, a FeatureCollection or a geometry."
        ) from error
    if attribute is not None and not any(attribute in one for one in properties):
        raise _no_attribute(path, attribute, sorted({str(key)[:40] for one in properties for key in one}))
    return _Contents(geometries=shapes, names=names, crs=_geojson_crs(document, path))


def _geojson_crs(document: Mapping[str, Any], path: Path) -> CRS | None:
    named = document.get("crs")  # of the 2008 format; the present one (RFC 7946) is always WGS 84
    if not named:
        return None
    try:
        return CRS.from_user_input(named["properties"]["name"])
    except (CRSError, KeyError, TypeError, ValueError) as error:
        raise RegionError(
            f"{path}: the coordinate system {repr(named)[:140]} is not known. Convert the file to WGS 84."
        ) from error


def _features(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Features of a GeoJSON document; those without a geometry are passed over."""
    kind = document["type"]
    if kind == "FeatureCollection":
        return [feature for feature in document["features"] if feature["geometry"]]
    if kind == "Feature":
        return [document] if document["geometry"] else []
    return [{"geometry": document}]


def _from_gdal(path: Path, attribute: str | None) -> _Contents:
    beginning, kind = _BEGINNINGS[path.suffix.lower()], _KINDS[path.suffix.lower()]
    with path.open("rb") as stream:
        if stream.read(len(beginning)) != beginning:
            raise RegionError(f"{path}: not a {kind}: it does not begin like one.")
    try:
        if kind == "GeoPackage":
            _require_plain_tables(path)
        spatial = [name for name, geometry in pyogrio.list_layers(path) if geometry]
        if len(spatial) != 1:
            raise RegionError(f"{path}: has {len(spatial)} layers with geometries ({spatial}). Expected exactly one.")
        fields = pyogrio.read_info(path, layer=spatial[0])["fields"].tolist()
        if attribute is not None and attribute not in fields:
            raise _no_attribute(path, attribute, fields)
        columns = [] if attribute is None else [attribute]
        table = geopandas.read_file(path, layer=spatial[0], columns=columns)
    except (*_UNFIT, pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise RegionError(f"{path}: not a readable {kind}: {_short(error)}") from error
    table = table[table.geometry.notna()]
    names = [None if attribute is None else _name(one) for one in table.get(attribute, [None] * len(table))]
    return _Contents(geometries=table.geometry.to_numpy(), names=names, crs=table.crs)


def _require_plain_tables(path: Path) -> None:
    """Refuses views and virtual tables.

    A view is a program that may never end, and a virtual table may reach other files. The only virtual table that
    GeoPackages need is the spatial index (OGC 12-128r18, annex F.3).
    """
    with closing(sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1", uri=True)) as base:
        layers = base.execute("SELECT type, name, sql FROM sqlite_master WHERE type IN ('view', 'table')").fetchall()
    for kind, name, sql in layers:
        virtual = re.match(r"\s*CREATE\s+VIRTUAL\b(?!.*\bUSING\s+rtree\b)", str(sql), re.IGNORECASE | re.DOTALL)
        if kind == "view" or virtual:
            raise RegionError(f"{path}: {repr(name)[:80]} is no table but a program. Write the layer to a plain file.")


_UNFIT: Final = (
    sqlite3.Error,
    NameError,  # an UnboundLocalError of geopandas where a coordinate system cannot be decoded
    *(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError),
    shapely.errors.ShapelyError,
)


def _no_attribute(path: Path, attribute: str, known: list[str]) -> RegionError:
    return RegionError(
        f"{path}: no polygon has an attribute {attribute!r}. It has {', '.join(known[:20]) or 'none'}: set "
        "balance.ecoregion_name to the one with the names."
    )


def _name(value: object) -> str | None:
    """An attribute as text without spaces around it. A whole number, as files store ids, loses its fraction. None where
    nothing is given."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        value = int(value) if value.is_integer() else value
    text = "" if value is None or isinstance(value, list | dict) else str(value).strip()
    return text[:_LONGEST_NAME] or None


def _short(error: Exception) -> str:
    return printable(str(error)[:200])  # it may quote the file
