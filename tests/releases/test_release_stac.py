"""collection.json and items.parquet: valid STAC, readable by stac-geoparquet and GeoPandas, pointing at the pixels."""

import io
import json
from dataclasses import replace

import geopandas
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pystac
import pytest
import zarr
from pystac.extensions import projection, sar, sat
from pystac.validation import validate_dict
from stac_geoparquet.arrow import stac_table_to_items

from sar1m.releases import stac
from sar1m.releases.stac import collection, stac_files
from support.release_facts import real_facts, row, small_facts, with_column
from support.stac_rules import validator

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
    """The items as stac-geoparquet reads them. It hands on Parquet's null where an item lacks a property."""
    items = list(stac_table_to_items(table_of(facts)))
    for item in items:
        item["properties"] = {name: value for name, value in item["properties"].items() if value is not None}
    return items


def require_valid(found):
    """Of the core and of every extension that it declares."""
    checked = validate_dict(found, validator=validator())
    assert len(checked) == 1 + len(found["stac_extensions"])


def test_the_collection_is_valid(facts):
    found = json.loads((facts.root / "collection.json").read_bytes())
    require_valid(found)
    assert found["license"] in ("CC0-1.0", "CDLA-Permissive-1.0")
    assert pystac.Collection.from_dict(found).title == "sar-1m v0.1.0"


def test_items_are_valid_and_declare_the_extensions_whose_fields_they_hold(facts):
    items = items_of(facts)
    assert [item["id"] for item in items] == facts.samples["sample_id"].tolist()
    for item in items:
        require_valid(item)
        text = json.dumps([item["properties"], item["assets"]])
        assert {uri for prefix, uri in EXTENSIONS.items() if f'"{prefix}' in text} == set(item["stac_extensions"])


def test_validation_can_fail(small):
    item = items_of(small)[0]
    for wrong in ({"proj:shape": [64]}, {"eo:cloud_cover": 101}, {"sat:orbit": 7}, {"processing:software": "sar1m"}):
        with pytest.raises(pystac.STACValidationError):
            require_valid({**item, "properties": {**item["properties"], **wrong}})
    with pytest.raises(pystac.STACValidationError):
        require_valid({**item, "properties": {**item["properties"], "datetime": "today"}})


def test_pystac_knows_the_extensions_by_these_versions(tmp_path_factory):
    """It has none of its own for processing, and of eo the one before."""
    assert (stac.PROJECTION, stac.SAR, stac.SAT) == (projection.SCHEMA_URI, sar.SCHEMA_URI, sat.SCHEMA_URI)
    item = pystac.Item.from_dict(items_of(real_facts(tmp_path_factory))[0])
    assert item.ext.proj.code == item.properties["proj:code"]
    assert item.ext.sar.frequency_band == sar.FrequencyBand.C
    assert item.ext.sat.orbit_state == sat.OrbitState(item.properties["sat:orbit_state"])


def test_eo_is_declared_for_its_fields_alone(small):
    """Pictures have no wavelengths: what is left of eo is the clouds, where they are known."""
    pictures = replace(small, summary={**small.summary, "optical_quantity": "display"})
    require_valid(collection(pictures))
    assert collection(pictures)["stac_extensions"] == []
    assert collection(small)["stac_extensions"] == [EXTENSIONS["eo:"]]
    cloudless = with_column(pictures, "cloud_frac", np.where(small.samples["index"] > 0, 0.25, np.nan))
    for item, known in zip(items_of(cloudless), small.samples["index"] > 0, strict=True):
        require_valid(item)
        assert (EXTENSIONS["eo:"] in item["stac_extensions"]) == known


def test_a_sample_of_which_little_is_known_is_a_valid_item(small):
    unknown = small
    for name in ("platform", "orbit_state", "relative_orbit", "processing", "enl", "country"):
        unknown = with_column(unknown, name, small.samples[name].where(small.samples["index"] > 0))
    unknown = with_column(unknown, "paired", small.samples["index"] > 0)
    for item in items_of(unknown):
        require_valid(item)


def test_real_products_tell_their_instrument(tmp_path_factory):
    facts = real_facts(tmp_path_factory)
    for item, (_, sample) in zip(items_of(facts), facts.samples.iterrows(), strict=True):
        found = item["properties"]
        # required by the sar extension, version 1.0.0
        assert (found["sar:instrument_mode"], found["sar:product_type"], found["sar:frequency_band"]) == (
            "IW",
            "GRD",
            "C",
        )
        assert found["sar:polarizations"] == ["VV", "VH"]
        assert found["sat:orbit_state"] == sample["orbit_state"]
        assert found["eo:cloud_cover"] == pytest.approx(100 * sample["cloud_frac"])
        assert found["platform"] == "sentinel-1a"
        assert found["datetime"].startswith(sample["sar_datetime"].strftime("%Y-%m-%dT%H:%M:%S"))


def test_simulated_samples_claim_no_instrument(small):
    names = table_of(small).column_names
    assert [name for name in names if name.startswith("sar:")] == []
    assert "constellation" not in names


def test_an_asset_and_the_index_find_the_samples_pixels(facts):
    rows = table_of(facts).to_pylist()
    for found, (_, sample) in zip(rows, facts.samples.iterrows(), strict=True):
        for name in ("sar", "optical"):
            array = zarr.open_array(facts.root / found["assets"][name]["href"], mode="r")
            assert array.shape[-2:] == tuple(found["proj:shape"])
            assert np.asarray(array[found["sar1m:index"]]).any()
        group = zarr.open_group((facts.root / found["assets"]["sar"]["href"]).parent, mode="r")
        assert group["lon"][found["sar1m:index"]] == sample["lon"]


def test_geopandas_reads_the_outlines(facts):
    frame = geopandas.read_parquet(facts.root / "items.parquet")
    assert frame.crs == "OGC:CRS84"
    np.testing.assert_array_equal(frame.geometry.bounds.to_numpy(), np.stack(facts.samples["bounds_lonlat"]))
    assert frame.geometry.exterior.is_ccw.all()  # RFC 7946
    west, south, east, north = json.loads((facts.root / "collection.json").read_bytes())["extent"]["spatial"]["bbox"][0]
    assert frame.total_bounds.tolist() == [west, south, east, north]


def test_the_projected_box_spans_the_patch(facts):
    for found in table_of(facts).to_pylist():
        a, _, left, _, e, top = found["proj:transform"]
        rows, cols = found["proj:shape"]
        assert found["proj:bbox"] == [left, top + e * rows, left + a * cols, top]
        assert found["proj:bbox"][1] < found["proj:bbox"][3]


def test_the_file_carries_its_collection(facts):
    metadata = table_of(facts).schema.metadata
    found = json.loads(metadata[b"stac-geoparquet"])
    assert found == {"version": "1.0.0", "collections": {"sar-1m": collection(facts)}}
    column = json.loads(metadata[b"geo"])["columns"]["geometry"]
    assert column["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]
    assert stac_files(facts) == stac_files(facts)


def test_an_unpaired_sample_has_no_optical_asset_and_no_clouds(small):
    lone = with_column(small, "paired", small.samples["index"] > 0)
    for found, paired in zip(table_of(lone).to_pylist(), lone.samples["paired"], strict=True):
        assert (found["assets"]["optical"] is not None) == paired
        assert (found["eo:cloud_cover"] is not None) == paired
        assert (EXTENSIONS["eo:"] in found["stac_extensions"]) == paired
    for item, paired in zip(items_of(lone), lone.samples["paired"], strict=True):
        assert ("optical" in item["assets"]) == paired


def test_a_sample_without_any_time_is_counted_and_left_out(small):
    times = small.samples["sar_datetime"].copy()
    times.iloc[:2] = pd.NaT
    partner = small.samples["optical_datetime"].copy()
    partner.iloc[0] = pd.NaT
    timeless = replace(small, samples=small.samples.assign(sar_datetime=times, optical_datetime=partner))
    found = table_of(timeless)
    assert found.column("id").to_pylist() == small.samples["sample_id"].tolist()[1:]
    assert found.column("datetime")[0].as_py() == partner.iloc[1].to_pydatetime()
    assert collection(timeless)["sar1m:samples_without_time"] == 1
    assert collection(small)["sar1m:samples_without_time"] == 0


def test_stripmap_products_are_told_by_mode_and_mixed_licences_are_other(small):
    names = ["S1C_S4_GRDH_1SDV_20250101T000000_20250101T000010_000001_000001_4B8B"] * len(small.samples)
    found = table_of(with_column(small, "sar_product", names)).to_pylist()[0]
    assert (found["sar:instrument_mode"], found["sar:product_type"]) == ("SM", "GRD")
    assert collection(replace(small, licences=(row("CC-BY-SA-4.0"),)))["license"] == "other"
