"""Which classes of a land-cover map are water: by the product's numbers, whatever its names are."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from sar1m.sources.class_tables import TABLES, classes_of, is_water, named_table
from sar1m.sources.folder.source import FolderSource
from sar1m.store.errors import SourceError
from support.folders import CHIP, SAR_ROW, read_all, write_table
from support.geotiffs import write_tiff

# Water by the legends that the products' own manuals print: number of sea, lakes and rivers
PUBLISHED = {
    "esa-worldcover": {80},
    "ESA_WorldCover_10m_2021_v200": {80},
    "io-lulc-annual-v02": {1},
    "io-lulc-9-class": {1},
    "esri-lulc": {1},
    "corine-land-cover": {40, 41, 42, 43, 44, 511, 512, 521, 522, 523},
    "U2018_CLC2018_V2020_20u1": {40, 41, 42, 43, 44, 511, 512, 521, 522, 523},
    "GOOGLE/DYNAMICWORLD/V1": {0},
    "dynamic_world": {0},
    "COPERNICUS/Landcover/100m/Proba-V-C3/Global LC100": {80, 200},
    "CGLS-LC100": {80, 200},
    "USGS/NLCD_RELEASES/2019_REL": {11},
    "esa-cci-lc": {210},
    "modis-MCD12Q1-061": {17},
    "GlobeLand30": {60},
}


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def radar(tmp_path, rng):
    write_tiff(tmp_path / "vv.tif", rng.gamma(4.4, 0.02, (80, 80)).astype(np.float32), CHIP)
    return tmp_path


def described(root, codes: np.ndarray, asset: dict[str, Any], collection: str = "sentinel-1-rtc") -> FolderSource:
    """A folder with one SAR item and a land-cover asset."""
    write_tiff(root / "cover.tif", codes, CHIP)
    item = {
        "type": "Feature",
        "id": "scene",
        "collection": collection,
        "properties": {"datetime": "2023-06-10T16:04:18Z", "sar1m:quantity": "gamma0"},
        "assets": {"vv": {"href": "vv.tif"}, "land_cover": {"href": "cover.tif"} | asset},
    }
    (root / "scene.json").write_text(json.dumps(item))
    return FolderSource(root)


@pytest.mark.parametrize(("text", "water"), PUBLISHED.items())
def test_a_product_is_recognised_and_its_water_is_known(text, water):
    foreign = [(number, [f"Klasse {number}"]) for number in (10, 20, 80)]  # names in no language that we read
    for listed in ([], foreign):
        _, found = classes_of(listed, ["sentinel-1-rtc", text], "item")
        assert set(found or ()) == water


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_names_of_every_table_agree_with_its_numbers(table):
    said = {number for number, name in table.names if is_water(name)}
    assert said == table.water & {number for number, _ in table.names}
    assert named_table(table.name.upper()) is table


@pytest.mark.parametrize(
    ("label", "water"),
    [
        ("water", True),
        ("Permanent water bodies", True),
        ("permanent_water_bodies", True),
        ("OpenWater", True),
        ("Water courses", True),
        ("Coastal lagoons", True),
        ("Sea and ocean", True),
        ("Inland waters", True),
        ("Flooded vegetation", False),
        ("Tree cover, flooded, saline water", False),
        ("no water", False),
        ("Herbaceous wetland", False),
        ("sea ice", False),
        ("watermelons", False),
        ("Built-up", False),
    ],
)
def test_names_of_classes_that_mean_open_water(label, water):
    assert is_water(label) is water


def test_worldcover_by_its_own_name_is_water_everywhere(radar):
    classes = [{"value": 80, "description": "Permanent water bodies"}, {"value": 10, "description": "Tree cover"}]
    source = described(radar, np.full((80, 80), 80, np.uint8), {"classification:classes": classes})
    ((_, pixels),) = read_all(source)
    assert pixels.water.all()
    assert dict(pixels.land_cover_names)[80] == "Permanent water bodies"


def test_dynamic_world_water_is_number_0_and_a_missing_pixel_is_not_water(radar):
    codes = np.full((80, 80), 1, np.uint8)
    codes[:20], codes[20:40] = 0, 255
    write_tiff(radar / "cover.tif", codes, CHIP, nodata=255)
    row = {"pair": "p", "kind": "land_cover", "path": "cover.tif", "classes": "dynamic-world"}
    ((_, pixels),) = read_all(FolderSource(write_table(radar, [SAR_ROW, row])))
    np.testing.assert_array_equal(pixels.water, codes == 0)
    assert dict(pixels.land_cover_names)[0] == "water"
    assert 0 not in pixels.land_cover[20:40]


def test_corine_codes_over_255_are_read_and_a_number_of_no_class_is_refused(radar):
    codes = np.full((80, 80), 312, np.uint16)
    codes[:30] = 523
    title = {"title": "CORINE Land Cover 2018"}
    ((_, pixels),) = read_all(described(radar, codes, title))
    np.testing.assert_array_equal(pixels.water, codes == 523)
    names = dict(pixels.land_cover_names)
    assert {names[number] for number in np.unique(pixels.land_cover).tolist()} == {"sea and ocean", "coniferous forest"}
    codes[0] = 999
    source = described(radar, codes, title)
    with pytest.raises(SourceError, match=r"cover\.tif: land_cover holds 999; expected the numbers of the classes"):
        read_all(source)


def test_where_nobody_says_which_class_is_water_it_is_unknown_and_flagged(radar):
    classes = [{"value": 1, "name": "Wald"}, {"value": 2, "name": "Acker"}]
    source = described(radar, np.full((80, 80), 1, np.uint8), {"classification:classes": classes})
    ((_, pixels),) = read_all(source)
    assert pixels.water is None
    assert "water_unknown" in pixels.flags
    assert pixels.land_cover.all()


@pytest.mark.parametrize(
    ("asset", "collection", "found"),
    [
        ({}, "sentinel-1-rtc", "land cover without names of its classes.*worldcover, terramesh"),
        (
            {"classification:classes": [{"value": 1, "name": "water"}]},
            "esa-worldcover",
            r"its classes \[1\] are called water, but in worldcover water is \[80\]",
        ),
        ({"title": "NLCD and WorldCover"}, "x", "name several products: worldcover, nlcd"),
        ({"classification:classes": [{"value": 1.5, "name": "water"}]}, "x", "a class is {'value': 1.5"),
    ],
)
def test_what_contradicts_itself_is_refused_by_name(radar, asset, collection, found):
    with pytest.raises(SourceError, match=found):
        list(read_all(described(radar, np.full((80, 80), 1, np.uint8), asset, collection)))


@pytest.mark.parametrize(
    ("kind", "classes", "code", "found"),
    [
        ("land_cover", "io-lulc", 80, r"said to be io-lulc, but 100 % of its numbers are none of its classes \(80\)"),
        ("land_cover", "worldcover", 7, r"said to be worldcover, but 100 % .* \(7\)"),
        ("land_cover", "80=water", 10, None),  # a user need not list every class
        ("land_cover", "worldcover", 255, None),  # a fill
        ("land_cover", "worldcover", 10, None),
        ("scl", "", 40, "has the classes 0 to 11; found 40"),
        ("scl", "", 11, None),
    ],
)
def test_numbers_that_the_product_does_not_have_are_refused(tmp_path, rng, kind, classes, code, found):
    write_tiff(tmp_path / "vv.tif", rng.gamma(4.0, 0.02, (80, 80)).astype(np.float32), CHIP)
    write_tiff(tmp_path / "map.tif", np.full((80, 80), code, np.uint8), CHIP)
    described_by = {"pair": SAR_ROW["pair"], "kind": kind, "path": "map.tif", "classes": classes}
    write_table(tmp_path, [SAR_ROW | {"path": "vv.tif"}, described_by])
    if found is None:
        assert len(read_all(FolderSource(tmp_path))) == 1
        return
    with pytest.raises(SourceError, match=found):
        read_all(FolderSource(tmp_path))
