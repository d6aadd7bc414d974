"""Cover against shapely."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from sar1m.config import GridConfig
from sar1m.core.cover import block_shapes, cover_fractions
from sar1m.core.grid import block_grids, cells_at, make_cells
from sar1m.core.utm import lonlat_from_utm


def grids_at(lon, lat):
    return block_grids(make_cells(*cells_at(lon, lat)), GridConfig())


def outline(grid, near_lon):
    left, bottom, right, top = grid.bounds_m
    lon, lat = lonlat_from_utm([left, right, right, left], [bottom, bottom, top, top], grid.epsg)
    return shapely.Polygon(np.column_stack([near_lon + np.mod(lon - near_lon + 180, 360) - 180, lat]))


def closed(points):
    return (*points, points[0])


offsets = st.tuples(st.floats(-0.3, 0.3), st.floats(-0.3, 0.3))


@given(
    lon=st.floats(-179.9, 179.9),
    lat=st.floats(-70, 75),
    points=st.lists(offsets, min_size=3, max_size=7),
    turns=st.integers(-1, 1),
    clockwise=st.booleans(),
)
def test_cover_is_the_area_that_shapely_finds(lon, lat, points, turns, clockwise):
    """Any simple ring (sorted around its middle: not always convex), either way round, a whole turn away."""
    grid = grids_at([lon], [lat])[0]
    block = outline(grid, lon)
    middle = np.mean(points, axis=0)
    points = sorted(points, key=lambda p: np.arctan2(p[1] - middle[1], p[0] - middle[0]), reverse=clockwise)
    x, y = block.centroid.x, block.centroid.y
    ring = [(x + dx / np.cos(np.radians(lat)), y + dy) for dx, dy in points]
    polygon = shapely.Polygon(ring)
    if not polygon.is_valid:
        return
    expected = block.intersection(polygon).area / block.area
    moved = closed([(a + 360.0 * turns, b) for a, b in ring])
    found = cover_fractions(block_shapes([grid], lon), [moved])
    assert found.shape == (1, 1)
    assert found[0, 0] == pytest.approx(expected, abs=0.004)  # the block is a trapezium to shapely


def test_cover_of_rings_of_several_lengths_keeps_their_order():
    grid = grids_at([10.0], [0.5])[0]
    block = outline(grid, 10.0)
    west, south, east, north = block.bounds
    middle = (west + east) / 2
    whole = closed([(west - 1, south - 1), (east + 1, south - 1), (east + 1, north + 1), (west - 1, north + 1)])
    half = closed(
        [(middle, south - 1), (east + 1, south - 1), (east + 2, 0.5), (east + 1, north + 1), (middle, north + 1)]
    )
    away = closed([(50, 0), (51, 0), (51, 1)])
    found = cover_fractions(block_shapes([grid], 10.0), [away, whole, half, whole])
    assert found[0] == pytest.approx([0, 1, 0.5, 1], abs=2e-3)
    assert found[0, 1] == pytest.approx(1, abs=1e-6)


def test_cover_across_the_antimeridian():
    """Blocks on both sides of 180 degrees under one footprint that runs on."""
    grids = grids_at([179.9, -179.8], [-17.0, -17.0])
    ring = closed([(179, -18), (181, -18), (181, -16), (179, -16)])
    other = closed([(-181, -18), (-179, -18), (-179, -16), (-181, -16)])
    assert cover_fractions(block_shapes(grids, 179.9), [ring, other]) == pytest.approx(np.ones((2, 2)), abs=1e-6)


def test_no_blocks_or_no_rings():
    shapes = block_shapes(grids_at([10.0], [0.5]), 10.0)
    assert cover_fractions(shapes, []).shape == (1, 0)
