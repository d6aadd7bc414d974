"""Requests: repeated within bounds, believed only when whole and of the expected type, credentials kept at home."""

import json
import pickle
from email.utils import formatdate
from time import time

import pytest

from sar1m.io.net.answer import parse_json
from sar1m.io.net.fetch import AuthAcross, StatusError
from sar1m.io.net.limits import MAX_PAUSE_S
from sar1m.io.net.retry import delay_s, retry_after_s
from sar1m.store.errors import SourceError
from sar1m.store.side_files import MAX_DEPTH
from servers.base import Reply, Server, reply_json
from servers.faults import AFTER, Faulty, once


def good(asked):
    return reply_json({"features": list(range(1000))})


@pytest.mark.parametrize("kind", sorted(set(AFTER) - {"offline", "flipped_bit", "cut_without_length"}))
def test_a_passing_fault_is_asked_again(fetcher, kind):
    with Server({"/x": once(kind, good)}) as server:
        assert fetcher().request("GET", f"{server.url}/x").json() == {"features": list(range(1000))}
        assert len(server.asked) == 2


def test_json_cut_without_a_length_is_no_json(fetcher):
    with Server({"/x": once("cut_without_length", good)}) as server, pytest.raises(SourceError, match="is not JSON"):
        fetcher().request("GET", f"{server.url}/x").json()


@pytest.mark.parametrize("kind", sorted(set(AFTER) - {"offline", "flipped_bit", "cut_without_length"}))
def test_attempts_are_bounded(fetcher, kind):
    with Server({"/x": Faulty(good, 1.0, (kind,))}) as server:
        with pytest.raises(SourceError, match="3 attempts"):
            fetcher(attempts=3, read_timeout_s=0.15).request("GET", f"{server.url}/x")
        assert len(server.asked) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 501])
def test_a_refusal_is_final_and_tells_its_status(fetcher, status):
    with Server({"/x": lambda asked: reply_json({}, status=status)}) as server:
        with pytest.raises(StatusError, match=str(status)) as caught:
            fetcher().request("GET", f"{server.url}/x")
        assert len(server.asked) == 1
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own
    assert (again.status, str(again)) == (status, str(caught.value))


def test_retry_after_is_heeded_within_a_cap():
    assert retry_after_s("7") == 7
    assert 50 < retry_after_s(formatdate(time() + 60, usegmt=True)) <= 60
    assert retry_after_s(formatdate(time() - 60, usegmt=True)) == 0
    assert [retry_after_s(text) for text in (None, "", "-1", "soon", "9" * 400, "1e9", "Wed, 99 Foo")] == [None] * 7
    assert 7 <= delay_s(0, 0.5, 7.0) <= 7.5
    assert delay_s(0, 0.5, 1e9) <= MAX_PAUSE_S + 0.5
    assert max(delay_s(400, 0.5, None) for _ in range(50)) <= 60


def test_a_pause_holds_for_others_too(fetcher):
    """Told to wait by one answer, another request does not go before."""
    times = []

    def route(asked):
        times.append(time())
        return Reply(status=429, headers={"Retry-After": "1"}) if len(times) == 1 else good(asked)

    with Server({"/*": route}) as server:
        with pytest.raises(SourceError):
            fetcher(attempts=1).request("GET", f"{server.url}/a")
        fetcher().request("GET", f"{server.url}/b")
    assert times[1] - times[0] > 0.9


def test_a_large_answer_is_not_read(fetcher):
    body = b"[" + b"1," * 500_000 + b"1]"
    for announced in (True, False):
        with Server({"/x": lambda asked, sent=announced: Reply(body=body, send_length=sent)}) as server:
            ours = fetcher(server_root(fetcher, announced))
            with pytest.raises(SourceError, match="at most 1000 are read"):
                ours.request("GET", f"{server.url}/x", max_bytes=1000)
            assert ours.usage().bytes <= (0 if announced else 2**17)


def server_root(fetcher, name):
    return fetcher().settings.root / str(name)


def test_types_are_checked(fetcher):
    answers = {
        "/geo": Reply(body=b"{}", content_type="application/geo+json; charset=utf-8"),
        "/text": Reply(body=b"{}", content_type="text/plain"),
        "/page": Reply(body=b" \n<!DocType HTML><p>", content_type="application/json"),
        "/empty": Reply(status=204, body=b"", content_type="text/plain"),
        "/zip": Reply(body=b"{}", content_type="application/json", headers={"Content-Encoding": "gzip"}),
    }
    with Server({path: lambda asked, reply=reply: reply for path, reply in answers.items()}) as server:
        ours = fetcher(attempts=2)
        assert ours.request("GET", f"{server.url}/geo").json() == {}
        assert ours.request("GET", f"{server.url}/empty").content == b""
        assert ours.request("GET", f"{server.url}/text", expect=("text/*",)).content == b"{}"
        for path in ("/text", "/page", "/zip"):
            with pytest.raises(SourceError, match="2 attempts"):
                ours.request("GET", f"{server.url}{path}")


def test_json_has_bounds():
    deep = MAX_DEPTH
    assert parse_json(b"[" * deep + b"]" * deep, "x")
    assert parse_json(json.dumps({"a": '[[{"\\' * 200}).encode(), "x") == {"a": '[[{"\\' * 200}
    for hostile in (
        b"[" * (deep + 1) + b"]" * (deep + 1),
        b"[" * 10**6,
        b'{"a":' * 10**5,
        b"NaN",
        b"[-Infinity]",
        b"[18446744073709551616]",
        b"",
        b"\xff",
        b"9" * 5000,
    ):
        with pytest.raises(SourceError, match=r"^item:"):
            parse_json(hostile, "item")
    with pytest.raises(SourceError):
        parse_json(b'"' + b'\\"' * 3_000_000, "item")  # a scanner that goes back would take hours


def test_a_body_is_sent_and_a_redirected_body_stays_at_home(fetcher):
    routes = {
        ("POST", "/search"): lambda asked: reply_json(asked.json()),
        ("POST", "/moved"): lambda asked: Reply(status=307, headers={"Location": "/search"}),
        ("POST", "/away"): lambda asked: Reply(
            status=307, headers={"Location": f"http://localhost:{asked.headers['host'].partition(':')[2]}/search"}
        ),
    }
    with Server(routes) as server:
        for path in ("/search", "/moved"):
            answer = fetcher().request("POST", f"{server.url}{path}", body=b'{"limit": 3}')
            assert answer.json() == {"limit": 3}
        with pytest.raises(SourceError, match="redirects a POST to localhost"):
            fetcher().request("POST", f"{server.url}/away", body=b'{"limit": 3}')


class Bearer:
    """As services have them: says for which address it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, url):
        self.asked.append(url)
        return {"Authorization": "Bearer canary-7f3a"}


def redirecting(asked):
    host = asked.headers["host"]
    if asked.path == "/stay":
        return Reply(status=302, headers={"Location": "/end"})
    if asked.path == "/go":
        return Reply(status=302, headers={"Location": f"http://{host.replace('127.0.0.1', 'localhost')}/end"})
    return reply_json({name: asked.headers.get(name) for name in ("authorization", "x-key", "cookie")})


def test_credentials_stay_at_their_host(fetcher):
    with Server({"/*": redirecting}) as server:
        ours, auth = fetcher(), Bearer()
        headers = {"X-Key": "canary-9"}
        stayed = ours.request("GET", f"{server.url}/stay", auth=auth, headers=headers).json()
        gone = ours.request("GET", f"{server.url}/go", auth=auth, headers=headers).json()
        assert stayed == {"authorization": "Bearer canary-7f3a", "x-key": "canary-9", "cookie": None}
        assert gone == {"authorization": None, "x-key": None, "cookie": None}
        assert not any("localhost" in url for url in auth.asked)
        across = AuthAcross(auth, frozenset({f"localhost:{server.port}"}))
        assert ours.request("GET", f"{server.url}/go", auth=across).json()["authorization"] == "Bearer canary-7f3a"
        other = AuthAcross(auth, frozenset({"localhost"}))
        assert ours.request("GET", f"{server.url}/go", auth=other).json()["authorization"] is None


def test_a_signed_address_goes_to_its_host_only(fetcher):
    with Server({"/x": lambda asked: reply_json(asked.query)}) as server:
        answer = fetcher().request("GET", f"{server.url}/x?a=1", auth=lambda url: f"{url}&sig=canary")
        assert answer.json() == {"a": ["1"], "sig": ["canary"]}
        assert "canary" not in answer.url
        with pytest.raises(SourceError, match="was signed for localhost"):
            fetcher().request("GET", f"{server.url}/x", auth=lambda url: url.replace("127.0.0.1", "localhost"))


def test_cookies_are_not_kept(fetcher):
    def route(asked):
        return Reply(body=json.dumps(asked.headers.get("cookie")).encode(), headers={"Set-Cookie": "a=1"})

    with Server({"/": route}) as server:
        ours = fetcher()
        assert [ours.request("GET", server.url).json() for _ in range(2)] == [None, None]
