"""Reads the pixels of samples straight into the rows of a batch: read, verify the checksum, decode; no copies between.

Threads are the caller's: read_into is safe to call from many at once for different rows, and releases the GIL while it
reads and decodes.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from sar1m.store.array_metadata import chunk_codecs
from sar1m.store.chunks import CRC_BYTES, check_crc, decode_blosc_lz4, keep_blosc_single_threaded, most_chunk_bytes
from sar1m.store.errors import StoreError, UnreachableError
from sar1m.store.places.place import ByteRange, Place
from sar1m.store.schema import NODATA_DN, group_name
from sar1m.store.seal import REMEDY, read_manifest
from sarmae.errors import ChunkError
from sarmae.stream.array_shards import ArrayShards, Shard
from sarmae.stream.batch import ImageSpec, SplitIndex
from sarmae.stream.codecs import ZarrDecoder
from sarmae.stream.sealed import SealedFiles

NEAR_BYTES = 64 * 1024  # a gap between chunks that costs less to fetch than another request
RANGE_BYTES = 8 * 2**20


class SplitReader:
    """Reads samples of one split by number. optical: False leaves the optical partners alone.

    Holds the indices of the shards used so far (16 bytes a sample and array) and, for each thread, one buffer of a
    chunk. Raises StoreError where codecs need zarr-python and are not as opened.
    """

    def __init__(self, index: SplitIndex, place: Place, *, optical: bool = True) -> None:
        keep_blosc_single_threaded()
        self._index = index
        self._paired = index.paired
        self._sar = _Images(place, index, index.sar)
        self._optical = _Images(place, index, index.optical) if optical and index.optical else None

    def read_into(
        self, samples: np.ndarray, rows: np.ndarray, sar: np.ndarray, optical: np.ndarray | None
    ) -> list[ChunkError]:
        """Fills rows of a batch with digital numbers: sample samples[i] goes to row rows[i].

        samples, rows: (n,) integers; sar: (B, P, H, W) uint16; optical: (B, C, H, W) in the store's dtype, or None;
        both C-contiguous. An unpaired sample's optical row becomes 0 (no data). Returns a fault for every sample whose
        chunk is missing, damaged or cannot be read: its rows are 0 throughout and must not be used. Raises ValueError
        where numbers or arrays do not fit the split, UnreachableError where a server fails.
        """
        _check_numbers("samples", samples, len(self._index))
        _check_numbers("rows", rows, len(sar))
        sar_rows = _row_bytes(sar, self._sar.spec)
        images = None if optical is None else self._partners()
        optical_rows = None if images is None or optical is None else _row_bytes(optical, images.spec)
        faults = []
        for sample, row in zip(samples.tolist(), rows.tolist(), strict=True):
            try:
                self._sar.read(sample, sar_rows[row])
                if images is not None and optical_rows is not None:
                    if self._paired[sample]:
                        images.read(sample, optical_rows[row])
                    else:
                        optical_rows[row] = NODATA_DN
            except ChunkError as fault:
                faults.append(fault)
                sar_rows[row] = NODATA_DN
                if optical_rows is not None:
                    optical_rows[row] = NODATA_DN
        return faults

    def ranges(self, samples: np.ndarray) -> list[ByteRange]:
        """The byte ranges to prefetch before read_into reads these samples.

        Chunks up to NEAR_BYTES apart are joined, to ranges of RANGE_BYTES at most. Samples without a chunk, or in a
        shard that cannot be read, are left out: read_into reports them. Raises as read_into."""
        _check_numbers("samples", samples, len(self._index))
        found = self._sar.ranges(samples)
        if self._optical is not None:
            found += self._optical.ranges(samples[self._paired[samples]])
        return found

    def _partners(self) -> _Images:
        if self._optical is None:
            raise ValueError(f"{self._index.location}: no optical array here, or opened with optical=False.")
        return self._optical


class _Images:
    """The samples of one image array."""

    def __init__(self, place: Place, index: SplitIndex, spec: ImageSpec) -> None:
        self.spec = spec
        self._index = index
        self._shards = ArrayShards(place, index, spec)
        self._own = threading.local()
        self._checksums = index.checksums.get(spec.name)
        self._chain = _stored_chain(place, index, spec) if spec.codec == "zarr" else []
        self._decode = {"none": self._copy, "blosc-lz4": self._unpack, "zarr": self._fall_back}[spec.codec]

    def read(self, sample: int, row: np.ndarray) -> None:
        """Fills row, (sample_bytes,) uint8. ChunkError where that cannot be; the row is undefined then."""
        number, slot = divmod(sample, self.spec.slots)
        try:
            shard = self._shards.shard(number)
            span = shard.index.span(slot)
            if span is None:
                raise ValueError("its chunk is missing")
            expected = None if self._checksums is None else int(self._checksums[sample])
            try:
                self._decode(shard, *span, row, expected)
            except ValueError:  # of a remote store, a damaged copy may lie in the cache
                self._shards.forget(shard, *span)
                self._decode(shard, *span, row, expected)
        except UnreachableError:
            raise
        except (StoreError, ValueError, OSError) as error:
            raise self._fault(sample, self._shards.name(number), error) from error

    def ranges(self, samples: np.ndarray) -> list[ByteRange]:
        """As SplitReader.ranges, of this array."""
        spans: list[tuple[str, int, int]] = []
        for sample in np.sort(samples).tolist():
            number, slot = divmod(sample, self.spec.slots)
            try:
                shard = self._shards.shard(number)
            except UnreachableError:
                raise
            except StoreError:
                continue
            if (span := shard.index.span(slot)) is not None:
                _join(spans, shard.name, *span)
        return [ByteRange(name=name, start=start, stop=stop) for name, start, stop in spans]

    def _copy(self, shard: Shard, start: int, length: int, row: np.ndarray, expected: int | None) -> None:
        if length != row.nbytes + CRC_BYTES:
            raise ValueError(f"its chunk has {length} bytes, expected {row.nbytes + CRC_BYTES}")
        stored = self._scratch(CRC_BYTES)
        self._shards.fill(shard, start, row, stored)
        check_crc(row, stored, expected)

    def _unpack(self, shard: Shard, start: int, length: int, row: np.ndarray, expected: int | None) -> None:
        decode_blosc_lz4(self._payload(shard, start, length, expected), row, np.dtype(self.spec.dtype).itemsize)

    def _fall_back(self, shard: Shard, start: int, length: int, row: np.ndarray, expected: int | None) -> None:
        decoder = getattr(self._own, "decoder", None)
        if decoder is None:
            decoder = self._own.decoder = ZarrDecoder(self.spec, self._chain)
        decoder(self._payload(shard, start, length, expected), row)

    def _payload(self, shard: Shard, start: int, length: int, expected: int | None) -> np.ndarray:
        """A chunk's bytes without their checksum, which held and is the sample's. This thread's next chunk overwrites
        them."""
        chunk = self._scratch(length)
        self._shards.fill(shard, start, chunk)
        check_crc(chunk[:-CRC_BYTES], chunk[-CRC_BYTES:], expected)
        return chunk[:-CRC_BYTES]

    def _scratch(self, nbytes: int) -> np.ndarray:
        buffer: np.ndarray | None = getattr(self._own, "buffer", None)
        if buffer is None:
            buffer = self._own.buffer = np.empty(most_chunk_bytes(self.spec.sample_bytes), dtype=np.uint8)
        return buffer[:nbytes]

    def _fault(self, sample: int, shard: str, error: Exception) -> ChunkError:
        index = self._index
        found = f"{error.strerror}" if isinstance(error, OSError) else f"{error}".removesuffix(f". {REMEDY}")
        where = f"{index.location}: split {index.split!r}, sample {sample} ({self.spec.name}), shard {shard}"
        return ChunkError(f"{where}: {found}. {REMEDY}", sample=sample)


def _stored_chain(place: Place, index: SplitIndex, spec: ImageSpec) -> list[dict[str, Any]]:
    """The codec chain of an array, read again from the zarr.json that the index's digest covers."""
    sealed = SealedFiles(place=place, digest=index.digest, sizes=index.files, sha256=read_manifest(place, index.digest))
    name = f"{group_name(index.split)}/{spec.name}/zarr.json"
    return chunk_codecs(sealed.read_json(name), sealed.shown(name))


def _join(spans: list[tuple[str, int, int]], name: str, start: int, length: int) -> None:
    """Appends a span, or lengthens the last one where it reaches this far. Spans come in the order of the file."""
    stop = start + length
    if spans:
        last, begin, end = spans[-1]
        if last == name and start - end <= NEAR_BYTES and stop - begin <= RANGE_BYTES:
            spans[-1] = (name, begin, max(stop, end))
            return
    spans.append((name, start, stop))


def _row_bytes(batch: np.ndarray, spec: ImageSpec) -> np.ndarray:
    """(B, sample_bytes) uint8 view of a batch."""
    if batch.dtype != spec.dtype or batch.shape[1:] != spec.sample_shape or not batch.flags.c_contiguous:
        raise ValueError(
            f"{spec.name}: rows of {batch.dtype} {batch.shape[1:]} (C-contiguous: {batch.flags.c_contiguous}), "
            f"expected {spec.dtype} {spec.sample_shape}, C-contiguous."
        )
    return batch.reshape(len(batch), -1).view(np.uint8)


def _check_numbers(what: str, numbers: np.ndarray, count: int) -> None:
    if numbers.size and not (numbers.min() >= 0 and numbers.max() < count):
        raise ValueError(f"{what}: {numbers.min()} to {numbers.max()}, expected numbers from 0 to {count - 1}.")
