"""What a raster says of its own values is heeded, agrees with the description, or is refused with both sources named.

Oracles: the values and masks that the test wrote, and GDAL's own masks where GDAL reads them.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

from sar1m.io.header import read_header
from sar1m.io.raster import ReadRule, raster_digest, read_window
from sar1m.io.raster_open import RangedTiff, TiffBytes
from sar1m.io.stated import Stated, Unit, is_nodata, reconciled, unit_factor
from sar1m.store.errors import SourceError
from support.geotiffs import utm_grid, write_tiff

GRID = utm_grid(6, 8)
HOLE = np.zeros((6, 8), dtype=bool)
HOLE[1:4, 2:5] = True
VALUES = np.arange(1, 49, dtype=np.float32).reshape(6, 8)
FLOAT_MAX = float(np.finfo(np.float32).max)


def pixels(path: Path, *, unit: Unit = "as_is", described: Stated | None = None, band: int = 1) -> np.ndarray:
    rule = ReadRule(resampling="nearest", unit=unit, described=described or Stated(by="scenes.csv line 2"))
    return read_window(path, GRID, bands=(band,), rule=rule).pixels[0]


def with_words(path: Path, values: np.ndarray, *, nodata: float | None = None, **words: object) -> Path:
    """A file that states scales, offsets and units of its bands. words: attributes of a rasterio dataset."""
    write_tiff(path, values, GRID, nodata=nodata)
    with rasterio.open(path, "r+") as dataset:
        for name, value in words.items():
            setattr(dataset, name, value)
    return path


def aux(path: Path, *bands: str) -> Path:
    """An .aux.xml beside a raster with the given elements of each band."""
    listed = "".join(f'<PAMRasterBand band="{n}">{text}</PAMRasterBand>' for n, text in enumerate(bands, start=1))
    beside = path.with_name(path.name + ".aux.xml")
    beside.write_text(f"<PAMDataset>{listed}</PAMDataset>", encoding="utf-8")
    return beside


@pytest.mark.parametrize(
    ("dtype", "stored", "nodata"),
    [
        ("float32", -FLOAT_MAX, -3.40282e38),
        ("float32", FLOAT_MAX, 3.4028235e38),
        ("float32", FLOAT_MAX, 3.403e38),
        ("float32", 2.0**127, 1.70141e38),  # ArcGIS
        ("float32", 9.969209968386869e36, 9.96921e36),  # netCDF
        ("float32", -9999.9, -9999.9),
        ("float32", -1e20, -1e20),
        ("float32", math.inf, math.inf),
        ("float64", -FLOAT_MAX, -3.40282e38),
        ("float64", -np.finfo(np.float64).max, -1.79769e308),
        ("int16", -32768, -32768.0),
        ("uint16", 65535, 65535.0),
        ("int32", -2147483648, -2147483648.0),
    ],
)
def test_a_nodata_text_means_the_number_that_was_rounded_to_it_and_no_other(dtype, stored, nodata):
    kind = np.dtype(dtype).type
    beside = [kind(5), kind(0), np.nextafter(kind(100), kind(101)) if dtype.startswith("float") else kind(6)]
    np.testing.assert_array_equal(
        is_nodata(np.array([kind(stored), *beside], dtype=dtype), nodata), [True, False, False, False]
    )


@pytest.mark.parametrize(
    ("dtype", "nodata", "value"),
    [
        ("uint16", -9999.0, 55537),
        ("uint8", 255.5, 255),
        ("uint8", 256.0, 0),
        ("float32", -9999.0, -9998.9),
        ("float32", 0.1, 0.1001),
    ],
)
def test_a_value_that_is_not_the_nodata_stays(dtype, nodata, value):
    assert not is_nodata(np.array([value], dtype=dtype), nodata).any()


@pytest.mark.parametrize(
    ("field", "mine", "other", "held"),
    [
        ("scale", 1e-4, 1e-4 * (1 + 1e-8), 1e-4),
        ("offset", -0.1, float(np.float32(-0.1)), -0.1),
        ("nodata", -3.40282e38, -FLOAT_MAX, -3.40282e38),
        ("nodata", math.nan, -9999.0, -9999.0),
        ("nodata", 0.0, 0.0, 0.0),
        ("unit", "dB", "decibel", "dB"),
        ("unit", "none", "metre", "metre"),
        ("unit", "metre", None, "metre"),
        ("nodata", None, -9999.0, -9999.0),
    ],
)
def test_statements_that_agree_or_stand_alone_hold(field, mine, other, held):
    first, second = Stated(by="the file", **{field: mine}), Stated(by="item a", **{field: other})
    assert getattr(reconciled(first, second, "x.tif"), field) == held


@pytest.mark.parametrize(
    ("field", "mine", "other"),
    [
        ("scale", 1e-4, 1e-3),
        ("scale", 1e-4, 1.0),
        ("offset", -0.1, 0.0),
        ("nodata", 0.0, -9999.0),
        ("nodata", 65535.0, 65534.0),
        ("nodata", -2147483648.0, -2147483647.0),
        ("unit", "dB", "linear"),
        ("unit", "ft", "m"),
        ("unit", "counts", "m"),
    ],
)
def test_statements_that_disagree_are_refused_with_both_named(field, mine, other):
    first, second = Stated(by="the file", **{field: mine}), Stated(by="item a", **{field: other})
    with pytest.raises(SourceError, match=rf"x\.tif.*the file states {field} .*item a states {field} "):
        reconciled(first, second, "x.tif")


@pytest.mark.parametrize(
    ("unit", "wanted", "factor"),
    [
        ("m", "m", 1.0),
        ("Foot", "m", 0.3048),
        ("US survey foot", "m", 0.3048006096),
        ("cm", "m", 0.01),
        ("Decibels", "db", 1.0),
        ("%", "reflectance", 0.01),
        ("", "linear", 1.0),
        ("anything", "as_is", 1.0),
    ],
)
def test_a_unit_comes_to_a_factor(unit, wanted, factor):
    assert unit_factor(Stated(by="the file", unit=unit), wanted, "x.tif") == pytest.approx(factor, rel=1e-9)


@pytest.mark.parametrize(
    ("unit", "wanted"),
    [
        ("dB", "linear"),
        ("1", "db"),
        ("dn", "linear"),
        ("amplitude", "linear"),
        ("K", "reflectance"),
        ("dB", "m"),
        ("degree", "m"),
        ("dn", "reflectance"),
    ],
)
def test_a_unit_of_something_else_is_refused(unit, wanted):
    with pytest.raises(SourceError, match=rf"x\.tif: its unit is '{unit}'"):
        unit_factor(Stated(by="the file", unit=unit), wanted, "x.tif")


def test_scale_and_offset_of_each_band_are_applied_where_nothing_else_states_them(tmp_path):
    stored = np.stack([np.full((6, 8), 2310), np.full((6, 8), 2310)]).astype(np.uint16)
    path = with_words(tmp_path / "s.tif", stored, scales=(1e-4, 1e-3), offsets=(-0.1, 0.0))
    np.testing.assert_allclose(pixels(path, unit="reflectance"), 0.131, rtol=1e-6)
    np.testing.assert_allclose(pixels(path, band=2), 2.31, rtol=1e-6)
    np.testing.assert_allclose(pixels(path, described=Stated(by="t", scale=1e-4, offset=-0.1)), 0.131, rtol=1e-6)
    with pytest.raises(SourceError, match=r"s\.tif, band 1: the file states scale 0\.0001, scenes\.csv line 2 states"):
        pixels(path, described=Stated(by="scenes.csv line 2", scale=1.0))


def test_a_described_nodata_counts_where_the_file_states_none(tmp_path):
    stored = np.where(HOLE, -9999, VALUES).astype(np.float32)
    path = write_tiff(tmp_path / "n.tif", stored, GRID)
    np.testing.assert_array_equal(np.isnan(pixels(path, described=Stated(by="item", nodata=-9999.0))), HOLE)
    stated = write_tiff(tmp_path / "m.tif", stored, GRID, nodata=-9999)
    with pytest.raises(SourceError, match=r"the file states nodata -9999\.0, item states nodata 0\.0"):
        pixels(stated, described=Stated(by="item", nodata=0.0))


def test_the_largest_float_rounded_in_the_header_is_missing_as_gdal_has_it(tmp_path):
    path = write_tiff(
        tmp_path / "r.tif", np.where(HOLE, -FLOAT_MAX, VALUES).astype(np.float32), GRID, nodata=-FLOAT_MAX
    )
    text = b"-3.4028234663852886e+38"
    assert text in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(text, b"-3.40282e+38".ljust(len(text), b"\0")))
    with rasterio.open(path) as dataset:
        oracle = dataset.read_masks(1) == 0
    np.testing.assert_array_equal(oracle, HOLE)
    np.testing.assert_array_equal(np.isnan(pixels(path)), HOLE)


def masked_inside(path: Path) -> None:
    write_tiff(path, VALUES, GRID)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(np.where(HOLE, 0, 255).astype(np.uint8))


def masked_beside(path: Path) -> None:
    write_tiff(path, VALUES, GRID)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(np.where(HOLE, 0, 255).astype(np.uint8))
    assert path.with_name(path.name + ".msk").is_file()


def masked_beside_and_inside_nodata(path: Path) -> None:
    """The mask covers one column of the hole, nodata the rest."""
    left = HOLE & (np.arange(8) == 2)
    write_tiff(path, np.where(HOLE & ~left, -9999, VALUES).astype(np.float32), GRID, nodata=-9999)
    write_tiff(path.with_name(path.name + ".msk"), np.where(left, 0, 255).astype(np.uint8))


def with_alpha(path: Path) -> None:
    """Opaque, transparent and half transparent."""
    alpha = np.where(HOLE, np.where(np.arange(8) == 2, 100, 0), 255).astype(np.uint8)
    write_tiff(path, np.stack([VALUES.astype(np.uint8), alpha]), GRID, photometric="minisblack", alpha="yes")


def with_alpha_of_16_bits(path: Path) -> None:
    write_tiff(path, np.stack([VALUES, np.where(HOLE, 0, 65535)]).astype(np.uint16), GRID, alpha="yes")


def nodata_in_aux(path: Path) -> None:
    write_tiff(path, np.where(HOLE, -99, VALUES).astype(np.float32), GRID)
    aux(path, "<NoDataValue>-99</NoDataValue>")


@pytest.mark.parametrize(
    "write",
    [masked_inside, masked_beside, masked_beside_and_inside_nodata, with_alpha, with_alpha_of_16_bits, nodata_in_aux],
)
def test_pixels_that_a_mask_leaves_out_are_missing_and_never_bleed_into_others(tmp_path, write):
    path = tmp_path / "chip.tif"
    write(path)
    np.testing.assert_array_equal(np.isnan(pixels(path)), HOLE)
    np.testing.assert_array_equal(pixels(path)[~HOLE], VALUES[~HOLE])
    half = utm_grid(5, 7, left_m=500_005.0, top_m=4_999_995.0)  # half a pixel off: means of the four around
    moved = read_window(path, half, bands=(1,), rule=ReadRule(resampling="bilinear")).pixels[0]
    low, high = (
        extreme(np.stack([known[:-1, :-1], known[1:, :-1], known[:-1, 1:], known[1:, 1:]]), axis=0)
        for extreme, known in ((np.min, np.where(HOLE, np.inf, VALUES)), (np.max, np.where(HOLE, -np.inf, VALUES)))
    )
    there = ~np.isnan(moved)
    assert there.any()
    assert np.all((moved >= low - 1e-3)[there] & (moved <= high + 1e-3)[there])


@pytest.mark.parametrize("write", [masked_inside, with_alpha])
def test_masks_in_a_file_count_where_its_bytes_come_from_an_archive_or_a_service(tmp_path, write):
    path = tmp_path / "chip.tif"
    write(path)
    for source in (
        TiffBytes(name="chip.tif", content=path.read_bytes()),
        RangedTiff(name="chip.tif", open=lambda: path.open("rb", buffering=0)),
    ):
        found = read_window(source, GRID, bands=(1,), rule=ReadRule(resampling="nearest")).pixels[0]
        np.testing.assert_array_equal(np.isnan(found), HOLE)


def test_nodata_and_scale_may_differ_by_band(tmp_path):
    path = write_tiff(tmp_path / "two.tif", np.stack([VALUES, VALUES]), GRID)
    aux(path, "<NoDataValue>1</NoDataValue>", "<NoDataValue>2</NoDataValue><Scale>0.5</Scale>")
    for band, nodata, scale in ((1, 1, 1.0), (2, 2, 0.5)):
        expected = np.where(nodata == VALUES, np.nan, VALUES * scale)
        np.testing.assert_array_equal(pixels(path, band=band), expected)


def test_a_band_described_as_values_that_the_file_calls_alpha_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    with_alpha(path)
    assert read_header(path).alpha == (2,)
    with pytest.raises(SourceError, match=r"a\.tif: band 2 is described as a band of values, but .* alpha"):
        pixels(path, band=2)


def test_an_alpha_band_of_ones_is_refused(tmp_path):
    path = write_tiff(tmp_path / "a.tif", np.stack([VALUES, ~HOLE]).astype(np.uint8), GRID, alpha="yes")
    with pytest.raises(SourceError, match=r"a\.tif: the alpha band 2 holds no more than 1, where 255 means opaque"):
        pixels(path)


def test_a_mask_of_another_size_or_another_name_is_refused(tmp_path):
    path = write_tiff(tmp_path / "chip.tif", VALUES, GRID)
    mask = write_tiff(tmp_path / "chip.tif.msk", np.full((3, 4), 255, np.uint8))
    with pytest.raises(SourceError, match=r"chip\.tif\.msk: a mask of 3 x 4 px"):
        pixels(path)
    mask.rename(tmp_path / "chip.msk")
    with pytest.raises(SourceError, match=r"chip\.msk: a mask beside chip\.tif, but not under the name"):
        pixels(path)


def test_an_aux_file_is_heeded_and_compared_with_the_file_and_statistics_are_nothing(tmp_path):
    stored = np.full((6, 8), 2310, np.uint16)
    path = write_tiff(tmp_path / "chip.tif", stored, GRID)
    bare = raster_digest(path)
    aux(path, "<Histograms/><Metadata><MDI key='STATISTICS_MEAN'>2310</MDI></Metadata><Scale>1</Scale>")
    assert raster_digest(path) == bare
    aux(path, "<Offset>-0.1</Offset><Scale>0.0001</Scale><UnitType>reflectance</UnitType>")
    np.testing.assert_allclose(pixels(path, unit="reflectance"), 0.131, rtol=1e-6)
    assert raster_digest(path) != bare
    stated = with_words(tmp_path / "other.tif", stored, scales=(0.001,), offsets=(0.0,))
    aux(stated, "<Scale>0.0001</Scale>")
    with pytest.raises(SourceError, match=r"the file states scale 0\.001, .*other\.tif\.aux\.xml states scale 0\.0001"):
        read_header(stated)


@pytest.mark.parametrize(
    "text",
    [
        "<PAMDataset><PAMRasterBand",
        "<PAMDataset><PAMRasterBand band='x'/></PAMDataset>",
        "",
        "<!DOCTYPE a><PAMDataset/>",
    ],
)
def test_an_aux_file_that_cannot_be_understood_is_refused_by_name(tmp_path, text):
    path = write_tiff(tmp_path / "chip.tif", VALUES, GRID)
    path.with_name("chip.tif.aux.xml").write_text(text)
    with pytest.raises(SourceError, match=r"chip\.tif\.aux\.xml"):
        read_header(path)


@pytest.mark.parametrize(
    "element", ["<Scale>0</Scale>", "<Scale>x</Scale>", "<Offset>inf</Offset>", "<NoDataValue>none</NoDataValue>"]
)
def test_a_number_of_an_aux_file_that_is_none_is_refused(tmp_path, element):
    path = write_tiff(tmp_path / "chip.tif", VALUES, GRID)
    aux(path, element)
    with pytest.raises(SourceError, match=r"chip\.tif\.aux\.xml: .* of band 1"):
        read_header(path)


def test_the_digest_of_a_raster_changes_with_the_mask_beside_it(tmp_path):
    path = tmp_path / "chip.tif"
    masked_beside(path)
    first = raster_digest(path)
    write_tiff(path.with_name("chip.tif.msk"), np.full((6, 8), 255, np.uint8))
    assert raster_digest(path) != first


def test_colours_other_than_alpha_stay_bands_of_values(tmp_path):
    path = write_tiff(tmp_path / "rgb.tif", np.stack([VALUES] * 3).astype(np.uint8), GRID, photometric="rgb")
    with rasterio.open(path) as dataset:
        assert dataset.colorinterp[2] is ColorInterp.blue
    np.testing.assert_array_equal(pixels(path, band=3), VALUES)
