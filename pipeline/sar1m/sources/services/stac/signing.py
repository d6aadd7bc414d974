"""Signatures of Planetary Computer: short-lived SAS tokens, one a container, asked for where they are used.

Source: https://planetarycomputer.microsoft.com/docs/concepts/sas and the settings of the planetary-computer package
(PC_SDK_SAS_URL, PC_SDK_SUBSCRIPTION_KEY, in the environment or in its settings file).
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from sar1m.io.net.fetch import Fetcher
from sar1m.sources.layers import parse_datetime
from sar1m.sources.services.stac.items import LOOPBACK
from sar1m.store.errors import SourceError
from sar1m.store.side_files import json_value, read_text

SAS_URL: Final = "https://planetarycomputer.microsoft.com/api/sas/v1/token"
SETTINGS_FILE: Final = Path("~/.planetarycomputer/settings.env")  # of the planetary-computer package
BLOB_DOMAIN: Final = ".blob.core.windows.net"
REFRESH_S: Final = 300.0  # a token with less time left is replaced; they hold about 45 minutes
_MAX_SETTINGS_BYTES: Final = 2**16
KEY_HEADER: Final = "Ocp-Apim-Subscription-Key"
_ACCOUNT: Final = re.compile(r"[a-z0-9]{3,24}")  # Azure's rules for storage accounts and containers
_CONTAINER: Final = re.compile(r"[a-z0-9-]{3,63}")
_TOKEN: Final = re.compile(r"[A-Za-z0-9%&=._~:+/,-]{1,4096}")


class _Container(NamedTuple):
    """A container of blobs: the token service that signs for it, and its account and name."""

    sas_url: str
    account: str
    container: str


@dataclass(frozen=True, kw_only=True)
class _SasToken:
    """A token. query: the signature. stale_s: when it is replaced, in seconds of the epoch."""

    query: str = field(repr=False)
    stale_s: float


_tokens: dict[_Container, _SasToken] = {}  # of this process; they are never written down
_asking = threading.Lock()


def now_s() -> float:
    """Seconds of the epoch."""
    return time.time()


@dataclass(frozen=True, kw_only=True)
class SasAuth:
    """Signs addresses of blobs. It pickles without a token: each process asks for its own."""

    fetcher: Fetcher

    def __call__(self, url: str) -> str:
        """The address with a signature that holds for some minutes more. Raises SourceError for a host that is no blob
        store, and where the token service refuses."""
        place = _place(url)
        with _asking:  # one asks, the others wait for its answer
            token = _tokens.get(place)
            if token is None or now_s() >= token.stale_s:
                token = _ask(self.fetcher, place)
                _tokens[place] = token
        return f"{url}?{token.query}"


def forget_tokens() -> None:
    """Forgets all tokens, because a store refused one before its time."""
    with _asking:
        _tokens.clear()


def subscription_key(_url: str) -> Mapping[str, str]:
    """The header with the user's key, which raises the limits of the token service. Only that service gets it."""
    _, key = _settings()
    return {KEY_HEADER: key} if key else {}


def has_subscription_key() -> bool:
    """Whether a key is set."""
    return bool(_settings()[1])


def _settings() -> tuple[str, str | None]:
    """Address of the token service and key."""
    return (_setting("PC_SDK_SAS_URL") or SAS_URL).rstrip("/"), _setting("PC_SDK_SUBSCRIPTION_KEY")


def _setting(name: str) -> str | None:
    """A setting from the environment, else from the settings file; None where neither has it."""
    if os.environ.get(name):
        return os.environ[name]
    try:
        text = read_text(SETTINGS_FILE.expanduser(), error=SourceError, remedy="", max_bytes=_MAX_SETTINGS_BYTES)
    except SourceError:
        return None
    pairs = (line.partition("=") for line in text.splitlines())
    return next((value.strip().strip("\"'") for key, _, value in pairs if key.strip() == name), None) or None


def _place(url: str) -> _Container:
    """Account and container of a blob: the host and the first folder of the address.

    On this machine, as in Azure's emulator, they are the first two folders.
    """
    parts = urlsplit(url)
    host, folders = parts.hostname or "", parts.path.split("/")[1:]
    sas_url, _ = _settings()
    if host == LOOPBACK and urlsplit(sas_url).hostname == LOOPBACK:
        account, container = (*folders, "", "")[:2]
    else:
        account, container = host.removesuffix(BLOB_DOMAIN), folders[0] if folders else ""
    if not _ACCOUNT.fullmatch(account) or not _CONTAINER.fullmatch(container):
        raise SourceError(f"planetary-computer: {host[:80]!r} is not one of its blob stores; it gets no token.")
    return _Container(sas_url, account, container)


def _ask(fetcher: Fetcher, place: _Container) -> _SasToken:
    answer = fetcher.request("GET", "/".join(place), auth=subscription_key, max_bytes=2**16)
    try:
        granted = json_value(answer.content)
        query, expiry = str(granted["token"]), str(granted["msft:expiry"])[:64]
    except (ValueError, KeyError, TypeError):
        query, expiry = "", ""
    if not _TOKEN.fullmatch(query) or not expiry:
        raise SourceError(
            f"planetary-computer: the token service answers no token for {place.account}/{place.container}. Check "
            "PC_SDK_SAS_URL, or try again later."
        )
    asked_s = now_s()
    left_s = parse_datetime(expiry, "planetary-computer, expiry of a token").timestamp() - asked_s
    if left_s <= 0:
        raise SourceError(
            f"planetary-computer: a new token for {place.account}/{place.container} ended {-left_s:.0f} s ago by this "
            "machine's clock. Set the clock right."
        )
    return _SasToken(query=query, stale_s=asked_s + left_s - min(REFRESH_S, left_s / 2))
