"""A satellite on a circle over the turning Earth, exactly, and a plain image it takes."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from sar1m.core.radar.product import SPEED_OF_LIGHT_M_S, GeolocationGrid, GrdGeometry, GroundRange, Orbit

EARTH_TURN = np.array([0.0, 0.0, 7.292115e-5])
RADIUS_M = 7.07e6
RATE = np.sqrt(3.986004418e14 / RADIUS_M**3)
TILT = np.radians(98.18)
START = 0.8  # argument of latitude at the epoch
LINE_INTERVAL_S = 1.5e-3
NEAR_M = 8.0e5


def state_at(time_s):
    """Earth-fixed position, velocity and acceleration, (..., 3) each, from the closed form."""
    time_s = np.asarray(time_s, dtype=float)[..., None]
    node = np.array([1.0, 0.0, 0.0])
    ahead = np.array([0.0, np.cos(TILT), np.sin(TILT)])
    angle = START + RATE * time_s
    position = RADIUS_M * (np.cos(angle) * node + np.sin(angle) * ahead)
    velocity = RADIUS_M * RATE * (-np.sin(angle) * node + np.cos(angle) * ahead)
    acceleration = -(RATE**2) * position
    moving = velocity - np.cross(EARTH_TURN, position)
    pulled = acceleration - 2 * np.cross(EARTH_TURN, velocity) + np.cross(EARTH_TURN, np.cross(EARTH_TURN, position))
    return tuple(_turned(vectors, time_s[..., 0]) for vectors in (position, moving, pulled))


def _turned(vectors, time_s):
    cos, sin = np.cos(EARTH_TURN[2] * time_s), np.sin(EARTH_TURN[2] * time_s)
    x, y, z = np.moveaxis(vectors, -1, 0)
    return np.stack((cos * x + sin * y, cos * y - sin * x, z), axis=-1)


def orbit(step_s=10.0, first_s=-60.0, last_s=90.0):
    time_s = np.arange(first_s, last_s + step_s / 2, step_s)
    position_m, velocity_m_s, _ = state_at(time_s)
    return Orbit(time_s=time_s, position_m=position_m, velocity_m_s=velocity_m_s, source="annotation")


def seen_at(time_s, slant_m, look_rad, side=1.0):
    """The point at a slant range in the zero-Doppler plane: look_rad from straight down, to the right."""
    position_m, velocity_m_s, _ = state_at(time_s)
    right = np.cross(velocity_m_s, position_m)
    right /= np.linalg.norm(right, axis=-1, keepdims=True)
    down = np.cross(velocity_m_s, right)
    down /= np.linalg.norm(down, axis=-1, keepdims=True)
    slant_m, look_rad = np.asarray(slant_m)[..., None], np.asarray(look_rad)[..., None]
    return position_m + slant_m * (np.cos(look_rad) * down + side * np.sin(look_rad) * right)


def ground_range(records=5):
    """Ground range 2 x - 5e-6 x^2 + ..., a little more from record to record; the inverse only to some metres."""
    more = np.arange(records)
    srgr = np.stack([more * 0.5, 2.0 + 1e-4 * more, -5e-6 + 0 * more, 1.2e-11 + 0 * more], axis=-1)
    grsr = np.stack([NEAR_M + 0 * more, 0.5 + 0 * more, 3.1e-7 + 0 * more], axis=-1)
    return GroundRange(
        time_s=5.0 * more,
        slant_reference_m=np.full(records, NEAR_M),
        srgr=srgr,
        ground_reference_m=np.zeros(records),
        grsr=grsr,
    )


def geometry(tau_ref_s=5.6e-3):
    """16,000 lines of 25,000 samples. The grid holds only what determines its bistatic reference."""
    line = np.array([0, 0, 15000, 15000])
    tau_s = 2 / SPEED_OF_LIGHT_M_S * np.array([8.1e5, 9.1e5, 8.1e5, 9.1e5])
    zero = np.zeros(4)
    grid = GeolocationGrid(
        line=line,
        sample=np.array([0, 24999, 0, 24999]),
        lon=zero,
        lat=zero,
        height_m=zero,
        azimuth_time_s=line * LINE_INTERVAL_S + (tau_s - tau_ref_s) / 2,
        slant_range_time_s=tau_s,
        incidence_deg=zero,
    )
    return GrdGeometry(
        name="circular",
        epoch=datetime(2021, 3, 4, tzinfo=UTC),
        line_interval_s=LINE_INTERVAL_S,
        lines=16000,
        samples=25000,
        range_spacing_m=10.0,
        azimuth_spacing_m=10.0,
        orbit=orbit(),
        ground_range=ground_range(),
        grid=grid,
    )
