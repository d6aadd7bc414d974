"""Longitudes and distances on the globe. Degrees everywhere; numpy arrays in and out.

All arithmetic with turns of the globe and with the antimeridian (180 degrees) stands here. "Running on" means that
the longitudes of one shape have no jump: they may leave -180..180 where the shape crosses the antimeridian.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from sar1m.records import F64

Box = tuple[float, float, float, float]  # west, south, east, north

EARTH_RADIUS_KM: Final = 6371.0088  # mean radius of the IUGG (Moritz 2000)
KM_PER_DEGREE: Final = np.pi * EARTH_RADIUS_KM / 180
TURNS_DEG: Final = (-360.0, 0.0, 360.0)  # added to one of two shapes, to compare them across the antimeridian


def east_of(lon: npt.ArrayLike, reference: npt.ArrayLike, *, least: float = -180.0) -> F64:
    """Degrees by which longitudes lie east of a reference.

    lon, reference: any shapes that broadcast, any turn of the globe.
    least: results lie in least <= x < least + 360. -180 gives the shorter way, negative to the west; 0 counts only
    eastwards.
    """
    offset: F64 = np.mod(_f64(lon) - _f64(reference) - least, 360.0) + least
    return offset


def wrapped(lon: npt.ArrayLike) -> F64:
    """The same longitudes in -180 <= x < 180, any shape."""
    return east_of(lon, 0.0)


def near_to(lon: npt.ArrayLike, reference: npt.ArrayLike) -> F64:
    """The same longitudes within 180 degrees of a reference, any shapes that broadcast."""
    middle = _f64(reference)
    near: F64 = middle + np.mod(_f64(lon) - middle + 180.0, 360.0) - 180.0
    return near


def turns_to(lon: npt.ArrayLike, reference: npt.ArrayLike) -> F64:
    """Whole turns in degrees (..., -360, 0, 360, ...) that, added to longitudes, bring them nearest to a reference."""
    turns: F64 = 360.0 * np.rint((_f64(reference) - _f64(lon)) / 360.0)
    return turns


def turns_home(lon: npt.ArrayLike) -> F64:
    """Whole turns in degrees that, added to longitudes, bring them into -180 <= x < 180."""
    turns: F64 = -360.0 * np.floor((_f64(lon) + 180.0) / 360.0)
    return turns


def running_on(lon: npt.ArrayLike) -> F64:
    """Longitudes (n,) along a line without jumps: each but the first within 180 degrees of the one before it."""
    steps = _f64(lon)
    return steps - 360.0 * np.concatenate([[0.0], np.cumsum(np.rint(np.diff(steps) / 360.0))])


def widest_gap(lon: npt.ArrayLike) -> tuple[float, float]:
    """The widest stretch of the circle without a point: the longitude where it ends, in 0 <= x < 360, and its width.

    lon: (n,), at least one. East of that end all points lie within 360 degrees less the width.
    """
    around = np.unique(np.mod(_f64(lon), 360.0))
    gaps = np.diff(np.append(around, around[0] + 360.0))
    widest = int(gaps.argmax())
    return float(around[(widest + 1) % around.size]), float(gaps[widest])


def spans_within_world(west: float, east: float) -> list[tuple[float, float]]:
    """The one or two parts within -180..180 of a span of longitudes.

    west: in -180..180. east: beyond 180, or smaller than west, where the span crosses the antimeridian.
    """
    if west > east:
        return [(west, 180.0), (-180.0, east)]
    return [(west, east)] if east <= 180.0 else [(west, 180.0), (-180.0, east - 360.0)]


def boxes_within_world(box: Box) -> list[Box]:
    """The one or two parts within -180..180 of a box of degrees whose east may lie beyond 180."""
    west, south, east, north = box
    return [(left, south, right, north) for left, right in spans_within_world(west, east)]


def boxes_home(boxes: npt.ArrayLike) -> F64:
    """Boxes (n, 4) of degrees whose west lies in -180..180 and whose east may lie beyond 180, with all four edges
    within -180..180: west > east where a box crosses the antimeridian, -180 and 180 where it goes all around."""
    home = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    all_around = home[:, 2] - home[:, 0] >= 360.0
    home[:, 2] -= np.where(home[:, 2] > 180.0, 360.0, 0.0)
    home[all_around, 0], home[all_around, 2] = -180.0, 180.0
    return home


def widths_deg(boxes: npt.ArrayLike) -> F64:
    """How far boxes (n, 4) reach from west to east, (n,) in 0..360; west > east means across the antimeridian."""
    west, east = _f64(boxes).reshape(-1, 4)[:, [0, 2]].T
    width = east_of(east, west, least=0.0)
    return np.where((width == 0) & (east != west), 360.0, width)


def box_around(boxes: npt.ArrayLike) -> Box:
    """The box around boxes (n, 4), n at least 1; west > east where it crosses the antimeridian (RFC 7946, section 5.2).

    It is the narrowest one. Where that would still take more than half the globe, it is the one that does not cross:
    from -180 to 180 if one of the boxes crosses.
    """
    edges = _f64(boxes).reshape(-1, 4)
    south, north = float(edges[:, 1].min()), float(edges[:, 3].max())
    start = np.mod(edges[:, 0], 360.0)
    order = np.argsort(start, kind="stable")
    start, end = start[order], (start + widths_deg(edges))[order]
    reached = np.maximum.accumulate(np.append(end.max() - 360.0, end[:-1]))  # east of all boxes that start before
    first = int(np.argmax(start - reached))  # the box east of the widest gap
    if start[first] - reached[first] >= 180.0:
        # the edges as they were given, to the last bit
        last = int(order[np.argmax(np.where(np.arange(len(end)) < first, end + 360.0, end))])
        return float(edges[order[first], 0]), south, float(edges[last, 2]), north
    if (edges[:, 0] > edges[:, 2]).any():
        return -180.0, south, 180.0, north
    return float(edges[:, 0].min()), south, float(edges[:, 2].max()), north


def _f64(degrees: npt.ArrayLike) -> F64:
    return np.asarray(degrees, dtype=np.float64)


def unit_vectors(lon_deg: F64, lat_deg: F64) -> F64:
    """(n, 3) points on the unit sphere."""
    lon, lat = np.radians(lon_deg), np.radians(lat_deg)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def nearest_km(points: F64, others: F64) -> F64:
    """Great-circle distance from each of points (n, 3) to the nearest of others (m, 3); inf where m is 0.

    points, others: unit vectors. The distance comes from the chord c: 2 R asin(c / 2), exact to rounding at every
    distance but the antipode.
    """
    from scipy.spatial import cKDTree  # noqa: PLC0415  half a second that users of longitudes need not wait for

    if len(others) == 0 or len(points) == 0:
        return np.full(len(points), np.inf)
    chord, _ = cKDTree(others).query(points)
    distance_km: F64 = 2 * EARTH_RADIUS_KM * np.arcsin(np.minimum(chord / 2, 1))
    return distance_km
