"""Correlation surfaces and their peaks against closed forms, scipy's direct correlation and Monte
Carlo."""

import numpy as np
import pytest
from scipy import ndimage, signal

from sar1m.core.correlation import NO_PEAK, correlate, locate_peaks, summits_near


@pytest.mark.parametrize("shape", [(64, 64), (61, 67)])
def test_surfaces_are_the_correlation_at_each_lag(shape):
    """Oracle: scipy's direct correlation. It differs by what wraps around, which is small for these sizes."""
    rng = np.random.default_rng(2)
    inner = np.zeros((3, *shape), np.float32)
    inner[:, 12:-12, 12:-12] = rng.normal(size=(3, shape[0] - 24, shape[1] - 24))  # lags up to 10 reach no border
    inner -= inner.mean(axis=(1, 2), keepdims=True)
    moved = [np.roll(inner, lag, axis=(1, 2)) for lag in [(0, 0), (1, -1), (3, -5), (3, -2), (2, -4)]]
    fixed, moving = np.stack(moved[:2]), np.stack(moved[2:])
    whole = np.ones(shape, bool)
    found = correlate(fixed, moving, whole, whole, 10)
    expected = [
        *((fixed[k], moving.sum(axis=0), found.by_fixed[k]) for k in range(2)),
        *((fixed.sum(axis=0), moving[k], found.by_moving[k]) for k in range(3)),
        *((moving.sum(axis=0) - moving[k], moving[k], found.among_moving[k]) for k in range(3)),
    ]
    constant = float(np.square(inner).sum()) / found.by_fixed[0].max()
    for one, other, surface in expected:
        reach = len(surface) // 2
        oracle = sum(signal.correlate(m, f, mode="same") for f, m in zip(one, other, strict=True))
        middle = [(side - 1) // 2 if side % 2 else side // 2 for side in shape]
        oracle = oracle[middle[0] - reach : middle[0] + reach + 1, middle[1] - reach : middle[1] + reach + 1]
        assert surface == pytest.approx(oracle / constant, abs=0.01 * float(surface.max()))
    assert found.overlap[10, 10] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("place", [(-6.5, 4.25), (0.0, 0.0), (3.1, -7.4)])
def test_peak_of_a_known_bump_is_found_between_lags(place):
    lag = np.arange(-10, 11)
    bump = np.exp(-((lag[:, None] - place[0]) ** 2 + (lag - place[1]) ** 2) / (2 * 1.3**2)).astype(np.float32)
    full = np.ones((21, 21), np.float32)
    (peak,) = locate_peaks(bump[None], full)
    assert (peak.row_px, peak.col_px) == pytest.approx(place, abs=0.01)
    assert peak.inside
    assert summits_near(bump[None], full, place[0] + 1, place[1] - 1) == pytest.approx(np.array([place]), abs=0.01)
    assert np.isnan(summits_near(bump[None], full, place[0] + 4, place[1])).all()
    assert locate_peaks(full[None], full) == (NO_PEAK,)
    assert locate_peaks(bump[None], 0.1 * full) == (NO_PEAK,)


@pytest.mark.parametrize("level", [0.02, 0.05])
def test_noise_of_the_surface_is_what_moves_the_summit(level):
    """Monte Carlo: noise nearly as smooth as the peak, summits scattered by as much as each surface alone tells."""
    lag = np.arange(-10, 11)
    bump = np.exp(-(lag[:, None] ** 2 + lag**2) / (2 * 1.2**2))
    rng, full = np.random.default_rng(3), np.ones((21, 21), np.float32)
    noise = [ndimage.gaussian_filter(rng.normal(size=(21, 21)), 0.9, mode="wrap") for _ in range(200)]
    surfaces = np.stack([bump + level * one / np.std(noise) for one in noise]).astype(np.float32)
    peaks = locate_peaks(surfaces, full)
    seen = np.std([(peak.row_px, peak.col_px) for peak in peaks])
    told = np.sqrt(np.mean(np.square([peak.noise_px for peak in peaks])))
    assert told == pytest.approx(seen, rel=0.2)


def test_the_top_of_a_ridge_has_no_certain_place():
    surface = np.zeros((21, 21), np.float32)
    surface[[9, 10, 10, 11], [10, 9, 11, 10]] = 0.9
    surface[[9, 10, 11], [9, 10, 11]] = 0.99, 1, 0.99  # a ridge, which rises away from its middle
    (peak,) = locate_peaks(surface[None], np.ones((21, 21), np.float32))
    assert peak.noise_px == np.inf
