"""The one way to ask services: requests, whole files, parts of files. Everything here is shared by a build's workers
through files under settings.root, and nothing here knows a secret."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypedDict, Unpack

from sar1m.io.net.answer import Answer, check_media
from sar1m.io.net.download import Downloader, Wanted
from sar1m.io.net.download_cache import DownloadCache, process_leases
from sar1m.io.net.exchange import Ask, Auth, AuthAcross, Exchanges, Reply, refusal
from sar1m.io.net.faults import ChangedError, OfflineError, StatusError
from sar1m.io.net.meter import Usage
from sar1m.io.net.options import LOOPBACK_VARIABLE, FetchSettings
from sar1m.io.net.ranged import RangedFile, RangedSource
from sar1m.io.net.retry import persistently
from sar1m.store.addresses import check_url

__all__ = [
    "LOOPBACK_VARIABLE",
    "Answer",
    "Auth",
    "AuthAcross",
    "ChangedError",
    "FetchSettings",
    "Fetcher",
    "OfflineError",
    "RangedFile",
    "StatusError",
    "Usage",
]

MAX_ANSWER_BYTES: Final = 2**26


class Asking(TypedDict, total=False):
    """What request takes beside method and URL, by keyword.

    auth: see Auth. expect: media types that are believed. max_bytes: of the answer. cost: units of quota.
    """

    auth: Auth | None
    headers: Mapping[str, str] | None
    body: bytes | None
    expect: tuple[str, ...]
    max_bytes: int
    cost: float


@dataclass(frozen=True)
class Fetcher:
    """Asks services within the limits, budgets and cache of settings.root. Pickles as its settings.

    Auth is asked for each attempt and each redirect, with the address about to be asked, and only for the host it was
    given for (AuthAcross names more). It returns headers, or that address signed.
    """

    settings: FetchSettings

    def request(self, method: str, url: str, **asking: Unpack[Asking]) -> Answer:
        """The answer with a 2xx status, whole and of an expected type.

        Repeated after passing faults, so method and body must bear repetition. Defaults: nothing beside
        method and URL is sent, expect=("application/json",), max_bytes=64 MiB, cost=0. Raises StatusError (with
        .status) for a refusal, SourceError where no attempt gives a whole answer or the address must not be asked,
        BudgetError.
        """
        ask = Ask(
            method=method,
            url=url,
            auth=asking.get("auth"),
            headers=asking.get("headers") or {},
            body=asking.get("body"),
            cost=asking.get("cost", 0.0),
        )
        expect = asking.get("expect", ("application/json",))
        max_bytes = asking.get("max_bytes", MAX_ANSWER_BYTES)
        exchanges = Exchanges(self.settings)
        shown = check_url(url, self.settings.reach).shown

        def attempt() -> Answer:
            with exchanges.exchange(ask) as reply:
                return _whole_answer(reply, expect, max_bytes)

        return persistently(self.settings, shown, attempt)

    def download(
        self,
        url: str,
        *,
        name: str,
        auth: Auth | None = None,
        size: int | None = None,
        checksum: str | None = None,
        check: Callable[[Path], None] | None = None,
    ) -> Path:
        """A whole file in the cache, called name, resumed where an earlier download broke off.

        Believed when size (bytes), checksum (md5:, sha256:, sha512:, sha3-256:, blake3: and hexadecimal digits) and
        check (raises SourceError for what is damaged) agree, as far as given; what fails is set aside in quarantine/
        with the reason. The file is not evicted while it is among the last that this process asked for. Raises
        OfflineError where it must be ordered (status 202), StatusError, SourceError, BudgetError as request does.
        """
        wanted = Wanted(url=url, name=name, auth=auth, size=size, checksum=checksum, check=check)
        return Downloader(self.settings, Exchanges(self.settings), self._cache(), process_leases()).download(wanted)

    def ranged(self, url: str, *, auth: Auth | None = None, size: int | None = None) -> RangedFile:
        """A remote file to seek and read in; the first bytes are asked for here unless they are in the cache.

        size: bytes, where a catalogue tells them; another size raises SourceError. Raises as request does.
        """
        source = RangedSource(url=url, auth=auth, size=size)
        return RangedFile(source, self.settings, Exchanges(self.settings), self._cache())

    def usage(self) -> Usage:
        """Requests, bytes and units of this root so far, by all processes."""
        return Exchanges(self.settings).meter.usage()

    def _cache(self) -> DownloadCache:
        return DownloadCache(self.settings.root, int(self.settings.limits.cache_gb * 1e9))


def _whole_answer(reply: Reply, expect: tuple[str, ...], max_bytes: int) -> Answer:
    shown = reply.address.shown
    if not 200 <= reply.status < 300:
        raise refusal(reply, f"200 with {', '.join(expect)}")
    content = b"".join(reply.pieces(max_bytes))
    if content:
        check_media(shown, reply.media_type, expect, content[:512])
    return Answer(
        status=reply.status, headers=reply.headers, content=content, url=reply.address.url, name=reply.address.shown
    )
