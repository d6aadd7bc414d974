"""Universal Transverse Mercator (UTM) on WGS 84 for arrays of points, each in a zone of its own.

Source: the Krueger series to fourth order in the third flattening, as given by Karney, "Transverse Mercator with an
accuracy of a few nanometers", J. Geodesy 85 (2011), eqs. 7-12, 35 and 36. Inside a zone and its neighbour the
difference to PROJ stays under a micrometre.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from sar1m.core.sphere import east_of, wrapped
from sar1m.store.errors import SourceError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_EQUATORIAL_RADIUS_M: Final = 6378137.0  # WGS 84
_FLATTENING: Final = 1 / 298.257223563  # WGS 84
_SCALE_ON_MERIDIAN: Final = 0.9996
_FALSE_EASTING_M: Final = 500_000.0
_FALSE_NORTHING_SOUTH_M: Final = 10_000_000.0
_NORTH_EPSG: Final = 32600
_SOUTH_EPSG: Final = 32700
SOUTHERNMOST_LAT: Final = -80.0
NORTHERNMOST_LAT: Final = 84.0

_N: Final = _FLATTENING / (2 - _FLATTENING)
_ECCENTRICITY: Final = (_FLATTENING * (2 - _FLATTENING)) ** 0.5
_RECTIFYING_RADIUS_M: Final = _EQUATORIAL_RADIUS_M / (1 + _N) * (1 + _N**2 / 4 + _N**4 / 64)
_ALPHA: Final = (
    _N / 2 - 2 * _N**2 / 3 + 5 * _N**3 / 16 + 41 * _N**4 / 180,
    13 * _N**2 / 48 - 3 * _N**3 / 5 + 557 * _N**4 / 1440,
    61 * _N**3 / 240 - 103 * _N**4 / 140,
    49561 * _N**4 / 161280,
)
_BETA: Final = (
    _N / 2 - 2 * _N**2 / 3 + 37 * _N**3 / 96 - _N**4 / 360,
    _N**2 / 48 + _N**3 / 15 - 437 * _N**4 / 1440,
    17 * _N**3 / 480 - 37 * _N**4 / 840,
    4397 * _N**4 / 161280,
)


def utm_epsg(lon: npt.ArrayLike, lat: npt.ArrayLike) -> IntArray:
    """EPSG codes of the UTM zones that points lie in: 326zz (north, equator included) or 327zz (south).

    Zones are 6 degrees wide, with the usual exceptions: zone 32 is wider over south-west Norway, and zones 31 to 37
    are uneven over Svalbard. Latitudes outside -80..84 also give a code, although UTM ends there.

    lon, lat: degrees, any shapes that broadcast.
    """
    lon_deg = wrapped(lon)
    lat_deg = np.asarray(lat, dtype=np.float64)
    zone = np.floor((lon_deg + 180.0) / 6.0).astype(np.int64) + 1
    norway = (lat_deg >= 56) & (lat_deg < 64) & (lon_deg >= 3) & (lon_deg < 12)
    zone = np.where(norway, 32, zone)
    svalbard = (lat_deg >= 72) & (lat_deg < 84) & (lon_deg >= 0) & (lon_deg < 42)
    uneven = np.asarray([31, 33, 35, 37])[np.searchsorted([9.0, 21.0, 33.0], lon_deg, side="right")]
    zone = np.where(svalbard, uneven, zone)
    return zone + np.where(lat_deg < 0, _SOUTH_EPSG, _NORTH_EPSG)


def _zones(epsg: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Central meridians in degrees and false northings in metres. Raises SourceError for a code that is not UTM."""
    code = np.asarray(epsg, dtype=np.int64)
    zone = code % 100
    wrong = ~np.isin(code - zone, (_NORTH_EPSG, _SOUTH_EPSG)) | (zone < 1) | (zone > 60)
    if np.any(wrong):
        raise SourceError(
            f"EPSG:{code[wrong].flat[0]} is not a WGS 84 / UTM zone (32601..32660, 32701..32760). "
            "Reproject the rasters to UTM first."
        )
    meridian: FloatArray = np.asarray(zone * 6.0 - 183.0, dtype=np.float64)
    return meridian, np.where(code < _SOUTH_EPSG, 0.0, _FALSE_NORTHING_SOUTH_M)


def utm_from_lonlat(lon: npt.ArrayLike, lat: npt.ArrayLike, epsg: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Easting and northing in metres of points in degrees, in the zone given for each; arguments broadcast.

    Exact to a micrometre within about 10 degrees of the central meridian, also outside the zone.
    Raises SourceError where a code is not a UTM zone.
    """
    meridian, false_northing_m = _zones(epsg)
    offset = np.radians(east_of(lon, meridian))
    tan_lat = np.tan(np.radians(np.asarray(lat, dtype=np.float64)))
    sec_lat = np.hypot(1.0, tan_lat)
    sigma = np.sinh(_ECCENTRICITY * np.arctanh(_ECCENTRICITY * tan_lat / sec_lat))
    tan_conformal = tan_lat * np.hypot(1.0, sigma) - sigma * sec_lat
    xi_sphere = np.arctan2(tan_conformal, np.cos(offset))
    eta_sphere = np.arcsinh(np.sin(offset) / np.hypot(tan_conformal, np.cos(offset)))
    xi, eta = xi_sphere, eta_sphere
    for order, alpha in enumerate(_ALPHA, start=1):
        xi = xi + alpha * np.sin(2 * order * xi_sphere) * np.cosh(2 * order * eta_sphere)
        eta = eta + alpha * np.cos(2 * order * xi_sphere) * np.sinh(2 * order * eta_sphere)
    scale_m = _SCALE_ON_MERIDIAN * _RECTIFYING_RADIUS_M
    return _FALSE_EASTING_M + scale_m * eta, false_northing_m + scale_m * xi


def _geodetic_tangent(tan_conformal: FloatArray) -> FloatArray:
    """Tangent of the latitude from that of the conformal latitude, by Newton's method (Karney eqs. 19-21).

    Two steps reach rounding for any latitude (same source); the third is a margin.
    """
    e2 = _ECCENTRICITY**2
    tan_lat = tan_conformal / (1 - e2)
    for _ in range(3):
        sec_lat = np.hypot(1.0, tan_lat)
        sigma = np.sinh(_ECCENTRICITY * np.arctanh(_ECCENTRICITY * tan_lat / sec_lat))
        estimate = tan_lat * np.hypot(1.0, sigma) - sigma * sec_lat
        slope = (1 + (1 - e2) * tan_lat**2) / ((1 - e2) * sec_lat)
        tan_lat = tan_lat + (tan_conformal - estimate) / np.hypot(1.0, estimate) * slope
    return tan_lat


def lonlat_from_utm(x_m: npt.ArrayLike, y_m: npt.ArrayLike, epsg: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Longitude (-180..180) and latitude in degrees of eastings and northings in metres; arguments broadcast.

    Raises SourceError where a code is not a UTM zone.
    """
    meridian, false_northing_m = _zones(epsg)
    scale_m = _SCALE_ON_MERIDIAN * _RECTIFYING_RADIUS_M
    xi = (np.asarray(y_m, dtype=np.float64) - false_northing_m) / scale_m
    eta = (np.asarray(x_m, dtype=np.float64) - _FALSE_EASTING_M) / scale_m
    xi_sphere, eta_sphere = xi, eta
    for order, beta in enumerate(_BETA, start=1):
        xi_sphere = xi_sphere - beta * np.sin(2 * order * xi) * np.cosh(2 * order * eta)
        eta_sphere = eta_sphere - beta * np.cos(2 * order * xi) * np.sinh(2 * order * eta)
    tan_conformal = np.sin(xi_sphere) / np.hypot(np.sinh(eta_sphere), np.cos(xi_sphere))
    lat = np.degrees(np.arctan(_geodetic_tangent(tan_conformal)))
    offset = np.degrees(np.arctan2(np.sinh(eta_sphere), np.cos(xi_sphere)))
    return wrapped(meridian + offset), lat
