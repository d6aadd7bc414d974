"""What elevation rasters and geoid grids say of their values: masks, scale, unit, place. Truth: the surface written."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from sar1m.io.dem.heights import ZERO_GEOID, open_dem
from sar1m.io.geoid import read_geoid
from sar1m.store.errors import SourceError
from support.elevations import grid_at, write_gtx
from support.geotiffs import write_tiff

UNDULATION_M = 40.0
PX = 1 / 1200
GRID = grid_at(15.02, 45.02, 40, 40, epsg=32633)


@pytest.fixture
def geoid(tmp_path):
    return write_gtx(
        tmp_path / "grids/egm08_25.gtx", lambda lon, lat: np.full(np.broadcast(lon, lat).shape, UNDULATION_M)
    )


def write_heights(path, values, *, west=15.0, crs="EPSG:4326", px=PX, scale=1.0, offset=0.0, unit=None, nodata=None):
    """48 x 48 posts from 45.04 north on."""
    write_tiff(path, values, crs=crs, transform=Affine(px, 0, west, 0, -px, 45.04), nodata=nodata)
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets, dataset.units = (scale,), (offset,), (unit or "",)
    return path


def heights(path, geoid, grid=GRID):
    return open_dem([path], datum="egm2008", geoid=geoid).heights(grid) - UNDULATION_M


@pytest.mark.parametrize(
    ("stored", "dtype", "words"),
    [
        (500, "int16", {}),
        (5000, "int32", {"scale": 0.1}),
        (5000, "int16", {"unit": "dm"}),
        (500 / 0.3048, "float32", {"unit": "ft"}),
        (500 / (1200 / 3937), "float64", {"unit": "US survey foot"}),
        (0.5, "float32", {"unit": "km"}),
        (100, "uint8", {"scale": 2.0, "offset": 300.0, "unit": "metre"}),
        (50_000, "int32", {"scale": 0.01, "unit": "m"}),
        (500_000, "int32", {"scale": 0.1, "unit": "cm"}),
    ],
)
def test_stored_numbers_become_metres_as_the_file_says(tmp_path, geoid, stored, dtype, words):
    path = write_heights(tmp_path / "dem.tif", np.full((48, 48), stored, dtype), **words)
    np.testing.assert_allclose(heights(path, geoid), 500.0, atol=1e-3)


def test_gedtm30_is_known_to_hold_decimetres(tmp_path, geoid):
    stored = np.full((48, 48), 5000, np.int32)
    stored[:24] = -2147483647
    path = write_heights(tmp_path / "gedtm_rf_m_30m_s_go_epsg.4326.3855_v1.tif", stored, nodata=-2147483647)
    found = heights(path, geoid)
    np.testing.assert_allclose(found[-1], 500.0, atol=1e-3)
    assert np.isnan(found[0]).all()


@pytest.mark.parametrize(
    ("values", "words", "found"),
    [
        (np.full((48, 48), 5000, np.int32), {}, r"stores heights as int32 and states no scale"),
        (np.full((48, 48), 500, np.int16), {"unit": "dB"}, r"its unit is 'dB' .* metres"),
        (np.full((48, 48), 500, np.int16), {"unit": "degree"}, r"its unit is 'degree'"),
        (np.full((48, 48), 500, np.int16), {"crs": "EPSG:4807"}, r"angles, but not degrees"),
    ],
)
def test_heights_that_may_be_in_anything_are_refused_by_the_files_name(tmp_path, geoid, values, words, found):
    path = write_heights(tmp_path / "dem.tif", values, **words)
    with pytest.raises(SourceError, match=rf"dem\.tif.*{found}"):
        heights(
            path,
            geoid,
            grid_at(15.02, 45.02, 40, 40, epsg=32633)
            if "crs" not in words
            else grid_at(15.86, 40.5, 40, 40, epsg=32633),
        )


def test_a_raster_of_heights_and_something_else_is_refused(tmp_path, geoid):
    path = write_tiff(
        tmp_path / "two.tif",
        np.ones((2, 48, 48), np.float32),
        crs="EPSG:4326",
        transform=Affine(PX, 0, 15, 0, -PX, 45.04),
    )
    with pytest.raises(SourceError, match=r"two\.tif: has 2 bands; an elevation raster has one"):
        heights(path, geoid)


@pytest.mark.parametrize("inside", [True, False])
def test_a_void_under_a_mask_is_no_height_of_zero_and_the_digest_knows_the_mask(tmp_path, geoid, inside):
    values = np.full((48, 48), 500, np.float32)
    values[:, :24] = 0
    path = write_heights(tmp_path / "dem.tif", values)
    before = open_dem([path], datum="egm2008", geoid=geoid).digest(GRID)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside), rasterio.open(path, "r+") as dataset:
        dataset.write_mask((values > 0).astype(np.uint8) * 255)
    found = heights(path, geoid)
    assert np.isnan(found).any()
    np.testing.assert_allclose(found[np.isfinite(found)], 500.0, atol=1e-3)
    assert open_dem([path], datum="egm2008", geoid=geoid).digest(GRID) != before


@pytest.mark.parametrize(
    ("lon", "west", "epsg"), [(-169.98, 190.0, 32602), (180.02, 180.0, 32601), (-0.01, 359.97, 32630)]
)
def test_elevations_in_longitudes_to_360_are_found(tmp_path, geoid, lon, west, epsg):
    path = write_heights(tmp_path / "dem.tif", np.full((48, 48), 500, np.int16), west=west)
    np.testing.assert_allclose(heights(path, geoid, grid_at(lon, 45.02, 40, 40, epsg=epsg)), 500.0, atol=1e-3)


def test_a_geoid_of_zeros_is_noticed(tmp_path):
    flat = write_gtx(tmp_path / "egm08_25.gtx", lambda lon, lat: 0 * lon * lat)
    path = write_heights(tmp_path / "dem.tif", np.full((48, 48), 500, np.int16))
    assert ZERO_GEOID in open_dem([path], datum="egm2008", geoid=flat).description
    real = write_gtx(tmp_path / "egm96_15.gtx", lambda lon, lat: lon / 10 + 0 * lat)
    assert ZERO_GEOID not in open_dem([path], datum="egm2008", geoid=real).description


def test_a_geoid_grid_may_be_scaled(tmp_path):
    path = tmp_path / "egm08_25.tif"
    write_tiff(path, np.full((19, 36), 4800, np.int16), crs="EPSG:4326", transform=Affine(10, 0, -185, 0, -10, 95))
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (0.01,), (0.0,)
    np.testing.assert_allclose(read_geoid(path).undulation_m([12.0, 359.0], [41.0, -3.0]), 48.0)
