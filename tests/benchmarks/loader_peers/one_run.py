"""One run of one contender, in a process of its own: prints one line of JSON, the last of its output.

    python one_run.py list FAMILY
    python one_run.py write FAMILY LABEL FOLDER STORE SAMPLES
    python one_run.py run FAMILY LABEL FOLDER STORE WORKERS SECONDS warm|cold

Warm: batches are taken epoch after epoch; after WARM_UP_BATCHES (or WARM_UP_S) the window opens. Cold: the window opens
before the loader is made and closes with the first epoch at the latest. In the window, batches, CPU time of the process
and of all below it, and bytes read from disk are counted. One byte a page of each batch is read, so that memory that is
only promised is there. Afterwards the last batch is compared with the store byte for byte.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from loader_peers.common import Batch, Contender, Store, decode_into
from loader_peers.memory import own_bytes, proportional_sizes
from loader_peers.roster import contenders
from numcodecs import blosc

WARM_UP_BATCHES = 12  # more than workers hold ahead
WARM_UP_S = 1.0
PAGE = 4096
PACKAGES = ("torch", "numpy", "numcodecs", "mosaicml-streaming", "litdata", "webdataset", "zarr", "h5py", "hdf5plugin")


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Of one run. cpu_s, read_bytes and batches within the window of wall_s seconds; checked: samples compared."""

    first_batch_s: float
    wall_s: float
    cpu_s: float
    samples: int
    read_bytes: int
    after_imports_bytes: int
    checked: int


class Tree:
    """This process and all below it."""

    def __init__(self) -> None:
        self.me = psutil.Process()

    def cpu_s(self) -> float:
        """User and system time so far: of itself and of what has ended to the microsecond, of what lives to a tick."""
        ended = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        alive = [child.cpu_times() for child in self._children()]
        return sum(use.ru_utime + use.ru_stime for use in ended) + sum(use.user + use.system for use in alive)

    def read_bytes(self) -> int:
        """Bytes that had to come from the disk."""
        return sum(int(one.io_counters().read_bytes) for one in (self.me, *self._children()))

    def _children(self) -> list[psutil.Process]:
        return [child for child in self.me.children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Where the clocks stand: one end of a window."""

    at_s: float
    cpu_s: float
    read_bytes: int

    @staticmethod
    def now(tree: Tree) -> Mark:
        """Reads them all."""
        return Mark(at_s=time.perf_counter(), cpu_s=tree.cpu_s(), read_bytes=tree.read_bytes())


def warm_up(batches: Iterator[Batch]) -> None:
    """Takes batches until those that come were read at the pace of the window."""
    until = time.perf_counter() + WARM_UP_S
    for _ in range(WARM_UP_BATCHES):
        touch(next(batches))
        if time.perf_counter() > until:
            return


def epochs(loader: Iterable[Batch], *, once: bool) -> Iterator[Batch]:
    """Batches of one epoch, or without end."""
    for _epoch in count():
        yield from loader
        if once:
            return


def touch(batch: Batch) -> int:
    """One byte of every page of a batch."""
    return sum(int(tensor.view(torch.uint8).reshape(-1)[::PAGE].sum()) for tensor in batch[:2])


def measure(contender: Contender, folder: Path, store: Path, workers: int, seconds: float, cold: bool) -> Figures:
    """Runs the window and checks the last batch."""
    tree, after_imports_bytes = Tree(), own_bytes(proportional_sizes(os.getpid()))
    mark, samples = Mark.now(tree), 0
    begun = mark.at_s
    batches = epochs(contender.load(folder, workers), once=cold)
    batch = next(batches)
    touch(batch)
    first_batch_s = time.perf_counter() - begun
    if cold:
        samples = len(batch[3])
    else:
        warm_up(batches)
        mark = Mark.now(tree)
    for batch in batches:
        touch(batch)
        samples += len(batch[3])
        if time.perf_counter() - mark.at_s >= seconds:
            break
    end = Mark.now(tree)
    return Figures(
        first_batch_s=first_batch_s,
        wall_s=end.at_s - mark.at_s,
        cpu_s=end.cpu_s - mark.cpu_s,
        samples=samples,
        read_bytes=end.read_bytes - mark.read_bytes,
        after_imports_bytes=after_imports_bytes,
        checked=check(batch, Store.open(store), exact=contender.exact),
    )


def check(batch: Batch, store: Store, *, exact: bool) -> int:
    """Compares a batch with the store. Raises SystemExit where a sample is another, or stands twice."""
    number_of = {key: number for number, key in enumerate(store.keys.tolist())}
    keys = batch[3].tolist()
    if len(set(keys)) != len(keys):
        raise SystemExit("a sample stands twice in a batch")
    expected = [np.empty(tensor.shape[1:], tensor.numpy().dtype) for tensor in batch[:2]]
    for slot, key in enumerate(keys):
        sample = store.sample(number_of[key])
        same = bool(batch[2][slot]) is bool(sample.optical)
        for payload, pixels, tensor in zip(sample[1:], expected, batch[:2], strict=True):
            decode_into(payload, store.compressed, pixels)
            same &= not exact or np.array_equal(pixels, tensor[slot].numpy())
        if not same:
            raise SystemExit(f"sample {key} is not what the store holds")
    return len(keys)


def describe(contender: Contender) -> dict[str, Any]:
    """What the parent must know of a contender, as JSON."""
    plain = ("name", "variant", "settings", "reads_compressed", "workers", "streaming", "exact", "once_only", "label")
    return {name: getattr(contender, name) for name in plain} | {"writes": contender.write is not None}


def write(contender: Contender, folder: Path, store: Path, samples: int) -> None:
    """A contender's data, marked as whole at the end by the patches' side."""
    if contender.write is not None and not (folder / "patch_px.txt").exists():
        folder.mkdir(parents=True, exist_ok=True)
        opened = Store.open(store, samples)
        contender.write(opened, folder)
        (folder / "patch_px.txt").write_text(str(opened.patch_px), encoding="utf-8")


def main() -> None:
    """Do what the command line says."""
    torch.set_num_threads(1)
    blosc.set_nthreads(1)
    what, family, *rest = sys.argv[1:]
    found = contenders(family)
    if what == "list":
        versions = {name: version(name) for name in PACKAGES}
        print(json.dumps({"contenders": [describe(one) for one in found.values()], "versions": versions}))
        return
    label, folder, store, *window = rest
    contender = found[label]
    if what == "write":
        write(contender, Path(folder), Path(store), int(window[0]))
        print("{}")
        return
    workers, seconds, state = window
    if contender.reset is not None:
        contender.reset(Path(folder))
    figures = measure(contender, Path(folder), Path(store), int(workers), float(seconds), state == "cold")
    print("\n" + json.dumps(asdict(figures)), flush=True)
    os._exit(0)  # workers end with it; some libraries hang in their own shutdown


if __name__ == "__main__":
    main()
