"""Where blocks stand on rasters that are turned, flipped or in any turn of longitudes."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from rasterio.transform import Affine

from sar1m.config import BuildConfig, GridConfig
from sar1m.core.sphere import near_to
from sar1m.core.utm import lonlat_from_utm
from sar1m.sources.folder.source import FolderSource
from sar1m.sources.placement import upright_inside
from support.folders import SAR_ROW, read_all, write_table
from support.geotiffs import utm_grid, write_tiff


def square(turned_deg: float, side: float = 100.0) -> np.ndarray:
    """(4, 33, 2) points along the edges of a square about (1000, 2000), turned against the axes."""
    along = np.linspace(-0.5, 0.5, 33)
    half = np.full(33, 0.5)
    edges = np.stack([(along, half), (half, -along), (-along, -half), (-half, along)]).transpose(0, 2, 1) * side
    cos, sin = np.cos(np.radians(turned_deg)), np.sin(np.radians(turned_deg))
    return edges @ np.array([[cos, sin], [-sin, cos]]) + [1000.0, 2000.0]


@pytest.mark.parametrize("turned_deg", [0, 90, 180, 270, 3, 20, 45, 70, 135])
def test_the_upright_rectangle_in_a_turned_square_is_the_largest_square_in_it(turned_deg):
    """An upright square in a square turned by t has the side 1 / (|sin t| + |cos t|)."""
    edges = square(turned_deg)
    (left, bottom, right, top), share = upright_inside(edges)
    t = np.radians(turned_deg)
    expected = 1 / (abs(np.sin(t)) + abs(np.cos(t))) ** 2
    assert shapely.Polygon(edges.reshape(-1, 2)).buffer(1e-6).contains(shapely.box(left, bottom, right, top))
    assert share == pytest.approx((right - left) * (top - bottom) / 100**2, rel=1e-6)
    assert share >= 0.99 * min(expected, 1 - 2 * abs(np.sin(2 * t)) if expected > 0.9 else 1)
    assert share <= expected + 1e-9


@pytest.mark.parametrize("layout", ["auto", "chips"])
@pytest.mark.parametrize(
    ("crs", "left", "top"),
    [
        ("EPSG:3413", 766_145.0, -739_343.0),  # 80 N, 1 E: turned by 45 degrees against zone 31
        ("EPSG:3031", 1_500_000.0, 1_800_000.0),  # Antarctica, 40 E: turned by 40 degrees
    ],
)
def test_a_large_scene_turned_against_utm_is_cut_by_cells_as_a_chip_too(tmp_path, crs, left, top, layout):
    write_tiff(
        tmp_path / "vv.tif", np.full((300, 300), 0.1, np.float32), crs=crs, transform=Affine(100, 0, left, 0, -100, top)
    )
    write_table(tmp_path, [SAR_ROW])
    config = BuildConfig(grid=GridConfig(layout=layout, patch_px=32, patches_per_side=1, halo_px=0, gsd_m=100.0))
    found = read_all(FolderSource(tmp_path), config)
    inside = [pixels.sar for _, pixels in found if np.isfinite(pixels.sar).all()]
    assert len({candidate.cell for candidate, _ in found}) == len(found) >= 9  # 30 km of cells of 10 km
    assert len(inside) >= 4
    np.testing.assert_allclose(inside, 0.1, rtol=1e-4)


def test_a_small_chip_turned_against_utm_gives_the_rectangle_inside(tmp_path):
    turned = Affine.translation(500_000, 5_000_000) @ Affine.rotation(45) @ Affine.scale(10, -10)
    write_tiff(tmp_path / "vv.tif", np.full((200, 200), 0.1, np.float32), crs="EPSG:32633", transform=turned)
    write_table(tmp_path, [SAR_ROW])
    config = BuildConfig(grid=GridConfig(layout="chips", patch_px=32, halo_px=0))
    ((candidate, pixels),) = read_all(FolderSource(tmp_path), config)
    assert (candidate.grid.rows, candidate.grid.cols) == (128, 128)  # whole patches in 200 / sqrt(2) = 141 px
    np.testing.assert_allclose(pixels.sar, 0.1, rtol=1e-4)


@pytest.mark.parametrize("flip", [(1, -1), (-1, 1), (-1, -1)])
def test_a_raster_stored_upside_down_gives_the_pixels_of_one_that_is_not(tmp_path, flip):
    across, down = flip
    grid = utm_grid(96, 96)
    power = np.random.default_rng(3).uniform(0.05, 0.2, (96, 96)).astype(np.float32)
    config = BuildConfig(grid=GridConfig(layout="chips", patch_px=64, halo_px=8))
    taken = []
    for name, values, transform in (
        ("north", power, Affine(*grid.transform)),
        (
            "flipped",
            power[::down, ::across],
            Affine(10 * across, 0, 500_000 + 960 * (across < 0), 0, -10 * down, 5_000_000 - 960 * (down < 0)),
        ),
    ):
        (tmp_path / name).mkdir()
        write_tiff(tmp_path / name / "vv.tif", values, crs="EPSG:32633", transform=transform)
        write_table(tmp_path / name, [SAR_ROW])
        ((candidate, pixels),) = read_all(FolderSource(tmp_path / name), config)
        taken.append((candidate.grid, pixels.sar))
    assert taken[0][0] == taken[1][0]
    np.testing.assert_allclose(taken[0][1], taken[1][1], rtol=1e-5)


@pytest.mark.parametrize("west", [189.99, -170.01, 179.99, -180.01, 359.99])
def test_a_chip_in_degrees_of_any_turn_is_whole(tmp_path, west):
    write_tiff(
        tmp_path / "vv.tif",
        np.full((220, 220), 0.1, np.float32),
        crs="EPSG:4326",
        transform=Affine(9e-5, 0, west, 0, -9e-5, 10),
    )
    write_table(tmp_path, [SAR_ROW])
    config = BuildConfig(grid=GridConfig(layout="chips", patch_px=64, halo_px=8))
    ((candidate, pixels),) = read_all(FolderSource(tmp_path), config)
    grid = candidate.grid
    lon, _ = lonlat_from_utm(grid.left_m, grid.top_m, grid.epsg)
    assert 0 <= near_to(lon, west) - west < 0.02
    np.testing.assert_allclose(pixels.sar, 0.1, rtol=1e-4)
