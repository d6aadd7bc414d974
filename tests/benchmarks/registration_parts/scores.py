"""Figures of errors: with the truth's own variance taken out, and with intervals over scenes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from registration_parts.members import F64

GROSS_PX = 2.0
Row = dict[str, Any]


def figures(errors: F64, sigmas: F64, scenes: Sequence[str], *, resamples: int) -> Row:
    """Of two-dimensional errors (n, 2) in pixels, NaN where a method found no peak.

    sigmas: (n,) of the truth, in two dimensions. scenes: of each error; intervals draw whole scenes with replacement.
    rmse_px counts what was found; net_px has the mean square of sigmas taken out; rmse_under_2px leaves gross errors
    out. Shares count an absent peak as a miss.
    """
    found = np.isfinite(errors).all(axis=1)
    distance = np.hypot(*errors[found].T)
    if not found.any():
        return {"n": len(errors), "scenes": len(set(scenes)), "no_peak": len(errors)}
    squares, truths = distance**2, sigmas[found] ** 2
    names = np.array(scenes)[found]
    low, high = _intervals(squares, truths, names, resamples)
    fine = distance < GROSS_PX
    bias = np.median(errors[found], axis=0)
    return {
        "n": len(errors),
        "scenes": len(set(scenes)),
        "no_peak": int((~found).sum()),
        "rmse_px": _root(squares.mean()),
        "rmse_interval": f"{low[0]:.2f} to {high[0]:.2f}",
        "net_px": _root(squares.mean() - truths.mean()),
        "net_interval": f"{low[1]:.2f} to {high[1]:.2f}",
        "rmse_under_2px": _root(squares[fine].mean()) if fine.any() else float("nan"),
        "median_px": float(np.median(distance)),
        "p95_px": float(np.quantile(distance, 0.95)),
        "bias_row_px": float(bias[0]),
        "bias_col_px": float(bias[1]),
        "under_half_px": float((distance < 0.5).sum() / len(errors)),
        "under_1px": float((distance < 1).sum() / len(errors)),
    }


def calibration(errors: F64, sigmas: F64, truths: F64) -> Row:
    """Shares of errors within one and two sigma, rows and columns counted each; 0.68 and 0.95 where sigma is right.

    errors: (n, 2). sigmas: (n,) of the method along one axis. truths: (n,) of the truth in two dimensions.
    """
    found = np.isfinite(errors).all(axis=1) & np.isfinite(sigmas)
    if not found.any():
        return {"n": 0}
    wide = np.sqrt(sigmas[found] ** 2 + truths[found] ** 2 / 2)[:, None]
    ratio = np.abs(errors[found]) / wide
    return {
        "n": int(found.sum()),
        "sigma_median_px": float(np.median(sigmas[found])),
        "within_1_sigma": float((ratio <= 1).mean()),
        "within_2_sigma": float((ratio <= 2).mean()),
    }


def _intervals(squares: F64, truths: F64, names: Any, resamples: int) -> tuple[F64, F64]:
    """Bounds of 95 % of rmse and net, each (2,)."""
    _, which = np.unique(names, return_inverse=True)
    sums = np.stack([np.bincount(which, weights=one) for one in (squares, truths, np.ones_like(squares))])
    drawn = np.random.default_rng(15).integers(0, sums.shape[1], (resamples, sums.shape[1]))
    square, truth, count = (one[drawn].sum(axis=1) for one in sums)
    both = np.sqrt(np.maximum(np.stack([square, square - truth]) / count, 0))
    low, high = np.quantile(both, (0.025, 0.975), axis=1)
    return low, high


def _root(value: float) -> float:
    return float(np.sqrt(max(value, 0.0)))
