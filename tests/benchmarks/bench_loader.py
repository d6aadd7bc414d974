"""Our loader beside seven others on the same samples: throughput, CPU time, memory, first batch, warm and cold.

    python tests/benchmarks/bench_loader.py [--quick] [--python PYTHON] [--scratch FOLDER] [--clean] [--only WORDS]

8,192 samples of 256 px, written once for every contender (`loader_store`, `loader_peers`; some 25 GB of scratch space,
kept for the next run; --clean removes it at the end). Every figure comes from a process of its own; rounds take the
contenders in turn, each round in another order. --python: an interpreter with torch and requirements-peers.txt, this
one by default. Writes results/loader.{json,md}. About 25 minutes on two quiet cores, of which five for the
data; --quick some six.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loader_peers import page_cache
from loader_peers.report import sections
from loader_peers.roster import FAMILIES
from loader_peers.runs import Launcher, Ledger, MemoryWatch, Result, RunError
from loader_store import make_store
from measure import write_results

SCRATCH = Path("build/bench/loader")
COLD_WINDOWS = 2  # as long as a warm one: the loader's start falls into it
WHOLE_EPOCH_S = 120.0  # long enough for those that unpack everything in it
COLD_RESIDENT = 0.02  # share of pages that may be left for a run to count as cold


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured."""

    samples: int
    peer_samples: int  # that the peers' folders hold
    rounds: int
    seconds: float  # a window


FULL = Size(samples=8192, peer_samples=4096, rounds=3, seconds=2.0)
QUICK = Size(samples=2048, peer_samples=2048, rounds=1, seconds=1.5)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A contender as the parent sees it. facts: of one_run.describe."""

    family: str
    facts: dict[str, Any]
    folder: Path
    store: Path

    @property
    def label(self) -> str:
        return str(self.facts["label"])


def roster(launch: Launcher, stores: dict[bool, Path], scratch: Path, only: str) -> tuple[list[Entry], dict[str, str]]:
    """Contenders whose libraries are there, and why others are not. Words of `only` select by label."""
    entries, missing = [], {}
    words = only.split(",") if only else [""]
    for family in FAMILIES:
        try:
            told = launch("list", family)
        except RunError as error:
            missing[family] = str(error)
            continue
        for facts in told["contenders"]:
            store = stores[facts["reads_compressed"]]
            folder = scratch / facts["label"] if facts["writes"] else store
            if any(word in facts["label"] for word in words):
                entries.append(Entry(family=family, facts=facts, folder=folder, store=store))
    return entries, missing


def prepare(launch: Launcher, entries: Sequence[Entry], samples: int, failed: dict[str, str]) -> None:
    """Writes what is not there yet."""
    for entry in entries:
        if entry.facts["writes"] and not (entry.folder / "patch_px.txt").exists():
            print(f"write {entry.label}", flush=True)
            shutil.rmtree(entry.folder, ignore_errors=True)
            try:
                launch("write", entry.family, entry.label, entry.folder, entry.store, samples)
            except RunError as error:
                failed[entry.label] = f"writing: {error}"


def run_round(launch: Launcher, entries: Sequence[Entry], seconds: float, ledger: Ledger) -> None:
    """Every contender once: cold with its most workers, then warm with each number of them."""
    for entry in entries:
        if entry.label in ledger.failed:
            continue
        workers = entry.facts["workers"]
        try:
            if not entry.label.startswith("limit"):
                page_cache.evict(entry.folder)
                window_s = WHOLE_EPOCH_S if entry.facts["once_only"] else COLD_WINDOWS * seconds
                result = _run(launch, entry, workers[-1], window_s, "cold")
                ledger.cold[entry.label, workers[-1]].append(result)
            if not entry.facts["once_only"]:
                page_cache.warm(entry.folder)
                for number in workers:
                    result = _run(launch, entry, number, seconds, "warm")
                    ledger.warm[entry.label, number].append(result)
        except RunError as error:
            ledger.failed[entry.label] = str(error)
            print(f"failed {entry.label}: {error}", flush=True)


def _run(launch: Launcher, entry: Entry, workers: int, seconds: float, state: str) -> Result:
    resident = page_cache.resident_share(entry.folder)
    if state == "cold" and resident > COLD_RESIDENT:
        raise RunError(f"not cold: {resident:.0%} of its pages stayed in memory")
    watches: list[MemoryWatch] = []

    def watch(pid: int) -> None:
        watches.append(MemoryWatch(pid))
        watches[0].start()

    figures = launch("run", entry.family, entry.label, entry.folder, entry.store, workers, seconds, state, watch=watch)
    watches[0].join()
    result = Result(figures=figures, own_bytes=watches[0].own, mapped_bytes=watches[0].mapped, resident_before=resident)
    print(f"{state} {entry.label} {workers}: {result.rate:,.0f}/s, {result.cpu_s_per_1000:.3f} CPU-s", flush=True)
    return result


def main() -> None:
    """Write the data, run the rounds, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    parser.add_argument("--scratch", type=Path, default=SCRATCH)
    parser.add_argument("--clean", action="store_true", help="remove the scratch folder at the end")
    parser.add_argument("--only", default="", help="comma-separated words; contenders whose label holds one of them")
    parser.add_argument("--rounds", type=int)
    given = parser.parse_args()
    size = QUICK if given.quick else FULL
    scratch = (given.scratch / str(size.samples)).absolute()
    launch, ledger = Launcher(given.python.absolute()), Ledger()
    stores = {
        compressed: make_store(scratch / f"store-{codec}", size.samples, codec=codec)
        for compressed, codec in ((True, "blosc-lz4"), (False, "none"))
    }
    entries, missing = roster(launch, stores, scratch, given.only)
    prepare(launch, entries, size.peer_samples, ledger.failed)
    os.sync()
    for number in range(given.rounds or size.rounds):
        random.Random(number).shuffle(entries)
        run_round(launch, entries, size.seconds, ledger)
    facts = {entry.label: entry.facts | {"bytes": page_cache.size_bytes(entry.folder)} for entry in entries}
    versions = launch("list", "ours")["versions"]
    report = sections(
        ledger, facts, missing, {**vars(size), "cold_seconds": COLD_WINDOWS * size.seconds, "versions": versions}
    )
    command = " ".join(["python", "tests/benchmarks/bench_loader.py", *(["--quick"] if given.quick else [])])
    if not given.only:
        print(write_results("loader", "Streaming into training: ours and seven others", command, report))
    else:
        print("\n".join(section.markdown() for section in report))
    if given.clean:
        shutil.rmtree(given.scratch)


if __name__ == "__main__":
    main()
