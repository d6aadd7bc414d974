from dataclasses import replace

import numpy as np
import pytest

from sar1m.core.radar.product import Convention
from sar1m.core.radar.range_doppler import image_coordinates
from sar1m.core.radar.tie_points import (
    TiePoints,
    annotated_tie_points,
    fit_tie_points,
    relief_error_px,
    tie_point_coordinates,
)
from sar1m.store.errors import SourceError
from support import circular


def made_up(shift_deg=0.0, hills_m=0.0):
    """A grid of 10 x 21 tie points over smooth, curved ground. Heights vary by hills_m along the track."""
    line, sample = np.meshgrid(np.linspace(0, 16000, 10), np.linspace(0, 25000, 21), indexing="ij")
    height_m = hills_m * np.sin(line / 3000)
    incidence_deg = 30 + 16 * sample / 25000
    ground_px = sample + height_m / np.tan(np.radians(incidence_deg)) / 10
    lon, lat = place(line, ground_px, shift_deg)
    return TiePoints(
        name="S1A_TEST",
        line=line.ravel(),
        sample=sample.ravel(),
        lon=lon.ravel(),
        lat=lat.ravel(),
        height_m=height_m.ravel(),
        incidence_deg=incidence_deg.ravel(),
        range_spacing_m=10.0,
    )


def place(line, ground_px, shift_deg=0.0):
    u, v = line / 16000, ground_px / 25000
    lon = 12.0 + shift_deg - 0.45 * u + 3.1 * v + 0.05 * u * v - 0.02 * v**2
    return (lon + 180) % 360 - 180, 42.0 - 1.5 * u + 0.4 * v - 0.03 * u * v + 0.01 * v**3


@pytest.mark.parametrize("shift_deg", [0.0, 166.5])
def test_between_the_points_of_smooth_ground(shift_deg):
    """Also across the antimeridian."""
    line, sample = np.meshgrid(np.linspace(0, 16000, 57), np.linspace(0, 25000, 43), indexing="ij")
    seen = tie_point_coordinates(fit_tie_points(made_up(shift_deg)), *place(line, sample, shift_deg))
    np.testing.assert_allclose(seen.line, line, rtol=0, atol=0.02)
    np.testing.assert_allclose(seen.sample, sample, rtol=0, atol=0.05)
    np.testing.assert_allclose(seen.incidence_deg, 30 + 16 * sample / 25000, atol=1e-3)


@pytest.mark.parametrize("hills_m", [0.0, 800.0])
def test_every_tie_point_shows_where_it_says(hills_m):
    points = made_up(hills_m=hills_m)
    seen = tie_point_coordinates(fit_tie_points(points), points.lon, points.lat)
    np.testing.assert_allclose(seen.line, points.line, rtol=0, atol=1e-3)
    np.testing.assert_allclose(seen.sample, points.sample, rtol=0, atol=1e-3)
    np.testing.assert_allclose(seen.height_m, points.height_m, rtol=0, atol=0.1)


def test_the_order_of_the_points_does_not_matter():
    points = made_up(hills_m=300.0)
    order = np.random.default_rng(1).permutation(points.line.size)
    fields = ("line", "sample", "lon", "lat", "height_m", "incidence_deg")
    mixed = replace(points, **{field: getattr(points, field)[order] for field in fields})
    here, there = (tie_point_coordinates(fit_tie_points(each), 12.9, 41.4) for each in (points, mixed))
    assert there.sample == pytest.approx(here.sample, abs=1e-6)
    assert there.line == pytest.approx(here.line, abs=1e-6)


def test_far_outside_there_is_no_answer():
    seen = tie_point_coordinates(
        fit_tie_points(made_up()), np.array([12.9, 22.0, np.nan]), np.array([41.4, 41.4, 41.4])
    )
    np.testing.assert_array_equal(np.isnan(seen.sample), [False, True, True])
    np.testing.assert_array_equal(np.isnan(seen.line), [False, True, True])
    np.testing.assert_array_equal(np.isnan(seen.height_m), [False, True, True])


def test_relief_error_is_what_a_wrong_height_does():
    """Compared with how far a point moves in the exact geometry when it is raised by 100 m."""
    scene = circular.geometry()
    point_m = circular.seen_at(10.0, 8.6e5, 0.6)
    up = point_m / np.linalg.norm(point_m)
    seen = image_coordinates(scene, np.stack((point_m, point_m + 100 * up)), Convention())
    slant_m = -np.diff(seen.slant_range_m)[0]
    expected_px = slant_m / np.sin(np.radians(seen.incidence_deg[0])) / 10
    found_px = relief_error_px(np.array([100.0, -100.0, np.nan]), seen.incidence_deg[:1], 10.0)
    np.testing.assert_allclose(found_px[:2], expected_px, rtol=5e-3)
    assert np.isnan(found_px[2])
    assert relief_error_px(np.float64(100.0), np.float64(35.0), 10.0) == pytest.approx(14.28, abs=0.01)


def test_the_annotations_grid_is_taken_as_it_is():
    scene = circular.geometry()
    points = annotated_tie_points(scene)
    np.testing.assert_array_equal(points.line, scene.grid.line)
    assert points.line.dtype == np.float64
    assert points.range_spacing_m == 10.0
    with pytest.raises(SourceError, match="2 x 2 tie points"):
        fit_tie_points(points)


def without(points, kept):
    fields = ("line", "sample", "lon", "lat", "height_m", "incidence_deg")
    return replace(points, **{field: getattr(points, field)[kept] for field in fields})


def test_points_no_model_can_be_made_of():
    points = made_up()
    with pytest.raises(SourceError, match=r"S1A_TEST: 209 tie points do not fill a grid of 10 x 21"):
        fit_tie_points(without(points, np.arange(209)))
    doubled = replace(points, sample=np.where(np.arange(210) == 3, points.sample[4], points.sample))
    with pytest.raises(SourceError, match="do not fill"):
        fit_tie_points(doubled)
    with pytest.raises(SourceError, match="not finite"):
        fit_tie_points(replace(points, lat=np.where(np.arange(210) == 3, np.nan, points.lat)))
    with pytest.raises(SourceError, match="3 x 21"):
        fit_tie_points(without(points, np.arange(63)))
