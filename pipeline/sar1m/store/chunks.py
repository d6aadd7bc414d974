"""Encoded chunks and whole shards of the Zarr v3 sharding format.

A chunk is one sample: little-endian pixels, optionally blosc-lz4 with bit shuffle, then crc32c. A shard is up to
shard_samples chunks, followed by the index: (offset, length) of every slot as little-endian uint64 and its crc32c.
Chunks are encoded once, when they are staged; a shard is put together from encoded bytes. Writing through
zarr-python costs three times the CPU; a test reads every such shard with zarr-python.
Source: Zarr v3 core specification and its sharding-indexed codec, version 1.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import google_crc32c
import numpy as np
from numcodecs.blosc import Blosc
from zarr.codecs import BloscCodec, Crc32cCodec

from sar1m.store.errors import StoreError

Compression = Literal["blosc-lz4", "none"]
BLOSC_LEVEL = 5
ABSENT = np.uint64(2**64 - 1)  # offset and length of an empty slot


def crc32c(payload: bytes) -> bytes:
    """The four little-endian bytes of the Castagnoli checksum."""
    return int(google_crc32c.value(payload)).to_bytes(4, "little")


def encode_chunk(dn: np.ndarray, compression: Compression) -> bytes:
    """One sample's digital numbers (any shape, unsigned integers) as the bytes of a chunk."""
    pixels = np.ascontiguousarray(dn, dtype=dn.dtype.newbyteorder("<"))
    if compression == "none":
        payload = pixels.tobytes()
    else:
        payload = bytes(Blosc(cname="lz4", clevel=BLOSC_LEVEL, shuffle=Blosc.BITSHUFFLE).encode(pixels))
    return payload + crc32c(payload)


def check_chunk(chunk: bytes, *, origin: str) -> bytes:
    """The chunk itself where its checksum holds. Raises StoreError naming origin where it does not."""
    if len(chunk) < 4 or crc32c(chunk[:-4]) != chunk[-4:]:
        raise StoreError(
            f"{origin}: damaged: its checksum does not hold. Delete that file and run the build again: "
            "the block is prepared anew."
        )
    return chunk


def zarr_compressors(dtype: str, compression: Compression) -> list[Any]:
    """The codecs by which zarr describes and reads what encode_chunk writes."""
    if compression == "none":
        return [Crc32cCodec()]
    blosc = BloscCodec(cname="lz4", clevel=BLOSC_LEVEL, shuffle="bitshuffle", typesize=np.dtype(dtype).itemsize)
    return [blosc, Crc32cCodec()]


def shard_pieces(chunks: Iterator[bytes | None], *, slots: int) -> Iterator[bytes]:
    """The bytes of a shard piece by piece: chunks in the order of their slots, None for an empty one, then the index.

    slots: chunks a shard holds; chunks may be fewer (the last shard of an array), never more.
    """
    index = np.full((slots, 2), ABSENT, dtype="<u8")
    offset = 0
    for slot, chunk in enumerate(chunks):
        if chunk is not None:
            index[slot] = (offset, len(chunk))
            offset += len(chunk)
            yield chunk
    encoded_index = index.tobytes()
    yield encoded_index + crc32c(encoded_index)
