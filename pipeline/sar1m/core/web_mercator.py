"""Web Mercator pictures of tile services on a UTM grid: positions of pixels, and resampling in one step.

Source: EPSG Guidance Note 7-2, method 1024 (Popular Visualisation Pseudo Mercator): a sphere of 6378137 m, on
which geodetic latitudes are used unchanged. At zoom z the world is 2^z x 2^z square tiles, tile (0, 0) in the
north-west.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from sar1m.core.radar.compiled import compiled
from sar1m.core.sphere import near_to
from sar1m.core.utm import FloatArray, lonlat_from_utm
from sar1m.records import F32, U8, Bool, RasterGrid

CIRCLE_M: Final = 2 * math.pi * 6378137.0
AVERAGE_FROM_PX: Final = 1.5  # a grid pixel this wide in picture pixels is their mean; a narrower one is interpolated
REACH_PX: Final = 4  # picture pixels beyond the outermost point that resampling may touch, at most 2 px wide


def ground_resolution_m(lat_deg: float, zoom: int, tile_px: int) -> float:
    """Distance on the ground between pixel centres in metres, to 0.7 % (the difference of sphere and ellipsoid)."""
    return CIRCLE_M * math.cos(math.radians(lat_deg)) / math.ldexp(tile_px, zoom)


def zoom_for(gsd_m: float, lat_deg: float, tile_px: int, max_zoom: int) -> int:
    """The lowest zoom, 0..max_zoom, whose pixels are not coarser than gsd_m at a latitude; max_zoom where none is."""
    wanted = math.log2(ground_resolution_m(lat_deg, 0, tile_px) / gsd_m)
    return min(max(math.ceil(wanted - 1e-9), 0), max_zoom)


def picture_positions(grid: RasterGrid, zoom: int, tile_px: int) -> tuple[FloatArray, FloatArray]:
    """Rows and columns, (rows, cols) each, of a UTM grid's pixel centres in the picture of the whole world.

    0 is the centre of the north-westernmost pixel. Columns continue across the antimeridian: they may be negative or
    exceed the last column of the world. Raises SourceError where the grid is not UTM.
    """
    x_m = grid.left_m + (np.arange(grid.cols) + 0.5) * grid.gsd_m
    y_m = grid.top_m - (np.arange(grid.rows) + 0.5) * grid.gsd_m
    lon, lat = lonlat_from_utm(x_m[None, :], y_m[:, None], grid.epsg)
    return _positions(lon, lat, (grid.epsg % 100) * 6.0 - 183.0, tile_px * 2**zoom)


def _positions(lon: FloatArray, lat: FloatArray, middle_lon: float, world_px: int) -> tuple[FloatArray, FloatArray]:
    running = near_to(lon, middle_lon)
    northing = np.arcsinh(np.tan(np.radians(lat)))  # of the unit sphere
    return (0.5 - northing / (2 * np.pi)) * world_px - 0.5, (0.5 + running / 360.0) * world_px - 0.5


def resample_picture(picture: U8, valid: Bool, rows: FloatArray, cols: FloatArray, width_px: float) -> F32:
    """Values 0..255 of a picture at points, (bands, *shape of rows).

    Where a grid pixel is at least AVERAGE_FROM_PX wide, the value is the mean over a box of its width; pixels on the
    edge of the box count by the part inside. Otherwise it is cubic convolution over 4 x 4 pixels (Keys 1981, a = -1/2),
    clipped to 0..255. NaN where a pixel that counts is not valid or outside the picture.

    picture: (H, W, bands). valid: (H, W).
    rows, cols: of the points; (0, 0) is the centre of the first pixel.
    width_px: of a grid pixel, in pixels of the picture.
    """
    found = np.full((picture.shape[2], *rows.shape), np.nan, dtype=np.float32)
    if width_px >= AVERAGE_FROM_PX:
        _average(picture, valid, rows, cols, width_px / 2, found)
    else:
        _cubic(picture, valid, rows, cols, found)
    return found


@compiled
def _keys(t: float) -> tuple[float, float, float, float]:
    """Weights of the pixels at -1, 0, 1, 2 for a point at 0 <= t < 1 (here because of core/radar/compiled.py's cache:
    compiled functions call those of their own file)."""
    return (
        ((-0.5 * t + 1.0) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1.0,
        ((-1.5 * t + 2.0) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    )


@compiled
def _cubic(picture: U8, valid: Bool, rows: FloatArray, cols: FloatArray, found: F32) -> None:
    height, width, bands = picture.shape
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            row, col = math.floor(rows[i, j]), math.floor(cols[i, j])
            if row < 1 or col < 1 or row + 2 >= height or col + 2 >= width:
                continue
            if not valid[row - 1 : row + 3, col - 1 : col + 3].all():
                continue
            down, right = _keys(rows[i, j] - row), _keys(cols[i, j] - col)
            for band in range(bands):
                total = 0.0
                for m in range(4):
                    for n in range(4):
                        total += down[m] * right[n] * picture[row - 1 + m, col - 1 + n, band]
                found[band, i, j] = min(max(total, 0.0), 255.0)


@compiled
def _average(picture: U8, valid: Bool, rows: FloatArray, cols: FloatArray, half: float, found: F32) -> None:
    """Writes the means over boxes of half a width `half` (px) to found."""
    height, width, bands = picture.shape
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            top, left = rows[i, j] - half, cols[i, j] - half  # of the box; pixel k covers k - 0.5 to k + 0.5
            bottom, right = rows[i, j] + half, cols[i, j] + half
            first, last = math.floor(top + 0.5), math.ceil(bottom - 0.5)
            west, east = math.floor(left + 0.5), math.ceil(right - 0.5)
            if first < 0 or west < 0 or last >= height or east >= width:
                continue
            if not valid[first : last + 1, west : east + 1].all():
                continue
            for band in range(bands):
                total = 0.0
                for row in range(first, last + 1):
                    part = min(row + 0.5, bottom) - max(row - 0.5, top)
                    for col in range(west, east + 1):
                        across = min(col + 0.5, right) - max(col - 0.5, left)
                        total += part * across * picture[row, col, band]
                found[band, i, j] = total / (4.0 * half * half)


def extent_px(positions: npt.ArrayLike) -> tuple[int, int]:
    """First and last row (or column) of the picture that resampling at positions may use."""
    known = np.asarray(positions)
    return math.floor(known.min()) - REACH_PX, math.ceil(known.max()) + REACH_PX
