"""Parts of remote files: a seekable file over ranged GETs, so that a window of a scene costs a window's bytes.

Blocks are kept in the cache under the file's address and identity (ETag and size). What comes must be the range that
was asked, of the same file; a file that was replaced in between is an error, never a mixture.

Why the trainer's cache (sar1m.store.cache) does not serve here: one bound, download.cache_gb, must hold over blocks and
over whole files that GDAL opens by path, and a segment with holes cannot be opened so. Workers on several machines
share this cache through NFS, where the two kinds of lock that a segment needs are one and would exclude each other.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, Final

from sar1m.io.net.answer import check_media
from sar1m.io.net.download import content_range
from sar1m.io.net.download_cache import DownloadCache, claimed
from sar1m.io.net.exchange import Ask, Auth, Exchanges, Reply, refusal
from sar1m.io.net.faults import ChangedError, PassingError
from sar1m.io.net.options import FetchSettings
from sar1m.io.net.retry import persistently
from sar1m.store.addresses import check_url
from sar1m.store.durable import write_durably, writing_to
from sar1m.store.errors import SourceError, StoreError
from sar1m.store.side_files import read_json

BLOCK_BYTES: Final = 2**18
MAX_RUN_BLOCKS: Final = 32  # 8 MiB a request
_KEPT_BLOCKS: Final = 32
_DIGEST_BYTES: Final = 16


@dataclass(frozen=True, kw_only=True)
class _Identity:
    """Which of the files that ever stood at an address. validator: its ETag, or its date of change."""

    size: int
    validator: str

    @property
    def key(self) -> str:
        return hashlib.blake2b(json.dumps(asdict(self)).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, kw_only=True)
class RangedSource:
    """A remote file. size: in bytes, where a catalogue states it."""

    url: str = field(repr=False)
    auth: Auth | None = field(default=None, repr=False)
    size: int | None = None


class _Blocks:
    """The blocks of one remote file, from the cache or the service."""

    def __init__(
        self, source: RangedSource, settings: FetchSettings, exchanges: Exchanges, cache: DownloadCache
    ) -> None:
        address = check_url(source.url, settings.reach)
        self.name = address.shown
        self._source, self._settings, self._exchanges, self._cache = source, settings, exchanges, cache
        key = hashlib.blake2b(address.without_query.encode(), digest_size=16).hexdigest()
        self._folder = cache.folder / "blocks" / key
        self.identity = self._known() or self._learn()

    def read(self, first: int, last: int) -> dict[int, bytes]:
        """Blocks first to last, both included. Adjacent missing ones come with one request."""
        found = {index: self._kept(index) for index in range(first, last + 1)}
        for run in _runs([index for index, block in found.items() if block is None]):
            found |= persistently(self._settings, self.name, partial(self._fetch, run))
        return {index: block for index, block in found.items() if block is not None}

    def renew(self) -> None:
        """Asks the server again which file is at the address."""
        self.forget()
        self.identity = self._learn()

    def forget(self) -> None:
        """Drops the identity of a file that was replaced."""
        self._identity_path.unlink(missing_ok=True)

    @property
    def _identity_path(self) -> Path:
        return self._folder / "identity.json"

    def _known(self) -> _Identity | None:
        try:
            identity = _Identity(**read_json(self._identity_path, error=StoreError, remedy=""))
        except (StoreError, TypeError):
            return None
        return identity if self._source.size in {None, identity.size} else None

    def _learn(self) -> _Identity:
        return persistently(self._settings, self.name, self._ask_identity)

    def _ask_identity(self) -> _Identity:
        with self._exchanges.exchange(self._ask(0, 0)) as reply:
            _check_part(reply)
            _, _, size = content_range(reply)
            identity = _Identity(size=size, validator=_validator(reply))
            content = b"".join(reply.pieces(BLOCK_BYTES))
        if self._source.size not in {None, size}:
            raise SourceError(
                f"{self.name}: has {size} bytes, the catalogue says {self._source.size}. It is not read: search again."
            )
        _check_length(self.name, content, min(BLOCK_BYTES, size))
        check_media(self.name, reply.media_type, ("*/*",), content[:512])
        self.identity = identity
        with claimed(self._path(0, "part"), self._path(0, "block")) as stream:
            if stream is not None:
                self._keep(stream, 0, content)
        if reply.headers.get("etag"):  # without one a replaced file could look the same tomorrow
            write_durably(self._identity_path, [json.dumps(asdict(identity)).encode()])
        return identity

    def _ask(self, first: int, last: int) -> Ask:
        begin, end = first * BLOCK_BYTES, (last + 1) * BLOCK_BYTES - 1
        headers = {"Range": f"bytes={begin}-{end}"}
        return Ask(
            method="GET",
            url=self._source.url,
            auth=self._source.auth,
            headers=headers,
            ahead_bytes=(last - first + 1) * BLOCK_BYTES,
        )

    def _path(self, index: int, ending: str) -> Path:
        return self._folder / self.identity.key / f"{index}.{ending}"

    def _kept(self, index: int) -> bytes | None:
        """A block of the cache, None where it is not there or damaged."""
        path = self._path(index, "block")
        try:
            content = path.read_bytes()
            os.utime(path)
        except FileNotFoundError:
            return None
        digest, block = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if digest == _digest(block) and len(block) == self._length(index, index):
            return block
        path.unlink(missing_ok=True)
        return None

    def _keep(self, stream: IO[bytes], index: int, block: bytes) -> None:
        with writing_to(Path(stream.name)):
            stream.seek(0)
            stream.truncate()
            stream.write(_digest(block) + block)
            stream.flush()
        # Not synced: a block lost in a power cut fails its digest and comes again.
        self._cache.add(stream, self._path(index, "part"), self._path(index, "block"), durable=False)

    def _length(self, first: int, last: int) -> int:
        return min((last + 1) * BLOCK_BYTES, self.identity.size) - first * BLOCK_BYTES

    def _fetch(self, run: Sequence[int]) -> dict[int, bytes]:
        """Fetches adjacent blocks, locked while they come. Blocks that another process fetched meanwhile are read."""
        with ExitStack() as stack:
            streams = {
                index: stack.enter_context(claimed(self._path(index, "part"), self._path(index, "block")))
                for index in run
            }
            for part in _runs([index for index, stream in streams.items() if stream is not None]):
                content = self._ask_part(part[0], part[-1])
                for nth, index in enumerate(part):
                    stream = streams[index]
                    if stream is not None:
                        self._keep(stream, index, content[nth * BLOCK_BYTES : (nth + 1) * BLOCK_BYTES])
        found = {index: self._kept(index) for index in run}
        if None in found.values():
            raise PassingError(f"{self.name}: a block was lost between arrival and reading")
        return {index: block for index, block in found.items() if block is not None}

    def _ask_part(self, first: int, last: int) -> bytes:
        with self._exchanges.exchange(self._ask(first, last)) as reply:
            _check_part(reply)
            begin, _, size = content_range(reply)
            if _Identity(size=size, validator=_validator(reply)) != self.identity:
                self.forget()
                raise ChangedError(f"{self.name}: was replaced on the server while it was read. Read the item again.")
            if begin != first * BLOCK_BYTES:
                raise PassingError(f"{self.name}: answered with another part than the one asked for")
            content = b"".join(reply.pieces((last - first + 1) * BLOCK_BYTES))
        _check_length(self.name, content, self._length(first, last))
        return content


class RangedFile(io.RawIOBase):
    """A remote file to read and seek in, for one thread at a time.

    rasterio.open(file) would read all of it; io/raster_open.py passes it to GDAL as an opener instead.
    """

    def __init__(
        self, source: RangedSource, settings: FetchSettings, exchanges: Exchanges, cache: DownloadCache
    ) -> None:
        super().__init__()
        self._blocks = _Blocks(source, settings, exchanges, cache)
        self._position = 0
        self._recent: OrderedDict[int, bytes] = OrderedDict()
        self._untouched = True

    def __repr__(self) -> str:
        return f"RangedFile({self._blocks.name})"

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self._blocks.identity.size

    def readable(self) -> bool:
        """Always true."""
        return True

    def seekable(self) -> bool:
        """Always true."""
        return True

    def tell(self) -> int:
        """Position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves the position, as of any file. Positions past the end are allowed and read nothing."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        if start + offset < 0:
            raise ValueError(f"position {start + offset} lies before the file")
        self._position = start + offset
        return self._position

    def readall(self) -> bytes:
        """All bytes from the position on. Adjacent blocks come with one request."""
        return self.read(max(0, self.size - self._position)) or b""

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 - io.RawIOBase's signature: a writable buffer
        """Fills the buffer as far as the file goes. Raises SourceError, ChangedError, BudgetError."""
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self.size - self._position))
        if not count:
            return 0
        content = self._read(self._position, count)
        view[: len(content)] = content
        self._position += len(content)
        return len(content)

    def _read(self, position: int, count: int) -> bytes:
        first, last = position // BLOCK_BYTES, (position + count - 1) // BLOCK_BYTES
        try:
            blocks = self._have(first, last)
        except ChangedError:
            if not self._untouched:  # what was handed out belongs to the former file
                raise
            self._blocks.renew()
            count = max(0, min(count, self.size - position))
            last = (position + count - 1) // BLOCK_BYTES
            blocks = self._have(first, last)
        self._untouched = False
        joined = b"".join(blocks[index] for index in range(first, last + 1))
        begin = position - first * BLOCK_BYTES
        return joined[begin : begin + count]

    def _have(self, first: int, last: int) -> dict[int, bytes]:
        found = {index: self._recent[index] for index in range(first, last + 1) if index in self._recent}
        for run in _runs([index for index in range(first, last + 1) if index not in found]):
            found |= self._blocks.read(run[0], run[-1])
        for index in sorted(found):
            self._recent[index] = found[index]
            self._recent.move_to_end(index)
        while len(self._recent) > _KEPT_BLOCKS:
            self._recent.popitem(last=False)
        return found


def _runs(indices: Sequence[int]) -> Iterator[list[int]]:
    """Ascending indices as runs of adjacent ones, none longer than a request may be."""
    run: list[int] = []
    for index in indices:
        if run and (index != run[-1] + 1 or len(run) == MAX_RUN_BLOCKS):
            yield run
            run = []
        run.append(index)
    if run:
        yield run


def _digest(block: bytes) -> bytes:
    return hashlib.blake2b(block, digest_size=_DIGEST_BYTES).digest()


def _validator(reply: Reply) -> str:
    return reply.headers.get("etag") or reply.headers.get("last-modified", "")


def _check_part(reply: Reply) -> None:
    if reply.status == 200:
        raise PassingError(f"{reply.address.shown}: answered with the whole file, not with the part asked for")
    if reply.status != 206:
        raise refusal(reply, "206 and a part of a file")


def _check_length(name: str, content: bytes, expected: int) -> None:
    if len(content) != expected:
        raise PassingError(f"{name}: answered with {len(content)} bytes of {expected}")
