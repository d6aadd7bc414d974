"""Polygons from a file the user gives, in lon/lat degrees.

GeoJSON is parsed here and a GeoPackage is opened only if it begins like one: GDAL would follow whatever else a file
may contain (virtual formats reach other files and the network).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import geopandas
import numpy as np
import pyogrio
import shapely
from pyproj import CRS
from pyproj.exceptions import CRSError

from sar1m.errors import RegionError

SUFFIXES: Final = (".geojson", ".json", ".gpkg")
_SQLITE_HEADER: Final = b"SQLite format 3\x00"


def read_polygons(path: Path) -> tuple[list[shapely.Polygon], tuple[str, ...]]:
    """All polygons of a GeoJSON or GeoPackage file in lon/lat degrees (not yet checked for validity), and notes on
    what was done to them.

    A file in a known projected system is reprojected, with a note; without one, numbers must be able to be degrees.
    Raises RegionError where the file is missing, empty, of another format, without polygons or not in lon/lat.
    """
    if not path.is_file():
        raise RegionError(f"{path}: no such file. Expected a country, four numbers, or a GeoJSON or GeoPackage file.")
    if path.suffix.lower() not in SUFFIXES:
        raise RegionError(f"{path}: not a vector file that is read here. Expected one of {', '.join(SUFFIXES)}.")
    if path.stat().st_size == 0:
        raise RegionError(f"{path}: the file is empty. Expected polygons in GeoJSON or GeoPackage.")
    geometries, crs = (_from_geopackage if path.suffix.lower() == ".gpkg" else _from_geojson)(path)
    parts = shapely.get_parts(shapely.get_parts(shapely.force_2d(geometries))).tolist()
    polygons = [part for part in parts if part.geom_type == "Polygon" and not part.is_empty]
    if not polygons:
        kinds = sorted({part.geom_type for part in parts}) or ["nothing"]
        raise RegionError(f"{path}: no polygon with an inside; found {', '.join(kinds)}. Draw the area as polygons.")
    placed, notes = _to_lonlat(polygons, crs, path)
    _check_degrees(placed, path)
    return placed, notes


def _from_geojson(path: Path) -> tuple[np.ndarray, CRS | None]:
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
        with np.errstate(invalid="ignore"):  # not-a-number coordinates are reported below, with the file's name
            shapes = np.asarray([shapely.geometry.shape(item) for item in _geometry_objects(document)], dtype=object)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, shapely.errors.ShapelyError) as error:
        raise RegionError(
            f"{path}: not a GeoJSON file: {error}. Expected a Feature, a FeatureCollection or a geometry."
        ) from error
    named = document.get("crs")  # of the 2008 format; the present one (RFC 7946) is always WGS 84
    if not named:
        return shapes, None
    try:
        return shapes, CRS.from_user_input(named["properties"]["name"])
    except (CRSError, KeyError, TypeError) as error:
        raise RegionError(
            f"{path}: the coordinate system {named!r} is not known. Convert the file to WGS 84."
        ) from error


def _geometry_objects(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Geometries of a GeoJSON document; features without one are passed over."""
    kind = document["type"]
    if kind == "FeatureCollection":
        return [feature["geometry"] for feature in document["features"] if feature["geometry"]]
    if kind == "Feature":
        return [document["geometry"]] if document["geometry"] else []
    return [document]


def _from_geopackage(path: Path) -> tuple[np.ndarray, CRS | None]:
    with path.open("rb") as stream:
        if stream.read(len(_SQLITE_HEADER)) != _SQLITE_HEADER:
            raise RegionError(f"{path}: not a GeoPackage: it does not begin like an SQLite file.")
    try:
        spatial = [name for name, kind in pyogrio.list_layers(path) if kind]
        if len(spatial) != 1:
            raise RegionError(f"{path}: has {len(spatial)} layers with geometries ({spatial}). Expected exactly one.")
        table = geopandas.read_file(path, layer=spatial[0], columns=[])
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise RegionError(f"{path}: not a readable GeoPackage: {error}") from error
    return table.geometry.dropna().to_numpy(), table.crs


def _to_lonlat(polygons: list[shapely.Polygon], crs: CRS | None, path: Path) -> tuple[list[Any], tuple[str, ...]]:
    series = geopandas.GeoSeries(polygons, crs=crs)
    if crs is None or series.crs.equals(CRS.from_epsg(4326), ignore_axis_order=True):
        return polygons, ()
    if not (series.crs.is_geographic or series.crs.is_projected):
        raise RegionError(f"{path}: {series.crs.name!r} has no place on Earth. Convert the file to WGS 84.")
    return series.to_crs(4326).tolist(), (f"{path.name}: reprojected from {series.crs.name} to WGS 84 degrees",)


def _check_degrees(polygons: list[shapely.Polygon], path: Path) -> None:
    """Longitudes may run to 360 on either side, as files write areas across the antimeridian."""
    west, south, east, north = shapely.total_bounds(np.asarray(polygons, dtype=object))
    lon, lat = np.max(np.abs([west, east])), np.max(np.abs([south, north]))
    found = f"x from {west:g} to {east:g}, y from {south:g} to {north:g}"
    if not np.all(np.isfinite(shapely.get_coordinates(polygons))):
        raise RegionError(f"{path}: some coordinates are not finite numbers, or leave the Earth when reprojected.")
    if 90 < lat <= 180 and lon <= 90:
        raise RegionError(f"{path}: looks like lat,lon order ({found}). GeoJSON has longitude first: swap the numbers.")
    if lon > 360 or (lat > 90 and lon > 180):
        raise RegionError(f"{path}: the coordinates cannot be degrees ({found}). Convert the file to WGS 84 lon/lat.")
    if lat > 90:
        raise RegionError(f"{path}: lies outside the world ({found}). Latitudes end at 90.")
