"""Samples of our own stores and releases as pairs, also remote: single chunks are read, never whole shards."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import pyarrow.parquet as pq

from sar1m.io.header import wkt_of
from sar1m.io.picture import Georeference
from sar1m.records import F32
from sar1m.releases.hub import open_release
from sar1m.store.array_metadata import (
    check_array,
    chunk_codecs,
    image_shape,
    linear_encoding,
    named_codec,
    shard_slots,
)
from sar1m.store.chunks import checked_payload, decode_chunk, most_chunk_bytes
from sar1m.store.errors import StoreError
from sar1m.store.places.place import Place
from sar1m.store.schema import SAMPLES_FILE, ArrayLayout, LinearEncoding, group_name
from sar1m.store.seal import require_seal
from sar1m.store.seal_text import MARKERS, parse_object
from sar1m.store.shard_index import ShardIndex, read_index, shard_name

MAX_TABLE_BYTES: Final = 2**31
MAX_METADATA_BYTES: Final = 2**20
_REMEDY: Final = "Check the store with `sar1m verify`."
_COLUMNS: Final = ("sample_id", "split", "index", "paired", "sar_product", "optical_product", "transform", "epsg")


@dataclass(frozen=True, kw_only=True)
class StoredPair:
    """A paired sample of a store or release. marker: which state of the store it was taken from."""

    name: str
    location: str
    split: str
    index: int
    sar: str
    optical: str
    transform: tuple[float, ...]
    epsg: int
    marker: str

    def state(self) -> list[object]:
        """What changes when what is measured does."""
        return [self.location, self.marker, self.name]

    @property
    def ground(self) -> Georeference:
        """Where the sample lies."""
        return Georeference(crs_wkt=wkt_of(self.epsg), transform=self.transform)

    def pixels(self, array: str) -> F32:
        """Decoded values (C, H, W) of sar (decibels) or optical, NaN without data. Raises StoreError where they are
        missing or damaged."""
        return _opened_array(self.location, f"{group_name(self.split)}/{array}").sample(self.index)


def stored_pairs(location: str) -> tuple[list[StoredPair], int]:
    """The paired samples of a store or release in the order of their names, and the number of those without partner.

    Raises StoreError where there is neither, or its tables are damaged.
    """
    place = open_release(location)
    seal = require_seal(place, MARKERS)
    content = place.read(SAMPLES_FILE, max_bytes=MAX_TABLE_BYTES)
    try:
        table = pq.read_table(io.BytesIO(content), columns=list(_COLUMNS))
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(f"{location}: {SAMPLES_FILE} cannot be read ({error}). {_REMEDY}") from error
    marker = hashlib.blake2b(seal.marker_bytes, digest_size=16).hexdigest()
    rows = [row for row in table.to_pylist() if row["paired"]]
    there = [row for row in rows if f"{group_name(row['split'])}/optical/zarr.json" in seal.files]
    pairs = [_pair(row, location, marker) for row in there]
    return sorted(pairs, key=lambda pair: pair.name), len(table) - len(rows)


def _pair(row: dict[str, Any], location: str, marker: str) -> StoredPair:
    return StoredPair(
        name=str(row["sample_id"]),
        location=location,
        split=str(row["split"]),
        index=int(row["index"]),
        sar=str(row["sar_product"]),
        optical=str(row["optical_product"]),
        transform=tuple(row["transform"]),
        epsg=int(row["epsg"]),
        marker=marker,
    )


class _StoredArray:
    """One image array of a split. Indices of shards are kept, pixels are not."""

    def __init__(self, place: Place, array: str) -> None:
        name = f"{array}/zarr.json"
        meta = parse_object(place.read(name, max_bytes=MAX_METADATA_BYTES))
        check_array(meta, name)
        self._place, self._array = place, array
        self._encoding: LinearEncoding = linear_encoding(meta, name)
        self._layout = ArrayLayout(
            name=array,
            dims=(),
            sample_shape=image_shape(meta, name)[1:],
            dtype=self._encoding.dtype,
            shard_samples=shard_slots(meta, name),
        )
        packed = any(named_codec(codec)[0] == "blosc" for codec in chunk_codecs(meta, name))
        self._compression: Any = "blosc-lz4" if packed else "none"
        self._indices: dict[int, ShardIndex] = {}

    def sample(self, number: int) -> F32:
        shard, slot = divmod(number, self._layout.shard_samples)
        name = shard_name(self._array, shard)
        try:
            if shard not in self._indices:
                self._indices[shard] = self._index(name)
            span = self._indices[shard].span(slot)
            if span is None:
                raise ValueError(f"slot {slot} holds no chunk, but the table lists its sample")
            chunk = self._place.read_range(name, span[0], sum(span))
            checked_payload(chunk)
            dn = decode_chunk(chunk, self._layout, self._compression)
        except ValueError as error:
            raise StoreError(f"{self._place.location}: {name}: damaged: {error}. {_REMEDY}") from error
        decoded: F32 = self._encoding.decode(dn)
        return decoded

    def _index(self, name: str) -> ShardIndex:
        size = self._place.size(name)
        if size is None:
            raise ValueError("missing")
        return read_index(
            lambda start, stop: self._place.read_range(name, start, stop),
            file_bytes=size,
            slots=self._layout.shard_samples,
            longest=most_chunk_bytes(self._layout.sample_bytes),
        )


@lru_cache(maxsize=8)
def _opened_array(location: str, array: str) -> _StoredArray:
    return _StoredArray(open_release(location), array)
