"""A loopback server whose routes are functions: tests stand their services on it. Answers can also misbehave."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from support.hang_guard import STUCK_S

MAX_BODY_BYTES = 2**24


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request as it came. headers: lower-case names. nth: how many came for this path before it."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes
    nth: int

    def json(self):
        return json.loads(self.body)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What is sent. The last fields make it misbehave: see faults.py."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    send_length: bool = True
    cut_at: int | None = None  # bytes of the body after which the connection closes
    stall_s: float = 0.0  # before the status line, or after cut_at bytes where that is given
    trickle_s: float = 0.0  # pause after every piece of
    trickle_bytes: int = 1
    reset: bool = False  # RST instead of an answer


Route = Callable[[Asked], Reply]


def reply_json(content, *, status=200, **headers):
    return Reply(status=status, body=json.dumps(content).encode(), headers=headers)


def file_reply(asked: Asked, content: bytes, *, content_type="application/octet-stream", etag='"v1"'):
    """A file with Range and If-Range, as object stores serve them."""
    headers = {"Accept-Ranges": "bytes"} | ({"ETag": etag} if etag else {})
    whole = Reply(body=content, content_type=content_type, headers=headers)
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", asked.headers.get("range", ""))
    if found is None or asked.headers.get("if-range", etag) != etag:
        return whole
    first = int(found[1])
    last = min(int(found[2] or len(content) - 1), len(content) - 1)
    if first > last:
        return replace(whole, status=416, body=b"", headers=headers | {"Content-Range": f"bytes */{len(content)}"})
    part = headers | {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
    return replace(whole, status=206, body=content[first : last + 1], headers=part)


class Server:
    """`with Server({"/stac": route, ("POST", "/search"): route}) as server:` serves on 127.0.0.1, a free port.

    A key is a path, or (method, path); a path that ends in * matches what begins like it, longest first. All requests
    are kept in `asked`. After max_requests every answer is 503 and `exhausted` is true: a loop shows as that.
    """

    def __init__(self, routes=None, *, max_requests=10_000):
        self.routes: dict[object, Route] = dict(routes or {})
        self.asked: list[Asked] = []
        self.bytes_sent = 0
        self.most_at_once = 0
        self.max_requests = max_requests
        self._counts: dict[str, int] = {}
        self._now = 0
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    def __enter__(self):
        handler = type("Handler", (_Handler,), {"owner": self})
        self._http = _QuietServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._stopping.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)

    @property
    def port(self) -> int:
        return self._http.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def exhausted(self) -> bool:
        return len(self.asked) > self.max_requests

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def paths(self) -> list[str]:
        return [asked.path for asked in self.asked]

    def sleep(self, seconds: float):
        self._stopping.wait(seconds)

    def count_sent(self, count: int):
        with self._lock:
            self.bytes_sent += count

    def note(self, asked: Asked) -> Asked:
        with self._lock:
            asked = replace(asked, nth=self._counts.get(asked.path, 0))
            self._counts[asked.path] = asked.nth + 1
            self.asked.append(asked)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        return asked

    def done(self):
        with self._lock:
            self._now -= 1

    def answer(self, asked: Asked) -> Reply:
        if self.exhausted:
            return Reply(status=503, body=b"max_requests reached")
        route = self._route(asked)
        if route is None:
            return reply_json({"error": f"no route {asked.method} {asked.path}"}, status=404)
        return route(asked)

    def _route(self, asked: Asked) -> Route | None:
        for path in ((asked.method, asked.path), asked.path):
            if path in self.routes:
                return self.routes[path]
        fitting = []
        for key, route in self.routes.items():
            method, path = key if isinstance(key, tuple) else (asked.method, key)
            if method == asked.method and path.endswith("*") and asked.path.startswith(path[:-1]):
                fitting.append((len(path), route))
        return max(fitting, key=lambda found: found[0])[1] if fitting else None


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request, client_address):
        """Clients that go away in the middle are what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    owner: Server
    protocol_version = "HTTP/1.1"
    timeout = 10

    def log_message(self, *args):
        pass

    def _handle(self):
        length = min(int(self.headers.get("Content-Length") or 0), MAX_BODY_BYTES)
        body = self.rfile.read(length) if length else b""
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(
            method=self.command, path=parts.path, query=parse_qs(parts.query), headers=headers, body=body, nth=0
        )
        asked = self.owner.note(asked)
        try:
            self._send(self.owner.answer(asked))
        except OSError:
            self.close_connection = True
        finally:
            self.owner.done()

    do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = _handle  # noqa: N815 - http.server's names

    def _send(self, reply: Reply):
        if reply.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.close()
            return
        if reply.stall_s and reply.cut_at is None:
            self.owner.sleep(reply.stall_s)
        body = b"" if self.command == "HEAD" else reply.body[: reply.cut_at]
        head = self._head(reply)
        if reply.trickle_s:
            self._trickle(reply, head, body)
        else:
            self.owner.count_sent(len(body))
            self.wfile.write(head + body)
        if reply.cut_at is not None:
            self.owner.sleep(reply.stall_s)
            self.close_connection = True
        if not reply.send_length:
            self.close_connection = True

    def _trickle(self, reply: Reply, head: bytes, body: bytes):
        self.wfile.write(head)
        for at in range(0, len(body), reply.trickle_bytes):
            self.wfile.write(body[at : at + reply.trickle_bytes])
            self.owner.count_sent(len(body[at : at + reply.trickle_bytes]))
            self.owner.sleep(reply.trickle_s)
            if self.owner.stopping:
                break

    def _head(self, reply: Reply) -> bytes:
        lines = [f"HTTP/1.1 {reply.status} X", f"Content-Type: {reply.content_type}"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        if reply.send_length:
            lines.append(f"Content-Length: {len(reply.body)}")
        else:
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def wait_until(condition: Callable[[], bool], seconds: float = STUCK_S) -> None:
    """Waits for something that other threads or processes do; fails where it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("what was waited for did not happen")
        time.sleep(0.01)
