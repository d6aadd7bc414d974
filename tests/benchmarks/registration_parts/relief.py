"""The consensus over a large scene in which relief moves the SAR content, so that the shift is not one for all.

Over the scenes of s1s2_vh_rgb the shift varies smoothly by several pixels, mostly along the columns, as ground height
moves radar content sideways. A window with a gradient of shift has a smeared peak. So:

1. A low-order field of shift is fitted to the summed scores of the two members that are fast, by robust least squares
   on a grid of windows, twice: degree 2 with a reach of 16 px, then degree 3 with 8 px.
2. The optical picture is moved back by that field. What is left is measured by every member in each window, reach 6 px.
3. Scores of the windows around a place are summed with Gaussian weights of POOL_PX, and each member's summit is taken:
   support is wide (some 600 px), and the relief has been taken out of it.
4. The truth at a place is the field there plus the consensus of what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from registration_parts.consensus import summit
from registration_parts.members import F32, F64, MEMBERS, smoothed
from scipy import ndimage

SIDE_PX = 1024
WINDOW_PX = 192
STEP_PX = 104
CENTRES_PX = np.arange(WINDOW_PX // 2, SIDE_PX - WINDOW_PX // 2 + 1, STEP_PX)  # 9
PLACES_PX = (256, 512, 768)  # centres, in rows and in columns, of the blocks of 256 px that get a truth
NAMES = tuple(member.name for member in MEMBERS)
FAST = ("gradient_magnitude", "neighbourhood_descriptor")
COARSE = ((16, 2, 83.0, 1.4), (8, 3, 62.0, 1.0))  # reach, degree, weights of neighbours (px), smoothing (px)
FINE_REACH_PX = 6
POOL_PX, NARROW_PX = 166.0, 104.0
SCALES_PX = (8.0, 6.0, 4.0, 3.0, 2.0, 2.0, 1.5, 1.5, 1.5, 1.5)  # of the robust weights, round by round


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """What was measured of one scene.

    at_places: (3, 3, 2) pixels, the field of shift that was taken out, at the PLACES_PX.
    relief_px: (3, 3) pixels, root mean square variation of the field inside the block of 256 px around each place.
    followed: share of the grid that the field agrees with.
    scores: (members, 9, 9, L, L) of what is left.
    """

    at_places: F64
    relief_px: F64
    followed: float
    scores: F32

    def estimates(self, pool_px: float = POOL_PX) -> F64:
        """Members' shifts at the PLACES_PX, (3, 3, members, 2) pixels."""
        return _pooled_shifts(self.scores, PLACES_PX, pool_px) + self.at_places[:, :, None]

    def local_px(self) -> float:
        """Root mean square of what a narrower support of the truth, NARROW_PX for POOL_PX, changes for all members
        alike: relief that the field does not follow, and speckle that the members share."""
        inner = tuple(CENTRES_PX[1:-1])
        apart = _pooled_shifts(self.scores, inner, NARROW_PX) - _pooled_shifts(self.scores, inner, POOL_PX)
        return _common(apart.reshape(-1, len(MEMBERS), 2))


def measure_scene(sar: F32, optical: F32) -> Scene:
    """sar: (1, 1024, 1024) logarithm of amplitude. optical: (1, 1024, 1024) root of brightness."""
    field = np.zeros((2, SIDE_PX, SIDE_PX))
    followed = 0.0
    for reach, degree, neighbours_px, smoothing_px in COARSE:
        pair = [ndimage.gaussian_filter(one, (0, smoothing_px, smoothing_px)) for one in (sar, _moved(optical, field))]
        more, followed = _fitted(_fast_shifts(pair[0], pair[1], reach, neighbours_px), degree)
        field = field + more
    scores = _scores(smoothed(sar), _moved(smoothed(optical), field), FINE_REACH_PX)
    at = field[:, np.array(PLACES_PX)[:, None], np.array(PLACES_PX)]
    return Scene(
        at_places=np.moveaxis(at, 0, -1),
        relief_px=np.array([[_variation(field, row, col) for col in PLACES_PX] for row in PLACES_PX]),
        followed=followed,
        scores=np.asarray(scores, np.float32),
    )


def _scores(sar: F32, optical: F32, reach: int, names: Sequence[str] = NAMES) -> list[F64]:
    """Of each member, (9, 9, L, L): scores of every window of the grid."""
    every = []
    for member in (one for one in MEMBERS if one.name in names):
        fixed, moving = member.fields(sar), member.fields(optical)
        windows = [[_window(row, col) for col in CENTRES_PX] for row in CENTRES_PX]
        inner = np.s_[:, reach:-reach, reach:-reach]
        every.append(np.array([[member.score(fixed[one][inner], moving[one]) for one in row] for row in windows]))
    return every


def _window(row: int, col: int) -> tuple[slice, slice, slice]:
    half = WINDOW_PX // 2
    return np.s_[:, row - half : row + half, col - half : col + half]


def _fast_shifts(sar: F32, optical: F32, reach: int, neighbours_px: float) -> F64:
    """Shifts (9, 9, 2) by the sum of the fast members' scores, each in units of its scatter over the lags."""
    each = _scores(sar, optical, reach, FAST)
    spread = [(one - one.mean(axis=(2, 3), keepdims=True)) / one.std(axis=(2, 3), keepdims=True) for one in each]
    return _summits(_pooled(reduce(np.add, spread), tuple(CENTRES_PX), neighbours_px))


def _pooled_shifts(scores: F32, places: Sequence[int], pool_px: float) -> F64:
    """Members' shifts (places, places, members, 2) from scores summed around each place."""
    return np.stack([_summits(_pooled(one, places, pool_px)) for one in scores], axis=2)


def _pooled(scores: F64 | F32, places: Sequence[int], pool_px: float) -> F64:
    weights = np.exp(-0.5 * ((np.array(places)[:, None] - CENTRES_PX) / pool_px) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.einsum("ia,jb,abrc->ijrc", weights, weights, scores, optimize=True)


def _summits(scores: F64) -> F64:
    return np.array([[summit(one) for one in row] for row in scores])


def _exponents(degree: int) -> list[tuple[int, int]]:
    return [(row, col) for row in range(degree + 1) for col in range(degree + 1 - row)]


def _powers(rows_px: F64, cols_px: F64, degree: int) -> F64:
    down, right = rows_px / (SIDE_PX / 2) - 1, cols_px / (SIDE_PX / 2) - 1
    return np.stack([down**row * right**col for row, col in _exponents(degree)], axis=-1)


def _fitted(shifts: F64, degree: int) -> tuple[F64, float]:
    """A polynomial field (2, H, W) through shifts (9, 9, 2), and the share of them within 1.5 px of it.

    Weights are those of Geman and McClure; the first rounds are of degree 1 with wide weights, so that the start, the
    median, does not decide.
    """
    rows, cols = (axis.ravel().astype(float) for axis in np.meshgrid(CENTRES_PX, CENTRES_PX, indexing="ij"))
    powers, seen = _powers(rows, cols, degree), shifts.reshape(-1, 2)
    found = np.isfinite(seen).all(axis=1)
    seen = np.where(found[:, None], seen, 0)
    fit = np.zeros((powers.shape[1], 2))
    fit[0] = np.median(seen[found], axis=0) if found.any() else 0
    for scale in SCALES_PX:
        weights = found / (1 + ((seen - powers @ fit) ** 2).sum(axis=1) / scale**2) ** 2
        used = [k for k, (row, col) in enumerate(_exponents(degree)) if row + col <= (1 if scale > 4 else degree)]
        weighted = powers[:, used] * weights[:, None]
        fit = np.zeros_like(fit)
        fit[used] = np.linalg.solve(weighted.T @ powers[:, used] + 1e-6 * np.eye(len(used)), weighted.T @ seen)
    near = found & (np.hypot(*(seen - powers @ fit).T) < 1.5)
    grid = np.mgrid[0:SIDE_PX, 0:SIDE_PX].astype(float)
    return np.moveaxis(_powers(grid[0], grid[1], degree) @ fit, -1, 0), float(near.mean())


def _moved(optical: F32, field: F64) -> F32:
    """The optical picture with the field taken out: content at x plus the field at x comes to x."""
    if not field.any():
        return optical
    at = np.mgrid[0:SIDE_PX, 0:SIDE_PX] + field
    return np.stack([ndimage.map_coordinates(one, at, order=3, mode="nearest") for one in optical]).astype(np.float32)


def _variation(field: F64, row: int, col: int) -> float:
    block = field[:, row - 128 : row + 128, col - 128 : col + 128]
    return float(np.sqrt(block.var(axis=(1, 2)).sum()))


def _common(apart: F64) -> float:
    """Root of what members' differences (places, members, 2) have in common: the median over pairs of members of the
    mean product, added over rows and columns, of places where both are under a pixel; 0 where it is negative."""
    total = 0.0
    for axis in range(2):
        products = []
        for one in range(apart.shape[1]):
            for other in range(one):
                near = (np.abs(apart[:, [one, other]]) < 1).all(axis=(1, 2))
                products.append(
                    float((apart[near, one, axis] * apart[near, other, axis]).mean()) if near.any() else 0.0
                )
        total += max(float(np.median(products)), 0.0)
    return float(np.sqrt(total))
