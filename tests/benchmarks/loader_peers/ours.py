"""Ours, and the limits it is held against."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path

import google_crc32c
import numpy as np
from loader_peers.common import (
    BATCH,
    PREFETCH,
    Batch,
    Contender,
    Encoded,
    Store,
    decode_into,
    empty_batch,
    identity,
    torch_loader,
)

from sarmae.stream.batch import Batch as Record
from sarmae.stream.loader import ShardLoader
from sarmae.stream.loader_settings import LoaderSettings

LIMIT_SAMPLES = 1024  # held in memory


class Tuples:
    """Records of ours as the tuple that all contenders give."""

    def __init__(self, loader: Iterable[Record]) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.loader:
            yield batch.sar, batch.optical, batch.paired, batch.id


def load(folder: Path, threads: int) -> Iterable[Batch]:
    """Threads beside the caller's own; 0: in the caller's."""
    settings = LoaderSettings(global_batch=BATCH, threads=threads, prefetch=PREFETCH)
    return Tuples(ShardLoader([str(folder)], settings, rank_and_world=(0, 1)))


def load_in_workers(folder: Path, workers: int) -> Iterable[Batch]:
    """Under torch's DataLoader, one decoding thread a worker."""
    settings = LoaderSettings(global_batch=BATCH, threads=1, prefetch=1)
    loader = ShardLoader([str(folder)], settings, rank_and_world=(0, 1))
    return Tuples(torch_loader(loader, workers, batch_size=None, collate_fn=identity))


class Limit:
    """Bare decoding of chunks that lie in memory into batches that are there already: what no reader can pass."""

    def __init__(self, folder: Path, threads: int, *, checksum: bool) -> None:
        store = Store.open(folder)
        self.store, self.checksum, self.threads = store, checksum, max(threads, 1)
        self.samples = list(store.samples(min(LIMIT_SAMPLES, len(store.keys))))
        self.room = [empty_batch(BATCH, store.patch_px) for _ in range(PREFETCH + self.threads + 1)]

    def __iter__(self) -> Iterator[Batch]:
        if self.threads == 1:
            yield from (self._decode(*work) for work in self._work())
            return
        with ThreadPoolExecutor(self.threads) as pool:
            works = self._work()
            ahead = deque(pool.submit(self._decode, *work) for work in islice(works, PREFETCH))
            while ahead:
                batch = ahead.popleft().result()
                ahead.extend(pool.submit(self._decode, *work) for work in islice(works, 1))
                yield batch

    def _work(self) -> Iterator[tuple[Batch, list[Encoded]]]:
        order = np.random.default_rng().permutation(len(self.samples))
        for number in range(len(order) // BATCH):
            chosen = order[number * BATCH : (number + 1) * BATCH]
            yield self.room[number % len(self.room)], [self.samples[position] for position in chosen]

    def _decode(self, batch: Batch, samples: list[Encoded]) -> Batch:
        sar, optical = batch[0].numpy(), batch[1].numpy()
        for slot, sample in enumerate(samples):
            if self.checksum:
                google_crc32c.value(sample.sar)
                google_crc32c.value(sample.optical)
            decode_into(sample.sar, self.store.compressed, sar[slot])
            decode_into(sample.optical, self.store.compressed, optical[slot])
        batch[2].numpy()[:] = [bool(sample.optical) for sample in samples]
        batch[3].numpy()[:] = [sample.key for sample in samples]
        return batch


def _ours(variant: str, load: Callable[[Path, int], Iterable[Batch]], what: str, workers: tuple[int, ...]) -> Contender:
    compressed = variant.startswith("lz4")
    return Contender(
        name="ours", variant=variant, settings=what, load=load, reads_compressed=compressed, workers=workers
    )


OURS = f"ShardLoader, order full, prefetch {PREFETCH}, checksums verified"
LIMITS = "chunks of 1,024 samples in memory into standing batches"
CONTENDERS = (
    _ours("lz4", load, f"{OURS}; figures of workers are threads beside the caller's own", (0, 1, 2)),
    _ours("none", load, f"{OURS}; figures of workers are threads beside the caller's own", (0, 1, 2)),
    _ours("lz4 in DataLoader", load_in_workers, "ShardLoader(threads=1) in torch's DataLoader", (2,)),
)
LIMIT_CONTENDERS = (
    Contender(
        name="limit",
        variant="lz4",
        settings=f"bare decompression: {LIMITS}",
        load=partial(Limit, checksum=False),
        reads_compressed=True,
        workers=(1, 2),
    ),
    Contender(
        name="limit",
        variant="lz4 and crc32c",
        settings=f"with checksums: {LIMITS}",
        load=partial(Limit, checksum=True),
        reads_compressed=True,
        workers=(1, 2),
    ),
)
