import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Transformer

from sar1m.core.radar.geodesy import ecef_from_geodetic, geodetic_from_ecef, normal_from_ecef

PLACES = np.random.default_rng(5)
LON = np.concatenate((PLACES.uniform(-180, 180, 500), [0.0, 90.0, 180.0, -90.0]))
LAT = np.concatenate((PLACES.uniform(-90, 90, 500), [0.0, 0.0, 45.0, -89.999]))
HEIGHT_M = np.concatenate((PLACES.uniform(-500, 9000, 400), PLACES.uniform(6e5, 8e5, 100), [0.0, -430.0, 8848.0, 0.0]))


def test_against_proj_both_ways():
    proj = Transformer.from_crs("EPSG:4979", "EPSG:4978", always_xy=True)
    expected_m = np.stack(proj.transform(LON, LAT, HEIGHT_M), axis=-1)
    np.testing.assert_allclose(ecef_from_geodetic(LON, LAT, HEIGHT_M), expected_m, rtol=0, atol=3e-9)
    lon, lat, height_m = geodetic_from_ecef(expected_m)
    np.testing.assert_allclose(lat, LAT, rtol=0, atol=1e-13)
    np.testing.assert_allclose(height_m, HEIGHT_M, rtol=0, atol=5e-9)
    np.testing.assert_allclose(np.sin(np.radians(lon - LON)) * np.cos(np.radians(LAT)), 0, atol=1e-15)


@given(st.floats(-180, 180), st.floats(-90, 90), st.floats(-1e5, 1e6))
def test_there_and_back(lon, lat, height_m):
    point_m = ecef_from_geodetic(lon, lat, height_m)
    again_m = ecef_from_geodetic(*geodetic_from_ecef(point_m))
    np.testing.assert_allclose(again_m, point_m, rtol=0, atol=2e-8)


def test_places_known_by_heart():
    np.testing.assert_allclose(ecef_from_geodetic(0, 0, 0), [6378137, 0, 0], atol=1e-9)
    np.testing.assert_allclose(ecef_from_geodetic(0, 90, 0), [0, 0, 6356752.314245], atol=1e-6)
    np.testing.assert_allclose(ecef_from_geodetic(90, 0, 10), [0, 6378147, 0], atol=1e-9)
    assert geodetic_from_ecef(np.array([0.0, 0.0, 6356752.314245 + 7]))[1:] == pytest.approx((90.0, 7.0), abs=1e-6)


def test_the_normal_is_the_way_up():
    step_m = ecef_from_geodetic(LON, LAT, HEIGHT_M + 1000) - ecef_from_geodetic(LON, LAT, HEIGHT_M)
    np.testing.assert_allclose(normal_from_ecef(ecef_from_geodetic(LON, LAT, HEIGHT_M)), step_m / 1000, atol=1e-11)


def test_shapes_broadcast_and_nan_stays():
    points_m = ecef_from_geodetic(np.zeros((3, 1)), np.arange(4.0), np.full((2, 1, 1), 5.0))
    assert points_m.shape == (2, 3, 4, 3)
    assert normal_from_ecef(points_m).shape == (2, 3, 4, 3)
    assert np.isnan(ecef_from_geodetic(np.nan, 1.0, 2.0)).any()
    assert np.isnan(geodetic_from_ecef(np.full((2, 3), np.nan))).all()
