"""The pipeline's chain from a SAFE product to a map, against the truth of the scene, with limits that must never get
worse.

The whole campaign, with its figures, is benchmarks/bench_truth.py.
"""

import numpy as np
import pytest

from benchmarks.truth_chain import (
    bias_db,
    block_grid,
    geocode_gamma0,
    geocode_sigma0,
    imaged_block,
    overlap,
    padded_heights,
    position_error_px,
    reflector_grid,
)
from sar1m.core.radar.product import GEOLOCATION_GRID, SPEED_OF_LIGHT_M_S, Convention
from sar1m.core.speckle import estimate_enl
from sar1m.io.dem.heights import open_dem
from sarworld.safe.known_scene import write_scene
from sarworld.safe.scenario import AcquisitionSpec, Ground, Partners, SceneSpec, Signal

UNDULATION_M = 48.6  # Rome's


@pytest.fixture(scope="module")
def surveyed(tmp_path_factory):
    """Corner reflectors on hills; the DEM holds orthometric heights."""
    spec = SceneSpec(
        lines=420,
        samples=460,
        acquisition=AcquisitionSpec(rule_gap_px=3.0),
        ground=Ground(relief_m=60.0, gamma0_db=-20.0, reflectors=reflector_grid(4, 620.0), facets=2),
        signal=Signal(looks=None),
        partners=Partners(undulation=lambda lon, lat: UNDULATION_M + 0.0 * (lon + lat), optical=False),
    )
    return write_scene(tmp_path_factory.mktemp("surveyed"), spec)


@pytest.fixture(scope="module")
def alpine(tmp_path_factory):
    """Steep ground of one backscatter, without speckle or noise."""
    spec = SceneSpec(
        lines=420,
        samples=460,
        ground=Ground(relief_m=420.0, gamma0_db=-12.0, facets=3),
        signal=Signal(looks=None, noise_scale=0.0),
        partners=Partners(optical=False),
    )
    return write_scene(tmp_path_factory.mktemp("alpine"), spec)


def reflector_errors_px(truth, geocoded):
    """Errors in pixels to the right and down, (reflectors, 2)."""
    inside = [k for k in truth.reflectors if _within(geocoded.grid, k)]
    assert len(inside) >= 9
    return np.array([position_error_px(geocoded.power[0], geocoded.grid, known) for known in inside])


def _within(grid, known, margin_m=150.0):
    left, bottom, right, top = grid.bounds_m
    return left + margin_m < known.x_m < right - margin_m and bottom + margin_m < known.y_m < top - margin_m


def heights_of(truth, block, **settings):
    return open_dem([truth.path.parent / "dem"], **settings).heights(block_grid(truth, block))


def test_reflectors_land_on_their_surveyed_places_through_dem_and_geoid(surveyed, tmp_path):
    block = imaged_block(surveyed)
    heights_m = heights_of(surveyed, block)
    np.testing.assert_allclose(heights_m, surveyed.map.height_m[block], atol=0.02)
    errors = reflector_errors_px(surveyed, geocode_sigma0(surveyed, heights_m, block, tmp_path))
    assert np.abs(errors.mean(axis=0)).max() < 0.03
    assert np.hypot(*errors.T).max() < 0.1


def test_the_geoid_left_out_shows_as_the_shift_it_is(surveyed, tmp_path):
    block = imaged_block(surveyed)
    heights_m = surveyed.map.height_m[block].astype(np.float64) - UNDULATION_M
    errors = reflector_errors_px(surveyed, geocode_sigma0(surveyed, heights_m, block, tmp_path))
    expected_px = UNDULATION_M / np.tan(np.radians(38.0)) / 10
    assert np.hypot(*errors.mean(axis=0)) == pytest.approx(expected_px, rel=0.1)


def test_the_wrong_convention_lands_off_by_the_difference_of_the_two(surveyed, tmp_path):
    block = imaged_block(surveyed)
    heights_m = surveyed.map.height_m[block].astype(np.float64)
    right = geocode_sigma0(surveyed, heights_m, block, tmp_path)
    wrong = geocode_sigma0(surveyed, heights_m, block, tmp_path, convention=GEOLOCATION_GRID)
    moved = np.hypot(*(reflector_errors_px(surveyed, wrong) - reflector_errors_px(surveyed, right)).T)
    inside = [k for k in surveyed.reflectors if _within(right.grid, k)]
    points = surveyed.frame.locate(
        np.array([k.line for k in inside]), np.array([k.sample for k in inside]), [k.height_m for k in inside]
    )
    line, sample = surveyed.frame.image_coordinates(points, GEOLOCATION_GRID)
    known = np.hypot(line - [k.line for k in inside], sample - [k.sample for k in inside])
    assert known.max() > 0.5
    assert moved.mean() == pytest.approx(known.mean(), rel=0.05)
    np.testing.assert_allclose(moved, known, rtol=0.25, atol=0.05)  # slopes stretch and shorten what ground range moves


def test_atmosphere_and_bistatic_term_come_off_where_asked_and_else_show_as_what_they_are(tmp_path):
    """The image has both; the pipeline's formulas are others than the simulator's."""
    both = Convention(azimuth="geolocation_grid", troposphere="standard_atmosphere")
    spec = SceneSpec(
        lines=420,
        samples=460,
        acquisition=AcquisitionSpec(incidence_deg=44.0, convention=both),
        ground=Ground(relief_m=60.0, gamma0_db=-20.0, reflectors=reflector_grid(4, 620.0), facets=2),
        signal=Signal(looks=None),
        partners=Partners(optical=False),
    )
    truth = write_scene(tmp_path / "scene", spec)
    block = imaged_block(truth)
    heights_m = truth.map.height_m[block].astype(np.float64)
    right = geocode_sigma0(truth, heights_m, block, tmp_path)
    off_px = reflector_errors_px(truth, right)
    assert np.hypot(*off_px.mean(axis=0)) < 0.01
    assert np.hypot(*off_px.T).mean() < 0.05
    left = geocode_sigma0(truth, heights_m, block, tmp_path, convention=Convention())
    moved_px = reflector_errors_px(truth, left).mean(axis=0)
    inside = [k for k in truth.reflectors if _within(right.grid, k)]
    angle = np.radians(44.0)
    zenith_m = 2.307 * np.exp(-np.mean([k.height_m for k in inside]) / 8700)
    across_px = zenith_m / np.cos(angle) / np.sin(angle) / 10
    slant_m = float(truth.frame.ground_range.slant_reference_m[0])
    along_px = (slant_m / SPEED_OF_LIGHT_M_S - truth.frame.tau_ref_s / 2) / truth.frame.line_interval_s
    assert 0.4 < across_px < 0.5
    assert 0.05 < along_px < 0.2
    assert np.hypot(*moved_px) == pytest.approx(np.hypot(across_px, along_px), rel=0.1)


def test_terrain_flattening_recovers_the_grounds_backscatter_by_slope(alpine, tmp_path):
    block = imaged_block(alpine)
    found = geocode_gamma0(alpine, block, tmp_path)
    on_map = alpine.map
    clear = ~(on_map.layover | on_map.shadow)[block]
    facing_deg = (on_map.incidence_deg - on_map.local_incidence_deg)[block]
    for low, high in ((-30, -20), (-20, -10), (-10, 0), (0, 10), (10, 20), (20, 30)):
        bias, count = bias_db(
            found.power[0], on_map.gamma0[0][block], clear & (facing_deg >= low) & (facing_deg < high)
        )
        assert count > 500
        assert abs(bias) < 0.2, (low, high)


def test_layover_shadow_and_local_incidence_are_the_truths(alpine, tmp_path):
    block = imaged_block(alpine)
    terrain = geocode_gamma0(alpine, block, tmp_path).terrain
    layover, shadow = alpine.map.layover[block], alpine.map.shadow[block]
    assert layover.mean() > 0.05
    assert overlap(terrain.layover, layover) > 0.93
    assert overlap(terrain.layover | terrain.shadow, layover | shadow) > 0.93
    difference = np.abs(terrain.incidence_deg - alpine.map.local_incidence_deg[block])[~shadow]
    assert difference.max() < 0.5


def level_block(folder, gamma0_db, signal):
    spec = SceneSpec(
        lines=300,
        samples=320,
        ground=Ground(relief_m=0.0, gamma0_db=gamma0_db, facets=1),
        signal=signal,
        partners=Partners(optical=False),
    )
    truth = write_scene(folder, spec)
    block = imaged_block(truth)
    return truth, block, padded_heights(truth, block_grid(truth, block))


def test_noise_is_removed_swath_by_swath_to_the_last_hundredths(tmp_path):
    """Tested at the noise floor, where half of the power is noise."""
    truth, block, heights_m = level_block(tmp_path, -23.0, Signal(looks=None))
    found = geocode_sigma0(truth, heights_m, block, tmp_path)
    true = 10**-2.3 * np.cos(np.radians(truth.map.incidence_deg[block]))
    for power, channel in zip(found.power, truth.product.channels, strict=True):
        for part in channel.noise.azimuth:
            sample = truth.map.sample[block]
            bias, count = bias_db(power, true, (sample > part.first_sample + 1) & (sample < part.last_sample - 1))
            assert count > 5000
            assert abs(bias) < 0.05, (channel.polarisation, part.swath)


def test_sigma_nought_is_unbiased_under_speckle_and_keeps_its_looks(tmp_path):
    truth, block, heights_m = level_block(tmp_path, -8.0, Signal(correlated=False))
    true = 10**-0.8 * np.cos(np.radians(truth.map.incidence_deg[block]))
    looks = {}
    for method in ("nearest", "bilinear", "cubic"):
        power = geocode_sigma0(truth, heights_m, block, tmp_path, method=method).power[0]
        assert abs(bias_db(power, true, np.ones(power.shape, dtype=bool))[0]) < 0.05
        looks[method] = estimate_enl(power).value
    assert looks["nearest"] == pytest.approx(4.4, rel=0.1)
    # averaged over places within a pixel, bilinear weights keep (2/3)^2 of the variance of independent pixels
    assert looks["bilinear"] == pytest.approx(4.4 * 9 / 4, rel=0.15)
    assert looks["nearest"] < looks["cubic"] < looks["bilinear"]
