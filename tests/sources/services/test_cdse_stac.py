"""The STAC catalogue of the Data Space: the same scenes as by OData."""

# ruff: noqa: F811 - fixtures are imported from cdse_world

from __future__ import annotations

import copy
import random
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from sar1m.sources.services.cdse.routes import CdseRoute, ProductPlace, ipf_of, prefix_of, s3_address, zipper_address
from sar1m.sources.services.cdse.stac_search import read_items
from sar1m.store.errors import SourceError
from servers.base import reply_json
from servers.cdse import product_uuid
from servers.cdse_cog import item_of, members_of, pixels_of
from servers.delivered import QUERY
from support.cdse_world import account, only, service_of, stand_in  # noqa: F401  fixtures


@pytest.fixture
def both(stand_in, delivered):
    """Both editions of three acquisitions; the catalogue of STAC lists the COG editions, two a page."""
    stand_in.add_cog(delivered)
    for days in (1, 30):
        start = delivered.start + timedelta(days=days)
        name = delivered.product_id.replace("20210809", f"{start:%Y%m%d}")
        stand_in.add_cog(delivered.renamed(product_id=name, start=start))
    return stand_in


def test_the_other_edition_has_the_pixels_of_the_original_otherwise_packed(both, delivered):
    (made,) = [name for name in both.contents if name.startswith(delivered.product_id[:-4]) and name.endswith("_COG")]
    ours, theirs = members_of(delivered), members_of(delivered.renamed(content=both.contents[made]))
    for name, content in ours.items():
        if name.endswith(".tiff"):
            before, after = pixels_of(content), pixels_of(theirs[name.replace(".tiff", "-cog.tiff")])
            assert (before[0] == after[0]).all()
            assert (before[1], after[1]) == (False, True)


@pytest.mark.parametrize("access", ["zipper", "s3"])
def test_both_catalogues_give_the_same_scenes(both, delivered, tmp_path, access):
    found = {}
    for search in ("odata", "stac"):
        route = CdseRoute(search=search, access=access)
        service = service_of(both, delivered, tmp_path / search, replace(route))
        found[search] = list(service.search(QUERY))
    if access == "zipper":  # by OData alone the originals are taken: one here
        assert [scene.scene_id for scene in found["odata"]] == [delivered.product_id]
        (original,), twin = found["odata"], found["stac"][0]
        same = ("acquired", "footprint", "orbit_state", "relative_orbit", "polarisations", "platform", "datatake")
        assert [getattr(original, name) for name in same] == [getattr(twin, name) for name in same]
    else:
        assert found["odata"] == found["stac"]
    ids = [scene.scene_id for scene in found["stac"]]
    assert len(ids) == 3
    assert all(name.endswith("CE2C_COG") for name in ids)
    assert [asked.path for asked in both.stac.asked] == ["/v1", "/v1/search", "/v1/search"]
    assert not both.identity.asked
    first = found["stac"][0]
    assert (first.acquired, first.orbit_state, first.relative_orbit) == (delivered.start, "ascending", 117)
    assert "IPF not told" in first.processing  # 01.00 is the converter's
    address = first.asset("product").href
    if access == "zipper":
        assert address == f"{both.endpoints.download}/Products({product_uuid(first.scene_id)})/$value"
        assert first.asset("product").checksum.startswith("md5:")
    else:
        assert address == f"{both.endpoints.s3}/eodata/Sentinel-1/SAR/IW_GRDH_1S-COG/2021/08/09/{ids[0]}.SAFE"


def test_time_and_place_are_asked_for(both, delivered, tmp_path):
    service = service_of(both, delivered, tmp_path / "net", CdseRoute(search="stac"))
    day = replace(QUERY, first=delivered.start, last=delivered.start + timedelta(hours=1))
    assert len(list(service.search(day))) == 1
    assert list(service.search(replace(day, first=delivered.start + timedelta(seconds=0.1)))) == []
    just = replace(day, first=delivered.start - timedelta(hours=1), last=delivered.start + timedelta(seconds=0.1))
    assert len(list(service.search(just))) == 1  # the interface takes whole seconds
    assert list(service.search(replace(QUERY, box=(-20.0, 1.0, -19.0, 2.0)))) == []
    assert list(service.search(replace(QUERY, polarisations=("HH",)))) == []


def test_other_modes_are_passed_over_and_what_is_no_sentinel_refused(both, delivered, tmp_path):
    other = "S1A_EW_GRDM_1SDH_20210809T171412_20210809T171513_039156_049F13_6E2C_COG"
    both.items.append({**both.items[0], "id": other, "assets": {}})
    service = service_of(both, delivered, tmp_path / "net", CdseRoute(search="stac"))
    assert len(list(service.search(QUERY))) == 3
    both.items.append({**both.items[0], "id": "LC09_L1TP_1_02_T1"})
    with pytest.raises(SourceError, match=r"lists a product named 'LC09.*expected a Sentinel-1 name"):
        list(service.search(QUERY))


def test_a_product_by_stac_comes_through_the_zipper(both, delivered, tmp_path):
    service = service_of(both, delivered, tmp_path / "net", CdseRoute(search="stac"))
    scene = next(service.search(QUERY))
    assert service.product(scene).read_bytes() == both.contents[scene.scene_id]


def test_a_catalogue_that_fails_or_repeats_itself_is_said(both, delivered, tmp_path):
    service = service_of(both, delivered, tmp_path / "net", CdseRoute(search="stac"), attempts=1)
    honest = both.stac_api
    both.stac.routes["/v1*"] = lambda asked: reply_json({}, status=500) if asked.method == "POST" else honest(asked)
    with pytest.raises(SourceError, match=r"answered 500"):
        list(service.search(QUERY))
    away = {"rel": "next", "href": "http://127.0.0.2:9/v1/search", "method": "POST", "body": {}}
    page = {"type": "FeatureCollection", "features": both.items, "links": [away]}
    both.stac.routes["/v1*"] = lambda asked: reply_json(page) if asked.method == "POST" else honest(asked)
    with pytest.raises(SourceError, match=r"sends its reader to another place"):
        list(service.search(QUERY))


def test_an_address_of_the_catalogue_is_never_followed(delivered):
    product = ProductPlace(
        product_id="S1A_X", uuid="05edf2bb-d103-49f1-a677-9e474138d84f", s3_path="s3://eodata/a/b/S1A_X.SAFE"
    )
    assert zipper_address(product, "https://d") == f"https://d/Products({product.uuid})/$value"
    assert s3_address(product, "https://s") == s3_address(
        replace(product, s3_path="/eodata/a/b/S1A_X.SAFE/"), "https://s"
    )
    assert s3_address(product, "https://s") == "https://s/eodata/a/b/S1A_X.SAFE"
    assert prefix_of("https://s/eodata/a/b/S1A_X.SAFE", "https://s", "S1A_X") == "a/b/S1A_X.SAFE/"
    hostile = [
        "",
        "s3://eodata/../b/S1A_X.SAFE",
        "s3://other/a/S1A_X.SAFE",
        "/eodata/a/S1A_Y.SAFE",
        "/eodata/a%2e/S1A_X.SAFE",
    ]
    hostile += ["https://evil/eodata/a/S1A_X.SAFE", "s3://eodata/a//S1A_X.SAFE", "s3://eodata/a/S1A_X.SAFE?x=1"]
    for path in hostile:
        with pytest.raises(SourceError, match=r"expected /eodata/\.\.\./S1A_X\.SAFE"):
            s3_address(replace(product, s3_path=path), "https://s")
    for address in (
        "https://evil/eodata/a/S1A_X.SAFE",
        "https://s/eodata/a/S1A_Y.SAFE",
        "https://s/other/a/S1A_X.SAFE",
    ):
        with pytest.raises(SourceError, match=r"Plan the build again|not used"):
            prefix_of(address, "https://s", "S1A_X")
    for uuid in ("", "../../x", "05edf2bb-d103-49f1-a677-9e474138d84f)/x"):
        with pytest.raises(SourceError, match=r"no id that the zipper knows"):
            zipper_address(replace(product, uuid=uuid), "https://d")


def test_versions_of_the_converter_are_no_processor_versions():
    assert ipf_of("01.00", "X_COG") == ipf_of("<b>", "X") == ipf_of(None, "X") == ""
    assert (ipf_of("003.71", "X_COG"), ipf_of("05.00", "X")) == ("003.71", "05.00")


def test_malformed_items_are_typed_errors(delivered):
    rng = random.Random(11)
    product_id = f"{delivered.product_id}_COG"
    item = item_of(delivered.renamed(product_id=product_id), product_uuid(product_id))
    strange = [None, [], {}, "", -1, "../../etc/passwd", True, [[]], "9999-99-99", 10**30, "s3://eodata/../x.SAFE"]
    place = partial(s3_address, endpoint="https://s")
    refused = []
    for _ in range(400):
        broken = copy.deepcopy(item)
        inner = [
            broken["properties"],
            broken["geometry"],
            broken["assets"]["Product"],
            broken["assets"]["safe_manifest"],
        ]
        where = broken if rng.random() < 0.3 else rng.choice(inner)
        where[rng.choice(sorted(where))] = rng.choice(strange)
        try:
            assert {one.product_id for one in read_items([broken], place)} <= {product_id}
        except SourceError as error:
            refused.append(str(error))
    assert len(refused) > 100
    assert all(text.startswith("cdse") for text in refused)
    for broken in (None, [], "x", 3):
        with pytest.raises(SourceError, match=r"not as its interface describes"):
            read_items([broken], place)
