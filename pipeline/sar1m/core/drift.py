"""Whether a measured displacement changed: between groups of acquisitions, or from some month on.

Each question is a contrast: some acquisitions against others. All questions of a table are judged together by
permutation. Values change places within their stratum (a track), and the largest statistic of all questions is noted
for every permutation. A contrast is found where its own statistic is larger than all but a share of these. That share
is the rate of false alarms of the whole table, whatever the number of questions, the distribution of the errors, and
what differs from track to track. Statistics are of ranks, so that gross errors count as any large value.
Source: P. Westfall, S. Young, "Resampling-based multiple testing" (1993), single-step maxT; P. van Elteren, "On the
combination of independent two-sample tests of Wilcoxon" (1960), with normal scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy import stats

from sar1m.core.table import F64, I64, Bool
from sar1m.records import F32

DRAWS: Final = 999
MOST_FOUND: Final = 5
LEAST_WEIGHT: Final = 4.0  # of a contrast: that of eight acquisitions against eight on one track
_TOGETHER: Final = 16  # permutations worked on at once
_SAME: Final = 0.95  # correlation from which two contrasts ask the same
_MEDIAN_LOSS: Final = float(np.sqrt(np.pi / 2))  # of a median's standard deviation against a mean's
_MAD: Final = 1.4826  # times the median absolute deviation: standard deviation of normal values


@dataclass(frozen=True, kw_only=True, eq=False)
class Contrast:
    """side against the rest of `among`, both (n,). name: the question in words."""

    name: str
    side: Bool
    among: Bool


@dataclass(frozen=True, kw_only=True)
class Change:
    """A contrast whose two sides differ.

    step_px: by which its side lies beyond the others, one for each component. sigma_px: one standard deviation of them.
    p: chance of so strong a finding anywhere in a table without any change, at least 1 / (DRAWS + 1).
    alike: other contrasts that hold nearly the same acquisitions against each other: which of them it was, the table
    cannot say.
    """

    name: str
    step_px: tuple[float, ...]
    sigma_px: float
    p: float
    alike: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class DriftResult:
    """changes: the strongest first, each found after those before it were taken out. contrasts: how many were asked.

    scatter_px: robust standard deviation of one acquisition's displacement about its track's.
    visible_px: step over half of all acquisitions that is found five times in six.
    """

    changes: tuple[Change, ...]
    contrasts: int
    scatter_px: float
    visible_px: float


def find_changes(
    values_px: F64, strata: I64, contrasts: Sequence[Contrast], *, false_alarms: float, seed: int = 0
) -> DriftResult:
    """Contrasts in which the values differ, found step by step, at most MOST_FOUND.

    Contrasts with too little on one side, within the strata, are left out (LEAST_WEIGHT).

    values_px: (n, components), finite. strata: (n,) numbers of the tracks. false_alarms: chance that a table without
    any change gives one.
    """
    values = np.array(values_px, dtype=np.float64)
    asked = [contrast for contrast in contrasts if _weight(contrast, strata) >= LEAST_WEIGHT]
    scatter_px = _scatter(values, strata)
    if not asked:
        return DriftResult(changes=(), contrasts=0, scatter_px=scatter_px, visible_px=float("inf"))
    labels = np.stack([_labels(contrast, strata) for contrast in asked]).astype(np.float32)
    order = np.argsort(strata, kind="stable")
    largest = _largest_by_chance(_scores(values, strata), labels, strata, order, seed)
    limit = float(np.quantile(largest, 1 - false_alarms, method="higher"))
    changes: list[Change] = []
    while len(changes) < MOST_FOUND:
        strength = np.abs(labels @ _scores(values, strata)).max(axis=1)
        at = int(np.argmax(strength))
        p = float((1 + np.sum(largest >= strength[at] - 1e-5)) / (DRAWS + 1))
        if p > false_alarms:
            break
        step_px, sigma_px = _step(values, strata, asked[at])
        like = np.flatnonzero(np.abs(labels @ labels[at]) > _SAME)
        names = tuple(asked[k].name for k in like if k != at)
        changes.append(Change(name=asked[at].name, step_px=step_px, sigma_px=sigma_px, p=p, alike=names))
        values[asked[at].side & asked[at].among] -= step_px
    return DriftResult(
        changes=tuple(changes),
        contrasts=len(asked),
        scatter_px=scatter_px,
        visible_px=_visible_px(limit, scatter_px, len(values)),
    )


def _visible_px(limit: float, scatter_px: float, count: int) -> float:
    """Step over half of the values whose statistic is one standard deviation over the limit: the step's half, up and
    down, adds to the scatter by which it is judged. Infinite where no step could be large enough."""
    beyond = count - (limit + 1) ** 2
    return 2 * (limit + 1) * scatter_px / float(np.sqrt(beyond)) if beyond > 0 else float("inf")


def centre_and_sigma(values_px: F64, usual_scatter_px: float) -> tuple[F64, float]:
    """Median (components,) of a group's values (n, components), and one standard deviation of its components.

    usual_scatter_px: of single values, used where the group has fewer than eight.
    """
    centre = np.median(values_px, axis=0)
    own = _MAD * float(np.median(np.abs(values_px - centre))) if len(values_px) >= 8 else usual_scatter_px
    loss = _MEDIAN_LOSS if len(values_px) > 2 else 1.0
    return centre, loss * own / float(np.sqrt(len(values_px)))


def _labels(contrast: Contrast, strata: I64) -> F64:
    """The contrast as weights (n,) of unit length that sum to 0 in every stratum; 0 outside `among`."""
    label = np.where(contrast.among, contrast.side.astype(np.float64), 0.0)
    counts = np.bincount(strata, weights=contrast.among.astype(np.float64))
    means = np.bincount(strata, weights=label) / np.maximum(counts, 1)
    label = np.where(contrast.among, label - means[strata], 0.0)
    return label / max(float(np.linalg.norm(label)), 1e-300)


def _weight(contrast: Contrast, strata: I64) -> float:
    """Sum over the strata of n1 n2 / (n1 + n2), where n1 and n2 are the acquisitions of the two sides."""
    first, second = _sides(contrast, strata)
    return float(np.sum(first * second / np.maximum(first + second, 1)))


def _sides(contrast: Contrast, strata: I64) -> tuple[F64, F64]:
    """Number of acquisitions of either side in each stratum."""
    first, second = (
        np.bincount(strata, weights=(contrast.among & side).astype(np.float64)).astype(np.float64)
        for side in (contrast.side, ~contrast.side)
    )
    return first, second


def _scores(values: F64, strata: I64) -> F32:
    """Normal scores (n, components) of the values within their stratum, of mean 0 and variance 1 there."""
    scores = np.zeros(values.shape)
    for rows in _rows_by_stratum(strata):
        if len(rows) < 2:
            continue
        ranks = stats.rankdata(values[rows], axis=0)
        normal = stats.norm.ppf(ranks / (len(rows) + 1))
        normal -= normal.mean(axis=0)
        spread = normal.std(axis=0, ddof=1)
        scores[rows] = normal / np.where(spread > 0, spread, 1.0)
    return scores.astype(np.float32)


def _rows_by_stratum(strata: I64) -> list[I64]:
    order = np.argsort(strata, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(strata[order])) + 1)


def _largest_by_chance(scores: F32, labels: F32, strata: I64, order: I64, seed: int) -> F64:
    """Largest statistic of all contrasts and components in each of DRAWS permutations within the strata."""
    bits = np.random.Philox([seed, len(scores)])  # raw bits: numpy promises them for ever
    largest = np.empty(DRAWS)
    for start in range(0, DRAWS, _TOGETHER):
        stop = min(start + _TOGETHER, DRAWS)
        columns = []
        for _ in range(start, stop):
            shuffled = np.empty(len(scores), dtype=np.int64)
            shuffled[order] = np.lexsort((bits.random_raw(len(scores)), strata))
            columns.append(scores[shuffled])
        found = np.abs(labels @ np.concatenate(columns, axis=1)).reshape(len(labels), stop - start, -1)
        largest[start:stop] = found.max(axis=(0, 2))
    return largest


def _step(values: F64, strata: I64, contrast: Contrast) -> tuple[tuple[float, ...], float]:
    """Difference of the sides' medians, averaged over the strata, and its standard deviation."""
    total, weights, left = np.zeros(values.shape[1]), 0.0, []
    for rows in _rows_by_stratum(strata):
        first = values[rows[contrast.among[rows] & contrast.side[rows]]]
        second = values[rows[contrast.among[rows] & ~contrast.side[rows]]]
        if len(first) and len(second):
            weight = len(first) * len(second) / (len(first) + len(second))
            total += weight * (np.median(first, axis=0) - np.median(second, axis=0))
            weights += weight
            left += [side - np.median(side, axis=0) for side in (first, second) if len(side) > 2]
    spread = _MAD * float(np.median(np.abs(np.concatenate(left)))) if left else _scatter(values, strata)
    sigma_px = _MEDIAN_LOSS * spread / float(np.sqrt(weights))
    return tuple((total / weights).tolist()), sigma_px


def _scatter(values: F64, strata: I64) -> float:
    """Robust standard deviation of values about the medians of their strata."""
    left = [values[rows] - np.median(values[rows], axis=0) for rows in _rows_by_stratum(strata) if len(rows) > 2]
    return _MAD * float(np.median(np.abs(np.concatenate(left)))) if left else float("nan")


def joined(first: Contrast, among: Bool, words: str) -> Contrast:
    """A contrast asked of fewer acquisitions."""
    return replace(first, name=f"{first.name}, {words}", among=first.among & among)
