from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sar1m.core.radar.ground_range import ground_range_m, slant_per_ground, slant_range_m
from support import circular

RECORDS = circular.ground_range()
SLANT_M = circular.NEAR_M + np.linspace(-5e3, 1.6e5, 400)


def by_hand(record, slant_m):
    return np.polynomial.polynomial.polyval(slant_m - circular.NEAR_M, RECORDS.srgr[record])


def test_records_hold_at_their_own_times():
    for record, time_s in enumerate(RECORDS.time_s):
        for rule in ("interpolated", "nearest"):
            found_m = ground_range_m(RECORDS, np.float64(time_s), SLANT_M, rule)
            np.testing.assert_allclose(found_m, by_hand(record, SLANT_M), rtol=0, atol=1e-8)


def test_rules_between_records():
    blend_m = 0.7 * by_hand(1, SLANT_M) + 0.3 * by_hand(2, SLANT_M)
    np.testing.assert_allclose(ground_range_m(RECORDS, np.float64(6.5), SLANT_M, "interpolated"), blend_m, atol=1e-8)
    for time_s, record in ((7.4, 1), (7.6, 2)):
        found_m = ground_range_m(RECORDS, np.float64(time_s), SLANT_M, "nearest")
        np.testing.assert_allclose(found_m, by_hand(record, SLANT_M), rtol=0, atol=1e-8)


@pytest.mark.parametrize("rule", ["interpolated", "nearest"])
def test_outermost_records_hold_beyond(rule):
    np.testing.assert_allclose(ground_range_m(RECORDS, np.float64(-9.0), SLANT_M, rule), by_hand(0, SLANT_M), atol=1e-8)
    np.testing.assert_allclose(ground_range_m(RECORDS, np.float64(99.0), SLANT_M, rule), by_hand(4, SLANT_M), atol=1e-8)


@given(st.floats(-3, 25), st.floats(-5e3, 1.6e5), st.sampled_from(["interpolated", "nearest"]))
def test_there_and_back(time_s, away_m, rule):
    slant_m = np.float64(circular.NEAR_M + away_m)
    ground_m = ground_range_m(RECORDS, np.float64(time_s), slant_m, rule)
    assert slant_range_m(RECORDS, np.float64(time_s), ground_m, rule) == pytest.approx(slant_m, abs=1e-5)


def test_the_way_back_needs_no_good_first_guess():
    """An inverse wrong by kilometres still leads to the range whose slant-to-ground polynomial gives the sample."""
    poor = replace(RECORDS, grsr=RECORDS.grsr + np.array([2000.0, 0.0, 0.0]))
    ground_m = by_hand(2, SLANT_M)
    np.testing.assert_allclose(slant_range_m(poor, np.float64(10.0), ground_m, "nearest"), SLANT_M, rtol=0, atol=1e-5)


def test_slope_is_the_derivative():
    step_m = 10.0
    time_s = np.float64(8.1)
    rise_m = ground_range_m(RECORDS, time_s, SLANT_M + step_m, "interpolated")
    rise_m = rise_m - ground_range_m(RECORDS, time_s, SLANT_M - step_m, "interpolated")
    slope = slant_per_ground(RECORDS, time_s, SLANT_M, "interpolated")
    np.testing.assert_allclose(slope, 2 * step_m / rise_m, rtol=1e-7)


def test_beyond_the_polynomials_there_is_no_answer():
    """2 - 1e-5 x falls from x = 200 km on; the greatest value is 200 km."""
    bent = replace(RECORDS, srgr=np.tile([0.0, 2.0, -5e-6], (5, 1)))
    far_m = circular.NEAR_M + np.array([1.98e5, 2.02e5, 3.9e5, -4e5])
    found_m = ground_range_m(bent, np.float64(3.0), far_m, "nearest")
    np.testing.assert_array_equal(np.isnan(found_m), [False, True, True, True])
    assert np.isnan(slant_range_m(bent, np.float64(3.0), np.float64(2.1e5), "nearest"))
    assert np.isnan(slant_per_ground(bent, np.float64(3.0), far_m[1:2], "nearest")).all()
    assert np.isnan(ground_range_m(RECORDS, np.float64(np.nan), SLANT_M[:2], "nearest")).all()


def test_one_record_and_many_points():
    single = circular.ground_range(1)
    time_s, slant_m = np.meshgrid(np.linspace(-1, 26, 300), np.linspace(8e5, 9e5, 400), indexing="ij")
    for rule in ("interpolated", "nearest"):
        found_m = ground_range_m(single, time_s, slant_m, rule)
        assert found_m.shape == (300, 400)
        np.testing.assert_allclose(found_m, by_hand(0, slant_m), rtol=0, atol=1e-8)
