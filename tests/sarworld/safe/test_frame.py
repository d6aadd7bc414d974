"""The simulator's geometry against that of the pipeline, which knows only the annotation."""

from dataclasses import replace

import numpy as np
import pytest

from sar1m.core.radar.geodesy import ecef_from_geodetic, geodetic_from_ecef
from sar1m.core.radar.product import GEOLOCATION_GRID, Convention
from sar1m.core.radar.range_doppler import image_coordinates
from sar1m.core.utm import lonlat_from_utm
from sarworld.safe.circular_orbit import incidence_deg, orbit_over
from sarworld.safe.frame import make_frame
from sarworld.safe.ground import height_at
from sarworld.safe.product import make_product
from sarworld.safe.scenario import AcquisitionSpec, SceneSpec

DELAYED = Convention(azimuth="geolocation_grid", troposphere="standard_atmosphere")
CONVENTIONS = {"pixels": Convention(), "grid": GEOLOCATION_GRID, "delayed": DELAYED}


def product_of(spec, height_m=250.0):
    frame = make_frame(spec, height_m)
    return frame, make_product(spec, frame, lambda lon, lat: np.full(lon.shape, height_m))


@pytest.mark.parametrize("orbit_state", ["ascending", "descending"])
@pytest.mark.parametrize("lat", [-55.0, 0.0, 47.3])
def test_the_place_is_seen_to_the_right_under_the_incidence_asked_for(orbit_state, lat):
    orbit = orbit_over(11.0, lat, 100.0, orbit_state, 37.0, 5.0)
    place = ecef_from_geodetic(11.0, lat, 100.0)
    time_s, range_m = orbit.zero_doppler(place, 0.0)
    position, velocity, acceleration = orbit.state(time_s)
    assert time_s == pytest.approx(5.0, abs=1e-6)
    assert 8.0e5 < range_m < 9.0e5
    assert incidence_deg(place, position) == pytest.approx(37.0, abs=1e-6)
    assert np.cross(velocity, position) @ (place - position) > 0
    assert (orbit.heading_deg(5.0) % 360 > 270) == (orbit_state == "ascending")
    # velocity and acceleration are the derivatives of position
    step = orbit.state(np.array([4.99, 5.01]))
    np.testing.assert_allclose(np.diff(step[0], axis=0)[0] / 0.02, velocity, atol=1e-3)
    np.testing.assert_allclose(np.diff(step[1], axis=0)[0] / 0.02, acceleration, atol=1e-6)
    assert 7.5e3 < np.linalg.norm(velocity) < 7.7e3


def test_places_no_orbit_reaches_are_refused():
    with pytest.raises(ValueError, match="too near the pole"):
        orbit_over(0.0, 85.0, 0.0, "ascending", 38.0, 0.0)
    with pytest.raises(ValueError, match="outside IW"):
        make_frame(SceneSpec(acquisition=AcquisitionSpec(incidence_deg=20.0)), 0.0)


@pytest.mark.parametrize("mode", ["IW", "EW", "S4"])
@pytest.mark.parametrize("convention", CONVENTIONS.values(), ids=CONVENTIONS)
def test_lines_and_samples_agree_with_the_pipelines_from_state_vectors(mode, convention):
    spec = SceneSpec(acquisition=AcquisitionSpec(mode=mode, polarisations=("HH",), convention=convention))
    frame, product = product_of(spec)
    line, sample = np.meshgrid(np.linspace(-50, 1250, 14), np.linspace(-50, 1450, 16), indexing="ij")
    height = np.random.default_rng(1).uniform(0, 3000, line.shape)
    points = frame.locate(line, sample, height)
    np.testing.assert_allclose(geodetic_from_ecef(points)[2], height, atol=1e-6)
    own = frame.image_coordinates(points)
    np.testing.assert_allclose(own[0], line, atol=1e-6)
    np.testing.assert_allclose(own[1], sample, atol=1e-6)
    theirs = image_coordinates(product.geometry, points, convention)
    np.testing.assert_allclose(theirs.line, line, atol=1e-3)  # the annotated times are whole microseconds
    np.testing.assert_allclose(theirs.sample, sample, atol=1e-3)


def test_the_two_conventions_lie_apart_by_the_amount_asked_for():
    spec = SceneSpec(lines=9000, acquisition=AcquisitionSpec(rule_gap_px=3.0, incidence_deg=37.75))
    frame = make_frame(spec, 0.0)
    line, sample = np.meshgrid(np.arange(0, 9000, 50.0), np.linspace(0, 1399, 5), indexing="ij")
    points = frame.locate(line, sample, 0.0)
    other_line, other_sample = frame.image_coordinates(points, GEOLOCATION_GRID)
    assert np.abs(other_sample - sample).max() == pytest.approx(3.0, rel=0.2)
    assert 0 < np.abs(other_line - line).max() < 0.2


@pytest.mark.parametrize("incidence", [31.0, 38.0, 45.0])
def test_the_atmosphere_moves_a_place_by_its_delay_over_the_sine_in_ground_range(incidence):
    """2.307 m towards the zenith at sea level: 0.46 to 0.52 px of 10 m, always away from the radar."""
    frame, _ = product_of(SceneSpec(acquisition=AcquisitionSpec(incidence_deg=incidence, rule_gap_px=0.0)), 0.0)
    place = frame.locate(frame.lines // 2, frame.samples // 2, 0.0)
    plain = frame.image_coordinates(place)
    delayed = frame.image_coordinates(place, Convention(troposphere="standard_atmosphere"))
    angle = np.radians(incidence)
    assert delayed[0] == plain[0]
    assert delayed[1] - plain[1] == pytest.approx(2.307 / np.cos(angle) / np.sin(angle) / 10, rel=0.01)


def test_the_annotated_grid_follows_its_own_convention(small_scene):
    frame, grid = small_scene.frame, small_scene.product.geometry.grid
    points = ecef_from_geodetic(grid.lon, grid.lat, grid.height_m)
    line, sample = frame.image_coordinates(points, GEOLOCATION_GRID)
    np.testing.assert_allclose(line, grid.line, atol=1e-6)
    np.testing.assert_allclose(sample, grid.sample, atol=1e-6)
    ground_m = height_at(small_scene.map.grid, small_scene.map.height_m, grid.lon, grid.lat)
    np.testing.assert_allclose(grid.height_m, ground_m, atol=0.5)  # tie points stand on the ground
    assert np.ptp(grid.height_m) > 20
    late = replace(frame, convention=Convention()).image_coordinates(points)[0] - line
    assert 0.005 < np.abs(late).max() < 0.2


def test_the_maps_coordinates_are_exact_between_lattice_points(small_scene):
    on_map, frame = small_scene.map, small_scene.frame
    row, col = np.mgrid[5 : on_map.grid.rows : 37, 3 : on_map.grid.cols : 41]
    x_m = on_map.grid.left_m + (col + 0.5) * on_map.grid.gsd_m
    y_m = on_map.grid.top_m - (row + 0.5) * on_map.grid.gsd_m
    lon, lat = lonlat_from_utm(x_m, y_m, on_map.grid.epsg)
    line, sample = frame.image_coordinates(ecef_from_geodetic(lon, lat, on_map.height_m[row, col]))
    np.testing.assert_allclose(on_map.line[row, col], line, atol=1e-4)
    np.testing.assert_allclose(on_map.sample[row, col], sample, atol=1e-4)
