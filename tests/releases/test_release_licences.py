"""The gate lets through what may go, names what may not, and recipes lead back to the same pixels."""

import csv
import io

import pandas as pd
import pytest
import zarr

from sar1m.core.grid import block_grids, cells_at, make_cells
from sar1m.io.tables import read_table
from sar1m.releases.build_pixels import array_hash
from sar1m.releases.licences import attribution_md, gate, licence_rows, licences_csv, term_of, years_of
from sar1m.store.errors import ConfigError
from servers.base import Server
from servers.stac import Place, StacServer
from servers.tiles import TileRoute
from support import area_builds
from support.made_releases import lock_of, marker_of, release, samples_of
from support.safe_scenes import CONFIG

COPERNICUS = "Copernicus Sentinel data legal notice"


def table(**columns):
    """Four samples, two paired; columns replace what they have."""
    day = pd.Timestamp("2021-06-01", tz="UTC")
    rows = {
        "sample_id": ["a", "b", "c", "d"],
        "provider": "P",
        "licence_sar": "CC0-1.0",
        "optical_provider": ["Q", "Q", "Q", None],
        "licence_optical": ["CC0-1.0", "CC0-1.0", "CC0-1.0", None],
        "paired": [True, True, False, False],
        "unpaired_reason": ["", "", "cloud", "no_optical"],
        "attribution": "",
        "sar_datetime": [day, day, day.replace(year=2019), pd.NaT],
        "optical_datetime": [day.replace(year=2022), pd.NaT, day.replace(year=1999), pd.NaT],
    }
    return pd.DataFrame(rows | columns)


def test_free_pixels_pass_unchanged():
    pd.testing.assert_frame_equal(gate(table(), recipes=False), table())


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (
            {"licence_optical": "recipe-only"},
            r"2 samples of Q \(optical, licence 'recipe-only'\): recipe-only.*--recipes",
        ),
        (
            {"licence_optical": "not stated"},
            r"2 samples of Q \(optical, licence 'not stated'\): unknown.*known licence",
        ),
        ({"licence_optical": None}, r"licence 'not stated'\): unknown"),
        ({"licence_optical": "forbidden"}, r"2 samples of Q .*forbidden"),
        ({"licence_sar": ["CC0-1.0", "proprietary", "CC0-1.0", "CC0-1.0"]}, r"1 samples of P \(sar, .*unknown"),
        ({"licence_sar": "recipe-only"}, r"4 samples of P \(sar, licence 'recipe-only'\): recipe-only"),
        (
            {"optical_provider": "mt1.google.com"},
            r"2 samples of mt1\.google\.com \(optical, licence 'CC0-1\.0'\): recipe",
        ),
        ({"optical_provider": "services.arcgisonline.com"}, r"arcgisonline\.com .*recipe-only"),
    ],
)
def test_what_may_not_go_is_refused_with_source_and_count(columns, words):
    with pytest.raises(ConfigError, match=words):
        gate(table(**columns), recipes=False)


@pytest.mark.parametrize("columns", [{"licence_optical": "forbidden"}, {"licence_optical": "?"}, {"licence_sar": "?"}])
def test_recipes_open_the_gate_for_nothing_else(columns):
    with pytest.raises(ConfigError):
        gate(table(**columns), recipes=True)


def test_recipes_leave_pixels_out():
    passed = gate(table(licence_optical=["recipe-only", "CC0-1.0", "recipe-only", None]), recipes=True)
    assert passed["paired"].tolist() == [False, True, False, False]
    assert passed["unpaired_reason"].tolist() == ["recipe_only", "", "cloud", "no_optical"]
    rows = {(row.source, row.redistribution): row.samples for row in licence_rows(passed)}
    assert rows[("Q (optical)", "recipe-only")] == 1
    assert rows[("Q (optical)", "redistribute")] == 1


def test_terms_of_hosts_bind_whatever_the_licence_says_and_only_theirs():
    assert term_of("CC0-1.0", "www.google.com").redistribution == "recipe-only"
    assert term_of("cc0-1.0", "notgoogle.com").redistribution == "redistribute"
    assert term_of(COPERNICUS, "Google Earth Engine").redistribution == "redistribute"
    assert term_of("CC0", "x").licence == "CC0-1.0"


def test_the_tables_of_sources_and_notices():
    samples = table(
        licence_sar=COPERNICUS,
        attribution=["Contains modified Copernicus Sentinel data [2015-2099]; DEM: WorldDEM-30, all", *["mine"] * 3],
    )
    rows = licence_rows(samples)
    read = list(csv.DictReader(io.StringIO(licences_csv(rows).decode())))
    assert [row["source"] for row in read] == sorted(row["source"] for row in read)
    assert {row["source"].split(" (")[0]: row["samples"] for row in read} == {
        "Copernicus DEM GLO-30 or GLO-90": "1",
        "Natural Earth 1:50m": "0",
        "P": "4",
        "Q": "2",
    }
    assert all(row["evidence"] and row["redistribution"] == "redistribute" for row in read)
    assert years_of(samples) == (2019, 2021, 2022)
    text = attribution_md(samples, rows, "sar-1m v1.0.0").decode()
    assert "- Contains modified Copernicus Sentinel data [2019, 2021, 2022] (4 samples)" in text
    assert "- DEM: WorldDEM-30, all (1 samples)" in text
    assert "2099" not in text


def test_a_release_of_free_sources_names_them(built, tmp_path):
    root = release([built.part], tmp_path / "r").root
    assert "simulated (sar),CC0-1.0," in (root / "LICENSES.csv").read_text()
    assert "nothing: no source asks for a notice" in (root / "ATTRIBUTION.md").read_text()


# ---- recipes, from a provider whose pixels stay with it ----

(CELL,) = make_cells(*cells_at([11.5], [47.3]))
(BLOCK,) = block_grids([CELL], CONFIG.grid)


@pytest.fixture
def tile_build(sar1m, monkeypatch):
    """Builds the block with tiles of a server as partners."""
    place = Place(grid=BLOCK.window(-200, -200, 528, 528))
    with Server({"/*": TileRoute(key="tiles-key-77")}) as server, StacServer(places=[place]) as stac:
        for name, value in (stac.environment | {"SAR1M_TILES_KEY": "tiles-key-77"}).items():
            monkeypatch.setenv(name, value)
        keys = {
            "area.optical": "tiles",
            "area.tiles_url": f"{server.url}/{{z}}/{{x}}/{{y}}.png?key={{key}}",
            "area.first": "2023-06-01",
            "area.last": "2023-07-01",
            "registration.correct": "none",
        }

        def build(out):
            options = ("--region", area_builds.box_inside(BLOCK), "--out", out, "--workers", 0)
            code, text, _ = sar1m("build", *options, *area_builds.settings(keys))
            assert code == 0, text
            return out

        yield build


def test_a_recipe_only_source_passes_without_its_pixels_and_the_recipe_leads_to_them(tile_build, tmp_path):
    build = tile_build(tmp_path / "a")
    with pytest.raises(
        ConfigError, match=r"4 samples of 127\.0\.0\.1.* \(optical, licence 'recipe-only'\): recipe-only"
    ):
        release([build], tmp_path / "refused")
    root = release([build], tmp_path / "r", recipes=True).root
    assert marker_of(root)["counts"] | {"paired": 0, "unpaired": 4, "recipes": 4} == marker_of(root)["counts"]
    assert list((root / "data").glob("*.zarr/optical/c/*")) == []
    assert set(samples_of(root)["unpaired_reason"]) == {"recipe_only"}
    assert lock_of(root)["optical_hash"].isna().all()
    recipes = read_table(root / "recipes.parquet").set_index("sample_id")
    again = tile_build(tmp_path / "b")  # from the provider's server, by the recipe's region and configuration
    (path,) = (again / "data").glob("*.zarr")
    group = zarr.open_group(path, mode="r")
    made = {
        name: array_hash(picture, "optical")
        for name, picture in zip(group["sample_id"][:].tolist(), group["optical"][:], strict=True)
    }
    assert made == recipes["expected_hash"].to_dict()
    assert len(set(made.values())) == 4
    assert set(recipes["quantity"]) == {"display"}
    assert (root / "provenance/builds" / recipes["config"].iloc[0]).is_file()
