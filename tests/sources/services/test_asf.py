"""Alaska Satellite Facility: search, token, data pool, and a block equal to the one from disk."""

from __future__ import annotations

import json
import logging
import pickle
import random
import traceback
from dataclasses import replace
from datetime import timedelta

import pytest

from sar1m.sources.scene import scene_to_text
from sar1m.sources.services.products import asf
from sar1m.sources.services.products.asf import Asf
from sar1m.store.errors import SourceError
from servers.asf import PASSWORD, TOKEN, USER, AsfStandIn, feature_of
from servers.base import reply_json
from servers.delivered import QUERY, corrupted, everything_below, make_fetcher, read_from_disk, same_pixels
from servers.faults import once


@pytest.fixture
def stand_in(delivered, monkeypatch, tmp_path):
    monkeypatch.setenv("EARTHDATA_TOKEN", TOKEN)
    for name in ("EARTHDATA_USERNAME", "EARTHDATA_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.setattr(asf, "_TOKENS", {})
    with AsfStandIn().serving() as served:
        served.add(delivered)
        yield served


def service_of(stand_in, delivered, root, **limits) -> Asf:
    return Asf(fetcher=make_fetcher(root, **limits), safe=delivered.config.safe, endpoints=stand_in.endpoints)


def only(service):
    (scene,) = service.search(QUERY)
    return scene


def test_a_search_gives_what_the_catalogue_states(stand_in, delivered, tmp_path):
    stand_in.add(delivered, processingLevel="METADATA_GRD_HD", md5sum="0" * 32)  # its description, of the same name
    scene = only(service_of(stand_in, delivered, tmp_path / "net"))
    assert (scene.scene_id, scene.acquired) == (delivered.product_id, delivered.start.replace(microsecond=0))
    assert (scene.platform, scene.orbit_state, scene.relative_orbit) == ("sentinel-1a", "ascending", 117)
    assert "IPF 003.31" in scene.processing
    assert scene.asset("product").checksum == f"md5:{delivered.md5}"
    assert scene.asset("product").size_bytes == len(delivered.content)
    assert all("authorization" not in asked.headers for asked in stand_in.catalogue.asked)


def test_a_block_is_the_one_from_disk_and_the_product_comes_once(stand_in, delivered, tmp_path):
    grid, from_disk = read_from_disk(delivered, tmp_path / "scratch")
    service = service_of(stand_in, delivered, tmp_path / "net")
    scene = only(service)
    for worker in (service, pickle.loads(pickle.dumps(service))):  # noqa: S301 - our own bytes
        assert same_pixels(worker.read_sar(scene, grid, delivered.config), from_disk)
    assert (len(stand_in.pool.asked), len(stand_in.store.asked)) == (1, 1)
    assert stand_in.pool.asked[0].headers["authorization"] == f"Bearer {TOKEN}"
    assert "authorization" not in stand_in.store.asked[0].headers


def test_a_token_is_had_for_user_and_password(stand_in, delivered, monkeypatch, tmp_path):
    monkeypatch.delenv("EARTHDATA_TOKEN")
    service = service_of(stand_in, delivered, tmp_path / "net")
    usable, said = service.usable()
    assert not usable
    assert "Set EARTHDATA_TOKEN" in said
    (tmp_path / "home" / ".netrc").write_text(f"machine 127.0.0.1 login {USER} password {PASSWORD}\n")
    assert service.usable()[0]
    auth = service.auth()
    url = f"{stand_in.pool.url}/x"
    assert auth(f"{stand_in.store.url}/x") == {}
    assert [auth(url) for _ in range(3)] == [{"Authorization": f"Bearer {TOKEN}"}] * 3
    assert len(stand_in.login.asked) == 1
    monkeypatch.setenv("EARTHDATA_USERNAME", USER)
    monkeypatch.setenv("EARTHDATA_PASSWORD", "canary-wrong-75")
    monkeypatch.setattr(asf, "_TOKENS", {})
    with pytest.raises(SourceError, match=r"no Earthdata token.*401.*Check user and password") as caught:
        service.product(only(service))
    assert "canary-wrong-75" not in "".join(traceback.format_exception(caught.value))
    assert stand_in.pool.asked == []


def test_a_token_that_is_not_taken_is_said(stand_in, delivered, tmp_path):
    stand_in.taken = ()
    service = service_of(stand_in, delivered, tmp_path / "net")
    with pytest.raises(SourceError, match=r"does not take the Earthdata token"):
        service.product(only(service))
    assert stand_in.login.asked == []  # nothing was sent to the login page


def test_products_elsewhere_than_in_the_pool_are_refused(stand_in, delivered, tmp_path):
    for url in ("https://asf.alaska.edu.example.com/x.zip", f"{stand_in.store.url}/x.zip", "file:///etc/passwd", "x"):
        stand_in.features = [feature_of(delivered, url)]
        with pytest.raises(SourceError, match=r"says that it is at .*The catalogue's answer is not used"):
            only(service_of(stand_in, delivered, tmp_path / "net"))
    assert stand_in.store.asked == []


def test_faults_are_waited_for_and_bad_products_refused(stand_in, delivered, tmp_path):
    stand_in.store.routes["/*"] = once("cut_with_length", stand_in.file)
    stand_in.catalogue.routes["/services/search/param"] = once("too_many", stand_in.search)
    service = service_of(stand_in, delivered, tmp_path / "net")
    assert service.product(only(service)).read_bytes() == delivered.content
    stand_in.features = []
    stand_in.add(delivered.renamed(content=corrupted(delivered)))
    with pytest.raises(SourceError, match=r"is damaged"):
        service.product(only(service))


def test_a_long_answer_is_asked_for_in_parts(stand_in, delivered, monkeypatch, tmp_path):
    monkeypatch.setattr(asf, "PAGE", 8)
    stand_in.features = []
    rng = random.Random(4)
    names = []
    for number in range(30):
        start = QUERY.first + timedelta(seconds=rng.randrange(364 * 86_400))
        name = f"S1A_IW_GRDH_1SDV_{start:%Y%m%dT%H%M%S}_{start:%Y%m%dT%H%M%S}_040000_{number:06X}_0000"
        stand_in.add(delivered.renamed(product_id=name, start=start))
        names.append((start, name))
    found = service_of(stand_in, delivered, tmp_path / "net").search(QUERY)
    assert [(scene.acquired, scene.scene_id) for scene in found] == sorted(names)


def test_malformed_answers_are_typed_errors(delivered):
    rng = random.Random(6)
    endpoints = asf.AsfEndpoints()
    whole = {"features": [feature_of(delivered, "https://datapool.asf.alaska.edu/GRD_HD/SA/x.zip")]}
    assert len(asf.read_asf_answer(json.dumps(whole).encode(), endpoints).products) == 1
    strange = [
        None,
        [],
        {},
        "",
        -1,
        1e400,
        "../../etc/passwd",
        "S1A_IW_GRDH_../..",
        "9999-99-99",
        "https://[::1",
        10**30,
    ]
    refused = []
    for _ in range(400):
        answer = json.loads(json.dumps(whole))
        place = rng.choice([answer, answer["features"][0], *[answer["features"][0]["properties"]] * 6])
        place[rng.choice(sorted(place))] = rng.choice(strange)
        try:
            asf.read_asf_answer(json.dumps(answer).encode(), endpoints)
        except SourceError as error:
            refused.append(str(error))
    assert len(refused) > 60
    assert all(text.startswith("asf") for text in refused)


def test_no_secret_is_anywhere(stand_in, delivered, monkeypatch, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    service = service_of(stand_in, delivered, tmp_path / "net", attempts=1)
    scene = only(service)
    monkeypatch.delenv("EARTHDATA_TOKEN")
    monkeypatch.setenv("EARTHDATA_USERNAME", USER)
    monkeypatch.setenv("EARTHDATA_PASSWORD", PASSWORD)
    service.product(scene)
    auth = service.auth()
    shown = [repr(service), repr(auth), scene_to_text(scene), caplog.text, str(service.usable())]
    shown += [str(pickle.dumps(service)), str(pickle.dumps(auth))]
    stand_in.pool.routes["/GRD_HD/SA/*"] = lambda asked: reply_json({"you sent": str(asked)}, status=403)
    other = replace(scene, assets=(replace(scene.assets[0], checksum=None),))
    with pytest.raises(SourceError) as caught:
        service.product(other)
    shown += traceback.format_exception(caught.value, chain=True)
    seen = "\n".join(shown).encode() + everything_below(tmp_path / "net")
    for canary in (USER, PASSWORD, TOKEN, "canary-signature-74"):
        assert canary.encode() not in seen
