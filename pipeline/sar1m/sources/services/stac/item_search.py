"""Items of a STAC API, asked by pystac-client through our downloader: limits, retries and refusals hold for it too.

Source: STAC API 1.0, Item Search and its paging links; OGC API Features, /collections.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode, urlsplit

from sar1m.io.net.answer import parse_json
from sar1m.io.net.fetch import Fetcher
from sar1m.store.errors import SourceError

if TYPE_CHECKING:
    from pystac_client import Client
    from pystac_client.stac_api_io import StacApiIO

PAGE_ITEMS: Final = 250
MAX_PAGES: Final = 1_000  # of one question
MAX_COLLECTIONS: Final = 2_000
MAX_PAGE_BYTES: Final = 2**25


@dataclass(frozen=True, kw_only=True)
class ItemQuestion:
    """One search. box: west, south, east, north within -180..180. filters: of the extension `query`."""

    collections: tuple[str, ...]
    box: tuple[float, float, float, float]
    first: datetime
    last: datetime
    filters: Mapping[str, Any]
    page_items: int = PAGE_ITEMS


class StacApi:
    """A STAC API, opened for one search. service: named in errors."""

    def __init__(self, fetcher: Fetcher, url: str, service: str) -> None:
        self._service = service
        self._url = url.rstrip("/")
        self._io = _transport(fetcher, self._url, service)
        self._unfit_answers = _unfit_answers()
        self._client: Client | None = None

    def items(self, question: ItemQuestion) -> Iterator[object]:
        """Items as the API gives them, unchecked. Raises SourceError where it fails, repeats itself or does not end."""
        last_page: object = None
        for page in self._bounded(self._pages(question)):
            features = page.get("features")
            if not isinstance(features, list):
                raise self._unfit(f"a page whose features are {type(features).__name__}")
            if features == last_page:
                raise self._unfit("the same page twice")
            last_page = features
            yield from features

    def _pages(self, question: ItemQuestion) -> Iterator[dict[str, Any]]:
        search = self._opened().search(
            method="POST",
            collections=list(question.collections),
            bbox=question.box,
            datetime=f"{question.first:%Y-%m-%dT%H:%M:%SZ}/{question.last:%Y-%m-%dT%H:%M:%SZ}",
            query=dict(question.filters) or None,
            limit=question.page_items,
        )
        yield from search.pages_as_dicts()

    def collections(self) -> Iterator[Mapping[str, Any]]:
        """Collections as the API gives them. Raises SourceError as items does."""
        count = 0
        for page in self._bounded(self._io.get_pages(f"{self._url}/collections")):
            listed = page.get("collections")
            if not isinstance(listed, list):
                raise self._unfit(f"collections that are {type(listed).__name__}")
            for one in listed:
                count += 1
                if count > MAX_COLLECTIONS:
                    raise self._unfit(f"more than {MAX_COLLECTIONS} collections")
                if isinstance(one, dict):
                    yield one

    def _opened(self) -> Client:
        if self._client is None:
            from pystac_client import Client  # noqa: PLC0415  an extra; _transport has said what to install

            try:
                self._client = Client.open(self._url, stac_io=self._io)
            except self._unfit_answers as error:
                raise self._unfit(f"what is no STAC API ({type(error).__name__})") from error
        return self._client

    def _bounded(self, pages: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for _ in range(MAX_PAGES):
            try:
                page = next(pages, None)
            except self._unfit_answers as error:
                raise self._unfit(f"what is no page of STAC items ({type(error).__name__})") from error
            if page is None:
                return
            yield page
        raise self._unfit(f"more than {MAX_PAGES} pages")

    def _unfit(self, found: str) -> SourceError:
        return SourceError(f"{self._service}: {urlsplit(self._url).hostname} answers {found}. Nothing of it is used.")


def _unfit_answers() -> tuple[type[Exception], ...]:
    """The errors of pystac-client for an answer that breaks the specification, or lacks what the client needs."""
    from pystac import STACError, STACTypeError  # noqa: PLC0415  an extra; _transport has said what to install
    from pystac_client.errors import ClientTypeError  # noqa: PLC0415
    from pystac_client.exceptions import APIError  # noqa: PLC0415
    from pystac_client.warnings import PystacClientWarning  # noqa: PLC0415

    of_python = (AttributeError, LookupError, TypeError, ValueError, NotImplementedError, RecursionError)
    return (*of_python, STACError, STACTypeError, ClientTypeError, APIError, PystacClientWarning)


def _transport(fetcher: Fetcher, root: str, service: str) -> StacApiIO:
    """A transport for pystac-client that asks through the downloader, and only the API's own host."""
    try:
        from pystac import Link  # noqa: PLC0415  an extra
        from pystac_client.stac_api_io import StacApiIO  # noqa: PLC0415
    except ImportError as error:
        raise SourceError(f"{service}: its client is not installed. Install it: pip install 'sar1m[stac]'") from error

    class FetcherIO(StacApiIO):
        """All reads of the client end in its method request."""

        def read_text(self, source: Any, *args: Any, **kwargs: Any) -> str:  # noqa: ANN401  pystac's signature
            if isinstance(source, Link):
                return super().read_text(source, *args, **kwargs)
            return self.request(str(source), *args, **kwargs)

        def request(
            self,
            href: str,
            method: str | None = None,
            headers: dict[str, str] | None = None,  # noqa: ARG002  a link may ask for headers: it gets ours
            parameters: dict[str, Any] | None = None,
        ) -> str:
            if urlsplit(href)[:2] != urlsplit(root)[:2]:
                raise SourceError(
                    f"{service}: {urlsplit(root).hostname} sends its reader to another place, "
                    f"{str(urlsplit(href).hostname)[:80]!r}. It is not followed."
                )
            if (method or "GET").upper() == "POST":
                body = json.dumps(parameters or {}).encode()
                kind = {"Content-Type": "application/json"}
                answer = fetcher.request("POST", href, headers=kind, body=body, max_bytes=MAX_PAGE_BYTES)
            else:
                asked = f"{href}{'&' if '?' in href else '?'}{urlencode(parameters)}" if parameters else href
                answer = fetcher.request("GET", asked, max_bytes=MAX_PAGE_BYTES)
            text: str = answer.content.decode()
            return text

        def json_loads(self, txt: str, *_args: Any, **_kwargs: Any) -> dict[str, Any]:  # noqa: ANN401
            document = parse_json(txt.encode(), service)
            # an error may come with status 200
            if not isinstance(document, dict) or not document.keys() & {"type", "collections"}:
                raise SourceError(
                    f"{service}: {urlsplit(root).hostname} answers what is no STAC document: {txt[:80]!r}."
                )
            return document

    return FetcherIO()
