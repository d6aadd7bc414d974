"""One request and its answer. Addresses are checked, also of redirects; credentials go to their own host alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from http.client import responses
from typing import Final

import httpcore

from sar1m.io.net.faults import PassingError, StatusError, is_passing
from sar1m.io.net.limits import Limiter
from sar1m.io.net.meter import Meter, Usage
from sar1m.io.net.options import FetchSettings
from sar1m.io.net.retry import retry_after_s
from sar1m.io.net.transport import connection_pool
from sar1m.store.addresses import Address, check_url, join_url
from sar1m.store.errors import SourceError
from sar1m.store.version import __version__

MAX_REDIRECTS: Final = 5
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_STEP_BYTES: Final = 2**20  # charged to the meter at once
_PIECE_BYTES: Final = 2**16  # httpcore reads at most so much at once
# The only headers that go to another host than the one they were meant for.
_HARMLESS: Final = frozenset({"accept", "range", "if-range"})

Auth = Callable[[str], Mapping[str, str] | str]


@dataclass(frozen=True)
class AuthAcross:
    """An Auth that is valid for other hosts too, where a service redirects to another host of its own.

    hosts: names such as download.dataspace.copernicus.eu, with :port where it is not 443.
    """

    auth: Auth = field(repr=False)
    hosts: frozenset[str]

    def __call__(self, url: str) -> Mapping[str, str] | str:
        """The result of the inner Auth."""
        return self.auth(url)


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A request. cost: units of the service's quota. ahead_bytes: size of the answer where known, else 0."""

    method: str
    url: str = field(repr=False)
    auth: Auth | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)
    cost: float = 0.0
    ahead_bytes: int = 0


class Reply:
    """An answer whose body has not been read yet. headers: lower-case names."""

    def __init__(self, response: httpcore.Response, address: Address, meter: Meter) -> None:
        self.status = response.status
        self.headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        self.address = address
        self._response = response
        self._meter = meter

    @property
    def length(self) -> int | None:
        """Bytes of the body as announced, None where they are not."""
        text = self.headers.get("content-length", "")
        return int(text) if text.isdecimal() and len(text) < 19 and "transfer-encoding" not in self.headers else None

    @property
    def media_type(self) -> str:
        """Such as application/json, without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def pieces(self, max_bytes: int) -> Iterator[bytes]:
        """The body. Raises SourceError before more than max_bytes, PassingError for an encoding that was not asked
        for, BudgetError before the budget is exceeded."""
        length = self.length
        if length is not None and length > max_bytes:
            raise self._too_long(length, max_bytes)
        if self.headers.get("content-encoding", "identity").lower() != "identity":
            raise PassingError(f"{self.address.shown}: answered compressed, which was not asked for")
        self._meter.charge(Usage(), ahead_bytes=length or 0)
        charged, count = 0, 0
        incoming = self._response.iter_stream()
        try:
            while True:
                wanted = min(_STEP_BYTES, _STEP_BYTES if length is None else length - charged)
                if charged < count + _PIECE_BYTES and wanted:
                    self._meter.charge(Usage(bytes=wanted))
                    charged += wanted
                piece = next(incoming, None)
                if piece is None:
                    return
                count += len(piece)
                if count > max_bytes:
                    raise self._too_long(count, max_bytes)
                yield piece
        finally:
            self._meter.settle(Usage(bytes=charged - count))

    def _too_long(self, found: int, max_bytes: int) -> SourceError:
        return SourceError(
            f"{self.address.shown}: answers with {found} bytes or more; at most {max_bytes} are read. Nothing of it is "
            "used."
        )


class Exchanges:
    """Requests under the limits and budgets of one root."""

    def __init__(self, settings: FetchSettings) -> None:
        self._settings = settings
        self.limiter = Limiter(settings.root, settings.limits)
        self.meter = Meter(settings.root, settings.limits)

    @contextlib.contextmanager
    def exchange(self, ask: Ask) -> Iterator[Reply]:
        """The answer after redirects, whatever its status. Raises PassingError where the connection fails, SourceError
        for addresses that must not be asked, BudgetError before a request that would exceed a budget."""
        reach = self._settings.reach
        home = address = check_url(ask.url, reach)
        for _ in range(MAX_REDIRECTS + 1):
            with self._once(_for_host(ask, home, address), address, home) as reply:
                if reply.status not in _REDIRECTS or "location" not in reply.headers:
                    yield reply
                    return
                target = join_url(address, reply.headers["location"], reach)
            ask = _redirected(ask, reply, target)
            address = target
        raise SourceError(f"{home.shown}: redirects more than {MAX_REDIRECTS} times. It is not followed further.")

    @contextlib.contextmanager
    def _once(self, ask: Ask, address: Address, home: Address) -> Iterator[Reply]:
        with self.limiter.turn(address.authority):
            signed, headers = self._authorised(ask, address, home)
            self.meter.charge(Usage(requests=1, units=ask.cost), ahead_bytes=ask.ahead_bytes)
            with _naming(address), self._sent(ask, signed, headers) as response:
                reply = Reply(response, address, self.meter)
                self._heed(reply, ask)
                yield reply

    def _heed(self, reply: Reply, ask: Ask) -> None:
        """Pauses all workers where the service asks for it. A refused request costs no units."""
        if reply.status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
            wait_s = retry_after_s(reply.headers.get("retry-after"))
            if wait_s:
                self.limiter.pause(reply.address.authority, wait_s)
        if reply.status == HTTPStatus.TOO_MANY_REQUESTS:
            self.meter.settle(Usage(units=ask.cost))

    def _authorised(self, ask: Ask, address: Address, home: Address) -> tuple[Address, Mapping[str, str]]:
        """The address as it is sent, and headers with credentials, where these may go there."""
        if ask.auth is None or not _is_home(ask.auth, home, address):
            return address, ask.headers
        answer = ask.auth(address.url)
        if not isinstance(answer, str):
            return address, {**ask.headers, **answer}
        signed = check_url(answer, self._settings.reach)
        if signed.origin != address.origin:
            raise SourceError(f"{address.shown}: was signed for {signed.host}. It is not asked.")
        return signed, ask.headers

    def _sent(
        self, ask: Ask, address: Address, headers: Mapping[str, str]
    ) -> contextlib.AbstractContextManager[httpcore.Response]:
        limits = self._settings.limits
        every = {
            "Host": address.authority,
            "User-Agent": f"sar1m/{__version__}",
            "Accept": "*/*",
            "Accept-Encoding": "identity",
        }
        given = {name.lower() for name in headers}
        sent = [(name, value) for name, value in every.items() if name.lower() not in given] + list(headers.items())
        if ask.body is not None:
            sent.append(("Content-Length", str(len(ask.body))))
        timeout = {
            "connect": limits.connect_timeout_s,
            "read": limits.read_timeout_s,
            "write": limits.read_timeout_s,
            "pool": limits.connect_timeout_s,
        }
        target = httpcore.URL(
            scheme=address.scheme, host=address.host, port=address.port, target=address.target.encode()
        )
        return connection_pool(self._settings.reach).stream(
            ask.method, target, headers=sent, content=ask.body, extensions={"timeout": timeout}
        )


def _is_home(auth: Auth, home: Address, address: Address) -> bool:
    if address.origin == home.origin:
        return True
    return isinstance(auth, AuthAcross) and address.authority in auth.hosts


def _for_host(ask: Ask, home: Address, address: Address) -> Ask:
    """The request as a host may see it: to another than it was meant for go no headers that could hold a secret."""
    if address.origin == home.origin:
        return ask
    return replace(ask, headers={name: value for name, value in ask.headers.items() if name.lower() in _HARMLESS})


def _redirected(ask: Ask, reply: Reply, target: Address) -> Ask:
    """Raises SourceError where a body would go to another host."""
    if reply.status == HTTPStatus.SEE_OTHER:
        return replace(ask, method="GET", body=None, cost=0.0)
    if ask.body is not None and target.origin != reply.address.origin:
        raise SourceError(f"{reply.address.shown}: redirects a {ask.method} to {target.host}. It is not followed.")
    return replace(ask, cost=0.0)


@contextlib.contextmanager
def _naming(address: Address) -> Iterator[None]:
    """Turns httpcore's errors into ours, without their texts: those quote headers."""
    try:
        yield
    except httpcore.LocalProtocolError:
        raise SourceError(
            f"{address.shown}: the request cannot be sent: a header holds characters that HTTP does not allow. Check "
            "the credentials for line breaks."
        ) from None
    except httpcore.ConnectTimeout:
        raise PassingError(f"{address.shown}: no connection in time") from None
    except httpcore.TimeoutException:
        raise PassingError(f"{address.shown}: stopped sending, or sent too slowly") from None
    except httpcore.ConnectError:
        raise PassingError(f"{address.shown}: no connection") from None
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.ConnectionNotAvailable):
        raise PassingError(f"{address.shown}: the connection broke off") from None


def refusal(reply: Reply, expected: str) -> Exception:
    """What to raise for a status that was not expected: PassingError where asking again may help, else StatusError."""
    shown, status = reply.address.shown, reply.status
    words = f"{status} {responses.get(status, '')}".strip()
    if is_passing(status):
        return PassingError(f"{shown}: answered {words}", retry_after_s(reply.headers.get("retry-after")))
    advice = {401: "Check the credentials (sar1m doctor).", 403: "Check the credentials (sar1m doctor)."}
    fallback = "Check that the item still exists." if status in {404, 410} else "The request is not repeated."
    return StatusError(f"{shown}: answered {words}; expected {expected}. {advice.get(status, fallback)}", status)
