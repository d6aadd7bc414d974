"""Searches over catalogues of which some items cannot be used."""

# ruff: noqa: F811 - fixtures are imported from stac_world
import contextlib
import json
import pickle
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sar1m.sources.scene import scene_from_text, scene_to_text
from sar1m.sources.services.stac.items import found_in
from sar1m.sources.services.stac.service import StacService
from sar1m.store.errors import SourceError
from servers.stac import ACQUIRED, Place, rtc_item, s2_item
from support.examples import examples
from support.stac_hostile import FOREIGN, HOSTILE
from support.stac_world import (  # noqa: F401  fixtures
    GRID,
    JULY,
    PLACE,
    SAR,
    a_service,
    fetcher,
    more_places,
    place,
    running_server,
)


@pytest.fixture
def server(monkeypatch):
    with running_server(monkeypatch) as running:
        yield running


@pytest.mark.parametrize("name", [name for name in HOSTILE if name != "NaN"])  # pystac-client refuses NaN's page
def test_one_item_that_cannot_be_used_does_not_end_a_search(server, fetcher, place, name):
    more_places(server, 2)
    sound = list(a_service(fetcher).search(SAR))
    assert len(sound) == 3
    bad = rtc_item(place, server.blobs.url) | {"id": "S1A_BAD"}
    HOSTILE[name](bad)
    server.items["stac"].append(bad)
    service = a_service(fetcher)
    assert list(service.search(SAR)) == sound
    assert list(service.search(SAR)) == sound  # seen by two searches, counted once
    (remark,) = service.remarks
    why = "point to where nothing is fetched from" if name in FOREIGN else "are malformed"
    assert remark.startswith(f"planetary-computer: 1 sar items of its catalogue {why} and are left out (")
    assert str(bad["id"])[:100] in remark
    assert len(remark) < 1000
    assert "\x1b" not in remark
    assert pickle.loads(pickle.dumps(service)).remarks == []  # noqa: S301 - as Dask does it
    assert all("evil" not in request.headers.get("host", "") for request in server.blobs.asked)
    assert server.blobs.asked == []


def test_remarks_name_the_first_items_and_count_the_others(server, fetcher, place):
    more_places(server, 20)
    for number in range(10):
        bad = rtc_item(place, server.blobs.url) | {"id": f"S1A_BAD{number}"}
        HOSTILE["other host" if number % 2 else "track"](bad)
        server.items["stac"].append(bad)
    service = a_service(fetcher)
    assert len(list(service.search(SAR))) == 21
    malformed, foreign = service.remarks
    assert "5 sar items of its catalogue are malformed" in malformed
    assert "('S1A_BAD0', 'S1A_BAD2', 'S1A_BAD4', 2 more)" in malformed
    assert "sat:relative_orbit is 1000000000.0" in malformed
    assert "('S1A_BAD1', 'S1A_BAD3', 'S1A_BAD5', 2 more)" in foreign
    assert "evil.example" in foreign


@pytest.mark.parametrize(("bad", "fails"), [(2, False), (3, True)])
def test_a_service_most_of_whose_items_cannot_be_used_is_not_used(server, fetcher, place, bad, fails):
    """Of five items, over two months."""
    server.items["stac"] = []
    for number in range(5):
        at = Place(grid=GRID, name=f"p{number}", acquired=ACQUIRED + timedelta(days=12 * number))
        item = rtc_item(at, server.blobs.url)
        if number < bad:
            HOSTILE["no assets"](item)
        server.items["stac"].append(item)
    service = a_service(fetcher)
    query = replace(SAR, last=JULY + timedelta(days=40))
    if fails:
        with pytest.raises(SourceError, match="no STAC item"):
            list(service.search(query))
    else:
        assert len(list(service.search(query))) == 3


def places_in(answer, path=()):
    """Paths to everything inside nested lists and objects."""
    yield path
    inside = answer.items() if isinstance(answer, dict) else enumerate(answer) if isinstance(answer, list) else ()
    for key, value in inside:
        yield from places_in(value, (*path, key))


ODD = st.sampled_from(
    [None, True, 0, -1, 7, 10**400, 1e308, float("nan"), "", "x", "\0", "9999-12-31T23:59:59-05:00", [], [[]], {}, [{}]]
)


@given(place=st.integers(0), value=ODD, kind=st.sampled_from(["sar", "optical"]))
@examples(4)
def test_whatever_stands_in_an_item_it_is_a_scene_nothing_or_a_source_error(place, value, kind):
    item = json.loads(json.dumps((rtc_item if kind == "sar" else s2_item)(PLACE, "https://127.0.0.1")))
    paths = list(places_in(item))[1:]
    *into, last = paths[place % len(paths)]
    inner = item
    for key in into:
        inner = inner[key]
    inner[last] = value
    rule = StacService(fetcher=None)._rule  # type: ignore[arg-type]  nothing is asked
    with contextlib.suppress(SourceError):
        found = found_in(item, replace(rule, hosts=frozenset({"127.0.0.1"})), kind)
        assert found is None or scene_from_text(scene_to_text(found.scene), "x") == found.scene
