"""Distances on the sphere between points given in longitude and latitude degrees."""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.spatial import cKDTree

from sar1m.core.table import F64

EARTH_RADIUS_KM: Final = 6371.0088  # mean radius of the IUGG (Moritz 2000)
KM_PER_DEGREE: Final = np.pi * EARTH_RADIUS_KM / 180


def unit_vectors(lon_deg: F64, lat_deg: F64) -> F64:
    """(n, 3) points on the unit sphere."""
    lon, lat = np.radians(lon_deg), np.radians(lat_deg)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def nearest_km(points: F64, others: F64) -> F64:
    """Great-circle distance from each of points (n, 3) to the nearest of others (m, 3); inf where m is 0.

    From the chord c of the unit sphere: 2 R asin(c / 2), exact to rounding at every distance but the antipode.
    """
    if len(others) == 0 or len(points) == 0:
        return np.full(len(points), np.inf)
    chord, _ = cKDTree(others).query(points)
    distance_km: F64 = 2 * EARTH_RADIUS_KM * np.arcsin(np.minimum(chord / 2, 1))
    return distance_km
