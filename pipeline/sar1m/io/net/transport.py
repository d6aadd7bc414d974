"""Connections: to checked addresses only, and given up where bytes come too slowly to ever end.

A name is resolved once, every address it has is checked, and the connection goes to a checked address: a name that
answers differently the second time (DNS rebinding) gains nothing. httpcore is httpx's engine. It is used by itself: it
has no redirects, cookies, proxies or .netrc to switch off.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import ipaddress
import logging
import multiprocessing
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from typing import Any, Final

import certifi
import httpcore

from sar1m.io.net.faults import NoNetworkError, PassingError
from sar1m.store.addresses import LOOPBACK_NAMES, Reach, check_public

MIN_BYTES_PER_S: Final = 1024  # over a whole read time-out; a gigabyte at this rate would take twelve days
_IDLE_S: Final = 15.0  # after which a kept connection is closed
_LOGGERS: Final = ("httpcore", "httpx", "urllib3", "botocore", "googleapiclient")
_MAKING: Final = threading.Lock()
_PAUSE_S: Final = 1.0  # before the look-up that decides
_PATIENCE_S: Final = 3.0  # of that look-up: the answer stands within 5 s of the first failure
_KNOWN: Final[set[str]] = set()  # names that the resolver has known in this process
_SocketOption = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]


def resolve(host: str, port: int, reach: Reach) -> tuple[str, ...]:
    """The addresses of a checked host to connect to, all of them public, in the resolver's order.

    Raises SourceError where one is not, PassingError where the name does not resolve, NoNetworkError where none does.
    """
    found = _look_up(host, port)
    numbers = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
    for number in numbers:
        address = ipaddress.ip_address(number)
        if not (host in LOOPBACK_NAMES and reach.loopback and address.is_loopback):
            check_public(host, address)
    if not numbers:
        raise PassingError(f"{host}: the name has no address")
    return numbers


def _look_up(host: str, port: int) -> list[tuple[Any, ...]]:
    """What the resolver says of a name. Where it has known no name yet, there seems to be no network: then one more
    look-up decides, and nobody is asked again for minutes. A worker, which starts while a build runs, is patient."""
    try:
        found = list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError):
        if _KNOWN or multiprocessing.parent_process() is not None:
            raise PassingError(f"{host}: the name does not resolve") from None
        time.sleep(_PAUSE_S)
        found = _look_up_within(host, port, _PATIENCE_S)
    if host not in LOOPBACK_NAMES:
        _KNOWN.add(host)
    return found


def _look_up_within(host: str, port: int, seconds: float) -> list[tuple[Any, ...]]:
    """As getaddrinfo, which knows no time-out. Raises NoNetworkError where it fails or has not answered in time."""
    found: list[tuple[Any, ...]] = []

    def ask() -> None:
        with contextlib.suppress(OSError, UnicodeError):
            found.extend(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    if not found:
        raise NoNetworkError(
            f"{host}: the name does not resolve, and none has so far: there seems to be no network. Check the "
            "connection (sar1m doctor --online), or the address if it is your own."
        )
    return list(found)


def silence_loggers() -> None:
    """Keeps HTTP libraries from logging addresses and headers, which hold signatures and tokens."""
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


class _Stream(httpcore.NetworkStream):
    """A connection whose answers must come at MIN_BYTES_PER_S over each read time-out, headers included."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner
        self._began_s: float | None = None
        self._count = 0

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """As httpcore asks; raises ReadTimeout for a trickle too."""
        piece = self._inner.read(max_bytes, timeout)
        now_s = time.monotonic()
        if self._began_s is None:  # a service may think as long as one read takes
            self._began_s, self._count = now_s, 0
        self._count += len(piece)
        elapsed_s = now_s - self._began_s
        if timeout is not None and elapsed_s > timeout:
            if self._count < MIN_BYTES_PER_S * elapsed_s:
                raise httpcore.ReadTimeout
            self._began_s, self._count = now_s, 0
        return piece

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Sends; the next answer's time begins with its first byte."""
        self._began_s = None
        self._inner.write(buffer, timeout)

    def close(self) -> None:
        """Closes the connection."""
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """The same connection under TLS; the certificate is checked against the name that was asked."""
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - httpcore's signature
        """What httpcore wants to know of the socket."""
        return self._inner.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    """Resolves and checks a host, then connects to what was checked."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[_SocketOption] | None = None,
    ) -> httpcore.NetworkStream:
        """Tries each address once. Raises SourceError for a host that is not public, ConnectError or ConnectTimeout."""
        failure: Exception = httpcore.ConnectError()
        for number in resolve(host, port, self._reach):
            try:
                return _Stream(self._inner.connect_tcp(number, port, timeout, local_address, socket_options))
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


def connection_pool(reach: Reach) -> httpcore.ConnectionPool:
    """The connections of this process; a forked child has its own, since it must not write into its parent's."""
    with _MAKING:  # lru_cache alone lets two threads make one each
        return _pool_of(os.getpid(), reach)


@functools.lru_cache(maxsize=8)
def _pool_of(_process: int, reach: Reach) -> httpcore.ConnectionPool:
    silence_loggers()
    context = ssl.create_default_context(cafile=certifi.where())
    context.load_default_certs()  # an institution's own authorities, SSL_CERT_FILE
    pool = httpcore.ConnectionPool(
        ssl_context=context, max_connections=None, keepalive_expiry=_IDLE_S, network_backend=_Backend(reach)
    )
    atexit.register(pool.close)
    return pool
