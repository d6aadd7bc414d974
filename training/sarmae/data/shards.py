"""Shards: where each sample's chunk lies, and its bytes read to where they are wanted.

Source: Zarr v3 sharding_indexed codec, version 1.0: offset and length of every chunk as little-endian uint64, both
2^64-1 for an empty slot, then the crc32c of these.
"""

from __future__ import annotations

import os
import struct
import threading
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np

from sar1m.errors import StoreError
from sarmae.data.cache_handles import read_fully
from sarmae.data.codecs import CRC_BYTES, most_chunk_bytes
from sarmae.data.layout import INDEX_ENTRY_BYTES, index_bytes, shard_name
from sarmae.data.objects import Objects
from sarmae.data.records import ImageSpec, SplitIndex
from sarmae.data.sealed import REMEDY

_ENTRY = struct.Struct("<QQ")
_ABSENT = 2**64 - 1
MAX_OPEN_FILES = 256  # of the usual soft limit of 1,024


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One shard: its name relative to the store, its file where it is local, and its checked index."""

    name: str
    path: Path | None
    entries: bytes

    def span(self, slot: int) -> tuple[int, int] | None:
        """Offset and length of a slot's chunk, checksum included; None where the slot is empty."""
        offset, length = _ENTRY.unpack_from(self.entries, slot * INDEX_ENTRY_BYTES)
        return None if offset == _ABSENT else (offset, length)


class OpenFile:
    """A descriptor to read from, closed with its last reference: whoever reads from it holds one, so it cannot be
    closed, and its number given to another file, under a read. Raises OSError as os.open does."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class OpenFiles:
    """Shards kept open, at most `limit` of them; the one opened first is forgotten first.

    A hit takes no lock: with one, two decoding threads lost a quarter of their speed to handing it over.
    """

    def __init__(self, limit: int = MAX_OPEN_FILES) -> None:
        self._limit = limit
        self._files: dict[Path, OpenFile] = {}
        self._lock = threading.Lock()

    def get(self, path: Path) -> OpenFile:
        """The open file; safe for threads."""
        return self._files.get(path) or self._add(path)

    def _add(self, path: Path) -> OpenFile:
        opened = OpenFile(path)
        with self._lock:
            while len(self._files) >= self._limit:
                del self._files[next(iter(self._files))]
            return self._files.setdefault(path, opened)


class ArrayShards:
    """The shards of one array of a split. Each index is read at its first use and kept (16 bytes a slot).

    Safe for threads; two that ask for a new shard at once may both read its index.
    """

    def __init__(self, objects: Objects, index: SplitIndex, spec: ImageSpec, files: OpenFiles) -> None:
        self._objects, self._index, self._spec, self._files = objects, index, spec, files
        self._shards: dict[int, Shard] = {}

    def name(self, number: int) -> str:
        """The shard's file, relative to the store."""
        return shard_name(self._index.split, self._spec.name, number)

    def shard(self, number: int) -> Shard:
        """A shard by its number. StoreError where it is missing, of another size than in the manifest, or its index
        is damaged."""
        shard = self._shards.get(number)
        if shard is None:
            shard = self._shards[number] = self._open(number)
        return shard

    def _open(self, number: int) -> Shard:
        name = self.name(number)
        place = f"{self._objects.location}/{name}"
        size = self._index.files.get(name)
        if size is None:
            raise StoreError(f"{place}: this shard is missing from the store's manifest. {REMEDY}")
        raw = self._objects.read_range(name, size - index_bytes(self._spec), size)
        try:
            entries = checked_index(raw, file_bytes=size, longest=most_chunk_bytes(self._spec))
        except ValueError as error:
            raise StoreError(f"{place}: {error}. {REMEDY}") from error
        return Shard(name=name, path=self._objects.local_path(name), entries=entries)

    def fill(self, shard: Shard, start: int, *buffers: np.ndarray) -> None:
        """Reads bytes from offset start into buffers (uint8, contiguous), one after another, without a copy between.
        StoreError or OSError where that cannot be."""
        if shard.path is None:
            for buffer in buffers:
                self._objects.read_into(shard.name, start, buffer.data)
                start += buffer.nbytes
            return
        file = self._files.get(shard.path)
        wanted = sum(buffer.nbytes for buffer in buffers)
        if os.preadv(file.descriptor, [buffer.data for buffer in buffers], start) == wanted:
            return
        for buffer in buffers:  # a file system that returns less than a whole read, or the end of the file
            if read_fully(file.descriptor, start, buffer.data) < buffer.nbytes:
                raise StoreError(f"{shard.path}: shorter than its index tells: truncated. {REMEDY}")
            start += buffer.nbytes


def checked_index(raw: bytes, *, file_bytes: int, longest: int) -> bytes:
    """The entries of a shard's index (raw without its checksum). ValueError saying what is wrong with it.

    The chunks must tile the file from its start to the index in the order of their slots, as the pipeline and
    zarr-python write them: entries that were swapped, overlap or leave a hole are found although a checksum holds.
    """
    entries = raw[:-CRC_BYTES]
    if google_crc32c.value(entries).to_bytes(CRC_BYTES, "little") != raw[-CRC_BYTES:]:
        raise ValueError("the checksum of its index does not hold")
    table = np.frombuffer(entries, dtype="<u8").reshape(-1, 2)
    offsets, lengths = table[(table != _ABSENT).any(axis=1)].T
    if len(lengths) and (lengths.max() > longest or lengths.min() <= CRC_BYTES):
        raise ValueError(f"its index tells of chunks of {lengths.min()} to {lengths.max()} bytes, at most {longest}")
    ends = np.cumsum(lengths, dtype=np.uint64)
    if not np.array_equal(offsets, ends - lengths) or (ends[-1] if len(ends) else 0) != file_bytes - len(raw):
        raise ValueError("the chunks of its index do not follow one another from the start to the index")
    return entries
