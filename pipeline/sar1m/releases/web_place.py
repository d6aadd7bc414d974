"""A release on a web server, read without leaving the server: redirects are followed on the same host and port alone.

obstore, which reads stores elsewhere, follows redirects anywhere and has no switch for that. What a download takes from
a server that was named must not come from one that was not, nor make this machine ask one.
"""

from __future__ import annotations

import contextlib
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Final, TypeVar
from urllib.parse import SplitResult, quote, urljoin, urlsplit

import certifi
import httpcore

from sar1m.io.net.faults import is_passing
from sar1m.io.net.retry import delay_s
from sar1m.store.errors import MissingError, StoreError, UnreachableError, printable
from sar1m.store.places.place import ByteRange, checked_name, too_large
from sar1m.store.places.remote import RemotePlace
from sar1m.store.version import __version__

# What the methods of Place do is described there.
# ruff: noqa: D102

_MAX_REDIRECTS: Final = 5
_MOVED: Final = frozenset({301, 302, 303, 307, 308})
_BEYOND_THE_END: Final = 416  # of a range that a file is too short for
_ATTEMPTS: Final = 6
_FIRST_WAIT_S: Final = 0.2
_TIMEOUTS_S: Final = {"connect": 10.0, "read": 60.0, "write": 60.0, "pool": 60.0}
_BROKEN: Final = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, httpcore.ProxyError)
T = TypeVar("T")


class _BusyError(Exception):
    """The server cannot answer now: it may be asked again."""


class WebPlace(RemotePlace):
    """A release at http(s)://host/path. location: checked, without a slash at its end."""

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self._connections = _connections(location)

    def read(self, name: str, *, max_bytes: int) -> bytes:
        def whole() -> bytes:
            content = bytearray()
            with self._answer("GET", name, {}) as answer:
                for piece in answer.iter_stream():
                    content += piece
                    if len(content) > max_bytes:
                        raise too_large(self.shown(name), max_bytes)
            return bytes(content)

        return self._patiently(name, whole)

    def size(self, name: str) -> int | None:
        def announced() -> int:
            with self._answer("HEAD", name, {}) as answer:
                return int(_header(answer, b"content-length") or 0)

        try:
            return self._patiently(name, announced)
        except MissingError:
            return None

    def stream(self, name: str) -> Iterator[bytes]:
        """A body that breaks off is continued where it ended, under the same ETag."""
        done, tag = 0, ""
        for attempt in range(_ATTEMPTS):
            headers = {"Range": f"bytes={done}-", "If-Range": tag} if done else {}
            try:
                with self._answer("GET", name, headers) as answer:
                    if done and answer.status != 206:
                        raise StoreError(f"{self.shown(name)}: changed, or cannot be continued. Run the same again.")
                    tag = _header(answer, b"etag")
                    for piece in answer.iter_stream():
                        yield piece
                        done += len(piece)
                return
            except (_BusyError, *_BROKEN) as error:
                if attempt == _ATTEMPTS - 1 or (done and (not tag or tag.startswith("W/"))):
                    raise self._unreachable(name, error) from None
            time.sleep(delay_s(attempt, _FIRST_WAIT_S, None))

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        wanted = ByteRange(name=name, start=start, stop=stop)

        def part() -> bytes:
            with self._answer("GET", name, {"Range": f"bytes={start}-{stop - 1}"}) as answer:
                if answer.status != 206:
                    raise UnreachableError(
                        f"{self.shown(name)}: the server ignores Range and would send the whole file. Get the release."
                    )
                content = bytearray()
                for piece in answer.iter_stream():
                    content += piece
                    if len(content) > len(wanted):
                        break
                return bytes(content)

        content = self._patiently(name, part)
        self._check_length(name, len(content), len(wanted))
        return content

    def _patiently(self, name: str, ask: Callable[[], T]) -> T:
        attempt = 0
        while True:
            try:
                return ask()
            except (_BusyError, *_BROKEN) as error:
                if attempt == _ATTEMPTS - 1:
                    raise self._unreachable(name, error) from None
            time.sleep(delay_s(attempt, _FIRST_WAIT_S, None))
            attempt += 1

    @contextlib.contextmanager
    def _answer(self, method: str, name: str, headers: dict[str, str]) -> Iterator[httpcore.Response]:
        """The answer of the server itself, with status 200 or 206."""
        address = f"{self.location}/{quote(checked_name(name))}"
        sent = {"User-Agent": f"sar1m/{__version__}", "Accept-Encoding": "identity", **headers}
        for _ in range(_MAX_REDIRECTS + 1):
            parts = urlsplit(address)
            every = [("Host", parts.netloc), *sent.items()]
            limits = {"timeout": _TIMEOUTS_S}
            with self._connections.stream(method, address, headers=every, extensions=limits) as answer:
                if answer.status not in _MOVED:
                    self._require_good(name, answer.status)
                    yield answer
                    return
                address = self._moved(name, parts, _header(answer, b"location"))
        raise StoreError(f"{self.shown(name)}: redirects more than {_MAX_REDIRECTS} times. It is not followed further.")

    def _moved(self, name: str, here: SplitResult, target: str) -> str:
        """Where a redirect leads. Raises StoreError where that is another server."""
        try:
            there = urlsplit(urljoin(here.geturl(), target))
            same = _server(there) == _server(here)
        except ValueError:
            same, there = False, urlsplit("")
        if not target or not same:
            shown = printable(there.netloc.rpartition("@")[2][:80]) or "no address"
            raise StoreError(
                f"{self.shown(name)}: the server redirects to {shown}, another host or port, which is not followed. "
                "Give the address where the release itself lies."
            )
        return there._replace(netloc=here.netloc, fragment="").geturl()

    def _require_good(self, name: str, status: int) -> None:
        if status in {200, 206}:
            return
        if status in {404, 410}:
            raise MissingError(
                f"{self.shown(name)}: there is no such file. Check the location, and that what lies there is complete."
            )
        if status == _BEYOND_THE_END:
            raise StoreError(f"{self.shown(name)}: is shorter than the store's marker says. Get or publish it again.")
        if is_passing(status):
            raise _BusyError(f"HTTP status {status}")
        kind = "access refused" if status in {401, 403} else "the server does not do it"
        raise UnreachableError(f"{self.shown(name)}: {kind}: HTTP status {status}. Check the location.")

    def _unreachable(self, name: str, error: Exception) -> UnreachableError:
        reason = str(error) if isinstance(error, _BusyError) else "no connection, or no answer in time"
        return UnreachableError(
            f"{self.shown(name)}: the server does not do it: {reason}. Run the same command again when it does: what "
            "is finished or cached stays good."
        )


def _server(address: SplitResult) -> tuple[str, str | None, int | None]:
    return address.scheme, address.hostname, address.port or {"http": 80, "https": 443}.get(address.scheme)


def _header(answer: httpcore.Response, wanted: bytes) -> str:
    return next((value.decode("latin-1") for name, value in answer.headers if name.lower() == wanted), "")


def _connections(location: str) -> httpcore.ConnectionPool:
    """Connections to a server, through the proxy that the environment names for it, as obstore makes them."""
    parts = urlsplit(location)
    context = ssl.create_default_context(cafile=certifi.where())
    context.load_default_certs()  # an institution's own authorities, SSL_CERT_FILE
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
        return httpcore.HTTPProxy(proxy_url=proxy, ssl_context=context, max_keepalive_connections=0)
    return httpcore.ConnectionPool(ssl_context=context, max_keepalive_connections=0)  # nobody has to close it
