"""What every place offers, whatever it is: reading files and byte ranges by name."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from sar1m.store.errors import StoreError

PIECE_BYTES: Final = 8 * 2**20  # Place.stream reads so much at a time
NOT_A_FILE: Final = -1  # size that a listing gives for a link, a socket or anything else that is no regular file


@dataclass(frozen=True, kw_only=True)
class ByteRange:
    """Bytes [start, stop) of the file `name`. Raises StoreError where the name or the range is not valid."""

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


class Place(Protocol):
    """Read access to the files of one store or release. Safe for threads.

    Names are relative POSIX paths without '..'. Every failure is a StoreError that names the file and never holds a
    credential or a query string: MissingError where there is no such file, UnreachableError where the server is at
    fault and not the file.
    """

    @property
    def location(self) -> str:
        """Where the store lies, as the user wrote it: a path or URL without credentials."""

    @abstractmethod
    def read(self, name: str, *, max_bytes: int) -> bytes:
        """A whole small file. StoreError where it is larger than max_bytes."""

    @abstractmethod
    def size(self, name: str) -> int | None:
        """The file's size in bytes, None where there is no such file. On a server: one request each time."""

    @abstractmethod
    def stream(self, name: str) -> Iterator[bytes]:
        """A file from its beginning to its end, piece by piece. On a server: one request, never cached."""

    @abstractmethod
    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """Bytes [start, stop) of a file. StoreError where the file is shorter."""

    @abstractmethod
    def listing(self) -> Mapping[str, int] | None:
        """Size in bytes of every file there by its name; NOT_A_FILE for what is no regular file. None where the place
        cannot be listed (web servers)."""

    def read_into(self, name: str, start: int, *buffers: memoryview) -> None:
        """Fills buffers one after another with the file's bytes from offset start. Raises as read_range.

        buffers: writable, contiguous, of bytes. On a local disk nothing is copied on the way.
        """
        content = memoryview(self.read_range(name, start, start + sum(map(len, buffers))))
        for buffer in buffers:
            buffer[:] = content[: len(buffer)]
            content = content[len(buffer) :]

    def local_path(self, name: str) -> Path | None:
        """The file itself, for another library to open; None where there is no complete file on this disk.

        None on a server: a cached file has holes and may be evicted. Use read_into, which costs the same.
        """
        checked_name(name)
        return None

    def prefetch(self, ranges: Sequence[ByteRange]) -> None:  # noqa: ARG002 - nothing to do
        """Blocks until the ranges can be read fast. Through a cache: fetched in parallel. Elsewhere: does nothing.

        Reading works without it, one range at a time. Ranges of 4 to 12 MB (32 samples) are a good size.
        """
        return

    def forget(self, wanted: ByteRange) -> None:  # noqa: ARG002 - nothing to do
        """Throws away the cached bytes of a damaged range, so that they are fetched anew. Without a cache: nothing."""
        return

    def close(self) -> None:
        """Closes open files. The place can be used again afterwards."""
        return


def checked_name(name: str) -> str:
    """The name itself where it is a relative POSIX path without empty, '.' or '..' parts. Raises StoreError."""
    if not name or "\0" in name or "\\" in name or any(part in {"", ".", ".."} for part in name.split("/")):
        raise StoreError(f"{name!r}: no name of a file of a store; a relative path without '..' was expected.")
    return name


def too_short(shown: str, wanted: ByteRange, found: int) -> StoreError:
    """The error of a file that ends before a wanted range does.

    shown: the file in the message. found: bytes of the range that were there, below 0 where the file ends before it.
    """
    return StoreError(
        f"{shown}: ends at byte {wanted.start + found}, but bytes [{wanted.start}, {wanted.stop}) were asked for. The "
        "file is truncated or does not belong to its index: verify the store (sar1m verify) and copy it again."
    )


def too_large(shown: str, max_bytes: int) -> StoreError:
    """The error of a small file that is not small. shown: the file in the message."""
    return StoreError(
        f"{shown}: holds more than {max_bytes} bytes, the most that is expected of such a file. Check the location."
    )
