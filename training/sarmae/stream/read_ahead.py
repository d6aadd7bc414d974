"""One pass of a loader over its steps: threads that decode ahead, in order, into batches that are handed out whole."""

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
from sarmae.stream.opening import Store
from sarmae.stream.order.sample_order import BlockRange

FETCHERS = 24  # blocks of remote stores under way at once, two ranges each; how many fly, CacheConfig.in_flight says
PIECE = 32  # samples a task of the pool reads: some 10 ms of work, so that the pool's own cost does not show


@dataclass(frozen=True, kw_only=True)
class Draw:
    """The samples of one batch: their store's number (B,) and their number in that store's split (B,).

    Of remote stores, blocks: the runs of samples that must be at hand, each fetched in one go; ahead: these and those
    that the next batches want, to be begun now.
    """

    epoch: int
    step: int
    store: np.ndarray
    sample: np.ndarray
    blocks: tuple[BlockRange, ...] = ()
    ahead: tuple[BlockRange, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ReadAhead:
    """threads: that decode, 0 for none; depth: batches under way or waiting; pin: page-locked tensors."""

    threads: int
    depth: int
    pin: bool


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A sample that could not be read, and the rows of the batch that should have held it."""

    rows: list[int]
    error: ChunkError


@dataclass(frozen=True, kw_only=True)
class _Pending:
    batch: Batch
    pieces: list[Future[list[Fault]]]


class Reading:
    """Reads draws ahead. A context: leaving it ends the threads, also when the caller broke off in mid-epoch."""

    def __init__(self, stores: Sequence[Store], images: tuple[ImageSpec, ImageSpec | None], ahead: ReadAhead) -> None:
        self._stores, self._images, self._ahead = stores, images, ahead
        self._buffers = BufferPool(keep=2 * (ahead.depth + 2))
        self._decoders = ThreadPoolExecutor(max(ahead.threads, 1), thread_name_prefix="decode")
        self._fetchers = ThreadPoolExecutor(FETCHERS, thread_name_prefix="fetch")
        self._fetched: dict[tuple[int, int], Future[None]] = {}  # of this pass, by store and first sample

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for pool in (self._fetchers, self._decoders):
            pool.shutdown(wait=True, cancel_futures=True)

    def batches(self, draws: Iterable[Draw]) -> Iterator[tuple[Batch, list[Fault]]]:
        """Batches in the order of the draws, each with its faults; rows of faulty samples are not to be looked at."""
        waiting: deque[_Pending] = deque()
        for draw in draws:
            waiting.append(self._begin(draw))
            if len(waiting) >= self._ahead.depth or not self._ahead.threads:
                yield _finish(waiting.popleft())
        while waiting:
            yield _finish(waiting.popleft())

    def _begin(self, draw: Draw) -> _Pending:
        batch = self._empty(draw)
        rows = _rows_by_store(draw)
        fetched = self._prefetch(draw)
        pieces = [
            self._submit(self._stores[store], piece, draw, batch, fetched)
            for store, members in rows.items()
            for piece in np.split(members, range(PIECE, len(members), PIECE))
        ]
        return _Pending(batch=batch, pieces=pieces)

    def _prefetch(self, draw: Draw) -> list[Future[None]]:
        """Begins to bring blocks of remote stores into reach; what is given back is what this draw must wait for."""
        for block in draw.ahead:
            key = (block.store, block.start)
            if key not in self._fetched:
                self._fetched[key] = self._fetchers.submit(self._fetch, block)
        return [self._fetched[block.store, block.start] for block in draw.blocks]

    def _fetch(self, block: BlockRange) -> None:
        store = self._stores[block.store]
        if store.remote is not None:
            store.objects.prefetch(store.remote.ranges(np.arange(block.start, block.stop)))

    def _submit(
        self, store: Store, rows: np.ndarray, draw: Draw, batch: Batch, fetched: list[Future[None]]
    ) -> Future[list[Fault]]:
        def read() -> list[Fault]:
            for block in fetched:
                block.result()
            optical = None if batch.optical is None else batch.optical.numpy()
            samples = draw.sample[rows]
            errors = store.reader.read_into(samples, rows, batch.sar.numpy(), optical)
            return [Fault(rows=rows[samples == error.sample].tolist(), error=error) for error in errors]

        if self._ahead.threads:
            return self._decoders.submit(read)
        done: Future[list[Fault]] = Future()
        done.set_result(read())
        return done

    def _empty(self, draw: Draw) -> Batch:
        """The batch of a draw with everything but its pixels."""
        sar, optical = self._images
        columns = {
            name: _gather([getattr(store.index, name) for store in self._stores], draw)
            for name in ("paired", "keys", "enl")
        }
        return Batch(
            sar=self._allocate(sar, len(draw.sample)),
            optical=None if optical is None else self._allocate(optical, len(draw.sample)),
            paired=torch.from_numpy(columns["paired"]),
            id=torch.from_numpy(columns["keys"]),
            enl=torch.from_numpy(columns["enl"]),
            epoch=draw.epoch,
            step=draw.step,
        )

    def _allocate(self, image: ImageSpec, samples: int) -> torch.Tensor:
        shape = (samples, *image.sample_shape)
        return pinned(shape, image.dtype) if self._ahead.pin else self._buffers.take(shape, image.dtype)


def _rows_by_store(draw: Draw) -> dict[int, np.ndarray]:
    return {int(store): np.flatnonzero(draw.store == store) for store in np.unique(draw.store)}


def _gather(columns: Sequence[np.ndarray], draw: Draw) -> np.ndarray:
    gathered = np.empty(len(draw.sample), dtype=columns[0].dtype)
    for store, rows in _rows_by_store(draw).items():
        gathered[rows] = columns[store][draw.sample[rows]]
    return gathered


def _finish(pending: _Pending) -> tuple[Batch, list[Fault]]:
    faults = [fault for piece in pending.pieces for fault in piece.result()]
    return pending.batch, faults


def read_samples(store: Store, samples: np.ndarray) -> Batch:
    """Samples of a store by number, in the order given, with optical where the store was opened with it.

    Raises the first ChunkError where one is missing or damaged: for evaluation nothing is left out.
    """
    images = (store.index.sar, store.index.optical if store.optical else None)
    draw = Draw(epoch=0, step=0, store=np.zeros(len(samples), dtype=np.int64), sample=samples)
    with Reading([store], images, ReadAhead(threads=0, depth=1, pin=False)) as reading:
        batch, faults = next(reading.batches([draw]))
    if faults:
        raise faults[0].error
    return batch
