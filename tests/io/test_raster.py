"""Reading rasters: exact copies, resampling in one step, and everything that is refused."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.warp
from hypothesis import given
from hypothesis import strategies as st
from rasterio.transform import Affine

from sar1m.io.header import read_header
from sar1m.io.raster import ReadRule, file_digest, read_window
from sar1m.io.raster_open import TiffBytes
from sar1m.io.stated import Stated
from sar1m.store.errors import SourceError
from support.geotiffs import speckled_db, utm_grid, write_tiff
from support.paths import SHARED

COPY = ReadRule(resampling="bilinear")


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture(scope="module")
def ramp(tmp_path_factory):
    values = np.arange(2 * 40 * 50, dtype=np.float32).reshape(2, 40, 50)
    return write_tiff(tmp_path_factory.mktemp("ramp") / "ramp.tif", values, utm_grid(40, 50)), values


@given(row=st.integers(-45, 45), col=st.integers(-55, 55), rows=st.integers(1, 60), cols=st.integers(1, 60))
def test_aligned_windows_are_slices_with_nan_outside(ramp, row, col, rows, cols):
    path, values = ramp
    padded = np.full((2, 40 + 120, 50 + 120), np.nan, dtype=np.float32)
    padded[:, 60:100, 60:110] = values
    window = read_window(path, utm_grid(40, 50).window(row, col, rows, cols), bands=(1, 2), rule=COPY)
    expected = padded[:, 60 + row : 60 + row + rows, 60 + col : 60 + col + cols]
    np.testing.assert_array_equal(window.pixels[:, : expected.shape[1], : expected.shape[2]], expected)
    assert not window.resampled


def test_an_offset_under_a_thousandth_of_a_pixel_copies_and_one_above_does_not(ramp):
    path, values = ramp
    near = utm_grid(8, 8, left_m=500_000.0 + 100 + 0.009, top_m=5_000_000.0 - 100)
    far = utm_grid(8, 8, left_m=500_000.0 + 100 + 0.02, top_m=5_000_000.0 - 100)
    np.testing.assert_array_equal(read_window(path, near, bands=(1,), rule=COPY).pixels[0], values[0, 10:18, 10:18])
    warped = read_window(path, far, bands=(1,), rule=COPY)
    assert warped.resampled
    np.testing.assert_allclose(warped.pixels[0], values[0, 10:18, 10:18] + 0.002, atol=1e-3)


@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "cubic"])
@pytest.mark.parametrize("epsg", [32633, 32632, 4326])
def test_a_warp_agrees_with_rasterio_on_the_whole_file(tmp_path, rng, resampling, epsg):
    values = rng.normal(size=(1, 90, 90)).astype(np.float32)
    step = 1e-4 if epsg == 4326 else 10.0
    x, y = rasterio.warp.transform("EPSG:32633", f"EPSG:{epsg}", [500_000.0], [5_000_000.0])
    path = write_tiff(
        tmp_path / "w.tif", values, crs=f"EPSG:{epsg}", transform=Affine(step, 0, x[0], 0, -step, y[0]), nodata=np.nan
    )
    grid = utm_grid(20, 24, left_m=500_203.7, top_m=5_000_000.0 - 304.2)
    oracle = np.full((20, 24), np.nan, dtype=np.float32)
    with rasterio.open(path) as dataset:
        rasterio.warp.reproject(
            rasterio.band(dataset, 1),
            oracle,
            dst_transform=Affine(*grid.transform),
            dst_crs="EPSG:32633",
            dst_nodata=np.nan,
            resampling=rasterio.warp.Resampling[resampling],
            XSCALE=0.7864 if epsg == 4326 else 1,  # 1e-4 degrees of longitude at 45 degrees north, in pixels of 10 m
            YSCALE=1.1117 if epsg == 4326 else 1,
        )
    got = read_window(path, grid, bands=(1,), rule=ReadRule(resampling=resampling)).pixels[0]
    assert np.isfinite(oracle).mean() > 0.9
    np.testing.assert_allclose(got, oracle, atol=1e-2)  # white noise of 1: a hundredth of a pixel


def test_warped_pixels_come_from_where_the_projection_says(tmp_path):
    """A raster that holds its own pixel coordinates shows where each target pixel was taken from."""
    down, across = np.mgrid[0:1300, 0:1300].astype(np.float32)
    path = write_tiff(
        tmp_path / "xy.tif",
        np.stack([down, across]),
        crs="EPSG:4326",
        transform=Affine(9e-5, 0, 14.99, 0, -9e-5, 45.16),
    )
    grid = utm_grid(1000, 800)
    taken = read_window(path, grid, bands=(1, 2), rule=COPY).pixels
    rows, cols = np.mgrid[0:1000:37, 0:800:37]
    x_m, y_m = grid.left_m + (cols.ravel() + 0.5) * 10, grid.top_m - (rows.ravel() + 0.5) * 10
    lon, lat = rasterio.warp.transform("EPSG:32633", "EPSG:4326", x_m, y_m)
    expected = np.stack([(45.16 - np.asarray(lat)) / 9e-5 - 0.5, (np.asarray(lon) - 14.99) / 9e-5 - 0.5])
    np.testing.assert_allclose(taken[:, rows.ravel(), cols.ravel()], expected, atol=0.06)
    assert np.sqrt(np.mean((taken[:, rows.ravel(), cols.ravel()] - expected) ** 2)) < 0.015


def test_decibels_are_averaged_as_power(tmp_path):
    checker = np.where(np.indices((16, 16)).sum(axis=0) % 2, 10.0, 0.0).astype(np.float32)
    path = write_tiff(tmp_path / "db.tif", checker, utm_grid(16, 16))
    between = utm_grid(8, 8, left_m=500_045.0, top_m=5_000_000.0 - 45.0)  # half a pixel off: each mean of two and two
    power = read_window(path, between, bands=(1,), rule=ReadRule(resampling="bilinear", unit="db")).pixels
    np.testing.assert_allclose(power, (1 + 10) / 2, rtol=1e-5)  # the mean of decibels would give 10^0.5 = 3.16


def test_scale_and_offset_come_before_the_decibels(tmp_path):
    path = write_tiff(tmp_path / "i.tif", np.full((4, 4), -1050, dtype=np.int16), utm_grid(4, 4))
    rule = ReadRule(resampling="nearest", unit="db", described=Stated(by="t", scale=0.01, offset=0.5))
    np.testing.assert_allclose(read_window(path, utm_grid(4, 4), bands=(1,), rule=rule).pixels, 0.1, rtol=1e-6)


def test_missing_measurements_become_nan_and_nothing_else_does(tmp_path):
    values = np.array([[0.0, -1e-4, np.inf], [-99.0, np.nan, 0.25]], dtype=np.float32)
    path = write_tiff(tmp_path / "n.tif", values, utm_grid(2, 3), nodata=-99.0)
    linear = read_window(path, utm_grid(2, 3), bands=(1,), rule=ReadRule(resampling="bilinear", zero_is_nodata=True))
    np.testing.assert_array_equal(
        linear.pixels[0], np.array([[np.nan, -1e-4, np.nan], [np.nan, np.nan, 0.25]], dtype=np.float32)
    )
    assert linear.infinities == 1
    kept = read_window(path, utm_grid(2, 3), bands=(1,), rule=ReadRule(resampling="bilinear", unit="db"))
    assert kept.pixels[0, 0, 0] == 1.0  # 0 dB is a measurement


def test_a_pixel_missing_in_one_band_stays_in_the_other_through_a_warp(tmp_path):
    values = np.ones((2, 12, 12), dtype=np.float32)
    values[0, 6, 6] = np.nan
    path = write_tiff(tmp_path / "two.tif", values, utm_grid(12, 12))
    shifted = utm_grid(8, 8, left_m=500_020.0, top_m=4_999_980.0 + 3)
    pixels = read_window(path, shifted, bands=(1, 2), rule=ReadRule(resampling="nearest")).pixels
    assert np.isnan(pixels[0]).sum() == 1
    assert np.isfinite(pixels[1]).all()


def test_a_grid_far_from_the_raster_is_all_nan(ramp):
    path, _ = ramp
    for grid in (utm_grid(4, 4, left_m=700_000.0), utm_grid(4, 4, left_m=700_003.0)):
        assert np.isnan(read_window(path, grid, bands=(1,), rule=COPY).pixels).all()


def test_bytes_in_memory_read_like_the_file(tmp_path, rng):
    path = write_tiff(tmp_path / "m.tif", speckled_db(rng, 2, 120, 120), utm_grid(120, 120))
    held = TiffBytes(name="member.tif", content=path.read_bytes())
    for band in (1, 2):
        from_file = read_window(path, utm_grid(120, 120), bands=(band,), rule=COPY).pixels
        np.testing.assert_array_equal(read_window(held, utm_grid(120, 120), bands=(band,), rule=COPY).pixels, from_file)


def test_the_digest_is_blake2b_of_the_bytes(tmp_path):
    path = tmp_path / "any"
    path.write_bytes(os.urandom(3_000_001))
    assert file_digest(path) == hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    with pytest.raises(SourceError, match="cannot be read"):
        file_digest(tmp_path / "absent")


# ---- what must not come in ----

VIRTUAL_RASTER = """<VRTDataset rasterXSize="8" rasterYSize="8"><SRS>EPSG:32633</SRS>
<GeoTransform>500000, 10, 0, 5000000, 0, -10</GeoTransform>
<VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">
<SourceFilename relativeToVRT="0">{target}</SourceFilename><ImageOffset>0</ImageOffset>
<PixelOffset>1</PixelOffset><LineOffset>8</LineOffset></VRTRasterBand></VRTDataset>"""


def test_a_virtual_raster_under_another_name_is_refused(tmp_path):
    target = tmp_path / "private"
    target.write_bytes(b"x" * 64)
    path = tmp_path / "innocent.tif"
    path.write_text(VIRTUAL_RASTER.format(target=target))
    with pytest.raises(SourceError, match=r"innocent\.tif: not a TIFF: begins with .*VRTDataset"):
        read_header(path)
    with pytest.raises(SourceError, match=r"member\.tif: not a TIFF"):
        read_header(TiffBytes(name="member.tif", content=path.read_bytes()))


@pytest.mark.parametrize(
    "name",
    [
        *("/vsicurl/http://127.0.0.1:9/a.tif", "/vsizip/a.zip/a.tif", "/VSIMEM/a.tif", "http://127.0.0.1:9/a.tif"),
        *("GTIFF_DIR:1:a.tif", "zip+file:a.zip!b.tif", "s3://bucket/a.tif"),
    ],
)
def test_addresses_and_virtual_paths_are_refused(name):
    with pytest.raises(SourceError, match="not a local file name"):
        read_header(Path(name))


def test_missing_empty_folder_and_text_files_are_named(tmp_path):
    (tmp_path / "empty.tif").touch()
    (tmp_path / "text.tif").write_text("no raster at all")
    (tmp_path / "folder.tif").mkdir()
    os.mkfifo(tmp_path / "pipe.tif")
    for name, found in {
        "absent.tif": "No such file",
        "empty.tif": r"empty \(0 bytes\)",
        "text.tif": "not a TIFF",
        "folder.tif": "not a regular file",
        "pipe.tif": "not a regular file",
    }.items():
        with pytest.raises(SourceError, match=f"{name}: .*{found}"):
            read_header(tmp_path / name)


@pytest.mark.parametrize(
    ("size", "block", "found"), [(400_000, 8192, "400000 x 400000 px"), (60_000, 32_768, "one tile of 32768")]
)
def test_absurd_headers_are_refused_before_anything_is_read(tmp_path, size, block, found):
    path = tmp_path / "huge.tif"
    options = {"SPARSE_OK": True, "tiled": True, "blockxsize": block, "blockysize": block, "compress": "deflate"}
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=size,
        height=size,
        count=1,
        dtype="uint8",
        crs="EPSG:32633",
        transform=Affine(10, 0, 500_000, 0, -10, 5_000_000),
        **options,
    ):
        pass
    with pytest.raises(SourceError, match=found):
        read_window(path, utm_grid(4, 4), bands=(1,), rule=COPY)


def test_complex_pixels_and_too_many_bands_are_refused(tmp_path):
    write_tiff(tmp_path / "slc.tif", np.ones((4, 4), dtype=np.complex64), utm_grid(4, 4))
    with pytest.raises(SourceError, match=r"complex64.*Detect complex"):
        read_header(tmp_path / "slc.tif")
    write_tiff(tmp_path / "bands.tif", np.ones((65, 2, 2), dtype=np.uint8), utm_grid(2, 2))
    with pytest.raises(SourceError, match="65 bands"):
        read_header(tmp_path / "bands.tif")


def test_a_missing_band_and_a_missing_system_are_refused(ramp, tmp_path):
    with pytest.raises(SourceError, match=r"has 2 band\(s\), but band 3 is asked for"):
        read_window(ramp[0], utm_grid(4, 4), bands=(3,), rule=COPY)
    write_tiff(tmp_path / "bare.tif", np.ones((4, 4), dtype=np.float32), transform=Affine(10, 0, 0, 0, -10, 0))
    with pytest.raises(SourceError, match="no coordinate reference system; found none"):
        read_header(tmp_path / "bare.tif")


def test_a_file_cut_short_is_damaged(tmp_path, rng):
    path = write_tiff(tmp_path / "cut.tif", speckled_db(rng, 1, 200, 200), utm_grid(200, 200), compress="deflate")
    path.write_bytes(path.read_bytes()[:60_000])
    with pytest.raises(SourceError, match=r"cut\.tif: damaged or not a GeoTIFF"):
        read_window(path, utm_grid(200, 200), bands=(1,), rule=COPY)


def test_side_car_files_are_not_believed(tmp_path):
    path = write_tiff(tmp_path / "s.tif", np.ones((4, 4), dtype=np.float32), utm_grid(4, 4))
    before = read_header(path)
    (tmp_path / "s.tif.aux.xml").write_text(
        '<PAMDataset><Metadata><MDI key="datetime">2001-01-01T00:00:00</MDI></Metadata></PAMDataset>'
    )
    assert read_header(path) == before


def test_a_real_raw_scene_is_refused_with_its_control_points():
    path = next(SHARED.glob("data/s1_grd_gcp/**/iw-vv.tiff"), None)
    if path is None:
        pytest.skip("../shared/data/s1_grd_gcp is absent")
    with pytest.raises(SourceError, match=r"found 210 ground control points.*geocode the scene first"):
        read_header(path)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("unit", ["linear", "db", "reflectance", "m"])
@pytest.mark.parametrize("fill", [1e20, -1e20, -3.4e38])
def test_numbers_larger_than_any_measurement_are_missing_though_nobody_says_so(tmp_path, unit, fill):
    values = np.array([[0.5, fill, 0.25]], dtype=np.float32)
    path = write_tiff(tmp_path / "n.tif", values, utm_grid(1, 3))
    window = read_window(path, utm_grid(1, 3), bands=(1,), rule=ReadRule(resampling="bilinear", unit=unit))
    assert (np.isnan(window.pixels[0, 0]).tolist(), window.infinities) == ([False, True, False], 1)


@pytest.mark.filterwarnings("error")
def test_decibels_beyond_every_float_are_missing(tmp_path):
    path = write_tiff(tmp_path / "n.tif", np.array([[-10.0, 9999.0]], dtype=np.float32), utm_grid(1, 2))
    window = read_window(path, utm_grid(1, 2), bands=(1,), rule=ReadRule(resampling="bilinear", unit="db"))
    np.testing.assert_allclose(window.pixels[0, 0], [0.1, np.nan], rtol=1e-6)
    assert window.infinities == 1
