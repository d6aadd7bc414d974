"""The echo of a surface, summed over its facets, compiled.

It is independent of the pipeline's terrain flattening: facets are finer, the satellite's position is exact, and angles
are not interpolated.
"""

from __future__ import annotations

import numpy as np

from sar1m.core.radar.compiled import compiled
from sar1m.records import F32, F64
from sarworld.radar import REFERENCE_INCIDENCE_DEG

_COS_REFERENCE = float(np.cos(np.radians(REFERENCE_INCIDENCE_DEG)))


@compiled
def sum_echo(nodes: F64, orbit: F64, gamma0: F32, falloff: F32, pieces: int, image: F64) -> None:
    """Adds the echo of every facet to an image.

    A cell between four nodes is a bilinear patch that is cut into pieces x pieces facets. The area of each, projected
    along its own line of sight, is shared by the four pixels around its centre.

    nodes: (rows, cols, 6) x, y, z relative to an origin, line, sample, and the clearance of the ray to the radar
        (negative in shadow); row 0 is in the north.
    orbit: (4, 3) the satellite's position relative to the same origin, as a polynomial in lines.
    gamma0: (P, rows, cols) linear, at the reference incidence.
    falloff: (rows, cols) exponent of cos(local incidence) / cos(reference incidence).
    image: (P + 1, lines, samples) powers in m^2, and the illuminated area in m^2.
    """
    point = np.empty(6)
    for row in range(nodes.shape[0] - 1):
        for col in range(nodes.shape[1] - 1):
            corner = nodes[row : row + 2, col : col + 2]
            if _outside(corner, image.shape[1], image.shape[2]):
                continue
            for part in range(pieces * pieces):
                v, u = (part // pieces + 0.5) / pieces, (part % pieces + 0.5) / pieces
                for k in range(6):
                    point[k] = _bilinear(corner, k, v, u)
                facing, cosine = _projected(corner, point, orbit, v, u)
                if point[5] < 0 or facing <= 0:
                    continue
                near_row, near_col = row + int(v >= 0.5), col + int(u >= 0.5)
                area = facing / (pieces * pieces)
                gain = area * (cosine / _COS_REFERENCE) ** falloff[near_row, near_col]
                _share(image, point[3], point[4], area, gain, gamma0[:, near_row, near_col])


@compiled
def _outside(corner: F64, lines: int, samples: int) -> bool:
    """Whether the four corners of a cell, (2, 2, 6), all lie beyond the same edge of the image."""
    above = below = left = right = True
    for k in range(4):
        line, sample = corner[k // 2, k % 2, 3], corner[k // 2, k % 2, 4]
        above, below = above and line < -1, below and line > lines
        left, right = left and sample < -1, right and sample > samples
    return above or below or left or right


@compiled
def _bilinear(corner: F64, k: int, v: float, u: float) -> float:
    """Component k at (v, u) of a patch with corners (2, 2, K)."""
    upper = corner[0, 0, k] * (1 - u) + corner[0, 1, k] * u
    lower = corner[1, 0, k] * (1 - u) + corner[1, 1, k] * u
    return float(upper * (1 - v) + lower * v)


@compiled
def _projected(corner: F64, point: F64, orbit: F64, v: float, u: float) -> tuple[float, float]:
    """Area of a patch with the normal that it has at (v, u), projected along the line of sight (negative where it faces
    away), and the cosine of the local incidence angle."""
    t = point[3]
    sight, down, right = np.empty(3), np.empty(3), np.empty(3)
    for k in range(3):
        sight[k] = ((orbit[3, k] * t + orbit[2, k]) * t + orbit[1, k]) * t + orbit[0, k] - point[k]
        down[k] = (corner[1, 0, k] - corner[0, 0, k]) * (1 - u) + (corner[1, 1, k] - corner[0, 1, k]) * u
        right[k] = (corner[0, 1, k] - corner[0, 0, k]) * (1 - v) + (corner[1, 1, k] - corner[1, 0, k]) * v
    nx = down[1] * right[2] - down[2] * right[1]  # southward x eastward points up
    ny = down[2] * right[0] - down[0] * right[2]
    nz = down[0] * right[1] - down[1] * right[0]
    distance = np.sqrt(sight[0] ** 2 + sight[1] ** 2 + sight[2] ** 2)
    facing = (nx * sight[0] + ny * sight[1] + nz * sight[2]) / distance
    return facing, facing / np.sqrt(nx * nx + ny * ny + nz * nz)


@compiled
def _share(image: F64, line: float, sample: float, area: float, gain: float, gamma0: F32) -> None:
    """Adds their shares of a facet's power and area to the four pixels around (line, sample)."""
    first_line, first_sample = int(np.floor(line)), int(np.floor(sample))
    for k in range(4):
        y, x = first_line + k // 2, first_sample + k % 2
        if y < 0 or x < 0 or y >= image.shape[1] or x >= image.shape[2]:
            continue
        weight = (1 - abs(line - y)) * (1 - abs(sample - x))
        for band in range(gamma0.shape[0]):
            image[band, y, x] += weight * gain * gamma0[band]
        image[-1, y, x] += weight * area
