"""Accounts for the stand-in of Earth Engine, with canaries where the secrets are, and a guard around the machine."""

from __future__ import annotations

import contextlib
import functools
import json
import socket

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from sar1m.config import DownloadConfig
from sar1m.io.net.fetch import Fetcher, FetchSettings
from sar1m.sources.services.earthengine.service import EarthEngineService

VARIABLES = (
    "EARTHENGINE_PROJECT",
    "EARTHENGINE_SERVICE_ACCOUNT_KEY",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_CLOUD_PROJECT",
    "SAR1M_EARTHENGINE_URL",
)


@functools.cache
def _private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def secrets():
    """What must stand nowhere: lines of the private key, tokens, the key's id."""
    return ["canary-", *_private_key().splitlines()[1:3]]


def service_account(server, **changes):
    """The key file's content of a service account whose tokens come from server."""
    return {
        "type": "service_account",
        "project_id": server.project,
        "private_key_id": "canary-private-key-id",
        "private_key": _private_key(),
        "client_email": "canary-robot@sar1m-test-project.iam.gserviceaccount.com",
        "client_id": "canary-client-id",
        "token_uri": f"{server.url}/token",
        **changes,
    }


def set_account(server, folder, monkeypatch, **changes):
    """The environment of a service account."""
    clear_account(folder, monkeypatch)
    key, content = folder / "key.json", json.dumps(service_account(server, **changes))
    if not key.exists() or key.read_text() != content:
        key.write_text(content)
    monkeypatch.setenv("SAR1M_ALLOW_LOOPBACK", "1")
    monkeypatch.setenv("SAR1M_EARTHENGINE_URL", server.url)
    monkeypatch.setenv("EARTHENGINE_PROJECT", server.project)
    monkeypatch.setenv("EARTHENGINE_SERVICE_ACCOUNT_KEY", str(key))


def clear_account(folder, monkeypatch):
    """An environment and a home without any account."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(folder))


def make_service(folder, **limits):
    """The service with quick retries."""
    quick = {"requests_per_s": 500.0, "attempts": 3, "read_timeout_s": 1.0, **limits}
    settings = FetchSettings(root=folder / "net", limits=DownloadConfig(**quick), first_delay_s=0.01)
    return EarthEngineService(fetcher=Fetcher(settings))


@contextlib.contextmanager
def only_this_machine(monkeypatch):
    """Whatever leaves 127.0.0.1 fails the test, even where a client would swallow the error."""
    left = []
    connect, resolve = socket.socket.connect, socket.getaddrinfo

    def guarded_connect(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] != "127.0.0.1":
            left.append(address)
            raise OSError("only 127.0.0.1 in tests")
        return connect(self, address)

    def guarded_resolve(host, *rest, **more):
        if host not in ("127.0.0.1", b"127.0.0.1"):
            left.append(host)
            raise socket.gaierror("only 127.0.0.1 in tests")
        return resolve(host, *rest, **more)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_resolve)
    yield
    assert left == []
