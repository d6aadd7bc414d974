"""Encoded chunks, one sample each: written, checked and decoded here alone.

A chunk is little-endian pixels, optionally blosc-lz4 with bit shuffle, then crc32c. Chunks are encoded once, when they
are staged; shards are put together from encoded bytes. Writing through zarr-python costs three times the CPU; a test
reads every such shard with zarr-python.
A chunk's header is untrusted: what it claims to unpack to is compared with the sample's size before anything is
unpacked or allocated (a 32 KB chunk can claim 1 GiB).
Source: Zarr v3 core specification, codecs bytes, blosc and crc32c; header of c-blosc 1 (README_CHUNK_FORMAT).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final, Literal

import google_crc32c
import numpy as np
import numpy.typing as npt
from numcodecs import blosc

from sar1m.store.schema import ArrayLayout

Compression = Literal["blosc-lz4", "none"]
BLOSC_LEVEL: Final = 5
CRC_BYTES: Final = 4

_CRC = struct.Struct("<I")
_BLOSC_HEADER = struct.Struct("<BBBBIII")  # version, version of lz4, flags, typesize, nbytes, blocksize, cbytes
_BLOSC_VERSION = 2
_BLOSC_LZ4 = 1  # upper three bits of flags


def crc32c(payload: bytes) -> bytes:
    """The four little-endian bytes of the Castagnoli checksum."""
    return _CRC.pack(google_crc32c.value(payload))


def most_chunk_bytes(sample_bytes: int) -> int:
    """No encoded chunk of such a sample is longer: its pixels, what compressors add to noise, and the checksum."""
    return sample_bytes + sample_bytes // 128 + 1024


def encode_chunk(dn: np.ndarray, compression: Compression) -> bytes:
    """One sample's digital numbers (any shape, unsigned integers) as the bytes of a chunk."""
    pixels = np.ascontiguousarray(dn, dtype=dn.dtype.newbyteorder("<"))
    if compression == "none":
        payload = pixels.tobytes()
    else:
        compressor = blosc.Blosc(cname="lz4", clevel=BLOSC_LEVEL, shuffle=blosc.Blosc.BITSHUFFLE)
        payload = bytes(compressor.encode(pixels))
    return payload + crc32c(payload)


def checked_payload(chunk: bytes) -> bytes:
    """What stands before the checksum at the end of a chunk or of an index. ValueError where that does not hold."""
    payload = chunk[:-CRC_BYTES]
    if len(chunk) < CRC_BYTES or crc32c(payload) != chunk[-CRC_BYTES:]:
        raise ValueError("its checksum does not hold")
    return payload


def chunk_checksum(chunk: bytes | None) -> int:
    """The crc32c that a chunk ends in, as it stands there; 0 for no chunk."""
    return 0 if chunk is None else int(_CRC.unpack(chunk[-CRC_BYTES:])[0])


def noting_checksums(chunks: Iterable[bytes | None], checksums: list[int]) -> Iterator[bytes | None]:
    """The same chunks; the checksum of each is noted as it passes."""
    for chunk in chunks:
        checksums.append(chunk_checksum(chunk))
        yield chunk


def check_crc(payload: np.ndarray, stored: np.ndarray, expected: int | None = None) -> None:
    """Raises ValueError unless the four bytes stored are the payload's crc32c. Both uint8, contiguous.

    expected: the checksum of the chunk that belongs in this place; None where the store does not say."""
    found = google_crc32c.value(payload)
    if found != _CRC.unpack(stored.data)[0]:
        raise ValueError("the checksum of its chunk does not hold")
    if expected is not None and found != expected:
        raise ValueError(
            f"its chunk is whole, but not this sample's: its checksum is {found:#010x}, that of the sample "
            f"{expected:#010x}; chunks or shards were swapped, or are of another version"
        )


def decode_chunk(chunk: bytes, layout: ArrayLayout, compression: Compression) -> npt.NDArray[np.unsignedinteger]:
    """Digital numbers (C, H, W) of a chunk whose checksum holds. Raises ValueError stating why it is no sample of this
    layout."""
    payload = np.frombuffer(chunk, dtype=np.uint8)[:-CRC_BYTES]
    dtype = np.dtype(layout.dtype)
    if compression == "none":
        if len(payload) != layout.sample_bytes:
            raise ValueError(f"its chunk has {len(payload)} bytes of pixels, a sample has {layout.sample_bytes}")
        row = payload
    else:
        check_blosc_lz4(payload, layout.sample_bytes, dtype.itemsize)
        row = np.empty(layout.sample_bytes, dtype=np.uint8)
        _unpack(payload, row)
    return row.view(dtype.newbyteorder("<")).reshape(layout.sample_shape)


def keep_blosc_single_threaded() -> None:
    """Keeps blosc's own threads out of this process, as zarr-python does: they serialise on one global lock."""
    blosc.use_threads = False


def decode_blosc_lz4(payload: np.ndarray, row: np.ndarray, itemsize: int) -> None:
    """Unpacks a chunk (without its checksum) into a row, both uint8; releases the GIL meanwhile. ValueError stating
    what is wrong with the payload; the row is undefined then."""
    check_blosc_lz4(payload, row.nbytes, itemsize)
    _unpack(payload, row)


def check_blosc_lz4(payload: np.ndarray, sample_bytes: int, itemsize: int) -> None:
    """Raises ValueError unless the header claims one sample of such items, compressed by lz4."""
    flags, typesize = check_blosc_sizes(payload, sample_bytes)
    if typesize != itemsize or flags >> 5 != _BLOSC_LZ4:
        raise ValueError(f"its blosc header is of another codec (flags {flags:#04x}, items of {typesize} bytes)")


def check_blosc_sizes(payload: np.ndarray, sample_bytes: int) -> tuple[int, int]:
    """Flags and bytes an item of a blosc header. Raises ValueError unless it claims the right sizes."""
    if len(payload) < _BLOSC_HEADER.size:
        raise ValueError(f"{len(payload)} bytes are too few for a blosc chunk")
    version, _, flags, typesize, unpacked, block, packed = _BLOSC_HEADER.unpack_from(payload.data)
    if unpacked != sample_bytes:
        raise ValueError(f"it claims to unpack to {unpacked} bytes, a sample has {sample_bytes}")
    if packed != len(payload) or version != _BLOSC_VERSION or not 0 < block <= unpacked:
        raise ValueError(f"its blosc header is malformed (version {version}, {packed} bytes in blocks of {block})")
    return flags, typesize


def _unpack(payload: np.ndarray, row: np.ndarray) -> None:
    try:
        blosc.decompress(payload, row)
    except RuntimeError as error:
        raise ValueError(f"it does not unpack ({error})") from error
