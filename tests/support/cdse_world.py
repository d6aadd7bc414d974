"""What tests of the Copernicus Data Space share: a product, an account, the stand-in, and a service."""

from __future__ import annotations

import pytest

from sar1m.sources.services.cdse import tokens
from sar1m.sources.services.cdse.routes import CdseRoute
from sar1m.sources.services.cdse.service import Cdse
from servers.cdse import PASSWORD, USER, CdseStandIn
from servers.cdse_store import S3_ACCESS, S3_SECRET
from servers.delivered import QUERY, make_fetcher

ROUTES = [CdseRoute(search=search, access=access) for search in ("odata", "stac") for access in ("zipper", "s3")]


@pytest.fixture
def account(monkeypatch, tmp_path):
    """Credentials of both kinds, and a runtime folder of its own."""
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    canaries = {"CDSE_USERNAME": USER, "CDSE_PASSWORD": PASSWORD, "CDSE_S3_ACCESS_KEY": S3_ACCESS}
    for name, value in ({"XDG_RUNTIME_DIR": str(runtime), "CDSE_S3_SECRET_KEY": S3_SECRET} | canaries).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tokens, "_REFUSED", set())
    return runtime


@pytest.fixture
def stand_in(delivered, account):
    with CdseStandIn().serving() as served:
        served.add(delivered)
        yield served


def service_of(stand_in, delivered, root, route=None, **limits) -> Cdse:
    return Cdse(
        fetcher=make_fetcher(root, **limits),
        safe=delivered.config.safe,
        endpoints=stand_in.endpoints,
        route=route or CdseRoute(),
    )


def only(service):
    (scene,) = service.search(QUERY)
    return scene
