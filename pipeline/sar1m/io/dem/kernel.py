"""Interpolation of heights between the posts of a lattice, compiled.

The method is cubic convolution with a = -1/2 (Keys, "Cubic convolution interpolation for digital image processing",
IEEE Trans. ASSP 29(6), 1981, eq. 15). It passes through the posts, and its slope is continuous; bilinear interpolation
leaves facets. Measured on a GLO-30 tile (0 N 6 E, up to 1,976 m, slopes rms 33 %) that was averaged to 90 m and brought
back to 30 m: heights err by 2.35 m rms (bilinear 3.94 m), slopes by 0.045 (bilinear 0.063). A cubic spline errs by 1.93
m and 0.038, but there every post depends on all others, so that a hole would spread.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from sar1m.core.radar.compiled import compiled
from sar1m.records import F64, I64, U32, Bool

REACH: Final = 2  # posts that the kernel touches on either side


@compiled
def _weights(beyond: float) -> tuple[float, float, float, float]:
    """Weights of the posts at -1, 0, 1, 2 for a point at 0 <= beyond < 1."""
    first = ((-0.5 * beyond + 1.0) * beyond - 0.5) * beyond
    second = (1.5 * beyond - 2.5) * beyond * beyond + 1.0
    third = ((-1.5 * beyond + 2.0) * beyond + 0.5) * beyond
    return first, second, third, 1.0 - first - second - third


@compiled
def _bilinear(values: F64, post: int, stride: int, down: float, right: float) -> float:
    """Bilinear height between four posts in flat values, the first at index post. A post of weight 0 may be NaN."""
    total = 0.0
    for i in range(2):
        across = down if i else 1.0 - down
        for j in range(2):
            weight = across * (right if j else 1.0 - right)
            if weight > 0.0:
                total += weight * values[post + i * stride + j]
    return total


@compiled
def heights_at(values: F64, rows: F64, cols: F64) -> F64:
    """Heights (N,) at points of a lattice.

    Cubic where all 16 posts around a point are known, bilinear where only the nearest four are, else NaN. NaN also
    within one post of the lattice's edge and beyond it.

    values: (R, C) heights at the posts; NaN where a post is missing.
    rows, cols: (N,) positions; 0 is the first post.
    """
    heights = np.full(rows.size, np.nan)
    flat, stride = values.ravel(), values.shape[1]
    for k in range(rows.size):
        row, col = rows[k], cols[k]
        if not (row >= 1.0 and col >= 1.0 and row < values.shape[0] - 2 and col < values.shape[1] - 2):
            continue
        top, left = int(row), int(col)
        down, right = row - top, col - left
        height, across = 0.0, _weights(right)
        for i, weight in enumerate(_weights(down)):
            for j in range(4):
                height += weight * across[j] * values[top - 1 + i, left - 1 + j]
        heights[k] = _bilinear(flat, top * stride + left, stride, down, right) if np.isnan(height) else height
    return heights


@compiled
def _node_steps(pixels: int, nodes: int) -> tuple[I64, F64]:
    """For each pixel of a line, the node before it and the fraction of the way to the next node.

    The first and last nodes coincide with the first and last pixels; the others are spread evenly between.
    """
    at = np.arange(pixels) * ((nodes - 1) / max(pixels - 1, 1))
    before = np.minimum(at.astype(np.int64), nodes - 2)
    return before, (at - before).astype(np.float64)


@compiled
def _locate(line: F64, before: I64, beyond: F64, shape: tuple[int, int], corner: U32, down: F64, right: F64) -> None:
    """Writes to corner the flat index of the first of the 16 posts around each pixel of a line, and to down and right
    how far the pixel lies from the inner ones, outside 0..1 where it lies beyond the outer posts but one."""
    last_row, last_col, stride = np.int32(shape[0] - 3), np.int32(shape[1] - 3), np.int32(shape[1])
    one = np.int32(1)
    for j in range(before.size):
        k = before[j]
        row = line[0, k] + (line[0, k + 1] - line[0, k]) * beyond[j]
        col = line[1, k] + (line[1, k + 1] - line[1, k]) * beyond[j]
        top = min(max(np.int32(row), one), last_row)
        left = min(max(np.int32(col), one), last_col)
        corner[j] = (top - one) * stride + left - one
        down[j], right[j] = row - top, col - left


@compiled
def _convolve(values: F64, stride: int, corner: U32, down: F64, right: F64, heights: F64) -> None:
    """Writes cubic heights (N,) at places that _locate found in flat values; NaN where one of the 16 posts is NaN.

    Written out, with unsigned indices and without a branch, so that the compiler can take several pixels at once.
    """
    one, two, three = np.uint64(1), np.uint64(2), np.uint64(3)
    step = np.uint64(stride)
    for j in range(heights.size):
        c0, c1, c2, c3 = _weights(right[j])
        r0, r1, r2, r3 = _weights(down[j])
        p = np.uint64(corner[j])
        q = p + step
        s = q + step
        t = s + step
        heights[j] = (
            r0 * (c0 * values[p] + c1 * values[p + one] + c2 * values[p + two] + c3 * values[p + three])
            + r1 * (c0 * values[q] + c1 * values[q + one] + c2 * values[q + two] + c3 * values[q + three])
            + r2 * (c0 * values[s] + c1 * values[s + one] + c2 * values[s + two] + c3 * values[s + three])
            + r3 * (c0 * values[t] + c1 * values[t + one] + c2 * values[t + two] + c3 * values[t + three])
        )


@compiled
def fill_missing(heights: F64, nodes: F64, values: F64, own: Bool) -> None:
    """Fills the pixels of a grid that are NaN and whose nearest post belongs to this lattice, as heights_at does.

    heights: (H, W), changed in place.
    nodes: (3, M, N) row and column in the lattice and a number to add to the height. Nodes are spread evenly from the
        first pixel to the last, at least 2 along each axis, and values are linear between them. No position is more
        than 2^31 posts away.
    values: (R, C) heights at the posts, at least 4 x 4. own: (R, C) whether the post belongs to this lattice.
    """
    above, below = _node_steps(heights.shape[0], nodes.shape[1])
    before, beyond = _node_steps(heights.shape[1], nodes.shape[2])
    flat, flat_own, stride = values.ravel(), own.ravel(), values.shape[1]
    width = heights.shape[1]
    corner, down, right, cubic = np.empty(width, np.uint32), np.empty(width), np.empty(width), np.empty(width)
    for i in range(heights.shape[0]):
        line = nodes[:, above[i]] * (1.0 - below[i]) + nodes[:, above[i] + 1] * below[i]
        _locate(line, before, beyond, values.shape, corner, down, right)
        _convolve(flat, stride, corner, down, right, cubic)
        for j in range(width):
            y, x = down[j], right[j]
            if not (np.isnan(heights[i, j]) and 0.0 <= y < 1.0 and 0.0 <= x < 1.0):
                continue
            post = np.int64(corner[j]) + stride + 1
            if not flat_own[post + (stride if y >= 0.5 else 0) + (1 if x >= 0.5 else 0)]:
                continue
            height = _bilinear(flat, post, stride, y, x) if np.isnan(cubic[j]) else cubic[j]
            k = before[j]
            heights[i, j] = height + line[2, k] + (line[2, k + 1] - line[2, k]) * beyond[j]
