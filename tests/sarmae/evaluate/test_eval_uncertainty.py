"""Intervals and comparisons, held against the handbook's series, scipy and how often they are right."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from sar1m.store.errors import ConfigError
from sarmae.evaluate.uncertainty import (
    bootstrap_interval,
    group_draws,
    holm,
    paired_difference,
    seed_interval,
)


def mean(sums: np.ndarray) -> np.ndarray:
    return sums[:, 0] / sums[:, 1]


def shares(right: np.ndarray) -> np.ndarray:
    return np.stack([right, np.ones_like(right)], axis=1)


def student_t(t: float, freedom: int) -> float:
    """Two-sided chance. Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4."""
    angle = math.atan(abs(t) / math.sqrt(freedom))
    cosine, even = math.cos(angle), freedom % 2 == 0
    terms = [1.0 if even else cosine]
    for power in range(2 if even else 3, freedom - 1, 2):
        terms.append(terms[-1] * cosine**2 * (power - 1) / power)
    total = math.sin(angle) * sum(terms[: freedom // 2])
    return 1 - (total if even else (angle + total) * 2 / math.pi)


@given(values=st.lists(st.floats(-1, 1), min_size=2, max_size=30))
def test_p_and_interval_are_those_of_the_handbooks_series(values: list[float]):
    assume(np.std(values) > 1e-3)
    found = paired_difference(dict(enumerate(values)), dict.fromkeys(range(len(values)), 0.0))
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    assert found.p == pytest.approx(student_t(found.mean / error, len(values) - 1), abs=1e-9)
    assert found.low is not None
    assert student_t((found.mean - found.low) / error, len(values) - 1) == pytest.approx(0.05, abs=1e-9)


def test_seed_interval_is_scipys():
    values = [0.71, 0.74, 0.69, 0.75]
    found = seed_interval(values)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(values), low, high), rel=1e-10)


@pytest.mark.parametrize("values", [[0.5], [0.1 + 0.2] * 3])
def test_seeds_that_decide_nothing_give_no_interval(values: list[float]):
    assert seed_interval(values) == (values[0], None, None)


def test_paired_difference_is_scipys_and_takes_common_seeds_only():
    a = {0: 0.71, 1: 0.74, 2: 0.69, 5: 0.75, 9: 0.0}
    b = {0: 0.70, 1: 0.71, 2: 0.69, 5: 0.73, 8: 1.0}
    found = paired_difference(a, b)
    oracle = stats.ttest_rel([a[seed] for seed in (0, 1, 2, 5)], [b[seed] for seed in (0, 1, 2, 5)])
    interval = oracle.confidence_interval()
    assert found.seeds == 4
    assert found[:4] == pytest.approx((0.015, interval.low, interval.high, oracle.pvalue), rel=1e-9)


def test_a_difference_that_never_varies_has_no_p():
    assert paired_difference({0: 1.0, 1: 1.0}, {0: 0.5, 1: 0.5}) == (0.5, None, None, None, 2)
    assert paired_difference({0: 1.0, 1: 2.0}, {1: 0.5}) == (1.5, None, None, None, 1)


@pytest.mark.parametrize(
    ("a", "b", "message"), [({0: 1.0}, {1: 1.0}, "none in common"), ({0: 1.0}, {0: np.nan}, "nan")]
)
def test_what_cannot_be_compared_is_said(a: dict[int, float], b: dict[int, float], message: str):
    with pytest.raises(ConfigError, match=message):
        paired_difference(a, b)


def test_holm_by_hand():
    # Holm 1979: smallest times 4, next times 3 ..., never falling again, never above 1
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([0.6, 0.5]) == (1.0, 1.0)
    assert holm([]) == ()


def test_the_bootstrap_of_single_samples_is_scipys():
    right = (np.random.default_rng(0).random(200) < 0.7).astype(float)
    found = bootstrap_interval(shares(right), mean, np.arange(200), draws=8000, seed=0)
    oracle = stats.bootstrap(
        (right,), np.mean, n_resamples=8000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert found == pytest.approx((oracle.low, oracle.high), abs=0.006)


def test_the_interval_holds_the_truth_as_often_as_it_says_with_groups_whole():
    draws = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 5)
    held, held_as_if_single = 0, 0
    for trial in range(300):
        right = np.repeat((draws.random(60) < 0.6).astype(float), 5)  # near-copies are right or wrong together
        low, high = bootstrap_interval(shares(right), mean, groups, draws=300, seed=trial) or (1.0, 0.0)
        held += low <= 0.6 <= high
        low, high = bootstrap_interval(shares(right), mean, np.arange(300), draws=300, seed=trial) or (1.0, 0.0)
        held_as_if_single += low <= 0.6 <= high
    assert 0.90 < held / 300 < 0.98
    assert held_as_if_single / 300 < 0.75


def test_no_interval_without_draws_or_with_one_group_or_where_nothing_is_defined():
    right = np.ones(10)
    assert bootstrap_interval(shares(right), mean, np.arange(10), draws=0, seed=0) is None
    assert bootstrap_interval(shares(right), mean, np.zeros(10, dtype=np.int64), draws=10, seed=0) is None
    nowhere = bootstrap_interval(shares(right), lambda sums: np.full(len(sums), np.nan), np.arange(10), draws=5, seed=0)
    assert nowhere is None


def test_drawn_groups_come_whole_and_give_the_same_interval_as_their_sums():
    groups = np.array([7, 7, 3, 3, 3, 9])
    right = np.array([1.0, 0, 1, 1, 0, 0])
    values = []
    for drawn in group_draws(groups, draws=50, seed=4):
        times = np.bincount(drawn, minlength=6)
        assert times[0] == times[1]
        assert times[2] == times[3] == times[4]
        assert times[0] + times[2] + times[5] == 3
        values.append(right[drawn].mean())
    expected = np.quantile(values, [0.025, 0.975])
    assert bootstrap_interval(shares(right), mean, groups, draws=50, seed=4) == pytest.approx(tuple(expected))
