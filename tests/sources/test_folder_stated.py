"""What the files of a folder say of their values, against what the folder's description says: one rule for all."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import rasterio

from sar1m.sources.folder.source import FolderSource
from sar1m.store.errors import SourceError
from support.folders import CHIP, CONFIG, OPTICAL_ROW, SAR_ROW, read_all, write_modalities, write_table
from support.geotiffs import write_tiff

POWER = np.full((80, 80), 0.1, np.float32)
DN = np.full((3, 80, 80), 2310, np.uint16)
RGB = OPTICAL_ROW | {"path": "rgb.tif"}


def words(path, **stated):
    with rasterio.open(path, "r+") as dataset:
        for name, value in stated.items():
            setattr(dataset, name, value)
    return path


def pair(root, *, sar=None, optical=None):
    """A folder of one pair; sar and optical: cells of the table beside the usual ones."""
    write_table(root, [SAR_ROW | (sar or {}), RGB | (optical or {})])
    return FolderSource(root)


@pytest.fixture
def root(tmp_path):
    write_tiff(tmp_path / "vv.tif", POWER, CHIP)
    write_tiff(tmp_path / "rgb.tif", DN, CHIP)
    return tmp_path


def values(source):
    ((_, pixels),) = read_all(source)
    return float(np.nanmedian(pixels.sar)), float(np.nanmedian(pixels.optical))


@pytest.mark.parametrize(
    ("cells", "scales", "offsets"),
    [
        ({"unit": "reflectance", "baseline": ""}, 1e-4, -0.1),
        ({"unit": "reflectance", "baseline": "", "scale": "0.0001"}, 1e-4, -0.1),
        ({"unit": "dn", "baseline": ""}, 1e-4, -0.1),
        ({"unit": "dn", "baseline": "05.10"}, 1e-4, -0.1),
        ({"unit": "dn", "baseline": "", "offset": "-0.1"}, 1e-4, -0.1),
        ({"unit": "dn", "baseline": "05.10"}, 1.0, 0.0),
    ],
)
def test_scale_and_offset_of_the_file_fill_what_the_table_leaves_open(root, cells, scales, offsets):
    words(root / "rgb.tif", scales=(scales,) * 3, offsets=(offsets,) * 3)
    assert values(pair(root, optical=cells))[1] == pytest.approx(0.131, rel=1e-5)


@pytest.mark.parametrize(
    ("cells", "scale", "offset", "found"),
    [
        ({"unit": "dn", "baseline": "05.10"}, 1e-4, 0.0, r"the file states offset 0\.0, .*line 3 states offset -0\.1"),
        ({"unit": "dn", "baseline": "02.08"}, 1e-4, -0.1, r"the file states offset -0\.1, .*line 3 states offset 0\.0"),
        ({"unit": "reflectance", "scale": "0.001"}, 1e-4, 0.0, r"states scale 0\.0001, .*line 3 states scale 0\.001"),
        ({"unit": "rgb8", "scale": "1"}, 0.5, 0.0, r"states scale 0\.5, .*line 3 states scale 1\.0"),
    ],
)
def test_a_table_and_a_file_that_disagree_are_both_named(root, cells, scale, offset, found):
    words(root / "rgb.tif", scales=(scale,) * 3, offsets=(offset,) * 3)
    with pytest.raises(SourceError, match=rf"rgb\.tif, band 1: {found}|rgb\.tif, band 1: the file {found}"):
        read_all(pair(root, optical=cells))


def test_power_stored_as_integers_has_the_scale_of_its_file(root):
    write_tiff(root / "vv.tif", np.full((80, 80), 1000, np.uint16), CHIP)
    words(root / "vv.tif", scales=(1e-4,))
    assert values(pair(root))[0] == pytest.approx(0.1, rel=1e-5)


@pytest.mark.parametrize(
    ("unit", "described", "fits"),
    [
        ("dB", "db", True),
        ("decibel", "db", True),
        ("1", "linear", True),
        ("dB", "linear", False),
        ("linear", "db", False),
        ("amplitude", "linear", False),
    ],
)
def test_the_unit_of_a_sar_file_must_be_that_of_the_table(root, unit, described, fits):
    write_tiff(root / "vv.tif", np.full((80, 80), -10.0 if described == "db" else 0.1, np.float32), CHIP)
    words(root / "vv.tif", units=(unit,))
    source = pair(root, sar={"unit": described})
    if fits:
        assert values(source)[0] == pytest.approx(0.1, rel=1e-5)
    else:
        with pytest.raises(SourceError, match=rf"vv\.tif, band 1: its unit is '{unit}'"):
            read_all(source)


@pytest.mark.parametrize("inside", [True, False])
def test_half_a_chip_under_a_mask_is_missing_and_part_of_the_items_digest(root, inside):
    ((before, _),) = read_all(pair(root))
    mask = np.full((80, 80), 255, np.uint8)
    mask[:, 40:] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside), rasterio.open(root / "rgb.tif", "r+") as dataset:
        dataset.write_mask(mask)
    ((candidate, pixels),) = read_all(pair(root))
    assert np.isnan(pixels.optical).mean() == 0.5
    assert candidate.optical.digest != before.optical.digest
    assert candidate.sar.digest == before.sar.digest


def test_a_mask_beside_a_link_is_refused_where_the_file_has_none(root):
    (root / "kept").mkdir()
    shutil.move(root / "rgb.tif", root / "kept/other.tif")
    (root / "rgb.tif").symlink_to("kept/other.tif")
    assert np.isfinite(values(pair(root))).all()
    write_tiff(root / "rgb.tif.msk", np.full((80, 80), 255, np.uint8))
    with pytest.raises(SourceError, match=r"rgb\.tif\.msk: stands beside a link"):
        read_all(pair(root))


def test_chips_by_folder_names_heed_their_files_too(tmp_path):
    write_modalities(tmp_path, np.random.default_rng(2), ("one",))
    optical = tmp_path / "S2L2A/one.tif"
    with rasterio.open(optical) as dataset:
        stored = dataset.read()
    words(optical, scales=(2e-4,) * 12, offsets=(-0.2,) * 12)
    ((candidate, pixels),) = read_all(FolderSource(tmp_path), CONFIG)
    np.testing.assert_allclose(pixels.optical[0], stored[3, 0:80, 0:80] * 2e-4 - 0.2, rtol=1e-4, atol=1e-6)
    assert candidate.optical.offset_applied == -1000
    words(tmp_path / "S1RTC/one.tif", units=("linear", "linear"))
    with pytest.raises(SourceError, match=r"one\.tif, band 1: its unit is 'linear'.*decibels"):
        read_all(FolderSource(tmp_path), CONFIG)
