"""From SAFE products to shards, as a user types it."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet
import pytest
import xarray

from support.safe_factory import SafeRecipe, write_safe
from support.safe_scenes import block_scene

SETTINGS = (
    *("--set", "grid.patch_px=64", "--set", "grid.patches_per_side=2", "--set", "grid.halo_px=8"),
    *("--set", "registration.search_px=8", "--set", "safe.dem_datum=ellipsoid", "--set", "pixels.terrain_layers=true"),
)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    folder = tmp_path_factory.mktemp("products")
    return folder, block_scene(folder)


def test_a_folder_of_products_becomes_a_store(scene, sar1m, tmp_path):
    folder, truth = scene
    code, out, err = sar1m("build", "--region", f"safe:{folder}", "--out", tmp_path / "a", "--workers", 0, *SETTINGS)
    assert (code, err) == (0, "")
    assert "candidates 4" in " ".join(out.split())
    samples = pyarrow.parquet.read_table(tmp_path / "a" / "samples.parquet").to_pandas()
    assert set(samples["sar_product"]) == {truth.product.product_id}
    assert samples["paired"].all()
    assert (samples["residual_px"] < 1).all()
    assert samples["local_incidence_deg"].between(25, 50).all()
    assert (samples["local_incidence_std_deg"] > 0.5).all()
    (split,) = samples["split"].unique()
    opened = xarray.open_zarr(tmp_path / "a" / "data" / f"{split}.zarr", consolidated=False)
    assert opened.sar.shape == (len(samples), 2, 64, 64)
    assert opened.local_incidence.shape == (len(samples), 1, 64, 64)
    assert set(np.unique(opened.layover_shadow)) <= {0, 1}
    shares = opened.layover_shadow.mean(("mask", "y", "x")).to_numpy()
    np.testing.assert_allclose(shares, samples["layover_shadow_frac"], atol=1e-6)
    assert not (tmp_path / "a" / "cache" / "inflated").exists()
    stored = opened.local_incidence.mean(("angle", "y", "x")).to_numpy()
    np.testing.assert_allclose(stored, samples["local_incidence_deg"], atol=0.1)
    again, out, _ = sar1m("build", "--region", f"safe:{folder}", "--out", tmp_path / "a", "--workers", 0, *SETTINGS)
    assert (again, "Nothing to do" in out) == (0, True)


def test_workers_give_the_same_bytes(scene, sar1m, tmp_path):
    folder, _ = scene
    for workers in (0, 2):
        place = tmp_path / str(workers)
        assert sar1m("build", "--region", f"safe:{folder}", "--out", place, "--workers", workers, *SETTINGS)[0] == 0
    first, second = ((tmp_path / str(n) / "manifest-sha256.txt").read_bytes() for n in (0, 2))
    assert first == second


def test_what_is_left_out_and_what_fails_is_said(scene, sar1m, tmp_path):
    folder, _ = scene
    bad = SafeRecipe(platform="S1B", absolute_orbit=2475)
    bad = SafeRecipe(platform="S1B", absolute_orbit=2475, start=bad.start.replace(year=2016, month=10, day=12))
    (tmp_path / "mixed").mkdir()
    for path in folder.iterdir():
        (tmp_path / "mixed" / path.name).symlink_to(path)
    write_safe(tmp_path / "mixed", bad)
    code, out, _ = sar1m("plan", "--region", f"safe:{tmp_path / 'mixed'}", *SETTINGS)
    assert code == 0
    assert f"{bad.name}: left out, known to be wrong" in out
    assert "1 work items (1 with an optical partner), 4 patches" in out
    # without its DEM every item fails: named, counted, exit code 3
    (tmp_path / "mixed" / "dem").unlink()
    code, out, _ = sar1m(
        "build", "--region", f"safe:{tmp_path / 'mixed'}", "--out", tmp_path / "b", "--workers", 0, *SETTINGS
    )
    summary = json.loads((tmp_path / "b" / "stats" / "summary.json").read_text())
    assert code == 3
    assert summary["counts"]["failed"] == summary["counts"]["candidates"] == 4
    assert "Put a DEM into the folder dem beside the products" in " ".join(out.split())
