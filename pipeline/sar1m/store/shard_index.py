"""Shards: their names inside a store, and the index at the end of each.

A shard is a file of encoded chunks, one a sample, in the order of their slots. It ends with its index: offset and
length of every slot's chunk as little-endian uint64, both 2^64 - 1 for an empty slot, then the crc32c of these.
Source: Zarr v3 core specification; sharding_indexed codec, version 1.0.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sar1m.store.chunks import CRC_BYTES, checked_payload, crc32c
from sar1m.store.schema import DATA_DIR

ENTRY_BYTES: Final = 16  # offset and length of a slot
SHARD_NAME: Final = re.compile(rf"(?P<array>{DATA_DIR}/[^/]+\.zarr/[^/]+)/c/(?P<number>\d+)/0/0/0")

_ABSENT: Final = 2**64 - 1
_ENTRY = struct.Struct("<QQ")

Span = tuple[int, int]  # offset and length in bytes of a chunk, its checksum included


def shard_name(array: str, number: int) -> str:
    """The file of a shard, relative to its group: shards run along the samples alone."""
    return f"{array}/c/{number}/0/0/0"


@dataclass(frozen=True, kw_only=True)
class ShardIndex:
    """The checked index of one shard. entries: its bytes without the checksum."""

    entries: bytes

    def span(self, slot: int) -> Span | None:
        """Where a slot's chunk lies; None where the slot is empty."""
        offset, length = _ENTRY.unpack_from(self.entries, slot * ENTRY_BYTES)
        return None if offset == _ABSENT else (offset, length)

    def stored(self) -> npt.NDArray[np.int64]:
        """Numbers of the slots that hold a chunk, ascending."""
        return np.flatnonzero(np.frombuffer(self.entries, dtype="<u8")[::2] != _ABSENT)


def shard_pieces(chunks: Iterable[bytes | None], *, slots: int) -> Iterator[bytes]:
    """The bytes of a shard piece by piece: chunks in the order of their slots, None for an empty one, then the index.

    slots: chunks a shard holds; chunks may be fewer (the last shard of an array), never more.
    """
    index = np.full((slots, 2), _ABSENT, dtype="<u8")
    offset = 0
    for slot, chunk in enumerate(chunks):
        if chunk is not None:
            index[slot] = (offset, len(chunk))
            offset += len(chunk)
            yield chunk
    entries = index.tobytes()
    yield entries + crc32c(entries)


def index_bytes(slots: int) -> int:
    """Length of the index of so many slots, checksum included."""
    return slots * ENTRY_BYTES + CRC_BYTES


def read_index(read_range: Callable[[int, int], bytes], *, file_bytes: int, slots: int, longest: int) -> ShardIndex:
    """Reads and checks the index of a shard.

    read_range: gives bytes [start, stop) of the shard.
    file_bytes: size of the shard.
    slots: chunks that a shard of the array holds.
    longest: bytes that no chunk exceeds, checksum included.
    Raises ValueError stating what is wrong with the index.
    """
    start = file_bytes - index_bytes(slots)
    if start < 0:
        raise ValueError(f"{file_bytes} bytes, too few for an index of {slots} chunks")
    return parse_index(read_range(start, file_bytes), file_bytes=file_bytes, longest=longest)


def parse_index(content: bytes, *, file_bytes: int, longest: int) -> ShardIndex:
    """Checks the bytes of an index, as read_index.

    The chunks must fill the file from its start to the index in the order of their slots, as this pipeline and
    zarr-python write them. So entries that were swapped, overlap or leave a hole are found although a checksum holds.
    """
    try:
        entries = checked_payload(content)
    except ValueError:
        raise ValueError("the checksum of its index does not hold") from None
    table = np.frombuffer(entries, dtype="<u8").reshape(-1, 2)
    offsets, lengths = table[(table != _ABSENT).any(axis=1)].T
    if len(lengths) and (lengths.max() > longest or lengths.min() <= CRC_BYTES):
        raise ValueError(
            f"its index has chunks of {lengths.min()} to {lengths.max()} bytes, at most {longest} expected"
        )
    ends = np.cumsum(lengths, dtype=np.uint64)
    if not np.array_equal(offsets, ends - lengths) or (ends[-1] if len(ends) else 0) != file_bytes - len(content):
        raise ValueError("the chunks of its index do not follow one another from the start to the index")
    return ShardIndex(entries=entries)
