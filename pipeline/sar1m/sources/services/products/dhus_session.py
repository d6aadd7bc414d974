"""sentinelsat's requests, sent through our own downloader: same limits, same checks, same silence about addresses.

sentinelsat gives its session a time-out that requests does not heed, follows redirects with the password, and prints
addresses where something fails. It is given no password here; the adapter below is all it can reach.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from requests.adapters import BaseAdapter

from sar1m.io.net.exchange import Auth
from sar1m.io.net.fetch import Fetcher
from sar1m.store.errors import SourceError
from sar1m.store.side_files import json_value

MAX_ANSWER_BYTES: Final = 16 * 2**20  # a hundred products take 1 MB


class FetcherAdapter(BaseAdapter):
    """Answers the requests of one service by a Fetcher. Raises SourceError where the service answers with an error."""

    def __init__(self, fetcher: Fetcher, auth: Auth, base: str) -> None:
        super().__init__()
        self._fetcher, self._auth, self._base = fetcher, auth, base

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,  # noqa: ARG002 - what requests passes is ours to decide
        timeout: object = None,  # noqa: ARG002
        verify: object = True,  # noqa: ARG002
        cert: object = None,  # noqa: ARG002
        proxies: Mapping[str, str] | None = None,  # noqa: ARG002
    ) -> requests.Response:
        """JSON answers below the base address alone."""
        url = request.url or ""
        if request.method != "GET" or not url.startswith(self._base):
            raise SourceError(f"dhus: sentinelsat asks {urlsplit(url).hostname}, which is not the service. Refused.")
        answer = self._fetcher.request("GET", url, auth=self._auth, max_bytes=MAX_ANSWER_BYTES)
        response = requests.Response()
        response.status_code, response.url, response.request = 200, self._base, request
        response._content = _without_declarations(answer.content)
        return response

    def close(self) -> None:
        """Nothing is held."""


def client(fetcher: Fetcher, auth: Auth, base: str) -> Any:  # noqa: ANN401 - sentinelsat is untyped
    """A sentinelsat.SentinelAPI for the service at base, which ends in a slash. Raises ImportError where sentinelsat
    is not installed."""
    api = importlib.import_module("sentinelsat").SentinelAPI(None, None, api_url=base, show_progressbars=False)
    api.session.trust_env = False  # neither ~/.netrc nor proxies
    for scheme in ("https://", "http://"):
        api.session.mount(scheme, FetcherAdapter(fetcher, auth, base))
    return api


def _without_declarations(content: bytes) -> bytes:
    """JSON whose texts declare no XML entities: sentinelsat parses footprints with the plain parser."""
    try:
        text = json.dumps(json_value(content))
    except ValueError:
        raise SourceError("dhus: the service's answer is no JSON. Check area.dhus_url.") from None
    if "<!" in text:
        raise SourceError("dhus: the service's answer declares XML entities, which no product needs. It is not used.")
    return text.encode()
