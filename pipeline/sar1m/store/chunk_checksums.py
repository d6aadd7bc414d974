"""The checksums of a split's chunks by sample, which bind every chunk to its place.

A chunk ends in its crc32c, which holds wherever the chunk lies. Beside an image array such as `sar` stands an array
`sar_crc32c` (sample) uint32 with the same numbers by sample, 0 where a sample has no chunk. So a reader sees at no cost
that a chunk is another sample's, and a whole store can be compared by reading these four bytes of every chunk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sar1m.store.array_metadata import check_array, image_shape, shard_slots
from sar1m.store.chunks import CRC_BYTES, checked_payload
from sar1m.store.errors import StoreError, UnreachableError
from sar1m.store.places.place import Place
from sar1m.store.seal import Seal, StoreFault, content_faults
from sar1m.store.seal_text import parse_object
from sar1m.store.shard_index import SHARD_NAME, index_bytes, read_index

U32 = npt.NDArray[np.uint32]

_AT_ONCE: Final = 16  # ranges on their way at a time
_MAX_METADATA_BYTES: Final = 2**20
_MAX_CHUNK_BYTES: Final = 2**28


def checksums_name(array: str) -> str:
    """The array of checksums beside an image array."""
    return f"{array}_crc32c"


def joined_checksums(shards: Mapping[int, Sequence[int]], *, samples: int, slots: int) -> U32:
    """(samples,) checksums from those of each shard by number: one a slot, 0 for an empty one. Samples of shards that
    are not given have 0. slots: samples a shard has room for."""
    whole = np.zeros(samples, dtype=np.uint32)
    for number, found in shards.items():
        whole[number * slots : number * slots + len(found)] = found
    return whole


@dataclass(frozen=True, kw_only=True, eq=False)
class _BoundArray:
    """An image array and its checksums, padded with 0 to whole shards."""

    slots: int
    checksums: U32

    def of_shard(self, number: int) -> U32:
        return self.checksums[number * self.slots : (number + 1) * self.slots]


class QuickComparison:
    """Compares a store with its seal without reading the pixels.

    Small files are compared by sha256. Of a shard its index is read, and of each of its chunks the four bytes at its
    end; these must be the checksums by sample. So files, shards and chunks that are missing, added, swapped, older or
    of other samples are found; bytes that flipped inside a chunk are not.

    chunks, read_bytes: compared so far.
    """

    def __init__(self) -> None:
        self.chunks = 0
        self.read_bytes = 0

    def __call__(self, place: Place, seal: Seal, names: Sequence[str]) -> Iterator[list[StoreFault]]:
        """As seal.content_faults: the faults of each file, small files first.

        Raises StoreError for a store without checksums by sample, of a schema before 1.3; UnreachableError where a
        server does not answer.
        """
        shards = {name: found for name in names if (found := SHARD_NAME.fullmatch(name))}
        for array in sorted({found["array"] for found in shards.values()}):
            if f"{checksums_name(array)}/zarr.json" not in seal.files:
                raise StoreError(
                    f"{place.location}: {array} has no checksums by sample, which stores have since schema 1.3. Verify "
                    "it without --quick."
                )
        small = [name for name in names if name not in shards]
        for name, faults in zip(small, content_faults(place, seal, small), strict=True):
            self.read_bytes += seal.files[name].size or 0
            yield faults
        arrays: dict[str, _BoundArray | StoreFault] = {}
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for name, found in shards.items():
                array = found["array"]
                if array not in arrays:
                    arrays[array] = _bound_array(place, seal, array)
                bound = arrays[array]
                if isinstance(bound, StoreFault):
                    yield [bound]
                    continue
                wrong = self._wrong(place, name, seal.files[name].size, bound.of_shard(int(found["number"])), pool)
                yield [StoreFault(path=name, found=wrong)] if wrong else []

    def _wrong(self, place: Place, name: str, size: int | None, expected: U32, pool: Executor) -> str:
        """What is wrong with a shard; empty for nothing. expected: a checksum a slot."""
        try:
            size = place.size(name) or 0 if size is None else size
            index = read_index(
                lambda start, stop: place.read_range(name, start, stop),
                file_bytes=size,
                slots=len(expected),
                longest=_MAX_CHUNK_BYTES,
            )
            stored = index.stored()
            ends = [sum(index.span(int(slot)) or (0, 0)) for slot in stored]
            trailers = pool.map(lambda end: place.read_range(name, end - CRC_BYTES, end), ends)
            found = np.zeros(len(expected), dtype=np.uint32)
            found[stored] = np.frombuffer(b"".join(trailers), dtype="<u4")
        except UnreachableError:
            raise
        except (StoreError, ValueError) as error:
            return str(error)
        self.chunks += len(stored)
        self.read_bytes += index_bytes(len(expected)) + CRC_BYTES * len(stored)
        other = np.flatnonzero(found != expected)
        if not len(other):
            return ""
        shown = ", ".join(map(str, other[:5].tolist())) + (f" and {len(other) - 5} more" if len(other) > 5 else "")
        return f"the chunks in slots {shown} are not those of its samples, by their checksums"


def _bound_array(place: Place, seal: Seal, array: str) -> _BoundArray | StoreFault:
    """An array by its group and name (data/train.zarr/sar); the fault where its metadata or checksums are damaged."""
    described, chunk = f"{array}/zarr.json", f"{checksums_name(array)}/c/0"
    try:
        meta = parse_object(place.read(described, max_bytes=_MAX_METADATA_BYTES))
        check_array(meta, described)
        slots, samples = shard_slots(meta, described), image_shape(meta, described)[0]
        checksums = np.zeros(-(-samples // slots) * slots, dtype=np.uint32)
        if chunk in seal.files:  # zarr writes none where all are 0
            content = place.read(chunk, max_bytes=samples * checksums.itemsize + CRC_BYTES)
            checksums[:samples] = np.frombuffer(checked_payload(content), dtype="<u4")
    except UnreachableError:
        raise
    except (StoreError, ValueError) as error:
        return StoreFault(path=chunk, found=f"its checksums by sample cannot be used: {error}")
    return _BoundArray(slots=slots, checksums=checksums)
