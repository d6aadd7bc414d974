"""collection.json and items.parquet: valid STAC, readable by stac-geoparquet and GeoPandas, pointing at the pixels."""

import io
import json
from dataclasses import replace

import geopandas
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import zarr
from release_facts import real_facts, row, small_facts, with_column

from sar1m.release.stac import collection, stac_files

EXTENSIONS = {
    "proj:": "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "eo:": "https://stac-extensions.github.io/eo/v2.0.0/schema.json",
    "sar:": "https://stac-extensions.github.io/sar/v1.0.0/schema.json",
    "sat:": "https://stac-extensions.github.io/sat/v1.0.0/schema.json",
    "processing:": "https://stac-extensions.github.io/processing/v1.1.0/schema.json",
}


@pytest.fixture(params=["small", "real"])
def facts(request, tmp_path_factory):
    return {"small": small_facts, "real": real_facts}[request.param](tmp_path_factory)


@pytest.fixture
def small(tmp_path_factory):
    return small_facts(tmp_path_factory)


def table_of(facts):
    return pq.read_table(io.BytesIO(stac_files(facts)["items.parquet"]))


def items_of(facts):
    arrow = pytest.importorskip(
        "stac_geoparquet.arrow", reason="stac-geoparquet is not installed: siblings use pyarrow"
    )
    return list(arrow.stac_table_to_items(table_of(facts)))


def test_the_collection_is_valid(facts):
    validation = pytest.importorskip("pystac.validation", reason="pystac is not installed")
    pytest.importorskip("jsonschema", reason="pystac[validation] is not installed")
    told = json.loads((facts.root / "collection.json").read_bytes())
    validation.validate_dict(told, extensions=[])  # schemas of extensions lie on a network that tests do not have
    assert told["license"] in ("CC0-1.0", "CDLA-Permissive-1.0")


def test_items_are_valid_and_declare_the_extensions_whose_fields_they_hold(facts):
    validation = pytest.importorskip("pystac.validation", reason="pystac is not installed")
    pytest.importorskip("jsonschema", reason="pystac[validation] is not installed")
    items = items_of(facts)
    assert [item["id"] for item in items] == facts.samples["sample_id"].tolist()
    for item in items:
        validation.validate_dict(item, extensions=[])
        text = json.dumps([item["properties"], item["assets"]])
        assert {uri for prefix, uri in EXTENSIONS.items() if f'"{prefix}' in text} == set(item["stac_extensions"])


def test_real_products_tell_their_instrument(tmp_path_factory):
    facts = real_facts(tmp_path_factory)
    for item, (_, sample) in zip(items_of(facts), facts.samples.iterrows(), strict=True):
        told = item["properties"]
        # required by the sar extension, version 1.0.0
        assert (told["sar:instrument_mode"], told["sar:product_type"], told["sar:frequency_band"]) == ("IW", "GRD", "C")
        assert told["sar:polarizations"] == ["VV", "VH"]
        assert told["sat:orbit_state"] == sample["orbit_state"]
        assert told["eo:cloud_cover"] == pytest.approx(100 * sample["cloud_frac"])
        assert told["platform"] == "sentinel-1a"
        assert told["datetime"].startswith(sample["sar_datetime"].strftime("%Y-%m-%dT%H:%M:%S"))


def test_simulated_samples_claim_no_instrument(small):
    names = table_of(small).column_names
    assert [name for name in names if name.startswith("sar:")] == []
    assert "constellation" not in names


def test_an_asset_and_the_index_find_the_samples_pixels(facts):
    rows = table_of(facts).to_pylist()
    for told, (_, sample) in zip(rows, facts.samples.iterrows(), strict=True):
        for name in ("sar", "optical"):
            array = zarr.open_array(facts.root / told["assets"][name]["href"], mode="r")
            assert array.shape[-2:] == tuple(told["proj:shape"])
            assert np.asarray(array[told["sar1m:index"]]).any()
        group = zarr.open_group((facts.root / told["assets"]["sar"]["href"]).parent, mode="r")
        assert group["lon"][told["sar1m:index"]] == sample["lon"]


def test_geopandas_reads_the_outlines(facts):
    frame = geopandas.read_parquet(facts.root / "items.parquet")
    assert frame.crs == "OGC:CRS84"
    np.testing.assert_array_equal(frame.geometry.bounds.to_numpy(), np.stack(facts.samples["bounds_lonlat"]))
    assert frame.geometry.exterior.is_ccw.all()  # RFC 7946
    west, south, east, north = json.loads((facts.root / "collection.json").read_bytes())["extent"]["spatial"]["bbox"][0]
    assert frame.total_bounds.tolist() == [west, south, east, north]


def test_the_projected_box_spans_the_patch(facts):
    for told in table_of(facts).to_pylist():
        a, _, left, _, e, top = told["proj:transform"]
        rows, cols = told["proj:shape"]
        assert told["proj:bbox"] == [left, top + e * rows, left + a * cols, top]
        assert told["proj:bbox"][1] < told["proj:bbox"][3]


def test_the_file_carries_its_collection(facts):
    metadata = table_of(facts).schema.metadata
    told = json.loads(metadata[b"stac-geoparquet"])
    assert told == {"version": "1.0.0", "collections": {"sar-1m": collection(facts)}}
    column = json.loads(metadata[b"geo"])["columns"]["geometry"]
    assert column["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]
    assert stac_files(facts) == stac_files(facts)


def test_an_unpaired_sample_has_no_optical_asset_and_no_clouds(small):
    lone = with_column(small, "paired", small.samples["index"] > 0)
    for told, paired in zip(table_of(lone).to_pylist(), lone.samples["paired"], strict=True):
        assert (told["assets"]["optical"] is not None) == paired
        assert (told["eo:cloud_cover"] is not None) == paired
        assert (EXTENSIONS["eo:"] in told["stac_extensions"]) == paired
    for item, paired in zip(items_of(lone), lone.samples["paired"], strict=True):
        assert ("optical" in item["assets"]) == paired


def test_a_sample_without_any_time_is_counted_and_left_out(small):
    times = small.samples["sar_datetime"].copy()
    times.iloc[:2] = pd.NaT
    partner = small.samples["optical_datetime"].copy()
    partner.iloc[0] = pd.NaT
    timeless = replace(small, samples=small.samples.assign(sar_datetime=times, optical_datetime=partner))
    told = table_of(timeless)
    assert told.column("id").to_pylist() == small.samples["sample_id"].tolist()[1:]
    assert told.column("datetime")[0].as_py() == partner.iloc[1].to_pydatetime()
    assert collection(timeless)["sar1m:samples_without_time"] == 1
    assert collection(small)["sar1m:samples_without_time"] == 0


def test_stripmap_products_are_told_by_mode_and_mixed_licences_are_other(small):
    names = ["S1C_S4_GRDH_1SDV_20250101T000000_20250101T000010_000001_000001_4B8B"] * len(small.samples)
    told = table_of(with_column(small, "sar_product", names)).to_pylist()[0]
    assert (told["sar:instrument_mode"], told["sar:product_type"]) == ("SM", "GRD")
    assert collection(replace(small, licences=(row("CC-BY-SA-4.0"),)))["license"] == "other"
