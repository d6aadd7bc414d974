"""Addresses that reach into our own network are refused, however they are written."""

import ipaddress
import socket
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sar1m.io.net import address as address_module
from sar1m.io.net.address import Reach, check_url, resolve
from sar1m.store.errors import SourceError
from servers.base import Reply, Server, reply_json

ATTACKS = [
    "http://example.com/",
    "http://169.254.169.254/latest/meta-data/",
    "https://169.254.169.254/latest/meta-data/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.1/",
    "https://0177.0.0.1/",
    "https://127.1/",
    "https://127.0.0.1/",
    "https://127.0.0.1./",
    "https://0.0.0.0/",
    "https://10.0.0.1/",
    "https://172.16.0.1/",
    "https://192.168.1.1/",
    "https://100.64.0.1/",
    "https://224.0.0.1/",
    "https://[::1]/",
    "https://[::]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:8.8.8.8]/",
    "https://[::127.0.0.1]/",
    "https://[fe80::1]/",
    "https://[fc00::1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://localhost/",
    "https://LOCALHOST./",
    "https://metadata/",
    "file:///etc/passwd",
    "gopher://example.com/",
    "ftp://example.com/x",
    "data:text/plain,x",
    "//example.com/x",
    "/etc/passwd",
    "",
    "https:///x",
    "https://user@example.com/",
    "https://user:pass@example.com/",
    "https://example.com@127.0.0.1/",
    "https://example.com\\@127.0.0.1/",
    "https://example.com:22/",
    "https://example.com:99999/",
    "https://exa mple.com/",
    "https://example.com/\r\nHost: x",
    "https://example.com/\x00",
    "https://ex\u00e4mple.com/",
    "https://\u2460\u2461\u2466.0.0.1/",
    "https://[::1/",
    "https://-example.com/",
    "https://example..com/",
    f"https://example.com/{'a' * 20000}",
]


@pytest.mark.parametrize("url", ATTACKS)
def test_an_attack_is_refused(url):
    with pytest.raises(SourceError):
        check_url(url, Reach())


@pytest.mark.parametrize("url", [url for url in ATTACKS if "127." not in url and "localhost" not in url.lower()])
def test_loopback_for_tests_opens_nothing_else(url):
    if url == "https://[::1]/":
        return
    with pytest.raises(SourceError):
        check_url(url, Reach(loopback=True))


def test_what_services_use_is_taken_in_parts():
    address = check_url("https://Sentinel-Cogs.s3.us-west-2.amazonaws.com/a/b.tif?sig=secret#x", Reach())
    assert (address.host, address.port) == ("sentinel-cogs.s3.us-west-2.amazonaws.com", 443)
    assert address.target == "/a/b.tif?sig=secret"
    assert address.without_query == "https://sentinel-cogs.s3.us-west-2.amazonaws.com/a/b.tif"
    assert address.shown == "sentinel-cogs.s3.us-west-2.amazonaws.com .../b.tif"
    assert "secret" not in repr(address)
    assert check_url("https://example.com:8443/", Reach(ports=(443, 8443))).authority == "example.com:8443"
    assert check_url("http://127.0.0.1:8000/x", Reach(loopback=True)).origin == "http://127.0.0.1:8000"


@given(st.text(max_size=60) | st.from_regex(r"https?://[0-9a-fx.:\[\]@%\\/]{1,30}", fullmatch=True))
def test_whatever_the_text_the_answer_is_an_error_or_a_public_host(url):
    try:
        address = check_url(url, Reach())
    except SourceError:
        return
    assert address.scheme == "https"
    try:
        assert ipaddress.ip_address(address.host).is_global
    except ValueError:
        assert address.host.rpartition(".")[2][0].isalpha()


def resolver(*numbers):
    def getaddrinfo(host, port, **kwargs):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (number, port)) for number in numbers]

    return getaddrinfo


@pytest.mark.parametrize(
    "number", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "::ffff:10.0.0.1", "fe80::1%eth0"]
)
@pytest.mark.parametrize("first", [(), ("93.184.215.14",)])
def test_a_name_that_resolves_into_our_network_is_refused(monkeypatch, number, first):
    monkeypatch.setattr(address_module.socket, "getaddrinfo", resolver(*first, number))
    for reach in (Reach(), Reach(loopback=True)):
        with pytest.raises(SourceError, match="evil"):
            resolve("evil.example.com", 443, reach)


def test_nat64_of_a_public_address_is_public(monkeypatch):
    monkeypatch.setattr(address_module.socket, "getaddrinfo", resolver("64:ff9b::5db8:d70e"))
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

    monkeypatch.setattr(address_module.socket, "getaddrinfo", getaddrinfo)
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
