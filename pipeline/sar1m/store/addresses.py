"""Which addresses may be asked. Pure checks of text, the same for stores and for services; nothing is resolved here.

An address that data name (a catalogue, a redirect) must be a public host over https: data must not reach into our
network. An address that the user states may be any host, since internal servers are an ordinary case. Neither may hold
a user name or password. Sources: RFC 6890 (special-purpose addresses), RFC 6052 (NAT64), RFC 3986 (URLs).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urljoin, urlsplit

from sar1m.store.errors import SourceError

MAX_URL_CHARS: Final = 16_384  # signed addresses and GET searches stay under 8 KB
_PLAIN: Final = re.compile(r"[!-\[\]-~]+")  # printable ASCII without space and backslash
# At least two labels, the last beginning with a letter: 127.1, 2130706433 and 0x7f.1 are numbers to some resolvers.
_NAME: Final = re.compile(
    r"(?=.{1,253}$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"
)
LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Reach:
    """What may be asked beside public hosts over https on port 443.

    loopback: this machine itself, for tests. ports: of public hosts. any_host: every host, over http too.
    """

    loopback: bool = False
    ports: tuple[int, ...] = (443,)
    any_host: bool = False


STATED_BY_USER: Final = Reach(any_host=True)


@dataclass(frozen=True, kw_only=True)
class Address:
    """A checked URL in parts. target: path and query as sent, never shown."""

    scheme: str
    host: str
    port: int
    target: str

    def __repr__(self) -> str:
        return f"Address({self.shown})"

    @property
    def origin(self) -> str:
        """Scheme, host and port: what a credential is made for."""
        return f"{self.scheme}://{self.authority}"

    @property
    def authority(self) -> str:
        """Host with its port, as in the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """As text, with the query: not for messages."""
        return f"{self.origin}{self.target}"

    @property
    def without_query(self) -> str:
        """What names the file; signatures and tokens stand in queries."""
        return f"{self.origin}{self.target.partition('?')[0]}"

    @property
    def shown(self) -> str:
        """For messages: host and last part of the path, since keys stand in queries and in the paths of some tiles."""
        last = self.target.partition("?")[0].rstrip("/").rpartition("/")[2]
        return f"{self.host} .../{last[:80]}" if last else self.host


def check_url(url: str, reach: Reach) -> Address:
    """The parts of a URL that may be asked. Raises SourceError for every other; the name is resolved only later."""
    if len(url) > MAX_URL_CHARS or not _PLAIN.fullmatch(url):
        raise SourceError(
            f"an address of {len(url)} characters is not plain: expected up to {MAX_URL_CHARS} printable ASCII "
            "characters without spaces and backslashes. It is not asked."
        )
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").removesuffix("."), parts.port
    except ValueError:
        raise SourceError("an address cannot be read: its host or port is malformed. It is not asked.") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise SourceError(f"an address begins with {parts.scheme[:20]!r}; expected https. It is not asked.")
    if "@" in parts.netloc:
        raise SourceError("an address holds a user name (user@host); expected none. Give credentials as documented.")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    port = _DEFAULT_PORTS[parts.scheme] if port is None else port
    address = Address(scheme=parts.scheme, host=host, port=port, target=target)
    _check_host(address, reach)
    return address


def join_url(base: Address, location: str, reach: Reach) -> Address:
    """The address that a redirect from base points to, checked like the first. Raises SourceError."""
    if not _PLAIN.fullmatch(location):
        raise SourceError(f"{base.shown}: redirects to an address that is not plain text. It is not followed.")
    try:
        joined = urljoin(base.url, location)
    except ValueError:
        raise SourceError(f"{base.shown}: redirects to a malformed address. It is not followed.") from None
    address = check_url(joined, reach)
    if address.scheme == "http" and base.scheme == "https":
        raise SourceError(f"{base.host}: redirects from https to http. It is not followed.")
    return address


def _check_host(address: Address, reach: Reach) -> None:
    host = address.host
    if host and reach.any_host:
        return
    if host in LOOPBACK_NAMES:
        if reach.loopback:
            return
        raise SourceError(f"{host}: is this machine itself; only public hosts are asked.")
    literal = _literal(host)
    if literal is not None:
        check_public(host, literal)
    elif not _NAME.fullmatch(host):
        raise SourceError(f"{host[:80]!r}: not the full name of a public host. It is not asked.")
    if address.scheme != "https":
        raise SourceError(f"{host}: to be asked over {address.scheme}; expected https.")
    if address.port not in reach.ports:
        allowed = ", ".join(map(str, reach.ports))
        raise SourceError(f"{host}: to be asked on port {address.port}; allowed: {allowed}.")


def _literal(host: str) -> IpAddress | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def check_public(host: str, found: IpAddress) -> None:
    """Raises SourceError for an address of this machine, of a private network, or that only stands for another."""
    inner: IpAddress = found
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped or found.sixtofour or found.teredo:
            raise SourceError(f"{host}: its address {found} hides an IPv4 address. It is not asked.")
        if found in _NAT64:  # what networks without IPv4 make of every IPv4 host
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
    if not inner.is_global or inner.is_multicast or inner.is_reserved or inner.is_unspecified:
        raise SourceError(
            f"{host}: its address {found} is not public (private, link-local, loopback or reserved). It is not asked."
        )
