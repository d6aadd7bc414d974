"""The delay of the standard atmosphere against published tables, a quadrature, and what it does to an image."""

from dataclasses import replace

import numpy as np
import pytest

from sar1m.core.radar.ground_range import ground_range_m
from sar1m.core.radar.product import GEOLOCATION_GRID, SPEED_OF_LIGHT_M_S, Convention
from sar1m.core.radar.range_doppler import image_coordinates
from sar1m.core.radar.troposphere import pressure_hpa, slant_delay_m, zenith_delay_m
from sarworld.safe import atmosphere
from support import circular

DELAYED = Convention(troposphere="standard_atmosphere")
SCENE = circular.geometry()


def test_pressure_is_that_of_the_standards_table():
    """U.S. Standard Atmosphere, 1976, table I, by geometric altitude."""
    height_m = [0, 1000, 2000, 3000, 4000, 5000, 8000]
    table_hpa = [1013.25, 898.76, 795.01, 701.21, 616.60, 540.48, 356.51]
    np.testing.assert_allclose(pressure_hpa(height_m), table_hpa, atol=0.01)


def test_the_zenith_delay_at_sea_level_is_the_2_3_m_of_the_literature():
    assert zenith_delay_m(45.0, 0.0) == pytest.approx(2.307, abs=5e-4)
    assert zenith_delay_m(0.0, 0.0) / zenith_delay_m(90.0, 0.0) == pytest.approx(1.00266 / 0.99734, rel=1e-6)
    assert np.isnan(zenith_delay_m(45.0, np.nan))


@pytest.mark.parametrize("height_m", [-400.0, 0.0, 800.0, 4000.0])
def test_zenith_and_slant_agree_with_the_refractivity_along_the_path(height_m):
    """At 45 degrees, whose gravity the standard has; the cosine leaves 4 mm at the far edge of a swath."""
    assert zenith_delay_m(45.0, height_m) == pytest.approx(float(atmosphere.slant_delay_m(height_m, 0.0)), abs=1e-4)
    for angle_deg, within_m in ((20.0, 1e-3), (38.0, 2.5e-3), (46.0, 5e-3)):
        slant_m = zenith_delay_m(45.0, height_m) / np.cos(np.radians(angle_deg))
        assert slant_m == pytest.approx(float(atmosphere.slant_delay_m(height_m, angle_deg)), abs=within_m)


def test_a_target_shows_farther_in_range_and_on_the_same_line():
    time_s, slant_m = np.array([1.5, 7.6, 20.0]), np.array([8.1e5, 8.9e5, 9.3e5])
    points_m = circular.seen_at(time_s, slant_m, np.array([0.5, 0.58, 0.66]))
    plain, delayed = (image_coordinates(SCENE, points_m, convention) for convention in (Convention(), DELAYED))
    delay_m = slant_delay_m(points_m, plain.incidence_deg)
    assert (delay_m > 0.1).all()
    np.testing.assert_array_equal(delayed.line, plain.line)
    np.testing.assert_allclose(delayed.slant_range_m - plain.slant_range_m, delay_m, atol=1e-8)
    farther_m = ground_range_m(SCENE.ground_range, time_s, slant_m + delay_m, "interpolated")
    np.testing.assert_allclose(delayed.sample, farther_m / 10, atol=1e-6)
    grid = image_coordinates(SCENE, points_m, replace(GEOLOCATION_GRID, troposphere="standard_atmosphere"))
    bistatic_s = (2 * (slant_m + delay_m) / SPEED_OF_LIGHT_M_S - 5.6e-3) / 2
    np.testing.assert_allclose(grid.line, (time_s - bistatic_s) / 1.5e-3, atol=1e-6)
