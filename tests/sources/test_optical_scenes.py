"""Optical scenes that stand alone, for SAR scenes that come from elsewhere."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pyproj import Transformer

from sar1m.records import RasterGrid
from sar1m.sources.failures import PlanFailures
from sar1m.sources.folder.item_files import stac_optical
from sar1m.sources.folder.scenes_csv import table_optical
from sar1m.sources.known_bad import bad_spans, known_fault
from sar1m.sources.layers import OpticalScene, from_text, to_text
from sar1m.store.errors import SourceError
from support.folders import OPTICAL_ROW, SAR_ROW, write_table
from support.geotiffs import write_tiff

PLACE = RasterGrid(epsg=32633, left_m=500_000.0, top_m=5_000_000.0, gsd_m=10.0, rows=80, cols=60)


@pytest.fixture
def scenes(tmp_path):
    write_tiff(tmp_path / "rgb.tif", np.full((3, 80, 60), 2000, dtype=np.uint16), PLACE)
    write_tiff(tmp_path / "nir.tif", np.full((1, 80, 60), 3000, dtype=np.uint16), PLACE)
    write_tiff(tmp_path / "scl.tif", np.full((1, 80, 60), 4, dtype=np.uint8), PLACE)
    return tmp_path


def expected_box():
    x, y = [500_000.0, 500_600.0, 500_600.0, 500_000.0], [5_000_000.0, 5_000_000.0, 4_999_200.0, 4_999_200.0]
    lon, lat = Transformer.from_crs(32633, 4326, always_xy=True).transform(x, y)
    return min(lon), min(lat), max(lon), max(lat)


def box_of(scene):
    assert scene.outline[0] == scene.outline[-1]
    lon, lat = np.transpose(scene.outline)
    return lon.min(), lat.min(), lon.max(), lat.max()


def test_a_table_gives_its_optical_rows_without_sar(scenes):
    near_infrared = {**OPTICAL_ROW, "path": "nir.tif", "bands": "B08"}
    mask = {"pair": OPTICAL_ROW["pair"], "kind": "scl", "path": "scl.tif"}
    table = write_table(scenes, [{**OPTICAL_ROW, "attribution": "contains ..."}, mask, near_infrared])
    (scene,) = table_optical(table, PlanFailures().of)
    assert [band.name for band in scene.optical.bands] == ["B04", "B03", "B02", "B08"]
    assert [layer.kind for layer in scene.classes] == ["scl"]
    assert scene.attribution == "contains ..."
    np.testing.assert_allclose(box_of(scene), expected_box(), atol=1e-9)


def test_rows_of_sar_are_left_alone_and_a_wrong_kind_is_not(scenes):
    other = {**SAR_ROW, "pair": "other"}
    (scene,) = table_optical(write_table(scenes, [other, OPTICAL_ROW]), PlanFailures().of)
    assert scene.name == OPTICAL_ROW["pair"]
    failures = PlanFailures()
    assert table_optical(write_table(scenes, [{**OPTICAL_ROW, "kind": "picture"}]), failures.of) == []
    assert "line 2: column kind has 'picture'" in failures.found[0].cause


def test_items_give_scenes_that_survive_a_handle(scenes):
    item = {
        "type": "Feature",
        "id": "S2_item",
        "properties": {"datetime": "2024-05-01T10:00:00Z", "s2:processing_baseline": "05.10", "license": "proprietary"},
        "assets": {"nir": {"href": "nir.tif"}, "scl": {"href": "scl.tif"}},
    }
    (scenes / "item.json").write_text(json.dumps(item))
    (scene,) = stac_optical(scenes, PlanFailures().of)
    assert (scene.name, scene.optical.offset_applied, scene.optical.licence) == ("S2_item", -1000, "proprietary")
    np.testing.assert_allclose(box_of(scene), expected_box(), atol=1e-9)
    assert from_text(OpticalScene, to_text(scene), "item") == scene
    with pytest.raises(SourceError, match=r"item: not planned by this version"):
        from_text(OpticalScene, "{}", "item")


def test_known_bad_spans_hold_for_their_platform_and_their_ends():
    (span,) = bad_spans()
    assert "7 km" in known_fault("sentinel-1b", span.first)
    assert known_fault("sentinel-1b", span.last) is not None
    assert known_fault("sentinel-1a", span.first) is None
    assert known_fault("sentinel-1b", span.first.replace(year=2017)) is None
