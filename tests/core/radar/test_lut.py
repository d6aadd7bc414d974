"""Look-up tables on windows: exact for bilinear tables, defined outside, the same in every window."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import RegularGridInterpolator

from support.radiometry_cases import lut_values, table, window

RAGGED = table(
    [-40, 10, 90, 260],  # the first before the image, the last beyond it
    [[0, 40, 80, 120], [0, 33, 120], [0, 7, 41, 99, 120], [0, 120]],
    lambda at, s: 500.0 + 0.3 * at - 0.7 * s,
)


def test_a_plane_comes_back_exactly_though_vectors_stand_at_different_samples():
    found = lut_values(RAGGED, window(0, 0, 200, 121))
    line, sample = np.mgrid[0:200, 0:121]
    np.testing.assert_allclose(found, 500.0 + 0.3 * line - 0.7 * sample, rtol=1e-7)


def test_a_regular_table_agrees_with_scipy():
    rng = np.random.default_rng(1)
    lines, samples = np.array([-5, 30, 77, 150]), np.array([0, 40, 80, 95])
    values = rng.uniform(300, 700, (4, 4))
    ours = table(lines, [samples] * 4, lambda at, s: values[list(lines).index(at)])
    line, sample = np.mgrid[0:140, 0:90]
    expected = RegularGridInterpolator((lines, samples), values)((line, sample))
    np.testing.assert_allclose(lut_values(ours, window(0, 0, 140, 90)), expected, rtol=1e-7)


def test_outside_the_vectors_the_nearest_value_holds():
    found = lut_values(RAGGED, window(-60, -10, 400, 150))
    inside = lut_values(RAGGED, window(-40, 0, 301, 121))
    np.testing.assert_array_equal(found[20:321, 10:131], inside)
    np.testing.assert_array_equal(found[:20, 10:131], np.broadcast_to(inside[0], (20, 121)))
    np.testing.assert_array_equal(found[321:, 10:131], np.broadcast_to(inside[-1], (79, 121)))
    np.testing.assert_array_equal(found[20:321, :10], np.broadcast_to(inside[:, :1], (301, 10)))
    np.testing.assert_array_equal(found[20:321, 131:], np.broadcast_to(inside[:, -1:], (301, 19)))


@pytest.mark.parametrize("line", [0, 50, 400])
def test_a_single_vector_holds_for_all_lines(line):
    single = table([50], [[0, 100]], lambda at, s: 10.0 + s)
    np.testing.assert_array_equal(lut_values(single, window(line, 0, 3, 101)), np.tile(np.arange(101.0) + 10, (3, 1)))


@given(st.integers(0, 250), st.integers(0, 120), st.integers(1, 60), st.integers(1, 30))
def test_a_window_is_a_piece_of_the_whole_bit_for_bit(line, sample, lines, samples):
    whole = lut_values(RAGGED, window(0, 0, 320, 160))
    piece = lut_values(RAGGED, window(line, sample, lines, samples))
    np.testing.assert_array_equal(piece, whole[line : line + lines, sample : sample + samples])
