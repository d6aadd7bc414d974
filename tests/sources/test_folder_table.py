"""One's own rasters described by a scenes.csv."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from rasterio.transform import Affine

from sar1m.sources.folder.source import FolderSource
from sar1m.store.errors import SourceError
from support.folders import CHIP, CONFIG, OPTICAL_ROW, SAR_ROW, read_all, write_table
from support.geotiffs import speckled_db, write_tiff


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.fixture
def tabled(tmp_path, rng):
    """A folder with files that rows may name; returns it and the linear power in vv.tif and vh.tif."""
    power = (10 ** (speckled_db(rng, 2, 80, 80) / 10)).astype(np.float32)
    power[0, :5] = 0.0
    power[0, 5] = -1e-4
    write_tiff(tmp_path / "vv.tif", power[:1], CHIP)
    write_tiff(tmp_path / "vh.tif", power[1:], CHIP)
    write_tiff(tmp_path / "rgb.tif", np.full((3, 80, 80), 2000, dtype=np.uint16), CHIP)
    return tmp_path, power


def test_a_table_joins_files_and_applies_units(tabled):
    root, power = tabled
    table = write_table(
        root,
        [
            SAR_ROW | {"datetime": "2023-06-10T16:04:18Z", "platform": "sentinel-1a", "labels": "field; road"},
            SAR_ROW
            | {"path": "vh.tif", "bands": "VH", "datetime": "2023-06-10T18:04:18+02:00", "platform": "SENTINEL-1A"},
            OPTICAL_ROW,
        ],
    )
    for path in (table, root):
        ((candidate, pixels),) = read_all(FolderSource(path))
        assert candidate.sar.polarisations == ("VV", "VH")
        assert candidate.sar.acquired == datetime(2023, 6, 10, 16, 4, 18, tzinfo=UTC)
        assert candidate.labels == ("field", "road")
        assert candidate.optical.offset_applied == -1000
        np.testing.assert_allclose(pixels.optical, 0.1, rtol=1e-6)  # (2000 - 1000) / 10000
        assert np.isnan(pixels.sar[0, :5]).all()  # zeros of linear power are no data
        np.testing.assert_array_equal(pixels.sar[0, 5:], power[0, 5:])  # negative power stays
        np.testing.assert_array_equal(pixels.sar[1], power[1])


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([SAR_ROW | {"unit": "dB/m"}], "line 2: column unit has 'dB/m'; expected one of linear, db"),
        ([SAR_ROW | {"quantity": ""}], "column quantity has ''; expected one of sigma0, gamma0"),
        ([SAR_ROW | {"bands": "VV VH"}], r"names 2 band\(s\), but vv.tif has 1"),
        ([SAR_ROW | {"bands": "V1"}], "column bands has V1; expected names from VV"),
        ([SAR_ROW | {"kind": "radar"}], "column kind has 'radar'; expected sar, optical, scl"),
        ([SAR_ROW | {"pair": "a b"}], "'a b' cannot be an identifier"),
        ([SAR_ROW | {"pair": ".."}], r"'\.\.' cannot be an identifier"),
        ([SAR_ROW | {"pair": ".a"}], r"'\.a' cannot be an identifier.*no dot first"),
        ([SAR_ROW | {"pair": "a\u2028b"}], r"'a\\u2028b' cannot be an identifier"),
        ([SAR_ROW | {"pair": "a\nb"}], r"'a\\nb' cannot be an identifier"),
        ([SAR_ROW | {"pair": "n" * 300}], r"cannot be an identifier"),
        ([SAR_ROW | {"path": "../vv.tif"}], "leads out of"),
        ([SAR_ROW | {"path": "/vsicurl/http://x/vv.tif"}], "not a name relative"),
        ([SAR_ROW | {"path": "https://x/vv.tif"}], "not a name relative"),
        ([SAR_ROW | {"path": "absent.tif"}], "absent.tif: cannot be read: No such file"),
        ([SAR_ROW | {"datetime": "10.06.2023"}], "no date and time"),
        ([SAR_ROW | {"scale": "0"}], r"column scale has '0'; expected a number \(scale: not 0\)"),
        ([SAR_ROW | {"relative_orbit": "176"}], "expected 1 to 175"),
        ([SAR_ROW, SAR_ROW], "line 3: gives a band of this pair a second time"),
        ([SAR_ROW, SAR_ROW | {"path": "vh.tif", "bands": "VH", "unit": "db"}], "line 3: differs from the earlier row"),
        ([OPTICAL_ROW], "the pair 'p' has no row of kind sar"),
        ([SAR_ROW, OPTICAL_ROW | {"baseline": ""}], "line 3: unit dn needs baseline or offset"),
        ([SAR_ROW, OPTICAL_ROW | {"baseline": "510"}], "expected a form such as 04.00"),
        ([SAR_ROW | {"colour": "red"}], r"unknown: colour\. Columns there are: pair, kind"),
        ([{"pair": "p", "kind": "sar"}], "Missing: path"),
        ([SAR_ROW, SAR_ROW | {"pair": "q", "quantity": "gamma0"}], "Mixed SAR quantity: vv.tif has sigma0"),
        ([SAR_ROW, SAR_ROW | {"pair": "q", "path": "vh.tif", "bands": "VH"}], "Mixed polarisations: vv.tif has VV"),
    ],
)
def test_a_wrong_table_names_line_and_column(tabled, rows, found):
    root, _ = tabled
    with pytest.raises(SourceError, match=found):
        list(FolderSource(write_table(root, rows)).candidates(CONFIG))


def test_decibels_called_power_and_power_called_decibels_are_caught(tabled, rng):
    root, _ = tabled
    write_tiff(root / "db.tif", speckled_db(rng, 1, 80, 80), CHIP)
    write_tiff(root / "dn.tif", np.full((80, 80), 150, dtype=np.uint16), CHIP)
    for row, found in {
        ("db.tif", "linear"): r"db\.tif, VV: described as linear power, but its median is -1",
        ("dn.tif", "db"): r"dn\.tif, VV: described as decibels, but its median is \d+\.\d dB",
    }.items():
        source = FolderSource(write_table(root, [SAR_ROW | {"path": row[0], "unit": row[1]}]))
        (candidate,) = source.candidates(CONFIG)
        with pytest.raises(SourceError, match=found):
            source.read(candidate, CONFIG)


def test_a_raster_without_system_or_renamed_is_refused_through_the_table(tabled):
    root, power = tabled
    write_tiff(root / "bare.tif", power[:1], transform=Affine(10, 0, 0, 0, -10, 0))
    (root / "vrt.tif").write_text('<VRTDataset rasterXSize="8" rasterYSize="8"></VRTDataset>')
    for name, found in {"bare.tif": "no coordinate reference system", "vrt.tif": "not a TIFF"}.items():
        with pytest.raises(SourceError, match=found):
            list(FolderSource(write_table(root, [SAR_ROW | {"path": name}])).candidates(CONFIG))


def test_land_cover_with_named_classes(tabled):
    root, _ = tabled
    cover = np.where(np.indices((80, 80))[0] < 40, 80, 40).astype(np.uint8)
    write_tiff(root / "cover.tif", cover, CHIP)
    row = {"pair": "p", "kind": "land_cover", "path": "cover.tif", "classes": "80=Water 40=crop_land"}
    ((_, pixels),) = read_all(FolderSource(write_table(root, [SAR_ROW, row])))
    np.testing.assert_array_equal(pixels.water, cover == 80)
    assert pixels.land_cover_names == ((80, "Water"), (40, "crop land"))
    with pytest.raises(SourceError, match="column classes has 'water'; expected a form such as 1=water"):
        list(FolderSource(write_table(root, [SAR_ROW, row | {"classes": "water"}])).candidates(CONFIG))


@pytest.mark.parametrize("column", ["product_id", "path"])
def test_a_baseline_and_a_name_that_says_harmonised_are_refused_until_the_offset_is_stated(tabled, column):
    root, _ = tabled
    (root / "rgb.tif").rename(root / "S2_SR_HARMONIZED.tif")
    row = OPTICAL_ROW | {"path": "S2_SR_HARMONIZED.tif"}
    row |= {"product_id": "S2_SR_HARMONIZED"} if column == "product_id" else {}
    write_table(root, [SAR_ROW, row])
    with pytest.raises(
        SourceError, match=r"line 3: states baseline 05\.10, but its name 'S2_SR_HARMONIZED.*column offset"
    ):
        FolderSource(root).pairs()
    for offset, expected in (("0", 0.2), ("-0.1", 0.1)):
        write_table(root, [SAR_ROW, row | {"offset": offset}])
        ((_, pixels),) = read_all(FolderSource(root))
        np.testing.assert_allclose(pixels.optical, expected, rtol=1e-6)
