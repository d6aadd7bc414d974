import math
import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from majortom_eg import MajorTomGrid
from pyproj import Transformer

from sar1m.config import GridConfig
from sar1m.core.grid import (
    FIRST_ROW,
    ROWS,
    block_grids,
    block_patches,
    bounds_lonlat,
    cell_names,
    cells_at,
    cells_in_box,
    cells_in_spans,
    centres_lonlat,
    columns_in_row,
    corners_lonlat,
    make_cells,
    parse_cell_name,
    row_latitude_deg,
    rows_between,
)
from sar1m.core.utm import utm_from_lonlat
from sar1m.records import RasterGrid
from sar1m.store.errors import RegionError, SourceError
from support.paths import SHARED

CHIPS = SHARED / "data/s1s2_rtc_pairs/S1RTC"
ALL_ROWS = np.arange(FIRST_ROW, FIRST_ROW + ROWS)

# Upper-left corners and systems of three published TerraMesh chips, as rasterio reads them from their files.
TERRAMESH = {
    "282D_485L_3_3": (32722, 790236.0403820039, 7198039.252334285),
    "38D_378R_2_3": (32736, 617301.8198784497, 9625098.22745184),
    "637U_59R_1_3": (32632, 549892.6970314482, 6344077.6142594535),
}

lons = st.floats(-180, 180, allow_nan=False)
lats = st.floats(-80, 84, allow_nan=False)


@st.composite
def cells(draw: st.DrawFn) -> tuple[int, int]:
    row = draw(st.integers(FIRST_ROW, FIRST_ROW + ROWS - 1))
    columns = int(columns_in_row(row))
    return row, draw(st.integers(-(columns // 2), columns - columns // 2 - 1))


def test_rows_and_columns_agree_with_majortom_eg() -> None:
    theirs = MajorTomGrid(d=10_000, overlap=False)
    assert theirs.row_count == ROWS
    latitudes = row_latitude_deg(ALL_ROWS)
    np.testing.assert_allclose(latitudes, [theirs.get_row_lat(i) for i in range(ROWS)], atol=1e-11)
    inner = ALL_ROWS[np.abs(latitudes) < 89]  # theirs keeps 70 columns beyond
    columns = [round(360 / theirs.get_lon_spacing(float(lat))) for lat in row_latitude_deg(inner)]
    np.testing.assert_array_equal(columns_in_row(inner), columns)


def test_numbers_of_columns_do_not_hang_on_rounding() -> None:
    circle = 2 * math.pi * 637.8137 * np.cos(np.radians(row_latitude_deg(ALL_ROWS[1:])))
    assert np.abs(circle - np.rint(circle)).min() > 1e-6  # seven digits above the error of a cosine
    assert int(columns_in_row(0)) == 4008
    assert int(columns_in_row(FIRST_ROW)) == 1


@given(cells())
def test_name_corner_and_cell_return_to_each_other(cell: tuple[int, int]) -> None:
    row, column = cell
    (name,) = cell_names([row], [column])
    assert parse_cell_name(name) == cell
    lon, lat = corners_lonlat(row, column)
    assert cells_at(lon, lat) == cell  # a cell owns its lower-left corner, rounding or not


@given(lons, lats)
def test_a_point_lies_inside_its_cell(lon: float, lat: float) -> None:
    row, column = cells_at(lon, lat)
    west, south = corners_lonlat(row, column)
    width = 360 / columns_in_row(row)
    assert south <= lat < row_latitude_deg(row + 1)
    eastward = (lon - west) % 360
    assert eastward < width + 1e-9 or eastward > 360 - 1e-9  # modulo rounds


@given(st.floats(-180, 180, exclude_max=True), st.floats(-180, 180, exclude_max=True), lats)
def test_columns_grow_with_longitude(a: float, b: float, lat: float) -> None:
    assume(a <= b)
    row, column = cells_at([a, b], lat)
    easternmost = columns_in_row(row[0]) - columns_in_row(row[0]) // 2 - 1
    assert column[0] <= column[1] or column[0] == easternmost  # it reaches across the antimeridian from -180


@given(lats, lats)
def test_rows_grow_with_latitude(a: float, b: float) -> None:
    rows, _ = cells_at(0.0, sorted([a, b]))
    assert rows[0] <= rows[1]


@pytest.mark.parametrize("row", [0, 1, -282, 637, 890, -891, FIRST_ROW, FIRST_ROW + ROWS - 1])
def test_a_rows_cells_are_disjoint_and_complete(row: int) -> None:
    south = float(row_latitude_deg(row))
    rows, columns = cells_in_box(-180, south, 180, south)
    assert set(rows.tolist()) == {row}
    count = int(columns_in_row(row))
    assert columns.tolist() == list(range(-(count // 2), count - count // 2))
    west, _ = corners_lonlat(rows, columns)
    np.testing.assert_allclose(np.diff(west), 360 / count, rtol=1e-9)
    assert west[0] + 360 == pytest.approx(west[-1] + 360 / count)


@given(lons, lats, st.floats(0, 3), st.floats(0, 3), st.randoms(use_true_random=False))
def test_a_box_takes_the_cells_of_all_its_points_and_no_cell_beside_it(
    west: float, south: float, width: float, height: float, random: object
) -> None:
    east, north = west + width, min(south + height, 84.0)
    wrapped = east - 360 if east > 180 else east
    taken = set(zip(*(part.tolist() for part in cells_in_box(west, south, wrapped, north)), strict=True))
    seed = random.getrandbits(32)  # type: ignore[attr-defined]
    x, y = np.random.default_rng(seed).uniform([west, south], [east, north], (50, 2)).T
    inside = (x < east) & (y < north)
    hit = set(zip(*(part[inside].tolist() for part in cells_at(x, y)), strict=True))
    assert hit <= taken
    for row, column in taken:
        corner_lon, corner_lat = corners_lonlat(row, column)
        assert row_latitude_deg(row + 1) > south
        assert corner_lat <= north
        offset = (corner_lon - west + 180) % 360 - 180
        assert -360 / columns_in_row(row) - 1e-9 < offset < width + 1e-9


def test_a_box_across_the_antimeridian_is_its_two_halves() -> None:
    crossing = cells_in_box(179, -18, -179, -16)
    halves = [np.stack(cells_in_box(*box)) for box in ((179, -18, 180, -16), (-180, -18, -179, -16))]
    both = np.unique(np.hstack(halves), axis=1)
    np.testing.assert_array_equal(np.stack(crossing), both)
    assert crossing[0].size < sum(half.shape[1] for half in halves)  # rows with a cell on both sides


def test_spans_that_overlap_give_each_cell_once_in_order() -> None:
    rows, columns = cells_in_spans([5, 3, 5], [0.0, 1.0, 0.1], [0.3, 1.2, 0.5])
    pairs = list(zip(rows.tolist(), columns.tolist(), strict=True))
    assert pairs == sorted(set(pairs))
    assert {row for row, _ in pairs} == {3, 5}


def test_a_span_that_ends_on_an_edge_leaves_the_next_cell_out() -> None:
    width = 360 / int(columns_in_row(0))
    assert cells_in_spans([0], [0.0], [width])[1].tolist() == [0]
    assert cells_in_spans([0], [width], [width])[1].tolist() == [1]
    assert rows_between(0.0, float(row_latitude_deg(2))).tolist() == [0, 1]
    assert rows_between(90.0, 90.0).tolist() == [1001]


def test_the_whole_globe_in_one_call() -> None:
    rows, columns = cells_in_box(-180, -80, 180, 84)
    first, last = rows[0], rows[-1]
    assert rows.size == columns_in_row(np.arange(first, last + 1)).sum() == 5_061_519
    found_rows, found_columns = cells_at(*corners_lonlat(rows, columns))
    np.testing.assert_array_equal(found_rows, rows)
    np.testing.assert_array_equal(found_columns, columns)


@pytest.mark.parametrize("bad", [90.5, -91.0, math.nan, math.inf])
def test_a_latitude_off_the_world_is_refused(bad: float) -> None:
    with pytest.raises(RegionError, match="latitude"):
        cells_at(0.0, [0.0, bad])


def test_an_unusable_longitude_is_refused() -> None:
    with pytest.raises(RegionError, match="longitude"):
        cells_at(math.nan, 0.0)


@pytest.mark.parametrize(
    "name",
    ["", "282D485L", "0D_0R", "0U_0L", "01U_0R", "1003D_0R", "1002U_0R", "0U_2004R", "0U_2005L", "5u_5r", "1U_1R "],
)
def test_a_name_off_the_grid_is_refused(name: str) -> None:
    with pytest.raises(RegionError, match=re.escape(repr(name))):
        parse_cell_name(name)


@pytest.mark.parametrize("name", ["0U_2003R", "0U_2004L", "1002D_0R", "1001U_0R"])
def test_names_at_the_grids_ends_are_accepted(name: str) -> None:
    assert cell_names(*([value] for value in parse_cell_name(name))) == [name]


def _footprint_corner(cell_name: str) -> tuple[int, float, float]:
    row, column = parse_cell_name(cell_name)
    (cell,) = make_cells([row], [column])
    x_m, y_m = utm_from_lonlat(cell.lon, cell.lat, cell.epsg)
    return cell.epsg, float(x_m) - 340, float(y_m) + 10_340


@pytest.mark.parametrize("chip", TERRAMESH)
def test_published_chips_stand_where_the_grid_puts_them(chip: str) -> None:
    epsg, left_m, top_m = TERRAMESH[chip]
    cell_name, i, j = chip.rsplit("_", 2)
    found_epsg, footprint_left, footprint_top = _footprint_corner(cell_name)
    assert found_epsg == epsg
    assert footprint_left + 2640 * int(i) == pytest.approx(left_m, abs=1e-6)
    assert footprint_top - 2640 * int(j) == pytest.approx(top_m, abs=1e-6)


@pytest.mark.parametrize("chip", TERRAMESH)
def test_our_patch_of_the_same_name_overlaps_the_published_chip(chip: str) -> None:
    _, left_m, top_m = TERRAMESH[chip]
    cell_name = chip.rsplit("_", 2)[0]
    config = GridConfig()
    (block,) = block_grids(make_cells(*([v] for v in parse_cell_name(cell_name))), config)
    shared = {}
    for place in block_patches(cell_name, config):
        left, bottom, right, top = block.window(place.row, place.col, config.patch_px, config.patch_px).bounds_m
        width = max(0.0, min(right, left_m + 2240) - max(left, left_m))
        shared[place.name] = width * max(0.0, min(top, top_m) - max(bottom, top_m - 2240)) / 2240**2
    assert max(shared, key=shared.__getitem__) == chip
    assert shared[chip] > 0.75


@pytest.mark.skipif(not CHIPS.is_dir(), reason="needs the chips in ../shared/data, which a clone does not have")
def test_the_published_corners_are_those_of_the_real_files() -> None:
    rasterio = pytest.importorskip("rasterio")
    for chip, (epsg, left_m, top_m) in TERRAMESH.items():
        with rasterio.open(CHIPS / f"{chip}.tif") as raster:
            assert raster.crs.to_epsg() == epsg
            assert (raster.transform.c, raster.transform.f) == pytest.approx((left_m, top_m), abs=1e-6)


@given(cells().filter(lambda cell: -890 <= cell[0] <= 934))
def test_a_block_is_snapped_and_lies_inside_the_published_footprint(cell: tuple[int, int]) -> None:
    (record,) = make_cells([cell[0]], [cell[1]])
    (block,) = block_grids([record], GridConfig())
    assert block.epsg == record.epsg
    assert (block.rows, block.cols, block.gsd_m) == (1024, 1024, 10.0)
    assert block.left_m % 10 == 0
    assert block.top_m % 10 == 0
    _, footprint_left, footprint_top = _footprint_corner(record.name)
    left, bottom, right, top = block.bounds_m
    assert abs((left + right) / 2 - (footprint_left + 5340)) <= 5 + 1e-6
    assert abs((bottom + top) / 2 - (footprint_top - 5340)) <= 5 + 1e-6


def test_patches_tile_the_block_from_the_north_west() -> None:
    places = block_patches("282D_485L", GridConfig(patch_px=32, patches_per_side=3))
    assert [place.name for place in places[:4]] == ["282D_485L_0_0", "282D_485L_1_0", "282D_485L_2_0", "282D_485L_0_1"]
    covered = np.zeros((96, 96), dtype=int)
    for place in places:
        covered[place.row : place.row + 32, place.col : place.col + 32] += 1
    assert (covered == 1).all()
    assert (places[1].row, places[1].col) == (0, 32)


def test_bounds_and_centres_of_rasters_agree_with_proj() -> None:
    grids = [
        RasterGrid(epsg=32629, left_m=480_000.0, top_m=4_290_000.0, gsd_m=10.0, rows=1024, cols=1024),
        RasterGrid(epsg=32647, left_m=300_000.0, top_m=8_900_000.0, gsd_m=10.0, rows=256, cols=512),
    ]
    found, (lon, lat) = bounds_lonlat(grids), centres_lonlat(grids)
    for i, grid in enumerate(grids):
        proj = Transformer.from_crs(grid.epsg, 4326, always_xy=True)
        left, bottom, right, top = grid.bounds_m
        expected = proj.transform_bounds(left, bottom, right, top, densify_pts=501)
        np.testing.assert_allclose(found[i], expected, atol=0.2 / 20_000)  # 0.2 m; a degree at 80 N is 20 km
        centre = proj.transform((left + right) / 2, (bottom + top) / 2)
        np.testing.assert_allclose((lon[i], lat[i]), centre, atol=1e-11)


def test_bounds_across_the_antimeridian_have_west_above_east() -> None:
    x_m, y_m = utm_from_lonlat(180.0, -16.5, 32760)
    grid = RasterGrid(epsg=32760, left_m=float(x_m) - 5000, top_m=float(y_m), gsd_m=10.0, rows=100, cols=1000)
    west, south, east, north = bounds_lonlat([grid])[0]
    assert 179.9 < west < 180
    assert -180 < east < -179.9
    assert south < north
    assert abs(abs(centres_lonlat([grid])[0][0]) - 180) < 0.01


def test_bounds_of_a_raster_outside_utm_are_refused() -> None:
    grid = RasterGrid(epsg=3035, left_m=0.0, top_m=0.0, gsd_m=10.0, rows=1, cols=1)
    with pytest.raises(SourceError, match="EPSG:3035"):
        bounds_lonlat([grid])


def test_nothing_in_gives_nothing_out() -> None:
    assert make_cells([], []) == []
    assert block_grids([], GridConfig()) == []
    assert bounds_lonlat([]).shape == (0, 4)
    assert cells_in_spans([], [], [])[0].size == 0
