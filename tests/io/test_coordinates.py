"""Where rasters lie: any turn of longitudes, any orientation, or refused by the file's name.

Oracles: the coordinates that the test wrote into the pixels, PROJ's through pyproj.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.rpc import RPC
from rasterio.transform import Affine

from sar1m.core.sphere import near_to
from sar1m.io.header import read_header
from sar1m.io.raster import ReadRule, read_window
from sar1m.records import RasterGrid
from sar1m.store.errors import SourceError
from support.geotiffs import utm_grid, write_tiff

PX = 1e-3  # degrees
LOCAL = 'LOCAL_CS["RGF93 v1 / Lambert-93",UNIT["metre",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
MOON = "+proj=longlat +R=1737400"
MARS = "+proj=stere +lat_0=90 +a=3396190 +b=3376200 +units=m"
PARIS_GRADS = "EPSG:4807"  # NTF (Paris), grads east of Paris


def lonlat_raster(
    path: Path, west: float, north: float, rows: int, cols: int, px: float = PX, crs: str = "EPSG:4326"
) -> Path:
    """Two bands: longitude (as the file counts it) and latitude of each pixel's centre."""
    lon, lat = np.meshgrid(west + (np.arange(cols) + 0.5) * px, north - (np.arange(rows) + 0.5) * px)
    return write_tiff(path, np.stack([lon, lat]), crs=crs, transform=Affine(px, 0, west, 0, -px, north))


def grid_at(lon: float, lat: float, epsg: int, side: int = 12, gsd_m: float = 50.0) -> RasterGrid:
    x, y = pyproj.Transformer.from_crs(4326, epsg, always_xy=True).transform(lon, lat)
    return RasterGrid(
        epsg=epsg,
        left_m=round(x) - side * gsd_m / 2,
        top_m=round(y) + side * gsd_m / 2,
        gsd_m=gsd_m,
        rows=side,
        cols=side,
    )


def centres(grid: RasterGrid) -> tuple[np.ndarray, np.ndarray]:
    x = grid.left_m + (np.arange(grid.cols) + 0.5) * grid.gsd_m
    y = grid.top_m - (np.arange(grid.rows) + 0.5) * grid.gsd_m
    return pyproj.Transformer.from_crs(grid.epsg, 4326, always_xy=True).transform(*np.meshgrid(x, y))


@pytest.mark.parametrize(
    ("west", "cols", "lon", "epsg"),
    [
        (189.99, 40, 190.01, 32602),  # 170 W
        (-170.01, 40, 190.01, 32602),
        (359.98, 60, 0.01, 32631),  # across Greenwich
        (359.98, 60, -0.005, 32630),
        (179.98, 40, 180.0, 32660),  # across the antimeridian, eastwards
        (179.98, 40, 180.0, 32601),
        (-180.02, 40, 180.0, 32660),  # the same place, westwards
    ],
)
def test_longitudes_in_any_turn_are_the_same_place(tmp_path, west, cols, lon, epsg):
    path = lonlat_raster(tmp_path / "turn.tif", west, 10.02, 40, cols)
    grid = grid_at(lon, 10.0, epsg)
    pixels = read_window(path, grid, bands=(1, 2), rule=ReadRule(resampling="bilinear")).pixels
    expected_lon, expected_lat = centres(grid)
    assert np.isfinite(pixels).all()
    np.testing.assert_allclose(near_to(pixels[0], expected_lon), expected_lon, atol=0.05 * PX)
    np.testing.assert_allclose(pixels[1], expected_lat, atol=0.05 * PX)
    lons, _ = read_header(path).lonlat([0, 40], [0, cols])
    assert np.all(np.abs(lons) <= 180)


@pytest.mark.parametrize("west", [0.0, -180.0])
@pytest.mark.parametrize(
    ("lon", "epsg"), [(0.0, 32631), (-0.3, 32630), (179.9, 32660), (-179.9, 32601), (90.0, 32645), (-100.0, 32614)]
)
def test_a_raster_of_the_whole_world_has_no_edge_in_longitude(tmp_path, west, lon, epsg):
    """360 columns of a degree; the values are smooth around the world."""
    px = 1.0
    at = west + (np.arange(360) + 0.5) * px
    values = np.broadcast_to(np.sin(np.radians(at)), (20, 360)).astype(np.float32)
    path = write_tiff(tmp_path / "world.tif", values, crs="EPSG:4326", transform=Affine(px, 0, west, 0, -px, 10))
    grid = grid_at(lon, 5.0, epsg, side=40, gsd_m=10_000.0)
    pixels = read_window(path, grid, bands=(1,), rule=ReadRule(resampling="bilinear")).pixels[0]
    assert np.isfinite(pixels).all()
    np.testing.assert_allclose(pixels, np.sin(np.radians(centres(grid)[0])), atol=2e-3)


def test_longitudes_from_paris_in_grads_are_the_place_that_proj_says(tmp_path):
    px, west, north = 1e-3, -0.02, 52.02  # grads: Paris
    path = lonlat_raster(tmp_path / "paris.tif", west, north, 40, 40, px, PARIS_GRADS)
    lon, lat = pyproj.Transformer.from_crs(PARIS_GRADS, 4326, always_xy=True).transform(0.0, 52.0)
    grid = grid_at(lon, lat, 32631)
    pixels = read_window(path, grid, bands=(1, 2), rule=ReadRule(resampling="bilinear")).pixels
    expected = pyproj.Transformer.from_crs(4326, PARIS_GRADS, always_xy=True).transform(*centres(grid))
    np.testing.assert_allclose(pixels, expected, atol=0.1 * px)


@pytest.mark.parametrize(
    "turned",
    [
        Affine.scale(10, 10),  # south-up
        Affine.scale(-10, -10),  # east to west
        Affine.rotation(30) @ Affine.scale(10, -10),
        Affine.rotation(90) @ Affine.scale(10, -10),
        Affine.rotation(180) @ Affine.scale(10, -10),
    ],
)
def test_a_raster_of_any_orientation_lies_where_its_transform_says(tmp_path, turned):
    grid = utm_grid(12, 12)
    middle_x, middle_y = grid.left_m + 60, grid.top_m - 60
    transform = Affine.translation(middle_x, middle_y) @ turned @ Affine.translation(-20, -20)
    cols, rows = np.meshgrid(np.arange(40) + 0.5, np.arange(40) + 0.5)
    x, y = transform @ (cols, rows)
    path = write_tiff(tmp_path / "t.tif", np.stack([x - middle_x, y - middle_y]), crs="EPSG:32633", transform=transform)
    pixels = read_window(path, grid, bands=(1, 2), rule=ReadRule(resampling="bilinear")).pixels
    across, down = np.meshgrid(np.arange(12) * 10 - 55.0, 55.0 - np.arange(12) * 10)
    np.testing.assert_allclose(pixels, [across, down], atol=0.5)


@pytest.mark.parametrize(
    ("crs", "found"),
    [
        (LOCAL, r"'RGF93 v1 / Lambert-93' is local \(engineering\)"),
        (MOON, r"another body than the Earth \(radius 1737 km\)"),
        (MARS, r"another body than the Earth \(radius 3396 km\)"),
        ("EPSG:4978", "has neither longitudes and latitudes nor map coordinates"),
    ],
)
def test_a_system_that_is_not_on_the_earth_is_refused_by_the_files_name(tmp_path, crs, found):
    path = write_tiff(
        tmp_path / "far.tif", np.ones((4, 4), np.float32), crs=crs, transform=Affine(10, 0, 7e5, 0, -10, 6.6e6)
    )
    with pytest.raises(SourceError, match=rf"far\.tif: .*{found}"):
        read_header(path)


@pytest.mark.parametrize(
    ("transform", "found"),
    [
        (Affine(1e-3, 0, 10, 0, -1e-3, 91), "latitude, which is not on the Earth"),
        (Affine(1e-3, 0, 5e5, 0, -1e-3, 45), "longitude .* not on the Earth"),
        (Affine(0, 0, 10, 0, 0, 45), "pixels have no area"),
    ],
)
def test_degrees_that_there_are_not_are_refused(tmp_path, transform, found):
    path = write_tiff(tmp_path / "d.tif", np.ones((4, 4), np.float32), crs="EPSG:4326", transform=transform)
    with pytest.raises(SourceError, match=rf"d\.tif: .*{found}"):
        read_header(path)


def points() -> list[GroundControlPoint]:
    return [GroundControlPoint(row=r, col=c, x=15 + c / 1e3, y=45 - r / 1e3, z=0) for r in (0, 4) for c in (0, 4)]


def coefficients() -> RPC:
    ones = [1.0] + [0.0] * 19
    return RPC(0.0, 1.0, 45.0, 0.1, ones, ones, 2.0, 2.0, 15.0, 0.1, ones, ones, 2.0, 2.0)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"crs": "EPSG:32633"}, "no geotransform.*'WGS 84 / UTM zone 33N'; found none"),
        ({"crs": "EPSG:32633", "transform": Affine(1, 0, 0, 0, -1, 0)}, "no geotransform"),
        ({"crs": "EPSG:4326", "rpcs": True}, "no geotransform.*RPC"),
        ({"transform": Affine(10, 0, 5e5, 0, -10, 5e6)}, "no coordinate reference system; found none"),
        ({"gcps": True, "crs": "EPSG:4326"}, "4 ground control points"),
        ({"rpcs": True}, "no coordinate reference system; found rational polynomial coefficients"),
    ],
)
def test_a_raster_that_does_not_say_where_it_lies_is_refused_with_what_it_has(tmp_path, options, found):
    path = tmp_path / "nowhere.tif"
    if options.pop("rpcs", False):
        options["rpcs"] = coefficients()
    if options.pop("gcps", False):
        options["gcps"] = points()
    write_tiff(path, np.ones((4, 4), np.float32), **options)
    with pytest.raises(SourceError, match=rf"nowhere\.tif: .*{found}"):
        read_header(path)


def test_a_world_file_or_an_aux_file_is_named_where_the_raster_has_no_place(tmp_path):
    path = write_tiff(tmp_path / "n.tif", np.ones((4, 4), np.float32), crs="EPSG:32633")
    path.with_suffix(".tfw").write_text("10\n0\n0\n-10\n500005\n4999995\n")
    with pytest.raises(SourceError, match=r"no geotransform.*n\.tfw, which is not read: gdal_translate"):
        read_header(path)
    path.with_name("n.tif.aux.xml").write_text(
        "<PAMDataset><GeoTransform>5e5, 10, 0, 5e6, 0, -10</GeoTransform></PAMDataset>"
    )
    with pytest.raises(SourceError, match=r"a position in .*n\.tif\.aux\.xml, which is not read"):
        read_header(path)


@pytest.mark.parametrize(
    ("element", "found"),
    [
        ("<SRS>EPSG:32633</SRS><GeoTransform>5e5, 10, 0, 5e6, 0, -10</GeoTransform>", None),
        ("<SRS>EPSG:32632</SRS>", "states the coordinate system 'WGS 84 / UTM zone 32N'"),
        ("<GeoTransform>500100, 10, 0, 5e6, 0, -10</GeoTransform>", "a geotransform that is 10 px away"),
        ("<SRS>EPSG:326(3</SRS>", "states the coordinate system"),
        ("<GeoTransform>x</GeoTransform>", "GeoTransform is 'x'"),
        ("<GCPList/>", "ground control points"),
    ],
)
def test_a_place_in_an_aux_file_must_be_that_of_the_file(tmp_path, element, found):
    path = write_tiff(tmp_path / "a.tif", np.ones((4, 4), np.float32), utm_grid(4, 4))
    path.with_name("a.tif.aux.xml").write_text(f"<PAMDataset>{element}</PAMDataset>")
    if found is None:
        assert read_header(path).epsg == 32633
    else:
        with pytest.raises(SourceError, match=rf"a\.tif.*{found}"):
            read_header(path)


def test_the_placeholder_of_a_raster_without_a_transform_is_what_rasterio_gives(tmp_path):
    path = write_tiff(tmp_path / "n.tif", np.ones((4, 4), np.float32), crs="EPSG:32633")
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning), rasterio.open(path) as dataset:
        assert dataset.transform == Affine.identity()
