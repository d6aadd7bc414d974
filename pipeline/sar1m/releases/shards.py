"""Encoded chunks out of the shards of finished builds: found by a shard's index, believed by their checksums."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numcodecs.blosc import Blosc

from sar1m.io.zarr_groups import ImageArray, shard_path
from sar1m.store.chunks import ABSENT, crc32c
from sar1m.store.errors import StoreError

CRC_BYTES = 4
ENTRY_BYTES = 16  # offset and length of a slot, uint64 each
BLOSC_HEADER_BYTES = 16  # bytes 4..8 tell the size before compression, little-endian (Blosc 1 format)
REMEDY = "Check the build with `sar1m verify` and build it again."


class ShardReader:
    """Chunks of the arrays of one split's group. Indices are kept (16 bytes a sample and array), pixels are not."""

    def __init__(self, group: Path, images: Sequence[ImageArray]) -> None:
        self._group = group
        self._images = {image.layout.name: image for image in images}
        self._indices: dict[tuple[str, int], npt.NDArray[np.uint64]] = {}

    def chunk(self, array: str, number: int) -> bytes:
        """The encoded chunk of the sample at position number, checksum included and verified.

        Raises StoreError naming the shard where it is missing or damaged, or has no such chunk.
        """
        slots = self._images[array].layout.shard_samples
        shard, slot = divmod(number, slots)
        path = shard_path(self._group, array, shard)
        offset, length = self._index(array, shard, path)[slot].tolist()
        if offset == ABSENT:
            raise StoreError(f"{path}: has no chunk in slot {slot}, but the tables promise one. {REMEDY}")
        try:
            with path.open("rb") as stream:
                stream.seek(offset)
                chunk = stream.read(length)
        except OSError as error:
            raise StoreError(f"{path}: cannot be read ({error.strerror}). {REMEDY}") from error
        if len(chunk) != length or length <= CRC_BYTES or crc32c(chunk[:-CRC_BYTES]) != chunk[-CRC_BYTES:]:
            raise StoreError(f"{path}: damaged: the checksum of slot {slot} does not hold. {REMEDY}")
        return chunk

    def _index(self, array: str, shard: int, path: Path) -> npt.NDArray[np.uint64]:
        if (array, shard) not in self._indices:
            self._indices[array, shard] = _read_index(path, self._images[array].layout.shard_samples)
        return self._indices[array, shard]


def _read_index(path: Path, slots: int) -> npt.NDArray[np.uint64]:
    length = slots * ENTRY_BYTES + CRC_BYTES
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(size - length, 0))
            tail = stream.read(length)
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror}). {REMEDY}") from error
    if len(tail) != length or crc32c(tail[:-CRC_BYTES]) != tail[-CRC_BYTES:]:
        raise StoreError(f"{path}: damaged: the checksum of its index of {slots} slots does not hold. {REMEDY}")
    index: npt.NDArray[np.uint64] = np.frombuffer(tail[:-CRC_BYTES], dtype="<u8").reshape(slots, 2)
    there = index[:, 0] != ABSENT
    if (index[there].sum(axis=1) > size - length).any():
        raise StoreError(f"{path}: damaged: its index points beyond the file. {REMEDY}")
    return index


def decode_chunk(chunk: bytes, image: ImageArray, *, origin: str) -> npt.NDArray[np.unsignedinteger]:
    """Digital numbers (C, H, W) of a chunk whose checksum holds. Raises StoreError naming origin where the chunk is of
    another size than the layout says; that is looked at before memory is taken."""
    layout, payload = image.layout, chunk[:-CRC_BYTES]
    raw = image.compression == "none"
    claimed = len(payload) if raw else int.from_bytes(payload[4:8], "little")
    if claimed != layout.sample_bytes or (not raw and len(payload) < BLOSC_HEADER_BYTES):
        raise StoreError(f"{origin}: a chunk of {claimed} bytes, expected {layout.sample_bytes}. {REMEDY}")
    try:
        pixels = payload if raw else Blosc().decode(payload)
    except (RuntimeError, ValueError) as error:
        raise StoreError(f"{origin}: a chunk cannot be decompressed ({error}). {REMEDY}") from error
    return np.frombuffer(pixels, dtype=np.dtype(layout.dtype).newbyteorder("<")).reshape(layout.sample_shape)


def array_hash(dn: npt.NDArray[np.unsignedinteger], array: str) -> str:
    """blake2b-128, hexadecimal, of one sample's decoded digital numbers: of `array|dtype|C,H,W` and the little-endian
    pixels. Of pixels and not of their compressed bytes, so that repacking changes no hash."""
    told = f"{array}|{dn.dtype.name}|{','.join(map(str, dn.shape))}|"
    pixels = np.ascontiguousarray(dn, dtype=dn.dtype.newbyteorder("<"))
    return hashlib.blake2b(told.encode() + pixels.tobytes(), digest_size=16).hexdigest()


def pixel_hash(by_array: Mapping[str, str]) -> str:
    """blake2b-128, hexadecimal, of all arrays a sample has: of lines `array hash` sorted by array."""
    lines = "".join(f"{array} {found}\n" for array, found in sorted(by_array.items()))
    return hashlib.blake2b(lines.encode(), digest_size=16).hexdigest()
