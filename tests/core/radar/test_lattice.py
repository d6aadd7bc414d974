from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from sar1m.core.radar.lattice import WORST_PX, fit_lattice, node_points
from sar1m.core.radar.product import GEOLOCATION_GRID, Convention
from sar1m.core.radar.range_doppler import image_coordinates
from sar1m.core.utm import utm_from_lonlat
from sar1m.io.safe.product import read_product
from sar1m.records import RasterGrid
from sar1m.store.errors import SourceError
from support import orbit_scene
from support.paths import SHARED

PRODUCTS = SHARED / "data/s1_safe_annotations"
GOLDEN = SHARED / "golden/rome_geometry.npz"
RELIEF_M = (-50.0, 1950.0)

both_conventions = pytest.mark.parametrize("convention", [Convention(), GEOLOCATION_GRID], ids=["plain", "grid"])


@cache
def scene(descending=False):
    return orbit_scene.scene(45.0, descending)


def block(size=1056, line=8000, sample=12000):
    return orbit_scene.block_grid(scene(), line, sample, size, size)


def errors_px(lattice, points=3000):
    """Difference in line and in sample from the exact solution, at random pixels and heights."""
    grid = lattice.grid
    height_m = np.random.default_rng(1).uniform(*RELIEF_M, (grid.rows, grid.cols)).astype(np.float32)
    line, sample = orbit_scene.map_coordinates(lattice, height_m)
    row, col = np.random.default_rng(2).integers(0, (grid.rows, grid.cols), (points, 2)).T
    seen = np.concatenate(
        [node_points(grid, row[[n]], col[[n]], height_m[row[[n]], col[[n]]])[0, 0] for n in range(points)]
    )
    exact = image_coordinates(lattice.geometry, seen.astype(np.float64), lattice.convention)
    return np.abs(line[row, col] - exact.line), np.abs(sample[row, col] - exact.sample)


@both_conventions
@pytest.mark.parametrize("descending", [False, True])
def test_within_a_hundredth_of_a_pixel_over_2000_m_of_relief(convention, descending):
    geometry = scene(descending)
    grid = orbit_scene.block_grid(geometry, 8000, 12000, 1056, 1056)
    lattice = fit_lattice(geometry, grid, RELIEF_M, convention)
    assert lattice.break_s.size > 0, "the block should hold the end of a slant-to-ground record"
    line_px, sample_px = errors_px(lattice)
    assert lattice.error_px < 0.01
    assert line_px.max() < 0.01
    assert sample_px.max() < 0.01


@both_conventions
def test_records_of_the_polynomials_matter_here(convention):
    """The kinks at the ends of stretches are larger than the error allowed: without stretches the test above fails."""
    lattice = fit_lattice(scene(), block(), RELIEF_M, convention)
    one = replace(lattice, break_s=lattice.break_s[:0], sample=lattice.sample[:1])
    assert errors_px(one)[1].max() > WORST_PX


def test_spacing_is_halved_until_the_error_holds():
    lattice = fit_lattice(scene(), block(2300), RELIEF_M, Convention(), spacing_px=2048)
    assert lattice.spacing_px < 2048
    assert lattice.error_px <= WORST_PX
    assert max(error.max() for error in errors_px(lattice, 500)) <= WORST_PX


def test_a_geometry_no_lattice_follows_is_an_error():
    geometry = replace(scene(), line_interval_s=1e-9, lines=30_000_000_000)
    with pytest.raises(SourceError, match=r"synthetic: interpolation between nodes 4 px apart errs by"):
        fit_lattice(geometry, block(64), RELIEF_M, Convention())


@pytest.mark.parametrize("heights_m", [(np.nan, 3.0), (5.0, 3.0), (0.0, np.inf)])
def test_unknown_heights_are_refused(heights_m):
    with pytest.raises(SourceError, match="needs a finite range of heights"):
        fit_lattice(scene(), block(64), heights_m, Convention())


def test_window_holds_all_coordinates_and_is_clipped_to_the_image():
    lattice = fit_lattice(scene(), block(300), RELIEF_M, Convention())
    window = lattice.window(margin_px=2)
    for height_m in RELIEF_M:
        line, sample = orbit_scene.map_coordinates(lattice, np.full((300, 300), height_m))
        assert line.min() >= window.line + 1.9
        assert line.max() <= window.line + window.lines - 2.9
        assert sample.min() >= window.sample + 1.9
        assert sample.max() <= window.sample + window.samples - 2.9
    edge = fit_lattice(scene(), block(300, line=150, sample=30), RELIEF_M, Convention()).window()
    assert (edge.line, edge.sample) == (0, 0)
    assert 0 < edge.lines < 330


@pytest.mark.parametrize("shift_m", [(0.0, 600e3), (-300e3, 0.0), (-1500e3, 0.0)], ids=["before", "near", "left"])
def test_a_block_beside_the_image_needs_nothing_of_it(shift_m):
    grid = block(200)
    moved = replace(grid, left_m=grid.left_m + shift_m[0], top_m=grid.top_m - shift_m[1])
    window = fit_lattice(scene(), moved, RELIEF_M, Convention()).window()
    assert (window.lines, window.samples) == (0, 0)


def test_a_cropped_lattice_gives_the_same_bytes():
    lattice = fit_lattice(scene(), block(300), RELIEF_M, Convention())
    height_m = np.random.default_rng(0).uniform(*RELIEF_M, (300, 300)).astype(np.float32)
    origin = lattice.window()
    whole = lattice.coordinates(np.arange(300.0), height_m, origin)
    inner = lattice.crop(70, 20).coordinates(np.arange(160.0), height_m[70:-70, 20:-20].copy(), origin)
    for found, wanted in zip(inner, whole, strict=True):
        np.testing.assert_allclose(found, wanted[70:-70, 20:-20], rtol=0, atol=3e-4)
    again = lattice.coordinates(np.arange(300.0), height_m, origin)
    assert [part.tobytes() for part in again] == [part.tobytes() for part in whole]


def test_an_unknown_height_has_no_coordinates():
    lattice = fit_lattice(scene(), block(100), RELIEF_M, Convention())
    height_m = np.zeros((100, 100))
    height_m[3, 5] = np.nan
    line, sample = orbit_scene.map_coordinates(lattice, height_m)
    assert np.array_equal(np.isnan(line), np.isnan(height_m))
    assert np.array_equal(np.isnan(sample), np.isnan(height_m))


@pytest.mark.skipif(not PRODUCTS.is_dir() or not GOLDEN.is_file(), reason="shared/data and shared/golden are not there")
@pytest.mark.parametrize(
    ("convention", "line_name", "sample_name"),
    [(Convention(), "grd_line", "grd_pixel"), (GEOLOCATION_GRID, "grd_line_bistatic", "grd_pixel_nearest")],
    ids=["plain", "grid"],
)
def test_golden_coordinates_of_rome(convention, line_name, sample_name):
    with np.load(GOLDEN) as golden:
        names = ("lon", "lat", "height", "azimuth_time_s", line_name, sample_name)
        wanted = {name: golden[name][::4, ::4].ravel() for name in names}
    (path,) = (PRODUCTS / "rome/data").glob("*.SAFE")
    x_m, y_m = utm_from_lonlat(wanted["lon"], wanted["lat"], 32633)
    left_m, top_m = np.floor(x_m.min() / 10) * 10 - 20, np.ceil(y_m.max() / 10) * 10 + 20
    size = int(max(np.ptp(x_m), np.ptp(y_m)) / 10) + 5
    grid = RasterGrid(epsg=32633, left_m=left_m, top_m=top_m, gsd_m=10.0, rows=size, cols=size)
    lattice = fit_lattice(read_product(path).geometry, grid, (0.0, 2000.0), convention)
    late_s = np.abs(wanted["azimuth_time_s"][:, None] - lattice.break_s).min(axis=1, initial=np.inf)
    of_one_record = late_s > 2e-3  # else the four pixels around may follow two records, which jump by a pixel
    assert np.count_nonzero(of_one_record) > 0.95 * x_m.size
    for n in np.flatnonzero(of_one_record):
        row, col = (top_m - y_m[n]) / 10 - 0.5, (x_m[n] - left_m) / 10 - 0.5
        i, j = int(row), int(col)
        cell = replace(lattice, grid=grid.window(i, j, 2, 2), first_row=i, first_col=j)
        weight = np.outer([1 - (row - i), row - i], [1 - (col - j), col - j])
        line, sample = orbit_scene.map_coordinates(cell, np.full((2, 2), wanted["height"][n]))
        assert np.sum(weight * line) == pytest.approx(wanted[line_name][n], abs=0.02)
        assert np.sum(weight * sample) == pytest.approx(wanted[sample_name][n], abs=0.02)
