"""One bad product beside good ones: it is set aside by its name, the others are built, and the counts add up."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sar1m.building import BuildRequest, build
from sar1m.config import CONFIG_FOLDERS, PixelsConfig, load_config
from sar1m.flow import WorkersSettings
from sar1m.store.errors import ConfigError, SourceError
from sar1m.store.seal import verify
from support.crash_runner import Silence
from support.folders import CONFIG as CHIP_CONFIG
from support.folders import OPTICAL_ROW, SAR_ROW, write_modalities, write_table
from support.geotiffs import speckled_db, utm_grid, write_tiff
from support.safe_factory import SafeRecipe, write_safe, write_safe_zip
from support.safe_scenes import CONFIG as SAFE_CONFIG
from support.safe_scenes import block_scene

HERE = WorkersSettings(workers=0)
CHIPS = (
    "--config",
    "chips",
    "--workers",
    0,
    "--set",
    "grid.patch_px=64",
    "--set",
    "grid.halo_px=8",
    "--set",
    "balance.max_unpaired_share=1",
)


def table_of(root: Path, bad: dict[str, str] | None = None) -> Path:
    """Three pairs described by a table; of the last one some cells are others."""
    for former in root.glob("*.tif"):
        former.unlink()  # GDAL looks into a file before it writes over it
    rng = np.random.default_rng(5)
    rows = []
    for number, name in enumerate("pqr"):
        grid = utm_grid(80, 80, left_m=500_000.0 + 50_000 * number)
        write_tiff(root / f"{name}.tif", (10 ** (speckled_db(rng, 1, 80, 80) / 10)).astype(np.float32), grid)
        write_tiff(root / f"{name}_rgb.tif", rng.integers(1500, 2500, (3, 80, 80)).astype(np.uint16), grid)
        rows += [
            SAR_ROW | {"pair": name, "path": f"{name}.tif"},
            OPTICAL_ROW | {"pair": name, "path": f"{name}_rgb.tif"},
        ]
    rows[-2 if (bad or {}).get("kind") != "optical" else -1] |= bad or {}
    write_table(root, rows)
    return root


def items_of(root: Path, bad: dict | None = None, name: str = "r", kind: str = "sar") -> Path:
    """Three SAR items with an optical one over each; of one of them the asset or properties are others."""
    table_of(root)
    (root / "scenes.csv").unlink()
    for pair in "pqr":
        for item, assets, properties in (
            (pair, {"vv": {"href": f"{pair}.tif"}}, {"sar1m:quantity": "sigma0"}),
            (f"{pair}_optical", {"visual": {"href": f"{pair}_rgb8.tif"}}, {}),
        ):
            if (item, kind) in ((name, "sar"), (name, "optical")):
                properties.update((bad or {}).get("properties", {}))
                for about in assets.values():
                    about.update((bad or {}).get("asset", {}))
            document = {"type": "Feature", "id": item, "properties": {"datetime": "2023-06-10T16:04:18Z", **properties}}
            (root / f"{item}.json").write_text(json.dumps({**document, "assets": assets}))
        grid = utm_grid(80, 80, left_m=500_000.0 + 50_000 * "pqr".index(pair))
        write_tiff(root / f"{pair}_rgb8.tif", np.full((3, 80, 80), 90, dtype=np.uint8), grid)
    return root


def damaged(root: Path, name: str, content: bytes = b"") -> Path:
    path = root / name
    path.write_bytes(content or path.read_bytes()[:150])
    return root


def all_damaged(root: Path) -> Path:
    for name in "pqr":
        damaged(root, f"{name}.tif")
    return root


def modalities_of(root: Path) -> Path:
    write_modalities(root, np.random.default_rng(2), ("p", "q", "r"))
    return root


FOLDERS = {
    "a damaged raster in a table": (lambda root: damaged(table_of(root), "r.tif"), "folder_r", 1, 2),
    "a text for a raster": (lambda root: damaged(table_of(root), "r.tif", b"<VRTDataset/>"), "folder_r", 1, 2),
    "a damaged optical raster": (lambda root: damaged(table_of(root), "r_rgb.tif"), "folder_r", 1, 2),
    "a row with a refused unit": (lambda root: table_of(root, {"unit": "watt"}), "folder_r", 1, 2),
    "a row with a file that is not there": (lambda root: table_of(root, {"path": "gone.tif"}), "folder_r", 1, 2),
    "a row with a baseline nobody knows": (
        lambda root: table_of(root, {"kind": "optical", "baseline": "99.99"}),
        "folder_r",
        1,
        2,
    ),
    "a damaged chip": (lambda root: damaged(modalities_of(root), "S1RTC/q.tif"), "folder_q", 1, 2),
    "a chip with a damaged partner": (lambda root: damaged(modalities_of(root), "S2L2A/q.tif"), "folder_q", 1, 2),
    "an item whose asset is missing": (lambda root: items_of(root, {"asset": {"href": "gone.tif"}}), "folder_r", 1, 2),
    "an item without its quantity": (
        lambda root: items_of(root, {"properties": {"sar1m:quantity": "x"}}),
        "folder_r",
        1,
        2,
    ),
    "an optical item without its raster": (
        lambda root: items_of(root, {"asset": {"href": "gone.tif"}}, "r_optical", "optical"),
        "folder_r_optical",
        0,
        3,
    ),
}


def too_small(root: Path) -> Path:
    table_of(root)
    write_tiff(root / "r.tif", np.full((1, 40, 80), 0.1, dtype=np.float32), utm_grid(40, 80))
    return root


FOLDERS["a chip that cannot hold a patch"] = (too_small, "folder_r", 1, 2)


@pytest.mark.parametrize("case", FOLDERS)
def test_a_bad_product_is_set_aside_by_name_and_the_others_are_built(case, sar1m, tmp_path):
    make, name, patches, accepted = FOLDERS[case]
    root, out = tmp_path / "scenes", tmp_path / "out"
    root.mkdir()
    region = f"folder:{make(root)}"
    code, said, err = sar1m("build", "--region", region, "--out", out, *CHIPS)
    assert (code, err) == (3, "")
    assert f"failed: {name}: " in said
    failed = pd.read_parquet(out / "failed.parquet")
    assert (failed["item"].tolist(), failed["patches"].tolist()) == ([name], [patches])
    assert str(tmp_path) not in failed["cause"][0]
    counts = json.loads((out / "stats" / "summary.json").read_text())["counts"]
    assert counts["candidates"] == counts["accepted"] + counts["rejected"] + counts["failed"] == accepted + patches
    assert (counts["failed"], len(pd.read_parquet(out / "samples.parquet"))) == (patches, accepted)
    assert verify(out) == []


def test_the_same_command_has_nothing_to_do_and_still_names_the_product(sar1m, tmp_path):
    region = f"folder:{damaged(table_of(tmp_path), 'r.tif')}"
    assert sar1m("build", "--region", region, "--out", tmp_path / "out", *CHIPS)[0] == 3
    before = (tmp_path / "out/manifest-sha256.txt").read_bytes()
    code, said, _ = sar1m("build", "--region", region, "--out", tmp_path / "out", *CHIPS)
    assert (code, "Nothing to do" in said, "failed: folder_r: " in said) == (3, True, True)
    assert (tmp_path / "out/manifest-sha256.txt").read_bytes() == before
    code, said, _ = sar1m("plan", "--region", region, *CHIPS[:2], *CHIPS[4:])
    assert code == 3
    assert "2 work items (2 with an optical partner)" in said
    assert "failed: folder_r: " in said
    table_of(tmp_path)  # mended: only the missing block is prepared
    code, said, _ = sar1m("build", "--region", region, "--out", tmp_path / "out", *CHIPS)
    assert (code, "1 prepared, 2 already there, 0 failed" in said) == (0, True)


def test_strict_stops_at_the_first_bad_product_and_at_the_first_bad_block(sar1m, tmp_path):
    region = f"folder:{damaged(table_of(tmp_path), 'r.tif')}"
    for command in (("build", "--out", tmp_path / "out", *CHIPS), ("plan", *CHIPS[:2], *CHIPS[4:])):
        code, _, err = sar1m(*command, "--region", region, "--strict")
        assert code == 1
        assert "r.tif" in err
    assert not (tmp_path / "out/BUILD_COMPLETE.json").exists()
    table_of(tmp_path)
    (tmp_path / "q.tif").unlink()
    power = (10 ** (speckled_db(np.random.default_rng(1), 1, 80, 80) / 10)).astype(np.float32)
    write_tiff(tmp_path / "q.tif", power, utm_grid(80, 80, left_m=550_000.0), compress="deflate")
    content = bytearray((tmp_path / "q.tif").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = b"\xff" * 400  # of its pixels alone
    (tmp_path / "q.tif").write_bytes(bytes(content))
    code, _, err = sar1m("build", "--region", region, "--out", tmp_path / "strict", *CHIPS, "--strict")
    assert code == 1
    assert "folder_q: SourceError: " in err


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (
            lambda root: all_damaged(table_of(root)),
            SourceError,
            r"p\.tif: .* 2 more products",
        ),
        (
            lambda root: all_damaged(items_of(root)),
            SourceError,
            r"p\.tif: .* 2 more products",
        ),
        (
            lambda root: table_of(root) and (root / "scenes.csv").write_text("pair,kind\np,sar\n"),
            SourceError,
            "name the columns",
        ),
    ],
)
def test_where_nothing_can_be_used_the_build_stops_before_anything_is_written(make, error, words, tmp_path):
    make(tmp_path)
    config = load_config(CONFIG_FOLDERS[1] / "chips.toml")
    with pytest.raises(error, match=words):
        build(BuildRequest(region=f"folder:{tmp_path}", out=tmp_path / "out", config=config, workers=HERE), Silence())


def test_bands_that_no_product_has_are_a_fault_of_the_configuration(tmp_path):
    modalities_of(tmp_path)
    config = CHIP_CONFIG.model_copy(update={"pixels": PixelsConfig(optical_bands=("B10",))})
    with pytest.raises((SourceError, ConfigError), match=r"band B10 of pixels\.optical_bands is missing"):
        build(BuildRequest(region=f"folder:{tmp_path}", out=tmp_path / "out", config=config, workers=HERE), Silence())


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    folder = tmp_path_factory.mktemp("products")
    return folder, block_scene(folder)


OTHER = SafeRecipe(absolute_orbit=2475)


def no_zip(root: Path) -> None:
    (root / f"{OTHER.name}.zip").write_bytes(b"x")


def cut_zip(root: Path) -> None:
    path = write_safe_zip(root / f"{OTHER.name}.zip", OTHER)
    path.write_bytes(path.read_bytes()[:5000])


def empty_measurement(root: Path) -> None:
    next((write_safe(root, OTHER) / "measurement").iterdir()).write_bytes(b"")


BAD_PRODUCTS = {"no zip": no_zip, "a cut zip": cut_zip, "an empty measurement": empty_measurement}


@pytest.mark.parametrize("case", [*BAD_PRODUCTS, "a partner without a band"])
def test_a_bad_safe_product_is_set_aside(case, scene, tmp_path):
    folder, truth = scene
    root = tmp_path / "products"
    shutil.copytree(folder, root)
    if case in BAD_PRODUCTS:
        BAD_PRODUCTS[case](root)
        patches = 1
    else:
        (item,) = (root / "optical").glob("*.json")
        document = json.loads(item.read_text()) | {"id": "other"}
        document["assets"] = {"B04": {"href": "gone.tif"}}
        (root / "optical/other.json").write_text(json.dumps(document))
        patches = 0
    summary = build(
        BuildRequest(region=f"safe:{root}", out=tmp_path / "out", config=SAFE_CONFIG, workers=HERE), Silence()
    )
    (failed,) = summary.failed
    assert failed.patches == patches
    assert failed.item_id == "other" if not patches else failed.item_id.startswith("S1A_IW")
    assert truth.product.product_id != failed.item_id
    assert summary.facts["counts"]["candidates"] == 4 + patches
    assert summary.facts["counts"]["failed"] == patches
