"""One's own rasters described by STAC items."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sar1m.config import BuildConfig, GridConfig
from sar1m.sources.folder.source import FolderSource
from sar1m.store.errors import SourceError
from support.folders import CHIP, CONFIG, read_all, set_aside
from support.geotiffs import speckled_db, utm_grid, write_tiff


@pytest.fixture
def rng():
    return np.random.default_rng(11)


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
        ({"href": "vv.tif", "raster:bands": [{"unit": "DN"}]}, "asset vv: unit 'DN'; expected dB or linear"),
        ({"href": "vv.tif", "raster:bands": [{"scale": "2"}]}, "asset vv: scale is '2'"),
    ],
)
def test_a_wrong_asset_names_its_item(catalogue, edit, found):
    root, _ = catalogue
    write_item(
        root, "s1/other", "2023-06-10T16:04:18Z", {"vv": edit, "vh": {"href": "vh.tif"}}, **{"sar:product_type": "RTC"}
    )
    assert re.search(rf"^folder_other: SourceError: .*{found}", set_aside(FolderSource(root)))


def test_items_must_state_quantity_baseline_and_a_usable_id(catalogue):
    root, _ = catalogue
    sar = {"vv": {"href": "vv.tif"}}
    path = write_item(root, "s1/other", "2023-06-10T16:04:18Z", sar)
    assert "item other: does not say whether it holds sigma nought or gamma nought" in set_aside(FolderSource(root))
    path.unlink()
    write_item(
        root, "s2/near/near", "2023-06-13T10:00:00Z", {b: {"href": f"{b}.tif"} for b in ("red", "green", "blue")}
    )
    with pytest.raises(SourceError, match=r"item near: states no processing baseline.*boa_offset_applied"):
        list(FolderSource(root).candidates(CONFIG))
    document = json.loads((root / "s2/near/near.json").read_text()) | {"id": "../../etc"}
    (root / "s2/near/near.json").write_text(json.dumps(document))
    assert re.search(r"^folder_\.\./\.\./etc: .*cannot be an identifier", set_aside(FolderSource(root)))


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


# ---- which optical item a block takes ----


def optical_item(root: Path, name: str, when: str, grid: Any, value: int, **properties: Any) -> None:
    """Three bands of one number on a grid, and their item."""
    for band in ("red", "green", "blue"):
        pixels = np.full((grid["rows"], grid["cols"]), value, np.uint16)
        write_tiff(root / f"s2/{name}/{band}.tif", pixels, utm_grid(**grid))
    assets = {band: {"href": f"{band}.tif"} for band in ("red", "green", "blue")}
    write_item(root, f"s2/{name}/{name}", when, assets, **({"s2:processing_baseline": "02.12"} | properties))


def sar_item(root: Path, rng: np.random.Generator, grid: dict[str, Any]) -> None:
    power = 10 ** (speckled_db(rng, 1, grid["rows"], grid["cols"]) / 10)
    write_tiff(root / "s1/vv.tif", power.astype(np.float32), utm_grid(**grid))
    write_item(root, "s1/radar", "2023-06-10T05:15:00Z", {"vv": {"href": "vv.tif"}}, **{"sar1m:quantity": "gamma0"})


def quarters(root: Path, grid: dict[str, Any]) -> list[str]:
    """Four items that meet in the middle of a grid, seconds apart; their names from north-west, row by row."""
    rows, cols, gsd_m = grid["rows"] // 2, grid["cols"] // 2, grid["gsd_m"]
    names = []
    for number in range(4):
        down, across = divmod(number, 2)
        part = {"rows": rows, "cols": cols, "gsd_m": gsd_m}
        part |= {"left_m": grid["left_m"] + across * cols * gsd_m, "top_m": grid["top_m"] - down * rows * gsd_m}
        names.append(f"quarter{number}")
        optical_item(root, names[-1], f"2023-06-10T10:20:0{number}Z", part, 1000 * (number + 1))
    return names


def test_of_two_granules_of_one_pass_the_whole_one_is_taken_though_the_other_is_nearer(tmp_path, rng):
    chip = {"rows": 80, "cols": 80, "gsd_m": 10.0, "left_m": 500_000.0, "top_m": 5_000_000.0}
    sar_item(tmp_path, rng, chip)
    optical_item(tmp_path, "part", "2023-06-10T10:20:04Z", chip | {"cols": 48}, 1000)
    optical_item(tmp_path, "whole", "2023-06-10T10:20:13Z", chip, 2000)
    optical_item(tmp_path, "later", "2023-06-12T10:20:13Z", chip, 3000)
    ((candidate, pixels),) = read_all(FolderSource(tmp_path))
    assert candidate.optical.product_id == "whole"
    np.testing.assert_allclose(pixels.optical, 0.2, rtol=1e-5)


def test_patches_of_a_chip_over_four_quarters_take_each_its_own(tmp_path, rng):
    chip = {"rows": 160, "cols": 160, "gsd_m": 10.0, "left_m": 500_000.0, "top_m": 5_000_000.0}
    sar_item(tmp_path, rng, chip)
    names = quarters(tmp_path, chip)
    found = read_all(FolderSource(tmp_path))
    assert [candidate.optical.product_id for candidate, _ in found] == names
    assert len({candidate.item_id for candidate, _ in found}) == 4
    assert sorted(patch.name for candidate, _ in found for patch in candidate.patches) == [
        f"radar_{column}_{row}" for column in range(2) for row in range(2)
    ]
    for number, (candidate, pixels) in enumerate(found):
        down, across = divmod(number, 2)  # halo 16 px around two patches of 64 px
        assert (candidate.grid.left_m, candidate.grid.top_m) == (500_160.0 + 640 * across, 4_999_840.0 - 640 * down)
        inner = pixels.optical[:, 8:-8, 8:-8]
        np.testing.assert_allclose(inner, 0.1 * (number + 1), rtol=1e-5)


def test_blocks_of_a_scene_over_four_quarters_take_each_its_own(tmp_path, rng):
    scene = {"rows": 300, "cols": 300, "gsd_m": 100.0, "left_m": 485_000.0, "top_m": 5_015_000.0}
    sar_item(tmp_path, rng, scene)
    names = quarters(tmp_path, scene)
    config = BuildConfig(grid=GridConfig(layout="majortom", patch_px=32, patches_per_side=2, gsd_m=100.0, halo_px=2))
    candidates = list(FolderSource(tmp_path).candidates(config))
    inside = [c for c in candidates if c.optical is not None]
    assert {c.optical.product_id for c in inside} == set(names)
    for candidate in inside:  # against the centres of the patches
        for patch in candidate.patches:
            x = candidate.grid.left_m + (patch.col + 16) * 100
            y = candidate.grid.top_m - (patch.row + 16) * 100
            down, across = int(y < 5_000_000), int(x > 500_000)
            assert candidate.optical.product_id == names[2 * down + across]


def test_a_partner_that_cannot_be_described_takes_only_its_own_patch_with_it(tmp_path, rng):
    chip = {"rows": 160, "cols": 160, "gsd_m": 10.0, "left_m": 500_000.0, "top_m": 5_000_000.0}
    sar_item(tmp_path, rng, chip)
    names = quarters(tmp_path, chip)
    path = tmp_path / "s2/quarter2/quarter2.json"
    path.write_text(path.read_text().replace("02.12", "99.99"))
    source = FolderSource(tmp_path)
    found = [candidate.optical.product_id for candidate in source.candidates(CONFIG)]
    assert found == [name for name in names if name != "quarter2"]
    (failed,) = source.failures.found
    assert (failed.patches, failed.error) == (1, "SourceError")
    assert "item quarter2: processing baseline 99.99" in failed.cause


@pytest.mark.parametrize("text", ['{"type": "Feature", "stac_version": "1.0.0", "id": ', '{"assets": {"vv": NaN,}}'])
def test_a_damaged_item_is_named_and_other_json_is_not(tmp_path, rng, text):
    chip = {"rows": 80, "cols": 80, "gsd_m": 10.0, "left_m": 500_000.0, "top_m": 5_000_000.0}
    sar_item(tmp_path, rng, chip)
    (tmp_path / "s1/second.json").write_text(text)
    (tmp_path / "settings.json").write_text("{ // a comment")
    source = FolderSource(tmp_path)
    assert len(list(source.candidates(CONFIG))) == 1
    (failed,) = source.failures.found
    assert failed.item_id == "folder_second"
    assert "second.json" in failed.cause


def test_a_folder_whose_only_item_is_damaged_says_so(tmp_path):
    (tmp_path / "s1.json").write_text('{"stac_version": "1.0.0", "assets": {')
    with pytest.raises(SourceError, match=r"s1\.json"):
        FolderSource(tmp_path).pairs()


# ---- which band of a raster an asset is ----


def two_bands(root: Path, rng: np.random.Generator, **about: Any) -> tuple[np.ndarray, FolderSource]:
    """A raster of two bands for the assets vv and vh."""
    power = (10 ** (speckled_db(rng, 2, 80, 80) / 10)).astype(np.float32)
    power[1] /= 4
    write_tiff(root / "both.tif", power, CHIP)
    assets = {key: {"href": "both.tif"} | about for key in ("vv", "vh")}
    write_item(root, "radar", "2023-06-10T05:15:00Z", assets, **{"sar1m:quantity": "gamma0"})
    return power, FolderSource(root)


@pytest.mark.parametrize("listing", ["bands", "eo:bands", "raster:bands"])
def test_assets_of_one_raster_take_the_bands_that_are_named_like_them(tmp_path, rng, listing):
    power, source = two_bands(tmp_path, rng, **{listing: [{"name": "VV"}, {"name": "VH"}]})
    ((_, pixels),) = read_all(source)
    window = pixels.sar[:, 20:60, 20:60]
    assert np.median(window[1]) == pytest.approx(np.median(power[1]), rel=0.1)
    assert np.median(window[0]) == pytest.approx(np.median(power[0]), rel=0.1)


@pytest.mark.parametrize("about", [{}, {"bands": [{"name": "a"}, {"name": "b"}]}, {"bands": [{"name": "VV"}] * 2}])
def test_bands_that_no_name_distinguishes_are_refused(tmp_path, rng, about):
    _, source = two_bands(tmp_path, rng, **about)
    with pytest.raises(SourceError, match=r"asset v[vh]: both.tif has 2 bands, and the item does not say which"):
        source.pairs()
