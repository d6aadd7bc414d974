"""Plateaus and saturation of a patch: what a fill value leaves, and what only looks like one."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sar1m.config import ScreeningConfig
from sar1m.core.plateaus import optical_plateau_frac, sar_plateau_frac, saturated_frac
from support.examples import examples

SIDE = 96
FLOOR = (10**-2.5, 10**-2.5)
LIMITS = ScreeningConfig()


def power(seed=0, mean=0.08):
    """(2, SIDE, SIDE) speckle of 4.4 looks over gentle relief."""
    rng = np.random.default_rng(seed)
    relief = 10 ** (0.2 * np.sin(np.linspace(0, 9, SIDE)))
    return (mean * relief * rng.gamma(4.4, 1 / 4.4, (2, SIDE, SIDE))).astype(np.float32)


def reflectance(seed=0, mean=0.12, spread=0.03):
    """(3, SIDE, SIDE) in steps of a digital number."""
    values = np.random.default_rng(seed).normal(mean, spread, (3, SIDE, SIDE))
    return (np.rint(np.maximum(values, 1e-4) * 1e4) / 1e4).astype(np.float32)


def filled(image, value, rows, bands=slice(None)):
    """The first rows hold one value."""
    changed = image.copy()
    changed[bands, :rows] = value
    return changed


def in_decibels(step_db):
    """What is left of power in steps of decibels."""
    return (10 ** (np.rint(10 * np.log10(power()) / step_db) * step_db / 10)).astype(np.float32)


NEAR = np.random.default_rng(1).uniform(-1e-7, 1e-7, (2, SIDE, SIDE)).astype(np.float32)
SAR_FAULTS = {
    "0.0 dB over half": (filled(power(), 1.0, SIDE // 2), 0.5),
    "0.0 dB over half, resampled": (filled(power(), 1.0, SIDE // 2) * (1 + NEAR), 0.5),
    "-9999 dB over a quarter": (filled(power(), 0.0, SIDE // 4), 0.25),
    "65535 over a third": (filled(power(), 65535.0, SIDE // 3), 1 / 3),
    "1 over a third of one polarisation": (filled(power(), 1.0, SIDE // 3, bands=1), 1 / 3),
    "negative power over half": (filled(power(), -9999.0, SIDE // 2), 0.5),
    "a constant": (np.full((2, SIDE, SIDE), 0.1, np.float32), 1.0),
    "a checkerboard of two values": (
        np.where(np.indices((2, SIDE, SIDE)).sum(0) % 2, 0.1, 0.2).astype(np.float32),
        0.5,
    ),
}


@pytest.mark.parametrize("name", SAR_FAULTS)
def test_a_fill_value_of_sar_is_measured_by_its_share_and_is_over_the_limit(name):
    sar, share = SAR_FAULTS[name]
    assert sar_plateau_frac(sar, FLOOR) == pytest.approx(share, abs=0.002)
    assert share > LIMITS.max_plateau_frac


SAR_AS_IT_IS = {
    "speckle": power(),
    "noise taken off, half of it negative": power() - np.float32(0.08),
    "8 bits of 0.25 dB": in_decibels(0.25),
    "whole decibels": in_decibels(1.0),
    "half clipped to -35 dB over calm water": filled(power(), 10**-3.5, SIDE // 2),
    "half clipped to -60 dB": filled(power(), 1e-6, SIDE // 2),
    "half missing": filled(power(), np.nan, SIDE // 2),
}


@pytest.mark.parametrize("name", SAR_AS_IT_IS)
def test_sar_as_radars_deliver_it_is_under_the_limit(name):
    assert sar_plateau_frac(SAR_AS_IT_IS[name], FLOOR) < LIMITS.max_plateau_frac


@examples(0.3)
@given(st.lists(st.sampled_from([0.001, 0.01, 0.02, 0.05, 0.3, 1.0, 7.0]), min_size=1, max_size=80))
def test_the_share_is_that_of_the_value_counts(values):
    sar = np.array(values, dtype=np.float32).reshape(1, 1, -1)
    counts = pd.Series([v for v in values if v > FLOOR[0]]).value_counts()
    expected = counts.max() / len(values) if len(counts) else 0.0
    assert sar_plateau_frac(sar, FLOOR) == pytest.approx(expected)
    pairs = np.array([values, values[::-1]], dtype=np.float32)[:, None]
    whole = pd.Series(values).value_counts().max() / len(values)
    assert optical_plateau_frac(pairs, display=False) == pytest.approx(whole)
    colours = pd.Series(list(zip(values, values[::-1], strict=True))).map(lambda two: tuple(np.rint(np.float32(two))))
    assert optical_plateau_frac(pairs, display=True) == pytest.approx(colours.value_counts().max() / len(values))


PICTURE = np.rint(255 * np.clip(reflectance() / 0.3, 0, 1)).astype(np.float32)
DARK_SEA = np.rint(np.random.default_rng(3).normal(6, 0.9, (3, SIDE, SIDE))).astype(np.float32)
OPTICAL_FAULTS = {
    "reflectance 0 over half": (filled(reflectance(), 0.0, SIDE // 2), False, 0.5),
    "-0.1 after the offset, resampled": (
        filled(reflectance(), 0.0, SIDE // 2) + np.resize(NEAR, (3, SIDE, SIDE)),
        False,
        0.5,
    ),
    "65535 DN over a third": (filled(reflectance(), 6.5535, SIDE // 3), False, 1 / 3),
    "a constant band": (filled(reflectance(), 0.05, SIDE, bands=2), False, 1.0),
    "a black half": (filled(PICTURE, 0.0, SIDE // 2), True, 0.5),
    "a grey half": (filled(PICTURE, 128.0, SIDE // 2), True, 0.5),
}


@pytest.mark.parametrize("name", OPTICAL_FAULTS)
def test_a_fill_value_of_optical_pixels_is_measured_by_its_share(name):
    optical, display, share = OPTICAL_FAULTS[name]
    assert optical_plateau_frac(optical, display=display) == pytest.approx(share, abs=0.01)
    assert share > LIMITS.max_optical_plateau_frac


OPTICAL_AS_IT_IS = {
    "land": (reflectance(), False),
    "dark water, a tenth at the least digital number": (filled(reflectance(mean=0.02, spread=0.004), 1e-4, 10), False),
    "a picture": (PICTURE, True),
    "a picture of dark sea": (DARK_SEA, True),
    "a picture of snow, white over most of it": (filled(PICTURE, 255.0, SIDE - 10), True),
    "a picture with a black border": (filled(PICTURE, 0.0, 8), True),
    "half missing": (filled(reflectance(), np.nan, SIDE // 2), False),
}


@pytest.mark.parametrize("name", OPTICAL_AS_IT_IS)
def test_optical_pixels_as_they_are_delivered_are_under_the_limit(name):
    optical, display = OPTICAL_AS_IT_IS[name]
    assert optical_plateau_frac(optical, display=display) < LIMITS.max_optical_plateau_frac


def test_saturation_is_what_no_ground_reflects_or_white():
    snow = reflectance(mean=0.95, spread=0.08)
    assert saturated_frac(snow, display=False) == 0.0
    assert saturated_frac(filled(snow, 6.5535, 24, bands=1), display=False) == pytest.approx(0.25)
    assert saturated_frac(filled(snow, np.nan, SIDE // 2), display=False) == 0.0
    assert saturated_frac(filled(PICTURE, 255.0, SIDE // 2), display=True) == pytest.approx(0.5, abs=0.01)
    assert LIMITS.max_saturated_frac < 0.25


def test_without_a_value_there_is_nothing_to_measure():
    nothing = np.full((3, 8, 8), np.nan, dtype=np.float32)
    assert np.isnan(sar_plateau_frac(nothing[:2], FLOOR))
    for display in (True, False):
        assert np.isnan(optical_plateau_frac(nothing, display=display))
        assert np.isnan(saturated_frac(nothing, display=display))
