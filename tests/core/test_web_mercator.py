"""Positions of Web Mercator pixels on a UTM grid, and their resampling."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Transformer

from sar1m.core.utm import utm_epsg, utm_from_lonlat
from sar1m.core.web_mercator import (
    AVERAGE_FROM_PX,
    CIRCLE_M,
    extent_px,
    ground_resolution_m,
    picture_positions,
    resample_picture,
    zoom_for,
)
from sar1m.records import RasterGrid

PLACES = [(-9.1, 38.7), (0.01, 0.02), (15.6, 78.2), (-70.9, -53.2), (179.999, -16.6), (-179.999, 66.0), (5.9, 60.0)]


def grid_at(lon, lat, *, gsd_m=10.0, side=64):
    epsg = int(utm_epsg(lon, lat))
    x, y = utm_from_lonlat(lon, lat, epsg)
    left, top = round(float(x)) - side * gsd_m / 2, round(float(y)) + side * gsd_m / 2
    return RasterGrid(epsg=epsg, left_m=left, top_m=top, gsd_m=gsd_m, rows=side, cols=side)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("zoom", [0, 14, 22])
def test_positions_agree_with_proj(place, zoom):
    """To 0.01 px at 4 cm a pixel, which is 0.4 mm."""
    grid = grid_at(*place)
    rows, cols = picture_positions(grid, zoom, 256)
    x, y = np.meshgrid(
        grid.left_m + (np.arange(64) + 0.5) * grid.gsd_m, grid.top_m - (np.arange(64) + 0.5) * grid.gsd_m
    )
    mercator_x, mercator_y = Transformer.from_crs(grid.epsg, 3857, always_xy=True).transform(x, y)
    world_px = 256 * 2**zoom
    expected_cols = (mercator_x / CIRCLE_M + 0.5) * world_px - 0.5
    apart = np.mod(cols - expected_cols + world_px / 2, world_px) - world_px / 2  # columns run on over 180 degrees
    assert np.abs(apart).max() < 0.01
    assert np.abs(rows - ((0.5 - mercator_y / CIRCLE_M) * world_px - 0.5)).max() < 0.01


def test_columns_run_on_across_the_antimeridian():
    _, cols = picture_positions(grid_at(179.9999, -16.6), 14, 256)
    assert np.all(np.diff(cols, axis=1) > 0)
    assert cols.min() < 256 * 2**14 < cols.max()


@given(gsd=st.floats(0.3, 100.0), lat=st.floats(-84, 84), tile=st.sampled_from([256, 512]))
def test_the_zoom_is_the_coarsest_that_is_fine_enough(gsd, lat, tile):
    zoom = zoom_for(gsd, lat, tile, 22)
    if zoom < 22:
        assert ground_resolution_m(lat, zoom, tile) <= gsd * (1 + 1e-6)
    if zoom > 0:
        assert ground_resolution_m(lat, zoom - 1, tile) > gsd * (1 - 1e-6)


def test_known_zooms():
    assert zoom_for(10.0, 0.0, 256, 22) == 14  # 9.55 m at the equator
    assert zoom_for(10.0, 60.0, 256, 22) == 13
    assert zoom_for(10.0, 0.0, 512, 22) == 13
    assert zoom_for(10.0, 0.0, 256, 12) == 12


def ramp(side=40):
    """A plane, which every symmetric kernel reproduces."""
    rows, cols = np.mgrid[0:side, 0:side]
    return np.stack([rows * 2 + 10, cols * 2 + 20, rows + cols], axis=-1).astype(np.uint8)


def points(low, high, count=25):
    return np.random.default_rng(4).uniform(low, high, (2, count, count))


@pytest.mark.parametrize("width", [0.4, 1.0, AVERAGE_FROM_PX, 1.9, 3.3])
def test_a_plane_comes_back_at_every_point(width):
    rows, cols = points(5.0, 34.0)
    found = resample_picture(ramp(), np.ones((40, 40), np.bool_), rows, cols, width)
    expected = np.stack([rows * 2 + 10, cols * 2 + 20, rows + cols])
    # The mean over a box is that of a plane of steps: where the box cuts pixels it is off by a part of a step.
    assert np.abs(found - expected).max() < (1e-4 if width < AVERAGE_FROM_PX else 0.6)
    assert np.abs((found - expected).mean()) < 0.02


def test_the_mean_over_whole_pixels_is_their_mean():
    picture = np.random.default_rng(1).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    rows, cols = np.mgrid[1:15:2, 1:15:2] + 0.5  # between pixels 1 and 2, 3 and 4, ...
    found = resample_picture(picture, np.ones((16, 16), np.bool_), rows, cols, 2.0)
    expected = picture[1:15, 1:15].reshape(7, 2, 7, 2, 3).mean(axis=(1, 3)).transpose(2, 0, 1)
    assert np.allclose(found, expected, atol=1e-4)


def test_cubic_on_a_pixel_is_that_pixel_and_stays_in_range():
    picture = np.random.default_rng(2).choice([0, 255], (20, 20, 1)).astype(np.uint8)
    valid = np.ones((20, 20), np.bool_)
    rows, cols = np.mgrid[2:17, 2:17].astype(float)
    assert np.array_equal(resample_picture(picture, valid, rows, cols, 1.0)[0], picture[2:17, 2:17, 0])
    between = resample_picture(picture, valid, rows + 0.5, cols + 0.5, 1.0)
    assert between.min() == 0.0
    assert between.max() == 255.0


@pytest.mark.parametrize(("width", "reach"), [(1.0, 2), (2.0, 1)])
def test_nothing_is_made_up_beside_a_hole(width, reach):
    picture = np.full((30, 30, 3), 100, np.uint8)
    valid = np.ones((30, 30), np.bool_)
    valid[15, 15] = False
    rows, cols = np.mgrid[4:26, 4:26] + 0.25
    found = resample_picture(picture, valid, rows, cols, width)
    near = (np.abs(rows - 15) < reach) & (np.abs(cols - 15) < reach)
    assert np.isnan(found[0][near]).all()
    assert np.allclose(found[0][~near & (np.hypot(rows - 15, cols - 15) > 3)], 100.0)


@pytest.mark.parametrize("width", [1.0, 2.0])
def test_outside_the_picture_is_no_data(width):
    picture, valid = np.full((10, 10, 3), 50, np.uint8), np.ones((10, 10), np.bool_)
    rows, cols = np.array([[-5.0, 4.5, 14.0]]), np.array([[4.5, 4.5, 4.5]])
    found = resample_picture(picture, valid, rows, cols, width)
    assert np.isnan(found[:, 0, [0, 2]]).all()
    assert np.allclose(found[:, 0, 1], 50.0)


def test_the_extent_holds_what_resampling_touches():
    rows, cols = points(100.2, 130.7)
    first, last = extent_px(rows)
    side = last - first + 1
    picture, valid = np.full((side, side, 1), 9, np.uint8), np.ones((side, side), np.bool_)
    for width in (1.0, 2.0, 4.0):
        found = resample_picture(picture, valid, rows - first, cols - extent_px(cols)[0], width)
        assert np.isfinite(found).all()
