"""The part of the world that a map shows, and the outlines of the countries in it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely

from sar1m.core.sphere import KM_PER_DEGREE, TURNS_DEG, near_to, widest_gap
from sar1m.core.table import F64
from sar1m.page.svg import line_path
from sar1m.sources.regions.countries import countries

NARROWEST, WIDEST = 1.5, 2.2  # width over height of a map
LEAST_MARGIN_DEG = 0.08


@dataclass(frozen=True, kw_only=True)
class MapWindow:
    """An equirectangular map that is true to scale at its middle latitude.

    lon_0, lon_1: left and right edge. lat_0, lat_1: lower and upper edge. width: in drawing units.
    Longitudes run on over 180 where the window crosses the antimeridian.
    """

    lon_0: float
    lon_1: float
    lat_0: float
    lat_1: float
    width: float

    @property
    def height(self) -> float:
        """In drawing units."""
        return self.px_per_degree * (self.lat_1 - self.lat_0)

    @property
    def px_per_degree(self) -> float:
        """Drawing units a degree of latitude."""
        return self.width / (self.lon_1 - self.lon_0) / _squeeze(self.lat_0, self.lat_1)

    def x(self, lon: F64) -> F64:
        """Drawing positions of longitudes, each on the turn of the globe that is nearest to the window."""
        middle = (self.lon_0 + self.lon_1) / 2
        return (near_to(lon, middle) - self.lon_0) / (self.lon_1 - self.lon_0) * self.width

    def y(self, lat: F64) -> F64:
        """Drawing positions of latitudes, downwards."""
        return (self.lat_1 - np.asarray(lat, dtype=np.float64)) * self.px_per_degree


def world_window(width: float) -> MapWindow:
    """The inhabited world: all longitudes, 58 S to 84 N."""
    return MapWindow(lon_0=-180, lon_1=180, lat_0=-58, lat_1=84, width=width)


def window_around(lon: F64, lat: F64, width: float) -> MapWindow:
    """A window that shows all points, with a margin and a landscape shape; the world where there are none.

    lon, lat: (n,) degrees. Points on both sides of the antimeridian are shown together.
    """
    if not len(lon):
        return world_window(width)
    west, gap = widest_gap(lon)
    west = west - 360 if west >= 180 else west
    east = west + 360 - gap
    south, north = float(lat.min()), float(lat.max())
    margin = max(0.1 * (north - south), LEAST_MARGIN_DEG)
    south, north = south - margin, north + margin
    squeeze = _squeeze(south, north)
    margin = max(0.1 * (east - west), LEAST_MARGIN_DEG / squeeze)
    west, east = west - margin, east + margin
    ratio = (east - west) * squeeze / (north - south)
    if ratio < NARROWEST:
        grow = ((north - south) * NARROWEST / squeeze - (east - west)) / 2
        west, east = west - grow, east + grow
    elif ratio > WIDEST:
        grow = ((east - west) * squeeze / WIDEST - (north - south)) / 2
        south, north = south - grow, north + grow
    if east - west > 360:
        west, east = (west + east) / 2 - 180, (west + east) / 2 + 180
    return MapWindow(lon_0=west, lon_1=east, lat_0=max(south, -90.0), lat_1=min(north, 90.0), width=width)


def outline_path(window: MapWindow, *, thinned_px: float, least_px: float) -> str:
    """Path data of the countries inside the window; "" where there is only sea.

    thinned_px: how far a thinned line may lie from the true one; islands under least_px squared are left out.
    """
    beyond = 0.02 * (window.lon_1 - window.lon_0)  # so that the cut edge runs outside the picture
    return "".join(
        line_path(zip(_x(window, ring), window.y(ring[:, 1]).tolist(), strict=True), closed=True)
        for ring in outline_rings(window, beyond_deg=beyond, thinned_px=thinned_px, least_px=least_px)
    )


def outline_rings(
    window: MapWindow, *, beyond_deg: float, thinned_px: float, least_px: float
) -> Iterator[npt.NDArray[np.float64]]:
    """Rings (n, 2) of longitudes and latitudes of the countries in the window and beyond_deg around it; longitudes run
    on over 180 as the window's do. thinned_px, least_px: as outline_path takes them."""
    box = (
        window.lon_0 - beyond_deg,
        window.lat_0 - beyond_deg,
        window.lon_1 + beyond_deg,
        window.lat_1 + beyond_deg,
    )
    tolerance = thinned_px / window.px_per_degree
    least = (least_px / window.px_per_degree) ** 2
    yield from _rings(box, tolerance, least)


def graticule_step_deg(span_deg: float) -> float:
    """Distance of the lines of the graticule: a round number of degrees that gives four to ten lines."""
    steps = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0)
    return next((step for step in steps if span_deg / step <= 8), steps[-1])


def scale_bar_km(window: MapWindow) -> tuple[float, float]:
    """Kilometres and drawing units of a round scale bar of at most a fifth of the width."""
    most_km = window.width / 5 / window.px_per_degree * KM_PER_DEGREE
    power = 10.0 ** math.floor(math.log10(most_km))
    km = power * max(step for step in (1, 2, 5) if step * power <= most_km)
    return km, km / KM_PER_DEGREE * window.px_per_degree


def _rings(box: tuple[float, float, float, float], tolerance: float, least: float) -> Iterator[npt.NDArray[np.float64]]:
    outlines = np.array([country.geometry for country in countries()], dtype=object)
    for turn in TURNS_DEG:
        here = shapely.clip_by_rect(outlines, box[0] - turn, box[1], box[2] - turn, box[3])
        parts = shapely.get_parts(here[~shapely.is_empty(here)])
        parts = parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON]
        parts = shapely.simplify(parts[shapely.area(parts) >= least], tolerance)
        for ring in shapely.get_rings(parts):
            yield shapely.get_coordinates(ring) + np.array([turn, 0.0])


def _x(window: MapWindow, ring: npt.NDArray[np.float64]) -> list[float]:
    # not window.x: a long coast line must not be folded onto the nearest turn point by point
    x: list[float] = ((ring[:, 0] - window.lon_0) / (window.lon_1 - window.lon_0) * window.width).tolist()
    return x


def _squeeze(south: float, north: float) -> float:
    return math.cos(math.radians(min(abs(south + north) / 2, 80.0)))
