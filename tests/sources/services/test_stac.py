"""Searching STAC services: what they say, what is believed of it, and what never leaves."""

# ruff: noqa: F811 - fixtures are imported from stac_world
import json
import logging
import pickle
from dataclasses import replace
from datetime import timedelta

import pytest

from sar1m.sources.scene import scene_from_text, scene_to_text
from sar1m.sources.services.stac import item_search, static_catalogue
from sar1m.sources.services.stac.items import found_in
from sar1m.sources.services.stac.profiles import PROFILES
from sar1m.sources.services.stac.service import StacService
from sar1m.store.errors import ConfigError, SourceError
from servers.base import Reply, reply_json
from servers.faults import Faulty
from servers.stac import ACQUIRED, KEY_CANARY, Place, e84_item, rtc_item, s2_item, write_catalogue
from support.paths import SHARED
from support.stac_hostile import HOSTILE
from support.stac_world import (  # noqa: F401  fixtures
    BOX,
    GRID,
    JULY,
    JUNE,
    OPTICAL,
    SAR,
    a_fetcher,
    a_service,
    fetcher,
    more_places,
    only,
    place,
    running_server,
)


@pytest.fixture
def server(monkeypatch):
    with running_server(monkeypatch) as running:
        yield running


def test_search_agrees_with_pystac_clients_own(server, fetcher):
    """The client library over its own transport, without our paging, checks or order."""
    import pystac_client  # noqa: PLC0415

    more_places(server, 10)
    client = pystac_client.Client.open(server.pc_url)
    span = f"{JUNE:%Y-%m-%dT%H:%M:%SZ}/{JULY:%Y-%m-%dT%H:%M:%SZ}"
    for query, collection in ((SAR, "sentinel-1-rtc"), (OPTICAL, "sentinel-2-l2a")):
        theirs = client.search(collections=[collection], bbox=BOX, datetime=span, limit=4).items()
        ours = list(a_service(fetcher).search(query))
        assert {scene.scene_id for scene in ours} == {item.id for item in theirs}
        assert len(ours) == 11
        assert ours == sorted(ours, key=lambda scene: (scene.acquired, scene.scene_id))


def test_a_radar_scene_says_all_that_its_item_says(server, fetcher, place):
    scene = only(a_service(fetcher), SAR)
    item = rtc_item(place, server.blobs.url)
    assert (scene.scene_id, scene.service, scene.kind) == (item["id"], "planetary-computer", "sar")
    assert scene.acquired == ACQUIRED  # the start, not the middle
    assert scene.polarisations == ("VV", "VH")
    assert [asset.href for asset in scene.assets] == [item["assets"][name]["href"] for name in ("vv", "vh")]
    assert (scene.platform, scene.orbit_state, scene.relative_orbit) == ("sentinel-1a", "descending", 95)
    assert scene.sar_quantity == "gamma0"
    assert scene.datatake == item["id"].split("_")[7]
    assert scene.footprint[0] == scene.footprint[-1]
    assert scene_from_text(scene_to_text(scene), "x") == scene


def test_an_optical_scene_states_the_offset_that_its_service_left_in(server, fetcher):
    theirs = only(a_service(fetcher), OPTICAL)
    open_one = only(a_service(fetcher, "earth-search"), OPTICAL)
    assert (theirs.offset_dn, open_one.offset_dn) == (-1000, 0)
    assert theirs.processing_baseline == "05.09"
    assert theirs.cloud_frac == pytest.approx(0.045)
    assert {asset.name for asset in open_one.assets} == {"B02", "B03", "B04", "B08", "SCL"}
    assert all(asset.href.endswith(".tif") for asset in open_one.assets)
    assert theirs.acquired == open_one.acquired


def test_before_baseline_four_there_is_no_offset(server, fetcher, place):
    server.items["stac"] = [s2_item(place, server.blobs.url, baseline="03.01")]
    assert only(a_service(fetcher), OPTICAL).offset_dn == 0


def test_of_a_scene_processed_twice_the_newest_is_taken(server, fetcher, place):
    old = s2_item(place, server.blobs.url, baseline="03.01")
    old["id"] = old["id"][:-15] + "20230616T235959"
    server.items["stac"].append(old)
    assert only(a_service(fetcher), OPTICAL).processing_baseline == "05.09"


def test_limits_hold_whatever_the_server_thinks_of_them(server, fetcher):
    service = a_service(fetcher)
    at_start = replace(SAR, first=ACQUIRED, last=ACQUIRED + timedelta(seconds=1))
    assert len(list(service.search(at_start))) == 1
    assert list(service.search(replace(SAR, last=ACQUIRED))) == []  # not included
    assert list(service.search(replace(SAR, polarisations=("HH",)))) == []
    assert list(service.search(replace(OPTICAL, max_cloud_frac=0.01))) == []
    elsewhere = (BOX[0] + 20, BOX[1], BOX[2] + 20, BOX[3])
    for item in server.items["stac"]:
        item["bbox"] = [-180, -90, 180, 90]  # the server finds it anywhere
    assert list(service.search(replace(SAR, box=elsewhere))) == []


def test_a_box_beyond_the_antimeridian_is_asked_in_two_parts(server, fetcher):
    list(a_service(fetcher).search(replace(SAR, box=(178.0, -18.0, 182.0, -17.0))))
    asked = [request.json()["bbox"] for request in server.api.asked if request.path.endswith("/search")]
    assert asked == [[178.0, -18.0, 180.0, -17.0], [-180.0, -18.0, -178.0, -17.0]]


def test_long_times_are_asked_by_months_and_scenes_come_once(server, fetcher):
    midnight = Place(grid=GRID, name="midnight", acquired=JULY - timedelta(seconds=10))  # its middle lies in July
    server.tell(midnight)
    found = list(a_service(fetcher).search(replace(SAR, last=JULY + timedelta(days=60))))
    assert [scene.scene_id for scene in found if scene.acquired >= JULY] == []
    assert sum(scene.scene_id == midnight.sar_id for scene in found) == 1
    assert sum(request.path.endswith("/search") for request in server.api.asked) == 3  # June, July, August


@pytest.mark.parametrize("kind", ["too_many", "server_error", "html_with_200", "cut_with_length", "reset"])
def test_a_storm_of_faults_is_weathered(server, tmp_path, kind):
    more_places(server, 6)
    calm = list(a_service(a_fetcher(tmp_path / "calm")).search(SAR))
    server.api.routes["/stac*"] = faulty = Faulty(server._stac, 0.5, (kind,), seed=3)
    stormy = list(a_service(a_fetcher(tmp_path / "net", attempts=12)).search(SAR))
    assert stormy == calm
    assert faulty.happened[kind] > 0


def test_a_server_that_only_refuses_is_given_up(server, fetcher):
    server.api.routes["/stac*"] = lambda asked: Reply(status=429, headers={"Retry-After": "0"})
    with pytest.raises(SourceError, match="429"):
        list(a_service(fetcher).search(SAR))
    assert len(server.api.asked) == fetcher.settings.limits.attempts


# ---- catalogues that lie ----


def spoiled(server, place, change):
    item = rtc_item(place, server.blobs.url)
    change(item)
    server.items["stac"] = [item]


@pytest.mark.parametrize("name", HOSTILE)
def test_items_that_cannot_be_used_are_named_and_refused(server, fetcher, place, name):
    spoiled(server, place, HOSTILE[name])
    with pytest.raises(SourceError) as caught:
        list(a_service(fetcher).search(SAR))
    message = str(caught.value)
    assert "planetary-computer" in message or name == "NaN"
    assert len(message) < 700
    assert "\x1b" not in message


def test_items_of_other_sensors_and_levels_are_left_out(server, fetcher, place):
    for change in (
        lambda item: item["properties"].update(platform="landsat-8"),
        lambda item: item.update(assets={}),
        lambda item: item["assets"].update({"vv": {"href": "s3://x/vv.jp2", "type": "image/jp2"}, "vh": {}}),
    ):
        spoiled(server, place, change)
        assert list(a_service(fetcher).search(SAR)) == []
    level1 = s2_item(place, server.blobs.url)
    level1["properties"]["s2:product_type"] = "S2MSI1C"
    server.items["stac"] = [level1]
    assert list(a_service(fetcher).search(OPTICAL)) == []


def test_an_unknown_baseline_is_an_error_not_a_guess(server, fetcher, place):
    item = s2_item(place, server.blobs.url)
    del item["properties"]["s2:processing_baseline"]
    server.items["stac"] = [item]
    with pytest.raises(SourceError, match="processing_baseline"):
        list(a_service(fetcher).search(OPTICAL))


def test_footprints_run_on_over_the_antimeridian(server, fetcher, place):
    parts = [
        [[[179.0, -18.0], [180.0, -18.0], [180.0, -17.0], [179.0, -17.0], [179.0, -18.0]]],
        [[[-180.0, -18.0], [-178.5, -18.0], [-178.5, -17.0], [-180.0, -17.0], [-180.0, -18.0]]],
    ]
    one = [[[179.0, -18.0], [-178.5, -18.0], [-178.5, -17.0], [179.0, -17.0], [179.0, -18.0]]]
    query = replace(SAR, box=(179.5, -17.8, 180.5, -17.2))
    for geometry in ({"type": "MultiPolygon", "coordinates": parts}, {"type": "Polygon", "coordinates": one}):
        spoiled(server, place, lambda item, shape=geometry: item.update(geometry=shape, bbox=[-180, -18, 180, -17]))
        ring = only(a_service(fetcher), query).footprint
        assert {(lon, lat) for lon, lat in ring} == {(179.0, -18.0), (181.5, -18.0), (181.5, -17.0), (179.0, -17.0)}


RECORDED = SHARED / "data/api_responses/stac"
RECORDED_RTC = "S1A_IW_GRDH_1SDV_20191215T003835_20191215T003904_030352_0378DC_rtc"


@pytest.mark.skipif(not RECORDED.is_dir(), reason="recorded answers (../shared/data/api_responses) are not here")
def test_recorded_items_are_understood():
    rule = StacService(fetcher=None)._rule  # type: ignore[arg-type]  nothing is asked
    listed = json.loads((RECORDED / "site2-2020_jun_jul-35MNM.geojson").read_text())["features"]
    found = [found_in(item, rule, "optical") for item in listed]
    assert len({one.scene.scene_id for one in found}) == 13
    assert {(one.scene.processing_baseline, one.scene.offset_dn) for one in found} == {("02.12", 0)}
    assert {len(one.scene.assets) for one in found} == {13}  # twelve bands and SCL
    assert all(one.twin.startswith("35MNM_2020") for one in found)
    radar = json.loads((RECORDED / f"{RECORDED_RTC}.json").read_text())
    with pytest.raises(SourceError, match="degrees"):  # it was recorded with metres for degrees
        found_in(radar, rule, "sar")
    ring = [[-98.0, 12.0], [-95.5, 12.2], [-95.7, 14.1], [-98.1, 13.9], [-98.0, 12.0]]
    scene = found_in(radar | {"geometry": {"type": "Polygon", "coordinates": [ring]}}, rule, "sar").scene
    assert (scene.polarisations, scene.relative_orbit, scene.datatake) == (("VV", "VH"), 5, "0378DC")
    assert scene.assets[0].size_bytes == 2_058_632_203


# ---- paging that does not end ----


def with_next(server, link):
    honest = server._stac

    def route(asked):
        reply = honest(asked)
        if not asked.path.endswith("/search"):
            return reply
        page = json.loads(reply.body)
        page["links"] = [link]
        return reply_json(page)

    server.api.routes["/stac*"] = route


def test_a_page_that_links_to_itself_ends_the_search(server, fetcher):
    body = {"collections": ["sentinel-1-rtc"]}
    link = {"rel": "next", "method": "POST", "href": f"{server.pc_url}/search", "body": body}
    with_next(server, link)
    with pytest.raises(SourceError, match="twice"):
        list(a_service(fetcher).search(SAR))
    assert len(server.api.asked) < 10


def test_pages_without_end_are_bounded(server, fetcher, place, monkeypatch):
    monkeypatch.setattr(item_search, "MAX_PAGES", 5)

    def route(asked):
        if not asked.path.endswith("/search"):
            return server._stac(asked)
        item = rtc_item(place, server.blobs.url) | {"id": f"S1A_{asked.nth}"}
        link = {"rel": "next", "href": f"{server.pc_url}/search?page={asked.nth}", "method": "GET"}
        return reply_json({"type": "FeatureCollection", "features": [item], "links": [link]})

    server.api.routes["/stac*"] = route
    with pytest.raises(SourceError, match="more than 5 pages"):
        list(a_service(fetcher).search(SAR))


@pytest.mark.parametrize(
    "href", ["http://127.0.0.1:1/search", "https://evil.example/search", "/etc/passwd", "file:///x"]
)
def test_a_next_link_to_another_place_is_not_followed(server, fetcher, href):
    with_next(server, {"rel": "next", "href": href})
    with pytest.raises(SourceError, match="not followed"):
        list(a_service(fetcher).search(SAR))


NO_STAC = (
    b"[]",
    b"null",
    b"{}",
    b'{"code": "NotFound"}',
    b'{"type": "x", "features": 7}',
    b"[" * 100_000,
    b'{"type": "x", "features": [1, "x"]}',
)


@pytest.mark.parametrize("path", ["/stac", "/stac/search"])
@pytest.mark.parametrize("body", NO_STAC)
def test_answers_that_are_no_stac_are_named(server, fetcher, body, path):
    honest = server._stac
    server.api.routes["/stac*"] = lambda asked: Reply(body=body) if asked.path == path else honest(asked)
    with pytest.raises(SourceError, match="planetary-computer") as caught:
        list(a_service(fetcher).search(SAR))
    assert len(str(caught.value)) < 300
    assert len(server.api.asked) <= 2


# ---- other catalogues ----


def test_any_api_by_what_its_items_say(server, fetcher, place):
    for item in server.items["stac"]:
        item["collection"] = {"sentinel-1-rtc": "my-s1", "sentinel-2-l2a": "my-s2-l2a"}[item["collection"]]
        item["properties"]["license"] = "CC-BY-4.0"
    grd = rtc_item(place, server.blobs.url) | {"collection": "sentinel-1-grd"}
    server.items["stac"].append(grd)
    server.items["stac"][0]["properties"]["sar:product_type"] = "RTC"
    honest = server._collection
    server._collection = lambda name, root: (
        honest(name, root) | {"keywords": [f"Sentinel-{name[-1]} or Sentinel-2", "sentinel-1"]}
    )
    service = a_service(fetcher, "stac", server.pc_url)
    sar, optical = only(service, SAR), only(service, OPTICAL)
    assert sar.licence == optical.licence == "CC-BY-4.0"
    assert (sar.service, sar.sar_quantity, sar.provider) == ("stac", "gamma0", "127.0.0.1")
    assert optical.offset_dn == -1000
    asked = [request.json() for request in server.api.asked if request.path.endswith("/search")]
    assert not any("eo:cloud_cover" in body.get("query", {}) for body in asked)  # an extension it may not have
    assert {tuple(body["collections"]) for body in asked if body["limit"] > 4} == {("my-s1",), ("my-s2-l2a",)}


def test_a_static_catalogue_in_a_folder_and_at_an_address(server, fetcher, tmp_path):
    more_places(server, 4)
    wanted = {kind: list(a_service(fetcher).search(query)) for kind, query in (("sar", SAR), ("optical", OPTICAL))}
    items = json.loads(json.dumps(server.items["stac"]))
    for item in items:
        if item["collection"] == "sentinel-1-rtc":
            item["properties"]["sar:product_type"] = "RTC"
    catalogue = write_catalogue(tmp_path / "catalogue", items)
    server.api.routes["/static/*"] = lambda asked: Reply(
        body=(tmp_path / "catalogue" / asked.path.removeprefix("/static/")).read_bytes(),
        content_type="application/octet-stream",
    )
    at_address = a_service(fetcher, "stac-static", f"{server.api.url}/static/catalog.json")
    for kind, query in (("sar", SAR), ("optical", OPTICAL)):
        found = list(at_address.search(query))
        assert [s.scene_id for s in found] == [s.scene_id for s in wanted[kind]]
        assert [s.assets for s in found] == [s.assets for s in wanted[kind]]
    with pytest.raises(SourceError, match="plain https"):  # a file on disk may not send us to the loopback
        list(a_service(fetcher, "stac-static", str(catalogue)).search(SAR))
    for item in items:
        for about in item["assets"].values():
            about["href"] = about["href"].replace(server.blobs.url, "https://data.example.org")
    write_catalogue(tmp_path / "catalogue", items)
    found = list(a_service(fetcher, "stac-static", str(catalogue)).search(SAR))
    assert [s.scene_id for s in found] == [s.scene_id for s in wanted["sar"]]


@pytest.mark.parametrize(
    "href", ["../../../etc/passwd", "/etc/passwd", "file:///etc/passwd", "https://evil.example/x.json"]
)
def test_a_static_catalogue_does_not_lead_out(fetcher, tmp_path, href):
    (tmp_path / "catalog.json").write_text(json.dumps({"type": "Catalog", "links": [{"rel": "child", "href": href}]}))
    with pytest.raises(SourceError, match=r"outside|relative"):
        list(a_service(fetcher, "stac-static", str(tmp_path / "catalog.json")).search(SAR))


def test_a_static_catalogue_at_an_address_stays_on_its_host(server, fetcher):
    document = {"type": "Catalog", "links": [{"rel": "child", "href": "https://evil.example/x.json"}]}
    server.api.routes["/static/*"] = lambda asked: reply_json(document)
    with pytest.raises(SourceError, match="not followed"):
        list(a_service(fetcher, "stac-static", f"{server.api.url}/static/catalog.json").search(SAR))


def test_walking_a_catalogue_is_bounded(server, fetcher, monkeypatch):
    monkeypatch.setattr(static_catalogue, "MAX_DOCUMENTS", 30)
    server.api.routes["/deep/*"] = lambda asked: reply_json(
        {"type": "Catalog", "links": [{"rel": "child", "href": f"x/{asked.nth}{asked.path.count('/')}.json"}]}
    )
    with pytest.raises(SourceError, match="16 levels"):
        list(a_service(fetcher, "stac-static", f"{server.api.url}/deep/catalog.json").search(SAR))
    server.api.routes["/wide/*"] = lambda asked: reply_json(
        {"type": "Catalog", "links": [{"rel": "item", "href": f"{n}.json"} for n in range(1000)]}
    )
    with pytest.raises(SourceError, match="30 documents"):
        list(a_service(fetcher, "stac-static", f"{server.api.url}/wide/catalog.json").search(SAR))
    circle = {"type": "Catalog", "links": [{"rel": "child", "href": "catalog.json"}]}
    server.api.routes["/circle/*"] = lambda asked: reply_json(circle)
    assert list(a_service(fetcher, "stac-static", f"{server.api.url}/circle/catalog.json").search(SAR)) == []


# ---- services as such ----


def test_a_service_without_an_address_or_of_another_name_says_so(fetcher):
    with pytest.raises(ConfigError, match=r"area\.stac_url"):
        a_service(fetcher, "stac")
    with pytest.raises(ConfigError, match="https"):
        a_service(fetcher, "stac", "ftp://x")
    with pytest.raises(ConfigError, match="earth-search"):
        a_service(fetcher, "planetary")
    with pytest.raises(SourceError, match="sar"):
        list(a_service(fetcher, "earth-search").search(SAR))


@pytest.mark.parametrize("name", PROFILES)
def test_services_pickle_and_say_whether_they_can_be_used(fetcher, name, monkeypatch):
    monkeypatch.setenv("PC_SDK_SUBSCRIPTION_KEY", KEY_CANARY)
    service = StacService(fetcher=fetcher, name=name, url="https://stac.example.org")
    assert pickle.loads(pickle.dumps(service)) == service  # noqa: S301
    usable, line = service.usable()
    assert usable
    assert KEY_CANARY not in line + repr(service)
    assert service.kinds


def test_a_missing_client_gives_one_line(fetcher, server, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pystac_client.stac_api_io", None)
    with pytest.raises(SourceError, match=r"pip install 'sar1m\[stac\]'") as caught:
        list(a_service(fetcher).search(SAR))
    assert "\n" not in str(caught.value)


def test_search_asks_nobody_for_a_token(server, fetcher, caplog):
    caplog.set_level(logging.DEBUG)
    list(a_service(fetcher).search(SAR))
    assert server.tokens == {}
    assert all("ocp-apim-subscription-key" not in request.headers for request in server.api.asked)
    assert KEY_CANARY not in caplog.text


def test_earth_search_is_asked_as_it_answers(server, fetcher, place):
    found = only(a_service(fetcher, "earth-search"), OPTICAL)
    assert found.scene_id == e84_item(place, "")["id"]
