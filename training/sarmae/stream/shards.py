"""Shards: where each sample's chunk lies, and its bytes read to where they are wanted.

Source: Zarr v3 sharding_indexed codec, version 1.0: offset and length of every chunk as little-endian uint64, both
2^64-1 for an empty slot, then the crc32c of these.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import google_crc32c
import numpy as np

from sar1m.store.errors import StoreError
from sar1m.store.places.place import ByteRange, Place
from sar1m.store.seal import REMEDY
from sarmae.stream.batch import ImageSpec, SplitIndex
from sarmae.stream.codecs import CRC_BYTES, most_chunk_bytes
from sarmae.stream.layout import INDEX_ENTRY_BYTES, index_bytes, shard_name

_ENTRY = struct.Struct("<QQ")
_ABSENT = 2**64 - 1


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One shard: its name relative to the store and its checked index."""

    name: str
    entries: bytes

    def span(self, slot: int) -> tuple[int, int] | None:
        """Offset and length of a slot's chunk, checksum included; None where the slot is empty."""
        offset, length = _ENTRY.unpack_from(self.entries, slot * INDEX_ENTRY_BYTES)
        return None if offset == _ABSENT else (offset, length)


class ArrayShards:
    """The shards of one array of a split. Each index is read at its first use and kept (16 bytes a slot).

    Safe for threads; two that ask for a new shard at once may both read its index.
    """

    def __init__(self, objects: Place, index: SplitIndex, spec: ImageSpec) -> None:
        self._objects, self._index, self._spec = objects, index, spec
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
        try:
            try:
                return self._indexed(name, size)
            except ValueError:  # of a remote store, a damaged copy may lie in the cache
                self._objects.forget(ByteRange(name=name, start=size - index_bytes(self._spec), stop=size))
                return self._indexed(name, size)
        except ValueError as error:
            raise StoreError(f"{place}: {error}. {REMEDY}") from error

    def _indexed(self, name: str, size: int) -> Shard:
        raw = self._objects.read_range(name, size - index_bytes(self._spec), size)
        return Shard(name=name, entries=checked_index(raw, file_bytes=size, longest=most_chunk_bytes(self._spec)))

    def forget(self, shard: Shard, start: int, length: int) -> None:
        """Throws away what is cached of a chunk that turned out damaged."""
        self._objects.forget(ByteRange(name=shard.name, start=start, stop=start + length))

    def fill(self, shard: Shard, start: int, *buffers: np.ndarray) -> None:
        """Reads bytes from offset start into buffers (uint8, contiguous), one after another, without a copy between.
        StoreError where that cannot be."""
        self._objects.read_into(shard.name, start, *(buffer.data for buffer in buffers))


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
