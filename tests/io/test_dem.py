"""Heights on a grid: seams, datums, holes and the sea, against known surfaces and real rasters."""

from __future__ import annotations

import itertools
import pickle
import shutil

import numpy as np
import pytest
import rasterio
import rasterio.warp
from rasterio.transform import Affine

from sar1m.core.utm import utm_from_lonlat
from sar1m.io.dem import heights as dem_module
from sar1m.io.dem.heights import open_dem
from sar1m.records import RasterGrid
from sar1m.store.errors import ConfigError, SourceError
from support.elevations import centres, copernicus_file, grid_at, write_gtx, write_tile
from support.geotiffs import utm_grid, write_tiff
from support.paths import SHARED

GLO30 = SHARED / "data/s1_grd_gcp/copernicus-dem-30m"
ROME = SHARED / "data/s1_safe_annotations/rome/data/Rome-30m-DEM.tif"
GOLDEN = SHARED / "golden/rome_geometry.npz"


def slope(lon, lat):
    """Undulation that is linear near a place, so that bilinear in the geoid grid is exact."""
    return 0.5 * lat + 0.0 * lon + 10.0


def waves(lon, lat):
    """Hills 1 km apart on posts 90 m apart: bilinear errs by up to 6.4 m, half a post of shift by 21 m."""
    km_east, km_north = lon * 111.32 * np.cos(np.radians(lat)), lat * 111.32
    return 500.0 + 100.0 * np.sin(2 * np.pi * km_east) + 100.0 * np.cos(2 * np.pi * km_north)


def plane(lon, lat):
    return 1000.0 + 300.0 * (lat % 10) + 200.0 * (lon % 10)


@pytest.fixture
def geoid(tmp_path):
    return write_gtx(tmp_path / "grids/egm08_25.gtx", slope)


def orthometric(dem, grid, **options):
    lon, lat = centres(grid)
    return dem.heights(grid, **options) - slope(lon, lat)


# ---- where the posts are ----


def test_a_plane_comes_back_exactly_so_nothing_is_shifted(tmp_path, geoid):
    """Half a post would be 14 cm here. float32 holds 2,000 m to 0.12 mm; a centimetre of position is 0.05 mm."""
    write_tile(tmp_path, 44, 11, plane)
    grid = grid_at(11.5, 44.5, 120, 90, epsg=32632)
    heights = orthometric(open_dem([tmp_path], geoid=geoid), grid)
    assert heights.shape == (120, 90)
    assert heights.dtype == np.float64
    np.testing.assert_allclose(heights, plane(*centres(grid)), atol=5e-4)


def test_cubic_follows_hills_that_bilinear_cuts(tmp_path, geoid):
    write_tile(tmp_path, 44, 11, waves)
    grid = grid_at(11.5, 44.5, 300, 300, epsg=32632)
    error_m = orthometric(open_dem([tmp_path], geoid=geoid), grid) - waves(*centres(grid))
    assert np.sqrt((error_m**2).mean()) < 0.3  # bilinear: 2.5


@pytest.mark.parametrize("source", ["geographic", "projected"])
def test_the_interior_agrees_with_gdals_cubic(tmp_path, geoid, source):
    rng = np.random.default_rng(3)
    values = rng.uniform(0, 300, (90, 110)).astype(np.float32)
    grid = grid_at(15.01, 45.0, 50, 60, epsg=32633)
    if source == "geographic":
        place = {"crs": "EPSG:4326", "transform": Affine(3e-4, 0, 15.0 - 5e-3, 0, -2.5e-4, 45.01)}
    else:
        x_m, y_m = utm_from_lonlat(15.01, 45.0, 32634)
        place = {"crs": "EPSG:32634", "transform": Affine(25, 0, x_m - 1300, 0, -25, y_m + 1100)}
    path = write_tiff(tmp_path / "d/noise.tif", values, **place)
    expected = np.full((50, 60), np.nan)
    rasterio.warp.reproject(
        values.astype(np.float64),
        expected,
        src_transform=place["transform"],
        src_crs=place["crs"],
        dst_transform=Affine(*grid.transform),
        dst_crs="EPSG:32633",
        resampling=rasterio.warp.Resampling.cubic,
        XSCALE=1,
        YSCALE=1,
    )
    dem = open_dem([path.parent], datum="egm2008", geoid=geoid)
    np.testing.assert_allclose(orthometric(dem, grid), expected, atol=0.15)  # of 300 m of noise: GDAL errs by 1e-3 px


def test_heights_do_not_depend_on_the_cut(tmp_path, geoid):
    write_tile(tmp_path, 44, 11, waves)
    dem = pickle.loads(pickle.dumps(open_dem([tmp_path], geoid=geoid)))  # noqa: S301
    grid = grid_at(11.5, 44.5, 200, 170, epsg=32632)
    part = dem.heights(grid.window(37, 51, 90, 71))
    np.testing.assert_allclose(dem.heights(grid)[37:127, 51:122], part, atol=0.01)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (33, 2)])
def test_grids_of_any_size(tmp_path, geoid, size):
    write_tile(tmp_path, 44, 11, plane)
    grid = grid_at(11.5, 44.5, *size, epsg=32632)
    heights = orthometric(open_dem([tmp_path], geoid=geoid), grid)
    np.testing.assert_allclose(heights, plane(*centres(grid)), atol=5e-4)


# ---- seams ----

CORNERS = {
    "four tiles": (45.0, 12.0, 32633, (44, 45), (11, 12)),
    "equator and Greenwich": (0.0, 0.0, 32631, (-1, 0), (-1, 0)),
    "antimeridian from the west": (45.0, 180.0, 32660, (44, 45), (179, -180)),
    "antimeridian from the east": (-44.0, -180.0, 32701, (-45, -44), (179, -180)),
    "latitude bands 2x and 3x": (70.0, 12.0, 32633, (69, 70), (11, 12)),
    "latitude bands 1x and 1.5x": (-50.0, 12.0, 32733, (-51, -50), (11, 12)),
}


@pytest.mark.parametrize("corner", CORNERS)
def test_nothing_shows_where_four_tiles_meet(tmp_path, geoid, corner):
    lat, lon, epsg, lats, lons = CORNERS[corner]

    def surface(x, y):
        return waves((x - lon + 180) % 360 - 180, y)

    for tile_lat, tile_lon in itertools.product(lats, lons):
        write_tile(tmp_path, tile_lat, tile_lon, surface)
    grid = grid_at(lon, lat, 160, 140, epsg=epsg)
    dem = open_dem([tmp_path], geoid=geoid)
    error_m = orthometric(dem, grid) - surface(*centres(grid))
    assert np.isfinite(error_m).all()
    limit_m = 2.5 if "bands" in corner else 0.75  # 0.7 is the error in the middle of a tile
    assert np.abs(error_m).max() < limit_m
    assert dem.missing_tiles(grid) == ()


def test_tiles_and_the_raster_they_were_cut_from_give_the_same_bytes(tmp_path, geoid):
    rng = np.random.default_rng(8)
    values = rng.uniform(0, 100, (400, 400)).astype(np.float32)
    step, west, north = 1 / 3600, 11.9, 45.1
    options = {"crs": "EPSG:4326"}
    whole = write_tiff(tmp_path / "whole/a.tif", values, transform=Affine(step, 0, west, 0, -step, north), **options)
    for name, rows, cols in (("b", (0, 170), (0, 400)), ("c", (170, 400), (0, 210)), ("d", (168, 400), (210, 400))):
        place = Affine(step, 0, west + cols[0] * step, 0, -step, north - rows[0] * step)
        write_tiff(tmp_path / f"cut/{name}.tif", values[slice(*rows), slice(*cols)], transform=place, **options)
    grid = grid_at(11.955, 45.05, 300, 300, epsg=32633)
    uncut = open_dem([whole], datum="egm2008", geoid=geoid).heights(grid)
    assert np.isfinite(uncut).all()
    np.testing.assert_array_equal(open_dem([tmp_path / "cut"], datum="egm2008", geoid=geoid).heights(grid), uncut)


@pytest.mark.skipif(not GLO30.is_dir(), reason="shared/data/s1_grd_gcp is not beside the checkout")
def test_a_real_tile_cut_in_four_gives_the_same_bytes(tmp_path, geoid):
    (path,) = GLO30.rglob("*.tif")
    with rasterio.open(path) as tile:
        values, a = tile.read(1), tile.transform
    for row in (0, 2700):
        for col in (0, 2100):
            rows, cols = slice(row, row + 2700 if row == 0 else None), slice(col, col + 2100 if col == 0 else None)
            place = Affine(a.a, 0, a.c + col * a.a, 0, a.e, a.f + row * a.e)
            write_tiff(tmp_path / f"{row}_{col}.tif", values[rows, cols], crs="EPSG:4326", transform=place)
    grid = grid_at(6 + 2100 / 3600, 1 - 2700 / 3600, 500, 500, epsg=32632)
    uncut = open_dem([GLO30], geoid=geoid).heights(grid)
    assert np.ptp(uncut) > 500
    cut = open_dem([tmp_path], datum="egm2008", geoid=geoid)
    np.testing.assert_array_equal(cut.heights(grid), uncut)


def test_a_finer_raster_comes_first_and_a_coarser_one_continues_it(tmp_path, geoid):
    """A local model in UTM over GLO-90: no gap and no step between them."""
    write_tile(tmp_path, 44, 11, plane)
    patch = grid_at(11.5, 44.5, 60, 60, gsd_m=20.0, epsg=32632)
    write_tiff(tmp_path / "patch.tif", (plane(*centres(patch)) + 0.5).astype(np.float32), patch)
    dem = open_dem([tmp_path], datum="egm2008", geoid=geoid)
    grid = grid_at(11.5, 44.5, 200, 200, epsg=32632)
    error_m = orthometric(dem, grid) - plane(*centres(grid))
    np.testing.assert_allclose(error_m[50:150, 50:150], 0.5, atol=2e-3)
    np.testing.assert_allclose(error_m[[0, -1]], 0.0, atol=2e-3)
    assert ((error_m > -0.1) & (error_m < 0.6)).all()


def test_posts_finer_than_the_grid_are_averaged(tmp_path, geoid):
    fine = grid_at(11.5, 44.5, 500, 500, gsd_m=2.0, epsg=32632)
    board = np.indices((500, 500)).sum(axis=0) % 2 * 20.0
    write_tiff(tmp_path / "d/board.tif", board.astype(np.float32), fine)
    dem = open_dem([tmp_path / "d"], datum="egm2008", geoid=geoid)
    heights = orthometric(dem, grid_at(11.5, 44.5, 60, 60, epsg=32632))
    np.testing.assert_allclose(heights, 10.0, atol=0.5)  # 13 or 12 of each 25


# ---- what is missing ----


def test_outside_is_nan_or_sea_as_asked(tmp_path, geoid):
    write_tile(tmp_path, 44, 11, lambda lon, lat: 0 * lon * lat + 30.0)
    dem = open_dem([tmp_path], geoid=geoid)
    grid = grid_at(12.0, 44.5, 60, 120, epsg=32633)  # the eastern half is sea
    land = orthometric(dem, grid)
    sea = orthometric(dem, grid, sea_level_outside=True)
    assert np.isnan(land[:, 60:]).all()
    assert np.isfinite(land[:, :40]).all()
    np.testing.assert_array_equal(sea[:, :40], land[:, :40])
    np.testing.assert_allclose(sea[:, 90:], 0.0, atol=1e-3)
    assert np.isfinite(sea).all()
    assert dem.missing_tiles(grid) == ("Copernicus_DSM_COG_30_N44_00_E012_00_DEM.tif",)


def test_open_sea_without_any_tile_is_the_geoid(tmp_path, geoid):
    write_tile(tmp_path, 44, 11, plane)
    dem = open_dem([tmp_path], geoid=geoid)
    grid = grid_at(-30.0, 20.0, 40, 50, epsg=32626)
    assert np.isnan(dem.heights(grid)).all()
    np.testing.assert_allclose(orthometric(dem, grid, sea_level_outside=True), 0.0, atol=1e-3)
    assert dem.missing_tiles(grid) == (
        "Copernicus_DSM_COG_30_N19_00_W031_00_DEM.tif",
        "Copernicus_DSM_COG_30_N19_00_W030_00_DEM.tif",
        "Copernicus_DSM_COG_30_N20_00_W031_00_DEM.tif",
        "Copernicus_DSM_COG_30_N20_00_W030_00_DEM.tif",
    )


def test_the_strip_between_the_last_post_and_the_next_tile_wants_the_next_tile(tmp_path, geoid):
    write_tile(tmp_path, 44, 11, plane)
    dem = open_dem([tmp_path], geoid=geoid)
    inside = grid_at(11.9985, 44.5, 4, 4, epsg=32632)
    between = grid_at(11.9996, 44.5, 4, 4, epsg=32632)
    assert np.isfinite(dem.heights(inside)).all()
    assert dem.missing_tiles(inside) == ()
    assert np.isnan(dem.heights(between)).any()
    assert dem.missing_tiles(between) == ("Copernicus_DSM_COG_30_N44_00_E012_00_DEM.tif",)


@pytest.mark.parametrize("sea_level_outside", [False, True])
def test_a_hole_stays_a_hole(tmp_path, geoid, sea_level_outside):
    def holed(lon, lat):
        heights = plane(lon, lat)
        return np.where((abs(lon - 11.5) < 0.002) & (abs(lat - 44.5) < 0.002), -9999.0, heights)

    write_tile(tmp_path, 44, 11, holed, nodata=-9999.0)
    grid = grid_at(11.5, 44.5, 100, 100, epsg=32632)
    heights = orthometric(open_dem([tmp_path], geoid=geoid), grid, sea_level_outside=sea_level_outside)
    lon, lat = centres(grid)
    inside = (abs(lon - 11.5) < 0.002) & (abs(lat - 44.5) < 0.002)
    near = (abs(lon - 11.5) < 0.004) & (abs(lat - 44.5) < 0.004)
    assert inside.any()
    assert np.isnan(heights[inside]).all()
    np.testing.assert_allclose(heights[~near], plane(lon, lat)[~near], atol=5e-4)
    seen = np.isfinite(heights)
    np.testing.assert_allclose(heights[seen], plane(lon, lat)[seen], atol=5e-4)


def test_a_hole_is_filled_by_another_raster_that_has_heights_there(tmp_path, geoid):
    write_tile(tmp_path, 44, 11, plane)
    patch = grid_at(11.5, 44.5, 60, 60, gsd_m=20.0, epsg=32632)
    values = plane(*centres(patch)).astype(np.float32)
    values[20:40, 20:40] = -32768
    write_tiff(tmp_path / "patch.tif", values, patch, nodata=-32768)
    grid = grid_at(11.5, 44.5, 100, 100, epsg=32632)
    heights = orthometric(open_dem([tmp_path], datum="egm2008", geoid=geoid), grid, sea_level_outside=True)
    np.testing.assert_allclose(heights, plane(*centres(grid)), atol=2e-3)


def test_rasters_that_overlap_fill_each_others_holes_and_the_first_stands(tmp_path, geoid):
    grid = utm_grid(60, 60, gsd_m=30.0)
    first, second = np.full((60, 60), 100.0, np.float32), np.full((60, 60), 200.0, np.float32)
    first[20:30, 20:30], second[40:50, 40:50] = -9999, -9999
    write_tiff(tmp_path / "d/a.tif", first, grid, nodata=-9999)
    write_tiff(tmp_path / "d/b.tif", second, grid, nodata=-9999)
    fine = grid.window(10, 10, 45, 45)
    fine = RasterGrid(epsg=fine.epsg, left_m=fine.left_m, top_m=fine.top_m, gsd_m=10.0, rows=135, cols=135)
    heights = orthometric(open_dem([tmp_path / "d"], datum="egm2008", geoid=geoid), fine)
    assert heights[45, 45] == pytest.approx(200.0, abs=1e-3)
    np.testing.assert_allclose(heights[75:], 100.0, atol=1e-3)


def test_a_hole_in_the_coarser_raster_is_no_sea(tmp_path, geoid):
    def holed(lon, lat):
        return np.where((abs(lon - 11.5) < 0.002) & (abs(lat - 44.5) < 0.002), -9999.0, plane(lon, lat))

    write_tile(tmp_path, 44, 11, holed, nodata=-9999.0)
    patch = grid_at(11.506, 44.5, 20, 20, gsd_m=20.0, epsg=32632)
    write_tiff(tmp_path / "patch.tif", plane(*centres(patch)).astype(np.float32), patch)
    grid = grid_at(11.503, 44.5, 60, 100, epsg=32632)
    heights = orthometric(open_dem([tmp_path], datum="egm2008", geoid=geoid), grid, sea_level_outside=True)
    seen = np.isfinite(heights)
    assert not seen.all()
    np.testing.assert_allclose(heights[seen], plane(*centres(grid))[seen], atol=2e-3)


# ---- heights that are none ----


@pytest.mark.parametrize(("factor", "nodata"), [(100.0, None), (1.0, -9999.0), (-1.0, None)])
def test_heights_that_no_land_has_are_refused_with_the_files_name(tmp_path, geoid, factor, nodata):
    def heights(lon, lat):
        values = factor * plane(lon, lat)
        return values if nodata is None else np.where(values > 2400, nodata, values)

    name = write_tile(tmp_path, 44, 11, heights).name
    with pytest.raises(SourceError, match=rf"{name}: holds .* no height of land in metres"):
        open_dem([tmp_path], geoid=geoid).heights(grid_at(11.5, 44.5, 40, 40, epsg=32632))


def test_a_tile_that_does_not_lie_where_its_name_says_is_refused(tmp_path, geoid):
    path = write_tile(tmp_path / "a", 44, 11, plane)
    shutil.copy(path, tmp_path / "Copernicus_DSM_COG_30_N44_00_E012_00_DEM.tif")
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(SourceError, match=r"E012_00_DEM\.tif: covers .* but the tile of this name covers"):
        open_dem([tmp_path], geoid=geoid).heights(grid_at(12.5, 44.5, 40, 40, epsg=32633))


def test_damaged_and_absent_rasters_are_named(tmp_path, geoid):
    path = write_tile(tmp_path, 44, 11, plane, compress="deflate")
    content = bytearray(path.read_bytes())
    content[len(content) // 4 : 3 * len(content) // 4] = bytes(len(content) // 2)
    path.write_bytes(bytes(content))
    with pytest.raises(SourceError, match=path.name):
        open_dem([tmp_path], geoid=geoid).heights(grid_at(11.5, 44.5, 40, 40, epsg=32632))
    with pytest.raises(SourceError, match=r"absent\.tif: cannot be read"):
        open_dem([tmp_path / "absent.tif"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="empty: no elevation raster"):
        open_dem([tmp_path / "empty"])
    with pytest.raises(SourceError, match="No elevation raster is given"):
        open_dem([])


def test_a_rotated_raster_is_refused(tmp_path, geoid):
    turned = write_tiff(tmp_path / "t.tif", np.zeros((4, 4)), crs="EPSG:32633", transform=Affine(9, 3, 5e5, 3, -9, 5e6))
    with pytest.raises(SourceError, match=r"t\.tif: not north-up"):
        open_dem([turned], datum="egm96", geoid=geoid)


def test_masks_delivered_beside_the_heights_are_left_out(tmp_path, geoid):
    path = write_tile(tmp_path, 44, 11, plane)
    shutil.copy(path, path.with_name(path.name.replace("_DEM.tif", "_WBM.tif")))
    write_tiff(tmp_path / "geoid/us_nga_egm96_15.tif", np.zeros((4, 4)), utm_grid(4, 4))
    assert [found.name for sheet in open_dem([tmp_path], geoid=geoid).sheets for found in sheet.paths] == [path.name]


# ---- from what heights count ----


def flat_raster(folder, crs, *, name="d.tif", height_m=100.0):
    step = 1e-3 if "4326" in crs or "4979" in crs else 100.0
    grid = utm_grid(50, 50, gsd_m=100.0)
    left, top = (14.98, 45.2) if step < 1 else (grid.left_m, grid.top_m)
    values = np.full((50, 50), height_m, dtype=np.float32)
    return write_tiff(folder / name, values, crs=crs, transform=Affine(step, 0, left, 0, -step, top))


@pytest.mark.parametrize(
    ("crs", "datum"),
    [
        ("EPSG:4326+3855", "egm2008"),
        ("EPSG:4326+5773", "egm96"),
        ("EPSG:32633+5773", "egm96"),
        ("EPSG:4979", "ellipsoid"),
    ],
)
def test_auto_takes_what_the_raster_states(tmp_path, geoid, crs, datum):
    path = flat_raster(tmp_path, crs)
    dem = open_dem([path], geoid=geoid)
    assert dem.datum == datum
    grid = grid_at(15.01, 45.18, 10, 10, epsg=32633) if "326" not in crs[5:8] else utm_grid(50, 50).window(20, 20, 9, 9)
    undulation_m = 0 if datum == "ellipsoid" else slope(*centres(grid))
    np.testing.assert_allclose(dem.heights(grid), 100.0 + undulation_m, atol=1e-3)


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32633"])
def test_a_raster_that_states_nothing_is_refused_until_the_datum_is_stated(tmp_path, geoid, crs):
    path = flat_raster(tmp_path, crs)
    with pytest.raises(ConfigError, match=r"d\.tif: does not state its vertical datum\. Set safe\.dem_datum"):
        open_dem([path], geoid=geoid)
    assert open_dem([path], datum="ellipsoid", geoid=geoid).datum == "ellipsoid"


@pytest.mark.parametrize("crs", ["EPSG:4326+5703", "EPSG:4326+6360"])
def test_other_vertical_systems_and_feet_are_refused(tmp_path, geoid, crs):
    for datum in ("auto", "egm96"):
        with pytest.raises(ConfigError, match=r"d\.tif: its vertical datum is"):
            open_dem([flat_raster(tmp_path, crs)], datum=datum, geoid=geoid)


def test_contradictions_are_refused(tmp_path, geoid):
    egm96 = flat_raster(tmp_path, "EPSG:4326+5773")
    with pytest.raises(ConfigError, match=r"d\.tif: states heights above egm96, the setting says ellipsoid"):
        open_dem([egm96], datum="ellipsoid", geoid=geoid)
    flat_raster(tmp_path, "EPSG:4326+3855", name="e.tif")
    with pytest.raises(ConfigError, match=r"d\.tif has heights above egm96, .*e\.tif above egm2008"):
        open_dem([tmp_path / "d.tif", tmp_path / "e.tif"], geoid=geoid)


def test_a_copernicus_tile_turned_ellipsoidal_says_so_or_is_said_to_be(tmp_path, geoid):
    """gdalwarp to another folder keeps the name. What the file or the user states takes precedence."""
    write_tile(tmp_path / "a", 44, 11, plane)
    grid = grid_at(11.5, 44.5, 20, 20, epsg=32632)
    heights = open_dem([tmp_path / "a"], datum="ellipsoid", geoid=geoid).heights(grid)
    np.testing.assert_allclose(heights, plane(*centres(grid)), atol=5e-4)
    with rasterio.open(tmp_path / "a" / copernicus_file(44, 11), "r+") as dataset:
        dataset.crs = "EPSG:4979"
    with pytest.raises(ConfigError, match="states heights above ellipsoid, but is used as above egm2008"):
        open_dem([tmp_path / "a"], geoid=geoid).heights(grid)


def test_no_geoid_grid_is_an_error_and_never_zero(tmp_path, monkeypatch):
    write_tile(tmp_path, 44, 11, plane)
    monkeypatch.setattr(dem_module, "find_geoid", lambda *_, **__: None)
    with pytest.raises(ConfigError, match="apt-get install proj-data"):
        open_dem([tmp_path])
    ellipsoidal = open_dem([tmp_path], datum="ellipsoid")
    grid = grid_at(12.0, 44.5, 20, 40, epsg=32633)
    assert np.isfinite(ellipsoidal.heights(grid)).any()
    with pytest.raises(ConfigError, match="Heights of the sea: no geoid grid"):
        ellipsoidal.heights(grid, sea_level_outside=True)


def test_the_sea_beside_ellipsoidal_heights_is_the_geoid(tmp_path, geoid):
    write_tile(tmp_path, 44, 11, lambda lon, lat: slope(lon, lat) + 30.0)
    grid = grid_at(12.0, 44.5, 60, 120, epsg=32633)
    dem = open_dem([tmp_path], datum="ellipsoid", geoid=geoid)
    heights = orthometric(dem, grid, sea_level_outside=True)
    np.testing.assert_allclose(heights[:, :40], 30.0, atol=1e-3)
    np.testing.assert_allclose(heights[:, 90:], 0.0, atol=1e-3)
    far = grid_at(-30.5, 20.5, 20, 20, epsg=32626)
    np.testing.assert_allclose(orthometric(dem, far, sea_level_outside=True), 0.0, atol=1e-3)


def test_a_geoid_folder_beside_the_rasters_is_found(tmp_path):
    write_tile(tmp_path / "dem", 44, 11, plane)
    own = write_gtx(tmp_path / "geoid/egm08_25.gtx", slope)
    assert open_dem([tmp_path / "dem"]).geoid.path == own


@pytest.mark.parametrize(
    ("grid_name", "text"),
    [
        ("us_nga_egm08_25.gtx", "COP-DEM GLO-90 (EGM2008), geoid egm08_25"),
        ("egm96_15.gtx", "COP-DEM GLO-90 (EGM2008), geoid egm96_15 in place of EGM2008"),
        ("ours.gtx", "COP-DEM GLO-90 (EGM2008), geoid ours"),
    ],
)
def test_the_description_names_model_datum_and_geoid(tmp_path, grid_name, text):
    write_tile(tmp_path, 44, 11, plane)
    assert open_dem([tmp_path], geoid=write_gtx(tmp_path / grid_name, slope)).description == text


def test_the_digest_follows_the_bytes_that_serve_the_grid(tmp_path, geoid):
    near, far = write_tile(tmp_path, 44, 11, plane), write_tile(tmp_path, 44, 17, plane)
    grid = grid_at(11.5, 44.5, 40, 40, epsg=32632)
    first = open_dem([tmp_path], geoid=geoid).digest(grid)
    assert pickle.loads(pickle.dumps(open_dem([tmp_path], geoid=geoid))).digest(grid) == first  # noqa: S301
    moved = shutil.copytree(tmp_path, tmp_path.with_name(f"{tmp_path.name}_moved"))
    assert open_dem([moved], geoid=geoid).digest(grid) == first
    for path, changed in ((far, False), (near, True)):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(bytes(content))
        assert (open_dem([tmp_path], geoid=geoid).digest(grid) != first) == changed
    other = write_gtx(tmp_path / "other.gtx", lambda lon, lat: slope(lon, lat) + 1)
    before = open_dem([tmp_path], geoid=geoid).digest(grid)
    assert open_dem([tmp_path], geoid=other).digest(grid) != before
    assert open_dem([tmp_path], datum="egm96", geoid=geoid).digest(grid) != before


@pytest.mark.skipif(not (ROME.is_file() and GOLDEN.is_file()), reason="shared/data is not beside the checkout")
def test_rome_agrees_with_the_golden_heights():
    try:
        dem = open_dem([ROME])
    except ConfigError as error:
        pytest.skip(f"no geoid grid: {error}")
    with np.load(GOLDEN) as arrays:
        golden = {name: arrays[name] for name in ("lon", "lat", "height")}
    assert dem.datum == "egm96"
    assert dem.description == "Rome-30m-DEM.tif (EGM96), geoid egm96_15"
    for i, j in ((5, 5), (30, 20), (44, 51)):
        x_m, y_m = utm_from_lonlat(golden["lon"][i, j], golden["lat"][i, j], 32633)
        grid = RasterGrid(epsg=32633, left_m=float(x_m) - 5, top_m=float(y_m) + 5, gsd_m=10.0, rows=1, cols=1)
        assert dem.heights(grid)[0, 0] == pytest.approx(golden["height"][i, j], abs=1e-3)
