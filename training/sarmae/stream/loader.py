"""The loader: batches of one or many stores in a fixed global order, decoded in threads ahead of the step.

    loader = ShardLoader(["build/portugal"], LoaderSettings(global_batch=256, threads=4))
    for batch in loader:             # one epoch, or what is left of it
        batch = batch.to("cuda")     # sar, optical, paired, id, enl: named tensors, yours to keep
    torch.save(loader.state_dict(), ...)   # O(1): where the next batch stands

What a batch holds is a function of (stores, settings, epoch, step) alone: not of the world size, the threads, the
workers or where the run was broken off (`order`). `state_dict` speaks of the batch last handed out, not of those read
ahead. Iterating goes to the end of the epoch; the next iteration is the next epoch.

Threads. A batch is read in pieces of some samples by a pool of `threads`, straight into its tensors; at most
`prefetch` batches are under way or wait, so memory is bounded by (prefetch + 2) batches and the pool's read buffers.
Pageable batches come from buffers that are used again once nobody holds any tensor of them: fresh memory costs a page
fault every 4 KiB, a quarter of the decoding. Page-locked batches come from torch's own host allocator, which knows
when a copy to the device has ended.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.utils.data import IterableDataset, get_worker_info

from sar1m.store.cache.bound import CacheConfig
from sar1m.store.errors import ConfigError, StoreError
from sarmae.errors import ChunkError
from sarmae.stream.band_statistics import SarStatistics
from sarmae.stream.batch import Batch, ImageSpec
from sarmae.stream.opening import Opening, Store, open_store
from sarmae.stream.order.sample_order import BlockRange, Order
from sarmae.stream.order.specification import OrderSpec, StoreShare, divisors
from sarmae.stream.published.index import LeftOut
from sarmae.stream.read_ahead import Draw, Fault, ReadAhead, Reading

NAMED_FAULTS = 5

# Order "lanes" as stores of ours want it, whose samples were shuffled when they were packed: 32 samples are a range of
# some 10 MB, and a first batch touches 16 lanes of few blocks. For stores in scene order see the shuffle benchmark.
BLOCK, MOST_LANES, WINDOW = 32, 16, 64
BLOCKS_AHEAD = 32  # fetched while others are decoded: 32 x 9 MB on the disk, more than are in flight


@dataclass(frozen=True, kw_only=True)
class LoaderSettings:
    """How to stream. global_batch is over all ranks; each rank gets its equal share.

    threads: that decode; 0 reads in the caller's own thread, nothing ahead. prefetch: batches ahead. optical: read the
    optical partners too. order: `auto` is `full` where every store is on a local disk, else `lanes`, of which lanes (a
    divisor of global_batch that the world size divides) and window (samples of a lane) may be set. weights: of the
    stores, in their order; None: by their sizes. unpaired_share: of the samples drawn; None: as the stores have it.
    tail: `drop` leaves out the last, smaller batch of an epoch, `keep` (for evaluation) hands it out. max_faults:
    samples that may be missing or damaged before the stream stops: they are left out of their batch, counted, and
    named in `faults`. pin_memory: page-locked tensors, for copies that overlap with work on a GPU. published_px: side
    of the window cut from pictures of the published SAR-1M.
    """

    global_batch: int = 64
    seed: int = 0
    threads: int = 2
    prefetch: int = 4
    optical: bool = True
    order: Literal["auto", "full", "lanes"] = "auto"
    lanes: int | None = None
    window: int | None = None
    weights: tuple[float, ...] | None = None
    unpaired_share: float | None = None
    tail: Literal["drop", "keep"] = "drop"
    max_faults: int = 0
    pin_memory: bool = False
    published_px: int = 256

    def __post_init__(self) -> None:
        least = {"global_batch": 1, "threads": 0, "prefetch": 1, "max_faults": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ConfigError(f"data.{name}: found {getattr(self, name)}, expected {bound} or more.")


class ShardLoader(IterableDataset[Batch]):
    """Streams batches of a split of one or many stores; what torch, Lightning and plain loops take as a loader.

    locations: folders or URLs of finished stores. Use it as it is, or inside DataLoader(loader, batch_size=None,
    num_workers=n): workers deal the batches out in turn, so the order is the same; its own threads are faster.
    rank_and_world defaults to torch.distributed's where it runs, else to one process. faults: the samples left out so
    far. Raises StoreError for a store that cannot be read, ConfigError for settings that do not fit the stores.
    """

    def __init__(
        self,
        locations: Sequence[str | os.PathLike[str]],
        settings: LoaderSettings | None = None,
        *,
        split: str = "train",
        cache: CacheConfig | None = None,
        rank_and_world: tuple[int, int] | None = None,
    ) -> None:
        self.settings = settings or LoaderSettings()
        self._locations, self._split, self._cache = tuple(os.fspath(place) for place in locations), split, cache
        self._rank, self._world = _place_in_world() if rank_and_world is None else rank_and_world
        self._stores = self._open()
        self.order = self._make_order()
        self.epoch, self.step = 0, 0
        self.faults: list[ChunkError] = []

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
    def left_out(self) -> list[LeftOut]:
        """What of published pictures cannot be used, by name and cause."""
        return [item for store in self._stores for item in store.left_out or ()]

    def __len__(self) -> int:
        """Batches an epoch."""
        return self.order.steps

    def __iter__(self) -> Iterator[Batch]:
        """The rest of the epoch; then the position is the start of the next."""
        ahead = ReadAhead(threads=self.settings.threads, depth=self.settings.prefetch, pin=self.settings.pin_memory)
        with Reading(self._stores, (self.sar, self.optical), ahead) as reading:
            for batch, faults in reading.batches(self._draws()):
                kept = self._without(batch, faults) if faults else batch
                self.step = batch.step + 1
                yield kept
        self.set_epoch(self.epoch + 1)

    def set_epoch(self, epoch: int) -> None:
        """Goes to the start of an epoch."""
        self.epoch, self.step = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        """The position after the batch last handed out, with all that fixes the order. JSON values, O(1)."""
        return self.order.state(self.epoch, self.step).state_dict()

    def state_after(self, batch: Batch) -> dict[str, Any]:
        """The position after a batch, for those who take batches from a DataLoader's workers."""
        return self.order.state(batch.epoch, batch.step + 1).state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes to a position. Raises ConfigError where the stores or settings that fix the order are others."""
        self.epoch, self.step = self.order.resume(state)

    def __getstate__(self) -> dict[str, Any]:
        """For workers that are spawned: they open the stores themselves."""
        return {name: value for name, value in vars(self).items() if name != "_stores"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._stores = self._open()

    def _draws(self) -> Iterator[Draw]:
        epoch = self.epoch
        turn, turns = _turn_among_workers()
        for step in range(self.step + turn, self.order.steps, turns):
            numbers = self.order.rank_batch(epoch, step, self._rank, self._world)
            store, sample = self.order.locate(numbers)
            blocks, ahead = self._remote_blocks(epoch, step, 1), self._remote_blocks(epoch, step, self._steps_ahead)
            yield Draw(epoch=epoch, step=step, store=store, sample=sample, blocks=blocks, ahead=ahead)

    @property
    def _steps_ahead(self) -> int:
        """Steps whose blocks are fetched before they are wanted: some BLOCKS_AHEAD blocks of this rank."""
        return self.settings.prefetch + BLOCKS_AHEAD * BLOCK * self._world // self.settings.global_batch

    def _remote_blocks(self, epoch: int, step: int, steps: int) -> tuple[BlockRange, ...]:
        if all(store.remote is None for store in self._stores):
            return ()
        blocks = self.order.upcoming(epoch, step, steps, self._rank, self._world)
        return tuple(block for block in blocks if self._stores[block.store].remote is not None)

    def _without(self, batch: Batch, faults: list[Fault]) -> Batch:
        """The batch without its faulty samples. Raises StoreError when there were too many of them."""
        self.faults.extend(fault.error for fault in faults)
        if len(self.faults) > self.settings.max_faults:
            named = "\n".join(f"  {fault}" for fault in self.faults[-NAMED_FAULTS:])
            raise StoreError(
                f"{len(self.faults)} samples are missing or damaged, data.max_faults allows "
                f"{self.settings.max_faults}. The last:\n{named}\n"
                "Fetch these files again (`sar1m verify` lists all that differ), or allow more faults."
            ) from faults[-1].error
        bad = torch.zeros(len(batch), dtype=torch.bool)
        bad[[row for fault in faults for row in fault.rows]] = True
        return batch.select(~bad)

    def _open(self) -> list[Store]:
        if not self._locations:
            raise ConfigError("No store to read. Give one or more folders or URLs of finished stores.")
        how = Opening(
            split=self._split, optical=self.settings.optical, cache=self._cache, published_px=self.settings.published_px
        )
        stores = [open_store(place, how) for place in self._locations]
        _check_alike(stores, optical=self.settings.optical)
        return stores

    def _make_order(self) -> Order:
        how, weights = self.settings, self.settings.weights
        if weights is not None and len(weights) != len(self._stores):
            raise ConfigError(f"data.weights: found {len(weights)} for {len(self._stores)} stores; give one for each.")
        shares = tuple(
            StoreShare(
                name=store.index.location,
                digest=store.index.digest,
                size=len(store.index),
                weight=None if weights is None else weights[number],
            )
            for number, store in enumerate(self._stores)
        )
        local = all(store.remote is None for store in self._stores)
        spec = OrderSpec(
            seed=how.seed,
            global_batch=how.global_batch,
            stores=shares,
            unpaired_share=how.unpaired_share,
            keep_tail=how.tail == "keep",
            mode=("full" if local else "lanes") if how.order == "auto" else how.order,
            block=BLOCK,
            lanes=how.lanes or max(number for number in divisors(how.global_batch) if number <= MOST_LANES),
            window=how.window or WINDOW,
        )
        order = Order(spec, [store.index.paired for store in self._stores])
        order.check_world(self._rank, self._world)
        return order


def _check_alike(stores: Sequence[Store], *, optical: bool) -> None:
    """Raises StoreError where samples of two stores could not stand in one batch."""
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
                    f"{index.location}: {name} is {_form(found)}, but {_form(expected)} in {first.location}. "
                    "Only stores of one profile, band order and patch size can be mixed."
                )


def _form(image: ImageSpec) -> tuple[Any, ...]:
    return image.labels, image.sample_shape, image.dtype, image.scale_factor, image.add_offset


def _place_in_world() -> tuple[int, int]:
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _turn_among_workers() -> tuple[int, int]:
    """(number of this DataLoader worker, workers); (0, 1) in the process that trains."""
    worker = get_worker_info()
    return (0, 1) if worker is None else (worker.id, worker.num_workers)
