"""Random chunks of a release's images, each checked by the crc32c at its end, without reading whole shards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from sar1m.store.array_metadata import check_array, shard_slots
from sar1m.store.chunks import checked_payload
from sar1m.store.errors import StoreError, UnreachableError
from sar1m.store.places.place import Place
from sar1m.store.seal import SealedFile, StoreFault
from sar1m.store.seal_text import parse_object
from sar1m.store.shard_index import SHARD_NAME, ShardIndex, read_index

_MAX_METADATA_BYTES: Final = 2**20
_MAX_CHUNK_BYTES: Final = 2**28


def chunk_faults(place: Place, files: Mapping[str, SealedFile], count: int, seed: int) -> tuple[int, list[StoreFault]]:
    """How many chunks were read, and the damaged shards among those they lie in.

    Chunks are drawn shard by shard with replacement, shards by their size: every stored byte has about the same chance.
    """
    shards = [(name, found["array"], files[name].size or 0) for name in files if (found := SHARD_NAME.fullmatch(name))]
    total = sum(size for _, _, size in shards)
    if not total:
        return 0, []
    rng = np.random.default_rng([seed, count])
    numbers = rng.choice(len(shards), size=count, p=[size / total for _, _, size in shards])
    faults, read = [], 0
    for number, wanted in zip(*np.unique(numbers, return_counts=True), strict=True):
        name, array, size = shards[number]
        try:
            index = _index_of(place, name, array, size)
            for slot in rng.permutation(index.stored())[:wanted]:
                _check_chunk(place, name, int(slot), index)
                read += 1
        except UnreachableError:
            raise
        except (StoreError, ValueError) as error:
            faults.append(StoreFault(path=name, found=str(error)))
    return read, faults


def _index_of(place: Place, name: str, array: str, size: int) -> ShardIndex:
    metadata = f"{array}/zarr.json"
    described = parse_object(place.read(metadata, max_bytes=_MAX_METADATA_BYTES))
    check_array(described, metadata)
    return read_index(
        lambda start, stop: place.read_range(name, start, stop),
        file_bytes=size,
        slots=shard_slots(described, metadata),
        longest=_MAX_CHUNK_BYTES,
    )


def _check_chunk(place: Place, name: str, slot: int, index: ShardIndex) -> None:
    offset, length = index.span(slot) or (0, 0)
    try:
        checked_payload(place.read_range(name, offset, offset + length))
    except ValueError:
        raise StoreError(f"the checksum of chunk {slot} does not hold") from None
