"""What goes wrong between a service and us, switched on for a seeded share of the requests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from time import time

from servers.base import Asked, Reply, Route

HTML = b"<!DOCTYPE html><html><body>Our service is being maintained.</body></html>"


def too_many(asked: Asked, reply: Reply) -> Reply:
    wait = "0" if asked.nth % 2 else formatdate(time(), usegmt=True)
    return Reply(status=429, body=b'{"error": "slow down"}', headers={"Retry-After": wait})


def server_error(asked: Asked, reply: Reply) -> Reply:
    return Reply(status=(500, 502, 503, 504)[asked.nth % 4], body=HTML, content_type="text/html")


def stall(asked: Asked, reply: Reply) -> Reply:
    """Half of the body, then nothing."""
    return replace(reply, cut_at=len(reply.body) // 2, stall_s=5.0)


def silence(asked: Asked, reply: Reply) -> Reply:
    return replace(reply, stall_s=5.0, cut_at=None)


def cut_with_length(asked: Asked, reply: Reply) -> Reply:
    return replace(reply, cut_at=len(reply.body) // 2)


def cut_without_length(asked: Asked, reply: Reply) -> Reply:
    return replace(reply, body=reply.body[: len(reply.body) // 2], send_length=False)


def html_with_200(asked: Asked, reply: Reply) -> Reply:
    return Reply(body=HTML, content_type="text/html; charset=utf-8")


def html_as_bytes(asked: Asked, reply: Reply) -> Reply:
    return Reply(body=HTML, content_type="application/octet-stream")


def flipped_bit(asked: Asked, reply: Reply) -> Reply:
    at = len(reply.body) // 3
    return replace(reply, body=reply.body[:at] + bytes([reply.body[at] ^ 16]) + reply.body[at + 1 :])


def trickle(asked: Asked, reply: Reply) -> Reply:
    return replace(reply, trickle_s=0.05)


def reset(asked: Asked, reply: Reply) -> Reply:
    return Reply(reset=True)


def offline(asked: Asked, reply: Reply) -> Reply:
    return Reply(status=202, body=b'{"message": "ordered"}')


# Of these the body that would have been sent matters: they need the route itself.
def range_ignored(route: Route, asked: Asked) -> Reply:
    return route(replace(asked, headers={k: v for k, v in asked.headers.items() if k != "range"}))


def etag_changed(route: Route, asked: Asked) -> Reply:
    """The file was written again, same content: If-Range no longer holds."""
    reply = range_ignored(route, asked)
    return replace(reply, headers=dict(reply.headers) | {"ETag": f'"v{asked.nth + 2}"'})


def redirected(route: Route, asked: Asked) -> Reply:
    """To the same server under its other name."""
    host = asked.headers["host"].replace("127.0.0.1", "localhost")
    return Reply(status=302, headers={"Location": f"http://{host}{asked.path}?again=1"})


BEFORE: dict[str, Callable[[Route, Asked], Reply]] = {
    "range_ignored": range_ignored,
    "etag_changed": etag_changed,
    "redirected": redirected,
}
AFTER: dict[str, Callable[[Asked, Reply], Reply]] = {
    function.__name__: function
    for function in (
        too_many,
        server_error,
        stall,
        silence,
        cut_with_length,
        cut_without_length,
        html_with_200,
        html_as_bytes,
        flipped_bit,
        trickle,
        reset,
        offline,
    )
}
KINDS = (*AFTER, *BEFORE)


@dataclass
class Faulty:
    """A route that misbehaves on a seeded share of requests: which ones depends on path and count, not on timing.

    happened: how often each kind was served.
    """

    route: Route
    share: float
    kinds: tuple[str, ...] = KINDS
    seed: int = 0
    happened: dict[str, int] = field(default_factory=dict)

    def __call__(self, asked: Asked) -> Reply:
        kind = None if "again" in asked.query else self.kind(asked)
        if kind is None:
            return self.route(asked)
        self.happened[kind] = self.happened.get(kind, 0) + 1
        if kind in BEFORE:
            return BEFORE[kind](self.route, asked)
        reply = self.route(asked)
        return AFTER[kind](asked, reply) if reply.body else reply

    def kind(self, asked: Asked) -> str | None:
        digest = hashlib.blake2b(f"{self.seed}|{asked.path}|{asked.nth}".encode(), digest_size=16).digest()
        if int.from_bytes(digest[:8], "big") / 2**64 >= self.share:
            return None
        return self.kinds[int.from_bytes(digest[8:], "big") % len(self.kinds)]


def once(kind: str, route: Route) -> Route:
    """The first request of each path meets the fault, later ones do not."""
    faulty = Faulty(route, 1.0, (kind,))
    return lambda asked: faulty(asked) if asked.nth == 0 else route(asked)
