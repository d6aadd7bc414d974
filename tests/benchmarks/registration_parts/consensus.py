"""The consensus of the members: where most of them agree, and how far apart they are.

The position of a member is the summit of a spline through its scores. The consensus is the mean of the members within
WITHIN_PX of their median (component by component), of at least LEAST members. Its sigma is the root mean square
distance of those kept from the mean, over sqrt(number - 1): the standard error of the mean, in two dimensions, as far
as the members err independently. They see the same speckle, so that it is a lower bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from registration_parts.members import F32, F64, MEMBERS, smoothed
from scipy.interpolate import RectBivariateSpline

WITHIN_PX = 1.0
LEAST = 4


@dataclass(frozen=True, kw_only=True)
class Consensus:
    """Shift of the optical content against the SAR content in pixels, rows down and columns right; NaN without one.

    estimates: (members, 2), the members' own. kept: how many agree.
    """

    row_px: float
    col_px: float
    sigma_px: float
    kept: int
    estimates: F64


def agreed(estimates: F64) -> Consensus:
    """The consensus of estimates (members, 2) in pixels; those without a summit are NaN."""
    apart = np.hypot(*(estimates - np.nanmedian(estimates, axis=0)).T)
    kept = estimates[apart < WITHIN_PX]  # NaN is not
    if len(kept) < LEAST:
        return Consensus(row_px=np.nan, col_px=np.nan, sigma_px=np.nan, kept=len(kept), estimates=estimates)
    mean = kept.mean(axis=0)
    sigma = float(np.sqrt(((kept - mean) ** 2).sum(axis=1).mean() / (len(kept) - 1)))
    return Consensus(row_px=float(mean[0]), col_px=float(mean[1]), sigma_px=sigma, kept=len(kept), estimates=estimates)


def site_consensus(sar: F32, optical: F32, *, reach_px: int) -> Consensus:
    """Of one square window with one shift. sar: (P, n, n) logarithms. optical: (B, n, n) roots of brightness."""
    sar, optical = smoothed(sar), smoothed(optical)
    inner = np.s_[:, reach_px:-reach_px, reach_px:-reach_px]
    return agreed(np.array([summit(one.score(one.fields(sar)[inner], one.fields(optical))) for one in MEMBERS]))


def summit(scores: F64) -> F64:
    """The highest point of (L, L), between the lags, as a shift from the middle; NaN where it lies on the edge."""
    side = len(scores)
    row, col = np.unravel_index(int(np.argmax(scores)), scores.shape)
    if not (0 < row < side - 1 and 0 < col < side - 1):
        return np.array([np.nan, np.nan])
    lags = np.arange(side)
    near_rows, near_cols = (lags[max(0, at - 5) : at + 6] for at in (row, col))
    spline = RectBivariateSpline(near_rows, near_cols, scores[np.ix_(near_rows, near_cols)])
    at = np.array([row, col], float)
    for half, step in ((1.0, 0.05), (0.05, 0.005)):
        offsets = np.arange(-half, half + step / 2, step)
        heights = spline(at[0] + offsets, at[1] + offsets)
        best = np.unravel_index(int(np.argmax(heights)), heights.shape)
        at = at + offsets[list(best)]
    return np.asarray(at - (side - 1) / 2)
