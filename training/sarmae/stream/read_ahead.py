"""One pass of a loader over its steps: threads read and decode ahead, into batches that come out whole and in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
import torch

from sarmae.errors import ChunkError
from sarmae.stream.batch import Batch, ImageSpec
from sarmae.stream.buffers import BufferPool, pinned
from sarmae.stream.loader_settings import LoaderSettings
from sarmae.stream.opening import Store
from sarmae.stream.order.sample_order import BlockRange

FETCHERS = 24  # blocks of remote stores fetched at once, two ranges each; CacheConfig.in_flight limits the requests
PIECE = 32  # samples that one task of the pool reads: some 10 ms of work, far more than the cost of a task


@dataclass(frozen=True, kw_only=True)
class BatchRequest:
    """The samples of a batch that is to be read, and what of remote stores is to be fetched for it.

    store: (B,) number of each sample's store. sample: (B,) its number in the split of that store. blocks: the runs of
    samples that this batch waits for, each fetched in one go. ahead: these and the runs of the next batches, whose
    fetching begins now.
    """

    epoch: int
    step: int
    store: np.ndarray
    sample: np.ndarray
    blocks: tuple[BlockRange, ...] = ()
    ahead: tuple[BlockRange, ...] = ()


@dataclass(frozen=True, kw_only=True)
class UnreadSample:
    """A sample that could not be read, and the rows of the batch that should have held it."""

    rows: list[int]
    error: ChunkError


@dataclass(frozen=True, kw_only=True)
class _Pending:
    batch: Batch
    pieces: list[Future[list[UnreadSample]]]


class Reading:
    """Reads batches ahead. A context: leaving it ends the threads, also when the caller stopped within an epoch.

    stores: whose images have one form. settings: of these threads, prefetch, optical and pin_memory count here.
    """

    def __init__(self, stores: Sequence[Store], settings: LoaderSettings) -> None:
        self._stores, self._settings = stores, settings
        self._buffers = BufferPool(keep=2 * (settings.prefetch + 2))
        self._decoders = ThreadPoolExecutor(max(settings.threads, 1), thread_name_prefix="decode")
        self._fetchers = ThreadPoolExecutor(FETCHERS, thread_name_prefix="fetch")
        self._fetched: dict[tuple[int, int], Future[None]] = {}  # of this pass, by store and first sample

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for pool in (self._fetchers, self._decoders):
            pool.shutdown(wait=True, cancel_futures=True)

    def batches(self, requests: Iterable[BatchRequest]) -> Iterator[tuple[Batch, list[UnreadSample]]]:
        """Batches in the order of the requests, each with its unread samples, whose rows must not be used."""
        waiting: deque[_Pending] = deque()
        for request in requests:
            waiting.append(self._begin(request))
            if len(waiting) >= self._settings.prefetch or not self._settings.threads:
                yield _finish(waiting.popleft())
        while waiting:
            yield _finish(waiting.popleft())

    def _begin(self, request: BatchRequest) -> _Pending:
        batch = self._empty(request)
        rows = _rows_by_store(request)
        fetched = self._prefetch(request)
        pieces = [
            self._submit(self._stores[store], piece, request, batch, fetched)
            for store, members in rows.items()
            for piece in np.split(members, range(PIECE, len(members), PIECE))
        ]
        return _Pending(batch=batch, pieces=pieces)

    def _prefetch(self, request: BatchRequest) -> list[Future[None]]:
        """Begins to fetch blocks of remote stores. Returns what this batch must wait for."""
        for block in request.ahead:
            key = (block.store, block.start)
            if key not in self._fetched:
                self._fetched[key] = self._fetchers.submit(self._fetch, block)
        return [self._fetched[block.store, block.start] for block in request.blocks]

    def _fetch(self, block: BlockRange) -> None:
        store = self._stores[block.store]
        if store.remote is not None:
            store.place.prefetch(store.remote.ranges(np.arange(block.start, block.stop)))

    def _submit(
        self, store: Store, rows: np.ndarray, request: BatchRequest, batch: Batch, fetched: list[Future[None]]
    ) -> Future[list[UnreadSample]]:
        def read() -> list[UnreadSample]:
            for block in fetched:
                block.result()
            optical = None if batch.optical is None else batch.optical.numpy()
            samples = request.sample[rows]
            errors = store.reader.read_into(samples, rows, batch.sar.numpy(), optical)
            return [UnreadSample(rows=rows[samples == error.sample].tolist(), error=error) for error in errors]

        if self._settings.threads:
            return self._decoders.submit(read)
        done: Future[list[UnreadSample]] = Future()
        done.set_result(read())
        return done

    def _empty(self, request: BatchRequest) -> Batch:
        """The batch of a request with everything but its pixels."""
        first = self._stores[0].index
        optical = first.optical if self._settings.optical else None
        columns = {
            name: _gather([getattr(store.index, name) for store in self._stores], request)
            for name in ("paired", "keys", "enl")
        }
        return Batch(
            sar=self._allocate(first.sar, len(request.sample)),
            optical=None if optical is None else self._allocate(optical, len(request.sample)),
            paired=torch.from_numpy(columns["paired"]),
            id=torch.from_numpy(columns["keys"]),
            enl=torch.from_numpy(columns["enl"]),
            epoch=request.epoch,
            step=request.step,
        )

    def _allocate(self, image: ImageSpec, samples: int) -> torch.Tensor:
        shape = (samples, *image.sample_shape)
        return pinned(shape, image.dtype) if self._settings.pin_memory else self._buffers.take(shape, image.dtype)


def _rows_by_store(request: BatchRequest) -> dict[int, np.ndarray]:
    return {int(store): np.flatnonzero(request.store == store) for store in np.unique(request.store)}


def _gather(columns: Sequence[np.ndarray], request: BatchRequest) -> np.ndarray:
    gathered = np.empty(len(request.sample), dtype=columns[0].dtype)
    for store, rows in _rows_by_store(request).items():
        gathered[rows] = columns[store][request.sample[rows]]
    return gathered


def _finish(pending: _Pending) -> tuple[Batch, list[UnreadSample]]:
    faults = [fault for piece in pending.pieces for fault in piece.result()]
    return pending.batch, faults


def read_samples(store: Store, samples: np.ndarray) -> Batch:
    """Samples of a store by number, in the order given, with optical where the store was opened with it.

    Raises the first ChunkError where one is missing or damaged: for evaluation nothing is left out.
    """
    request = BatchRequest(epoch=0, step=0, store=np.zeros(len(samples), dtype=np.int64), sample=samples)
    with Reading([store], LoaderSettings(threads=0, prefetch=1, optical=store.optical)) as reading:
        batch, faults = next(reading.batches([request]))
    if faults:
        raise faults[0].error
    return batch
