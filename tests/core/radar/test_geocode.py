from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from sar1m.core.radar.geocode import resample
from sar1m.core.radar.lattice import fit_lattice
from sar1m.core.radar.product import GEOLOCATION_GRID, Convention, ImageWindow
from support import orbit_scene

SIZE = 260
METHODS = ("bilinear", "nearest", "cubic")


@cache
def mapped(convention=None):
    """A block, its heights, lattice and window."""
    geometry = orbit_scene.scene()
    grid = orbit_scene.block_grid(geometry, 8000, 12000, SIZE, SIZE)
    row, col = np.mgrid[0:SIZE, 0:SIZE]
    height_m = 400.0 + 300 * np.sin(row / 31) * np.cos(col / 43)
    lattice = fit_lattice(geometry, grid, (100.0, 700.0), convention or Convention())
    return lattice, height_m, lattice.window()


def plain(line_of, sample_of, size=64):
    """A lattice whose pixel (row, col) shows at line a * row + b and sample c * col + d, at any height.

    line_of: (a, b). sample_of: (c, d).
    """
    lattice = fit_lattice(
        orbit_scene.scene(),
        orbit_scene.block_grid(orbit_scene.scene(), 8000, 12000, size, size),
        (0.0, 0.0),
        Convention(),
    )
    nodes = np.array([0.0, 64.0])
    line, sample = np.zeros((3, 2, 2)), np.zeros((1, 3, 2, 2))
    line[0] = (line_of[0] * nodes + line_of[1])[:, None]
    sample[0, 0] = (sample_of[0] * nodes + sample_of[1])[None, :]
    return replace(lattice, time_s=np.zeros((3, 2, 2)), line=line, sample=sample, break_s=np.empty(0), first_row=0)


def speckle(window, polarisations=2, seed=3):
    return np.random.default_rng(seed).gamma(4.4, 1 / 4.4, (polarisations, window.lines, window.samples)).astype("f4")


@pytest.mark.parametrize("convention", [Convention(), GEOLOCATION_GRID], ids=["plain", "grid"])
def test_bilinear_and_nearest_against_scipy(convention):
    lattice, height_m, window = mapped(convention)
    image = speckle(window)
    line, sample = orbit_scene.map_coordinates(lattice, height_m)
    at = np.stack((line - window.line, sample - window.sample))
    for method, order, wrong_allowed in (("bilinear", 1, 0), ("nearest", 0, 5)):
        found = resample(image, window, lattice, height_m, method)
        assert found.dtype == np.float32
        for p in range(2):
            wanted = map_coordinates(image[p].astype(np.float64), at, order=order)
            off = np.abs(found[p] - wanted) > 1e-5  # nearest: coordinates at one half may go either way
            assert np.count_nonzero(off) <= wrong_allowed


def test_cubic_follows_a_quadratic_surface_exactly():
    lattice, height_m, window = mapped()
    line, sample = np.mgrid[0 : window.lines, 0 : window.samples].astype(np.float64)
    image = (3 + 0.02 * line - 0.01 * sample + 1e-4 * line * sample + 2e-4 * sample**2)[None].astype(np.float32)
    line, sample = (
        a - b for a, b in zip(orbit_scene.map_coordinates(lattice, height_m), (window.line, window.sample), strict=True)
    )
    wanted = 3 + 0.02 * line - 0.01 * sample + 1e-4 * line * sample + 2e-4 * sample**2
    np.testing.assert_allclose(resample(image, window, lattice, height_m, "cubic")[0], wanted, rtol=2e-5)


@pytest.mark.parametrize("method", METHODS)
def test_nan_goes_where_a_pixel_of_weight_is_nan_and_nowhere_else(method):
    lattice, height_m, window = mapped()
    image = speckle(window)
    rng = np.random.default_rng(0)
    image[0][rng.random(image[0].shape) < 0.01] = np.nan
    line, sample = orbit_scene.map_coordinates(lattice, height_m)
    y, x = line - window.line, sample - window.sample
    bad = np.isnan(image[0])
    if method == "nearest":
        wanted = bad[np.floor(y + 0.5).astype(int), np.floor(x + 0.5).astype(int)]
    else:
        reach = (0, 1) if method == "bilinear" else (-1, 0, 1, 2)
        wanted = np.zeros(y.shape, dtype=bool)
        for down in reach:
            for right in reach:
                wanted |= bad[y.astype(int) + down, x.astype(int) + right]
    found = resample(image, window, lattice, height_m, method)
    assert 0 < wanted.mean() < 0.5
    assert np.count_nonzero(np.isnan(found[0]) != wanted) <= 3  # a coordinate within rounding of a pixel's middle
    assert not np.isnan(found[1]).any()


@pytest.mark.parametrize("method", METHODS)
def test_a_point_on_a_pixel_needs_no_neighbour(method):
    """A neighbour of weight 0 may be NaN or beyond the edge of the image."""
    lattice = plain((1.0, 0.0), (1.0, 0.0), size=9)
    image = np.full((1, 9, 9), np.nan, dtype=np.float32)
    image[0, ::2, ::2] = np.arange(25).reshape(5, 5)
    window = ImageWindow(line=0, sample=0, lines=9, samples=9)
    found = resample(image, window, lattice, np.zeros((9, 9)), method)
    np.testing.assert_array_equal(found, image)


@pytest.mark.parametrize(("method", "reach"), [("bilinear", 0.0), ("nearest", 0.5), ("cubic", -1.0)])
def test_outside_the_window_there_is_nothing(method, reach):
    lattice = plain((0.25, -2.125), (0.25, 3.0), size=60)
    image = np.ones((1, 8, 30), dtype=np.float32)
    found = resample(image, ImageWindow(line=0, sample=0, lines=8, samples=30), lattice, np.zeros((60, 60)), method)
    line = 0.25 * np.arange(60) - 2.125
    wanted = (line >= -reach) & (line < 7 + reach)
    assert np.array_equal(np.isfinite(found[0, :, 20]), wanted)
    np.testing.assert_allclose(found[0, wanted, 20], 1.0, rtol=1e-6)


def test_unknown_heights_and_empty_windows_give_nan():
    lattice, height_m, window = mapped()
    holed = height_m.copy()
    holed[7, 9:12] = np.nan
    found = resample(speckle(window), window, lattice, holed)
    assert np.array_equal(np.isnan(found), np.broadcast_to(np.isnan(holed), found.shape))
    nothing = ImageWindow(line=0, sample=0, lines=0, samples=0)
    empty = resample(np.empty((2, 0, 0), dtype=np.float32), nothing, lattice, height_m)
    assert empty.shape == (2, SIZE, SIZE)
    assert np.isnan(empty).all()


@pytest.mark.parametrize("method", METHODS)
def test_same_bytes_again_in_any_memory_order_and_by_polarisation(method):
    lattice, height_m, window = mapped()
    image = speckle(window)
    first = resample(image, window, lattice, height_m, method)
    turned = np.asfortranarray(image)
    assert resample(turned, window, lattice, np.asfortranarray(height_m), method).tobytes() == first.tobytes()
    assert resample(image[1:], window, lattice, height_m, method).tobytes() == first[1:].tobytes()


@pytest.mark.parametrize("method", METHODS)
def test_mean_power_is_kept(method):
    lattice, height_m, window = mapped()
    image = speckle(window)
    line, _ = orbit_scene.map_coordinates(lattice, height_m)
    seen = image[:, int(line.min()) - window.line : int(line.max()) - window.line]
    assert resample(image, window, lattice, height_m, method).mean() == pytest.approx(seen.mean(), rel=0.01)
