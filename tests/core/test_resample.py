"""Sub-pixel shifts against waves whose shifted form is known; block means against scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from sar1m.core.resample import block_mean, shift_fraction, shift_subpixel

INNER = np.s_[..., 24:-24, 24:-24]
shifts = st.floats(-7, 7, allow_nan=False)


def _band_limited(key=0, shape=(2, 96, 80)):
    noise = np.random.default_rng(key).standard_normal(shape)
    return ndimage.gaussian_filter(noise, (0, 2, 2)).astype(np.float32)


def _wave(row_px, col_px, shape=(96, 80)):
    """A plane wave of 9.3 x 13.1 px, moved by row_px down and col_px to the right."""
    row, col = np.mgrid[: shape[0], : shape[1]]
    return np.cos(2 * np.pi * ((row - row_px) / 9.3 + (col - col_px) / 13.1)).astype(np.float32)


@pytest.mark.parametrize(("row_px", "col_px"), [(0.5, 0.0), (0.0, -0.25), (2.3, -1.7), (-5.9, 6.4)])
def test_a_wave_moves_down_and_right(row_px, col_px):
    moved = shift_subpixel(_wave(0, 0), row_px, col_px)
    np.testing.assert_allclose(moved[INNER], _wave(row_px, col_px)[INNER], atol=0.02)


@pytest.mark.parametrize(("row_px", "col_px"), [(0.5, 0.0), (0.0, -0.25), (0.3, -0.5), (-0.49, 0.4)])
def test_the_compact_kernel_moves_a_wave_as_far(row_px, col_px):
    moved = shift_fraction(_wave(0, 0), row_px, col_px)
    np.testing.assert_allclose(moved[INNER], _wave(row_px, col_px)[INNER], atol=0.002)


def test_the_compact_kernel_fills_no_gap_and_counts_only_what_is_there():
    image = np.full((60, 60), 5.0, np.float32)
    image[20:30, 20:30] = np.nan
    moved = shift_fraction(image, 0.4, -0.3)
    gone = np.zeros((60, 60), dtype=bool)
    gone[20:31, 19:30] = True
    gone[0], gone[:, -1] = True, True
    np.testing.assert_array_equal(np.isnan(moved), gone)
    np.testing.assert_allclose(moved[~gone], 5.0, rtol=1e-5)


def test_the_compact_kernel_refuses_more_than_a_pixel():
    with pytest.raises(ValueError, match="at most a pixel"):
        shift_fraction(_band_limited(), 1.2, 0.0)


def test_whole_pixels_are_copied_and_what_comes_from_outside_is_missing():
    image = _band_limited()
    moved = shift_subpixel(image, 3, -2)
    np.testing.assert_allclose(moved[:, 3:, :-2], image[:, :-3, 2:], atol=1e-5)
    assert np.isnan(moved[:, :3]).all()
    assert np.isnan(moved[:, :, -2:]).all()
    assert np.isfinite(moved[:, 3:, :-2]).all()


@given(row_px=shifts, col_px=shifts, key=st.integers(0, 5))
def test_a_shift_and_its_opposite_give_the_image_back(row_px, col_px, key):
    image = _band_limited(key)
    moved = shift_subpixel(image, row_px, col_px)
    lost_px = 9
    inside = np.s_[:, lost_px:-lost_px, lost_px:-lost_px]
    back = shift_subpixel(moved[inside], -row_px, -col_px)
    np.testing.assert_allclose(back[INNER], image[inside][INNER], atol=0.02 * image.std())


def test_missing_pixels_stay_missing_and_reach_only_their_neighbours():
    image = _band_limited()
    image[:, 40, 30] = np.nan
    moved = shift_subpixel(image, 2.5, 0)
    assert np.isnan(moved[:, 42:44, 30]).all()
    assert np.isnan(moved).sum() == 2 * (3 * 80 + 2)


def test_an_image_without_data_stays_without():
    assert np.isnan(shift_subpixel(np.full((1, 8, 8), np.nan, np.float32), 0.5, 0.5)).all()


@pytest.mark.parametrize("factor", [1, 2, 3, 5])
def test_block_means_are_those_of_scipy_labels(factor):
    image = _band_limited()[0]
    rows, cols = image.shape[0] // factor, image.shape[1] // factor
    row, col = np.mgrid[: image.shape[0], : image.shape[1]] // factor
    label = np.where((row < rows) & (col < cols), row * cols + col, -1)
    expected = ndimage.mean(image, label, np.arange(rows * cols)).reshape(rows, cols)
    means = block_mean(image, factor)
    assert means.dtype == np.float32
    np.testing.assert_allclose(means, expected, atol=1e-6)


def test_a_block_with_a_missing_pixel_is_missing():
    image = np.ones((1, 4, 6), np.float32)
    image[0, 1, 2] = np.nan
    np.testing.assert_array_equal(np.isnan(block_mean(image, 2))[0], [[False, True, False], [False] * 3])
