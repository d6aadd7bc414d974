"""Mutual information as a second estimator. Oracles: shifts by scipy, entropies by scipy, shifts of real chips on which
other methods agree."""

import numpy as np
import pytest
import rasterio
from scipy import ndimage, stats

from sar1m.core.mutual_information import CLASSES, _entropy_table, _tile_information, information_shift
from support.paths import SHARED

LOOKS = 4.4
RTC = SHARED / "data/s1s2_rtc_pairs"


def picture_pair(shift_px, *, side=256, seed=0):
    """sar (2, n, n) speckled power of a patchwork of fields, and optical (4, n, n) of the same ground, moved by scipy.

    What a field sends back and what it reflects is drawn without regard to each other.
    """
    rng = np.random.default_rng(seed)
    seeds = rng.uniform(-20, side + 20, (side**2 // 300, 2))
    rows, cols = np.mgrid[:side, :side] + rng.uniform(-1e-3, 1e-3, (2, side, side))
    field = np.argmin([np.hypot(rows - r, cols - c) for r, c in seeds], axis=0)
    power = 10 ** rng.uniform(-2, -0.5, (2, len(seeds)))[:, field]
    sar = ndimage.gaussian_filter(power, (0, 0.7, 0.7)) * rng.gamma(LOOKS, 1 / LOOKS, power.shape)
    reflectance = rng.uniform(0.02, 0.4, (4, len(seeds)))
    optical = ndimage.gaussian_filter(reflectance[:, field], (0, 0.7, 0.7))
    moved = ndimage.shift(optical, (0, *shift_px), order=3, mode="reflect")
    return sar.astype(np.float32), moved.astype(np.float32)


@pytest.mark.parametrize("shift_px", [(0.0, 0.0), (2.4, -3.7), (-8.3, 6.6), (11.5, 10.0)])
def test_a_shift_by_scipy_is_found_though_brightness_and_backscatter_have_nothing_in_common(shift_px):
    sar, optical = picture_pair(shift_px)
    found = information_shift(sar, optical, search_px=16)
    assert found.clear
    assert (found.row_px, found.col_px) == pytest.approx(shift_px, abs=0.15)
    assert found.sigma_px < 0.1


def test_errors_are_as_large_as_the_jackknife_says():
    truths = np.random.default_rng(3).uniform(-6, 6, (12, 2))
    found = [information_shift(*picture_pair(t, side=128, seed=n), search_px=8) for n, t in enumerate(truths)]
    errors = np.array([[one.row_px, one.col_px] for one in found]) - truths
    ratio = errors.std() / np.sqrt(np.mean([one.sigma_px**2 for one in found]))
    assert 0.5 < ratio < 2


@pytest.mark.parametrize("side", [64, 80])
def test_small_windows_are_clear_at_times_and_then_right(side):
    truths = np.random.default_rng(4).uniform(-3, 3, (10, 2))
    found = [information_shift(*picture_pair(t, side=side, seed=n), search_px=8) for n, t in enumerate(truths)]
    clear = [np.hypot(f.row_px - t[0], f.col_px - t[1]) for f, t in zip(found, truths, strict=True) if f.clear]
    assert len(clear) >= 3
    assert max(clear) < 1.5


def test_one_polarisation_and_one_band_are_enough():
    sar, optical = picture_pair((3.3, -1.6))
    found = information_shift(sar[:1], optical[:1], search_px=16)
    assert (found.row_px, found.col_px) == pytest.approx((3.3, -1.6), abs=0.2)


def test_clouds_that_stay_do_not_pull_the_shift_to_zero():
    sar, optical = picture_pair((4.4, -5.2))
    rng = np.random.default_rng(1)
    field = ndimage.gaussian_filter(rng.standard_normal(optical.shape[1:]), 12)
    cloud = field > np.quantile(field, 0.7)
    gap = np.where(cloud, np.float32(np.nan), optical)
    holed = np.where(cloud, np.float32(np.nan), sar)  # both lack the same pixels
    found = information_shift(holed, gap, search_px=16)
    assert found.clear
    assert (found.row_px, found.col_px) == pytest.approx((4.4, -5.2), abs=0.25)


def test_where_too_little_is_left_nothing_is_found():
    sar, optical = picture_pair((1.0, 1.0))
    optical[:, :, 12:] = np.nan
    found = information_shift(sar, optical, search_px=16)
    assert np.isnan([found.row_px, found.col_px, found.sigma_px, found.psr]).all()
    assert not found.clear


@pytest.mark.parametrize("side", [64, 128])
def test_nothing_at_all_is_no_error(side):
    empty = np.full((2, side, side), np.nan, dtype=np.float32)
    assert not information_shift(empty, empty, search_px=16).clear


def test_places_that_have_nothing_in_common_are_never_clear():
    clear = 0
    for number in range(6):
        sar, _ = picture_pair((0.0, 0.0), seed=number)
        _, foreign = picture_pair((0.0, 0.0), seed=100 + number)
        clear += information_shift(sar, foreign, search_px=16).clear
    assert clear == 0


def test_a_shift_beyond_the_search_is_not_taken_for_one_on_its_edge():
    sar, optical = picture_pair((0.0, 14.0))
    found = information_shift(sar, optical, search_px=8)
    assert not found.clear


def test_information_of_a_tile_is_scipys_entropies_less_what_chance_gives():
    rng = np.random.default_rng(2)
    first = rng.integers(0, CLASSES, 5000)
    second = (first + rng.integers(0, 5, 5000)) % CLASSES
    counts = np.zeros((1, CLASSES, CLASSES), np.int64)
    np.add.at(counts[0], (first, second), 1)
    plain = stats.entropy(counts[0].sum(1)) + stats.entropy(counts[0].sum(0)) - stats.entropy(counts[0].ravel())
    chance = (np.count_nonzero(counts) - 2 * CLASSES + 1) / (2 * 5000)  # Miller 1955
    found, pixels = _tile_information(counts, _entropy_table(5000))
    assert found[0] == pytest.approx(plain - chance)
    assert pixels[0] == 5000


def test_independent_classes_have_no_information_on_average():
    rng = np.random.default_rng(5)
    counts = np.zeros((200, CLASSES, CLASSES), np.int64)
    np.add.at(counts, (np.repeat(np.arange(200), 2000), *rng.integers(0, CLASSES, (2, 400000))), 1)
    found, _ = _tile_information(counts, _entropy_table(2000))
    assert found.mean() == pytest.approx(0, abs=0.003)  # without the correction 0.056


@pytest.mark.skipif(not RTC.is_dir(), reason="real pairs stand beside the checkout only")
def test_a_real_pair_lies_where_other_methods_agree_that_it_lies():
    name = "38D_378R_2_3.tif"
    with rasterio.open(RTC / "S1RTC" / name) as raster:
        sar = (10 ** (raster.read() / 10)).astype(np.float32)
    with rasterio.open(RTC / "S2L2A" / name) as raster:
        optical = (raster.read((2, 3, 4, 8)) / 1e4).astype(np.float32)
    found = information_shift(sar, optical, search_px=16)
    assert found.clear
    assert (found.row_px, found.col_px) == pytest.approx((1.41, 0.28), abs=0.25)  # six methods; 0.07 px
