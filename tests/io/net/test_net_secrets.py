"""Canaries in every slot that can hold a credential: none of them comes out again, except to the service."""

import logging
import pickle
import traceback

import pytest

from sar1m.io.net.exchange import Ask
from sar1m.io.net.fetch import AuthAcross
from sar1m.store.errors import Sar1mError
from servers.base import Reply, Server, file_reply
from servers.faults import KINDS, Faulty

CANARY = "canary-5b1e"


class SignAndBearer:
    def __init__(self, sign):
        self.sign = sign

    def __call__(self, url):
        return f"{url}&sig={CANARY}" if self.sign else {"Authorization": f"Bearer {CANARY}"}


def provoke(ours, url, auth):
    """Texts of everything that a user, a log or a report may see."""
    texts = []
    calls = (
        lambda: ours.request("GET", url, auth=auth, headers={"X-Api-Key": CANARY}),
        lambda: ours.download(url, name="x.bin", auth=auth, size=20_000, checksum="md5:" + "0" * 32),
        lambda: ours.ranged(url, auth=auth).readall(),
    )
    for call in calls:
        try:
            texts.append(repr(call()))
        except Sar1mError as error:
            texts += ["".join(traceback.format_exception(error)), repr(error), pickle.dumps(error).decode("latin-1")]
    return texts


@pytest.mark.parametrize("kind", [*KINDS, "not_found", "moved", "good"])
@pytest.mark.parametrize("sign", [True, False])
def test_no_canary_comes_out(fetcher, caplog, kind, sign):
    def route(asked):
        if kind == "not_found":
            return Reply(status=404, body=CANARY.encode())
        if kind == "moved":
            return Reply(status=302, headers={"Location": f"https://10.0.0.1/?sig={CANARY}"})
        return file_reply(asked, bytes(20_000))

    faulty = Faulty(route, 1.0, (kind,)) if kind in KINDS else route
    caplog.set_level(logging.DEBUG)
    with Server({"/*": faulty}) as server:
        ours = fetcher(attempts=2, read_timeout_s=0.1)
        texts = provoke(ours, f"{server.url}/item?token={CANARY}", SignAndBearer(sign))
        assert any(CANARY in str(asked.query) for asked in server.asked)
    texts += [repr(ours), pickle.dumps(ours).decode("latin-1"), caplog.text]
    for path in ours.settings.root.rglob("*"):
        texts.append(str(path))
        if path.is_file():
            texts.append(path.read_bytes().decode("latin-1"))
    assert [text for text in texts if CANARY in text] == []


@pytest.mark.parametrize("auth", [lambda url: {"Authorization": f"{CANARY}\r\nX: y"}, lambda url: {f"{CANARY}\n": "x"}])
def test_a_header_that_cannot_be_sent_is_not_shown(fetcher, auth):
    with Server({"/": lambda asked: Reply()}) as server, pytest.raises(Sar1mError, match="line breaks") as caught:
        fetcher().request("GET", server.url, auth=auth)
    assert CANARY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "url",
    [
        f"https://user:{CANARY}@example.com/",
        f"ftp://h/{CANARY}",
        f"https://10.0.0.1/?k={CANARY}",
        f"https://a b/?{CANARY}",
    ],
)
def test_an_address_that_is_refused_is_not_shown(fetcher, url):
    with pytest.raises(Sar1mError) as caught:
        fetcher().request("GET", url)
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_records_show_no_secret():
    ask = Ask(method="GET", url=f"https://h/?{CANARY}", headers={"a": CANARY}, body=CANARY.encode())
    assert CANARY not in repr(ask)

    class Shown:
        def __repr__(self):
            return CANARY

    assert CANARY not in repr(AuthAcross(Shown(), frozenset({"h"})))
