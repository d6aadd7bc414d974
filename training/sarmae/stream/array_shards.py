"""The shards of an array: where each sample's chunk lies, and its bytes read to where they are wanted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sar1m.store.chunks import most_chunk_bytes
from sar1m.store.errors import StoreError
from sar1m.store.places.place import ByteRange, Place
from sar1m.store.schema import group_name
from sar1m.store.seal import REMEDY
from sar1m.store.shard_index import ShardIndex, index_bytes, read_index, shard_name
from sarmae.stream.batch import ImageSpec, SplitIndex


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One shard: its name relative to the store, and its checked index."""

    name: str
    index: ShardIndex


class ArrayShards:
    """The shards of one array of a split. Each index is read at its first use and kept (16 bytes a slot).

    Safe for threads; two that ask for a new shard at once may both read its index.
    """

    def __init__(self, place: Place, split: SplitIndex, spec: ImageSpec) -> None:
        self._place, self._split, self._spec = place, split, spec
        self._shards: dict[int, Shard] = {}

    def name(self, number: int) -> str:
        """The shard's file, relative to the store."""
        return f"{group_name(self._split.split)}/{shard_name(self._spec.name, number)}"

    def shard(self, number: int) -> Shard:
        """A shard by its number. StoreError where it is missing, of another size than in the manifest, or its index
        is damaged."""
        shard = self._shards.get(number)
        if shard is None:
            shard = self._shards[number] = self._open(number)
        return shard

    def _open(self, number: int) -> Shard:
        name = self.name(number)
        shown = f"{self._place.location}/{name}"
        size = self._split.files.get(name)
        if size is None:
            raise StoreError(f"{shown}: this shard is missing from the store's manifest. {REMEDY}")
        try:
            try:
                return self._indexed(name, size)
            except ValueError:  # of a remote store, a damaged copy may lie in the cache
                self._place.forget(ByteRange(name=name, start=size - index_bytes(self._spec.slots), stop=size))
                return self._indexed(name, size)
        except ValueError as error:
            raise StoreError(f"{shown}: {error}. {REMEDY}") from error

    def _indexed(self, name: str, size: int) -> Shard:
        index = read_index(
            lambda start, stop: self._place.read_range(name, start, stop),
            file_bytes=size,
            slots=self._spec.slots,
            longest=most_chunk_bytes(self._spec.sample_bytes),
        )
        return Shard(name=name, index=index)

    def forget(self, shard: Shard, start: int, length: int) -> None:
        """Throws away what is cached of a chunk that turned out damaged."""
        self._place.forget(ByteRange(name=shard.name, start=start, stop=start + length))

    def fill(self, shard: Shard, start: int, *buffers: np.ndarray) -> None:
        """Reads bytes from offset start into buffers (uint8, contiguous), one after another, without a copy between.
        StoreError where that cannot be."""
        self._place.read_into(shard.name, start, *(buffer.data for buffer in buffers))
