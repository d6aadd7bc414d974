"""Shifts between two sensors against known shifts: analytic scenes, scipy's plain correlation as an oracle where both
sensors see the same, real Sentinel-1/-2 chips, and input in which nothing can be measured."""

import importlib.util

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage, signal, spatial

from sar1m.config import BuildConfig, GridConfig, RegistrationConfig
from sar1m.core.correlation import NO_PEAK, correlate, locate_peaks, orientation_fields, summits_near
from sar1m.core.registration import recover_shifts, register_block
from sar1m.core.resample import shift_subpixel
from sar1m.sources.sample import SampleSource
from support.examples import examples

SETTINGS = RegistrationConfig()
UNGATED = RegistrationConfig(min_psr=1e-6, max_polarisation_spread_px=1e6)
MARGIN_PX = 12


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
