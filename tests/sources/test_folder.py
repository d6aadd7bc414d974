"""One's own rasters, described in three ways."""

from __future__ import annotations

import csv
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio.warp
from rasterio.transform import Affine

from geotiffs import SHARED, speckled_db, utm_grid, write_tiff
from sar1m.config import BuildConfig, GridConfig, PixelsConfig
from sar1m.core.grid import cell_names, cells_at, centres_lonlat
from sar1m.errors import ConfigError, SourceError
from sar1m.sources.folder import FolderSource

CHIP = utm_grid(80, 80)
CONFIG = BuildConfig(grid=GridConfig(patch_px=64, patches_per_side=4, halo_px=8))


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def read_all(source: FolderSource, config: BuildConfig = CONFIG):
    return [(candidate, source.read(candidate, config)) for candidate in source.candidates(config)]


def write_modalities(
    root: Path, rng: np.random.Generator, names: tuple[str, ...], sar: str = "S1RTC"
) -> dict[str, Any]:
    """Chips as TerraMesh publishes them; returns what was written by modality and name."""
    written: dict[str, Any] = {}
    for number, name in enumerate(names):
        grid = utm_grid(80, 80, left_m=500_000.0 + 5000 * number)
        layers = {
            sar: (speckled_db(rng, 2, 80, 80).astype(np.float64), {"datetime": "2021-07-21T16:40:10.000000000"}),
            "S2L2A": (rng.integers(1, 5000, (12, 80, 80)).astype(np.int16), {}),
            "S2RGB": (rng.integers(0, 255, (3, 80, 80)).astype(np.uint8), {"datetime": "2021-07-23T13:22:41"}),
            "LULC": (rng.integers(1, 10, (80, 80)).astype(np.uint8), {}),
            "DEM": (np.zeros((80, 80), dtype=np.int16), {}),
        }
        for modality, (values, tags) in layers.items():
            write_tiff(root / modality / f"{name}.tif", values, grid, tags=tags)
            written[f"{modality}/{name}"] = values
    return written


# ---- folders by modality ----


def test_modalities_become_pairs_with_the_chips_own_values(tmp_path, rng):
    written = write_modalities(tmp_path, rng, ("b_1", "a-2"))
    pairs = read_all(FolderSource(tmp_path))
    assert [c.item_id for c, _ in pairs] == ["folder_a-2", "folder_b_1"]
    for candidate, pixels in pairs:
        name = candidate.site
        assert [p.name for p in candidate.patches] == [name]
        assert (candidate.grid.rows, candidate.grid.top_m) == (64, 5_000_000.0 - 80)
        assert candidate.cell == cell_names(*cells_at(*centres_lonlat([candidate.grid])))[0]
        assert (candidate.sar.quantity, candidate.sar.polarisations) == ("gamma0", ("VV", "VH"))
        assert candidate.sar.acquired == datetime(2021, 7, 21, 16, 40, 10, tzinfo=UTC)
        assert candidate.sar.orbit_state == "ascending"  # 17:40 local solar time
        assert candidate.optical.acquired == datetime(2021, 7, 23, 13, 22, 41, tzinfo=UTC)  # from the picture beside it
        np.testing.assert_allclose(pixels.sar, 10 ** (written[f"S1RTC/{name}"] / 10), rtol=1e-6)
        numbers = written[f"S2L2A/{name}"] / 10_000
        np.testing.assert_allclose(pixels.optical, numbers[[3, 2, 1]], rtol=1e-6)
        np.testing.assert_allclose(pixels.registration_optical, numbers[[1, 2, 3, 7]], rtol=1e-6)
        np.testing.assert_array_equal(pixels.land_cover, written[f"LULC/{name}"])
        np.testing.assert_array_equal(pixels.water, written[f"LULC/{name}"] == 1)
        assert dict(pixels.land_cover_names)[9] == "rangeland"
        assert pixels.flags == ()
        assert pixels.cloud is None


def test_order_and_keys_do_not_depend_on_the_file_system(tmp_path, rng):
    write_modalities(tmp_path / "one", rng, ("c", "a", "b"))
    for path in sorted((tmp_path / "one").rglob("*.tif"), reverse=True):
        target = tmp_path / "two" / path.relative_to(tmp_path / "one")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    one, two = (list(FolderSource(tmp_path / name).candidates(CONFIG)) for name in ("one", "two"))
    assert [c.site for c in one] == ["a", "b", "c"]
    assert [(c.item_id, c.sar, c.optical) for c in one] == [(c.item_id, c.sar, c.optical) for c in two]


def test_the_digests_follow_pixels_and_masks(tmp_path, rng):
    write_modalities(tmp_path, rng, ("a",))
    (before,) = FolderSource(tmp_path).candidates(CONFIG)
    write_tiff(tmp_path / "LULC/a.tif", np.ones((80, 80), dtype=np.uint8), CHIP)
    (cover,) = FolderSource(tmp_path).candidates(CONFIG)
    assert cover.sar.digest != before.sar.digest
    assert cover.optical.digest == before.optical.digest
    write_tiff(tmp_path / "SCL/a.tif", np.full((80, 80), 4, dtype=np.uint8), CHIP)
    (masked,) = FolderSource(tmp_path).candidates(CONFIG)
    assert masked.optical.digest != before.optical.digest


def test_scene_classes_become_cloud_and_snow_and_unknown_is_not_clear(tmp_path, rng):
    write_modalities(tmp_path, rng, ("a",))
    scl = np.tile(np.arange(12, dtype=np.uint8), (80, 7))[:, :80]
    write_tiff(tmp_path / "SCL/a.tif", scl, CHIP)
    ((_, pixels),) = read_all(FolderSource(tmp_path))
    assert pixels.cloud_source == "scl"
    assert set(np.unique(scl[pixels.cloud])) == {0, 3, 8, 9, 10}
    assert set(np.unique(scl[pixels.snow])) == {11}


def test_a_cloud_mask_with_other_numbers_is_refused(tmp_path, rng):
    write_modalities(tmp_path, rng, ("a",))
    mask = np.zeros((80, 80), dtype=np.uint8)
    mask[:10] = 1
    write_tiff(tmp_path / "cloudmask/a.tif", mask, CHIP)
    ((candidate, pixels),) = read_all(FolderSource(tmp_path))
    np.testing.assert_array_equal(pixels.cloud, mask == 1)
    mask[0, 0] = 4
    write_tiff(tmp_path / "cloudmask/a.tif", mask, CHIP)
    with pytest.raises(SourceError, match=r"cloudmask/a\.tif: a cloud mask holds 0 .* found 4"):
        FolderSource(tmp_path).read(candidate, CONFIG)


def test_without_reflectance_the_pictures_are_display(tmp_path, rng):
    written = write_modalities(tmp_path, rng, ("a",))
    shutil.rmtree(tmp_path / "S2L2A")
    ((candidate, pixels),) = read_all(FolderSource(tmp_path))
    assert (candidate.optical.quantity, candidate.optical.offset_applied) == ("display", None)
    np.testing.assert_array_equal(pixels.optical, written["S2RGB/a"])  # zeros are black, not missing
    np.testing.assert_array_equal(pixels.registration_optical, pixels.optical[[2, 1, 0]])


def test_a_chip_without_partner_is_unpaired(tmp_path, rng):
    write_modalities(tmp_path, rng, ("a", "b"))
    (tmp_path / "S2L2A/b.tif").unlink()
    (_, _), (candidate, pixels) = read_all(FolderSource(tmp_path))
    assert candidate.optical is None
    assert pixels.optical is None


def test_gamma_and_sigma_in_one_folder_are_refused_by_name(tmp_path, rng):
    write_modalities(tmp_path, rng, ("a",))
    write_modalities(tmp_path, rng, ("b",), sar="S1GRD")
    with pytest.raises(SourceError, match=r"Mixed SAR quantity: S1RTC/a\.tif has gamma0, S1GRD/b\.tif has sigma0"):
        list(FolderSource(tmp_path).candidates(CONFIG))


def test_wrong_band_counts_and_missing_bands_are_refused(tmp_path, rng):
    write_modalities(tmp_path, rng, ("a",))
    with pytest.raises(SourceError, match=r"S2L2A/a\.tif: band B10 of pixels.optical_bands is missing; it has B01"):
        list(
            FolderSource(tmp_path).candidates(
                CONFIG.model_copy(update={"pixels": PixelsConfig(optical_bands=("B10",))})
            )
        )
    write_tiff(tmp_path / "S2L2A/a.tif", np.ones((13, 80, 80), dtype=np.int16), CHIP)
    with pytest.raises(SourceError, match=r"S2L2A/a\.tif: has 13 band\(s\); a file in S2L2A holds 12"):
        list(FolderSource(tmp_path).candidates(CONFIG))


def test_links_out_of_the_folder_are_refused(tmp_path, rng):
    write_modalities(tmp_path / "in", rng, ("a",))
    outside = tmp_path / "outside.tif"
    (tmp_path / "in/S1RTC/a.tif").rename(outside)
    (tmp_path / "in/S1RTC/a.tif").symlink_to(outside)
    with pytest.raises(SourceError, match=r"leads out of .*by \.\. or a link"):
        list(FolderSource(tmp_path / "in").candidates(CONFIG))


def test_empty_pixels_and_infinities_are_told(tmp_path, rng):
    write_modalities(tmp_path, rng, ("a",))
    values = np.full((2, 80, 80), np.nan, dtype=np.float32)
    values[1, 3, 3] = -np.inf
    write_tiff(tmp_path / "S1RTC/a.tif", values, CHIP)
    ((_, pixels),) = read_all(FolderSource(tmp_path))
    assert np.isnan(pixels.sar).all()
    assert pixels.flags == ("non_finite_input",)


def test_a_partner_on_another_grid_is_warped_and_flagged(tmp_path, rng):
    written = write_modalities(tmp_path, rng, ("a",))
    smooth = np.broadcast_to(np.add.outer(np.arange(80), 3 * np.arange(80)) + 1000.0, (12, 80, 80))
    moved = utm_grid(80, 80, left_m=500_005.0)  # half a pixel to the east
    write_tiff(tmp_path / "S2L2A/a.tif", smooth.astype(np.int16), moved)
    ((_, pixels),) = read_all(FolderSource(tmp_path))
    assert pixels.flags == ("resampled_optical",)
    expected = (smooth[:3] - 1.5) / 10_000
    np.testing.assert_allclose(pixels.optical[:, 3:-3, 3:-3], expected[:, 3:-3, 3:-3], atol=2e-6)
    np.testing.assert_allclose(pixels.sar, 10 ** (written["S1RTC/a"] / 10), rtol=1e-6)


def test_an_empty_folder_lists_the_three_descriptions(tmp_path):
    with pytest.raises(
        SourceError, match=r"STAC items .* scenes\.csv with the columns pair, kind, path.* S1RTC or S1GRD"
    ):
        list(FolderSource(tmp_path).candidates(CONFIG))
    with pytest.raises(SourceError, match="no such folder"):
        list(FolderSource(tmp_path / "absent").candidates(CONFIG))


# ---- the table ----


def write_table(root: Path, rows: list[dict[str, str]]) -> Path:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with (root / "scenes.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)
    return root / "scenes.csv"


SAR_ROW = {"pair": "p", "kind": "sar", "path": "vv.tif", "bands": "VV", "unit": "linear", "quantity": "sigma0"}
OPTICAL_ROW = {
    "pair": "p",
    "kind": "optical",
    "path": "rgb.tif",
    "bands": "B04 B03 B02",
    "unit": "dn",
    "baseline": "05.10",
}


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
        ("dn.tif", "db"): r"dn\.tif, VV: described as decibels, but the median is over 15 dB",
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


# ---- STAC ----


def write_item(root: Path, name: str, when: str, assets: dict[str, Any], **properties: Any) -> Path:
    path = root / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    properties |= {"datetime": when}
    item = {"type": "Feature", "stac_version": "1.0.0", "id": path.stem, "properties": properties, "assets": assets}
    path.write_text(json.dumps(item))
    return path


@pytest.fixture
def catalogue(tmp_path, rng):
    """A SAR item of 80 px and three optical ones: the same day but apart, three days off, a year off."""
    power = (10 ** (speckled_db(rng, 2, 80, 80) / 10)).astype(np.float32)
    for name, plane in zip(("vv", "vh"), power, strict=True):
        write_tiff(tmp_path / f"s1/{name}.tif", plane, CHIP)
    write_item(
        tmp_path,
        "s1/S1A_IW_GRDH_1SDV_20230610T160418_20230610T160443_048923_05E23A_rtc",
        "2023-06-10T16:04:18Z",
        {"vv": {"href": "./vv.tif"}, "vh": {"href": "vh.tif"}, "thumbnail": {"href": "https://x/y.png"}},
        **{
            "sar:product_type": "RTC",
            "platform": "SENTINEL-1A",
            "sat:orbit_state": "ascending",
            "sat:relative_orbit": 174,
        },
    )
    for number, (name, when, left_m) in enumerate(
        (("apart", "2023-06-10", 510_000.0), ("near", "2023-06-13", 500_100.0), ("year", "2022-06-10", 500_000.0))
    ):
        grid = utm_grid(100, 100, left_m=left_m, top_m=5_000_100.0)
        for band in ("red", "green", "blue"):
            write_tiff(tmp_path / f"s2/{name}/{band}.tif", np.full((100, 100), 1500 + number, dtype=np.uint16), grid)
        scl = utm_grid(50, 50, gsd_m=20.0, left_m=left_m, top_m=5_000_100.0)
        write_tiff(tmp_path / f"s2/{name}/scl.tif", np.full((50, 50), 8 if number == 1 else 4, dtype=np.uint8), scl)
        assets: dict[str, Any] = {band: {"href": f"{band}.tif"} for band in ("red", "green", "blue")}
        assets["scl"] = {"href": "scl.tif"}
        write_item(tmp_path, f"s2/{name}/{name}", f"{when}T10:00:00Z", assets, **{"s2:processing_baseline": "05.09"})
    return tmp_path, power


def test_items_are_paired_by_overlap_then_time(catalogue):
    root, power = catalogue
    ((candidate, pixels),) = read_all(FolderSource(root))
    assert candidate.optical.product_id == "near"
    assert (candidate.optical.processing_baseline, candidate.optical.offset_applied) == ("05.09", -1000)
    assert (candidate.sar.quantity, candidate.sar.platform, candidate.sar.datatake) == (
        "gamma0",
        "sentinel-1a",
        "05E23A",
    )
    assert (candidate.sar.orbit_state, candidate.sar.relative_orbit) == ("ascending", 174)
    np.testing.assert_array_equal(pixels.sar, power)
    inside = pixels.optical[:, :, 10:]
    np.testing.assert_allclose(inside, 0.0501, rtol=1e-6)
    assert np.isnan(pixels.optical[:, :, :10]).all()
    assert pixels.cloud.all()  # class 8, and outside the mask nobody knows
    assert "resampled_scl" in pixels.flags


@pytest.mark.parametrize(
    ("edit", "found"),
    [
        ({"href": "https://example.com/vv.tif"}, "not a name relative"),
        ({"href": "/vsicurl/x.tif"}, "not a name relative"),
        ({"href": "../../outside.tif"}, "leads out of"),
        ({"href": "absent.tif"}, "No such file"),
        ({}, "asset vv has no href"),
        ({"href": "vv.tif", "raster:bands": [{"unit": "DN"}]}, "unit 'dn' of asset vv; expected dB or linear"),
        ({"href": "vv.tif", "raster:bands": [{"scale": "2"}]}, "scale of asset vv is '2'"),
    ],
)
def test_a_wrong_asset_names_its_item(catalogue, edit, found):
    root, _ = catalogue
    write_item(
        root, "s1/other", "2023-06-10T16:04:18Z", {"vv": edit, "vh": {"href": "vh.tif"}}, **{"sar:product_type": "RTC"}
    )
    with pytest.raises(SourceError, match=found):
        list(FolderSource(root).candidates(CONFIG))


def test_items_must_tell_quantity_baseline_and_a_usable_id(catalogue):
    root, _ = catalogue
    sar = {"vv": {"href": "vv.tif"}}
    path = write_item(root, "s1/other", "2023-06-10T16:04:18Z", sar)
    with pytest.raises(SourceError, match="item other: cannot tell sigma nought from gamma nought"):
        list(FolderSource(root).candidates(CONFIG))
    path.unlink()
    write_item(
        root, "s2/near/near", "2023-06-13T10:00:00Z", {b: {"href": f"{b}.tif"} for b in ("red", "green", "blue")}
    )
    with pytest.raises(SourceError, match="item near: integer reflectance without offset and baseline"):
        list(FolderSource(root).candidates(CONFIG))
    document = json.loads((root / "s2/near/near.json").read_text()) | {"id": "../../etc"}
    (root / "s2/near/near.json").write_text(json.dumps(document))
    with pytest.raises(SourceError, match="cannot be an identifier"):
        list(FolderSource(root).candidates(CONFIG))


def test_decibel_assets_and_stated_scale(catalogue, rng):
    root, _ = catalogue
    shutil.rmtree(root / "s1")
    decibels = speckled_db(rng, 1, 80, 80)
    write_tiff(root / "s1/vv.tif", np.rint(decibels * 100).astype(np.int16), CHIP)
    bands = [{"unit": "dB", "scale": 0.01, "offset": 0}]
    write_item(
        root,
        "s1/x",
        "2023-06-10T16:04:18Z",
        {"vv": {"href": "vv.tif", "raster:bands": bands}},
        **{"sar1m:quantity": "sigma0"},
    )
    ((candidate, pixels),) = read_all(FolderSource(root))
    assert candidate.sar.quantity == "sigma0"
    np.testing.assert_allclose(10 * np.log10(pixels.sar), decibels, atol=0.0051)


def test_items_without_sar_are_refused(catalogue):
    root, _ = catalogue
    shutil.rmtree(root / "s1")
    with pytest.raises(SourceError, match="none of its STAC items has an asset vv"):
        list(FolderSource(root).candidates(CONFIG))


# ---- layouts ----


def test_a_large_raster_is_cut_by_cells_that_meet_it(tmp_path, rng):
    scene = utm_grid(1200, 1300, left_m=499_003.0, top_m=5_003_007.0)
    decibels = speckled_db(rng, 1, 1200, 1300)
    write_tiff(tmp_path / "vv.tif", decibels, scene)
    write_table(tmp_path, [SAR_ROW | {"unit": "db"}])
    config = BuildConfig(grid=GridConfig(patch_px=256, patches_per_side=4, halo_px=16))
    source = FolderSource(tmp_path)
    found = list(source.candidates(config))
    assert len(found) == len({c.cell for c in found}) >= 4
    assert [c.item_id for c in found] == [f"folder_p_{c.cell}" for c in found]
    covered = np.zeros((1200, 1300), dtype=bool)
    for candidate in found:
        assert [p.name for p in candidate.patches][:2] == [f"{candidate.cell}_0_0", f"{candidate.cell}_1_0"]
        assert (candidate.grid.rows, len(candidate.patches)) == (1024, 16)
        if candidate.grid.epsg == scene.epsg:
            row = round((scene.top_m - candidate.grid.top_m) / 10)
            col = round((candidate.grid.left_m - scene.left_m) / 10)
            covered[max(row, 0) : max(row + 1024, 0), max(col, 0) : max(col + 1024, 0)] = True
    assert covered.mean() > 0.9  # cells leave strips where they are turned against grid north
    pixels = source.read(found[0], config)
    assert pixels.sar.shape == (1, 1056, 1056)
    assert "resampled_sar" in pixels.flags
    assert 0.05 < np.nanmean(pixels.sar) < 0.07


def test_layout_can_be_forced_and_must_fit(tmp_path, rng):
    write_modalities(tmp_path, rng, ("a",))
    cells = CONFIG.model_copy(update={"grid": GridConfig(layout="majortom")})
    assert {len(c.patches) for c in FolderSource(tmp_path).candidates(cells)} == {16}
    between = CONFIG.model_copy(update={"grid": CONFIG.grid.model_copy(update={"layout": "majortom"})})
    with pytest.raises(ConfigError, match=r"a: no block of patches meets it: blocks of 256 px"):
        list(FolderSource(tmp_path).candidates(between))
    several = CONFIG.model_copy(update={"grid": GridConfig(patch_px=32, patches_per_side=4, halo_px=8)})
    (candidate,) = FolderSource(tmp_path).candidates(several)
    assert [p.name for p in candidate.patches] == ["a_0_0", "a_1_0", "a_0_1", "a_1_1"]
    big = CONFIG.model_copy(update={"grid": GridConfig(patch_px=80, patches_per_side=4, halo_px=8)})
    with pytest.raises(ConfigError, match=r"a: 80 x 80 px .* largest patch here is 64 px"):
        list(FolderSource(tmp_path).candidates(big))


def test_degrees_become_the_rectangle_inside_in_utm(tmp_path):
    """Near the edge of a zone at 60 degrees north a map of degrees stands 2.5 degrees askew on the UTM grid."""
    lon_step, lat_step = 18e-5, 9e-5
    power = np.full((900, 900), 0.1, dtype=np.float32)
    write_tiff(tmp_path / "vv.tif", power, crs="EPSG:4326", transform=Affine(lon_step, 0, 17.8, 0, -lat_step, 60.0))
    write_table(tmp_path, [SAR_ROW])
    config = BuildConfig(grid=GridConfig(layout="chips", patch_px=32, halo_px=0))
    ((candidate, pixels),) = read_all(FolderSource(tmp_path), config)
    assert candidate.grid.epsg == 32633
    assert candidate.grid.left_m % 10 == 0
    assert min(candidate.grid.rows, candidate.grid.cols) >= 800
    assert pixels.flags == ("resampled_sar",)
    np.testing.assert_allclose(pixels.sar, 0.1, rtol=1e-5)  # nothing missing: the rectangle lies inside


# ---- real data ----


def test_real_chips_build_with_their_own_values():
    root = SHARED / "s1s2_rtc_pairs"
    if not root.is_dir():
        pytest.skip("../shared/data/s1s2_rtc_pairs is absent")
    config = BuildConfig(grid=GridConfig(layout="chips", patch_px=192, patches_per_side=1, halo_px=16))
    source = FolderSource(root)
    found = read_all(source, config)
    assert [c.site for c, _ in found] == ["282D_485L_3_3", "38D_378R_2_3", "637U_59R_1_3"]
    for candidate, pixels in found:
        assert candidate.site.startswith(candidate.cell)  # the chips are named after their cell
        assert pixels.flags == ()
        with rasterio.open(root / "S1RTC" / f"{candidate.site}.tif") as dataset:
            np.testing.assert_allclose(10 * np.log10(pixels.sar), dataset.read(), atol=1e-5)
        with rasterio.open(root / "S2L2A" / f"{candidate.site}.tif") as dataset:
            np.testing.assert_allclose(pixels.optical * 10_000, dataset.read([4, 3, 2]), rtol=1e-6)
    coast, savanna, _ = found
    assert (coast[0].country, savanna[0].country) == ("BRA", "TZA")
    blue_over_nir = coast[1].registration_optical[0] / coast[1].registration_optical[3]
    assert np.median(blue_over_nir[coast[1].water]) > 1 > np.median(blue_over_nir[~coast[1].water])  # class 1 is water


def test_real_flood_chips_in_degrees_come_as_utm(tmp_path):
    path = next(iter(sorted(SHARED.glob("flood_chips/s1/India*.tif"))), None)
    if path is None:
        pytest.skip("../shared/data/flood_chips is absent")
    shutil.copyfile(path, tmp_path / "flood.tif")
    write_table(tmp_path, [SAR_ROW | {"path": "flood.tif", "bands": "VV VH", "unit": "db"}])
    config = BuildConfig(grid=GridConfig(layout="chips", patch_px=256, patches_per_side=1, halo_px=16))
    ((candidate, pixels),) = read_all(FolderSource(tmp_path), config)
    assert candidate.grid.epsg == 32646
    assert pixels.flags == ("resampled_sar",)
    assert -20 < 10 * np.log10(np.nanmedian(pixels.sar[0])) < -5
