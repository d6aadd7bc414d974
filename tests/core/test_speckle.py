"""Speckle fields against the Gamma distribution, and the number of looks measured on fields of known looks."""

import numpy as np
import pytest
from scipy import special, stats

from sar1m.core.speckle import estimate_enl, speckle_field

SIDE_PX = 512


def _rng(key=7):
    return np.random.Generator(np.random.Philox(key))


def _field(looks, *, correlated, key=7, side_px=SIDE_PX):
    return speckle_field(_rng(key), (side_px, side_px), looks=looks, correlated=correlated)


def _lag_correlation(image, rows, cols):
    height, width = image.shape
    first = image[: height - rows, : width - cols]
    second = image[rows:, cols:]
    return np.corrcoef(first.ravel(), second.ravel())[0, 1]


@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize("looks", [0.69, 1.0, 2.0, 4.4, 16.0])
def test_moments_are_those_of_fully_developed_speckle(looks, correlated):
    speckle = _field(looks, correlated=correlated)
    assert speckle.dtype == np.float32
    assert speckle.mean() == pytest.approx(1, abs=0.015 / np.sqrt(looks))
    assert speckle.var() * looks == pytest.approx(1, abs=0.03)


# published figures: 5.57 dB at one look, 2.19 dB at 4.4 looks; bias of the mean of dB -2.51 and -0.51
@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize(("looks", "std_db", "bias_db"), [(1.0, 5.57, -2.51), (4.4, 2.19, -0.51)])
def test_decibel_statistics_match_published_figures(looks, std_db, bias_db, correlated):
    in_db = 10 * np.log10(_field(looks, correlated=correlated))
    assert in_db.std() == pytest.approx(std_db, abs=0.03)
    assert in_db.mean() == pytest.approx(bias_db, abs=0.03)
    assert in_db.std() == pytest.approx(10 / np.log(10) * np.sqrt(special.polygamma(1, looks)), rel=0.01)


@pytest.mark.parametrize("looks", [0.69, 1.0, 4.4, 16.0])
def test_correlated_speckle_keeps_the_gamma_marginal(looks):
    sparse = _field(looks, correlated=True)[::4, ::4].ravel()  # four pixels apart the samples are independent
    law = stats.gamma(looks, scale=1 / looks)
    assert stats.kstest(sparse, law.cdf).pvalue > 0.01


@pytest.mark.parametrize("looks", [1.0, 4.4, 16.0])
def test_correlated_speckle_has_the_lags_of_a_grd_image(looks):
    speckle = _field(looks, correlated=True)
    for lag in ((1, 0), (0, 1)):
        assert _lag_correlation(speckle, *lag) == pytest.approx(0.6, abs=0.02)
    for lag in ((2, 0), (0, 2)):
        assert _lag_correlation(speckle, *lag) == pytest.approx(0.12, abs=0.02)
    assert _lag_correlation(speckle, 3, 0) == pytest.approx(0, abs=0.02)
    assert _lag_correlation(speckle, 0, 3) == pytest.approx(0, abs=0.02)
    assert _lag_correlation(speckle, 1, 1) == pytest.approx(0.36, abs=0.03)


def test_independent_speckle_has_no_lag_correlation():
    speckle = _field(4.4, correlated=False)
    assert _lag_correlation(speckle, 1, 0) == pytest.approx(0, abs=0.01)
    assert _lag_correlation(speckle, 0, 1) == pytest.approx(0, abs=0.01)


def test_fields_are_stationary_up_to_their_edges():
    fields = np.stack([_field(4.4, correlated=True, key=key, side_px=32) for key in range(400)])
    assert fields[:, 0].var() == pytest.approx(1 / 4.4, rel=0.05)
    assert fields[:, :, -1].var() == pytest.approx(1 / 4.4, rel=0.05)


@pytest.mark.parametrize("correlated", [False, True])
def test_the_generator_alone_decides_the_field(correlated):
    first = _field(4.4, correlated=correlated)
    _field(1.0, correlated=correlated, key=8)
    assert np.array_equal(first, _field(4.4, correlated=correlated))
    assert not np.array_equal(first, _field(4.4, correlated=correlated, key=8))


@pytest.mark.parametrize("looks", [0.0, -1.0, float("nan")])
def test_looks_that_are_not_positive_are_refused(looks):
    with pytest.raises(ValueError, match="positive number of looks"):
        _field(looks, correlated=True, side_px=8)


@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize("looks", [1.0, 2.0, 4.4, 16.0])
def test_enl_of_homogeneous_patches_is_within_ten_percent(looks, correlated):
    for key in range(4):
        measured = estimate_enl(0.07 * _field(looks, correlated=correlated, key=key, side_px=256))
        assert measured.value == pytest.approx(looks, rel=0.1)
        assert 0 < measured.spread < 0.4
        assert measured.windows > 900


def _parcels(parcel_px):
    """Mean power, (256, 256), over 20 dB, constant in parcels of parcel_px."""
    count = -(-256 // parcel_px)
    means_db = _rng(3).uniform(-22, -2, size=(count, count))
    return np.kron(10 ** (means_db / 10), np.ones((parcel_px, parcel_px)))[:256, :256].astype(np.float32)


@pytest.mark.parametrize("looks", [1.0, 4.4, 16.0])
def test_enl_survives_boundaries_between_parcels(looks):
    scene = _parcels(40) * _field(looks, correlated=True, side_px=256)
    assert estimate_enl(scene).value == pytest.approx(looks, rel=0.2)
    assert scene.mean() ** 2 / scene.var() < 0.8 * looks  # so the whole patch's own statistic would be wrong


def test_enl_skips_missing_pixels_without_being_moved_by_them():
    scene = _field(4.4, correlated=False, side_px=256)
    scene[:, :100] = np.nan
    scene[_rng(1).uniform(size=scene.shape) < 0.002] = np.nan
    measured = estimate_enl(scene)
    assert measured.value == pytest.approx(4.4, rel=0.1)
    assert measured.windows < 0.62 * estimate_enl(_field(4.4, correlated=False, side_px=256)).windows


@pytest.mark.parametrize("power", [np.nan, 0.0, -0.01, 0.2])
def test_enl_is_unknown_without_speckle_to_measure(power):
    measured = estimate_enl(np.full((256, 256), power, dtype=np.float32))
    assert np.isnan(measured.value)
    assert measured.windows == 0


def test_enl_is_unknown_on_a_patch_of_few_windows():
    assert np.isnan(estimate_enl(_field(4.4, correlated=False, side_px=24)).value)


def test_neighbouring_samples_of_correlated_speckle_raise_enl():
    scene = _field(4.4, correlated=True)
    assert 1.04 < estimate_enl(scene, step_px=1).value / 4.4 < 1.2
    assert estimate_enl(scene).value == pytest.approx(4.4, rel=0.05)
