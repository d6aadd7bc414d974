"""What goes wrong between Earth Engine and us: each fault is retried or typed, and no secret shows anywhere."""

import io
import json
import logging
import pickle
import traceback

import ee
import numpy as np
import pytest

from sar1m.config import BuildConfig
from sar1m.records import RasterGrid
from sar1m.sources.services.earthengine import collections as catalogue
from sar1m.sources.services.earthengine import session
from sar1m.sources.services.earthengine.refusals import REFUSALS, EarthEngineError, refusal_kind
from sar1m.store.errors import SourceError
from servers import faults
from servers.base import Reply, reply_json
from servers.earthengine import EarthEngine, Ground, google_error, npy, sar_scene
from servers.earthengine_account import (
    clear_account,
    make_service,
    only_this_machine,
    secrets,
    service_account,
    set_account,
)

GRID = RasterGrid(epsg=32629, left_m=480_000.0, top_m=4_290_000.0, gsd_m=10.0, rows=48, cols=64)
S1 = "S1A_IW_GRDH_1SDV_20230105T064201_20230105T064226_046650_05974E_0F5A"
CONFIG = BuildConfig()


@pytest.fixture(autouse=True)
def _only_this_machine(monkeypatch):
    with only_this_machine(monkeypatch):
        yield


@pytest.fixture(scope="module")
def lasting(tmp_path_factory):
    """A server and a folder for all tests of this file, so that ee need not be opened for each."""
    with EarthEngine([sar_scene(S1, (-9.5, 38.0, -8.5, 39.0))], Ground()) as server:
        yield server, tmp_path_factory.mktemp("earthengine")


@pytest.fixture
def server(lasting):
    lasting[0].faults.clear()
    lasting[0].forget()
    return lasting[0]


@pytest.fixture
def service(server, lasting, monkeypatch):
    set_account(server, lasting[1], monkeypatch)
    return make_service(lasting[1])


@pytest.fixture
def closed_service(service):
    session._opened.clear()
    return service


@pytest.fixture
def scene():
    feature = sar_scene(S1, (-9.5, 38.0, -8.5, 39.0))
    (scene,) = catalogue.parse_page({"scenes": {"features": [feature]}}, "sar")
    return scene


# ---- faults that pass ----


@pytest.mark.parametrize(
    "fault",
    ["too_many", "server_error", "silence", "stall", "cut_with_length", "html_with_200", "html_as_bytes", "reset"],
)
def test_passing_faults_are_retried(service, server, scene, fault):
    server.faults["computePixels"] = [faults.AFTER[fault]]
    np.testing.assert_array_equal(service.read_sar(scene, GRID, CONFIG).sar, server.ground.power(GRID))
    assert server.count("computePixels") == 2


@pytest.mark.parametrize("end", ["/token", "/rest", "algorithms"])
def test_opening_survives_a_fault(closed_service, server, scene, end):
    server.faults[end] = [faults.server_error]
    np.testing.assert_array_equal(closed_service.read_sar(scene, GRID, CONFIG).sar, server.ground.power(GRID))


@pytest.mark.parametrize("fault", ["too_many", "server_error", "html_with_200"])
def test_attempts_are_bounded(service, server, scene, fault):
    server.faults["computePixels"] = [faults.AFTER[fault]] * 99
    with pytest.raises(SourceError, match=r"earthengine: .*3 attempts"):
        service.read_sar(scene, GRID, CONFIG)
    assert server.count("computePixels") == 3


# ---- refusals ----

REAL_TEXTS = {
    "not_registered": (403, "PERMISSION_DENIED", "Not signed up for Earth Engine or project is not registered."),
    "api_disabled": (
        403,
        "PERMISSION_DENIED",
        "Earth Engine API has not been used in project 1 before or it is disabled.",
    ),
    "permission": (403, "PERMISSION_DENIED", "Caller does not have required permission to use project x."),
    "quota": (429, "RESOURCE_EXHAUSTED", "Your usage exceeded the custom quota for 'e.com/daily_eecu_usage_time'"),
    "too_large": (400, "INVALID_ARGUMENT", "User memory limit exceeded."),
    "missing": (
        400,
        "INVALID_ARGUMENT",
        "Image.load: Image asset 'X' not found (does not exist or caller does not have access).",
    ),
    "other": (400, "INVALID_ARGUMENT", "Something new: canary-echo"),
}


@pytest.mark.parametrize("kind", REAL_TEXTS)
def test_a_refusal_is_typed_and_asked_once(service, server, scene, kind):
    server.faults["computePixels"] = [lambda *_: google_error(*REAL_TEXTS[kind])] * 9
    with pytest.raises(EarthEngineError) as caught:
        service.read_sar(scene, GRID, CONFIG)
    assert caught.value.kind == kind
    assert str(caught.value).startswith("earthengine: ")
    assert server.count("computePixels") == 1
    if kind != "other":
        assert REFUSALS[kind].advice.format(project=server.project) in str(caught.value)


def test_requests_at_once_are_no_used_up_quota():
    assert (
        refusal_kind("RESOURCE_EXHAUSTED Quota exceeded for quota metric 'Requests' per minute http 429") == "too_many"
    )
    assert refusal_kind("Too Many Requests: the request rate or concurrency limit was exceeded. http 429") == "too_many"


def test_a_refusal_while_opening_is_typed_and_not_remembered(closed_service, server, scene):
    server.faults["algorithms"] = [lambda *_: google_error(*REAL_TEXTS["not_registered"])]
    with pytest.raises(EarthEngineError, match="not registered"):
        closed_service.read_sar(scene, GRID, CONFIG)
    assert np.isfinite(closed_service.read_sar(scene, GRID, CONFIG).sar).all()


def test_a_revoked_account_reads_how_to_return(closed_service, server, scene):
    server.faults["/token"] = [
        lambda *_: reply_json({"error": "invalid_grant", "error_description": "canary-x"}, status=400)
    ]
    with pytest.raises(EarthEngineError, match="earthengine authenticate") as caught:
        closed_service.read_sar(scene, GRID, CONFIG)
    assert caught.value.kind == "credentials"


def test_a_token_that_never_suffices_ends(closed_service, server, scene):
    for end in ("computePixels", "/rest"):
        server.faults[end] = [lambda *_: google_error(401, "UNAUTHENTICATED", "canary-text")] * 99
        with pytest.raises(EarthEngineError) as caught:
            closed_service.read_sar(scene, GRID, CONFIG)
        assert caught.value.kind == "credentials"
        assert server.count(end) <= 6
        session._opened.clear()


@pytest.mark.parametrize("end", ["/rest", "algorithms", "/token"])
@pytest.mark.parametrize("content", [b"{}", b"[1]", b"{", b"[" * 100_000])
def test_strange_answers_while_opening_are_typed(closed_service, server, scene, end, content):
    server.faults[end] = [lambda *_: Reply(body=content)] * 200
    with pytest.raises(SourceError, match=r"^earthengine: "):
        closed_service.read_sar(scene, GRID, CONFIG)


# ---- pixels that are none ----


class Opened:
    """Shows when it is unpickled."""

    happened = False

    def __reduce__(self):
        return (_open, ())


def _open():
    Opened.happened = True
    return 0


def pickled(reply):
    stream = io.BytesIO()
    np.save(stream, np.array([[Opened()]], dtype=object), allow_pickle=True)
    return stream.getvalue()


def vast(reply):
    """A header that claims 400,000 x 400,000 pixels."""
    return reply.body.replace(b"(48, 64)", b"(400000, 400000)").replace(b"  " * 6, b"", 1)


LAYOUT = np.dtype([("VV", "<f4"), ("VH", "<f4"), ("angle", "<u2")])
DAMAGES = {
    "short": lambda reply: reply.body[:-1],
    "long": lambda reply: reply.body + b"x",
    "empty": lambda reply: b"",
    "header alone": lambda reply: reply.body[:60],
    "no npy": lambda reply: b"\x89HDF" + reply.body,
    "pickled": pickled,
    "vast": vast,
    "wrong shape": lambda reply: npy(np.zeros((64, 48), LAYOUT)),
    "flat": lambda reply: npy(np.zeros(48 * 64, LAYOUT)),
    "wrong bands": lambda reply: npy(np.zeros((48, 64), [("VV", "<f4"), ("HH", "<f4"), ("angle", "<u2")])),
    "wrong type": lambda reply: npy(np.zeros((48, 64), [("VV", "<f8"), ("VH", "<f4"), ("angle", "<u2")])),
    "no fields": lambda reply: npy(np.zeros((48, 64), "<f4")),
    "column by column": lambda reply: npy(np.asfortranarray(np.zeros((48, 64), LAYOUT))),
    "future version": lambda reply: reply.body[:6] + b"\x09" + reply.body[7:],
    "code in the header": lambda reply: reply.body.replace(b"(48, 64)", b"print(1)"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_pixels_that_are_none_are_refused(service, server, scene, damage):
    def broken(asked, reply):
        return Reply(body=DAMAGES[damage](reply), content_type="application/octet-stream")

    server.faults["computePixels"] = [broken]
    with pytest.raises(SourceError, match=f"{S1}: sent .*expected 48 x 64 pixels with VV, VH, angle"):
        service.read_sar(scene, GRID, CONFIG)
    assert not Opened.happened
    assert server.count("computePixels") == 1


def test_bands_in_another_order_are_read_by_name(service, server, scene):
    def swapped(asked, reply):
        pixels = np.load(io.BytesIO(reply.body))
        return Reply(
            body=npy(pixels[["angle", "VH", "VV"]].astype([(n, LAYOUT[n]) for n in ("angle", "VH", "VV")])),
            content_type="application/octet-stream",
        )

    server.faults["computePixels"] = [swapped]
    np.testing.assert_array_equal(service.read_sar(scene, GRID, CONFIG).sar, server.ground.power(GRID))


# ---- accounts ----


def test_usable_says_with_what_or_what_to_do(service, server, monkeypatch, tmp_path):
    assert service.usable() == (True, "with the key file that the environment names, project sar1m-test-project")
    clear_account(tmp_path, monkeypatch)
    assert "earthengine authenticate" in service.usable()[1]
    monkeypatch.setenv("EARTHENGINE_PROJECT", "sar1m-test-project")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nowhere.json"))
    usable, why = service.usable()
    assert not usable
    assert "GOOGLE_APPLICATION_CREDENTIALS" in why
    (tmp_path / "nowhere.json").write_text('{"type": "external_account", "secret": "canary-1"}')
    assert "no key of a service account" in service.usable()[1]
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    store = tmp_path / ".config/earthengine/credentials"
    store.parent.mkdir(parents=True)
    store.write_text('{"refresh_token": "canary-refresh"}')
    assert service.usable() == (True, "with the account of `earthengine authenticate`, project sar1m-test-project")
    monkeypatch.delenv("EARTHENGINE_PROJECT")
    assert "Set EARTHENGINE_PROJECT" in service.usable()[1]
    store.write_text('{"refresh_token": "canary-refresh", "project": "own-project"}')
    assert service.usable()[0]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'sar1m[earthengine]'" in service.usable()[1]
    assert server.asked == []


def test_a_user_account_reads_too(server, scene, monkeypatch, tmp_path):
    clear_account(tmp_path, monkeypatch)
    monkeypatch.setenv("SAR1M_ALLOW_LOOPBACK", "1")
    monkeypatch.setenv("SAR1M_EARTHENGINE_URL", server.url)
    monkeypatch.setattr(ee.oauth, "TOKEN_URI", f"{server.url}/token")
    store = tmp_path / ".config/earthengine/credentials"
    store.parent.mkdir(parents=True)
    store.write_text(json.dumps({"refresh_token": "canary-refresh", "project": server.project}))
    side = make_service(tmp_path).read_sar(scene, GRID, CONFIG)
    np.testing.assert_array_equal(side.sar, server.ground.power(GRID))
    assert b"canary-refresh" in next(asked.body for asked in server.asked if asked.path == "/token")


def test_credentials_go_to_google_alone(server, scene, monkeypatch, tmp_path):
    set_account(server, tmp_path, monkeypatch, token_uri="https://tokens.example.com/token")  # noqa: S106  no secret
    with pytest.raises(SourceError, match=r"tokens\.example\.com"):
        make_service(tmp_path).read_sar(scene, GRID, CONFIG)
    set_account(server, tmp_path, monkeypatch)
    for url in ("https://earthengine.example.com", "http://earthengine.googleapis.com", f"{server.url}/x", "x"):
        monkeypatch.setenv("SAR1M_EARTHENGINE_URL", url)
        service = make_service(tmp_path)
        assert not service.usable()[0]
        with pytest.raises(SourceError, match="no endpoint of Earth Engine"):
            service.read_sar(scene, GRID, CONFIG)
    assert server.asked == []


def test_this_machine_is_not_asked_unless_it_is_allowed(server, scene, monkeypatch, tmp_path):
    set_account(server, tmp_path, monkeypatch)
    monkeypatch.delenv("SAR1M_ALLOW_LOOPBACK")
    with pytest.raises(SourceError, match="only public hosts"):
        make_service(tmp_path).read_sar(scene, GRID, CONFIG)
    assert server.asked == []


@pytest.mark.parametrize("changes", [{"private_key": "canary-broken"}, {"client_email": None}, {"token_uri": 7}])
def test_a_broken_key_is_named_without_its_content(server, scene, monkeypatch, tmp_path, changes):
    set_account(server, tmp_path, monkeypatch, **changes)
    with pytest.raises(SourceError, match="earthengine") as caught:
        make_service(tmp_path).read_sar(scene, GRID, CONFIG)
    assert "canary" not in "".join(traceback.format_exception(caught.value))


def test_no_secret_shows_anywhere(service, server, scene, caplog, capfd, lasting):
    caplog.set_level(logging.DEBUG)
    shown = [repr(service), pickle.dumps(service).decode("latin-1"), *service.usable()[1:]]

    def fail(end, fault):
        session._opened.clear()
        server.faults[end] = [fault] * 9
        with pytest.raises(SourceError) as caught:
            service.read_sar(scene, GRID, CONFIG)
        server.faults.clear()
        shown.extend(["".join(traceback.format_exception(caught.value)), repr(caught.value)])
        shown.append(pickle.dumps(caught.value).decode("latin-1"))

    def echo(asked, reply):
        everything = json.dumps(dict(asked.headers)) + asked.body.decode()
        return google_error(400, "INVALID_ARGUMENT", everything)

    for end in ("/token", "/rest", "algorithms", "computePixels"):
        fail(end, echo)
        fail(end, lambda asked, reply: google_error(401, "UNAUTHENTICATED", echo(asked, reply).body.decode()))
        fail(end, faults.server_error)
    service.read_sar(scene, GRID, CONFIG)
    shown += [caplog.text, *capfd.readouterr(), repr(session._opened), repr(session.find_account())]
    files = [path for path in (lasting[1] / "net").rglob("*") if path.is_file()]
    shown += [str(path) + path.read_bytes().decode("latin-1") for path in files]
    assert any(b"canary-" in asked.body or "canary-" in str(asked.headers) for asked in server.asked)  # they were used
    assert service_account(server)["private_key"].splitlines()[1] == secrets()[1]
    for secret in secrets():
        assert [text for text in shown if secret in text] == []


def test_a_refusal_pickles():
    error = pickle.loads(pickle.dumps(EarthEngineError("text", "quota")))  # noqa: S301  our own
    assert (str(error), error.kind) == ("text", "quota")
