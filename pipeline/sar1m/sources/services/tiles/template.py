"""The address of somebody's own tiles: how it is written, what may not stand in it, whose terms forbid it.

    https://tiles.example.org/{z}/{x}/{y}.jpg                  XYZ; {-y} counts rows from the south (TMS)
    https://{s}.example.org/{z}/{x}/{y}.png?key={key}          {s}: a, b or c; {key}: from SAR1M_TILES_KEY
    https://example.org/wmts?REQUEST=GetTile&TILEMATRIX=EPSG:3857:{z}&TILEROW={y}&TILECOL={x}&...      WMTS
    https://example.org/wmts/layer/style/set/{TileMatrix}/{TileRow}/{TileCol}.png                      WMTS, REST
    ...#nodata=000000&max_zoom=17&tile_px=512                  what no server states; never sent to it

A picture of the world in Web Mercator with 2^z tiles a side is expected (OGC's GoogleMapsCompatible matrix set).

Terms. The public terms of Google Earth and Maps, Esri's and Bing's basemaps forbid to store, to derive data sets and to
pass on. Their hosts are refused unless SAR1M_TILES_ACCEPT_TERMS=1: some users hold a contract that allows it, and only
they can know. It is a person's word on a machine, so it stands in the environment and not in a configuration that
travels to others. Even then their pixels stay recipe-only.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, urlsplit

from sar1m.store.errors import ConfigError, SourceError

KEY_VARIABLE: Final = "SAR1M_TILES_KEY"
TERMS_VARIABLE: Final = "SAR1M_TILES_ACCEPT_TERMS"
RECIPE_ONLY: Final = "recipe-only"
EXAMPLE: Final = "https://tiles.example.org/{z}/{x}/{y}.png"

_SUBDOMAINS: Final = "abc"
_MAX_ZOOM: Final = 22  # 4 cm a pixel
_TILE_PX: Final = (256, 512)
_OTHER_NAMES: Final = {"{TileMatrix}": "{z}", "{TileRow}": "{y}", "{TileCol}": "{x}"}
_PLACES: Final = frozenset({"{z}", "{x}", "{y}", "{-y}", "{s}", "{key}"})
_KEY_MARK: Final = "SAR1M-TILES-KEY"  # stands in addresses that errors and logs may show
_SECRET_NAMES: Final = re.compile(
    r"(api|access|subscription)?[-_]?(key|token)|sig|signature|session|password|pwd|secret|auth|connect_?id|client_?id",
    re.IGNORECASE,
)
_SECRET_LOOKS: Final = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9]{24,}",
    re.IGNORECASE,
)
_FORBIDDING: Final = {
    "Google": ("google.com", "googleapis.com", "gstatic.com", "googleusercontent.com", "ggpht.com"),
    "Esri": ("arcgis.com", "arcgisonline.com", "esri.com"),
    "Bing": ("virtualearth.net", "bing.com"),
}


@dataclass(frozen=True, kw_only=True)
class TileTemplate:
    """A checked address with places {z}, {x}, {y} or {-y}, {s}, {key}, without its options.

    nodata_rgb: the colour that stands for no picture, None where only transparency does.
    """

    address: str
    nodata_rgb: tuple[int, int, int] | None = None
    max_zoom: int = _MAX_ZOOM
    tile_px: int = 256

    @property
    def host(self) -> str:
        """The host without its port. Where the address has subdomains, the first one."""
        host = urlsplit(self.address).hostname or ""
        return host.removesuffix(".").removeprefix("{s}.").replace("{s}", _SUBDOMAINS[0])

    @property
    def digest(self) -> str:
        """blake2b-64, hexadecimal, of all that decides which pixels are read. The key is no part of it."""
        text = f"{self.host}\n{self.address}\n{self.nodata_rgb}\n{self.max_zoom}\n{self.tile_px}"
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    @property
    def needs_key(self) -> bool:
        """Whether the address has a place for the user's key."""
        return "{key}" in self.address

    @property
    def forbidding(self) -> str | None:
        """Whose public terms forbid to store these tiles; None where no such terms are known."""
        host = self.host
        return next(
            (
                owner
                for owner, ends in _FORBIDDING.items()
                if any(host == end or host.endswith(f".{end}") for end in ends)
            ),
            None,
        )

    def url(self, zoom: int, row: int, col: int) -> str:
        """The address of a tile, row 0 in the north. A mark stands in the place of the key."""
        values = {
            "{z}": str(zoom),
            "{x}": str(col),
            "{y}": str(row),
            "{-y}": str(2**zoom - 1 - row),
            "{s}": _SUBDOMAINS[(row + col) % len(_SUBDOMAINS)],
            "{key}": _KEY_MARK,
        }
        return re.sub(r"\{[^}]*\}", lambda place: values[place[0]], self.address)


def with_key(url: str) -> str:
    """The address with the user's key in its place. Raises SourceError where no key is set."""
    key = os.environ.get(KEY_VARIABLE, "")
    if not key:
        raise SourceError(f"tiles: the address has a place for a key, but {KEY_VARIABLE} is not set. Set it.")
    return url.replace(_KEY_MARK, quote(key, safe=""))


def parse_template(text: str) -> TileTemplate:
    """The template in area.tiles_url.

    Raises ConfigError where it is no address of tiles, or holds a secret: the configuration travels into every store.
    No error shows the address.
    """
    address, _, options = text.strip().partition("#")
    for name, place in _OTHER_NAMES.items():
        address = address.replace(name, place)
    parts = _split(address)
    found = set(re.findall(r"\{[^}]*\}", address))
    unknown = sorted(found - _PLACES)
    if unknown:
        known = ", ".join(sorted(_PLACES))
        raise _wrong(f"has the place {unknown[0]}", f"known are {known}; write layers, styles and formats out")
    if not {"{z}", "{x}"} <= found or len(found & {"{y}", "{-y}"}) != 1:
        raise _wrong("lacks a place for zoom, column or row", "it needs {z}, {x} and one of {y} and {-y}")
    if {"{key}", "{z}", "{x}", "{y}", "{-y}"} & set(re.findall(r"\{[^}]*\}", parts.netloc)):
        raise _wrong("has a place in its host", "only {s} may stand there")
    if "{key}" in parts.path.rpartition("/")[2]:  # the downloader's messages show the last part of a path
        raise _wrong("has {key} in the last part of its path", "it may stand before that or in the query")
    _refuse_secrets(address)
    return _with_options(address, options)


def require_terms(template: TileTemplate, licence: str) -> None:
    """Raises ConfigError where the owner of the tiles is known to forbid what a build does with them.

    It does not where the user has stated to hold other terms and does not want the tiles released.
    """
    owner = template.forbidding
    if owner is None:
        return
    if os.environ.get(TERMS_VARIABLE) != "1":
        raise ConfigError(
            f"area.tiles_url: {owner}'s public terms forbid to store and to redistribute tiles of {template.host}. Use "
            f"another service; or, if your own contract allows it, set {TERMS_VARIABLE}=1."
        )
    if licence != RECIPE_ONLY:
        raise ConfigError(
            f"area.tiles_licence = {licence!r}: tiles of {template.host} are never released. Set it to {RECIPE_ONLY!r}."
        )


def _wrong(found: str, remedy: str) -> ConfigError:
    return ConfigError(f"area.tiles_url {found}: {remedy}.")


def _split(address: str) -> SplitResult:
    remedy = f"write one such as {EXAMPLE}"
    try:
        parts = urlsplit(address)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise _wrong("is no address", remedy) from None
    if not usable or parts.scheme not in ("https", "http"):
        raise _wrong("is no address", remedy)
    if parts.scheme == "http" and parts.hostname != "127.0.0.1":
        raise _wrong("is not encrypted", remedy)
    return parts


def _refuse_secrets(address: str) -> None:
    """Raises ConfigError where the address holds what looks like a key: configurations are published."""
    parts = urlsplit(address)
    remedy = f"write {{key}} in its place and set {KEY_VARIABLE} in the environment"
    if "@" in parts.netloc:
        raise _wrong("holds a user name or password", remedy)
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if _SECRET_NAMES.fullmatch(name) and value and value != "{key}":
            raise _wrong(f"holds the value of {name}", remedy)
    plain = re.sub(r"\{[^}]*\}", "", f"{parts.path}?{parts.query}")
    if _SECRET_LOOKS.search(plain):
        raise _wrong("holds what looks like a key", remedy)


def _with_options(address: str, text: str) -> TileTemplate:
    """The template with the options nodata, max_zoom and tile_px that follow #."""
    given = dict(parse_qsl(text, keep_blank_values=True))
    unknown = sorted(set(given) - {"nodata", "max_zoom", "tile_px"})
    if unknown or (text and not given):
        raise _wrong("has unknown options after #", "known are nodata, max_zoom and tile_px")
    return TileTemplate(
        address=address,
        nodata_rgb=_colour(given["nodata"]) if "nodata" in given else None,
        max_zoom=_whole(given, "max_zoom", range(_MAX_ZOOM + 1)) if "max_zoom" in given else _MAX_ZOOM,
        tile_px=_whole(given, "tile_px", _TILE_PX) if "tile_px" in given else _TILE_PX[0],
    )


def _colour(text: str) -> tuple[int, int, int]:
    if not re.fullmatch(r"[0-9A-Fa-f]{6}", text):
        raise _wrong(f"has nodata={text!r}", "a colour is six hexadecimal digits, such as ffffff")
    red, green, blue = bytes.fromhex(text)
    return red, green, blue


def _whole(given: Mapping[str, str], name: str, allowed: range | tuple[int, ...]) -> int:
    text = given[name]
    if not re.fullmatch(r"[0-9]{1,4}", text) or int(text) not in allowed:
        limits = f"{min(allowed)} to {max(allowed)}" if isinstance(allowed, range) else " or ".join(map(str, allowed))
        raise _wrong(f"has {name}={text!r}", f"expected {limits}")
    return int(text)
