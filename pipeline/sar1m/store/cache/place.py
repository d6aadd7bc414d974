"""A remote store, read through the disk cache (see sar1m.store.cache for how it is built)."""

from __future__ import annotations

import contextlib
import hashlib
import operator
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from sar1m.store.cache.bound import CacheConfig, CacheFolder, using_cache
from sar1m.store.cache.segment import HEAD_BYTES, PAGE_BYTES, SEGMENT_BYTES, SEGMENT_SUFFIX, Extent, Segment
from sar1m.store.errors import ConfigError, StoreError
from sar1m.store.places.handles import Handles
from sar1m.store.places.opening import checked_location, is_remote, open_place
from sar1m.store.places.place import ByteRange, Place, checked_name, too_large, too_short
from sar1m.store.places.remote import Patience, RemotePlace
from sar1m.store.seal import REMEDY, read_first
from sar1m.store.seal_text import MARKERS, parse_marker

# What the methods of Place do is described there.
# ruff: noqa: D102

_ATTEMPTS = 3  # of a read whose bytes other processes evict before they are read


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Pages of one segment, held open and pinned."""

    segment: Segment
    pages: range

    def run_bytes(self, pages: range) -> tuple[int, int]:
        """Start and stop in the remote file of adjacent pages."""
        return self.segment.extent.page_bytes(pages)


class CachedPlace(Place):
    """The files of a finished remote store, kept on disk as they are read."""

    def __init__(self, origin: RemotePlace, config: CacheConfig) -> None:
        self._origin = origin
        self._config = config
        self._folder = CacheFolder(config)
        self._trusted: dict[bytes, int] = {}
        self._segments = Handles(self._open_segment)
        self._stamps: dict[str, int] = {}
        self._marker: bytes | None = None
        self._gets = threading.BoundedSemaphore(config.in_flight)
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"CachedPlace({self.location!r})"

    def __reduce__(self) -> tuple[object, tuple[str, CacheConfig]]:
        return (open_cached, (self.location, self._config))

    @property
    def location(self) -> str:
        return self._origin.location

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """Files that the marker lists are cached, once the marker was read. Marker and manifest never are."""
        if self._marker is not None and (size := self._sizes.get(name)) is not None:
            if size > max_bytes:
                raise too_large(self._origin.shown(name), max_bytes)
            return self.read_range(name, 0, size) if size else b""
        content = self._origin.read(checked_name(name), max_bytes=max_bytes)
        if name in MARKERS:
            with self._lock:
                self._marker = self._marker or content
        return content

    def size(self, name: str) -> int | None:
        return self._origin.size(checked_name(name))

    def stream(self, name: str) -> Iterator[bytes]:
        return self._origin.stream(name)

    def listing(self) -> Mapping[str, int] | None:
        return self._origin.listing()

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        content = bytearray(len(ByteRange(name=name, start=start, stop=stop)))
        self.read_into(name, start, memoryview(content))
        return bytes(content)

    def read_into(self, name: str, start: int, *buffers: memoryview) -> None:
        """A hit in one trusted segment costs two look-ups in tables and the read itself."""
        number, offset = divmod(start, SEGMENT_BYTES)
        segment = self._segments.known((name, number))
        if segment is not None:
            with using_cache(self._folder.path):
                if segment.read_into(offset, buffers):
                    return
        for buffer in buffers:
            self._read_parts(ByteRange(name=name, start=start, stop=start + len(buffer)), buffer)
            start += len(buffer)

    def prefetch(self, ranges: Sequence[ByteRange]) -> None:
        """Raises the first failure, after the running requests have ended. What came is kept.

        Threads are started for each call: that costs nothing beside the wait for a server.
        """
        with contextlib.ExitStack() as pins:
            requests = []
            for piece in self._pieces(ranges):
                parts = [pins.enter_context(self._pinned(piece, number)) for number in self._numbers(piece)]
                if not all(part.segment.trusts(part.pages) for part in parts):
                    requests.append((piece.name, parts))
            if len(requests) == 1:
                self._bring(*requests[0])
            elif requests:
                self._bring_all(requests)

    def forget(self, wanted: ByteRange) -> None:
        """Drops whole segments. Other processes that have them open can read on."""
        with using_cache(self._folder.path):
            for number in self._numbers(wanted):
                self._extent(wanted.name, number).path.unlink(missing_ok=True)
        self._segments.forget(lambda segment: segment.evicted)

    def close(self) -> None:
        self._segments.clear()

    @cached_property
    def _sizes(self) -> dict[str, int]:
        content = self._marker or read_first(self, MARKERS)[1]
        try:
            sizes: dict[str, int] = parse_marker(content)["files"]
        except ValueError as error:
            raise StoreError(f"{self.location}: damaged completion marker: {error}. {REMEDY}") from None
        return sizes

    @cached_property
    def _store_folder(self) -> Path:
        _ = self._sizes
        known_by = self.location.encode() + b"\0" + (self._marker or b"")
        return self._folder.path / hashlib.blake2b(known_by, digest_size=16).hexdigest()

    def _file_folder(self, name: str) -> Path:
        return self._store_folder / hashlib.blake2b(name.encode(), digest_size=16).hexdigest()

    def _numbers(self, wanted: ByteRange) -> range:
        """The segments that hold a range. StoreError where the store's list has no such range."""
        self._listed_size(wanted)
        return range(wanted.start // SEGMENT_BYTES, -(-wanted.stop // SEGMENT_BYTES))

    def _extent(self, name: str, number: int) -> Extent:
        first_byte = number * SEGMENT_BYTES
        return Extent(
            path=self._file_folder(name) / f"{number:08d}{SEGMENT_SUFFIX}",
            first_byte=first_byte,
            length=min(SEGMENT_BYTES, self._sizes[name] - first_byte),
        )

    def _open_segment(self, key: tuple[str, int]) -> Segment:
        return Segment(self._extent(*key), self._trusted)

    def _listed_size(self, wanted: ByteRange) -> int:
        """Size of the file by the store's list. StoreError where the list has no such file or range."""
        size = self._sizes.get(wanted.name)
        if size is None:
            raise StoreError(f"{self.location}/{wanted.name}: the store's list of files has no such file.")
        if wanted.stop > size:
            raise too_short(f"{self.location}/{wanted.name}", wanted, size - wanted.start)
        return size

    def _read_parts(self, wanted: ByteRange, buffer: memoryview) -> None:
        for number in self._numbers(wanted):
            first = max(wanted.start, number * SEGMENT_BYTES)
            last = min(wanted.stop, (number + 1) * SEGMENT_BYTES)
            part = buffer[first - wanted.start : last - wanted.start]
            self._read_part(ByteRange(name=wanted.name, start=first, stop=last), number, part)

    def _read_part(self, wanted: ByteRange, number: int, buffer: memoryview) -> None:
        for _ in range(_ATTEMPTS):
            with using_cache(self._folder.path):
                if self._segments.get((wanted.name, number)).read_into(wanted.start % SEGMENT_BYTES, [buffer]):
                    return
            self.prefetch([wanted])
        raise ConfigError(
            f"cache {self._folder.path}: {wanted.name} is evicted before it can be read. Raise "
            "cache.max_bytes, and state the same in all processes."
        )

    @contextlib.contextmanager
    def _pinned(self, piece: ByteRange, number: int) -> Iterator[_Part]:
        for _ in range(_ATTEMPTS):
            with using_cache(self._folder.path):
                segment = self._segments.get((piece.name, number))
            with segment.pinned():
                if not segment.evicted:
                    yield _Part(segment=segment, pages=segment.extent.pages(piece.start, piece.stop))
                    return
            self._segments.forget(partial(operator.is_, segment))
        raise ConfigError(f"cache {self._folder.path}: segments vanish while in use; does another program clean it?")

    def _pieces(self, ranges: Sequence[ByteRange]) -> list[ByteRange]:
        """The ranges in pages, overlaps joined, in pieces of one request each that end where segments do."""
        pieces: list[ByteRange] = []
        for joined in _joined(ranges, self._listed_size):
            at = joined.start
            while at < joined.stop:
                end = at + self._config.request_bytes
                end = joined.stop if end >= joined.stop else end // SEGMENT_BYTES * SEGMENT_BYTES
                pieces.append(ByteRange(name=joined.name, start=at, stop=end))
                at = end
        return pieces

    def _bring_all(self, requests: list[tuple[str, list[_Part]]]) -> None:
        threads = min(len(requests), self._config.in_flight)
        with ThreadPoolExecutor(threads, thread_name_prefix="sarmae-fetch") as pool:
            running = [pool.submit(self._bring, *request) for request in requests]
            try:
                for future in running:
                    future.result()
            finally:
                for future in running:
                    future.cancel()

    def _bring(self, name: str, parts: list[_Part]) -> None:
        """Makes the parts, adjacent segments of one file, present and trusted."""
        lacking = [part for part in parts if self._missing(name, part)]
        with contextlib.ExitStack() as locks:
            for part in lacking:
                locks.enter_context(part.segment.fetching(self._config.timeout_s))
            runs = [(part, run) for part in lacking for run in self._missing(name, part)]
            while runs:
                count = 1
                while count < len(runs) and _bytes(runs[count - 1])[1] == _bytes(runs[count])[0]:
                    count += 1
                self._fetch(name, runs[:count])
                runs = runs[count:]

    def _missing(self, name: str, part: _Part) -> list[range]:
        if part.segment.trusts(part.pages):
            return []
        if name not in self._stamps and (stamp := part.segment.stamp()) is not None:
            self._stamps.setdefault(name, stamp)
        with using_cache(self._folder.path):
            return part.segment.missing(part.pages, self._stamps.get(name))

    def _fetch(self, name: str, runs: list[tuple[_Part, range]]) -> None:
        """One GET of adjacent pages, and their way onto the disk."""
        self._segments.forget(lambda segment: segment.evicted)  # an open file keeps its bytes on the disk
        for part, run in runs:
            self._folder.reserve(len(run) * PAGE_BYTES + HEAD_BYTES, partial(part.segment.allocate, run))
        start, stop = _bytes(runs[0])[0], _bytes(runs[-1])[1]
        with self._gets:
            fetched = self._origin.fetch(ByteRange(name=name, start=start, stop=stop), self._sizes[name])
        if self._stamps.setdefault(name, fetched.stamp) != fetched.stamp:
            self.forget(ByteRange(name=name, start=0, stop=self._sizes[name]))
            raise StoreError(
                f"{self.location}/{name}: is not the file it was when its first bytes were read (its ETag, date or "
                "size changed), so what was cached of it is thrown away. Start again when nobody changes the store."
            )
        with using_cache(self._folder.path):
            for part, run in runs:
                first, last = part.run_bytes(run)
                part.segment.write(run, fetched.content[first - start : last - start], fetched.stamp)


def open_cached(location: str, config: CacheConfig | None = None) -> Place:
    """The place at a location; what lies on a server is read through the disk cache.

    location: see open_place. config: of the cache; needed for a server, unused for a folder. Raises ConfigError as
    open_place does, and for a server without a cache.
    """
    if not is_remote(location):
        return open_place(location)
    location = checked_location(location)
    if config is None:
        raise ConfigError(f"{location}: a remote store is read through a disk cache; name its folder and its size.")
    patience = Patience(timeout_s=config.timeout_s, retries=config.retries, retry_s=4 * config.timeout_s)
    return CachedPlace(RemotePlace(location, patience=patience), config)


def _joined(ranges: Sequence[ByteRange], size_of: Callable[[ByteRange], int]) -> list[ByteRange]:
    """Ranges widened to pages, by name and start; those that touch are one."""
    joined: list[ByteRange] = []
    for wanted in sorted(ranges, key=lambda wanted: (wanted.name, wanted.start)):
        start = wanted.start // PAGE_BYTES * PAGE_BYTES
        stop = min(-(-wanted.stop // PAGE_BYTES) * PAGE_BYTES, size_of(wanted))
        if joined and joined[-1].name == wanted.name and joined[-1].stop >= start:
            former = joined.pop()
            start, stop = former.start, max(stop, former.stop)
        joined.append(ByteRange(name=wanted.name, start=start, stop=stop))
    return joined


def _bytes(run: tuple[_Part, range]) -> tuple[int, int]:
    return run[0].run_bytes(run[1])
