"""Polygons of any coordinate system as polygons in degrees whose longitudes run on: the one way from a file of polygons
to the globe, for regions, places to leave out and ecoregions alike.

In a system of degrees an edge is a straight line in longitude and latitude, as GeoJSON has it, and its corners say all.
In a projected system an edge is straight on the map and bent in degrees: it is divided before it is reprojected.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import shapely
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError
from shapely.affinity import translate

from sar1m.core.sphere import KM_PER_DEGREE, TURNS_DEG, near_to, running_on, turns_home, turns_to
from sar1m.records import F64
from sar1m.store.errors import RegionError

STEP_M: Final = 10_000.0  # of a divided edge; a parallel bends by 3 m over it at 60 degrees, by 11 m at 80
MOST_POINTS: Final = 20_000_000  # of all divided edges of a file
_WGS84: Final = CRS.from_epsg(4326)
_TURN_DEG: Final = 360.0
_ROUNDING_DEG: Final = 1e-9


def polygons_on_globe(
    polygons: Sequence[shapely.Polygon], crs: CRS | None, origin: str
) -> tuple[list[shapely.Polygon], list[int], tuple[str, ...]]:
    """The same areas in degrees on WGS 84; for each polygon the position of the one it comes from; and notes on what
    was done.

    West lies in -180 <= lon < 180; east may lie beyond 180. A polygon around a pole spans 360 degrees and reaches the
    pole. Polygons that are right as they stand are handed on untouched. crs: None means degrees on WGS 84.

    Raises RegionError, beginning with origin, where coordinates cannot be degrees or leave the Earth, where the system
    has no place on Earth, and where an edge in degrees is more than 180 long: whether it crosses the antimeridian or
    goes the long way round is then not said.
    """
    if crs is None or _is_degrees(crs):
        placed = _from_degrees(polygons, crs, origin)
        return placed, list(range(len(placed))), () if crs is None or _is_wgs84(crs) else (_note(crs, origin),)
    if not (crs.is_projected or crs.is_geographic):
        raise _no_place(crs, origin)
    parts: list[shapely.Polygon] = []
    owner: list[int] = []
    transformer, step = _transformer(crs, origin), _step(crs)
    if not np.all(np.isfinite(shapely.get_coordinates(polygons))):
        raise _not_finite(origin)
    if sum(polygon.length for polygon in polygons) / step > MOST_POINTS:
        raise RegionError(f"{origin}: its outlines are too long for the Earth. Check its coordinate system.")
    for number, polygon in enumerate(polygons):
        for part in _unrolled(shapely.segmentize(polygon, step), transformer, origin):
            parts.append(_home(part))
            owner.append(number)
    return parts, owner, (_note(crs, origin),)


def _is_degrees(crs: CRS) -> bool:
    """Whether coordinates are longitude and latitude; those of a globe with a rotated pole are not."""
    return bool(crs.is_geographic and not crs.is_derived)


def _is_wgs84(crs: CRS) -> bool:
    return bool(crs.equals(_WGS84, ignore_axis_order=True))


def _note(crs: CRS, origin: str) -> str:
    return f"{origin.rpartition('/')[2]}: reprojected from {crs.name} to WGS 84 degrees"


def _no_place(crs: CRS, origin: str) -> RegionError:
    return RegionError(f"{origin}: {crs.name!r} has no place on Earth. Convert the file to WGS 84.")


def _transformer(crs: CRS, origin: str) -> Transformer:
    try:
        return Transformer.from_crs(crs, _WGS84, always_xy=True)
    except ProjError as error:  # of another planet, for one
        raise _no_place(crs, origin) from error


# ---- degrees ----


def _from_degrees(polygons: Sequence[shapely.Polygon], crs: CRS | None, origin: str) -> list[shapely.Polygon]:
    unit_deg, greenwich_deg = _degree_units(crs)
    in_degrees = list(polygons)
    if (unit_deg, greenwich_deg) != (1.0, 0.0):
        in_degrees = [shapely.transform(one, lambda xy: xy * unit_deg + [greenwich_deg, 0.0]) for one in polygons]
    _require_degrees(in_degrees, origin)
    _require_short_edges(in_degrees, origin)
    if crs is not None and not _is_wgs84(crs):
        transformer = _transformer(crs, origin)
        in_degrees = [_on_wgs84(*pair, transformer, origin) for pair in zip(polygons, in_degrees, strict=True)]
    return [_home(polygon) for polygon in in_degrees]


def _degree_units(crs: CRS | None) -> tuple[float, float]:
    """Degrees a unit of the system, and the longitude of its prime meridian."""
    if crs is None:
        return 1.0, 0.0
    meridian = crs.prime_meridian
    unit_deg = round(math.degrees(crs.axis_info[0].unit_conversion_factor), 12)
    greenwich_deg = (
        0.0 if meridian is None else float(meridian.longitude) * math.degrees(float(meridian.unit_conversion_factor))
    )
    return unit_deg, round(greenwich_deg, 9)


def _on_wgs84(
    old: shapely.Polygon, in_degrees: shapely.Polygon, transformer: Transformer, origin: str
) -> shapely.Polygon:
    """A polygon in its own units, on WGS 84; each longitude stays on the turn that it was written on."""
    rings = []
    for ring, written in zip(shapely.get_rings(old), shapely.get_rings(in_degrees), strict=True):
        lon, lat = transformer.transform(*shapely.get_coordinates(ring).T)
        rings.append(_finite(near_to(lon, shapely.get_coordinates(written)[:, 0]), lat, origin))
    return shapely.Polygon(rings[0], rings[1:])


def _require_degrees(polygons: list[shapely.Polygon], origin: str) -> None:
    """Longitudes may run to 360 on either side, as files write areas across the antimeridian."""
    west, south, east, north = shapely.total_bounds(np.asarray(polygons, dtype=object))
    lon, lat = np.max(np.abs([west, east])), np.max(np.abs([south, north]))
    found = f"x from {west:g} to {east:g}, y from {south:g} to {north:g}"
    if not np.all(np.isfinite(shapely.get_coordinates(polygons))):
        raise _not_finite(origin)
    if 90 < lat <= 180 and lon <= 90:
        raise RegionError(
            f"{origin}: looks like lat,lon order ({found}). GeoJSON has longitude first: swap the numbers."
        )
    if lon > 360 or (lat > 90 and lon > 180):
        raise RegionError(f"{origin}: the coordinates cannot be degrees ({found}). Convert the file to WGS 84 lon/lat.")
    if lat > 90:
        raise RegionError(f"{origin}: lies outside the world ({found}). Latitudes end at 90.")


def _require_short_edges(polygons: list[shapely.Polygon], origin: str) -> None:
    """An edge of exactly 360 degrees goes all around: it has no other reading."""
    rings = shapely.get_rings(np.asarray(polygons, dtype=object))
    corners, ring = shapely.get_coordinates(rings, return_index=True)
    lon, length = corners[:, 0], np.abs(np.diff(corners[:, 0]))
    all_around = np.abs(length - _TURN_DEG) <= _ROUNDING_DEG
    long_way = (np.diff(ring) == 0) & (length > 180.0 + _ROUNDING_DEG) & ~all_around
    if not long_way.any():
        return
    number = int(np.flatnonzero(long_way)[0])
    west, east = sorted((float(lon[number]), float(lon[number + 1])))
    short = _TURN_DEG - (east - west)
    raise RegionError(
        f"{origin}: an edge runs from longitude {lon[number]:g} to {lon[number + 1]:g}: {east - west:g} degrees one "
        f"way, {short:g} across the antimeridian. Which is not said. If across: cut the polygon at 180, into "
        f"one part from {east:g} to 180 and one from -180 to {west:g} (RFC 7946, section 3.1.9), or write "
        f"{west + _TURN_DEG:g} for {west:g}. If not: add a point to the edge at every 90 degrees."
    )


# ---- projected ----


def _step(crs: CRS) -> float:
    """STEP_M in the units of the first axis."""
    unit = float(crs.axis_info[0].unit_conversion_factor) or 1.0
    return math.radians(STEP_M / 1000 / KM_PER_DEGREE) / unit if crs.is_geographic else STEP_M / unit


def _unrolled(polygon: shapely.Polygon, transformer: Transformer, origin: str) -> list[shapely.Polygon]:
    """A polygon whose edges are divided, in degrees, longitudes running on."""
    rings, around_pole = [], False
    for ring in shapely.get_rings(polygon):
        corners = shapely.get_coordinates(ring)
        if not shapely.is_ccw(ring):
            corners = corners[::-1]  # so that the inside lies to the left
        lon, lat = transformer.transform(*corners.T)
        placed = _finite(running_on(lon), lat, origin)
        turn = float(np.rint((placed[-1, 0] - placed[0, 0]) / _TURN_DEG)) * _TURN_DEG
        if turn:
            # going east around a pole, the inside lies to the north; going west, to the south
            pole = math.copysign(90.0, turn)
            placed = np.vstack([placed, [[placed[-1, 0], pole], [placed[0, 0], pole]], placed[:1]])
            around_pole = True
        placed[-1] = placed[0]  # to the last bit: shapely closes a ring that is open by rounding with one more edge
        rings.append(placed)
    shell, *holes = rings
    for hole in holes:
        hole[:, 0] += turns_to(hole[:, 0].mean(), shell[:, 0].mean())
    if not around_pole:
        return [shapely.Polygon(shell, holes)]
    every_turn = [translate(shapely.Polygon(hole), turn) for hole in holes for turn in TURNS_DEG]
    left = shapely.difference(shapely.Polygon(shell), shapely.union_all(every_turn))
    return [part for part in shapely.get_parts(left).tolist() if part.geom_type == "Polygon"]


def _finite(lon: F64, lat: F64, origin: str) -> F64:
    placed = np.column_stack([lon, lat])
    if not np.all(np.isfinite(placed)):
        raise _not_finite(origin)
    return placed


def _not_finite(origin: str) -> RegionError:
    return RegionError(f"{origin}: some coordinates are not finite numbers, or leave the Earth when reprojected.")


def _home(polygon: shapely.Polygon) -> shapely.Polygon:
    """The same polygon on the turn whose west lies in -180..180; untouched where it lies there."""
    turn = float(turns_home(polygon.bounds[0]))
    return polygon if turn == 0 else translate(polygon, turn)
