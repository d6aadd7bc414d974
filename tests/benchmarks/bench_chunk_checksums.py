"""What chunks bound to their place cost the reader, and what verify --quick saves.

    python tests/benchmarks/bench_chunk_checksums.py [--samples 1024] [--scratch FOLDER]

One store of 256 px pairs (`loader_store`), warm. The reader with and without checksums takes turns in one process, in
one thread; verify and verify --quick take turns on the disk and over a server on this machine. Writes
results/chunk_checksums.{json,md}; some two minutes on two quiet cores.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from loader_store import make_store
from measure import Section, write_results

from sar1m.releases.hub import open_release
from sar1m.store.chunk_checksums import QuickComparison
from sar1m.store.errors import StoreError
from sar1m.store.places.folder import FolderPlace
from sar1m.store.places.place import Place
from sar1m.store.schema import MARKER_FILE
from sar1m.store.seal import Comparison, content_faults, read_seal
from sarmae.stream.layout import open_split
from sarmae.stream.reader import SplitReader

ROUNDS = 7


def clock(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def alternate(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, float]]:
    """Medians of wall and CPU seconds; the order changes from round to round, the first round is thrown away."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name in sorted(contenders, reverse=number % 2 == 1):
            found[name].append(clock(contenders[name]))
    return {
        name: (statistics.median(w for w, _ in runs[1:]), statistics.median(c for _, c in runs[1:]))
        for name, runs in found.items()
    }


def readers(root: Path, samples: int) -> dict[str, Callable[[], object]]:
    """One pass over all pairs in batches of 64, in a random order."""
    place = FolderPlace(root)
    index = open_split(place, "train")
    bound, free = SplitReader(index, place), SplitReader(replace(index, checksums={}), place)
    sar = np.empty((64, *index.sar.sample_shape), dtype=index.sar.dtype)
    if index.optical is None:
        raise StoreError(f"{root}: no optical array; make the store anew.")
    optical = np.empty((64, *index.optical.sample_shape), dtype=index.optical.dtype)
    order, rows = np.random.default_rng(0).permutation(samples).reshape(-1, 64), np.arange(64)

    def read(reader: SplitReader) -> None:
        for batch in order:
            if reader.read_into(batch, rows, sar, optical):
                raise StoreError(f"{root}: damaged; make the store anew.")

    return {"with checksums": lambda: read(bound), "without": lambda: read(free)}


def comparisons(place: Place) -> dict[str, Callable[[], object]]:
    """Whole and quick comparison of a store with its seal."""

    def compare(how: Comparison) -> None:
        seal = read_seal(place, (MARKER_FILE,))
        if any(how(place, seal, sorted(seal.files))):
            raise StoreError(f"{place.location}: damaged; make the store anew.")

    return {"verify": lambda: compare(content_faults), "verify --quick": lambda: compare(QuickComparison())}


@contextmanager
def serving(root: Path) -> Iterator[str]:
    """The address of a server of these files, a process of its own: 5 ms to an answer, 100 MB/s a stream."""
    script = Path(__file__).parents[1] / "servers/objects.py"
    command = [sys.executable, str(script), str(root), "--latency-ms", "5", "--stream-mb-per-s", "100"]
    environment = os.environ | {"PYTHONPATH": str(script.parents[1])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip() if process.stdout else ''}"
        finally:
            process.terminate()


def main() -> None:
    """Make the store, measure, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--scratch", type=Path, default=Path("build/bench/checksums"))
    given = parser.parse_args()
    root = make_store(given.scratch, given.samples, 256, "blosc-lz4", 0)
    size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    reading = alternate(readers(root, given.samples), ROUNDS)
    disk = alternate(comparisons(FolderPlace(root)), 3)
    with serving(root) as url:
        place, quick = open_release(url), QuickComparison()
        web = alternate(comparisons(place), 3)
        seal = read_seal(place, (MARKER_FILE,))
        list(quick(place, seal, sorted(seal.files)))
    pairs = [
        {"reader": name, "wall s": wall, "CPU-s": cpu, "pairs/s": given.samples / wall}
        for name, (wall, cpu) in reading.items()
    ]
    checks = [
        {"command": name, "where": where, "wall s": wall, "CPU-s": cpu}
        for where, found in (("disk", disk), ("server on this machine, 5 ms to an answer, 100 MB/s a stream", web))
        for name, (wall, cpu) in found.items()
    ]
    size_note = f"{given.samples:,} pairs, {size / 1e6:,.0f} MB; medians, contenders in turn on a shared machine."
    quick_note = f"--quick read {quick.read_bytes / 1e6:.2f} MB and compared {quick.chunks:,} chunks."
    sections = [
        Section(title="Reading every pair, one thread", note=size_note, rows=pairs),
        Section(title="Comparing the store with its seal", note=quick_note, rows=checks),
    ]
    command = f"python tests/benchmarks/bench_chunk_checksums.py --samples {given.samples}"
    print(write_results("chunk_checksums", "Chunks bound to their place", command, sections))


if __name__ == "__main__":
    main()
