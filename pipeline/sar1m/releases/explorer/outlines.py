"""Coast lines and borders for the page's map: of the world, and in finer detail of the region of the samples."""

from __future__ import annotations

from typing import Final

import numpy as np

from sar1m.core.table import F64
from sar1m.page.window import MapWindow, outline_rings, window_around, world_window
from sar1m.releases.explorer.encoding import Json

STEPS_A_DEGREE: Final = 200  # coordinates are whole numbers of 0.005 degrees, half of how far the lines were thinned
WORLD_WIDTH, REGION_WIDTH = 1600.0, 2000.0  # drawing units: what a line may lie off is counted in these
REGION_MOST_DEG: Final = 120.0  # a wider region is drawn with the world's lines
REGION_MARGIN: Final = 0.4  # of its width, so that one may look around


def outlines(lon: F64, lat: F64) -> Json:
    """{"view", "steps", "world", "region", "box"}: view is west, south, east, north around all samples; rings are flat
    lists of whole numbers, x and y in turn, each the difference to the one before; region and box are empty where the
    samples lie all over the world. lon, lat: (n,) degrees."""
    window = window_around(lon, lat, REGION_WIDTH)
    found = {
        "view": [round(edge, 4) for edge in (window.lon_0, window.lat_0, window.lon_1, window.lat_1)],
        "steps": STEPS_A_DEGREE,
        "world": _rings(world_window(WORLD_WIDTH), 0.0, 3.0),
        "region": [],
        "box": [],
    }
    span = window.lon_1 - window.lon_0
    if span <= REGION_MOST_DEG:
        margin = REGION_MARGIN * span
        found["region"] = _rings(window, margin, 2.0)
        found["box"] = [window.lon_0 - margin, window.lat_0 - margin, window.lon_1 + margin, window.lat_1 + margin]
    return found


def _rings(window: MapWindow, beyond_deg: float, least_px: float) -> list[list[int]]:
    rings = outline_rings(window, beyond_deg=beyond_deg, thinned_px=0.7, least_px=least_px)
    return [_differences(ring) for ring in rings]


def _differences(ring: F64) -> list[int]:
    whole = np.rint(ring * STEPS_A_DEGREE).astype(np.int64)
    moved = np.concatenate([[True], (np.diff(whole, axis=0) != 0).any(axis=1)])
    steps = np.diff(whole[moved], axis=0, prepend=np.zeros((1, 2), dtype=np.int64))
    flat: list[int] = steps.ravel().tolist()
    return flat
