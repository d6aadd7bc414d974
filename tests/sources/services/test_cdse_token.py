"""Access tokens of the Copernicus Data Space: when they are renewed, where they are kept, and who gets them."""

# ruff: noqa: F811 - fixtures are imported from cdse_world

from __future__ import annotations

import os
import stat
import time
import traceback
from dataclasses import replace

import pytest

from sar1m.sources.services.cdse import tokens as cdse_tokens
from sar1m.sources.services.cdse.service import CdseAuth
from sar1m.store.errors import SourceError
from servers.base import reply_json
from servers.cdse import ACCESS
from servers.delivered import make_fetcher
from support.cdse_world import account, only, service_of, stand_in  # noqa: F401  fixtures


def test_an_old_token_is_refreshed_not_logged_in_again(stand_in, delivered, account, tmp_path):
    stand_in.lifetime_s = cdse_tokens.MARGIN_S - 1  # old as soon as it comes
    service = service_of(stand_in, delivered, tmp_path / "net")
    url = f"{stand_in.zipper.url}/odata/v1/x"
    auth = service.auth()
    tokens = [auth(url)["Authorization"] for _ in range(3)]
    assert len(set(tokens)) == 3
    assert (stand_in.sessions, stand_in.refreshes) == (1, 2)
    (kept,) = account.rglob("*.json")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    stand_in.refresh_works = False  # the session was closed
    assert auth(url)["Authorization"] not in tokens
    assert stand_in.sessions == 2
    kept.write_bytes(kept.read_bytes()[:20])  # a write that was cut short
    auth(url)
    assert stand_in.sessions == 3


def test_a_token_that_was_revoked_early_is_renewed_once(stand_in, delivered, tmp_path):
    service = service_of(stand_in, delivered, tmp_path / "net")
    scene = only(service)
    auth, url = service.auth(), f"{stand_in.zipper.url}/odata/v1/x"
    revoked = auth(url)
    stand_in.revoke()
    assert auth(url) == revoked  # by its lifetime it still holds
    assert service.product(scene).read_bytes() == delivered.content
    assert [asked.headers["authorization"] == revoked["Authorization"] for asked in stand_in.zipper.asked] == [
        True,
        False,
    ]
    assert (stand_in.sessions, stand_in.refreshes) == (1, 1)
    stand_in.revoke()
    stand_in.refresh_works = False  # the whole session was closed
    (tmp_path / "net" / "cache").rename(tmp_path / "before")
    service.product(scene)
    assert stand_in.sessions == 2


def test_a_token_that_is_always_refused_is_renewed_once(stand_in, delivered, tmp_path):
    stand_in.zipper.routes["/odata/v1/Products*"] = lambda asked: reply_json({}, status=401)
    service = service_of(stand_in, delivered, tmp_path / "net")
    service.auth()(f"{stand_in.zipper.url}/odata/v1/x")
    with pytest.raises(SourceError, match=r"answered 401 Unauthorized"):
        service.product(only(service))
    assert (len(stand_in.zipper.asked), stand_in.sessions, stand_in.refreshes) == (2, 1, 1)


def test_a_token_that_somebody_renewed_meanwhile_is_not_discarded(stand_in, delivered, tmp_path):
    identity = cdse_tokens.Identity(make_fetcher(tmp_path / "net"), stand_in.endpoints.identity)
    token = identity.access_token()
    identity.discard(time.time() - 60.0)
    assert identity.access_token() == token
    identity.discard(time.time())
    assert identity.access_token() != token


def test_a_wrong_password_is_asked_for_once(stand_in, delivered, monkeypatch, tmp_path):
    wrong = "canary-wrong-password-85"
    monkeypatch.setenv("CDSE_PASSWORD", wrong)
    service = service_of(stand_in, delivered, tmp_path / "net")
    scene = only(service)
    for _ in range(3):
        with pytest.raises(SourceError, match=r"no access token.*Check CDSE_USERNAME and CDSE_PASSWORD") as caught:
            service.product(scene)
        assert wrong not in "".join(traceback.format_exception(caught.value))
    assert len(stand_in.identity.asked) == 1
    monkeypatch.delenv("CDSE_PASSWORD")
    with pytest.raises(SourceError, match=r"Set CDSE_USERNAME and CDSE_PASSWORD") as caught:
        service.auth()
    assert service.usable() == (False, str(caught.value))


def test_a_runtime_folder_that_others_can_read_is_refused(stand_in, delivered, account, tmp_path):
    (account / f"sar1m-{os.getuid()}").mkdir(mode=0o755)
    service = service_of(stand_in, delivered, tmp_path / "net")
    with pytest.raises(SourceError, match=r"tokens cannot be kept there: mode 755"):
        service.product(only(service))
    assert stand_in.sessions == 0


def test_the_token_goes_to_its_own_hosts_alone(stand_in, delivered, tmp_path):
    stand_in.redirect_to = stand_in.stranger.url
    service = service_of(stand_in, delivered, tmp_path / "net")
    scene = only(service)
    service.product(scene)  # its bytes are right, so they may come from there
    (asked,) = stand_in.stranger.asked
    assert ACCESS not in repr(asked)
    assert "authorization" not in asked.headers
    assert f"Bearer {ACCESS}" in stand_in.zipper.asked[0].headers["authorization"]
    assert CdseAuth(cdse_tokens.Identity(service.fetcher, stand_in.endpoints.identity), ("a",))("https://b/c") == {}
    elsewhere = replace(scene, assets=(replace(scene.assets[0], href=f"{stand_in.stranger.url}/Products(x)"),))
    stand_in.stranger.routes = {"/*": lambda asked: reply_json({}, status=404)}
    with pytest.raises(SourceError):
        service.product(elsewhere)  # a plan file that was tampered with
    assert all("authorization" not in asked.headers for asked in stand_in.stranger.asked)


def test_the_token_goes_along_to_another_host_of_the_service(stand_in, delivered, tmp_path):
    stand_in.redirect_to = stand_in.stranger.url
    hosts = (*stand_in.endpoints.download_hosts, f"127.0.0.1:{stand_in.stranger.port}")
    service = service_of(stand_in, delivered, tmp_path / "net")
    service = replace(service, endpoints=replace(stand_in.endpoints, download_hosts=hosts))
    service.product(only(service))
    assert ACCESS in stand_in.stranger.asked[0].headers["authorization"]
