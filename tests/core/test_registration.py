"""Shifts between two sensors against known shifts: analytic scenes, scipy's plain correlation as an oracle where both
sensors see the same, real Sentinel-1/-2 chips, and input in which nothing can be measured."""

import importlib.util

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage, signal, spatial

from sar1m.config import BuildConfig, GridConfig, RegistrationConfig, SimulatedConfig
from sar1m.core.registration import recover_shifts, register_block
from sar1m.core.resample import shift_subpixel
from sar1m.sources.sample import SampleSource
from sar1m.sources.simulated import SimulatedSource
from support.examples import examples
from support.paths import SHARED

SETTINGS = RegistrationConfig()
UNGATED = RegistrationConfig(min_psr=1e-6, max_polarisation_spread_px=1e6)
MARGIN_PX = 12
RTC = SHARED / "data/s1s2_rtc_pairs"


def _parcels(key, side_px, count=60):
    """A land cover of straight-edged parcels, (side, side) numbers."""
    rng = np.random.default_rng(key)
    seeds = rng.uniform(-20, side_px + 20, (count * side_px**2 // 128**2 + 8, 2))
    grid = np.stack(np.mgrid[:side_px, :side_px], axis=-1)
    return spatial.KDTree(seeds).query(grid)[1]


def _pair(key=0, side_px=128, shift_px=(0.0, 0.0), looks=16.0):
    """sar (2, side, side) and optical (4, side, side) of one land cover, the optical content moved by shift_px.

    A parcel that is bright in one sensor is bright or dark in the other by chance.
    """
    rng = np.random.default_rng([key, 1])
    parcels = _parcels(key, side_px + 2 * MARGIN_PX)
    blurred = [
        ndimage.gaussian_filter(rng.uniform(low, high, parcels.max() + 1)[parcels], 0.8)
        for low, high in [(0.02, 0.3), (0.004, 0.06), (0.02, 0.2), (0.02, 0.2), (0.02, 0.2), (0.1, 0.5)]
    ]
    images = np.stack(blurred).astype(np.float32)
    inner = np.s_[:, MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
    sar = images[:2][inner]
    speckle = rng.gamma(looks, 1 / looks, sar.shape) if np.isfinite(looks) else 1.0
    return (sar * speckle).astype(np.float32), shift_subpixel(images[2:], *shift_px)[inner]


def _register(sar, optical, *, masked=None, windows=None, limits=SETTINGS):
    windows = [(0, 0, *sar.shape[1:])] if windows is None else windows
    return register_block(sar, optical, masked=masked, windows=windows, settings=limits)


def _tiles(side_px, tile_px):
    starts = range(0, side_px - tile_px + 1, tile_px)
    return [(row, col, tile_px, tile_px) for row in starts for col in starts]


def _distance(shift, truth):
    return float(np.hypot(shift.row_px - truth[0], shift.col_px - truth[1]))


def test_optical_content_cut_lower_and_further_right_has_a_positive_shift():
    # The optical window starts 4 rows higher and 6 columns further right than the SAR's: its content then lies 4 rows
    # lower and 6 columns further left.
    sar, optical = _pair(side_px=160, looks=np.inf)
    shift = _register(sar[:, 16:-16, 16:-16], optical[:, 12:-20, 22:-10]).scene
    assert shift.status == "measured"
    assert (shift.row_px, shift.col_px) == pytest.approx((4, -6), abs=0.05)


@pytest.mark.parametrize("shift_px", [(0.0, 0.0), (0.5, -0.5), (1.3, 2.7), (-3.25, 0.8), (5.9, -6.6)])
def test_known_shifts_come_back_to_a_twentieth_of_a_pixel(shift_px):
    errors = []
    for key in range(3):
        sar, optical = _pair(key, side_px=192, shift_px=shift_px, looks=np.inf)
        shift = _register(sar, optical).scene
        errors.append((shift.row_px - shift_px[0], shift.col_px - shift_px[1]))
    assert np.abs(np.median(errors, axis=0)).max() < 0.05
    assert np.abs(errors).max() < 0.15


@pytest.mark.parametrize("looks", [1.0, 4.4])
def test_speckle_costs_a_fraction_of_a_pixel(looks):
    shift_px = (2.3, -1.7)
    distances = [_distance(_register(*_pair(k, 192, shift_px, looks)).scene, shift_px) for k in range(4)]
    assert max(distances) < {1.0: 0.6, 4.4: 0.3}[looks]


def test_reversing_the_contrast_of_one_sensor_changes_nothing():
    sar, optical = _pair(shift_px=(1.5, -2.5))
    once = _register(sar, optical[:1]).scene
    reversed_ = _register(sar, (np.sqrt(optical[:1].max()) - np.sqrt(optical[:1])) ** 2).scene
    assert _distance(reversed_, (once.row_px, once.col_px)) < 0.05  # power is averaged before the root


def test_same_picture_on_both_sides_agrees_with_scipy_correlation():
    # Oracle: plain correlation of brightness is right where both sensors see the same.
    sar, _ = _pair(side_px=160, looks=np.inf)
    brightness = np.log(sar[0])
    fixed, moving = brightness[16:-16, 16:-16], brightness[13:-19, 21:-11]
    surface = signal.correlate(moving - moving.mean(), fixed - fixed.mean(), mode="same")
    row, col = np.unravel_index(np.argmax(surface), surface.shape)
    oracle = row - surface.shape[0] // 2, col - surface.shape[1] // 2
    shift = _register(sar[:1, 16:-16, 16:-16], sar[:1, 13:-19, 21:-11]).scene
    assert (shift.row_px, shift.col_px) == pytest.approx(oracle, abs=0.1)
    assert np.isnan(shift.polarisation_spread_px)


@examples(0.15)
@given(key=st.integers(0, 30), row_px=st.floats(-6, 6), col_px=st.floats(-6, 6))
def test_swapping_the_two_pictures_negates_the_shift(key, row_px, col_px):
    _, optical = _pair(key, shift_px=(row_px, col_px), looks=np.inf)
    there = _register(optical[:1], optical[1:2], limits=UNGATED).scene
    back = _register(optical[1:2], optical[:1], limits=UNGATED).scene
    # the two roles are not filtered alike, hence a tolerance
    assert (there.row_px, there.col_px) == pytest.approx((-back.row_px, -back.col_px), abs=0.25)


@pytest.mark.parametrize("value", [np.nan, 0.0, 1.0])
@pytest.mark.parametrize("side", ["sar", "optical", "both"])
def test_without_anything_to_see_it_is_unmeasurable_and_silent(value, side):
    sar, optical = _pair()
    sar = np.full_like(sar, value) if side != "optical" else sar
    optical = np.full_like(optical, value) if side != "sar" else optical
    block = _register(sar, optical, windows=_tiles(128, 64))
    for shift in (*block.patches, block.scene):
        assert shift.status == "unmeasurable"
        assert np.isnan([shift.row_px, shift.col_px]).all()
    recovery = recover_shifts(sar, optical, rng=np.random.default_rng(0), settings=SETTINGS)
    assert np.isnan(recovery.error_row_px)


def test_a_sky_full_of_clouds_is_unmeasurable():
    sar, optical = _pair()
    shift = _register(sar, optical, masked=np.ones(sar.shape[1:], bool)).scene
    assert shift.status == "unmeasurable"
    assert np.isnan(shift.psr)


def test_mask_edges_both_sensors_share_do_not_draw_the_shift_towards_zero():
    """The edges of many small clouds are at the same pixels of both images. A careless mask would correlate there."""
    shift_px = (3.0, -2.5)
    along = []
    for key in range(4):
        sar, optical = _pair(key=key, side_px=256, shift_px=shift_px, looks=4.4)
        cover = ndimage.gaussian_filter(np.random.default_rng(key).normal(size=sar.shape[1:]), 12)
        cloud = cover > np.quantile(cover, 0.7)
        found = _register(sar, optical, masked=cloud, limits=UNGATED).scene
        error = np.array([found.row_px, found.col_px]) - shift_px
        along.append(error @ shift_px / np.hypot(*shift_px))
    assert abs(np.mean(along)) < 0.05


@pytest.mark.parametrize("how", ["masked", "nan"])
def test_thirty_percent_of_bright_cloud_is_harmless_once_excluded(how):
    shift_px = (2.4, -3.1)
    sar, optical = _pair(side_px=192, shift_px=shift_px)
    row, col = np.mgrid[:192, :192]
    cloud = (row - 60) ** 2 + (col - 120) ** 2 < 60**2
    optical[:, cloud] = 0.9 if how == "masked" else np.nan
    shift = _register(sar, optical, masked=cloud if how == "masked" else None).scene
    assert shift.status == "measured"
    assert _distance(shift, shift_px) < 0.3


def test_summed_surfaces_beat_single_small_patches():
    shift_px = (1.8, -2.2)
    alone, together, middle = [], [], []
    for key in range(4):
        sar, optical = _pair(key, 256, shift_px, looks=1.0)
        block = _register(sar, optical, windows=_tiles(256, 64), limits=UNGATED)
        alone += [_distance(patch, shift_px) for patch in block.patches]
        together.append(_distance(block.scene, shift_px))
        middle.append(np.hypot(*(np.mean([[p.row_px, p.col_px] for p in block.patches], axis=0) - shift_px)))
    assert np.sqrt(np.mean(np.square(together))) < 0.35
    assert np.sqrt(np.mean(np.square(together))) < 0.3 * np.sqrt(np.mean(np.square(alone)))
    assert np.mean(together) < np.mean(middle)


def test_weak_patches_take_the_scene_shift_and_keep_their_own_figures():
    shift_px = (2.0, 3.0)
    sar, optical = _pair(3, 256, shift_px, looks=4.4)
    rng = np.random.default_rng(5)
    corner = np.s_[:, :128, :128]
    optical[corner] = rng.uniform(0.1, 0.2, optical[corner].shape)  # nothing in common with the SAR there
    block = _register(sar, optical, windows=_tiles(256, 128))
    weak, *others = block.patches
    assert [patch.status for patch in others] == ["measured"] * 3
    assert weak.status == "scene"
    assert (weak.row_px, weak.col_px) == (block.scene.row_px, block.scene.col_px)
    assert weak.psr < SETTINGS.min_psr or weak.polarisation_spread_px > SETTINGS.max_polarisation_spread_px
    assert weak.psr != block.scene.psr
    assert _distance(block.scene, shift_px) < 0.3


def test_the_gate_looks_at_psr_and_at_the_polarisations_disagreement():
    sar, optical = _pair()
    free = _register(sar, optical, limits=UNGATED).scene
    assert free.status == "measured"
    too_high = RegistrationConfig(min_psr=free.psr * 1.01)
    assert _register(sar, optical, limits=too_high).scene.status == "unmeasurable"
    torn = np.stack([sar[0], np.roll(sar[1], 8, axis=-1)])
    shift = _register(torn, optical, limits=RegistrationConfig(min_psr=1e-6)).scene
    assert shift.status == "unmeasurable"
    assert shift.polarisation_spread_px == pytest.approx(4, abs=0.5)


def test_pictures_of_different_places_rarely_pass_the_gate():
    sar = [_pair(key)[0] for key in range(12)]
    optical = [_pair(key)[1] for key in range(12)]
    statuses = [_register(sar[k], optical[(k + 1 + j) % 12]).scene.status for k in range(12) for j in range(4)]
    assert statuses.count("measured") <= 3


def test_a_shift_beyond_the_search_window_is_not_called_measured():
    sar, optical = _pair(side_px=192, shift_px=(10.0, 0.0), looks=np.inf)
    shift = _register(sar, optical, limits=RegistrationConfig(search_px=8)).scene
    assert shift.status == "unmeasurable"


def test_recovery_reports_small_errors_on_a_good_pair_and_repeats_with_its_generator():
    sar, optical = _pair(side_px=192, shift_px=(1.0, -1.0))
    first, again = (recover_shifts(sar, optical, rng=np.random.default_rng(4), settings=SETTINGS) for _ in range(2))
    assert first == again
    assert np.abs([first.error_row_px, first.error_col_px]).max() < 0.1
    assert 0 < np.hypot(first.polarisation_row_px, first.polarisation_col_px) < 0.3
    single = recover_shifts(sar[:1], optical, rng=np.random.default_rng(4), settings=SETTINGS)
    assert np.isnan(single.polarisation_row_px)


def test_a_band_that_lies_apart_from_the_others_counts_little_and_is_told():
    truth = (1.3, -2.4)
    distances, offsets = [], []
    for key in range(4):
        sar, optical = _pair(key, 192, truth, looks=4.4)
        optical[3] = shift_subpixel(optical[3:], 1.5, -1.0)[0]
        shift = _register(sar, optical).scene
        distances.append(_distance(shift, truth))
        offsets.append(shift.band_offset_px)
        assert shift.band_spread_px > 0.4
    assert np.mean(distances) < 0.15  # their plain mean lies 0.45 px off
    assert np.median(offsets) == pytest.approx(np.hypot(1.5, 1.0), abs=0.25)


def test_one_band_has_no_spread_and_no_offset():
    sar, optical = _pair(looks=np.inf)
    shift = _register(sar, optical[:1]).scene
    assert np.isnan([shift.band_spread_px, shift.band_offset_px]).all()
    assert 0 < shift.sigma_px < 0.5


def test_sigma_is_as_large_as_the_errors():
    """Of Gaussian errors 68 % lie within one sigma and 95 % within two. Simulated worlds, whose shifts are known."""
    config = BuildConfig(
        grid=GridConfig(patch_px=256, patches_per_side=1, halo_px=0),
        simulated=SimulatedConfig(enl=4.4, max_shift_px=6, cloudy_share=0, unpaired_share=0),
    )
    source, ratios = SimulatedSource(12), []
    for candidate in source.candidates(config):
        pixels = source.read(candidate, config)
        windows = [(8, 8, 240, 240), *((row, col, 120, 120) for row in (8, 128) for col in (8, 128))]
        for shift in _register(pixels.sar, pixels.registration_optical, windows=windows).patches:
            if shift.status == "measured":
                ratios += [(shift.row_px - pixels.truth_shift_px[0]) / shift.sigma_px]
                ratios += [(shift.col_px - pixels.truth_shift_px[1]) / shift.sigma_px]
    assert len(ratios) > 80
    assert 0.6 < np.mean(np.abs(ratios) < 1) < 0.8
    assert np.mean(np.abs(ratios) < 2) > 0.9


@pytest.mark.skipif(not RTC.exists(), reason=f"no {RTC.name} beside the checkout")
def test_the_bands_and_the_picture_of_one_acquisition_agree():
    """Real sites: twelve bands as reflectance, and what somebody made of three of them for display."""
    for path in sorted((RTC / "S1RTC").glob("*.tif")):
        with rasterio.open(path) as sar, rasterio.open(RTC / "S2L2A" / path.name) as bands:
            power, reflectance = 10 ** (sar.read() / 10), bands.read((2, 3, 4, 8)) / 1e4
        with rasterio.open(RTC / "S2RGB" / path.name) as picture:
            colours = picture.read() / 255
        one, other = (
            _register(power.astype(np.float32), optical.astype(np.float32), limits=UNGATED).scene
            for optical in (reflectance, colours)
        )
        assert _distance(one, (other.row_px, other.col_px)) < 0.15


@pytest.mark.skipif(
    importlib.util.find_spec("bigearthnet_common") is None, reason="the sample package bigearthnet-common is missing"
)
def test_real_sentinel_chips_recover_injected_shifts_and_reject_foreign_partners():
    config = BuildConfig(grid=GridConfig(patch_px=112, halo_px=0))
    source = SampleSource()
    chips = [source.read(candidate, config) for candidate in source.candidates(config)]
    pairs = [(chip.sar, chip.registration_optical) for chip in chips]
    errors = []
    for number, (sar, optical) in enumerate(pairs):
        found = recover_shifts(sar, optical, rng=np.random.default_rng([8, number]), settings=SETTINGS)
        assert found.psr > 5
        errors.append(np.hypot(found.error_row_px, found.error_col_px))
    assert np.median(errors) < 0.25
    assert max(errors) < 1.5
    measured = [_register(pairs[k][0], pairs[(k + 2) % 6][1]).scene.status for k in range(6)]
    assert measured.count("measured") <= 1
