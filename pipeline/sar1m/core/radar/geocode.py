"""Geocoding: the pixels of a radar image on the grid of a map, resampled once and in linear power."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from sar1m.core.radar.compiled import compiled
from sar1m.core.radar.lattice import Lattice
from sar1m.core.radar.product import ImageWindow
from sar1m.records import F32, U32

Method = Literal["bilinear", "nearest", "cubic"]

_STRIP_ROWS: Final = 64  # rows whose coordinates stay in the cache between finding and using them


def resample(
    image: F32,
    window: ImageWindow,
    lattice: Lattice,
    height_m: npt.NDArray[np.floating],
    method: Method = "bilinear",
) -> F32:
    """An image resampled to the map of a lattice: (P, rows, cols) in the unit of the image, linear power.

    The result is NaN where the height is NaN, where a pixel of non-zero weight is NaN or lies outside the window, and
    everywhere if the window is empty. Nothing is filled in.

    image: (P, lines, samples) of the window.
    height_m: (rows, cols) above the ellipsoid.
    method: bilinear weighs 2 x 2 pixels; nearest takes one; cubic weighs 4 x 4 (a = -1/2), and may give values under 0
        beside bright targets.
    Source: R. Keys, "Cubic convolution interpolation for digital image processing", IEEE TASSP 29 (1981).
    """
    found = np.empty((image.shape[0], *height_m.shape), dtype=np.float32)
    if image.size == 0:
        found.fill(np.nan)
        return found
    pixels = np.ascontiguousarray(image, dtype=np.float32)
    for rows, line_px, sample_px in _strips(lattice, height_m, window):
        if method == "cubic":
            _cubic(pixels, line_px, sample_px, found[:, rows])
            continue
        if method == "nearest":
            np.floor(line_px + np.float32(0.5), out=line_px)
            np.floor(sample_px + np.float32(0.5), out=sample_px)
        _bilinear(pixels, line_px, sample_px, found[:, rows])
    return found


def _strips(
    lattice: Lattice, height_m: npt.NDArray[np.floating], origin: ImageWindow
) -> Iterator[tuple[slice, F32, F32]]:
    """The map in strips of rows, with line and sample of their pixels counted from origin."""
    for start in range(0, lattice.grid.rows, _STRIP_ROWS):
        rows = slice(start, min(start + _STRIP_ROWS, lattice.grid.rows))
        strip_m = np.ascontiguousarray(height_m[rows], dtype=np.float32)
        yield rows, *lattice.coordinates(np.arange(rows.start, rows.stop, dtype=np.float64), strip_m, origin)


@compiled
def _taps(line_px: F32, sample_px: F32, lines: int, samples: int, corner: U32, part: F32) -> None:
    """Writes to corner (4, cols) where the four pixels around each point of a row lie in the flattened image, and to
    part (2, cols) the part of the way to the next line and sample, NaN outside the image.

    A point on a line or sample uses that one twice: its neighbour, of weight 0, may be NaN or beyond the edge.
    """
    zero, nan = np.float32(0), np.float32(np.nan)
    last_line, last_sample = np.float32(lines - 1), np.float32(samples - 1)
    near, right, down, across = corner[0], corner[1], corner[2], corner[3]
    down_part, right_part = part[0], part[1]
    stride = np.int32(samples)
    for n in range(line_px.size):
        y, x = line_px[n], sample_px[n]
        inside = (y >= zero) & (y <= last_line) & (x >= zero) & (x <= last_sample)
        y = y if inside else zero
        x = x if inside else zero
        line, sample = np.int32(y), np.int32(x)
        y, x = y - np.float32(line), x - np.float32(sample)
        first = np.int32(line * stride + sample)
        to_right = np.int32(1) if x > zero else np.int32(0)
        to_down = stride if y > zero else np.int32(0)
        near[n] = np.uint32(first)
        right[n] = np.uint32(first + to_right)
        down[n] = np.uint32(first + to_down)
        across[n] = np.uint32(first + to_down + to_right)
        down_part[n] = y
        right_part[n] = x if inside else nan


@compiled
def _bilinear(image: F32, line_px: F32, sample_px: F32, found: F32) -> None:
    """Bilinear interpolation of all polarisations at line_px and sample_px, (rows, cols)."""
    cols = line_px.shape[1]
    corner, part = np.empty((4, cols), dtype=np.uint32), np.empty((2, cols), dtype=np.float32)
    near, right, down, across = corner[0], corner[1], corner[2], corner[3]
    y, x = part[0], part[1]
    flat = image.reshape(image.shape[0], -1)
    for row in range(line_px.shape[0]):
        _taps(line_px[row], sample_px[row], image.shape[1], image.shape[2], corner, part)
        for p in range(image.shape[0]):
            pixel, out = flat[p], found[p, row]
            for n in range(cols):
                upper, lower = pixel[near[n]], pixel[down[n]]
                upper += x[n] * (pixel[right[n]] - upper)
                lower += x[n] * (pixel[across[n]] - lower)
                out[n] = upper + y[n] * (lower - upper)


@compiled
def _keys(t: float) -> tuple[float, float, float, float]:
    """Weights of the four pixels around a point; t: part of the way (0 to 1) from the second pixel to the third."""
    return (
        ((-0.5 * t + 1.0) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1.0,
        ((-1.5 * t + 2.0) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    )


@compiled
def _cubic(image: F32, line_px: F32, sample_px: F32, found: F32) -> None:
    """Cubic convolution of all polarisations at line_px and sample_px, (rows, cols).

    A point that lies exactly on a line (or sample) uses no other line (or sample).
    """
    lines, samples = image.shape[1], image.shape[2]
    for row in range(line_px.shape[0]):
        for col in range(line_px.shape[1]):
            y, x = line_px[row, col], sample_px[row, col]
            found[:, row, col] = np.nan
            if not (y >= 0 and y <= lines - 1 and x >= 0 and x <= samples - 1):
                continue
            line, sample = int(y), int(x)
            step_y, step_x = int(y > line), int(x > sample)
            inside_y = line - step_y >= 0 and line + 2 * step_y < lines
            if not (inside_y and sample - step_x >= 0 and sample + 2 * step_x < samples):
                continue
            weight_y, weight_x = _keys(y - line), _keys(x - sample)
            for p in range(image.shape[0]):
                total = 0.0
                for i in range(4):
                    inner = 0.0
                    for j in range(4):
                        inner += weight_x[j] * image[p, line + (i - 1) * step_y, sample + (j - 1) * step_x]
                    total += weight_y[i] * inner
                found[p, row, col] = total
