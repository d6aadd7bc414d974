"""Addresses that reach into our own network are refused, however they are written."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sar1m.store.addresses import STATED_BY_USER, Reach, check_url
from sar1m.store.errors import SourceError

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


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1:9000/store", "https://192.168.1.7/", "http://storage/x", "http://[::1]:80/"]
)
def test_a_user_may_state_an_internal_server(url):
    with pytest.raises(SourceError):
        check_url(url, Reach())
    assert check_url(url, STATED_BY_USER).url.rstrip("/") == url.replace(":80/", "/").rstrip("/")


@pytest.mark.parametrize("url", [url for url in ATTACKS if "@" in url or not url.startswith("http") or " " in url])
def test_a_user_may_state_neither_a_password_nor_another_scheme(url):
    with pytest.raises(SourceError):
        check_url(url, STATED_BY_USER)
