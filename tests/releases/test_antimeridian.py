"""A release on both sides of 180 degrees: every box that is written, and every outline.

Oracle: on a map that is cut at Greenwich (0 to 360) the same samples lie side by side, and minimum and maximum are the
edges; GeoPandas and stac-geoparquet read the files; the STAC schemas judge the items.
"""

import io
import json

import geopandas
import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely
from pystac.validation import validate_dict
from stac_geoparquet.arrow import stac_table_to_items

from sar1m.io.tables import parquet_bytes
from sar1m.page.window import window_around
from sar1m.releases.audit import blocks_parquet
from sar1m.releases.croissant import croissant
from sar1m.releases.stac import collection, stac_files
from sar1m.releases.stats_files import coverage_of
from sar1m.store.table_columns import SAMPLE_COLUMNS
from support.release_facts import small_facts, with_column
from support.stac_rules import validator

HALF_DEG = 0.01
# Middles of patches; the first lies across, no other does.
PLACES = {
    "one sample across": [180.0],
    "one across, others beside": [180.0, -179.0, 179.0, -175.0],
    "none across, both sides": [-179.0, 179.0],
    "ends at 180": [180.0 - HALF_DEG, 178.0],
    "begins at 180": [-180.0 + HALF_DEG, -178.0],
    "far from 180": [10.0, 12.0],
}


def edges(middle):
    west, east = middle - HALF_DEG, middle + HALF_DEG
    return [west if west <= 180 else west - 360, 66.0, east if east <= 180 else east - 360, 66.01]


def facts_at(places, factory):
    """Small facts whose samples stand at these longitudes in turn, and the samples' longitudes."""
    facts = small_facts(factory)
    lon = np.resize(np.array(places), len(facts.samples))
    boxes = np.empty(len(lon), dtype=object)
    boxes[:] = [edges(one) for one in lon]
    placed = with_column(with_column(facts, "bounds_lonlat", boxes), "lon", np.where(lon == 180.0, -180.0, lon))
    return with_column(placed, "block", [f"b{round(one)}" for one in lon]), lon


def box_on_a_map_cut_at_greenwich(lon):
    """West and east in -180..180 of longitudes that lie within half the globe of 180."""
    east_of_greenwich = np.mod(lon, 360.0)
    west, east = east_of_greenwich.min() - HALF_DEG, east_of_greenwich.max() + HALF_DEG
    return [west if west < 180 else west - 360, east if east <= 180 else east - 360]


@pytest.fixture(params=PLACES)
def case(request, tmp_path_factory):
    return facts_at(PLACES[request.param], tmp_path_factory)


def geo_of(content):
    return json.loads(pq.read_schema(io.BytesIO(content)).metadata[b"geo"])["columns"]["geometry"]


def test_boxes_of_every_catalogue_run_from_the_western_edge_to_the_eastern_one(case):
    facts, lon = case
    west, east = box_on_a_map_cut_at_greenwich(lon)
    expected = pytest.approx([west, 66.0, east, 66.01])
    files = stac_files(facts)
    assert collection(facts)["extent"]["spatial"]["bbox"][0] == expected
    for content in (files["items.parquet"], parquet_bytes(facts.samples, SAMPLE_COLUMNS)):
        assert geo_of(content)["bbox"] == expected
    assert geo_of(blocks_parquet(facts.samples))["bbox"] == expected
    assert coverage_of(facts.samples)["all"]["bounds_lonlat"] == expected
    box = [float(edge) for edge in croissant(facts)["spatialCoverage"]["geo"]["box"].split()]
    assert [box[1], box[0], box[3], box[2]] == pytest.approx([west, 66.0, east, 66.01], abs=1e-5)


def test_outlines_are_as_large_as_the_patches_and_no_part_crosses_180(case):
    facts, lon = case
    tables = {
        "samples": (parquet_bytes(facts.samples, SAMPLE_COLUMNS), lon),
        "items": (stac_files(facts)["items.parquet"], lon),
        "blocks": (
            blocks_parquet(facts.samples.assign(split="train")),
            sorted(set(lon), key=lambda one: f"b{round(one)}"),
        ),
    }
    for content, middles in tables.values():
        table = geopandas.read_parquet(io.BytesIO(content))
        kinds = ["MultiPolygon" if middle == 180.0 else "Polygon" for middle in middles]
        assert table.geometry.geom_type.tolist() == kinds
        assert geo_of(content)["geometry_types"] == sorted(set(kinds))
        np.testing.assert_allclose(shapely.area(table.geometry.to_numpy()), 2 * HALF_DEG * 0.01, rtol=1e-6)
        assert table.geometry.is_valid.all()
        parts = shapely.get_parts(table.geometry.to_numpy())
        assert (shapely.bounds(parts)[:, 2] - shapely.bounds(parts)[:, 0]).max() <= 2 * HALF_DEG + 1e-9
        assert np.abs(shapely.bounds(parts)[:, [0, 2]]).max() <= 180.0


def test_items_are_valid_and_their_own_boxes_cross_where_they_do(tmp_path_factory):
    facts, lon = facts_at(PLACES["one across, others beside"], tmp_path_factory)
    items = list(stac_table_to_items(pq.read_table(io.BytesIO(stac_files(facts)["items.parquet"]))))
    for item, middle in zip(items, lon, strict=True):
        item["properties"] = {name: value for name, value in item["properties"].items() if value is not None}
        validate_dict(item, validator=validator())
        west, _, east, _ = item["bbox"]
        assert [west, east] == pytest.approx([edges(middle)[0], edges(middle)[2]])
        assert (west > east) == (middle == 180.0)


def test_the_map_of_such_samples_is_no_map_of_the_world():
    lon = np.array([179.99, -179.99, 179.0, -175.0])
    window = window_around(lon, np.full(4, 66.0), 1000.0)
    assert window.lon_1 - window.lon_0 < 10
    assert ((window.x(lon) >= 0) & (window.x(lon) <= 1000)).all()
