"""Orientation fields against closed forms and scipy's convolution."""

import numpy as np
import pytest
from scipy import ndimage

from sar1m.core import orientation
from sar1m.core.orientation import orientation_fields


def test_fields_double_the_angle_of_an_edge():
    row, col = np.mgrid[:64, :64]
    valid = np.ones((64, 64), bool)
    for slope, expected in [((0, 1), (1, 0)), ((1, 0), (-1, 0)), ((1, 1), (0, 1)), ((1, -1), (0, -1))]:
        ramp = (slope[0] * row + slope[1] * col).astype(np.float32)
        for sign in (1, -1):
            fields = orientation_fields((sign * ramp)[None], valid, smoothing_passes=0)[0]
            magnitude, real, imaginary = fields[:, 20:40, 20:40]
            assert magnitude == pytest.approx(magnitude.mean(), abs=1e-3)
            assert 0.8 < magnitude.mean() < 1  # one but for the floor
            assert real / magnitude == pytest.approx(expected[0], abs=1e-3)
            assert imaginary / magnitude == pytest.approx(expected[1], abs=1e-3)


def test_fields_raise_faint_edges_but_not_flat_ground():
    column = np.arange(256)
    steps = np.where(column < 64, 100 * (column // 16 % 2), np.where(column < 128, 60 * (column // 16 % 2), 0.0))
    noise = np.random.default_rng(0).normal(0, 0.05, (64, 256))
    magnitude = orientation_fields(
        (steps + noise)[None].astype(np.float32), np.ones((64, 256), bool), smoothing_passes=0
    )
    strong, faint, flat = (np.sqrt(np.mean(magnitude[0, 0, 4:-4, k : k + 40] ** 2)) for k in (12, 76, 180))
    assert faint > 0.75 * strong  # their contrasts are as 0.6 to 1
    assert flat < 0.02 * strong


@pytest.mark.parametrize("gaps", [False, True])
def test_fields_of_a_channel_do_not_depend_on_the_channels_beside_it(gaps):
    # large enough that channels are worked on in more than one go
    images = np.random.default_rng(1).normal(size=(5, 150, 130)).astype(np.float32)
    free = np.ones((150, 130), bool)
    free[40:80, 50:90] = not gaps
    together = orientation_fields(images, free, smoothing_passes=2)
    alone = [orientation_fields(image[None], free, smoothing_passes=2)[0] for image in images]
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)
    assert (together[:, :, ~free] == 0).all()


@pytest.mark.parametrize("passes", [0, 1, 2])
def test_fields_are_those_of_smoothed_gradients_up_to_the_border(passes):
    """Oracle: scipy's convolution of the inside by the kernels, and its own slopes."""
    image = np.random.default_rng(3).normal(size=(40, 56)).astype(np.float32)
    smooth = image.astype(np.float64)
    for _ in range(passes):
        for axis in (0, 1):
            inner = ndimage.convolve1d(smooth, [0.25, 0.5, 0.25], axis=axis)
            ends = np.arange(smooth.shape[axis]) % (smooth.shape[axis] - 1) == 0
            smooth = np.where(np.expand_dims(ends, 1 - axis), smooth, inner)
    down, right = (ndimage.convolve1d(smooth, [1, 0, -1], axis=axis) for axis in (0, 1))
    down[[0, -1]], right[:, [0, -1]] = 0, 0
    turned = (right + 1j * down) ** 2 / np.abs(right + 1j * down).clip(1e-9)
    magnitude, real, imaginary = orientation_fields(image[None], np.ones(image.shape, bool), smoothing_passes=passes)[0]
    expected = turned * (magnitude / np.abs(turned).clip(1e-9))
    np.testing.assert_allclose(real + 1j * imaginary, expected, atol=1e-4)
    assert 0.5 < np.median(magnitude) < 1.5


@pytest.mark.parametrize("passes", [0, 2])
@pytest.mark.parametrize("at_once_px", [1000, 12000])
def test_fields_in_strips_are_those_of_the_whole(monkeypatch, passes, at_once_px):
    images = np.random.default_rng(5).normal(size=(2, 131, 90)).astype(np.float32)
    free = np.ones(images.shape[1:], bool)
    free[20:33, 5:70] = False
    whole = orientation_fields(images, free, smoothing_passes=passes, binning=2)
    monkeypatch.setattr(orientation, "CACHED_PX", at_once_px)
    np.testing.assert_array_equal(orientation_fields(images, free, smoothing_passes=passes, binning=2), whole)
