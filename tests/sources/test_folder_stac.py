"""One's own rasters described by STAC items."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sar1m.sources.folder.source import FolderSource
from sar1m.store.errors import SourceError
from support.folders import CHIP, CONFIG, read_all
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
        ({"href": "vv.tif", "raster:bands": [{"unit": "DN"}]}, "unit 'dn' of asset vv; expected dB or linear"),
        ({"href": "vv.tif", "raster:bands": [{"scale": "2"}]}, "asset vv: scale is '2'"),
    ],
)
def test_a_wrong_asset_names_its_item(catalogue, edit, found):
    root, _ = catalogue
    write_item(
        root, "s1/other", "2023-06-10T16:04:18Z", {"vv": edit, "vh": {"href": "vh.tif"}}, **{"sar:product_type": "RTC"}
    )
    with pytest.raises(SourceError, match=found):
        list(FolderSource(root).candidates(CONFIG))


def test_items_must_state_quantity_baseline_and_a_usable_id(catalogue):
    root, _ = catalogue
    sar = {"vv": {"href": "vv.tif"}}
    path = write_item(root, "s1/other", "2023-06-10T16:04:18Z", sar)
    with pytest.raises(SourceError, match="item other: does not say whether it holds sigma nought or gamma nought"):
        list(FolderSource(root).candidates(CONFIG))
    path.unlink()
    write_item(
        root, "s2/near/near", "2023-06-13T10:00:00Z", {b: {"href": f"{b}.tif"} for b in ("red", "green", "blue")}
    )
    with pytest.raises(SourceError, match=r"item near: states no processing baseline.*boa_offset_applied"):
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
