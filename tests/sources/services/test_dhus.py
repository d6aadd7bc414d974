"""DHuS mirrors, by the real sentinelsat against a loopback hub."""

from __future__ import annotations

import base64
import json
import logging
import os
import pickle
import random
import re
import sys
import traceback
from datetime import timedelta

import pytest

from sar1m.io.net.fetch import OfflineError
from sar1m.sources.scene import scene_to_text
from sar1m.sources.services.products import dhus
from sar1m.sources.services.products.dhus import Dhus
from sar1m.store.errors import ConfigError, SourceError
from servers.base import Reply, reply_json
from servers.delivered import QUERY, corrupted, everything_below, make_fetcher, read_from_disk, same_pixels
from servers.dhus import PASSWORD, USER, DhusStandIn, entry_of
from servers.faults import once
from support.paths import SHARED

RECORDED = SHARED / "data/api_responses/dhus/test_sentinel1_flag.yaml"


@pytest.fixture
def stand_in(delivered, monkeypatch):
    monkeypatch.setenv("DHUS_USER", USER)
    monkeypatch.setenv("DHUS_PASSWORD", PASSWORD)
    monkeypatch.setattr(dhus, "_FACTS", {})
    with DhusStandIn().serving() as served:
        served.add(delivered)
        yield served


def service_of(stand_in, delivered, root, **limits) -> Dhus:
    return Dhus(fetcher=make_fetcher(root, **limits), safe=delivered.config.safe, url=stand_in.url)


def only(service):
    (scene,) = service.search(QUERY)
    return scene


def test_a_search_gives_what_the_catalogue_states(stand_in, delivered, tmp_path):
    service = service_of(stand_in, delivered, tmp_path / "net")
    scene = only(service)
    millisecond = delivered.start.replace(microsecond=delivered.start.microsecond // 1000 * 1000)
    assert (scene.scene_id, scene.acquired) == (delivered.product_id, millisecond)
    assert (scene.platform, scene.orbit_state, scene.relative_orbit) == ("sentinel-1a", "ascending", 117)
    assert scene.asset("product").href.startswith(f"{stand_in.url}/odata/v1/Products('")
    assert service.price(scene, None, delivered.config).shared_bytes == pytest.approx(len(delivered.content), rel=0.05)
    assert service.usable()[0]


def test_the_recorded_answer_is_understood(stand_in, delivered, tmp_path):
    """Eleven products of apihub, among them one IW GRDH or none: all are read, the others passed over."""
    if not RECORDED.is_file():
        pytest.skip("the recorded answers are not beside this checkout")
    yaml = pytest.importorskip("yaml")
    body = yaml.safe_load(RECORDED.read_text())["interactions"][0]["response"]["body"]["string"]
    entries = json.loads(body)["feed"]["entry"]
    assert {item["name"] for item in entry_of(delivered)["str"]} >= {item["name"] for item in entries[0]["str"]}
    stand_in.hub.routes["/dhus/search"] = lambda asked: Reply(body=body.encode())
    service = service_of(stand_in, delivered, tmp_path / "net")
    page = service.page(QUERY.box, QUERY.first, QUERY.last)
    wanted = [entry["title"] for entry in entries if re.match(r"S1A_IW_GRDH_1S", entry["title"])]
    assert [one.product_id for one in page.products] == wanted
    renamed = re.sub(r"S1A_EW_GRDM_1SDH", "S1A_IW_GRDH_1SDH", body)
    stand_in.hub.routes["/dhus/search"] = lambda asked: Reply(body=renamed.encode())
    page = service.page(QUERY.box, QUERY.first, QUERY.last)
    first = next(one for one in page.products if one.product_id.endswith("18A0"))
    assert (first.relative_orbit, first.orbit_state, first.size_bytes) == (54, "descending", 513_570_000)
    assert first.start.microsecond == 389_000
    assert len(first.footprint) == 5


def test_a_block_is_the_one_from_disk_and_the_product_comes_once(stand_in, delivered, tmp_path):
    grid, from_disk = read_from_disk(delivered, tmp_path / "scratch")
    service = service_of(stand_in, delivered, tmp_path / "net")
    scene = only(service)
    for worker in (service, pickle.loads(pickle.dumps(service))):  # noqa: S301 - our own bytes
        assert same_pixels(worker.read_sar(scene, grid, delivered.config), from_disk)
    assert stand_in.orders() == 1
    assert len(stand_in.hub.asked) == 3  # search, size and checksum, file
    with pytest.raises(SourceError, match=r"planned for another address than area\.dhus_url"):
        Dhus(fetcher=service.fetcher, safe=service.safe, url=f"{stand_in.stranger.url}/dhus").product(scene)
    assert stand_in.stranger.asked == []


def test_what_is_in_the_archive_is_ordered_once_and_named(stand_in, delivered, tmp_path):
    service = service_of(stand_in, delivered, tmp_path / "net")
    scene = only(service)
    number = stand_in.entries[0]["id"]
    stand_in.offline.add(number)
    for _ in range(3):
        with pytest.raises(OfflineError, match=rf"dhus {delivered.product_id}: in the service's long-term archive"):
            service.product(scene)
    assert stand_in.orders() == 1
    (order,) = (tmp_path / "net" / "orders").iterdir()
    os.utime(order, (0, 0))
    with pytest.raises(OfflineError):
        service.product(scene)
    assert stand_in.orders() == 2
    stand_in.offline.clear()
    assert service.product(scene).read_bytes() == delivered.content


def test_a_hub_that_calls_online_what_is_not_is_not_asked_over_and_over(stand_in, delivered, tmp_path):
    scene = only(service := service_of(stand_in, delivered, tmp_path / "net"))
    stand_in.value = lambda asked, number: Reply(status=202, content_type="application/octet-stream")
    with pytest.raises(OfflineError, match=r"it has been ordered"):
        service.product(scene)
    assert stand_in.orders() == 1


def test_a_wrong_password_and_a_stranger_are_named(stand_in, delivered, monkeypatch, tmp_path):
    monkeypatch.setenv("DHUS_PASSWORD", "canary-wrong-63")
    service = service_of(stand_in, delivered, tmp_path / "net")
    with pytest.raises(SourceError, match=r"answered 401") as caught:
        only(service)
    assert "canary-wrong-63" not in "".join(traceback.format_exception(caught.value))
    monkeypatch.setenv("DHUS_PASSWORD", PASSWORD)
    for answer in ({"feed": {}}, {"feed": {"opensearch:totalResults": "1", "entry": [7]}}, [], {"feed": None}):
        stand_in.hub.routes["/dhus/search"] = lambda asked, answer=answer: reply_json(answer)
        with pytest.raises(SourceError, match=r"127\.0\.0\.1: does not answer as a DHuS does"):
            only(service)
    stand_in.hub.routes["/dhus/search"] = lambda asked: Reply(
        status=302, headers={"Location": f"{stand_in.stranger.url}/dhus/search"}
    )
    with pytest.raises(SourceError):
        only(service)
    assert stand_in.stranger.asked
    assert all("authorization" not in asked.headers for asked in stand_in.stranger.asked)


def test_entities_in_a_footprint_are_refused_before_sentinelsat_parses_them(stand_in, delivered, tmp_path):
    stand_in.declaration = '<!DOCTYPE a [<!ENTITY b "boom">]>'
    service = service_of(stand_in, delivered, tmp_path / "net")
    with pytest.raises(SourceError, match=r"declares XML entities"):
        service.product(only(service))


def test_faults_are_waited_for_and_bad_products_refused(stand_in, delivered, monkeypatch, tmp_path):
    stand_in.hub.routes["/dhus/search"] = once("too_many", stand_in.search)
    stand_in.hub.routes["/dhus/odata/v1/*"] = once("server_error", stand_in.odata)
    service = service_of(stand_in, delivered, tmp_path / "net")
    assert service.product(only(service)).read_bytes() == delivered.content
    monkeypatch.setattr(dhus, "_FACTS", {})
    stand_in.entries, stand_in.products = [], {}
    stand_in.add(delivered.renamed(content=corrupted(delivered)))
    with pytest.raises(SourceError, match=r"is damaged"):
        service.product(only(service))


def test_a_long_answer_is_asked_for_in_parts(stand_in, delivered, monkeypatch, tmp_path):
    monkeypatch.setattr(dhus, "PAGE", 120)
    stand_in.entries = []
    rng = random.Random(4)
    names = []
    for number in range(300):
        start = QUERY.first + timedelta(seconds=rng.randrange(364 * 86_400))
        name = f"S1A_IW_GRDH_1SDV_{start:%Y%m%dT%H%M%S}_{start:%Y%m%dT%H%M%S}_040000_{number:06X}_0000"
        stand_in.add(delivered.renamed(product_id=name, start=start))
        names.append((start, name))
    found = service_of(stand_in, delivered, tmp_path / "net").search(QUERY)
    assert [(scene.acquired, scene.scene_id) for scene in found] == sorted(names)
    assert len(stand_in.hub.asked) < 20


def test_an_address_with_a_password_or_none_is_refused(delivered, tmp_path):
    for url in (
        "https://canary-user:canary-pass@hub.example.org/dhus",
        "https://hub.example.org/?key=canary-key",
        None,
    ):
        with pytest.raises(ConfigError, match=r"area\.dhus_url: expected the address of a DHuS mirror") as caught:
            Dhus(fetcher=make_fetcher(tmp_path), safe=delivered.config.safe, url=url)
        assert "canary" not in str(caught.value)


def test_without_sentinelsat_one_line_says_what_to_install(stand_in, delivered, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sentinelsat", None)
    service = service_of(stand_in, delivered, tmp_path / "net")
    with pytest.raises(
        SourceError, match=r"sentinelsat is not installed. Install it with: pip install 'sar1m\[dhus\]'"
    ):
        only(service)
    assert service.usable()[0] is False
    monkeypatch.delenv("DHUS_USER")
    assert "Set DHUS_USER and DHUS_PASSWORD" in service.usable()[1]


def test_malformed_entries_are_typed_errors(stand_in, delivered, tmp_path):
    rng = random.Random(6)
    service = service_of(stand_in, delivered, tmp_path / "net")
    strange = [None, [], {}, "", -1, "../../etc/passwd", "S1A_IW_GRDH_../..", "9999-99-99", "POLYGON((0 0))", "GARBAGE"]
    whole, refused = entry_of(delivered), 0
    stand_in.hub.routes["/dhus/search"] = lambda asked: reply_json(
        {"feed": {"opensearch:totalResults": "1", "entry": [entry]}}
    )
    for _ in range(80):
        entry = json.loads(json.dumps(whole))
        place = rng.choice(
            [entry, entry, rng.choice(entry["str"]), rng.choice(entry["date"]), rng.choice(entry["int"])]
        )
        place[rng.choice(sorted(place))] = rng.choice(strange)
        try:
            service.page(QUERY.box, QUERY.first, QUERY.last)
        except SourceError:
            refused += 1
    assert refused > 20
    assert not stand_in.hub.exhausted


def test_no_secret_is_anywhere(stand_in, delivered, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    service = service_of(stand_in, delivered, tmp_path / "net", attempts=1)
    scene = only(service)
    service.product(scene)
    auth = service.auth()
    shown = [repr(service), repr(auth), scene_to_text(scene), caplog.text, str(service.usable())]
    shown += [str(pickle.dumps(service)), str(pickle.dumps(auth))]
    for feed in (
        lambda text: {"error": {"message": text}},
        lambda text: {"opensearch:totalResults": "1", "entry": {"id": "1", "int": [{"name": "x", "content": text}]}},
    ):
        stand_in.hub.routes["/dhus/search"] = lambda asked, feed=feed: reply_json({"feed": feed(_echo(asked))})
        with pytest.raises(SourceError, match=r"does not answer as a DHuS does") as caught:
            only(service)
        shown += traceback.format_exception(caught.value, chain=True)
    seen = "\n".join(shown).encode() + everything_below(tmp_path / "net")
    for canary in (USER, PASSWORD):
        assert canary.encode() not in seen


def _echo(asked) -> str:
    """What a hostile service could say: the credentials that it was sent."""
    return base64.b64decode(asked.headers["authorization"].removeprefix("Basic ")).decode()
