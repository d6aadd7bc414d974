"""The one way to ask services: requests, whole files, parts of files.

All workers of a build share limits, budgets and cache through files under settings.root. Nothing here keeps a secret.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

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


@dataclass(frozen=True)
class Fetcher:
    """Asks services within the limits, budgets and cache of settings.root. Pickles as its settings.

    An Auth is called before each attempt and each redirect, with the address about to be asked, and only for the host
    it was given for (AuthAcross names more hosts). It returns headers, or the address with a signature.
    """

    settings: FetchSettings

    def request(
        self,
        method: str,
        url: str,
        *,
        auth: Auth | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        expect: tuple[str, ...] = ("application/json",),
        max_bytes: int = MAX_ANSWER_BYTES,
        cost: float = 0.0,
    ) -> Answer:
        """The answer with a 2xx status, whole and of an expected type. Repeated after passing failures.

        method, body: must be safe to repeat.
        expect: media types that are accepted.
        max_bytes: of the answer.
        cost: units of the service's quota.
        Raises StatusError (with .status) for a refusal, SourceError where no attempt gives a whole answer or the
        address must not be asked, BudgetError before a request that would exceed a budget.
        """
        ask = Ask(method=method, url=url, auth=auth, headers=headers or {}, body=body, cost=cost)
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
        """A whole file in the cache, resumed where an earlier download broke off.

        name: of the file in the cache.
        size, checksum, check: what the file must fulfil, as far as given. size: in bytes. checksum: md5:, sha256:,
        sha512:, sha3-256: or blake3:, then hexadecimal digits. check: raises SourceError for a damaged file.
        A file that fails is moved to quarantine/ with the reason beside it. The last files that this process asked
        for are not evicted. Raises OfflineError where the file must be ordered first (status 202), and StatusError,
        SourceError and BudgetError as request does.
        """
        wanted = Wanted(url=url, name=name, auth=auth, size=size, checksum=checksum, check=check)
        return Downloader(self.settings, Exchanges(self.settings), self._cache(), process_leases()).download(wanted)

    def ranged(self, url: str, *, auth: Auth | None = None, size: int | None = None) -> RangedFile:
        """A remote file to seek and read in; the first bytes are asked for here unless they are in the cache.

        size: in bytes, where a catalogue states it; another size raises SourceError. Raises as request does.
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
