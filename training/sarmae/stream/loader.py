"""The loader: batches of one or many stores in a fixed global order, decoded in threads ahead of the step.

    loader = ShardLoader(["build/portugal"], LoaderSettings(global_batch=256, threads=4))
    for batch in loader:             # one epoch, or what is left of it
        batch = batch.to("cuda")     # sar, optical, paired, id, enl: named tensors, yours to keep
    torch.save(loader.state_dict(), ...)   # O(1): where the next batch stands

The content of a batch is a function of (stores, settings, epoch, step) alone. It does not depend on the number of
ranks, threads or workers, nor on where a run was interrupted (see `order`). `state_dict` is the position after the
last batch given, not after those read ahead. An iteration ends with the epoch; the next one is the next epoch.

Threads. A pool of `threads` reads a batch in pieces of some samples, straight into its tensors. At most `prefetch`
batches are being read or wait, so memory is bounded by (prefetch + 2) batches and the pool's read buffers. Pageable
batches come from buffers that are used again once nobody holds a tensor of them: fresh memory costs a page fault every
4 KiB, a quarter of the time of decoding. Page-locked batches come from torch's own host allocator, which knows when a
copy to the device has ended.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from multiprocessing.context import get_spawning_popen
from typing import Any, Final

import torch
from torch.utils.data import IterableDataset, get_worker_info

from sar1m.store.cache.bound import CacheConfig
from sar1m.store.errors import ConfigError, StoreError
from sar1m.store.sample_filter import Box, SampleFilter
from sarmae.errors import ChunkError
from sarmae.stream.band_statistics import SarStatistics
from sarmae.stream.batch import Batch, ImageSpec
from sarmae.stream.loader_settings import LoaderSettings
from sarmae.stream.opening import Store, open_store
from sarmae.stream.order.sample_order import BlockRange, Order
from sarmae.stream.order.specification import OrderSpec, StoreShare
from sarmae.stream.published.index import UnusablePicture
from sarmae.stream.read_ahead import BatchRequest, Reading, UnreadSample
from sarmae.stream.worker_ledger import Attendance, Position, WorkerLedger

NAMED_FAULTS = 5

BLOCKS_AHEAD = 32  # fetched while others are decoded: 32 x 9 MB on the disk, more than are in flight


class ShardLoader(IterableDataset[Batch]):
    """Streams batches of a split of one or many stores, as a loader for torch, Lightning or a plain loop.

    Use it as it is, or inside DataLoader(loader, batch_size=None, num_workers=n). Workers take batches in turn, so the
    order is the same, however they are started and whether they stay; the loader's own threads are faster. There each
    pass over the DataLoader is the next epoch, also after one that was broken off. set_epoch and load_state_dict hold
    for the next pass, called in the process that trains. The position is that of state_after.

    locations: folders or URLs of finished stores.
    cache: on disk, for remote stores.
    rank_and_world: this process's rank and the number of ranks; by default those of torch.distributed where it runs,
        else one process.
    where, bbox: only samples that meet a condition on the columns of samples.parquet, and whose centre lies in west,
        south, east, north (see sar1m.store.where and sample_filter); `sar1m get` takes the same.
    Raises StoreError for a store that cannot be read, ConfigError for settings that do not fit the stores.
    """

    def __init__(
        self,
        locations: Sequence[str | os.PathLike[str]],
        settings: LoaderSettings | None = None,
        *,
        split: str = "train",
        cache: CacheConfig | None = None,
        rank_and_world: tuple[int, int] | None = None,
        where: str | None = None,
        bbox: Box | None = None,
    ) -> None:
        self.settings = settings or LoaderSettings()
        self._locations, self._split, self._cache = tuple(os.fspath(place) for place in locations), split, cache
        self._rank, self._world = _place_in_world() if rank_and_world is None else rank_and_world
        self._samples = SampleFilter(where=where, bbox=bbox)
        self._stores = self._open()
        self.order = self._make_order()
        self.epoch, self.step = 0, 0
        self._faults: list[ChunkError] = []
        self._ledger, self._passes = WorkerLedger(), 0

    @property
    def sar(self) -> ImageSpec:
        """Encoding of the SAR array, the same in all stores."""
        return self._stores[0].index.sar

    @property
    def optical(self) -> ImageSpec | None:
        """Encoding of the optical array, the same in all stores; None where none is read."""
        return self._stores[0].index.optical if self.settings.optical else None

    @property
    def statistics(self) -> SarStatistics:
        """Per-band statistics of the first store: one fixed normalisation, not one a store."""
        return self._stores[0].statistics()

    @property
    def left_out(self) -> list[UnusablePicture]:
        """The published pictures that cannot be used, by name and cause."""
        return [item for store in self._stores for item in store.left_out or ()]

    @property
    def faults(self) -> list[ChunkError]:
        """The samples left out so far, by all workers, each once."""
        return [*self._faults, *self._ledger.faults()]

    def __len__(self) -> int:
        """Number of batches an epoch."""
        return self.order.steps

    def __iter__(self) -> Iterator[Batch]:
        """The remaining batches of the epoch. Afterwards the position is the start of the next one."""
        worker = get_worker_info()
        if worker is not None:
            attending = Attendance(
                worker=worker.id, workers=worker.num_workers, seed=worker.seed - worker.id, passes=self._passes
            )
            self.epoch, self.step = self._ledger.join(attending, Position(self.epoch, self.step))
            self._passes += 1
        elif self._ledger.used:
            self.epoch, self.step = self._ledger.next()
        return self._batches()

    def _batches(self) -> Iterator[Batch]:
        with Reading(self._stores, self.settings) as reading:
            for batch, unread in reading.batches(self._requests()):
                kept = self._without(batch, unread) if unread else batch
                self.step = batch.step + 1
                yield kept
        self._go_to(Position(self.epoch + 1, 0))

    def set_epoch(self, epoch: int) -> None:
        """Goes to the start of an epoch. Raises ConfigError in a worker of a DataLoader."""
        _refuse_in_worker("set_epoch")
        self._go_to(Position(epoch, 0))

    def _go_to(self, position: Position) -> None:
        self.epoch, self.step = position
        if get_worker_info() is None:
            self._ledger.move(position)

    def state_dict(self) -> dict[str, Any]:
        """The position after the batch last handed out, with all that fixes the order. JSON values, O(1).

        Raises ConfigError where batches come from the workers of a DataLoader, which read ahead of those handed out.
        """
        _refuse_in_worker("state_dict")
        if self._ledger.used:
            raise ConfigError(
                "state_dict: the batches came from workers of a DataLoader, which read ahead, so the loader cannot say "
                "which was used last. Save loader.state_after(batch) of that batch."
            )
        return self.order.state(self.epoch, self.step).state_dict()

    def state_after(self, batch: Batch) -> dict[str, Any]:
        """The position after a batch, where batches come from the workers of a DataLoader."""
        return self.order.state(batch.epoch, batch.step + 1).state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes to a position. Raises ConfigError where the stores or settings that fix the order are others, and in a
        worker of a DataLoader."""
        _refuse_in_worker("load_state_dict")
        self._go_to(Position(*self.order.resume(state)))

    def __getstate__(self) -> dict[str, Any]:
        """For workers that are spawned: they open the stores themselves. Any other copy goes its own way."""
        left_out = {"_stores"} if get_spawning_popen() is not None else {"_stores", "_ledger"}
        return {name: value for name, value in vars(self).items() if name not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update({"_ledger": WorkerLedger()} | state)
        self._stores = self._open()

    def _requests(self) -> Iterator[BatchRequest]:
        epoch = self.epoch
        turn, turns = _turn_among_workers()
        for step in range(self.step + turn, self.order.steps, turns):
            numbers = self.order.rank_batch(epoch, step, self._rank, self._world)
            store, sample = self.order.locate(numbers)
            blocks, ahead = self._remote_blocks(epoch, step, 1), self._remote_blocks(epoch, step, self._steps_ahead)
            yield BatchRequest(epoch=epoch, step=step, store=store, sample=sample, blocks=blocks, ahead=ahead)

    @property
    def _steps_ahead(self) -> int:
        """Steps whose blocks are fetched before they are wanted: some BLOCKS_AHEAD blocks of this rank."""
        return self.settings.prefetch + BLOCKS_AHEAD * self.settings.block * self._world // self.settings.global_batch

    def _remote_blocks(self, epoch: int, step: int, steps: int) -> tuple[BlockRange, ...]:
        if all(store.remote is None for store in self._stores):
            return ()
        blocks = self.order.upcoming(epoch, step, steps, self._rank, self._world)
        return tuple(block for block in blocks if self._stores[block.store].remote is not None)

    def _without(self, batch: Batch, unread: list[UnreadSample]) -> Batch:
        """The batch without its unread samples. Raises StoreError once there were too many of them."""
        errors = [sample.error for sample in unread]
        if get_worker_info() is None:
            known = {str(fault) for fault in self._faults}
            self._faults += {str(error): error for error in errors if str(error) not in known}.values()
        else:
            self._ledger.add_faults(errors)
        faults = self.faults
        if len(faults) > self.settings.max_faults:
            named = "\n".join(f"  {fault}" for fault in faults[-NAMED_FAULTS:])
            raise StoreError(
                f"{len(faults)} samples are missing or damaged, data.max_faults allows "
                f"{self.settings.max_faults}. The last:\n{named}\n"
                "Fetch these files again (`sar1m verify` lists all that differ), or allow more faults."
            ) from unread[-1].error
        bad = torch.zeros(len(batch), dtype=torch.bool)
        bad[[row for sample in unread for row in sample.rows]] = True
        return batch.select(~bad)

    def _open(self) -> list[Store]:
        if not self._locations:
            raise ConfigError("No store to read. Give one or more folders or URLs of finished stores.")
        settings = self.settings
        stores = [
            open_store(
                place,
                split=self._split,
                optical=settings.optical,
                cache=self._cache,
                published_px=settings.published_px,
                samples=self._samples,
            )
            for place in self._locations
        ]
        _check_alike(stores, optical=settings.optical)
        return stores

    def _make_order(self) -> Order:
        shares = tuple(
            StoreShare(
                name=store.index.location,
                digest=store.index.digest,
                size=len(store.index),
                local=store.remote is None,
            )
            for store in self._stores
        )
        spec = OrderSpec(settings=self.settings, stores=shares)
        order = Order(spec, [store.index.paired for store in self._stores])
        order.check_world(self._rank, self._world)
        return order


_OLD_OPTICAL: Final = " Schema 1.0 held reflectance in 8 bits: build the older store again."


def _check_alike(stores: Sequence[Store], *, optical: bool) -> None:
    """Raises StoreError where samples of two stores do not fit into one batch."""
    first = stores[0].index
    for index in (store.index for store in stores):
        for name in ("sar", "optical") if optical else ("sar",):
            found, expected = getattr(index, name), getattr(first, name)
            if found is None or expected is None:
                raise StoreError(
                    f"{(index if found is None else first).location}: has no {name} array. "
                    "Read it without optical (data.optical = false)."
                )
            if _form(found) != _form(expected):
                raise StoreError(
                    f"{index.location}: {name} is {_form(found)}, but {_form(expected)} in {first.location}. Only "
                    "stores of one profile, band order and patch size can be mixed."
                    + (_OLD_OPTICAL if name == "optical" and found.dtype != expected.dtype else "")
                )


def _form(image: ImageSpec) -> tuple[Any, ...]:
    return image.labels, image.sample_shape, image.dtype, image.scale_factor, image.add_offset


def _place_in_world() -> tuple[int, int]:
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _refuse_in_worker(call: str) -> None:
    if get_worker_info() is not None:
        raise ConfigError(
            f"{call}: called in a worker of a DataLoader, which holds a copy of the loader. Call it in the process "
            "that trains; positions are those of loader.state_after(batch)."
        )


def _turn_among_workers() -> tuple[int, int]:
    """(number of this DataLoader worker, workers); (0, 1) in the process that trains."""
    worker = get_worker_info()
    return (0, 1) if worker is None else (worker.id, worker.num_workers)
