"""Blurring to a sensor's resolution."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from sar1m.core.radar.blur import blurred

FWHM = np.sqrt(8 * np.log(2))  # of a Gaussian, in standard deviations


@pytest.mark.parametrize("resolution_px", [1.5, 2.2, 3.0])
def test_it_is_a_gaussian_of_that_width(resolution_px):
    image = np.random.default_rng(1).gamma(4.4, 1 / 4.4, (40, 53)).astype(np.float32)
    wide = gaussian_filter(image.astype(np.float64), resolution_px / FWHM, mode="nearest", truncate=8)
    assert np.abs(blurred(image, resolution_px) - wide).max() < 0.05  # the cut at two pixels
    radius = gaussian_filter(image.astype(np.float64), resolution_px / FWHM, mode="nearest", radius=2)
    np.testing.assert_allclose(blurred(image, resolution_px), radius, rtol=1e-5)


def test_what_is_level_stays_and_nothing_is_lost():
    level = np.full((9, 7), 3.25, dtype=np.float32)
    np.testing.assert_allclose(blurred(level, 2.2), level, rtol=1e-6)
    point = np.zeros((11, 11), dtype=np.float32)
    point[5, 5] = 1
    found = blurred(point, 2.2)
    assert found.sum() == pytest.approx(1, rel=1e-6)
    np.testing.assert_array_equal(found, found.T)
    assert found[5, 6] / found[5, 5] == pytest.approx(0.5 ** (1 / 1.1**2), rel=1e-5)  # half at 1.1 px


def test_unknown_pixels_spread_by_two_and_sharp_images_stay():
    image = np.ones((9, 9), dtype=np.float32)
    image[4, 4] = np.nan
    lost = np.isnan(blurred(image, 2.2))
    assert lost.sum() == 25
    assert lost[2:7, 2:7].all()
    assert blurred(image, 0.5) is image


def test_images_smaller_than_the_reach():
    assert blurred(np.array([[2.0]], dtype=np.float32), 2.2).item() == pytest.approx(2.0)
    assert blurred(np.empty((0, 5), dtype=np.float32), 2.2).shape == (0, 5)
