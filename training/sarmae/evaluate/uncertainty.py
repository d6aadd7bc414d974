"""Intervals of a score over the tested samples and over the seeds, and comparisons between two arms.

Two things vary, and each has its own interval. The bootstrap resamples the test samples and keeps the trained model.
The t interval over seeds repeats the training (weights, order, drawn labels) and keeps the test samples. Neither
includes the other: a difference between two arms that holds for this test split may not hold for another one. A claim
needs both. Three seeds give wide intervals: Student's t multiplies the standard error by 4.30 with three seeds (two
degrees of freedom), by 2.78 with five, by 2.26 with ten. An encoder that exists already, with a classifier that draws
nothing, is the same at every seed: the interval over the tested samples is then all there is.
"""

# S samples, G groups, R draws, M contributions

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sar1m.store.errors import ConfigError
from sarmae.evaluate.extra_packages import extra_package
from sarmae.stream.keyed_random import DrawKey, integers

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Statistic = Callable[[F64], F64]

LEVEL: Final = 0.95
STREAM: Final = "bootstrap"
_WEIGHTS_AT_A_TIME: Final = 1 << 22  # 32 MiB of float64


class Interval(NamedTuple):
    """Mean of the values and its 95 % interval, None where there is none."""

    mean: float
    low: float | None
    high: float | None


class SampledDifference(NamedTuple):
    """95 % interval of a difference over the tested samples, and the two-sided p value of no difference."""

    low: float
    high: float
    p: float


class Difference(NamedTuple):
    """Mean of a - b over the seeds that both have, its 95 % interval, and the two-sided p value of no difference."""

    mean: float
    low: float | None
    high: float | None
    p: float | None
    seeds: int


def bootstrap_interval(
    contributions: NDArray[Any], statistic: Statistic, groups: I64, *, draws: int, seed: int
) -> tuple[float, float] | None:
    """95 % percentile interval of a statistic of sums over samples. Groups of near-copies are drawn whole.

    contributions: (S, M), what each sample adds, such as its cell of a confusion matrix.
    statistic: maps (R, M) sums to (R,) values. Draws for which it is NaN (a class that was not drawn) are left out.
    groups: (S,) group of each sample.
    draws, seed: of the bootstrap.
    Returns None with fewer than two groups, without draws, or where every draw is NaN.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13; of clusters, Field and Welsh, Journal
    of the Royal Statistical Society B 69, 2007.
    """
    values = _bootstrap(contributions, statistic, groups, draws=draws, seed=seed)
    return None if values is None else _percentiles(values)


def bootstrap_difference(
    contributions: NDArray[Any], statistic: Statistic, groups: I64, *, draws: int, seed: int
) -> SampledDifference | None:
    """Paired bootstrap: 95 % percentile interval of a difference between two arms, and its p value.

    contributions, groups, draws, seed: as of bootstrap_interval; what a sample adds holds the answers of both arms, so
    that they are drawn together. statistic: the difference.
    p is twice the smaller share of the draws on one side of 0, each draw at 0 counted on both sides and the data
    themselves as one draw more; so it is 1 for an arm and itself, and never below 2 / (draws + 1).
    Returns None where bootstrap_interval does.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13; the draw more: Davison and Hinkley,
    Bootstrap Methods and their Application, 1997, ch. 4.
    """
    values = _bootstrap(contributions, statistic, groups, draws=draws, seed=seed)
    if values is None:
        return None
    fewer = min(int((values <= 0).sum()), int((values >= 0).sum()))
    return SampledDifference(*_percentiles(values), min(1.0, 2 * (fewer + 1) / (len(values) + 1)))


def _bootstrap(contributions: NDArray[Any], statistic: Statistic, groups: I64, *, draws: int, seed: int) -> F64 | None:
    """The drawn values that are not NaN; None where there are none."""
    _, places = np.unique(groups, return_inverse=True)
    sums = np.zeros((int(places.max(initial=-1)) + 1, contributions.shape[1]))
    np.add.at(sums, places, contributions)
    if len(sums) < 2 or draws < 1:
        return None
    values = np.concatenate([statistic(weights @ sums) for weights in _weights(len(sums), draws, seed)])
    values = values[~np.isnan(values)]
    return values if len(values) else None


def _percentiles(values: F64) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def group_draws(groups: I64, *, draws: int, seed: int) -> Iterator[I64]:
    """Bootstrap samples, for statistics that are not functions of sums.

    groups: (S,) group of each sample.
    Yields, `draws` times, the positions of the drawn samples. A group is drawn whole, and may be drawn more than once.
    """
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    for weights in _weights(len(members), draws, seed):
        for times in weights.astype(np.int64):
            yield np.concatenate([np.tile(members[place], times[place]) for place in np.flatnonzero(times)])


def seed_interval(values: Sequence[float]) -> Interval:
    """The mean over seeds and its 95 % t interval.

    There is no interval from one value, nor where all values are equal: then the seed has no effect, and the spread of
    the values does not measure uncertainty. Raises ConfigError without values or with one that is not finite.
    """
    mean, error = _mean_and_error(values)
    if error is None:
        return Interval(mean, None, None)
    reach = float(_student_t().ppf((1 + LEVEL) / 2, len(values) - 1)) * error
    return Interval(mean, mean - reach, mean + reach)


def paired_difference(a: Mapping[int, float], b: Mapping[int, float]) -> Difference:
    """Paired t comparison of two arms.

    a, b: value by seed. Seeds that only one of them has are left out. The comparison is paired because arms of one seed
    share the order of samples and the drawn labels.
    There is no interval and no p value with fewer than two common seeds, nor where all differences are equal. Raises
    ConfigError without a common seed.
    """
    common = sorted(a.keys() & b.keys())
    if not common:
        raise ConfigError(
            f"comparison: seeds {sorted(a)} and {sorted(b)} have none in common; at least one expected. Run both arms "
            "with the same seeds."
        )
    differences = [a[seed] - b[seed] for seed in common]
    mean, error = _mean_and_error(differences)
    low, high = seed_interval(differences)[1:]
    p = None if error is None else 2 * float(_student_t().sf(abs(mean / error), len(common) - 1))
    return Difference(mean, low, high, p, len(common))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """p values of several comparisons, corrected by Holm's method: the chance of one false finding among all of them
    stays at the level to which each is compared. Source: Holm, Scandinavian Journal of Statistics 6, 1979.
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(np.asarray(p_values)[order] * factors), 1.0)
    return tuple(corrected.tolist())


def _student_t() -> Any:  # noqa: ANN401 - scipy has no types
    return extra_package("scipy.stats", "an interval over seeds").t


def _mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and its standard error; no error where the values do not vary."""
    if not values or not all(math.isfinite(value) for value in values):
        raise ConfigError(f"values over seeds {list(values)}; at least one, all finite, expected.")
    if len(set(values)) == 1:
        return values[0], None
    sample = np.asarray(values, dtype=np.float64)
    return float(sample.mean()), float(sample.std(ddof=1) / math.sqrt(len(values)))


def _weights(groups: int, draws: int, seed: int) -> Iterator[F64]:
    """(R, G) blocks: how often each group is drawn, in draws of as many groups as there are."""
    key = DrawKey(seed=seed, epoch=0, stream=STREAM)
    block = max(1, _WEIGHTS_AT_A_TIME // groups)
    for start in range(0, draws, block):
        ids = np.arange(start, min(start + block, draws), dtype=np.int64)
        drawn = integers(key, ids, groups, groups)
        flat = np.bincount((drawn + np.arange(len(ids))[:, None] * groups).ravel(), minlength=len(ids) * groups)
        yield flat.reshape(len(ids), groups).astype(np.float64)
