"""Whole builds of an area of the Earth against services on the loopback, as a user types them."""

from __future__ import annotations

import json
from itertools import chain

import numpy as np
import pyarrow.parquet
import pytest
import xarray

from sar1m.config import GridConfig
from sar1m.core.grid import block_grids, bounds_lonlat, cells_at, make_cells
from sar1m.core.utm import lonlat_from_utm
from sar1m.records import RasterGrid
from sar1m.sources.class_tables import WORLDCOVER
from sar1m.sources.scene import LAND_COVER_ATTRIBUTION
from sar1m.sources.services.stac.worldcover import tiles_under
from servers.earthengine import EarthEngine, Ground, optical_scene, sar_scene
from servers.earthengine_account import set_account
from servers.stac import KEY_CANARY, TOKEN_CANARY, Place, StacServer, land_cover_at

pytestmark = pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")
SETTINGS = (
    *("--set", "grid.patch_px=64", "--set", "grid.patches_per_side=2", "--set", "grid.halo_px=8"),
    *("--set", "registration.search_px=8", "--set", "area.first=2023-06-01", "--set", "area.last=2023-07-01"),
    *("--set", "screening.max_cloud_frac=1"),
)
(CELL,) = make_cells(*cells_at([15.0], [50.0]))
(BLOCK,) = block_grids([CELL], GridConfig(patch_px=64, patches_per_side=2))


def region() -> str:
    """A box inside the cell, so that it alone is taken."""
    west, south, east, north = bounds_lonlat([BLOCK])[0]
    lon, lat = (west + east) / 2, (south + north) / 2
    return f"{lon - 0.001:.4f},{lat - 0.001:.4f},{lon + 0.001:.4f},{lat + 0.001:.4f}"


def scene_grid() -> RasterGrid:
    return BLOCK.window(-200, -200, 528, 528)


@pytest.fixture
def planetary(monkeypatch):
    with StacServer(places=[Place(grid=scene_grid())]) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


def opened(out):
    (path,) = (out / "data").glob("*.zarr")
    samples = pyarrow.parquet.read_table(out / "samples.parquet").to_pandas()
    return xarray.open_zarr(path, consolidated=False).load(), samples.sort_values("index").reset_index(drop=True)


def truth_of(samples, power, grid):
    """Mean power of every sample's place in decibels, (n, P)."""
    rows = [round((grid.top_m - transform[5]) / 10) for transform in samples["transform"]]
    cols = [round((transform[2] - grid.left_m) / 10) for transform in samples["transform"]]
    return np.stack(
        [10 * np.log10(power[:, r : r + 64, c : c + 64].mean((1, 2))) for r, c in zip(rows, cols, strict=True)]
    )


def test_planetary_computer(planetary, sar1m, tmp_path):
    out = tmp_path / "pc"
    code, text, err = sar1m("build", "--region", region(), "--out", out, "--workers", 0, *SETTINGS)
    assert (code, err) == (0, ""), text
    stored, samples = opened(out)
    assert len(samples) == 4
    assert set(samples["cell"]) == {CELL.name}
    assert samples["paired"].all()
    assert set(samples["quantity"]) == {"gamma0"}
    found = 10 * np.log10((10 ** (stored.sar / 10)).mean(("y", "x")).to_numpy())
    np.testing.assert_allclose(found, truth_of(samples, planetary.places[0].power, scene_grid()), atol=0.02)
    asked = len(planetary.blobs.asked)
    again, text, _ = sar1m("build", "--region", region(), "--out", out, "--workers", 0, *SETTINGS)
    assert (again, "Nothing to do" in text) == (0, True)
    blobs = planetary.blobs.asked[asked:]
    assert blobs == []
    for path in out.rglob("*"):
        assert TOKEN_CANARY.partition("=")[2] not in path.name
        if path.is_file():
            content = path.read_bytes()
            assert TOKEN_CANARY.partition("=")[2].encode() not in content
            assert KEY_CANARY.encode() not in content
    assert sar1m("verify", out)[0] == 0


def land_cover_truth(transform, side):
    """Fractions by class name of the patch that stands there."""
    x, y = (transform[axis] + sign * (np.arange(side) + 0.5) * 10 for axis, sign in ((2, 1), (5, -1)))
    numbers = land_cover_at(*lonlat_from_utm(*np.meshgrid(x, y), BLOCK.epsg))
    counts = np.unique_counts(numbers)
    return {dict(WORLDCOVER.names)[int(n)]: c / side**2 for n, c in zip(counts.values, counts.counts, strict=True)}


def test_land_cover_is_told_and_balanced(planetary, sar1m, tmp_path):
    """WorldCover under the block, its fractions in the table, and no class over its share of the store."""
    around = bounds_lonlat([scene_grid()])[0].tolist()
    for tile in tiles_under(scene_grid()):
        planetary.add_land_cover(*tile, around)
    out = tmp_path / "covered"
    odd = ("--set", "grid.patch_px=48", "--set", "grid.patches_per_side=3")  # nine patches share in two unequally
    wanted = ("--set", "area.land_cover=true", "--set", "balance.max_class_share=0.5", *odd)
    code, text, err = sar1m("build", "--region", region(), "--out", out, "--workers", 0, *SETTINGS, *wanted)
    assert (code, err) == (0, ""), text
    _, kept = opened(out)
    rejected = pyarrow.parquet.read_table(out / "rejected.parquet").to_pandas()
    for row in chain(kept.itertuples(), rejected.itertuples()):
        truth = land_cover_truth(row.transform, 48)
        cover = dict(row.land_cover)
        assert max(abs(cover.get(name, 0) - truth.get(name, 0)) for name in cover | truth) < 0.005, row.patch
        assert LAND_COVER_ATTRIBUTION in row.attribution
        assert row.water_frac == pytest.approx(cover.get("Permanent water bodies", 0))
    dominant = [[max(dict(cover), key=dict(cover).get) for cover in table["land_cover"]] for table in (kept, rejected)]
    assert sorted(dominant[0]) == ["Bare / sparse vegetation"] * 3 + ["Built-up"] * 3
    assert dominant[1] == ["Built-up"] * 3
    assert (rejected["reason"] == "class_share").all()
    assert (rejected["measured"] > rejected["limit"]).all()
    assert sar1m("verify", out)[0] == 0


def test_a_plan_is_priced_written_and_built(planetary, sar1m, tmp_path):
    table, direct, planned = tmp_path / "plan.parquet", tmp_path / "direct", tmp_path / "planned"
    common = ("--region", region(), *SETTINGS)
    code, text, err = sar1m("plan", *common, "--out", planned, "--to", table)
    assert (code, err) == (0, ""), text
    for words in ("cells: 1", "blocks: 1 (1 with a partner)", "GB store", "download:", f"written: {table}"):
        assert words in text
    assert not planetary.blobs.asked
    assert sar1m("build", *common, "--out", planned, "--workers", 0, "--plan", table)[0] == 0
    assert sar1m("build", *common, "--out", direct, "--workers", 0)[0] == 0
    first, second = ((out / "manifest-sha256.txt").read_bytes() for out in (planned, direct))
    assert first == second
    code, _, err = sar1m("build", "--region", "sample", "--out", tmp_path / "no", "--plan", table)
    assert (code, "plans are of areas of the Earth" in err) == (2, True)


def test_a_budget_refuses_before_the_first_byte(planetary, sar1m, tmp_path):
    tight = ("--set", "download.max_gb=0.001")
    code, _, err = sar1m("plan", "--region", region(), *SETTINGS, *tight, "--out", tmp_path / "a")
    assert (code, "over the budget" in err) == (2, True)
    code, _, err = sar1m("build", "--region", region(), *SETTINGS, *tight, "--out", tmp_path / "a", "--workers", 0)
    assert (code, "over the budget" in err) == (2, True)
    assert not planetary.blobs.asked


def test_earth_engine(sar1m, tmp_path, monkeypatch):
    west, south, east, north = bounds_lonlat([scene_grid()])[0]
    box, ground = (west, south, east, north), Ground(seed=3)
    radar = sar_scene("S1A_IW_GRDH_1SDV_20230610T051230_20230610T051255_048923_05E21A_1111", box)
    picture = optical_scene("20230611T100559_20230611T101022_T33UVR", box)
    with EarthEngine([radar, picture], ground) as server:
        set_account(server, tmp_path, monkeypatch)
        out = tmp_path / "ee"
        services = ("--set", "area.sar=earthengine", "--set", "area.optical=earthengine")
        code, text, err = sar1m("build", "--region", region(), "--out", out, "--workers", 0, *SETTINGS, *services)
        assert (code, err) == (0, ""), text
        stored, samples = opened(out)
        assert set(samples["cell"]) == {CELL.name}
        assert set(samples["quantity"]) == {"sigma0"}
        asked_grid = BLOCK.window(-8, -8, BLOCK.rows + 16, BLOCK.cols + 16)
        found = 10 * np.log10((10 ** (stored.sar / 10)).mean(("y", "x")).to_numpy())
        np.testing.assert_allclose(found, truth_of(samples, ground.power(asked_grid), asked_grid), atol=0.02)
        assert json.loads((out / "BUILD_COMPLETE.json").read_text())["counts"]["failed"] == 0
