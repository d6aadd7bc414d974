"""Downloads of whole files: resumed where they broke off, accepted only where size, checksum and structure agree."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from sar1m.io.net.answer import check_media
from sar1m.io.net.checksum import file_checksum, parse_checksum
from sar1m.io.net.download_cache import DownloadCache, Leases, claimed
from sar1m.io.net.exchange import Ask, Auth, Exchanges, Reply, refusal
from sar1m.io.net.faults import OfflineError, PassingError
from sar1m.io.net.options import FetchSettings
from sar1m.io.net.retry import persistently
from sar1m.store.addresses import Address, check_url
from sar1m.store.durable import write_durably, writing_to
from sar1m.store.errors import SourceError, StoreError
from sar1m.store.side_files import read_json

MAX_FILE_BYTES: Final = 2**36  # 64 GiB; the largest product is a few
_FILE_NAME: Final = re.compile(r"(?!\.)[A-Za-z0-9_.-]{1,160}")
_HEAD_BYTES: Final = 512


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A file to download. Fields: see Fetcher.download."""

    url: str = field(repr=False)
    name: str
    auth: Auth | None = field(default=None, repr=False)
    size: int | None = None
    checksum: str | None = None
    check: Callable[[Path], None] | None = field(default=None, repr=False)


class Downloader:
    """Downloads into one cache."""

    def __init__(self, settings: FetchSettings, exchanges: Exchanges, cache: DownloadCache, leases: Leases) -> None:
        self._settings, self._exchanges, self._cache, self._leases = settings, exchanges, cache, leases

    def download(self, wanted: Wanted) -> Path:
        """The file, whole. Raises as Fetcher.download says."""
        if not _FILE_NAME.fullmatch(wanted.name):
            raise SourceError(
                f"{wanted.name[:170]!r}: no file name; expected up to 160 letters, digits, dots, underscores, hyphens."
            )
        if wanted.checksum is not None:
            parse_checksum(wanted.checksum, wanted.name)
        address = check_url(wanted.url, self._settings.reach)
        key = _key(address, wanted)
        final = self._cache.folder / "whole" / key / wanted.name
        while not self._leases.take(final):  # another process may evict it between arrival and lease
            persistently(self._settings, wanted.name, lambda: self._attempt(wanted, key, final))
        return final

    def _attempt(self, wanted: Wanted, key: str, final: Path) -> None:
        partial = self._cache.folder / "partial" / f"{key}.part"
        with claimed(partial, final) as stream:
            if stream is None:
                return
            if wanted.size is None or stream.seek(0, os.SEEK_END) != wanted.size:
                self._fill(stream, wanted, partial)
            fault = self._fault(partial, wanted)
            if fault is not None:
                _state_path(partial).unlink(missing_ok=True)
                self._cache.quarantine(partial, wanted.name, fault)
                raise PassingError(f"{fault} (kept in {self._cache.quarantine_folder.name}/)")
            self._cache.add(stream, partial, final, durable=True)
            _state_path(partial).unlink(missing_ok=True)

    def _fill(self, stream: IO[bytes], wanted: Wanted, partial: Path) -> None:
        """Fetches what is missing. On a fault what came so far stays, if it can be gone on with."""
        have = stream.seek(0, os.SEEK_END)
        state = _read_state(partial)
        validator = state.get("validator")
        if (have and not (validator or wanted.checksum)) or (wanted.size is not None and have > wanted.size):
            have = stream.truncate(0)
        headers = {"Range": f"bytes={have}-"} if have else {}
        if have and validator:
            headers["If-Range"] = validator
        ahead = wanted.size - have if wanted.size is not None else 0
        ask = Ask(method="GET", url=wanted.url, auth=wanted.auth, headers=headers, ahead_bytes=ahead)
        with self._exchanges.exchange(ask) as reply:
            have, total = _begin(reply, stream, have, wanted)
            if have and None not in (validator, _validator(reply)) and _validator(reply) != validator:
                stream.truncate(0)
                raise PassingError(f"{reply.address.shown}: was replaced on the server")
            if not have:
                validator = _validator(reply)
                write_durably(_state_path(partial), [json.dumps({"validator": validator}).encode()])
            _copy(reply, stream, have, total, wanted)

    def _fault(self, path: Path, wanted: Wanted) -> str | None:
        """What is wrong with a file that came to its end, None where nothing is."""
        size = path.stat().st_size
        if wanted.size is not None and size != wanted.size:
            return f"{wanted.name}: has {size} bytes, expected {wanted.size}"
        if wanted.checksum is not None:
            algorithm, expected = parse_checksum(wanted.checksum, wanted.name)
            found = file_checksum(path, algorithm, wanted.name)
            if found != expected:
                return f"{wanted.name}: its {algorithm} is {found}, expected {expected}"
        if wanted.check is not None:
            try:
                wanted.check(path)
            except SourceError as error:
                return f"{wanted.name}: is damaged: {error}"
        return None


def _key(address: Address, wanted: Wanted) -> str:
    """Digest of what identifies a file. The query is left out, since it holds signatures: files that a query
    distinguishes have different names."""
    identity = [address.without_query, wanted.name, wanted.size, wanted.checksum]
    return hashlib.blake2b(json.dumps(identity).encode(), digest_size=16).hexdigest()


def _state_path(partial: Path) -> Path:
    return partial.with_suffix(".json")


def _read_state(partial: Path) -> dict[str, Any]:
    try:
        state = read_json(_state_path(partial), error=StoreError, remedy="")
    except StoreError:
        return {}
    return state if isinstance(state, dict) else {}


def _validator(reply: Reply) -> str | None:
    """What If-Range may hold (RFC 9110, 13.1.5): a strong ETag, else the date of the last change."""
    etag = reply.headers.get("etag", "")
    if etag and not etag.startswith("W/"):
        return etag
    return reply.headers.get("last-modified")


def _begin(reply: Reply, stream: IO[bytes], have: int, wanted: Wanted) -> tuple[int, int | None]:
    """Bytes of the partial file that stay, and bytes of the whole file. Raises where the answer is not this file."""
    if reply.status == 202:
        raise OfflineError(
            f"{wanted.name}: is offline at {reply.address.host} (status 202); it was ordered. Run the same command "
            "again in some hours: what is downloaded stays."
        )
    if reply.status not in {200, 206}:
        if reply.status == 416:
            stream.truncate(0)
            raise PassingError(f"{reply.address.shown}: has no more than the {have} bytes that were there")
        raise refusal(reply, "200 and a file")
    check_media(reply.address.shown, reply.media_type, ("*/*",), b"")
    if reply.status == 200:
        stream.truncate(0)
        stream.seek(0)
        total = reply.length
        have = 0
    else:
        first, _, total = content_range(reply)
        if first != have or (wanted.size is not None and total != wanted.size):
            stream.truncate(0)
            raise PassingError(f"{reply.address.shown}: answered with another part than the one asked for")
    if total is not None and wanted.size is not None and total != wanted.size:
        raise PassingError(f"{reply.address.shown}: announces {total} bytes, expected {wanted.size}")
    return have, total if wanted.size is None else wanted.size


def content_range(reply: Reply) -> tuple[int, int, int]:
    """First and last byte of an answer with status 206, and size of the whole file.

    Raises PassingError where the answer does not state them.
    """
    found = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", reply.headers.get("content-range", "").strip())
    if found is None:
        raise PassingError(f"{reply.address.shown}: answered with a part and does not say which")
    first, last, total = (int(text) for text in found.groups())
    return first, last, total


def _copy(reply: Reply, stream: IO[bytes], have: int, total: int | None, wanted: Wanted) -> None:
    if total is None and wanted.checksum is None and wanted.check is None:
        raise SourceError(
            f"{reply.address.shown}: states no length, and {wanted.name} has neither size nor checksum, so that a "
            "file cut short would go unnoticed. It is not downloaded."
        )
    limit = min(MAX_FILE_BYTES, total) if total is not None else MAX_FILE_BYTES
    count = have
    for piece in reply.pieces(max(limit - have, 0)):
        if not count:
            check_media(reply.address.shown, reply.media_type, ("*/*",), piece[:_HEAD_BYTES])
        with writing_to(Path(stream.name)):
            stream.write(piece)
            stream.flush()  # so that a killed process has lost nothing that came
        count += len(piece)
    if total is not None and count != total:
        raise PassingError(f"{reply.address.shown}: ended after {count} of {total} bytes")
