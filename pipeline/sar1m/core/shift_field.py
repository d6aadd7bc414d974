"""A low-order field of shifts over a block, where its patches do not share one shift.

Relief that the geocoding did not know (none, a coarse or a wrong DEM) moves the SAR content of each patch by its own
amount: height error over the tangent of the incidence angle. One shift for the block then leaves pixels of error.

The field is a polynomial in the place of the patch (constant, affine or quadratic), fitted by iteratively reweighted
least squares with Geman and McClure's weights, which leave gross errors without influence (Holland and Welsch 1977,
"Robust regression using iteratively reweighted least-squares"). Its order is chosen by leave-one-out prediction (Allen
1974, PRESS). Scatter beyond the patches' sigmas enters their variances, as in random-effects models.

No fit can tell which half of the patches is right. So a block gives no field where its patches form two groups, an
affine field and the same field moved by one step, or scatter about every field by more than a field is good for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special  # scipy.stats takes a second to import, in every worker

from sar1m.records import F64, Bool

LEAST_PATCHES = (5, 6, 10)  # measured patches from which the orders 0, 1 and 2 are tried
SIGNIFICANCE = 0.001  # how often one shift may be given up for nothing
LEAST_SCATTER_PX = 1 / math.sqrt(12)  # along an axis: what a correction by whole pixels leaves anyway
INNER_SHARE = 0.75  # of the patches, the nearest ones, that test and choice of the order look at
EXACT_PX = 1e-3  # predictions as near as this ask for no higher order; what is left is rounding
LEAST_GAIN = 0.8  # a higher order must lower the mean square of the predictions' errors to this share
GROSS_SIGMAS = 4.0  # from the field; a patch further away is believed only where its peak is sure
MOST_SCATTER_PX = 2.0  # along an axis, about the field: it would correct nothing
GROUP_SIGMAS = 3.0  # from its group's field, of measurement and LEAST_SCATTER_PX: a patch within belongs to it
GROUPED_SHARE = 0.85  # of the patches belong to one of two groups,
SMALLER_GROUP_SHARE = 0.3  # so many of them to the smaller one,
GROUP_GAIN_SHARE = 0.25  # and so many more than are near the one field
ROUNDS = 30
GROUP_ROUNDS = 8
LEAST_GROUPED = 8  # patches; fewer fall into groups by chance
RAYLEIGH_MEDIAN = math.sqrt(2 * math.log(2))  # of a distance in two dimensions, in standard deviations of an axis


@dataclass(frozen=True, kw_only=True, eq=False)
class ShiftField:
    """Shifts over a block that differ from patch to patch. Rows and columns in pixels, patches in the given order.

    order: of the polynomial, 0 to 2.
    rms_px: root mean square distance of the believed patches' shifts from the field.
    believed: (n,) patches that are measured, and sure or not further from the field than GROSS_SIGMAS.
    values: (n, 2) the field at each patch. It never extrapolates: outside the convex hull of the patches on which it
        rests it is the value at the nearest point of the hull.
    sigmas_px: (n,) standard deviation of the values along an axis: by how much patches that the field does not know
        miss it, and, outside the hull, what going on by the polynomial would add.
    """

    order: int
    rms_px: float
    believed: Bool
    values: F64
    sigmas_px: F64

    @property
    def patches(self) -> int:
        """Number of believed patches."""
        return int(self.believed.sum())


@dataclass(frozen=True, kw_only=True, eq=False)
class _Fit:
    order: int
    coefficients: F64  # (K, 2)
    distances_px: F64  # (m,)
    sigmas_px: F64  # (m,) of a distance along an axis: measurement and scatter about the field
    prediction_px: F64  # (m,) distances of each patch from the field of the others


def fit_shift_field(places: F64, shifts_px: F64, sigmas_px: F64, *, sure: Bool) -> ShiftField | None:
    """The field of a block; None where one shift is all that its patches' sigmas ask for, too few are measured, or
    too many are wrong: see the module.

    One shift is given up where the patches scatter about it by more than LEAST_SCATTER_PX, and the squared distance in
    sigmas within which three quarters of them lie exceeds its 99.9 % quantile. Under one shift a squared distance has a
    chi-square distribution with two degrees of freedom, and the share of it under an order statistic a beta
    distribution. A few gross errors do not switch the field on.

    places: (n, 2) row and column of the patches' centres, in pixels. shifts_px: (n, 2) rows and columns; NaN where not
    measured. sigmas_px: (n,) standard deviation of a shift along an axis; positive where measured. sure: (n,) where a
    shift is right beyond doubt if it is measured, so that it is believed however far it lies from the field.
    """
    measured = np.isfinite(shifts_px).all(axis=1) & np.isfinite(sigmas_px)
    if measured.sum() < LEAST_PATCHES[0]:
        return None
    middle, reach = places.mean(axis=0), max(float(np.ptp(places, axis=0).max()) / 2, 1.0)
    units = (places - middle) / reach
    at, shifts, sigmas = units[measured], shifts_px[measured], sigmas_px[measured]
    constant = _fit(at, shifts, sigmas, 0)
    if _one_shift_will_do(constant.distances_px, sigmas):
        return None
    best = constant
    for order in (1, 2):
        if len(at) >= LEAST_PATCHES[order]:
            tried, former = _fit(at, shifts, sigmas, order), _inner_mean_square(best.prediction_px)
            if former > EXACT_PX**2 and _inner_mean_square(tried.prediction_px) < LEAST_GAIN * former:
                best = tried
    if _scatter_px(best) > MOST_SCATTER_PX or _two_groups(at, shifts, sigmas, best):
        return None
    near = best.distances_px <= GROSS_SIGMAS * best.sigmas_px
    kept = near | sure[measured]
    believed = measured.copy()
    believed[measured] = kept
    values = _terms(_into_hull(units, at[near]), best.order) @ best.coefficients
    beyond = _terms(units, best.order) @ best.coefficients - values
    missed = np.mean(best.prediction_px[kept] ** 2)
    return ShiftField(
        order=best.order,
        rms_px=math.sqrt(np.mean(best.distances_px[kept] ** 2)),
        believed=believed,
        values=values,
        sigmas_px=np.sqrt((missed + np.square(beyond).sum(axis=1)) / 2),
    )


def _one_shift_will_do(distances_px: F64, sigmas_px: F64) -> bool:
    scatter_px = float(np.median(distances_px)) / RAYLEIGH_MEDIAN
    ratios = np.sort((distances_px / sigmas_px) ** 2)
    count, inner = len(ratios), _inner(len(ratios))
    within = -math.expm1(-ratios[inner - 1] / 2)  # the chi-square distribution with two degrees of freedom
    return scatter_px <= LEAST_SCATTER_PX or within <= special.betaincinv(inner, count - inner + 1, 1 - SIGNIFICANCE)


def _scatter_px(fit: _Fit) -> float:
    return float(np.median(fit.distances_px)) / RAYLEIGH_MEDIAN


def _two_groups(at: F64, shifts: F64, sigmas: F64, fit: _Fit) -> bool:
    """Whether an affine field and the same field moved by one step explain clearly more of the patches than the fit.

    Groups are sought from every pair of patches as the two shifts, by alternating least squares.
    """
    count, terms = len(at), _terms(at, 1)
    if count < LEAST_GROUPED:
        return False
    reach = GROUP_SIGMAS * np.sqrt(sigmas**2 + LEAST_SCATTER_PX**2)
    onto = terms @ np.linalg.pinv(terms)
    first, second = np.triu_indices(count, 1)
    steps = shifts[first] - shifts[second]  # (pairs, 2)
    away = np.square(shifts - shifts[second][:, None]).sum(axis=2)
    moved = np.square(shifts - shifts[first][:, None]).sum(axis=2) < away  # (pairs, patches)
    for _ in range(GROUP_ROUNDS):
        left = shifts - onto @ (shifts - moved[:, :, None] * steps[:, None])
        distances = np.sqrt(np.square(np.stack([left, left - steps[:, None]])).sum(axis=3))
        moved = distances[1] < distances[0]
        sizes = moved.sum(axis=1)
        both = np.where((sizes > 0) & (sizes < count), sizes, 1)[:, None]
        ones = np.einsum("pn,pnk->pk", moved, left) / both
        others = np.einsum("pn,pnk->pk", ~moved, left) / np.maximum(count - both, 1)
        steps = ones - others
    grouped = (distances.min(axis=0) <= reach).sum(axis=1)
    smaller = np.minimum(moved.sum(axis=1), (~moved).sum(axis=1))
    apart = np.hypot(*steps.T) > 2 * np.median(reach)
    real = apart & (smaller >= SMALLER_GROUP_SHARE * count) & (grouped >= GROUPED_SHARE * count)
    near = (fit.distances_px <= reach).sum()
    return bool((grouped[real] >= near + GROUP_GAIN_SHARE * count).any())


def _inner(count: int) -> int:
    return math.ceil(INNER_SHARE * count)


def _inner_mean_square(distances_px: F64) -> float:
    return float(np.mean(np.sort(distances_px)[: _inner(len(distances_px))] ** 2))


def _fit(at: F64, shifts: F64, sigmas: F64, order: int) -> _Fit:
    terms = _terms(at, order)
    coefficients = np.zeros((terms.shape[1], 2))
    coefficients[0] = np.median(shifts, axis=0)
    for _ in range(ROUNDS):
        distances = np.hypot(*(shifts - terms @ coefficients).T)
        scatter = np.median(distances) ** 2 / RAYLEIGH_MEDIAN**2 * len(at) / (len(at) - terms.shape[1])
        variances = sigmas**2 + max(scatter - np.median(sigmas**2), LEAST_SCATTER_PX**2)
        weights = 1 / (variances * (1 + distances**2 / (4 * variances)) ** 2)
        root = np.sqrt(weights)[:, None]
        coefficients = np.linalg.lstsq(terms * root, shifts * root, rcond=None)[0]
    distances = np.hypot(*(shifts - terms @ coefficients).T)
    leverage = np.einsum("nk,kn->n", terms * root, np.linalg.pinv(terms * root))
    return _Fit(
        order=order,
        coefficients=coefficients,
        distances_px=distances,
        sigmas_px=np.sqrt(variances),
        prediction_px=distances / np.maximum(1 - leverage, 1e-6),
    )


def _terms(at: F64, order: int) -> F64:
    row, col = at.T
    terms = [np.ones_like(row), row, col, row * row, row * col, col * col]
    return np.stack(terms[: (1, 3, 6)[order]], axis=1)


def _into_hull(points: F64, corners: F64) -> F64:
    """Points (n, 2), each moved to the nearest point of the convex hull of the corners (m, 2)."""
    return np.stack([point if _inside(point, corners) else _nearest(point, corners) for point in points])


def _inside(point: F64, corners: F64) -> bool:
    """Whether no half plane holds all corners and leaves the point out: corners lie on all sides of it."""
    down, right = (corners - point).T
    if np.hypot(down, right).min() < 1e-9:
        return True
    angles = np.sort(np.arctan2(down, right))
    gaps = np.diff(angles, append=angles[0] + 2 * np.pi)
    return bool(gaps.max() <= np.pi + 1e-9)


def _nearest(point: F64, corners: F64) -> F64:
    """On the segments between any two corners, among which are all edges of the hull."""
    first, second = (corners[index] for index in np.triu_indices(len(corners)))
    along = second - first
    length = np.maximum((along**2).sum(axis=1), 1e-12)
    share = np.clip(((point - first) * along).sum(axis=1) / length, 0, 1)
    candidates = first + share[:, None] * along
    best: F64 = candidates[np.argmin(((candidates - point) ** 2).sum(axis=1))]
    return best
