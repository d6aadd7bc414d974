"""Connections go to checked public addresses alone, also after redirects and when names resolve into our network."""

import socket
from dataclasses import replace

import pytest

from sar1m.io.net.transport import resolve
from sar1m.store.addresses import Reach
from sar1m.store.errors import SourceError
from servers.base import Reply, Server, reply_json


def resolver(*numbers):
    def getaddrinfo(host, port, **kwargs):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (number, port)) for number in numbers]

    return getaddrinfo


@pytest.mark.parametrize(
    "number", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "::ffff:10.0.0.1", "fe80::1%eth0"]
)
@pytest.mark.parametrize("first", [(), ("93.184.215.14",)])
def test_a_name_that_resolves_into_our_network_is_refused(monkeypatch, number, first):
    monkeypatch.setattr(socket, "getaddrinfo", resolver(*first, number))
    for reach in (Reach(), Reach(loopback=True)):
        with pytest.raises(SourceError, match="evil"):
            resolve("evil.example.com", 443, reach)


def test_nat64_of_a_public_address_is_public(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", resolver("64:ff9b::5db8:d70e"))
    assert resolve("example.com", 443, Reach()) == ("64:ff9b::5db8:d70e",)


def test_the_connection_goes_to_what_was_checked(fetcher, monkeypatch):
    """A resolver that turns nasty at the second question (rebinding) is not asked a second time."""
    asked, connected = [], []

    def getaddrinfo(host, port, **kwargs):
        asked.append(host)
        return resolver("93.184.215.14" if len(asked) == 1 else "127.0.0.1")(host, port)

    def create_connection(address, *args, **kwargs):
        connected.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(socket, "create_connection", create_connection)
    with pytest.raises(SourceError, match="no connection"):
        fetcher(attempts=1).request("GET", "https://rebinding.example.com/")
    assert connected == [("93.184.215.14", 443)]
    assert asked == ["rebinding.example.com"]


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest",
        "https://10.0.0.1/",
        "file:///etc/passwd",
        "https://user@example.com/",
        "http://[::ffff:127.0.0.1]/",
    ],
)
def test_a_redirect_into_our_network_is_not_followed(fetcher, target):
    with Server({"/a": lambda asked: Reply(status=302, headers={"Location": target})}) as server:
        with pytest.raises(SourceError):
            fetcher().request("GET", f"{server.url}/a")
        assert len(server.asked) == 1


def test_redirects_end(fetcher):
    with Server(
        {"/*": lambda asked: Reply(status=302, headers={"Location": f"/{asked.nth}{asked.path[1:]}"})}
    ) as server:
        with pytest.raises(SourceError, match="more than 5 times"):
            fetcher().request("GET", f"{server.url}/x")
        assert len(server.asked) == 6


def test_loopback_needs_a_flag(fetcher, monkeypatch):
    with Server({"/": lambda asked: reply_json(1)}) as server:
        open_fetcher = fetcher()
        closed = replace(open_fetcher, settings=replace(open_fetcher.settings, allow_loopback=False))
        with pytest.raises(SourceError, match="this machine"):
            closed.request("GET", server.url)
        monkeypatch.setenv("SAR1M_ALLOW_LOOPBACK", "1")
        assert closed.request("GET", server.url).json() == 1
