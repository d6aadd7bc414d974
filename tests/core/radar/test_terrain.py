from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from sar1m.core.radar.facets import lit_area
from sar1m.core.radar.geocode import resample
from sar1m.core.radar.lattice import fit_lattice, node_points
from sar1m.core.radar.orbit import positions_at
from sar1m.core.radar.product import GEOLOCATION_GRID, Convention, ImageWindow
from sar1m.core.radar.range_doppler import image_coordinates, zero_doppler
from sar1m.core.radar.shadow import layover_and_shadow
from sar1m.core.radar.sight import Sight, fit_sight
from sar1m.core.radar.terrain import flatten, margin_px
from support import orbit_scene

SIZE, MARGIN = 160, (30, 40)


@cache
def scene(descending=False, latitude_deg=45.0):
    return orbit_scene.scene(latitude_deg, descending)


@cache
def wide_grid(descending=False):
    grid = orbit_scene.block_grid(scene(descending), 8000, 12000, SIZE, SIZE)
    return grid.window(-MARGIN[0], -MARGIN[1], SIZE + 2 * MARGIN[0], SIZE + 2 * MARGIN[1])


def fitted(height_m, descending=False, convention=None):
    """Lattices of the wide map and of the map, and the window."""
    span_m = (float(np.nanmin(height_m)), float(np.nanmax(height_m)))
    wide = fit_lattice(scene(descending), wide_grid(descending), span_m, convention or Convention())
    inner = wide.crop(*MARGIN)
    return wide, inner, inner.window()


def on_map(height_m, factor, inner, window):
    inside = height_m[MARGIN[0] : -MARGIN[0], MARGIN[1] : -MARGIN[1]]
    return resample(factor[None], window, inner, inside)[0]


def plane(to_east, to_north):
    """Heights of a plane with given slopes (metres a metre), 400 m in the middle."""
    grid = wide_grid()
    row, col = np.mgrid[0 : grid.rows, 0 : grid.cols]
    return 400.0 + grid.gsd_m * (to_east * (col - grid.cols / 2) - to_north * (row - grid.rows / 2))


def decibels(ratio):
    return 10 * np.log10(ratio)


@pytest.mark.parametrize("convention", [Convention(), GEOLOCATION_GRID], ids=["plain", "grid"])
@pytest.mark.parametrize("descending", [False, True])
def test_level_ground_gives_the_tangent_of_the_incidence(convention, descending):
    grid = wide_grid(descending)
    height_m = np.full((grid.rows, grid.cols), 700.0)
    wide, inner, window = fitted(height_m, descending, convention)
    terrain = flatten(wide, height_m, MARGIN, window)
    rows = np.arange(float(SIZE))
    seen = image_coordinates(scene(descending), node_points(inner.grid, rows, rows, np.array([700.0])), convention)
    tangent = np.tan(np.radians(seen.incidence_deg[0]))
    found_db = decibels(on_map(height_m, terrain.area_factor, inner, window) / tangent)
    assert abs(np.mean(found_db)) < 0.003
    assert np.std(found_db) < (0.01 if convention == Convention() else 0.03)  # there a record ends, with a jump
    assert not terrain.layover.any()
    assert not terrain.shadow.any()
    np.testing.assert_allclose(terrain.incidence_deg, seen.incidence_deg[0], rtol=0, atol=0.002)


def closed_form(slope, at_row, at_col):
    """Area factor of a plane from its points in space and the orbit, and the local incidence in degrees.

    The factor is cos(normal, normal of the slant plane) / cos(normal, line of sight) (Ulander 1996).
    """
    grid = wide_grid()
    height_m = plane(*slope)
    steps = [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0)]
    here, right, below = (
        node_points(
            grid,
            np.array([at_row + down]),
            np.array([at_col + over]),
            np.array([height_m[at_row, at_col] + 10 * (slope[0] * over - slope[1] * down)]),
        )[0, 0, 0]
        for down, over in steps
    )
    normal = np.cross(below - here, right - here)
    normal /= np.linalg.norm(normal)
    time_s, range_m = zero_doppler(scene().orbit, here[None], 10.0)
    state = positions_at(scene().orbit, time_s)
    sight = (state.position_m[0] - here) / range_m[0]
    along = state.velocity_m_s[0] / np.linalg.norm(state.velocity_m_s[0])
    slant_normal = np.cross(sight, along)
    cosine = normal @ sight
    return abs(normal @ slant_normal) / cosine, np.degrees(np.arccos(cosine))


TILTS = [(angle, direction) for angle in (10, 20, 30) for direction in ("towards", "away", "along", "back")]


@pytest.mark.parametrize(("angle_deg", "direction"), TILTS)
def test_tilted_planes_give_the_closed_form(angle_deg, direction):
    down, right = fit_sight(fitted(plane(0, 0))[0]).away
    uphill = {"towards": (right, -down), "away": (-right, down), "along": (down, right), "back": (-down, -right)}
    slope = tuple(np.tan(np.radians(angle_deg)) * part for part in uphill[direction])
    height_m = plane(*slope)
    wide, inner, window = fitted(height_m)
    terrain = flatten(wide, height_m, MARGIN, window)
    found = on_map(height_m, terrain.area_factor, inner, window)[60:100, 60:100]
    wanted, incidence_deg = closed_form(slope, MARGIN[0] + 80, MARGIN[1] + 80)
    assert abs(decibels(np.mean(found) / wanted)) < 0.01
    assert np.std(decibels(found / wanted)) < 0.08
    assert terrain.incidence_deg[80, 80] == pytest.approx(incidence_deg, abs=0.01)
    assert not terrain.layover.any()
    assert not terrain.shadow.any()


def relief(seed=0, width_px=9, relief_m=500.0):
    grid = wide_grid()
    height_m = gaussian_filter(np.random.default_rng(seed).normal(size=(grid.rows, grid.cols)), width_px)
    return 300 + relief_m * (height_m - height_m.min()) / np.ptp(height_m)


def test_slant_area_is_that_of_the_images_own_spacings():
    wide = fitted(plane(0, 0))[0]
    sight = fit_sight(wide)
    grid, step = wide.grid, 20.0
    points_m = node_points(grid, np.array([0.0, step]), np.array([0.0, step]), np.array([wide.mid_height_m]))[0]
    seen = image_coordinates(wide.geometry, points_m, wide.convention)
    turn = np.array([[f[0, 1] - f[0, 0], f[1, 0] - f[0, 0]] for f in (seen.line, seen.sample)])
    over_m, down_m = points_m[0, 1] - points_m[0, 0], points_m[1, 0] - points_m[0, 0]
    a_line, a_sample = (over * over_m + down * down_m for over, down in np.linalg.inv(turn).T)
    state = positions_at(wide.geometry.orbit, seen.azimuth_time_s[0, 0])
    slant_normal = np.cross(state.position_m - points_m[0, 0], state.velocity_m_s)
    slant_normal /= np.linalg.norm(slant_normal)
    assert sight.slant_area_m2[0, 0] == pytest.approx(abs(np.cross(a_line, a_sample) @ slant_normal), rel=3e-4)
    assert 9.5 < np.linalg.norm(a_line) < 10.5


def test_no_area_is_lost():
    height_m = relief(width_px=4)
    wide, _, _ = fitted(height_m)
    sight = fit_sight(wide)
    around = wide.window(0)
    window = ImageWindow(
        line=around.line - 20, sample=around.sample - 20, lines=around.lines + 40, samples=around.samples + 40
    )
    found = lit_area(wide, height_m.astype(np.float32), sight, np.zeros(height_m.shape, dtype=bool), window)
    over = (np.diff(height_m, axis=1)[1:] + np.diff(height_m, axis=1)[:-1]) / 2
    down = (np.diff(height_m, axis=0)[:, 1:] + np.diff(height_m, axis=0)[:, :-1]) / 2
    flat, per_col, per_row = (field[0].mean() for field in (sight.flat, sight.per_col, sight.per_row))
    wanted = np.sum(np.maximum(flat + per_col * over + per_row * down, 0))
    assert np.sum(found, dtype=np.float64) == pytest.approx(wanted, rel=2e-3)
    part = replace(window, line=window.line + 70, lines=90, sample=window.sample + 60, samples=100)
    cut = lit_area(wide, height_m.astype(np.float32), sight, np.zeros(height_m.shape, dtype=bool), part)
    np.testing.assert_allclose(cut[1:-1, 1:-1], found[71:159, 61:159], rtol=1e-3, atol=1e-3)


def hand_sight(away):
    """A flat world seen at 40 degrees."""
    one = np.ones((2, 2, 2))
    return Sight(
        flat=one,
        per_col=one,
        per_row=one,
        slant_area_m2=one[0],
        pitch_m=10.0,
        tan_incidence=np.full((2, 2), np.tan(np.radians(40.0))),
        away=away,
    )


@pytest.mark.parametrize("away", [(0.0, 1.0), (0.0, -1.0), (1.0, 0.0), (-1.0, 0.0)])
def test_shadow_and_layover_of_a_wall_by_hand(away):
    """A wall 200 m high at 50 px: its shadow is 200 tan(40) = 167.8 m long, and its top falls in range onto the ground
    200 / tan(40) = 238.4 m before it."""
    profile = np.zeros(120)
    profile[50] = 200.0
    dark, folded = np.zeros(120, dtype=bool), np.zeros(120, dtype=bool)
    dark[51:67] = True
    folded[27:51] = True
    if sum(away) < 0:
        profile, dark, folded = profile[::-1], dark[::-1], folded[::-1]

    def laid_out(values):
        return np.tile(values, (40, 1)) if away[1] else np.tile(values, (40, 1)).T

    layover, shadow = layover_and_shadow(np.ascontiguousarray(laid_out(profile), dtype=np.float32), hand_sight(away))
    inside = (slice(1, -1), slice(1, -1))
    np.testing.assert_array_equal(shadow[inside], laid_out(dark)[inside])
    np.testing.assert_array_equal(layover[inside], laid_out(folded)[inside])


@pytest.mark.parametrize("away", [(0.6, 0.8), (-0.2, 0.98), (0.2, -0.98), (-0.8, -0.6)])
def test_shadow_and_layover_of_a_slanting_ridge(away):
    away = tuple(np.array(away) / np.hypot(*away))
    row, col = np.mgrid[0:200, 0:200] - 100.0
    beyond_px = away[0] * row + away[1] * col
    height_m = np.maximum(200.0 - 20.0 * np.abs(beyond_px), 0.0).astype(np.float32)
    layover, shadow = layover_and_shadow(height_m, hand_sight(away))
    inside = (np.abs(row) < 60) & (np.abs(col) < 60)
    tangent = np.tan(np.radians(40.0))
    dark = (beyond_px > 0) & (beyond_px < 20 * tangent)
    behind = (20 / tangent - 10) / (1 + 2 / tangent)  # there the far slope falls in range onto the ridge's foot
    folded = (beyond_px > -20 / tangent) & (beyond_px < behind)
    for found, wanted, ends in ((shadow, dark, (0, 20 * tangent)), (layover, folded, (-20 / tangent, behind))):
        sure = inside & np.all([np.abs(beyond_px - end) > 1.6 for end in ends], axis=0)
        np.testing.assert_array_equal(found[sure], wanted[sure])


def test_shadow_ground_gives_no_area_and_no_backscatter():
    """Behind a ridge the image holds noise only, since nothing is lit."""
    grid = wide_grid()
    down, right = fit_sight(fitted(plane(0, 0))[0]).away
    row, col = np.mgrid[0 : grid.rows, 0 : grid.cols]
    beyond_px = down * (row - grid.rows / 2) + right * (col - grid.cols / 2)
    height_m = np.maximum(300.0 - 30.0 * np.abs(beyond_px), 0.0)
    wide, inner, window = fitted(height_m)
    terrain = flatten(wide, height_m, MARGIN, window)
    found = on_map(height_m, terrain.area_factor, inner, window)
    inside = beyond_px[MARGIN[0] : -MARGIN[0], MARGIN[1] : -MARGIN[1]]
    tangent = np.tan(np.radians(terrain.incidence_deg[5, 5]))
    deep = (inside > 12) & (inside < 30 * tangent - 3)
    assert np.isnan(found[deep]).all()
    assert terrain.shadow[deep].all()
    before = (inside > -30 / tangent + 3) & (inside < -12)
    assert terrain.layover[before].all()
    assert np.all(found[before & np.isfinite(found)] < 0.9 * tangent)
    far = np.abs(inside) > 55
    assert np.all(np.abs(decibels(found[far] / tangent)) < 0.1)
    assert np.all(terrain.incidence_deg[(inside > 3) & (inside < 7)] > 90)


def test_grazing_slopes_are_masked():
    """A slope of 50.5 degrees away from a radar at 38.4 degrees is lit at 89 degrees: under 5 % of level ground."""
    down, right = fit_sight(fitted(plane(0, 0))[0]).away
    height_m = plane(*(-np.tan(np.radians(50.5)) * part for part in (right, -down)))
    wide, inner, window = fitted(height_m)
    terrain = flatten(wide, height_m, MARGIN, window)
    assert not terrain.shadow.any()
    assert np.isnan(on_map(height_m, terrain.area_factor, inner, window)[40:-40, 40:-40]).all()


def test_holes_stay_holes_and_hide_what_they_may_have_held():
    height_m = relief()
    full = height_m.copy()
    height_m[90:110, 100:125] = np.nan
    full[90:110, 100:125] = (
        np.linspace(0, 1, 25) * (full[90:110, 125:126] - full[90:110, 99:100]) + full[90:110, 99:100]
    )
    wide, inner, window = fitted(full)
    holed, whole = (flatten(wide, heights, MARGIN, window) for heights in (height_m, full))
    missing = np.isnan(holed.area_factor) & np.isfinite(whole.area_factor)
    assert 20 * 25 * 0.7 < np.count_nonzero(missing) < 20 * 25 * 4
    known = np.isfinite(holed.area_factor)
    np.testing.assert_array_equal(holed.area_factor[known], whole.area_factor[known])
    seen = on_map(full, holed.area_factor, inner, window)
    assert np.isnan(seen[60:80, 60:85]).all()
    assert np.isnan(on_map(height_m, whole.area_factor, inner, window)[60:80, 60:85]).all()
    assert np.isnan(holed.incidence_deg[60:80, 60:85]).all()
    assert np.isfinite(holed.incidence_deg[:59]).all()
    assert not holed.layover[60:80, 60:85].any()


def test_a_hole_at_the_edge_hides_all_heights_could_reach():
    height_m = relief()
    height_m[100:104, :60] = np.nan
    wide, _, window = fitted(height_m)
    lost = np.isnan(flatten(wide, height_m, MARGIN, window).area_factor)
    reach_px = 500 / np.tan(np.radians(38.4)) / 10
    assert lost.sum(axis=1).max() > reach_px


def test_margin_grows_with_relief_along_the_line_of_sight():
    lattice = fitted(plane(0, 0))[1]
    rows, cols = margin_px(lattice, 2000.0)
    assert cols == pytest.approx(4 + 0.983 * 200 / np.tan(np.radians(38.4)), abs=3)
    assert rows == pytest.approx(4 + 0.185 * 200 / np.tan(np.radians(38.4)), abs=3)
    assert margin_px(lattice, 0.0) == (4, 4)


@pytest.mark.parametrize(("relief_m", "complete"), [(100.0, True), (900.0, False)])
def test_a_margin_too_narrow_for_the_relief_is_told(relief_m, complete):
    height_m = relief(relief_m=relief_m)
    wide, _, window = fitted(height_m)
    assert flatten(wide, height_m, MARGIN, window).complete is complete


def test_same_bytes_again():
    height_m = relief(width_px=3, relief_m=900.0)
    wide, _, window = fitted(height_m)
    first, second = (flatten(wide, height_m, MARGIN, window) for _ in range(2))
    assert first.layover.any()
    for name in ("area_factor", "layover", "shadow", "incidence_deg"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes()
