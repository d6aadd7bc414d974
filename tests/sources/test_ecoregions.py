"""Ecoregions of samples, by a file that the user has: looked up, written down, and held to a share."""

from __future__ import annotations

import json
from dataclasses import replace

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely

from sar1m.building import BuildRequest, build, refilter
from sar1m.config import BalanceConfig, parse_config, resolve_config
from sar1m.flow import WorkersSettings
from sar1m.sources.regions.ecoregions import open_ecoregions
from sar1m.store.errors import ConfigError, RegionError
from sar1m.store.seal import verify
from support.crash_runner import SMALL_BUILD, Silence, run_build

HERE = WorkersSettings(workers=0)
CONFIG = parse_config(SMALL_BUILD, origin="small")
HOLED = shapely.Polygon([(0, 0), (20, 0), (20, 20), (0, 20)], [[(5, 5), (9, 5), (9, 9), (5, 9)]])
AREAS = {
    "Sahelian savanna": shapely.MultiPolygon([HOLED, shapely.box(30, 0, 31, 1)]),
    "Atlantic forest": shapely.box(15, 15, 25, 25),  # over a corner of the savanna: the first name wins there
    "Fiji": shapely.box(175, -20, 185, -15),
    "": shapely.box(-50, -50, -40, -40),
}


def written(path, areas=AREAS, attribute="ECO_NAME"):
    table = geopandas.GeoDataFrame({attribute: list(areas), "n": 1}, geometry=list(areas.values()), crs=4326)
    table.to_file(path)
    return path


def opened(path, name="ECO_NAME"):
    return open_ecoregions(BalanceConfig(ecoregions=str(path), ecoregion_name=name))


@pytest.mark.parametrize("name", ["e.geojson", "e.gpkg", "e.shp"])
def test_points_by_every_format(tmp_path, name):
    lon = [1.0, 7.0, 17.0, 24.0, 30.5, 179.0, -176.0, -45.0, 60.0]
    lat = [1.0, 7.0, 17.0, 24.0, 0.5, -17.0, -17.0, -45.0, 60.0]
    sahel, forest = "Sahelian savanna", "Atlantic forest"
    assert opened(written(tmp_path / name)).at(lon, lat) == [
        *(sahel, None, forest, forest, sahel, "Fiji", "Fiji", None, None)
    ]


def test_agrees_with_asking_every_polygon(tmp_path):
    rng = np.random.default_rng(4)
    centres = rng.uniform(-60, 60, (40, 2))
    areas = {f"region {n:02d}": shapely.Point(x, y).buffer(rng.uniform(1, 15)) for n, (x, y) in enumerate(centres)}
    lon, lat = rng.uniform(-75, 75, (2, 500))
    expected = [
        next((name for name in sorted(areas) if areas[name].intersects(shapely.Point(x, y))), None)
        for x, y in zip(lon, lat, strict=True)
    ]
    assert len(set(expected)) > 20
    assert opened(written(tmp_path / "e.gpkg", areas)).at(lon, lat) == expected
    assert opened(written(tmp_path / "e.gpkg", areas)).at([], []) == []


def test_numbers_may_be_names(tmp_path):
    areas = {7.0: shapely.box(0, 0, 1, 1), 8.5: shapely.box(2, 0, 3, 1), None: shapely.box(4, 0, 5, 1)}
    found = opened(written(tmp_path / "e.gpkg", areas, "ECO_ID"), "ECO_ID")
    assert found.at([0.5, 2.5, 4.5], [0.5] * 3) == ["7", "8.5", None]


@pytest.mark.parametrize(
    ("name", "content", "attribute", "words"),
    [
        ("e.gpkg", None, "ECO_NAME", "No such file"),
        ("e.gpkg", b"<VRTDataset/>", "ECO_NAME", "not a GeoPackage: it does not begin like one"),
        ("e.shp", b"<VRTDataset/>", "ECO_NAME", "not a shapefile: it does not begin like one"),
        ("e.vrt", b"<VRTDataset/>", "ECO_NAME", "not a vector file that is read here"),
        ("good.gpkg", None, "BIOME", "no polygon has an attribute 'BIOME'. It has ECO_NAME, n: set balance.ecoreg"),
        ("good.geojson", None, "BIOME", "no polygon has an attribute 'BIOME'. It has ECO_NAME, n: set balance.ecoreg"),
        (
            "e.geojson",
            b'{"type": "Polygon", "coordinates": [[[0,0],[1,0],[1,1],[0,0]]]}',
            "A",
            "no polygon has an attr",
        ),
        ("unnamed.geojson", None, "ECO_NAME", "is empty for every polygon"),
    ],
)
def test_a_file_that_does_not_fit_is_named(tmp_path, name, content, attribute, words):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    elif name.startswith("good"):
        written(path)
    elif name.startswith("unnamed"):
        written(path, {"": shapely.box(0, 0, 1, 1)})
    with pytest.raises(RegionError, match=words) as caught:
        opened(path, attribute)
    assert str(path) in str(caught.value)


# ---- in a build ----


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    out = tmp_path_factory.mktemp("ecoregions") / "plain"
    run_build(out)
    return out


def halves(folder, samples, name="halves.gpkg"):
    """Two ecoregions that part the samples by longitude, the western one with three quarters of them."""
    middle = float(np.quantile(samples["lon"], 0.75)) + 1e-6
    sides = {"East": shapely.box(middle, -80, 180, 84), "West": shapely.box(-180, -80, middle, 84)}
    # a point every 90 degrees: of a longer edge nobody could say which way round it goes
    return written(folder / name, {side: shapely.segmentize(half, 90.0) for side, half in sides.items()})


def balanced(**keys):
    return CONFIG.model_copy(update={"balance": CONFIG.balance.model_copy(update=keys)})


def both(out):
    return pd.read_parquet(out / "samples.parquet"), pd.read_parquet(out / "rejected.parquet")


def test_a_store_without_a_file_has_an_empty_column(built):
    for table in both(built):
        assert table["ecoregion"].isna().all()
        assert table.columns.get_loc("ecoregion") == table.columns.get_loc("country") + 1


def test_a_share_is_refiltered_and_holds(built, tmp_path):
    out = tmp_path / "out"
    run_build(out)
    plain, gone = both(out)
    places = halves(tmp_path, plain)
    summary = refilter(out, balanced(ecoregions=str(places)), HERE, Silence())
    assert summary.prepared == 0
    samples, rejected = both(out)
    assert set(samples["sample_id"]) == set(plain["sample_id"])
    middle = np.quantile(plain["lon"], 0.75)
    assert (samples["ecoregion"] == np.where(samples["lon"] <= middle, "West", "East")).all()
    assert rejected["ecoregion"].isin(["East", "West"]).all()

    config = balanced(ecoregions=str(places), max_ecoregion_share=0.6)
    facts = refilter(out, config, HERE, Silence()).facts
    kept, left_out = both(out)
    assert len(kept) + len(left_out) == len(plain) + len(gone)
    assert kept["ecoregion"].value_counts(normalize=True).max() <= 0.6
    by_share = left_out[left_out["reason"] == "ecoregion_share"]
    assert facts["rejected_by_reason"]["ecoregion_share"] == len(by_share) > 0
    assert set(by_share["ecoregion"]) == {"West"}
    assert (by_share["limit"] == 0.6).all()
    assert (by_share["measured"] > 0.6).all()
    assert verify(out) == []
    assert "ecoregion_share" in (out / "report/index.html").read_text()

    assert refilter(out, config, HERE, Silence()).nothing_to_do
    again = resolve_config(str(out / "build-log/config.toml"), [])
    assert refilter(out, again, HERE, Silence()).nothing_to_do
    written(places, {"All": shapely.box(-180, -80, 180, 84)})  # other content under the same name
    assert not refilter(out, config, HERE, Silence()).nothing_to_do
    samples, _ = both(out)
    assert set(samples["ecoregion"]) == {"All"}


def test_the_folder_of_the_file_stays_out_of_the_store(built, tmp_path):
    plain, _ = both(built)
    digests = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        config = balanced(ecoregions=str(halves(tmp_path / name, plain)), max_ecoregion_share=0.6)
        out = tmp_path / f"out-{name}"
        build(BuildRequest(region="simulated:4", out=out, config=config, workers=HERE), Silence())
        assert 'ecoregions = "halves.gpkg"' in (out / "provenance/config.toml").read_text()
        digests.append((out / "manifest-sha256.txt").read_bytes())
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("keys", "error", "words"),
    [
        ({"max_ecoregion_share": 0.5}, ConfigError, "no ecoregions are known. Set balance.ecoregions"),
        ({"ecoregions": "gone.gpkg"}, RegionError, "gone.gpkg: No such file"),
        ({"ecoregions": "e.geojson", "ecoregion_name": "B"}, RegionError, "no polygon has an attribute 'B'"),
    ],
)
def test_what_cannot_be_used_stops_a_build_before_its_first_block(tmp_path, monkeypatch, keys, error, words):
    monkeypatch.chdir(tmp_path)
    ring = [[0, 0], [1, 0], [1, 1], [0, 0]]
    feature = {"type": "Feature", "properties": {"A": 1}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    (tmp_path / "e.geojson").write_text(json.dumps(feature))
    request = BuildRequest(region="simulated:4", out=tmp_path / "out", config=CONFIG, workers=HERE)
    with pytest.raises(error, match=words):
        build(replace(request, config=balanced(**keys)), Silence())
    assert not (tmp_path / "out").exists()


def test_a_relative_file_is_found_from_the_folder_of_the_build_too(tmp_path, built, monkeypatch):
    """refilter reads the former configuration, which lies elsewhere than the one that was given."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf").mkdir()
    halves(tmp_path / "conf", both(built)[0])
    (tmp_path / "conf/mine.toml").write_text(SMALL_BUILD + 'ecoregions = "halves.gpkg"\n')
    config = resolve_config("conf/mine.toml", [])
    build(BuildRequest(region="simulated:4", out=tmp_path / "out", config=config, workers=HERE), Silence())
    again = resolve_config("out/build-log/config.toml", [])
    assert refilter(tmp_path / "out", again, HERE, Silence()).nothing_to_do
