"""Chunks of an image array of a release, wherever it lies, by byte ranges: no byte of another sample comes along."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, Final

from sar1m.io.zarr_groups import ImageArray
from sar1m.releases.build_pixels import array_hash, decode_pixels
from sar1m.store.array_metadata import (
    check_array,
    chunk_codecs,
    image_shape,
    linear_encoding,
    named_codec,
    shard_slots,
)
from sar1m.store.chunks import Compression, checked_payload, most_chunk_bytes
from sar1m.store.errors import StoreError
from sar1m.store.places.place import Place
from sar1m.store.schema import ArrayLayout
from sar1m.store.seal import REMEDY, SealedFile
from sar1m.store.shard_index import ShardIndex, index_bytes, read_index, shard_name

AT_ONCE: Final = 16  # ranges on their way at a time
_AHEAD: Final = 64  # chunks in memory
_RANGE_BYTES: Final = 8 * 2**20  # neighbours are asked for together up to here
_COMPRESSIONS: Final[Mapping[tuple[str, ...], Compression]] = {
    ("bytes", "blosc", "crc32c"): "blosc-lz4",
    ("bytes", "crc32c"): "none",
}

Span = tuple[str, int, int]  # file, start, stop


def described_image(name: str, meta: Mapping[str, Any], shown: str) -> ImageArray:
    """An image array as its zarr.json describes it. Raises StoreError where that is none of a store's."""
    check_array(meta, shown)
    encoding = linear_encoding(meta, shown)
    codecs = tuple(named_codec(codec)[0] for codec in chunk_codecs(meta, shown))
    if codecs not in _COMPRESSIONS:
        raise StoreError(f"{shown}: chunks of codecs {', '.join(codecs)[:80]}; bytes, blosc, crc32c expected. {REMEDY}")
    layout = ArrayLayout(
        name=name,
        dims=tuple(meta.get("dimension_names") or ()),
        sample_shape=image_shape(meta, shown)[1:],
        dtype=encoding.dtype,
        shard_samples=shard_slots(meta, shown),
    )
    return ImageArray(layout=layout, encoding=encoding, compression=_COMPRESSIONS[codecs], labels=())


class ArrayChunks:
    """The chunks of one array of one split. Indices of shards are kept (16 bytes a sample), chunks are not.

    files: of the release or part, by name. read_bytes: of ranges, so far. pool: where they are read.
    """

    def __init__(
        self, place: Place, files: Mapping[str, SealedFile], group: str, image: ImageArray, pool: Executor
    ) -> None:
        self._place, self._files, self._group, self.image, self._pool = place, files, group, image, pool
        self._indices: dict[int, ShardIndex | None] = {}
        self.read_bytes = 0

    def elsewhere(self, place: Place, files: Mapping[str, SealedFile]) -> ArrayChunks:
        """The same array in another place."""
        return ArrayChunks(place, files, self._group, self.image, self._pool)

    def span(self, number: int) -> Span | None:
        """Where the chunk of a sample lies, None where it has none. StoreError for a shard that cannot be used."""
        shard, slot = divmod(number, self.image.layout.shard_samples)
        if shard not in self._indices:
            self._indices[shard] = self._index(shard)
        index = self._indices[shard]
        found = None if index is None else index.span(slot)
        return None if found is None else (self._name(shard), found[0], sum(found))

    def chunks(self, numbers: Sequence[int | None]) -> Iterator[bytes | None]:
        """The chunks of samples in this order, None for None. Neighbours in a shard come in one range, and nothing else
        comes. Raises StoreError where a sample has no chunk or its checksum does not hold."""
        for begin in range(0, len(numbers), _AHEAD):
            some = numbers[begin : begin + _AHEAD]
            self._learn({number // self.image.layout.shard_samples for number in some if number is not None})
            spans = [None if number is None else self._required(number) for number in some]
            yield from self._read(spans)

    def present(self, numbers: Sequence[int]) -> list[int | None]:
        """The same numbers, None in place of those that have no chunk."""
        self._learn({number // self.image.layout.shard_samples for number in numbers})
        return [None if self.span(number) is None else number for number in numbers]

    def hashes(self, numbers: Sequence[int | None]) -> Iterator[str | None]:
        """blake2b-128 of the decoded pixels of samples, as provenance/lock.parquet has it; None for None."""
        for number, chunk in zip(numbers, self.chunks(numbers), strict=True):
            yield None if chunk is None else self.hash_of(chunk, f"sample {number}")

    def hash_of(self, chunk: bytes, origin: str) -> str:
        """The same of one chunk. Raises StoreError naming origin where it does not decode."""
        where = f"{self._place.location}/{self._group}, {origin}"
        return array_hash(decode_pixels(chunk, self.image, origin=where), self.image.layout.name)

    def _learn(self, shards: set[int]) -> None:
        new = sorted(shards - self._indices.keys())
        self._indices.update(zip(new, self._pool.map(self._index, new), strict=True))

    def _index(self, shard: int) -> ShardIndex | None:
        name, layout = self._name(shard), self.image.layout
        sealed = self._files.get(name)
        if sealed is None:
            return None
        self.read_bytes += index_bytes(layout.shard_samples)
        try:
            return read_index(
                lambda start, stop: self._place.read_range(name, start, stop),
                file_bytes=sealed.size or 0,
                slots=layout.shard_samples,
                longest=most_chunk_bytes(layout.sample_bytes),
            )
        except ValueError as error:
            raise StoreError(f"{self._place.location}/{name}: {error}. {REMEDY}") from error

    def _required(self, number: int) -> Span:
        found = self.span(number)
        if found is None:
            name = self._name(number // self.image.layout.shard_samples)
            raise StoreError(f"{self._place.location}/{name}: sample {number} of the split has no chunk. {REMEDY}")
        return found

    def _read(self, spans: Sequence[Span | None]) -> Iterator[bytes | None]:
        ranges = _joined([span for span in spans if span is not None])
        contents = dict(zip(ranges, self._pool.map(lambda one: self._place.read_range(*one), ranges), strict=True))
        self.read_bytes += sum(map(len, contents.values()))
        for span in spans:
            if span is None:
                yield None
                continue
            name, start, stop = span
            first, content = next(
                (begin, found)
                for (file, begin, end), found in contents.items()
                if file == name and begin <= start < end
            )
            chunk = content[start - first : stop - first]
            try:
                checked_payload(chunk)
            except ValueError as error:
                raise StoreError(f"{self._place.location}/{name}: bytes {start} to {stop}: {error}. {REMEDY}") from None
            yield chunk

    def _name(self, shard: int) -> str:
        return f"{self._group}/{shard_name(self.image.layout.name, shard)}"


def _joined(spans: Sequence[Span]) -> list[Span]:
    """The spans with neighbours joined, in their order."""
    joined: list[Span] = []
    for name, start, stop in spans:
        if joined and joined[-1][0] == name and joined[-1][2] == start and stop - joined[-1][1] <= _RANGE_BYTES:
            joined[-1] = (name, joined[-1][1], stop)
        else:
            joined.append((name, start, stop))
    return joined
