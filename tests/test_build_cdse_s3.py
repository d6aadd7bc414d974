"""Whole builds from the Data Space by STAC search and its object store: the same store as by OData and the zipper."""

from __future__ import annotations

import numpy as np
import pytest

from sar1m.core.grid import block_grids, cells_at, make_cells
from sar1m.sources.services.cdse import tokens
from servers.cdse import CdseStandIn
from servers.cdse_cog import members_of
from servers.cdse_store import S3_ACCESS, S3_SECRET
from servers.delivered import everything_below
from support.area_builds import box_inside, opened, settings
from support.campaigns import campaign
from support.safe_scenes import CONFIG as SAFE_CONFIG

(BLOCK,) = block_grids(make_cells(*cells_at([11.5], [47.3])), SAFE_CONFIG.grid)
REGION = box_inside(BLOCK)
KEYS = {"area.sar": "cdse", "area.optical": "none", "area.first": "2021-08-01", "area.last": "2021-09-01"}
STAC, S3 = {"area.cdse_search": "stac"}, {"area.cdse_access": "s3"}


@pytest.fixture
def served(delivered, monkeypatch, tmp_path):
    """Both editions of a product in all catalogues and stores, found by the environment."""
    for variable in ("HOME", "XDG_RUNTIME_DIR"):
        folder = tmp_path / variable.lower()
        folder.mkdir(mode=0o700)
        monkeypatch.setenv(variable, str(folder))
    monkeypatch.setattr(tokens, "_REFUSED", set())
    with CdseStandIn().serving() as stand_in:
        stand_in.add(delivered)
        stand_in.add_cog(delivered)
        for name, value in (stand_in.environment | {"CDSE_TOTP": "canary-totp-85"}).items():
            monkeypatch.setenv(name, value)
        yield stand_in


@pytest.fixture
def build(served, delivered, sar1m, tmp_path):
    """build(name, more keys) gives arrays and rows by sample_id, and the folder."""

    def run(name, more):
        out = tmp_path / name
        wanted = settings(KEYS | {"safe.dem": delivered.folder / "dem"} | more)
        code, text, err = sar1m("build", "--region", REGION, "--out", out, "--workers", 0, *wanted)
        assert (code, err) == (0, ""), text
        assert sar1m("verify", out)[0] == 0
        found = everything_below(out).lower() + (text + err).lower().encode()
        for canary in (b"canary-", S3_ACCESS.lower().encode(), S3_SECRET.encode()):
            assert canary not in found
        stored, samples = opened(out)
        order = np.argsort(samples["sample_id"].to_numpy())
        return stored["sar"].to_numpy()[order], samples.iloc[order].reset_index(drop=True), out

    return run


@pytest.mark.parametrize("others", [{}, *campaign({"odata-s3": S3, "stac-zipper": STAC})])
def test_stores_by_stac_and_s3_are_those_by_the_zipper(served, build, others):
    """The same samples, bit for bit, by three ways to one edition; and those of the other edition but for its name."""
    ways = {"stac-s3": STAC | S3, "odata-zipper": {}} | others
    found = {name: build(name, more) for name, more in ways.items()}
    sar, rows, out = found["stac-s3"]
    assert len(rows) == 4
    assert set(rows["sar_product"]) == {name for name in served.contents if name.endswith("_COG")}
    manifest = (out / "manifest-sha256.txt").read_text()
    shards = [line for line in manifest.splitlines() if "data/" in line]
    assert shards
    for name in others:
        other, known, folder = found[name]
        np.testing.assert_array_equal(sar, other)
        assert rows["sample_id"].equals(known["sample_id"])
        lines = (folder / "manifest-sha256.txt").read_text().splitlines()
        assert [line for line in lines if "data/" in line] == shards
    original, known, _ = found["odata-zipper"]
    np.testing.assert_array_equal(sar, original)
    assert rows["sample_id"].equals(known["sample_id"])  # of the acquisition, whoever packed it
    assert set(known["sar_product"]) == {name for name in served.contents if not name.endswith("_COG")}
    (made,) = [name for name in served.contents if name.endswith("_COG")]
    by_s3 = sum("s3" in name for name in ways)
    assert len(served.objects.asked) == by_s3 * (1 + len(members_of_named(served, made)))  # in a build each file once
    assert served.store.refused == []


def members_of_named(served, name):
    return [key for key in served.store.objects if f"{name}.SAFE/" in key and not key.endswith(("/", ".png"))]


def test_one_polarisation_is_half_the_bytes_and_planned_so(served, build, delivered, sar1m, tmp_path):
    made = next(name for name in served.contents if name.endswith("_COG"))
    sar, rows, _ = build("vv", STAC | S3 | {"area.polarisations": '["VV"]'})
    assert sar.shape[1] == 1
    assert set(rows["sar_product"]) == {made}
    came = {asked.path.rpartition("/")[2] for asked in served.objects.asked}
    wanted = {name.rpartition("/")[2] for name in members_of(delivered.renamed(content=served.contents[made]))}
    assert {name for name in wanted if "-vv-" in name} | {"manifest.safe", "eodata"} == came
    keys = settings(KEYS | STAC | S3 | {"area.polarisations": '["VV"]', "safe.dem": delivered.folder / "dem"})
    code, text, _ = sar1m("plan", "--region", REGION, "--out", tmp_path / "plan", *keys)
    assert code == 0
    assert "requests: 6 " in text  # a listing, the manifest and four files
