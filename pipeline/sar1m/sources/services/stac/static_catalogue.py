"""Items of a static STAC catalogue, a file or an https address, found by following its links within bounds.

Source: STAC 1.0, Catalog, Collection and Item; best practices for static catalogues (relative links).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from sar1m.io.net.answer import parse_json
from sar1m.io.net.fetch import Fetcher
from sar1m.sources.layers import resolve_inside
from sar1m.store.errors import SourceError
from sar1m.store.side_files import read_bytes

MAX_DOCUMENTS: Final = 20_000
MAX_DEPTH: Final = 16
MAX_DOCUMENT_BYTES: Final = 2**24
_DOWN: Final = ("child", "item", "items")
_SERVICE: Final = "stac-static"


def static_items(fetcher: Fetcher, root: str) -> Iterator[object]:
    """Items below a catalogue: those nearest to its root first, else in the order of its links.

    Where the catalogue is at an address, hrefs of assets are made absolute. Raises SourceError where a document is
    missing or is no STAC document, lies on another host or outside the catalogue's folder, or there are more than
    MAX_DOCUMENTS documents or MAX_DEPTH levels.
    """
    documents = _Files(root) if "://" not in root else _Pages(fetcher, root)
    waiting = deque([(documents.root, 0)])
    seen = {documents.root}
    while waiting:
        place, depth = waiting.popleft()
        document = documents.read(place)
        kind = document.get("type")
        if kind in ("Feature", "FeatureCollection"):
            listed = [document] if kind == "Feature" else document.get("features")
            yield from (documents.absolute(item, place) for item in (listed if isinstance(listed, list) else ()))
            continue
        for link in _links(document, place):
            target = documents.follow(link, place)
            if target not in seen:
                _require_bounds(root, len(seen), depth)
                seen.add(target)
                waiting.append((target, depth + 1))


def _links(document: Mapping[str, Any], place: str) -> list[str]:
    """Targets of links downwards. Raises SourceError where there is no list of links."""
    links = document.get("links")
    if not isinstance(links, list):
        raise SourceError(f"{_SERVICE}: {place[-140:]} has no links; expected a STAC catalogue, collection or item.")
    down = [link for link in links if isinstance(link, dict) and link.get("rel") in _DOWN]
    return [str(link.get("href", "")) for link in down]


def _require_bounds(root: str, documents: int, depth: int) -> None:
    if documents >= MAX_DOCUMENTS or depth >= MAX_DEPTH:
        raise SourceError(
            f"{_SERVICE}: {root[-140:]} leads to more than {MAX_DOCUMENTS} documents or {MAX_DEPTH} levels. Give the "
            "address of a smaller catalogue below it, or of its API (service stac)."
        )


class _Pages:
    """A catalogue at an address: all of it on one host."""

    def __init__(self, fetcher: Fetcher, root: str) -> None:
        self._fetcher = fetcher
        self.root = root

    def read(self, place: str) -> Mapping[str, Any]:
        """The document at an address. Object stores call JSON octet-stream or text."""
        expect = ("application/json", "application/octet-stream", "binary/octet-stream", "text/plain")
        answer = self._fetcher.request("GET", place, expect=expect, max_bytes=MAX_DOCUMENT_BYTES)
        return _document(answer.content, place.partition("?")[0])

    def follow(self, href: str, place: str) -> str:
        """The address that a link names. Raises SourceError for another host."""
        target = _joined(place, href)
        if urlsplit(target)[:2] != urlsplit(self.root)[:2]:
            host = str(urlsplit(target).hostname)[:80]
            raise SourceError(f"{_SERVICE}: {place[-140:]} links to another place, {host!r}. It is not followed.")
        return target

    def absolute(self, item: object, place: str) -> object:
        """The item with whole addresses of its assets."""
        assets = item.get("assets") if isinstance(item, dict) else None
        for about in assets.values() if isinstance(assets, dict) else ():
            if isinstance(about, dict) and isinstance(about.get("href"), str):
                about["href"] = _joined(place, about["href"])
        return item


def _joined(place: str, href: str) -> str:
    try:
        return urljoin(place, href).partition("#")[0]
    except ValueError:
        raise SourceError(f"{_SERVICE}: {place[-140:]} links to a malformed address. It is not followed.") from None


class _Files:
    """A catalogue on this machine: all of it below the folder of its first file."""

    def __init__(self, root: str) -> None:
        path = Path(root).expanduser().resolve()
        self._folder = path.parent
        self.root = path.name

    def read(self, place: str) -> Mapping[str, Any]:
        """A document of the folder."""
        path = resolve_inside(self._folder, place, str(self._folder))
        content = read_bytes(path, error=SourceError, remedy="Expected a STAC document.", max_bytes=MAX_DOCUMENT_BYTES)
        return _document(content, str(path))

    def follow(self, href: str, place: str) -> str:
        """The file that a link names, relative to the folder. Raises SourceError for one outside it."""
        beside = self._folder / Path(place).parent
        if "://" in href or href.startswith("/") or not href:
            raise SourceError(f"{beside}: links to {href[:140]!r}; expected a file relative to the catalogue.")
        target = (beside / href).resolve()
        if not target.is_relative_to(self._folder):
            raise SourceError(f"{beside}: links to {href[:140]!r}, which lies outside {self._folder}.")
        return target.relative_to(self._folder).as_posix()

    def absolute(self, item: object, _place: str) -> object:
        """The item as it is: the source `folder` reads rasters on this machine."""
        return item


def _document(content: bytes, name: str) -> Mapping[str, Any]:
    document = parse_json(content, f"{_SERVICE}: {name[-140:]}")
    if not isinstance(document, dict):
        raise SourceError(f"{_SERVICE}: {name[-140:]} holds no STAC document.")
    return document
