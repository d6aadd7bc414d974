import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sar1m.core.radar.geodesy import ecef_from_geodetic, geodetic_from_ecef
from sar1m.core.radar.ground_range import ground_range_m
from sar1m.core.radar.product import GEOLOCATION_GRID, SPEED_OF_LIGHT_M_S, Convention
from sar1m.core.radar.range_doppler import image_coordinates, tau_ref_s, zero_doppler
from support import circular

SCENE = circular.geometry()


@given(
    st.floats(-3, 28),
    st.floats(7.9e5, 9.7e5),
    st.floats(0.4, 0.75),
    st.floats(-20, 45),
)
def test_what_the_forward_model_places_is_found(time_s, slant_m, look_rad, guess_s):
    point_m = circular.seen_at(time_s, slant_m, look_rad)
    found_s, found_m = zero_doppler(SCENE.orbit, point_m, guess_s)
    assert found_s == pytest.approx(time_s, abs=1e-9)
    assert found_m == pytest.approx(slant_m, abs=1e-6)


def test_whole_arrays_over_chunks():
    rng = np.random.default_rng(3)
    time_s, slant_m = rng.uniform(0, 25, (300, 450)), rng.uniform(8e5, 9.6e5, (300, 450))
    points_m = circular.seen_at(time_s, slant_m, rng.uniform(0.45, 0.7, (300, 450)))
    found_s, found_m = zero_doppler(SCENE.orbit, points_m, 12.0)
    np.testing.assert_allclose(found_s, time_s, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found_m, slant_m, rtol=0, atol=1e-6)
    again_s, _ = zero_doppler(SCENE.orbit, points_m, time_s + 1.0)
    np.testing.assert_allclose(again_s, time_s, rtol=0, atol=1e-9)


def test_points_without_an_answer():
    """Left of the track, seen 40 s after the last state vector, not finite; and one good point among them."""
    points_m = np.stack(
        (
            circular.seen_at(5.0, 8.5e5, 0.6, side=-1.0),
            circular.seen_at(130.0, 8.5e5, 0.6),
            np.full(3, np.nan),
            circular.seen_at(5.0, 8.5e5, 0.6),
            circular.seen_at(91.5, 8.5e5, 0.6),
            circular.seen_at(92.5, 8.5e5, 0.6),
        )
    )
    seen = image_coordinates(SCENE, points_m, Convention())
    lost = [True, True, True, False, False, True]
    for values in (seen.line, seen.azimuth_time_s, seen.slant_range_m, seen.incidence_deg, seen.sample):
        np.testing.assert_array_equal(np.isnan(values), lost)


def test_lines_and_samples_follow_the_conventions():
    time_s, slant_m = np.array([1.5, 7.6, 20.0]), np.array([8.1e5, 8.9e5, 9.3e5])
    points_m = circular.seen_at(time_s, slant_m, np.array([0.5, 0.58, 0.66]))
    plain = image_coordinates(SCENE, points_m, Convention())
    grid = image_coordinates(SCENE, points_m, GEOLOCATION_GRID)
    np.testing.assert_allclose(plain.line, time_s / 1.5e-3, atol=1e-6)
    bistatic_s = (2 * slant_m / SPEED_OF_LIGHT_M_S - 5.6e-3) / 2
    np.testing.assert_allclose(grid.line, (time_s - bistatic_s) / 1.5e-3, atol=1e-6)
    for seen, rule in ((plain, "interpolated"), (grid, "nearest")):
        expected_m = ground_range_m(SCENE.ground_range, time_s, slant_m, rule)
        np.testing.assert_allclose(seen.sample, expected_m / 10, atol=1e-6)
    assert np.abs(plain.sample - grid.sample).max() > 0.1


def test_sample_alone_is_lost_beyond_the_polynomials():
    points_m = circular.seen_at(5.0, np.array([6.4e5, 8.5e5]), np.array([0.5, 0.5]))
    seen = image_coordinates(SCENE, points_m, Convention())
    np.testing.assert_array_equal(np.isnan(seen.sample), [True, False])
    assert np.isfinite(seen.line).all()
    assert np.isfinite(seen.azimuth_time_s).all()


def test_incidence_is_against_the_ellipsoid():
    slant_m, look_rad = np.array([8.2e5, 9.0e5]), np.array([0.52, 0.66])
    points_m = circular.seen_at(9.0, slant_m, look_rad)
    lon, lat, _ = geodetic_from_ecef(points_m)
    back = circular.state_at(9.0)[0] - points_m
    east, north = np.radians(lon), np.radians(lat)
    upward = np.stack((np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)), axis=-1)
    sine = np.linalg.norm(np.cross(back / slant_m[:, None], upward), axis=-1)
    seen = image_coordinates(SCENE, points_m, Convention())
    np.testing.assert_allclose(seen.incidence_deg, np.degrees(np.arcsin(sine)), atol=1e-9)


def test_higher_points_show_nearer():
    lon, lat, _ = geodetic_from_ecef(circular.seen_at(9.0, 8.5e5, 0.6))
    points_m = ecef_from_geodetic(lon, lat, np.array([0.0, 100.0]))
    seen = image_coordinates(SCENE, points_m, Convention())
    expected_m = -100 * np.cos(np.radians(seen.incidence_deg.mean()))
    assert np.diff(seen.slant_range_m)[0] == pytest.approx(expected_m, rel=1e-3)


def test_the_grids_reference_is_recovered():
    assert tau_ref_s(circular.geometry(5.873e-3)) == pytest.approx(5.873e-3, abs=1e-15)
