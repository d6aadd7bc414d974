"""The simulated world against geometry, its own materials, and independently measured shifts."""

import numpy as np
import pytest
from scipy import ndimage

from sarworld.fields import PSF_SIGMA_PX, fractal_field, keyed_rng, margin_for, observe
from sarworld.materials import WATER_CLASS
from sarworld.optics import MASKED_OPACITY, Sun, illumination
from sarworld.radar import NOISE_FLOOR_DB, View, incidence_tangent, layover_or_shadow, log_terrain_gain
from sarworld.world import WorldSpec, build_world, cover_with_clouds, view_optical, view_radar

VIEW = View(incidence_deg=38.0, look_azimuth_deg=78.0)
SUN = Sun(zenith_deg=40.0, azimuth_deg=150.0)
NOISE = 10 ** (NOISE_FLOOR_DB / 10)


def _spec(name="here", side_px=320, **changes):
    return WorldSpec(**{"seed": 11, "name": name, "rows": side_px, "cols": side_px, "gsd_m": 10.0} | changes)


def _clear(spec):
    return cover_with_clouds(spec, SUN, cloudy=False)


def _phase_shift_px(moved, still):
    """Shift of one image against another, from the phase of their cross spectrum at wavelengths of 5 px and more.

    A plane is fitted by weighted least squares. The shift found is undone and the fit repeated, so that the phase does
    not wrap."""
    window = np.hanning(moved.shape[0])[:, None] * np.hanning(moved.shape[1])[None, :]
    cross = np.fft.fft2((moved - moved.mean()) * window) * np.conj(np.fft.fft2((still - still.mean()) * window))
    rows, cols = np.meshgrid(*(np.fft.fftfreq(length) for length in moved.shape), indexing="ij")
    radius = np.hypot(rows, cols)
    shift = np.zeros(2)
    for limit in (0.02, 0.05, 0.2):
        used = (radius > 0) & (radius < limit)
        axes = np.stack([rows[used], cols[used]], axis=1)
        phase = np.angle(cross[used] * np.exp(2j * np.pi * axes @ shift))
        weight = np.sqrt(np.abs(cross[used]))
        shift -= np.linalg.lstsq(axes * weight[:, None], phase * weight, rcond=None)[0] / (2 * np.pi)
    return shift


# ---- fields and sensors ----


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.37, -1.81), (-2.5, 0.499), (2.999, 3.0)])
def test_a_wave_is_displaced_exactly_and_damped_as_the_point_spread_function_says(shift):
    margin, side = margin_for(3.0), 96
    rows, cols = np.mgrid[: side + 2 * margin, : side + 2 * margin].astype(float)
    frequency = np.array([1 / 16, -1 / 11])
    scene = np.cos(2 * np.pi * (frequency[0] * rows + frequency[1] * cols)).astype(np.float32)
    image = observe(scene, shift, margin)
    assert image.shape == (side, side)
    damping = np.exp(-2 * np.pi**2 * PSF_SIGMA_PX**2 * (frequency**2).sum())
    inner_rows, inner_cols = np.mgrid[:side, :side] + float(margin)
    expected = np.cos(2 * np.pi * (frequency[0] * (inner_rows - shift[0]) + frequency[1] * (inner_cols - shift[1])))
    assert np.abs(image - damping * expected).max() < 2e-4


def test_positive_shift_moves_content_down_and_right():
    scene = np.zeros((64, 64), dtype=np.float32)
    scene[30, 20] = 1
    image = observe(scene, (2.0, 3.0), 9)
    assert np.unravel_index(image.argmax(), image.shape) == (30 - 9 + 2, 20 - 9 + 3)


def test_a_shift_beyond_the_margin_is_refused():
    with pytest.raises(ValueError, match="needs a margin of"):
        observe(np.zeros((64, 64), dtype=np.float32), (0.0, 3.2), margin_for(3.0))


def test_fractal_field_falls_with_the_asked_slope():
    field = fractal_field(keyed_rng(1, "slope"), (512, 512), slope=3.0, longest_px=1e4, shortest_px=2.2)
    power = np.abs(np.fft.fft2(field)) ** 2
    radius = np.hypot(np.fft.fftfreq(512)[:, None], np.fft.fftfreq(512)[None, :]) * 512
    rings = np.array([4, 8, 16, 32, 64, 128])
    mean = [power[(radius > 0.8 * ring) & (radius < 1.25 * ring)].mean() for ring in rings]
    assert np.polyfit(np.log(rings), np.log(mean), 1)[0] == pytest.approx(-3.0, abs=0.2)


def test_fractal_field_has_no_wave_under_the_shortest():
    field = fractal_field(keyed_rng(1, "short"), (240, 240), slope=2.0, longest_px=100, shortest_px=12)
    assert field.std() == pytest.approx(1, abs=1e-3)
    power = np.abs(np.fft.fft2(field)) ** 2
    over = np.abs(np.fft.fftfreq(240)) > 1.01 / 12
    assert power[over].sum() < 1e-8 * power.sum()


def test_a_small_raster_sees_a_small_part_of_the_relief():
    large, small = (fractal_field(keyed_rng(1, "h"), (n, n), slope=4, longest_px=800, shortest_px=6) for n in (800, 50))
    assert large.std() == pytest.approx(1, abs=1e-3)
    assert small.std() < 0.1


def test_random_streams_are_keyed_by_seed_and_every_name():
    keys = [(1, "a", "b"), (2, "a", "b"), (1, "a", "c"), (1, "ab"), (1, "b", "a")]
    draws = {key: tuple(keyed_rng(*key).integers(1 << 60, size=4).tolist()) for key in keys}
    assert len(set(draws.values())) == len(keys)
    assert tuple(keyed_rng(1, "a", "b").integers(1 << 60, size=4).tolist()) == draws[1, "a", "b"]


# ---- geometry of sun and radar ----


def _plane(slope_right, slope_down=0.0):
    return np.full((4, 4), slope_down, dtype=np.float32), np.full((4, 4), slope_right, dtype=np.float32)


def test_a_slope_towards_the_sun_is_lit_by_the_cosine_law():
    towards_east = _plane(-np.tan(np.radians(20.0)))  # falls eastward, so it faces east
    light = illumination(*towards_east, Sun(zenith_deg=40.0, azimuth_deg=90.0))
    assert light == pytest.approx(np.cos(np.radians(20)) / np.cos(np.radians(40)), rel=1e-5)
    shaded = illumination(*towards_east, Sun(zenith_deg=40.0, azimuth_deg=270.0))
    assert shaded == pytest.approx(np.cos(np.radians(60)) / np.cos(np.radians(40)), rel=1e-5)
    southward = illumination(*_plane(0.0, -np.tan(np.radians(10.0))), Sun(zenith_deg=30.0, azimuth_deg=180.0))
    assert southward == pytest.approx(np.cos(np.radians(20)) / np.cos(np.radians(30)), rel=1e-5)


@pytest.mark.parametrize("tilt_deg", [-30.0, -5.0, 0.0, 12.0, 30.0])
def test_local_incidence_on_a_plane_is_the_difference_of_angles(tilt_deg):
    eastward = View(incidence_deg=38.0, look_azimuth_deg=90.0)
    rising = _plane(np.tan(np.radians(tilt_deg)))  # rises away from a radar that looks east: faces it
    assert np.degrees(np.arctan(incidence_tangent(*rising, eastward))) == pytest.approx(38.0 - tilt_deg, abs=1e-3)
    along_track = _plane(0.0, np.tan(np.radians(tilt_deg)))
    assert np.degrees(np.arctan(incidence_tangent(*along_track, eastward))) == pytest.approx(38.0, abs=1e-3)
    southward = View(incidence_deg=38.0, look_azimuth_deg=180.0)
    assert np.degrees(np.arctan(incidence_tangent(*along_track, southward))) == pytest.approx(38.0 - tilt_deg, abs=1e-3)


def test_layover_and_shadow_begin_at_their_angles():
    eastward = View(incidence_deg=38.0, look_azimuth_deg=90.0)

    def masked(tilt_deg):
        slopes = _plane(np.tan(np.radians(tilt_deg)))
        return layover_or_shadow(incidence_tangent(*slopes, eastward)).all()

    assert masked(40.0)
    assert not masked(32.0)
    assert masked(-55.0)
    assert not masked(-48.0)


def test_terrain_gain_is_the_ratio_of_illuminated_areas():
    area, falloff = log_terrain_gain(np.tan(np.radians(_plane(23.0)[1])), VIEW)
    assert np.exp(area) == pytest.approx(np.tan(np.radians(38)) / np.tan(np.radians(23)), rel=1e-5)
    assert np.exp(falloff) == pytest.approx(np.cos(np.radians(23)) / np.cos(np.radians(38)), rel=1e-5)


# ---- radar image ----


def _interiors(world):
    """Gamma nought in dB of VV and VH, and the mask of ground so far from boundaries that blur does not reach it."""
    inner = world.materials[world.margin_px : -world.margin_px, world.margin_px : -world.margin_px]
    gamma0_db = 10 / np.log(10) * world.palette.log_gamma0
    kinds = np.unique(gamma0_db.round(3), axis=1, return_inverse=True)[1].reshape(-1)[inner]
    whole = ndimage.maximum_filter(kinds, 11) == ndimage.minimum_filter(kinds, 11)
    whole[:6] = whole[-6:] = whole[:, :6] = whole[:, -6:] = False  # what lies beyond the image is not known here
    masks = [whole & (kinds == kind) for kind in np.unique(kinds)]
    return [(gamma0_db[:, inner[mask][0]], mask) for mask in masks if np.count_nonzero(mask) > 8000]


def test_backscatter_of_flat_ground_is_that_of_its_material_after_averaging_speckle():
    spec = _spec("flat", 800, relief_m=0.0, variation=0.0)
    world = build_world(spec, max_shift_px=0.0)
    radar = view_radar(world, VIEW)
    images = radar.measured(spec, looks=16.0, correlated=False)
    places = _interiors(world)
    assert len(places) >= 3
    for expected_db, mask in places:
        for pol in (0, 1):
            assert 10 * np.log10(radar.mean_power[pol][mask]) == pytest.approx(expected_db[pol], abs=0.01)
            assert 10 * np.log10(images[pol][mask].mean()) == pytest.approx(expected_db[pol], abs=0.05)


@pytest.mark.parametrize("correlated", [False, True])
def test_measured_image_is_the_mean_power_under_speckle_and_denoised_noise(correlated):
    spec = _spec()
    radar = view_radar(build_world(spec, max_shift_px=0.0), VIEW)
    ratio = (radar.measured(spec, looks=4.4, correlated=correlated) + NOISE) / (radar.mean_power + NOISE)
    assert ratio.mean() == pytest.approx(1, abs=0.01)
    assert ratio.var(axis=(1, 2)) * 4.4 == pytest.approx(1, abs=0.05)
    assert np.corrcoef(ratio[0].ravel(), ratio[1].ravel())[0, 1] == pytest.approx(0, abs=0.02)
    neighbours = np.corrcoef(ratio[0][1:].ravel(), ratio[0][:-1].ravel())[0, 1]
    assert neighbours == pytest.approx(0.6 if correlated else 0.0, abs=0.03)


def test_water_is_darker_than_land_and_lies_level():
    world = build_world(_spec("lakes", relief_m=80.0), max_shift_px=0.0)
    radar, water = view_radar(world, VIEW), world.water()
    assert 0.005 < water.mean() < 0.9
    assert np.array_equal(water, world.land_cover() == WATER_CLASS)
    inside = ndimage.binary_erosion(water, iterations=3)
    land = ndimage.binary_erosion(~water, iterations=3)
    for power in radar.mean_power:
        assert np.median(power[inside]) < 0.3 * np.median(power[land])
    wet = world.palette.land_cover[world.materials] == WATER_CLASS
    assert all(np.all(slope[wet] == 0) for slope in world.slopes())
    assert all(np.abs(slope[~wet]).max() > 0.01 for slope in world.slopes())


def test_relief_brightens_slopes_that_face_the_radar():
    world = build_world(_spec("hills", relief_m=120.0), max_shift_px=0.0)
    east, west = (view_radar(world, View(incidence_deg=38.0, look_azimuth_deg=a)).mean_power[0] for a in (90.0, 270.0))
    rising_east = world.slopes()[1][world.margin_px : -world.margin_px, world.margin_px : -world.margin_px]
    assert np.corrcoef(np.log(east / west).ravel(), rising_east.ravel())[0, 1] > 0.9


# ---- optical image ----


@pytest.mark.parametrize("shift", [(0.31, -0.44), (-2.73, 1.52), (3.0, -3.0), (0.5, 0.5)])
def test_optical_content_is_displaced_by_the_known_shift(shift):
    spec = _spec()
    world = build_world(spec, max_shift_px=3.0)
    still, moved = (view_optical(world, SUN, s, _clear(spec)) for s in ((0.0, 0.0), shift))
    for band in range(4):
        assert _phase_shift_px(moved[band], still[band]) == pytest.approx(shift, abs=0.02)


def _edge_offset_px(name):
    """Offset of edges in the optical image from those in the radar image of a flat, uniform world; scatter 0.04 px."""
    spec = _spec(name, 512, variation=0.0, relief_m=0.0)
    world = build_world(spec, max_shift_px=3.0)
    optical = view_optical(world, SUN, (0.0, 0.0), _clear(spec))[3]
    power = view_radar(world, VIEW).mean_power[0]
    edges = (ndimage.gaussian_gradient_magnitude(np.log(image), 1.0) for image in (optical, power))
    return _phase_shift_px(*edges)


def test_unshifted_optical_edges_stand_where_the_radar_s_do():
    offsets = [_edge_offset_px(f"edges {number}") for number in range(6)]
    assert np.mean(offsets, axis=0) == pytest.approx((0.0, 0.0), abs=0.05)


def test_cloud_mask_and_pixels_tell_the_same():
    spec = _spec("clouds")
    world = build_world(spec, max_shift_px=1.0)
    clouds = cover_with_clouds(spec, SUN, cloudy=True)
    clear, cloudy = (view_optical(world, SUN, (0.4, 0.6), c) for c in (_clear(spec), clouds))
    change = np.abs(cloudy - clear)
    assert 0.02 < clouds.mask.mean() < 0.98
    assert change[:, ~clouds.mask].max() <= MASKED_OPACITY  # thinner than what a mask would call cloud
    untouched = (clouds.opacity == 0) & (clouds.shadow == 0)
    assert np.array_equal(cloudy[:, untouched], clear[:, untouched])
    assert cloudy[0][clouds.opacity > 0.9].min() > 0.45
    shaded = (clouds.shadow > 0.9) & (clouds.opacity == 0)
    assert np.all(cloudy[:, shaded] < 0.5 * clear[:, shaded])
    assert not _clear(spec).mask.any()


def test_vegetation_is_bright_in_the_near_infrared_and_water_dark():
    world = build_world(_spec("ndvi"), max_shift_px=0.0)
    blue, green, red, nir = view_optical(world, SUN, (0.0, 0.0), _clear(world.spec))
    ndvi = (nir - red) / (nir + red)
    cover = world.land_cover()
    water = ndimage.binary_erosion(cover == WATER_CLASS, iterations=3)
    assert np.median(ndvi[cover == 10]) > 0.6
    assert np.median(ndvi[water]) < 0
    assert np.all(green[water] < blue[water])


# ---- the world as a whole ----


def test_same_spec_same_bytes_whatever_was_built_before():
    def images(spec):
        world = build_world(spec, max_shift_px=2.0)
        radar = view_radar(world, VIEW).measured(spec, looks=4.4, correlated=True)
        optical = view_optical(world, SUN, (0.3, 1.2), cover_with_clouds(spec, SUN, cloudy=True))
        return radar.tobytes() + optical.tobytes() + world.land_cover().tobytes()

    first = images(_spec())
    other = images(_spec("elsewhere"))
    assert images(_spec()) == first
    assert other != first
    assert images(_spec(seed=12)) != first


def test_variation_changes_brightness_but_not_the_map():
    plain, varied = (build_world(_spec(variation=v), max_shift_px=0.0) for v in (0.0, 1.0))
    assert np.array_equal(plain.land_cover(), varied.land_cover())
    means = [view_radar(world, VIEW).mean_power for world in (plain, varied)]
    assert not np.allclose(means[0], means[1], rtol=0.01)


def test_a_world_shows_many_kinds_of_land():
    cover = build_world(_spec("variety", 640), max_shift_px=0.0).land_cover()
    classes, counts = np.unique(cover, return_counts=True)
    assert set(classes.tolist()) <= {10, 20, 30, 40, 50, 60, 80, 90}
    assert np.count_nonzero(counts > 0.01 * cover.size) >= 4


@pytest.mark.parametrize(("side_px", "gsd_m"), [(32, 10.0), (33, 60.0), (48, 1.0)])
def test_worlds_of_any_size_and_spacing_are_finite_and_positive(side_px, gsd_m):
    spec = _spec("small", side_px, gsd_m=gsd_m)
    world = build_world(spec, max_shift_px=3.0)
    power = view_radar(world, VIEW).mean_power
    reflectance = view_optical(world, SUN, (1.0, -3.0), cover_with_clouds(spec, SUN, cloudy=True))
    assert power.shape == (2, side_px, side_px)
    assert reflectance.shape == (4, side_px, side_px)
    assert np.all(np.isfinite(power) & (power > 0))
    assert np.all(np.isfinite(reflectance) & (reflectance > 0) & (reflectance < 1))
