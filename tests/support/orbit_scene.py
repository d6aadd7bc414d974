"""A made-up right-looking satellite on a circle over the turning ellipsoid, and the image it takes."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from sar1m.core.radar.geodesy import ecef_from_geodetic, geodetic_from_ecef
from sar1m.core.radar.lattice import Lattice
from sar1m.core.radar.product import SPEED_OF_LIGHT_M_S, GeolocationGrid, GrdGeometry, GroundRange, Orbit
from sar1m.core.radar.range_doppler import zero_doppler
from sar1m.core.utm import utm_epsg, utm_from_lonlat
from sar1m.records import RasterGrid

EARTH_RATE_RAD_S = 7.2921150e-5
ORBIT_RADIUS_M = 7.068e6
GRAVITY_M3_S2 = 3.986004418e14
INCLINATION_RAD = np.radians(98.18)
LINES, SAMPLES, SPACING_M, LINE_INTERVAL_S = 16700, 25800, 10.0, 1.4919e-3
NEAR_SLANT_M = 800e3


def circular_orbit(start_angle_rad: float) -> Orbit:
    """State vectors every 10 s from 60 s before to 100 s after the epoch; start_angle_rad: argument of latitude."""
    time_s = np.arange(-60.0, 101.0, 10.0)
    rate = np.sqrt(GRAVITY_M3_S2 / ORBIT_RADIUS_M**3)
    angle = start_angle_rad + rate * time_s
    inertial = np.stack(
        (np.cos(angle), np.sin(angle) * np.cos(INCLINATION_RAD), np.sin(angle) * np.sin(INCLINATION_RAD)), axis=-1
    )
    speed = np.stack(
        (-np.sin(angle), np.cos(angle) * np.cos(INCLINATION_RAD), np.cos(angle) * np.sin(INCLINATION_RAD)), axis=-1
    )
    turned, moving = _turn(ORBIT_RADIUS_M * inertial, time_s), _turn(ORBIT_RADIUS_M * rate * speed, time_s)
    moving = moving - EARTH_RATE_RAD_S * np.stack((-turned[:, 1], turned[:, 0], 0 * time_s), axis=-1)
    return Orbit(time_s=time_s, position_m=turned, velocity_m_s=moving, source="annotation")


def _turn(vectors: np.ndarray, time_s: np.ndarray) -> np.ndarray:
    cos, sin = np.cos(EARTH_RATE_RAD_S * time_s), np.sin(EARTH_RATE_RAD_S * time_s)
    return np.stack(
        (cos * vectors[:, 0] + sin * vectors[:, 1], cos * vectors[:, 1] - sin * vectors[:, 0], vectors[:, 2]), axis=-1
    )


def scene(latitude_deg: float = 45.0, descending: bool = False) -> GrdGeometry:
    """An image of IW size whose first line is taken near the latitude given."""
    angle = np.arcsin(np.clip(np.sin(np.radians(latitude_deg)) / np.sin(INCLINATION_RAD), -1, 1))
    orbit = circular_orbit(float(np.pi - angle) if descending else float(angle))
    return GrdGeometry(
        name="synthetic",
        epoch=datetime(2021, 3, 4, tzinfo=UTC),
        line_interval_s=LINE_INTERVAL_S,
        lines=LINES,
        samples=SAMPLES,
        range_spacing_m=SPACING_M,
        azimuth_spacing_m=SPACING_M,
        orbit=orbit,
        ground_range=_ground_range(orbit),
        grid=_grid(),
    )


def _ground_range(orbit: Orbit) -> GroundRange:
    """Polynomials over a sphere whose radius sways from record to record, as real products' do."""
    time_s = np.arange(-1.0, 27.0, 1.0)
    away_m = np.linspace(-20e3, 200e3, 200)
    srgr, grsr = [], []
    for record in range(time_s.size):
        radius_m = 6.3675e6 + 900.0 * np.sin(1.3 * record)
        slant_m = NEAR_SLANT_M + away_m
        cosine = (ORBIT_RADIUS_M**2 + radius_m**2 - slant_m**2) / (2 * ORBIT_RADIUS_M * radius_m)
        near = (ORBIT_RADIUS_M**2 + radius_m**2 - NEAR_SLANT_M**2) / (2 * ORBIT_RADIUS_M * radius_m)
        ground_m = radius_m * (np.arccos(cosine) - np.arccos(near))
        srgr.append(_polynomial(away_m, ground_m))
        grsr.append(_polynomial(ground_m, slant_m))
    return GroundRange(
        time_s=time_s,
        slant_reference_m=np.full(time_s.size, NEAR_SLANT_M),
        srgr=np.array(srgr),
        ground_reference_m=np.zeros(time_s.size),
        grsr=np.array(grsr),
    )


def _polynomial(x: np.ndarray, y: np.ndarray, degree: int = 8) -> np.ndarray:
    scale = np.abs(x).max()
    return np.polynomial.polynomial.polyfit(x / scale, y, degree) / scale ** np.arange(degree + 1)


def _grid() -> GeolocationGrid:
    """Only what the bistatic reference needs: lines, azimuth times and slant range times that agree."""
    line = np.array([0, 0, 8000, 8000])
    tau_s = np.array([800e3, 900e3, 800e3, 900e3]) * 2 / SPEED_OF_LIGHT_M_S
    zero = np.zeros(4)
    return GeolocationGrid(
        line=line,
        sample=np.array([0, 20000, 0, 20000]),
        lon=zero,
        lat=zero,
        height_m=zero,
        azimuth_time_s=line * LINE_INTERVAL_S + (tau_s - 5.5e-3) / 2,
        slant_range_time_s=tau_s,
        incidence_deg=zero,
    )


def ground_point(geometry: GrdGeometry, line: float, sample: float) -> tuple[float, float]:
    """Longitude and latitude of the point on the ellipsoid seen at a line and sample, to some 100 m."""
    time_s = line * geometry.line_interval_s
    index = np.argmin(np.abs(geometry.orbit.time_s - time_s))
    late_s = time_s - geometry.orbit.time_s[index]
    position = geometry.orbit.position_m[index] + late_s * geometry.orbit.velocity_m_s[index]
    velocity = geometry.orbit.velocity_m_s[index]
    right = np.cross(velocity, position)
    right /= np.linalg.norm(right)
    lon, lat, _ = geodetic_from_ecef(position)
    near = ecef_from_geodetic(lon, lat, 0.0)
    wanted_m = sample * geometry.range_spacing_m
    slant_m = np.interp(
        wanted_m,
        np.polynomial.polynomial.polyval(np.linspace(0, 200e3, 2000), geometry.ground_range.srgr[0]),
        NEAR_SLANT_M + np.linspace(0, 200e3, 2000),
    )
    low, high = 1e5, 1e6
    for _ in range(60):
        across_m = (low + high) / 2
        lon, lat, _ = geodetic_from_ecef(near + across_m * right)
        point = ecef_from_geodetic(lon, lat, 0.0)
        _, range_m = zero_doppler(geometry.orbit, point[None], time_s)
        low, high = (across_m, high) if range_m[0] < slant_m else (low, across_m)
    return float(lon), float(lat)


def block_grid(geometry: GrdGeometry, line: float, sample: float, rows: int, cols: int) -> RasterGrid:
    """A grid of 10 m pixels, whole metres at its corner, centred near what a line and sample see."""
    lon, lat = ground_point(geometry, line, sample)
    epsg = int(utm_epsg(lon, lat))
    x_m, y_m = utm_from_lonlat(lon, lat, epsg)
    left_m, top_m = 10.0 * np.round(float(x_m) / 10 - cols / 2), 10.0 * np.round(float(y_m) / 10 + rows / 2)
    return RasterGrid(epsg=epsg, left_m=float(left_m), top_m=float(top_m), gsd_m=10.0, rows=rows, cols=cols)


def map_coordinates(lattice: Lattice, height_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Line and sample in the image, (rows, cols) each, of the pixels of a lattice's grid at ellipsoidal heights."""
    origin = lattice.window()
    rows_px = np.arange(lattice.grid.rows, dtype=np.float64)
    line, sample = lattice.coordinates(rows_px, np.ascontiguousarray(height_m, dtype=np.float32), origin)
    return line.astype(np.float64) + origin.line, sample.astype(np.float64) + origin.sample
