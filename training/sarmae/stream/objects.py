"""The files of a store, wherever it lies: a local folder, an S3-compatible bucket or an HTTP(S) server.

A reader asks for byte ranges by name relative to the store and need not know where they come from. Remote ranges pass
through a disk cache (see cache.py); reading what is cached costs what reading a local file costs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from sar1m.store.errors import ConfigError, MissingError, StoreError
from sarmae.stream.cache import CacheConfig
from sarmae.stream.handles import Descriptor, Handles, read_fully

__all__ = ["ByteRange", "CacheConfig", "LocalObjects", "Objects", "is_remote", "open_objects"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


@dataclass(frozen=True, kw_only=True)
class ByteRange:
    """Bytes [start, stop) of the file `name` of a store. Raises StoreError where that is no range or no name."""

    name: str
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __post_init__(self) -> None:
        checked_name(self.name)
        if not 0 <= self.start < self.stop:
            raise StoreError(
                f"{self.name}: bytes [{self.start}, {self.stop}) are no range; 0 <= start < stop expected."
            )


class Objects(Protocol):
    """Read access to the files of one store by name. Safe for threads.

    Names are relative POSIX paths, without '..'. Every failure is a StoreError that names the file and never holds
    credentials or a query string, an UnreachableError where the server is at fault and not the file.
    """

    @property
    def location(self) -> str:
        """Where the store lies, as the user wrote it: a path or URL free of credentials."""

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """A whole small file. StoreError where it is absent or larger than max_bytes. Remote: files that the store's
        marker lists are cached once the marker was read; the marker and the manifest themselves never are."""

    def size(self, name: str) -> int | None:
        """The file's size in bytes, None where there is no such file. Remote: one request each time."""

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """Bytes [start, stop) of a file. StoreError where the file is absent or shorter."""

    def read_into(self, name: str, start: int, *buffers: memoryview) -> None:
        """Fills writable, contiguous buffers of bytes from offset start, one after another, without a copy between; as
        read_range."""

    def local_path(self, name: str) -> Path | None:
        """A file another library may open, complete from end to end, or None where there is none such on this disk.

        None for everything remote: what is cached is a file with holes that may be evicted. Read that by read_into,
        which costs the same as preadv on a local file.
        """

    def prefetch(self, ranges: Sequence[ByteRange]) -> None:
        """Blocks until the ranges are in reach of fast reads. Remote: fetched in parallel. Local: nothing to do.

        A hint: reading works without it, one range at a time. Ranges of 4 to 12 MB (32 samples) are the good size.
        """

    def forget(self, wanted: ByteRange) -> None:
        """Throws away what is cached of a range that turned out damaged, so that it is fetched anew. Local: nothing."""

    def close(self) -> None:
        """Gives up open files. The object works on when asked again."""


class LocalObjects:
    """The files of a store in a local folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._handles = Handles(self._open)

    def __repr__(self) -> str:
        return f"LocalObjects({str(self._root)!r})"

    def __reduce__(self) -> tuple[type[LocalObjects], tuple[Path]]:
        return (LocalObjects, (self._root,))

    @property
    def location(self) -> str:
        """The folder."""
        return str(self._root)

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """See Objects."""
        path = self._path(name)
        try:
            with path.open("rb") as stream:
                content = stream.read(min(os.fstat(stream.fileno()).st_size, max_bytes) + 1)
        except OSError as error:
            raise _unreadable(path, error) from error
        if len(content) > max_bytes:
            raise StoreError(f"{path}: holds more than the {max_bytes} bytes expected of such a file.")
        return content

    def size(self, name: str) -> int | None:
        """See Objects."""
        path = self._path(name)
        try:
            return path.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _unreadable(path, error) from error

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """See Objects."""
        content = bytearray(len(ByteRange(name=name, start=start, stop=stop)))
        self.read_into(name, start, memoryview(content))
        return bytes(content)

    def read_into(self, name: str, start: int, *buffers: memoryview) -> None:
        """See Objects."""
        try:
            file = self._handles.get(name)
            filled = read_fully(file.number, start, buffers)
        except OSError as error:
            raise _unreadable(self._path(name), error) from error
        wanted = sum(map(len, buffers))
        if filled < wanted:
            raise too_short(str(self._path(name)), ByteRange(name=name, start=start, stop=start + wanted), filled)

    def local_path(self, name: str) -> Path | None:
        """See Objects: the file itself, whether it exists or not."""
        return self._path(name)

    def prefetch(self, ranges: Sequence[ByteRange]) -> None:
        """See Objects: nothing to do."""

    def forget(self, wanted: ByteRange) -> None:
        """See Objects: nothing to do."""

    def close(self) -> None:
        """See Objects."""
        self._handles.clear()

    def _open(self, name: str) -> Descriptor:
        return Descriptor(self._path(name))

    def _path(self, name: str) -> Path:
        return self._root / checked_name(name)


def open_objects(location: str, cache: CacheConfig | None = None) -> Objects:
    """The store at a location: a path, file:///path, s3://bucket/prefix, http(s)://host/path.

    cache: where remote ranges are kept; needed for remote locations, unused for local ones. Credentials and endpoint of
    S3 come from the environment alone (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...). Raises ConfigError for another
    scheme, a location with a user, password, query or fragment in it, or a remote one without a cache. Opens nothing
    yet: whether the store exists shows at the first read.
    """
    if is_remote(location):
        from sarmae.stream.cache_reader import open_remote  # noqa: PLC0415 - obstore is for those whose store is remote

        return open_remote(location, cache)
    return LocalObjects(_file_path(location) if _SCHEME.match(location) else Path(location))


def is_remote(location: str) -> bool:
    """Whether open_objects would read this location over a network."""
    scheme = _SCHEME.match(location)
    return scheme is not None and scheme[1].lower() != "file"


def checked_name(name: str) -> str:
    """The name itself if it is a relative POSIX path without empty, '.' or '..' parts; StoreError otherwise."""
    if not name or "\0" in name or "\\" in name or any(part in {"", ".", ".."} for part in name.split("/")):
        raise StoreError(f"{name!r}: no name of a file of a store; a relative path without '..' was expected.")
    return name


def too_short(place: str, wanted: ByteRange, found: int) -> StoreError:
    """The error of a file that ends before a range of it does. found: bytes there were of it, below 0 where the file
    ends before it begins."""
    return StoreError(
        f"{place}: ends at byte {wanted.start + found}, but bytes [{wanted.start}, {wanted.stop}) were asked for. The "
        "file is truncated or not the one its index belongs to: verify the store (sar1m verify) and copy it again."
    )


def _unreadable(path: Path, error: OSError) -> StoreError:
    kind = MissingError if isinstance(error, (FileNotFoundError, NotADirectoryError)) else StoreError
    return kind(f"{path}: cannot be read: {error.strerror or error}. Verify the store (sar1m verify).")


def _file_path(location: str) -> Path:
    parts = urlsplit(location)
    if parts.netloc not in {"", "localhost"} or parts.query or parts.fragment or not parts.path:
        raise ConfigError(f"{location!r}: a file URL reads file:///path, of this machine.")
    return Path(unquote(parts.path))
