"""Pictures as they are stored: what rasterio and PIL write is read number by number, with what it states."""

import numpy as np
import pytest
import rasterio
from PIL import Image

from sar1m.io.picture import Georeference, read_picture, without, write_picture, written_suffix
from sar1m.io.raster_open import TiffBytes
from sar1m.store.errors import SourceError
from support.known_pairs import write_raster

UTM = {"crs": "EPSG:32633", "transform": (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0)}


def ramp(dtype, bands=1, size=(40, 50)):
    return np.arange(bands * size[0] * size[1]).reshape(bands, *size).astype(dtype)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "I;16"])
def test_png_is_read_number_by_number_in_all_its_modes(tmp_path, mode):
    rng = np.random.default_rng(1)
    shape = {"L": (30, 20), "RGB": (30, 20, 3), "RGBA": (30, 20, 4), "LA": (30, 20, 2), "I;16": (30, 20)}[mode]
    pixels = rng.integers(2, 60_000 if mode == "I;16" else 256, shape).astype(np.uint16 if mode == "I;16" else np.uint8)
    if mode in ("RGBA", "LA"):
        pixels[..., -1] = 255
        pixels[:5, :, -1] = 128  # half transparent: nobody knows what shines through
    Image.fromarray(pixels, mode=None).save(tmp_path / "one.png")
    picture = read_picture(tmp_path / "one.png")
    assert np.array_equal(picture.stored, np.atleast_3d(pixels).transpose(2, 0, 1))
    assert picture.missing.sum() == (100 if mode in ("RGBA", "LA") else 0)
    assert len(picture.values) == {"L": 1, "RGB": 3, "RGBA": 3, "LA": 1, "I;16": 1}[mode]
    assert picture.ground is None


def test_what_a_tiff_states_counts_nodata_scale_unit_place(tmp_path):
    values = ramp(np.int16)
    path = write_raster(tmp_path / "one.tif", values, nodata=7, units=["dB"], scales=[0.01], offsets=[-3.0], **UTM)
    picture = read_picture(path)
    assert picture.missing.sum() == 1
    assert (picture.stated[0].nodata, picture.stated[0].unit, picture.stated[0].scale) == (7, "dB", 0.01)
    assert picture.ground.transform == UTM["transform"]


def test_a_mask_beside_the_file_counts(tmp_path):
    path = write_raster(tmp_path / "one.tif", ramp(np.uint8), **UTM)
    mask = np.full((40, 50), 255, np.uint8)
    mask[:, :10] = 0
    write_raster(tmp_path / "mask.tif", mask).rename(tmp_path / "one.tif.msk")
    picture = read_picture(path)
    assert picture.missing[:, :10].all()
    assert not picture.missing[:, 10:].any()


def test_fractions_that_are_no_numbers_are_missing(tmp_path):
    values = ramp(np.float32)
    values[0, 3, :4] = [np.nan, np.inf, -np.inf, 1]
    assert read_picture(write_raster(tmp_path / "one.tif", values)).missing.sum() == 3


@pytest.mark.parametrize(
    "content", [b"", b"GIF89a", b"<VRTDataset/>", b"\x89PNG\r\n\x1a\nbroken", b"\xff\xd8\xffbroken"]
)
def test_what_is_no_picture_is_refused_by_its_name(tmp_path, content):
    path = tmp_path / "odd.png"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"odd\.png"):
        read_picture(path)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.99])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
@pytest.mark.parametrize("in_memory", [False, True])
def test_a_picture_that_breaks_off_is_refused_and_not_filled_up(tmp_path, kind, share, in_memory):
    path = tmp_path / "one"
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, format=kind)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(SourceError, match="one"):
        read_picture(TiffBytes(name="one", content=path.read_bytes()) if in_memory else path)


def test_what_follows_the_end_of_a_png_is_not_looked_at(tmp_path):
    path = tmp_path / "one.png"
    Image.fromarray(ramp(np.uint8)[0]).save(path)
    path.write_bytes(path.read_bytes() + b"more")
    np.testing.assert_array_equal(read_picture(path).stored[0], ramp(np.uint8)[0])


def test_a_palette_is_refused(tmp_path):
    Image.fromarray(ramp(np.uint8)[0]).convert("P").save(tmp_path / "one.png")
    with pytest.raises(SourceError, match="palette"):
        read_picture(tmp_path / "one.png")


def test_a_picture_too_large_to_hold_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    path = write_raster(tmp_path / "one.tif", ramp(np.uint8))
    monkeypatch.setattr("sar1m.io.picture.MAX_PICTURE_BYTES", 1999)
    with pytest.raises(SourceError, match="2000 bytes"):
        read_picture(path)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_what_is_written_is_read_back_with_all_it_states(tmp_path, dtype):
    source = write_raster(
        tmp_path / "one.tif", ramp(dtype, bands=4), nodata=3, units=["dB"] * 4, descriptions=list("abcd"), **UTM
    )
    cut = read_picture(source).cropped(5, 7, 20, 30)
    write_picture(tmp_path / "cut.tif", cut)
    with rasterio.open(source) as whole, rasterio.open(tmp_path / "cut.tif") as found:
        assert np.array_equal(found.read(), whole.read()[:, 5:25, 7:37])
        assert found.dtypes == whole.dtypes
        assert found.nodata == 3
        assert found.units == whole.units
        assert found.descriptions == ("a", "b", "c", "d")
        assert found.crs == whole.crs
        assert tuple(found.transform)[:6] == (10, 0, 500_070, 0, -10, 4_999_950)


def test_a_jpeg_is_written_as_png_with_the_same_pixels(tmp_path):
    """Grey: decoders differ in how they widen colours."""
    pixels = np.random.default_rng(2).integers(0, 256, (32, 48)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one.jpg", quality=80)
    picture = read_picture(tmp_path / "one.jpg")
    assert written_suffix(picture, ".jpg") == ".png"
    write_picture(tmp_path / "one.png", picture)
    written, decoded = (np.asarray(Image.open(tmp_path / name)).astype(int) for name in ("one.png", "one.jpg"))
    assert np.abs(written - decoded).max() <= 1
    assert (written != pixels).any()


def test_sixteen_bit_png_keeps_its_bits(tmp_path):
    pixels = np.random.default_rng(3).integers(0, 65_536, (32, 48)).astype(np.uint16)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    write_picture(tmp_path / "two.png", read_picture(tmp_path / "one.png"))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "two.png")), pixels)


def test_missing_pixels_without_any_means_to_say_so_are_an_error_and_never_a_number(tmp_path):
    picture = read_picture(write_raster(tmp_path / "one.tif", ramp(np.uint8)))
    gone = np.zeros(picture.size, dtype=bool)
    gone[0, 0] = True
    with pytest.raises(ValueError, match="no number, alpha or mask"):
        without(picture, picture.stored, gone)


def test_distance_on_the_ground_is_not_the_maps():
    """EPSG:3395 stretches by 1 / cos(latitude), to a third of a per cent (the ellipsoid)."""
    lat = np.radians(34.0)
    y = 6_378_137 * np.log(np.tan(np.pi / 4 + lat / 2))
    ground = Georeference(crs_wkt=rasterio.CRS.from_epsg(3395).to_wkt(), transform=(10.0, 0.0, -1.3e7, 0.0, -10.0, y))
    assert ground.distance_m((0, 0), (0, 100)) == pytest.approx(1000 * np.cos(lat), rel=4e-3)


def test_grids_that_differ_by_whole_pixels_are_one_lattice_others_are_not():
    wkt = rasterio.CRS.from_epsg(32633).to_wkt()
    base = Georeference(crs_wkt=wkt, transform=UTM["transform"])
    assert base.offset_to(base.window(3, -2), (100, 100)) == (3, -2)
    assert base.offset_to(base.window(0, 0.5), (100, 100)) is None
    coarser = Georeference(crs_wkt=wkt, transform=(20.0, 0.0, 500_000.0, 0.0, -20.0, 5_000_000.0))
    assert base.offset_to(coarser, (100, 100)) is None
    other = Georeference(crs_wkt=rasterio.CRS.from_epsg(32634).to_wkt(), transform=UTM["transform"])
    assert base.offset_to(other, (100, 100)) is None
