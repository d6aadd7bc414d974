"""What a raster file says of its values is heeded or refused: by rasterio, Pillow and the arrays written."""

import os
import struct
import zlib

import numpy as np
import pytest
import rasterio
from PIL import Image

from sar1m.store.errors import ConfigError, SourceError
from sarmae.evaluate.datasets.class_masks import NO_DATA, Palettes, decide_meaning, read_mask
from sarmae.evaluate.datasets.pictures import read_grey
from sarmae.evaluate.datasets.rasters import read_scene
from sarmae.evaluate.labelled_images import IGNORED

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")  # of what the tests write
SIDE = 40
HOLE = (slice(3, 9), slice(5, 20))


@pytest.fixture
def grey():
    return np.random.default_rng(3).gamma(1, 30, (SIDE, SIDE)).clip(1, 250).astype(np.uint8)


def db(count=2):
    return np.random.default_rng(4).normal(-12, 3, (count, SIDE, SIDE)).astype(np.float32)


def tif(path, bands, *, change=lambda raster: None, **profile):
    shape = {"count": len(bands), "height": SIDE, "width": bands.shape[2], "dtype": bands.dtype.name}
    with rasterio.open(path, "w", driver="GTiff", **{**shape, **profile}) as raster:
        raster.write(bands)
        change(raster)
    return path


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


def holed(values, fill):
    changed = values.copy()
    changed[..., HOLE[0], HOLE[1]] = fill
    return changed


def hole_mask():
    found = np.zeros((SIDE, SIDE), dtype=bool)
    found[HOLE] = True
    return found


# ---- depth and sign, as stored ----


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64", "int64", "uint64"]
)
def test_depth_and_sign_are_as_stored(tmp_path, dtype):
    lowest = 0 if dtype.startswith("u") else -100
    values = np.random.default_rng(1).integers(lowest, 100, (1, SIDE, SIDE)).astype(dtype)
    image = read_grey(tif(tmp_path / "x.tif", values))
    assert image.depth == dtype
    assert image.pixels.dtype == dtype
    np.testing.assert_array_equal(image.pixels, values[0])


def png16(path, values):
    """An RGB PNG of 16 bits, by hand: Pillow writes none. Source: PNG specification."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return path


def test_sixteen_bits_of_three_equal_channels_keep_their_low_bytes(tmp_path):
    values = np.random.default_rng(1).integers(0, 65536, (SIDE, SIDE), dtype=np.uint16)
    image = read_grey(png16(tmp_path / "rgb.png", np.stack([values] * 3, axis=2)))
    np.testing.assert_array_equal(image.pixels, values)
    values[0, 0] = 1
    odd = np.stack([values] * 3, axis=2)
    odd[0, 0, 1] = 2  # one step of 65535: no rounding of a JPEG
    with pytest.raises(SourceError, match=r"odd\.png: a coloured picture, its channels differ by up to 1;"):
        read_grey(png16(tmp_path / "odd.png", odd))


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "jpg"])
def test_every_format_gives_what_pillow_gives(tmp_path, grey, suffix):
    path = save(tmp_path / f"x.{suffix}", grey)
    np.testing.assert_array_equal(read_grey(path).pixels, np.array(Image.open(path)))
    wrong = path.rename(tmp_path / "named.tif")
    np.testing.assert_array_equal(read_grey(wrong).pixels, np.array(Image.open(wrong)))


# ---- no data ----


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [
        ("uint8", 0), ("uint16", 0), ("uint16", 65535), ("int16", -9999), ("int16", -32768), ("float32", -9999.0),
        ("float32", float("nan")), ("float32", -3.40282e38), ("float64", -9999.0), ("float64", -1.7976931348623157e308),
    ],
)  # fmt: skip
def test_a_declared_nodata_value_is_no_data(tmp_path, dtype, nodata):
    fill = np.finfo(np.float32).min if nodata == -3.40282e38 else nodata
    values = holed(np.random.default_rng(2).integers(1, 100, (1, SIDE, SIDE)).astype(dtype), fill)
    path = tif(tmp_path / "x.tif", values, nodata=nodata)
    image = read_grey(path)
    np.testing.assert_array_equal(np.isnan(image.pixels), hole_mask())
    assert image.depth == dtype  # a set may have files with and without holes


@pytest.mark.parametrize("internal", [True, False])
@pytest.mark.parametrize("nodata", [None, 7])
def test_masks_inside_and_beside_a_file_are_no_data(tmp_path, grey, internal, nodata):
    grey[grey == 7] = 8
    grey[0, 0] = 7
    profile = {} if nodata is None else {"nodata": nodata}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal):
        path = tif(tmp_path / "x.tif", grey[None], change=lambda r: r.write_mask(~hole_mask()), **profile)
    assert (tmp_path / "x.tif.msk").exists() != internal
    expected = hole_mask()
    expected[0, 0] = nodata is not None
    np.testing.assert_array_equal(np.isnan(read_grey(path).pixels), expected)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "tRNS", "palette", "rgb tRNS", "tif"])
def test_what_is_transparent_is_no_data(tmp_path, grey, mode):
    grey = np.where(hole_mask(), 255, grey)
    alpha = np.where(hole_mask(), 0, 255).astype(np.uint8)
    path = tmp_path / ("x.tif" if mode == "tif" else "x.png")
    if mode == "LA":
        save(path, np.stack([grey, alpha], axis=2))
    elif mode == "RGBA":
        save(path, np.stack([grey, grey, grey, alpha], axis=2))
    elif mode == "tRNS":
        save(path, grey, transparency=255)
    elif mode == "rgb tRNS":
        save(path, np.stack([grey] * 3, axis=2), transparency=(255, 255, 255))
    elif mode == "palette":
        picture = Image.fromarray(grey).convert("P")
        picture.putpalette(np.repeat(np.arange(256, dtype=np.uint8), 3).tobytes())
        picture.save(path, transparency=255)
    else:
        tif(path, np.stack([grey, alpha]), photometric="MINISBLACK", alpha="YES")
    pixels = read_grey(path).pixels
    np.testing.assert_array_equal(np.isnan(pixels), hole_mask())
    np.testing.assert_array_equal(pixels[~hole_mask()], grey[~hole_mask()])


def test_half_transparent_pixels_are_refused(tmp_path, grey):
    path = save(tmp_path / "x.png", np.stack([grey, np.full_like(grey, 100)], axis=2))
    with pytest.raises(SourceError, match=r"x\.png: half transparent pixels"):
        read_grey(path)


def test_a_file_without_any_data_is_refused(tmp_path, grey):
    with pytest.raises(SourceError, match=r"x\.tif: no pixel has data"):
        read_grey(tif(tmp_path / "x.tif", np.zeros_like(grey)[None], nodata=0))


def test_a_block_that_was_never_written_is_refused_unless_a_nodata_value_fills_it(tmp_path, grey):
    options = {"tiled": True, "blockxsize": 16, "blockysize": 16, "sparse_ok": True}
    shape = {"driver": "GTiff", "count": 1, "height": SIDE, "width": SIDE, "dtype": "uint8"}
    for nodata in (None, 0):
        with rasterio.open(tmp_path / f"{nodata}.tif", "w", nodata=nodata, **shape, **options) as raster:
            raster.write(grey[:16], 1, window=((0, 16), (0, SIDE)))
    with pytest.raises(SourceError, match=r"None\.tif: the block at row 16, column 0 was never written"):
        read_grey(tmp_path / "None.tif")
    assert np.isnan(read_grey(tmp_path / "0.tif").pixels[16:]).all()


def test_scale_offset_and_unit_of_a_file_are_heeded(tmp_path):
    power_db = db(2)
    stored = np.rint(power_db * 100).astype(np.int16)

    def state(raster):
        raster.scales, raster.offsets, raster.units = (0.01, 0.01), (0.0, 0.0), ("dB", "dB")

    path = tif(tmp_path / "x.tif", stored, change=state)
    scene = read_scene({"": path})
    assert (scene.units, scene.channels) == ("dB", ("VV", "VH"))
    np.testing.assert_allclose(scene.pixels, power_db, atol=0.006)
    with pytest.raises(SourceError, match="a mask with a scale"):
        read_mask(tif(tmp_path / "mask.tif", stored[:1], change=lambda r: setattr(r, "offsets", (3.0,))))


@pytest.mark.parametrize(
    ("aux", "message"),
    [
        ("<UnitType>metre</UnitType>", "in 'metre' by its own words"),
        ("<UnitType>linear</UnitType>", None),
        ("<NoDataValue>7</NoDataValue>", None),
    ],
)
def test_an_aux_xml_beside_a_file_is_heeded(tmp_path, aux, message):
    path = tif(tmp_path / "x.tif", np.where(hole_mask(), 7, 0.05).astype(np.float32)[None].repeat(2, 0))
    bands = "".join(f'<PAMRasterBand band="{band}">{aux}</PAMRasterBand>' for band in (1, 2))
    (tmp_path / "x.tif.aux.xml").write_text(f"<PAMDataset>{bands}</PAMDataset>")
    if message:
        with pytest.raises(SourceError, match=message):
            read_scene({"": path})
    elif "linear" in aux:
        np.testing.assert_allclose(read_scene({"": path}).pixels[0, 0, 0], 10 * np.log10(0.05), rtol=1e-6)
    else:
        np.testing.assert_array_equal(np.isnan(read_scene({"": path}, "linear").pixels[0]), hole_mask())


# ---- several bands, several pages, other drivers ----


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        (np.ones((2, SIDE, SIDE), np.uint8), r"x\.tif: 2 bands of uint8 \(without descriptions\); one band expected"),
        (np.ones((2, SIDE, SIDE), np.float32), r"x\.tif: 2 bands of float32"),
        (np.ones((4, SIDE, SIDE), np.uint16), r"x\.tif: 4 bands of uint16"),
        (np.ones((1, SIDE, SIDE), np.complex64), r"x\.tif: values of complex64"),
        (np.ones((2, SIDE, SIDE), np.complex128), r"x\.tif: values of complex128"),
    ],
)
def test_several_bands_where_one_is_meant_are_refused_by_name(tmp_path, bands, message):
    path = tif(tmp_path / "x.tif", bands, photometric="MINISBLACK")
    with pytest.raises(SourceError, match=message):
        read_grey(path)


def test_pages_beyond_the_first_are_not_left_out_in_silence(tmp_path, grey):
    Image.fromarray(grey).save(tmp_path / "x.tif", save_all=True, append_images=[Image.fromarray(grey // 2)])
    with pytest.raises(SourceError, match=r"x\.tif: 2 pages"):
        read_grey(tmp_path / "x.tif")


def test_a_virtual_raster_under_another_name_is_never_opened(tmp_path, grey):
    save(tmp_path / "secret.png", grey)
    text = (
        f'<VRTDataset rasterXSize="{SIDE}" rasterYSize="{SIDE}"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f"<SourceFilename>{tmp_path}/secret.png</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    (tmp_path / "x.tif").write_text(text)
    with pytest.raises(SourceError, match=r"x\.tif: cannot be read as a picture \(begins with b'<VRTData'"):
        read_grey(tmp_path / "x.tif")
    for name in ("y.png.msk", "y.png.ovr"):
        save(tmp_path / "y.png", grey)
        (tmp_path / name).write_text(text)
        with pytest.raises(SourceError, match=rf"{name}: no TIFF"):
            read_grey(tmp_path / "y.png")
        (tmp_path / name).unlink()
    (tmp_path / "y.msk").write_text(text)
    with pytest.raises(SourceError, match=r"y\.msk: a mask that is not read"):
        read_grey(tmp_path / "y.png")


# ---- damage ----


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("name", ["8.png", "16.png", "x.jpg", "x.bmp", "plain.tif", "packed.tif", "progressive.jpg"])
def test_a_file_cut_short_is_an_error_and_no_half_grey_picture(tmp_path, grey, name, share):
    path = tmp_path / name
    options = (
        {"progressive": True} if "progressive" in name else {"compression": "tiff_lzw"} if "packed" in name else {}
    )
    save(path, grey.astype(np.uint16) * 200 if name == "16.png" else grey, **options)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(SourceError, match=name.replace(".", r"\.")):
        read_grey(path)


def test_a_changed_bit_of_a_png_is_found(tmp_path, grey):
    path = save(tmp_path / "x.png", grey)
    whole = path.read_bytes()
    for at in range(8, len(whole), 97):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(SourceError, match=r"x\.png: cannot be read as a picture"):
            read_grey(path)


def test_interlaced_and_one_bit_pngs_are_whole(tmp_path, grey):
    options = {"driver": "PNG", "count": 1, "height": SIDE, "width": SIDE - 3, "dtype": "uint8"}
    with rasterio.open(tmp_path / "bit.png", "w", nbits=1, **options) as raster:
        raster.write(grey[:, 3:] // 200, 1)
    np.testing.assert_array_equal(read_grey(tmp_path / "bit.png").pixels, grey[:, 3:] // 200)


@pytest.mark.parametrize("size", [(1 << 17, 1 << 17), (1, 1 << 30), (1 << 20, 300)])
def test_a_header_that_claims_a_giant_is_refused_before_memory_is_taken(tmp_path, grey, size):
    rows, cols = size
    path = save(tmp_path / "x.png", grey)
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", cols, rows)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"x\.png"):
        read_grey(path)
    giant = {"driver": "GTiff", "count": 1, "height": rows, "width": cols, "dtype": "uint8", "sparse_ok": True}
    with rasterio.open(tmp_path / "x.tif", "w", tiled=True, bigtiff="YES", **giant):
        pass
    with pytest.raises(SourceError, match=r"x\.tif"):
        read_grey(tmp_path / "x.tif")


def test_a_pipe_and_a_device_are_refused(tmp_path):
    os.mkfifo(tmp_path / "x.png")
    (tmp_path / "y.png").symlink_to("/dev/zero")
    for name in ("x.png", "y.png"):
        with pytest.raises(SourceError, match=f"{name}: is a (pipe|device); a regular file expected"):
            read_grey(tmp_path / name)


# ---- units of scenes ----


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (10 ** (db() / 10), "Is it linear power"),
        (10 ** (db() / 20), "Is it linear power"),
        (np.where(np.arange(SIDE) == 3, -1e-4, 10 ** (db() / 10)).astype(np.float32), "2.5% below 0"),
        (10 ** (db() / 10) - 0.06, "Is it linear power"),  # noise removed: half of it lies below 0
        (np.random.default_rng(1).normal(0, 1, (2, SIDE, SIDE)).astype(np.float32), "Is it linear power"),
        (holed(db(), -9999), "holds -9999, which is no backscatter in dB"),
        (holed(db(), 1e20), r"holds 1e\+20"),
    ],
)
def test_floats_that_are_no_decibels_are_refused(tmp_path, values, message):
    with pytest.raises(SourceError, match=message):
        read_scene({"": tif(tmp_path / "x.tif", values.astype(np.float32))})


def test_a_value_that_32_bits_cannot_hold_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"y\.tif: holds 1e\+300, more than 32 bits hold"):
        read_grey(tif(tmp_path / "y.tif", np.where(hole_mask(), 1e300, 1.0)[None]))


@pytest.mark.parametrize("values", [db(), db() + 9, holed(db(), np.nan), holed(db(), -np.inf), db().astype(np.float64)])
def test_decibels_are_read(tmp_path, values):
    scene = read_scene({"": tif(tmp_path / "x.tif", values)})
    assert scene.units == "dB"
    np.testing.assert_array_equal(scene.pixels, np.where(np.isinf(values), np.nan, values).astype(np.float32))


def test_units_that_the_user_states_count(tmp_path):
    power = (10 ** (db() / 10)).astype(np.float32)
    power[0, 0, 0] = 0
    path = tif(tmp_path / "x.tif", power)
    scene = read_scene({"": path}, "linear")
    np.testing.assert_allclose(scene.pixels[:, 1:], db()[:, 1:], rtol=1e-4)
    assert np.isnan(scene.pixels[0, 0, 0])
    bright = tif(tmp_path / "bright.tif", db() + 20)
    with pytest.raises(SourceError, match="units = "):
        read_scene({"": bright})
    np.testing.assert_array_equal(read_scene({"": bright}, "dB").pixels, db() + 20)
    said = tif(tmp_path / "said.tif", db(), change=lambda raster: setattr(raster, "units", ("dB", "dB")))
    with pytest.raises(ConfigError, match=r"said\.tif: in 'dB' by its own words, but units = 'linear'"):
        read_scene({"": said}, "linear")


@pytest.mark.parametrize(
    ("described", "channels"),
    [
        (("VV", "VH"), ("VV", "VH")),
        (("VH", "VV"), ("VH", "VV")),
        (("Sigma0_VH_db", "Sigma0_VV_db"), ("VH", "VV")),
        (("Band 1", "Band 2"), ("VV", "VH")),
        (("", ""), ("VV", "VH")),
        (("VV", "angle"), None),
        (("VV", "VV"), None),
        (("height", "slope"), None),
    ],
)
def test_bands_have_the_polarisation_that_their_descriptions_say(tmp_path, described, channels):
    path = tif(tmp_path / "x.tif", db(), change=lambda raster: setattr(raster, "descriptions", described))
    if channels is None:
        with pytest.raises(SourceError, match=r"x\.tif: 2 float bands described as"):
            read_scene({"": path})
    else:
        assert read_scene({"": path}).channels == channels


def test_a_file_whose_name_and_bands_disagree_is_refused(tmp_path):
    one = tif(tmp_path / "x_VV.tif", db(1), change=lambda raster: setattr(raster, "descriptions", ("VH",)))
    with pytest.raises(SourceError, match=r"x_VV\.tif: 1 float band described as 'VH'; one band of VV"):
        read_scene({"VV": one})
    with pytest.raises(SourceError, match=r"y_VV\.tif: 2 float bands"):
        read_scene({"VV": tif(tmp_path / "y_VV.tif", db(2))})


# ---- masks ----


def test_a_mask_with_alpha_has_one_channel_and_no_label_where_it_is_transparent(tmp_path):
    classes = np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE) % 3
    alpha = np.where(hole_mask(), 0, 255).astype(np.uint8)
    mask = read_mask(save(tmp_path / "x.png", np.stack([classes, alpha], axis=2)))
    np.testing.assert_array_equal(mask.labels, np.where(hole_mask(), NO_DATA, classes.astype(np.int64)))


@pytest.mark.parametrize(("dtype", "nodata"), [("int16", -9999), ("uint8", 0), ("float32", -9999), ("float32", np.nan)])
def test_a_declared_nodata_value_of_a_mask_is_no_class(tmp_path, dtype, nodata):
    classes = np.ones((1, SIDE, SIDE), dtype=dtype)
    mask = read_mask(tif(tmp_path / "x.tif", holed(classes, nodata), nodata=nodata))
    assert mask.present == {1}
    np.testing.assert_array_equal(mask.labels == NO_DATA, hole_mask())


@pytest.mark.parametrize("values", [1e300, -1e300, np.inf, 0.5])
def test_numbers_that_are_no_class_are_refused(tmp_path, values):
    with pytest.raises(SourceError, match=r"x\.tif: (a mask with the value|holds -?1e\+300)"):
        read_mask(tif(tmp_path / "x.tif", holed(np.ones((1, SIDE, SIDE)), values)))


def test_masks_that_were_jpegs_are_refused(tmp_path, grey):
    with pytest.raises(SourceError, match=r"x\.jpg: a mask in JPEG"):
        read_mask(save(tmp_path / "x.jpg", grey))
    with pytest.raises(SourceError, match=r"x\.tif: a mask in JPEG"):
        read_mask(save(tmp_path / "x.tif", grey, compression="jpeg"))


def colours(*corner):
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    picture[:4] = corner
    return picture


@pytest.mark.parametrize("first", ["black", "red"])
def test_black_alone_is_a_colour_where_other_files_of_the_set_have_colours(tmp_path, first):
    paths = [save(tmp_path / "black.png", colours(0, 0, 0)), save(tmp_path / "red.png", colours(255, 0, 0))]
    paths = paths if first == "black" else paths[::-1]
    masks = [read_mask(path) for path in paths]
    meaning = decide_meaning(paths, [(mask.coloured, mask.present) for mask in masks], {})
    found = {label for mask in masks for label in np.unique(meaning.of(mask)).tolist()}
    assert found == {1 << 24, (1 << 24) + 0xFF0000}


def test_grey_of_three_channels_is_numbers_and_mixes_with_numbers(tmp_path):
    paths = [save(tmp_path / "a.png", colours(1, 1, 1)), save(tmp_path / "b.png", colours(1, 1, 1)[..., 0] * 2)]
    masks = [read_mask(path) for path in paths]
    meaning = decide_meaning(paths, [(mask.coloured, mask.present) for mask in masks], {})
    assert [set(np.unique(meaning.of(mask)).tolist()) for mask in masks] == [{0, 1}, {0, 2}]


def test_numbers_beside_colours_are_refused_naming_both(tmp_path):
    paths = [save(tmp_path / "n.png", colours(1, 1, 1)[..., 0]), save(tmp_path / "c.png", colours(9, 1, 1))]
    found = [(mask.coloured, mask.present) for mask in map(read_mask, paths)]
    with pytest.raises(SourceError, match=r"n\.png: a mask of numbers, but .*c\.png holds colours"):
        decide_meaning(paths, found, {})


@pytest.mark.parametrize(
    ("classes", "counted"),
    [({}, {0}), ({"0": "land", "255": "water"}, {0, 255}), ({"255": ""}, {0, 255}), ({"-1": "sea"}, {-1, 0})],
)
def test_minus_one_and_255_count_where_classes_names_them(tmp_path, classes, counted):
    labels = np.zeros((1, SIDE, SIDE), np.int16)
    labels[0, 0], labels[0, 1] = 255, -1
    path = tif(tmp_path / "x.tif", labels)
    mask = read_mask(path)
    meaning = decide_meaning([path], [(mask.coloured, mask.present)], classes)
    assert set(np.unique(meaning.of(mask)).tolist()) - {IGNORED} == counted - {IGNORED}
    assert meaning.named(mask.present, coloured=False) == counted


def test_a_number_with_two_colours_in_the_palettes_of_a_set_is_refused_where_it_occurs(tmp_path):
    palettes = Palettes()
    for name, colours_of, numbers in (
        ("a", [0, 0, 0, 255, 0, 0], (0, 1)),
        ("b", [0, 0, 0, 9, 9, 9], (0, 0)),
        ("c", [0, 0, 0, 9, 9, 9], (0, 1)),
    ):
        picture = Image.fromarray(np.array([numbers] * 2, np.uint8), mode="P")
        picture.putpalette(colours_of)
        picture.save(tmp_path / f"{name}.png")
        if name == "c":
            with pytest.raises(SourceError, match=r"c\.png: 1 is #090909 by its palette, in .*a\.png it is #ff0000"):
                palettes.add(tmp_path / "c.png", read_mask(tmp_path / "c.png"))
        else:
            palettes.add(tmp_path / f"{name}.png", read_mask(tmp_path / f"{name}.png"))
