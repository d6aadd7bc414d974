"""What STAC items say of their rasters, in a folder and from a service."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from sar1m.sources.folder.source import FolderSource
from sar1m.sources.item_words import (
    BandWords,
    band_words,
    optical_offset_dn,
    orbit_direction,
    platform_name,
    track_number,
    with_harmonised,
)
from sar1m.sources.services.stac.items import ItemRule, found_in
from sar1m.store.errors import SourceError
from support.folders import CHIP, CONFIG, SAR_ROW, read_all, write_table
from support.geotiffs import speckled_db, write_tiff

RULE = ItemRule(service="here", hosts=frozenset())
RING = [[[15.0, 45.1], [15.1, 45.1], [15.1, 45.2], [15.0, 45.2], [15.0, 45.1]]]
S2_NAME = "S2A_MSIL2A_20230602T101031_N0509_R022_T32TPS_20230602T143002"
HARMONISED = {"earthsearch:boa_offset_applied": True}
OFFSET = {"scale": 0.0001, "offset": -0.1}


# ---- the fields of a band ----


@pytest.mark.parametrize(
    ("about", "properties", "expected"),
    [
        (
            {"raster:bands": [{"nodata": -9999, "scale": 0.02, "offset": 1, "unit": "dB"}]},
            {},
            (-9999.0, 0.02, 1.0, "dB"),
        ),
        (
            {"bands": [{"nodata": 0, "raster:scale": 0.01, "raster:offset": -0.1, "unit": "dB"}]},
            {},
            (0, 0.01, -0.1, "dB"),
        ),
        ({"nodata": 0, "raster:scale": 0.01, "raster:offset": -0.1, "unit": "dB"}, {}, (0.0, 0.01, -0.1, "dB")),
        ({"bands": [{"name": "vv"}]}, {"nodata": 7, "unit": "dB", "raster:scale": 2}, (7.0, 2.0, None, "dB")),
        ({"nodata": 0, "bands": [{"nodata": -1}]}, {"nodata": 7}, (-1.0, None, None, None)),  # the nearest word counts
        ({"raster:bands": [{"nodata": "nan"}], "bands": [{"unit": "dB"}]}, {}, (math.nan, None, None, "dB")),
        ({"nodata": "-inf"}, {}, (-math.inf, None, None, None)),
        ({"raster:bands": [], "bands": "none"}, {}, (None, None, None, None)),
    ],
)
def test_words_stand_in_any_of_the_places_that_stac_allows(about, properties, expected):
    found = band_words(about, properties, "item")
    assert [found.nodata, found.scale, found.offset, found.unit] == pytest.approx(list(expected), nan_ok=True)


def test_each_band_of_an_asset_has_its_own_words():
    about = {"raster:bands": [{"nodata": 0}, {"nodata": 1}]}
    assert [band_words(about, {}, "item", number).nodata for number in (1, 2, 3)] == [0.0, 1.0, None]


@pytest.mark.parametrize(
    ("about", "found"),
    [
        ({"raster:bands": [{"scale": 1}], "bands": [{"scale": 2}]}, "raster:bands says scale 1, bands says 2"),
        ({"raster:bands": [{"scale": 0}]}, r"scale is 0; expected a number \(scale: not 0\)"),
        ({"raster:bands": [{"scale": True}]}, "scale is True; expected a number"),
        ({"raster:bands": [{"offset": "1"}]}, "offset is '1'; expected a number"),
        ({"raster:bands": [{"nodata": "none"}]}, "nodata is 'none'; expected a number"),
        ({"raster:bands": [{"scale": 10**400}]}, "scale is 1000"),
        ({"unit": 7}, "unit is 7; expected a text"),
    ],
)
def test_a_word_that_is_none_is_refused_by_name(about, found):
    with pytest.raises(SourceError, match=found):
        band_words(about, {}, "item")


# ---- platform, orbit state, track ----


@pytest.mark.parametrize(
    ("text", "name"),
    [
        *(
            (text, "sentinel-1a")
            for text in ("S1A", "SENTINEL-1A", "Sentinel-1 A", "sentinel_1a", " sentinel1A ", "s1-a")
        ),
        ("Sentinel-2B", "sentinel-2b"),
        ("sentinel-1", "sentinel-1"),
        ("TerraSAR-X", "terrasar-x"),
        ("", None),
        (None, None),
    ],
)
def test_platforms_have_one_name(text, name):
    assert platform_name(text, "item: platform") == name


def test_a_platform_that_contradicts_its_product_or_does_not_exist_is_refused():
    assert platform_name("Sentinel-1", "x", "sentinel-1a") == "sentinel-1a"
    assert platform_name(None, "x", "sentinel-1a") == "sentinel-1a"
    for text in ("S1B", "sentinel-2a"):
        with pytest.raises(SourceError, match=f"item: platform is '{text}', but its name is of sentinel-1a"):
            platform_name(text, "item: platform", "sentinel-1a")
    with pytest.raises(SourceError, match="expected one such as sentinel-1a, units A to D"):
        platform_name("Sentinel-1X", "x")


def test_orbit_states_in_any_case_and_no_other_words():
    assert [orbit_direction(text, "x") for text in ("DESCENDING", "Ascending", "desc", "", None)] == [
        "descending",
        "ascending",
        "descending",
        None,
        None,
    ]
    with pytest.raises(SourceError, match="item: sat:orbit_state is 'geostationary'; expected ascending or descending"):
        orbit_direction("geostationary", "item: sat:orbit_state")


@pytest.mark.parametrize(
    ("value", "platform", "track"),
    [
        (1, None, 1),
        (175, "sentinel-1a", 175),
        (44.0, None, 44),
        ("022", None, 22),
        (143, "sentinel-2b", 143),
        (None, None, None),
    ],
)
def test_tracks_that_there_are(value, platform, track):
    assert track_number(value, platform, "x") == track


@pytest.mark.parametrize(
    ("value", "platform"),
    [
        (999, "sentinel-1a"),
        (176, None),
        (0, None),
        (-3, None),
        (144, "sentinel-2a"),
        (1.5, None),
        (True, None),
        ("x", None),
        (1000000000.0, None),
        (math.nan, None),
        ([5], None),
    ],
)
def test_a_track_that_there_is_not_is_refused(value, platform):
    with pytest.raises(SourceError, match=r"item: sat:relative_orbit is .*; expected 1 to 1(75|43)\."):
        track_number(value, platform, "item: sat:relative_orbit")


# ---- one item, in a folder and from a service ----


def optical_item(bands: dict[str, Any], **properties: Any) -> dict[str, Any]:
    about = {"raster:bands": [bands], "type": "image/tiff; application=geotiff"}
    return {
        "type": "Feature",
        "id": "S2A_32TPS_20230602_0_L2A",
        "collection": "sentinel-2-l2a",
        "geometry": {"type": "Polygon", "coordinates": RING},
        "properties": {"datetime": "2023-06-02T10:20:00Z", "platform": "sentinel-2a", "eo:cloud_cover": 1} | properties,
        "assets": {name: about | {"href": f"{name}.tif"} for name in ("red", "green", "blue")},
    }


def radar_item(assets: dict[str, Any], **properties: Any) -> dict[str, Any]:
    stated = {"datetime": "2023-06-02T05:15:00Z", "platform": "S1A", "sar:product_type": "RTC"} | properties
    return {
        "type": "Feature",
        "id": "radar",
        "collection": "sentinel-1-rtc",
        "geometry": {"type": "Polygon", "coordinates": RING},
        "properties": stated,
        "assets": {name: {"href": f"{name}.tif", "type": "image/tiff"} | about for name, about in assets.items()},
    }


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(4)
    write_tiff(tmp_path / "vv.tif", 10 ** (speckled_db(rng, 1, 80, 80)[0] / 10), CHIP)
    for band in ("red", "green", "blue"):
        write_tiff(tmp_path / f"{band}.tif", np.full((80, 80), 1310, np.uint16), CHIP)
    return tmp_path


def write(root, *items):
    for item in items:
        (root / f"{item['id']}.json").write_text(json.dumps(item))
    return FolderSource(root)


def online(item: dict[str, Any]) -> dict[str, Any]:
    """The same item as a service gives it."""
    assets = {name: about | {"href": f"https://example.org/{about['href']}"} for name, about in item["assets"].items()}
    return item | {"assets": assets}


@pytest.mark.parametrize(
    ("bands", "properties", "offset_dn"),
    [
        (OFFSET, HARMONISED | {"s2:processing_baseline": "05.09", "s2:product_uri": f"{S2_NAME}.SAFE"}, 0),
        ({}, HARMONISED | {"s2:processing_baseline": "05.09"}, 0),
        (OFFSET | {"offset": 0}, HARMONISED, 0),
        (OFFSET, {"earthsearch:boa_offset_applied": False, "s2:processing_baseline": "05.09"}, -1000),
        (OFFSET, {}, -1000),
        (OFFSET | {"offset": 0}, {"s2:processing_baseline": "05.09"}, 0),  # stated as harmonised
        ({"offset": 0}, {"s2:processing_baseline": "99.99"}, 0),
        ({}, {"s2:processing_baseline": "05.12"}, -1000),
        ({}, {"s2:processing_baseline": "02.14"}, 0),
        ({}, {"s2:product_uri": S2_NAME}, -1000),
    ],
)
def test_folder_and_service_take_the_same_offset_off(folder, bands, properties, offset_dn):
    item = optical_item(bands, **properties)
    found = found_in(online(item), RULE, "optical")
    assert found is not None
    assert found.scene.offset_dn == offset_dn
    ((_, pixels),) = read_all(write(folder, radar_item({"vv": {}}), item))
    np.testing.assert_allclose(pixels.optical, (1310 + offset_dn) / 10_000, rtol=1e-5)


@pytest.mark.parametrize(
    ("bands", "properties", "found"),
    [
        ({}, {}, "states no processing baseline, and its date does not decide.*boa_offset_applied"),
        ({}, {"s2:processing_baseline": "99.99"}, r"baseline 99\.99 marks a product processed"),
        ({}, {"s2:processing_baseline": "05.08"}, r"baseline 05\.08 is not one of"),
        ({}, {"s2:processing_baseline": "5.1"}, r"baseline '5\.1'; expected a form such as 04\.00"),
        ({}, {"s2:processing_baseline": 5.09}, r"s2:processing_baseline is 5\.09; expected a text"),
        ({}, {"s2:product_uri": S2_NAME.replace("N0509", "N9999")}, r"baseline 99\.99 marks a product processed"),
        ({}, {"s2:processing_baseline": "02.05", "s2:product_uri": S2_NAME}, r"baseline 02\.05 and baseline 05\.09 in"),
        (OFFSET, {"s2:processing_baseline": "02.14"}, r"an offset of -1000 DN and baseline 02\.14 \(0 DN\)"),
        (
            OFFSET | {"offset": 0},
            {"earthsearch:boa_offset_applied": False, "s2:processing_baseline": "05.09"},
            r"an offset of 0 DN and baseline 05\.09 \(-1000 DN\)",
        ),
        (OFFSET | {"offset": -0.05}, HARMONISED, "an offset of -500 DN and an offset that is already applied"),
        ({}, {"earthsearch:boa_offset_applied": "true"}, "boa_offset_applied is 'true'; expected true or false"),
    ],
)
def test_folder_and_service_refuse_the_same_items(folder, bands, properties, found):
    item = optical_item(bands, **properties)
    with pytest.raises(SourceError, match=found):
        found_in(online(item), RULE, "optical")
    with pytest.raises(SourceError, match=found):
        list(write(folder, radar_item({"vv": {}}), item).candidates(CONFIG))


def test_every_asset_has_its_own_scale_and_nodata(tmp_path):
    rng = np.random.default_rng(4)
    decibels = {"vv": speckled_db(rng, 1, 80, 80)[0], "vh": speckled_db(rng, 1, 80, 80)[0] - 7}
    steps = {"vv": 0.01, "vh": 0.02}
    for name, plane in decibels.items():
        stored = np.rint(plane / steps[name]).astype(np.int16)
        stored[:20] = -9999
        write_tiff(tmp_path / f"{name}.tif", stored, CHIP)
    assets = {name: {"raster:bands": [{"unit": "dB", "scale": steps[name], "nodata": -9999}]} for name in decibels}
    item = radar_item(assets)
    ((candidate, pixels),) = read_all(write(tmp_path, item))
    assert candidate.sar.platform == "sentinel-1a"
    assert np.isnan(pixels.sar[:, :20]).all()
    for number, (name, plane) in enumerate(decibels.items()):
        np.testing.assert_allclose(10 * np.log10(pixels.sar[number, 20:]), plane[20:], atol=steps[name])
    found = found_in(online(item), RULE, "sar")
    assert found is not None
    assert [(a.scale, a.nodata, a.unit) for a in found.scene.assets] == [(0.01, -9999, "dB"), (0.02, -9999, "dB")]


def test_a_mask_s_nodata_is_no_class(folder):
    scl = np.full((80, 80), 4, np.uint8)
    scl[:20] = 255
    write_tiff(folder / "scl.tif", scl, CHIP)
    item = optical_item(OFFSET)
    item["assets"]["scl"] = {"href": "scl.tif", "raster:bands": [{"nodata": 255}]}
    ((_, pixels),) = read_all(write(folder, radar_item({"vv": {}}), item))
    np.testing.assert_array_equal(pixels.cloud, scl == 255)  # nobody knows that it is clear


@pytest.mark.parametrize(
    ("assets", "properties", "found"),
    [
        ({"vv": {}}, {"sat:relative_orbit": 999}, "item radar: sat:relative_orbit is 999; expected 1 to 175"),
        (
            {"vv": {}},
            {"sat:orbit_state": "up"},
            "item radar: sat:orbit_state is 'up'; expected ascending or descending",
        ),
        ({"vv": {}}, {"platform": "Sentinel-1Z"}, "item radar: platform is 'Sentinel-1Z'"),
        ({"vv": {"unit": "amplitude"}}, {}, "asset vv: unit 'amplitude'; expected dB or linear"),
        ({"vv": {"unit": "dB"}, "vh": {"unit": "linear"}}, {}, "its assets have several units: vv db, vh linear"),
    ],
)
def test_a_radar_item_that_says_what_cannot_be_is_refused(folder, assets, properties, found):
    write_tiff(folder / "vh.tif", np.full((80, 80), 0.05, np.float32), CHIP)
    item = radar_item(assets, **properties)
    with pytest.raises(SourceError, match=found):
        list(write(folder, item).candidates(CONFIG))
    with pytest.raises(SourceError, match="expected"):
        found_in(online(item), RULE, "sar")


def test_a_table_s_columns_are_read_by_the_same_rules(folder):
    row = SAR_ROW | {"platform": "Sentinel-1 A", "orbit_state": "DESC", "relative_orbit": "44"}
    (candidate,) = FolderSource(write_table(folder, [row])).candidates(CONFIG)
    assert (candidate.sar.platform, candidate.sar.orbit_state, candidate.sar.relative_orbit) == (
        "sentinel-1a",
        "descending",
        44,
    )
    with pytest.raises(SourceError, match="line 2: column orbit_state is 'up'"):
        list(FolderSource(write_table(folder, [row | {"orbit_state": "up"}])).candidates(CONFIG))


def test_words_of_nothing_are_nothing():
    assert band_words({}, {}, "item") == BandWords()


# ---- names that say that the offset is applied ----


@pytest.mark.parametrize("name", ["COPERNICUS/S2_SR_HARMONIZED", "s2-l2a-harmonised"])
def test_a_collection_called_harmonised_carries_no_offset(name):
    properties = with_harmonised({"s2:processing_baseline": "05.10"}, name, "item")
    assert optical_offset_dn(properties, "item", BandWords(), "item") == 0
    assert optical_offset_dn({"s2:processing_baseline": "05.10"}, "item", BandWords(), "item") == -1000
    with pytest.raises(SourceError, match="boa_offset_applied is false, but its collection is"):
        with_harmonised({"earthsearch:boa_offset_applied": False}, name, "item")


@pytest.mark.parametrize("name", ["sentinel-2-c1-l2a", "sentinel-2-pre-c1-l2a", "S2_SR", ""])
def test_other_collections_say_nothing_of_the_offset(name):
    assert with_harmonised({"a": 1}, name, "item") == {"a": 1}
