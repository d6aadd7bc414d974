"""The simulated echo against closed forms for simple ground."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from sarworld.safe.corner_reflectors import add_target, response
from sarworld.safe.known_scene import write_scene
from sarworld.safe.radiometry import BETA_GAIN
from sarworld.safe.scenario import Ground, Partners, Reflector, SceneSpec, Signal, Surface
from sarworld.safe.signal import digital_numbers

INSIDE = (slice(20, -20), slice(20, -20))
QUIET = Partners(optical=False)


def test_level_ground_has_sigma_nought_of_gamma_nought_times_the_cosine(level_scene):
    image = level_scene.image
    sine = image.sigma0[0] / image.beta0[0]
    expected = 10**-1.2 * np.sqrt(1 - sine**2)
    error_db = 10 * np.log10(image.sigma0[0] / expected)[INSIDE]
    assert abs(error_db.mean()) < 1e-3
    assert np.abs(error_db).max() < 0.02
    cotangent = 1 / np.tan(np.arcsin(sine))
    np.testing.assert_allclose((image.area_m2 / image.area_beta_m2)[INSIDE], cotangent[INSIDE], rtol=4e-3)


def ridge(level_scene, height_m, half_width_m):
    """The level scene with a ridge along the track in its middle; its height as a function of ground range."""
    on_map = level_scene.map
    away_m = (on_map.sample - level_scene.spec.samples / 2) * 10.0
    height = on_map.height_m + height_m * np.clip(1 - np.abs(away_m) / half_width_m, 0, None)
    surface = Surface(grid=on_map.grid, height_m=height.astype(np.float32))
    return replace(
        level_scene.spec,
        lines=120,
        samples=180,
        ground=replace(level_scene.spec.ground, surface=surface),
        partners=QUIET,
    ), away_m


def middle_profile(truth, away_m):
    """Cells of the map near the image's middle line, by ground range from the ridge's crest."""
    near = np.abs(truth.map.line - truth.spec.lines / 2) < 2
    order = np.argsort(away_m[near])
    return away_m[near][order], truth.map.layover[near][order], truth.map.shadow[near][order]


def test_a_ridge_casts_the_shadow_and_the_layover_that_its_height_demands(level_scene, tmp_path):
    height_m = 150.0
    spec, away_m = ridge(level_scene, height_m, 60.0)
    truth = write_scene(tmp_path, spec)
    tangent = np.tan(np.radians(38.0))
    away, layover, shadow = middle_profile(truth, away_m)
    assert away[shadow].max() == pytest.approx(height_m * tangent, abs=15)
    assert away[shadow].min() == pytest.approx(0, abs=15)
    # the crest's slant range is that of level ground this far before it
    assert away[layover].min() == pytest.approx(-height_m / tangent, abs=15)
    assert layover[(away > -height_m / tangent + 15) & (away < -15)].all()
    assert not layover[away > height_m * tangent + 15].any()


def test_shadow_is_dark_and_layover_bright_where_the_image_shows_them(level_scene, tmp_path):
    spec, _ = ridge(level_scene, 150.0, 60.0)
    beta0 = write_scene(tmp_path, spec).image.beta0[0]
    profile = beta0[50:70].mean(axis=0)
    level = np.median(profile)
    assert (profile < 1e-3 * level).sum() >= 5  # the shadow's slant range less what the back slope fills
    assert profile.max() > 2 * level


def test_a_tilted_plane_echoes_as_the_area_formula_says(level_scene, tmp_path):
    """beta nought = gamma nought / tan(local incidence) on a plane that slopes in range (Small 2011, eq. 6-8)."""
    on_map = level_scene.map
    for slope in (-0.3, 0.2):
        away_m = (on_map.sample - level_scene.spec.samples / 2) * 10.0
        height = (on_map.height_m + slope * away_m).astype(np.float32)
        spec = replace(
            level_scene.spec,
            lines=60,
            samples=80,
            ground=replace(level_scene.spec.ground, surface=Surface(grid=on_map.grid, height_m=height)),
            partners=QUIET,
        )
        beta0 = write_scene(tmp_path / str(slope), spec).image.beta0[0][20:-20, 20:-20].mean()
        local = np.radians(38.0) - np.arctan(slope)
        assert 10 * np.log10(beta0 / (10**-1.2 / np.tan(local))) == pytest.approx(0, abs=0.05)


def test_the_maps_beta_nought_is_the_images(small_scene):
    on_map, image = small_scene.map, small_scene.image
    seen = ndimage.map_coordinates(image.beta0[0], [on_map.line, on_map.sample], order=1, cval=np.nan)
    use = np.isfinite(on_map.beta0[0]) & np.isfinite(seen)
    assert use.mean() > 0.4
    assert 10 * np.log10(seen[use].mean() / on_map.beta0[0][use].mean()) == pytest.approx(0, abs=0.03)


def test_speckle_and_noise_leave_the_mean(small_scene):
    for at, channel in enumerate(small_scene.product.channels):
        power = digital_numbers(small_scene, channel).astype(np.float64) ** 2
        sigma0 = small_scene.image.sigma0[at] / small_scene.image.beta0[at]  # sine of the incidence
        expected = (small_scene.image.beta0[at] + small_scene.image.nesz[at] / sigma0) * BETA_GAIN**2
        valid = small_scene.image.valid
        assert 10 * np.log10(power[valid].mean() / expected[valid].mean()) == pytest.approx(0, abs=0.05)
        ratio = power[valid] / expected[valid]
        assert ratio.mean() ** 2 / ratio.var() == pytest.approx(4.4, rel=0.06)


@pytest.mark.parametrize("place", [(40.0, 40.0), (40.5, 40.25), (39.87, 41.49)])
def test_a_reflectors_energy_does_not_depend_on_its_place(place):
    power = np.zeros((80, 80), dtype=np.float32)
    add_target(power, *place, 100.0)
    assert power.sum() == pytest.approx(100.0, rel=2e-3)
    rows, cols = np.indices(power.shape)
    assert (power * rows).sum() / power.sum() == pytest.approx(place[0], abs=0.01)
    assert (power * cols).sum() / power.sum() == pytest.approx(place[1], abs=0.01)


def test_the_impulse_response_has_sentinel_1s_width():
    offset = np.linspace(-3, 3, 6001)
    above = offset[response(offset) ** 2 > 0.5 * response(np.zeros(1)) ** 2]
    assert 20 < 10 * np.ptp(above) < 24  # product definition: about 20 x 22 m


def test_a_reflector_shows_with_its_cross_section(level_scene, tmp_path):
    corner = Reflector(name="corner", east_m=33.0, north_m=-47.0, cross_section_m2=30_000.0)
    spec = replace(level_scene.spec, ground=replace(level_scene.spec.ground, reflectors=(corner,)), partners=QUIET)
    truth = write_scene(tmp_path, spec)
    with_it, without = (
        digital_numbers(scene, scene.product.channels[0]).astype(np.float64) ** 2 for scene in (truth, level_scene)
    )
    energy = (with_it - without).sum() / BETA_GAIN**2 * float(truth.image.area_beta_m2[130, 160])
    assert energy == pytest.approx(30_000.0, rel=0.01)


def test_a_surface_smaller_than_the_image_is_refused(level_scene, tmp_path):
    grid = level_scene.map.grid.window(0, 0, 100, 100)
    surface = Surface(grid=grid, height_m=level_scene.map.height_m[:100, :100])
    with pytest.raises(ValueError, match="larger surface"):
        write_scene(tmp_path, SceneSpec(lines=200, samples=200, ground=Ground(surface=surface), signal=Signal()))
