"""Random chunks of a release's images, each checked by the crc32c at its end, without reading whole shards."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from sar1m.store.chunks import ABSENT, crc32c
from sar1m.store.errors import StoreError, UnreachableError
from sar1m.store.places.place import Place
from sar1m.store.schema import DATA_DIR
from sar1m.store.seal import Fault, SealedFile

_SHARD = re.compile(rf"({DATA_DIR}/[^/]+\.zarr/[^/]+)/c/\d+/0/0/0")  # see io.store.shard_path
_MAX_METADATA_BYTES: Final = 2**20
_MAX_SLOTS: Final = 2**16
_MAX_CHUNK_BYTES: Final = 2**28

Index = npt.NDArray[np.uint64]


def chunk_faults(place: Place, files: Mapping[str, SealedFile], count: int, seed: int) -> tuple[int, list[Fault]]:
    """How many chunks were read, and the damaged shards among those they lie in.

    Chunks are drawn shard by shard with replacement, shards by their size: every stored byte has about the same chance.
    """
    shards = [(name, array[1], files[name].size or 0) for name in files if (array := _SHARD.fullmatch(name))]
    total = sum(size for _, _, size in shards)
    if not total:
        return 0, []
    rng = np.random.default_rng([seed, count])
    numbers = rng.choice(len(shards), size=count, p=[size / total for _, _, size in shards])
    faults, read = [], 0
    for number, wanted in zip(*np.unique(numbers, return_counts=True), strict=True):
        name, array, size = shards[number]
        try:
            index = _read_index(place, name, size, _slots(place, array))
            stored = np.flatnonzero(index[:, 1] != ABSENT)
            for slot in rng.permutation(stored)[:wanted]:
                _check_chunk(place, name, slot, index[slot], size)
                read += 1
        except UnreachableError:
            raise
        except StoreError as error:
            faults.append(Fault(path=name, found=str(error)))
    return read, faults


def _slots(place: Place, array: str) -> int:
    """Chunks a shard, from the array's metadata."""
    try:
        metadata = json.loads(place.read(f"{array}/zarr.json", max_bytes=_MAX_METADATA_BYTES))
        shard = metadata["chunk_grid"]["configuration"]["chunk_shape"][0]
        slots = shard // metadata["codecs"][0]["configuration"]["chunk_shape"][0]
    except (ValueError, KeyError, IndexError, TypeError, ZeroDivisionError, RecursionError):
        slots = 0
    if not isinstance(slots, int) or not 0 < slots <= _MAX_SLOTS:
        raise StoreError(f"{array}/zarr.json does not describe an array of shards")
    return slots


def _read_index(place: Place, name: str, size: int, slots: int) -> Index:
    """(slots, 2): offset and length of every chunk, at the end of the shard, followed by their crc32c."""
    length = 16 * slots + 4
    if size < length:
        raise StoreError(f"{size} bytes, too few for an index of {slots} chunks")
    content = place.read_range(name, size - length, size)
    if crc32c(content[:-4]) != content[-4:]:
        raise StoreError("the checksum of its index does not hold")
    return np.frombuffer(content[:-4], dtype="<u8").reshape(slots, 2)


def _check_chunk(place: Place, name: str, slot: int, entry: Index, size: int) -> None:
    offset, length = int(entry[0]), int(entry[1])
    if not 4 < length <= _MAX_CHUNK_BYTES or offset + length > size:
        raise StoreError(f"its index puts chunk {slot} outside the file")
    content = place.read_range(name, offset, offset + length)
    if crc32c(content[:-4]) != content[-4:]:
        raise StoreError(f"the checksum of chunk {slot} does not hold")
