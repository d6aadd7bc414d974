"""Reading a store over a network with a price: cold cache, cached, resumed, beside the same store on the local disk.

    python tests/benchmarks/bench_remote.py [--samples 4096] [--rounds 3] [--scratch FOLDER]

A server in a process of its own (tests/servers/objects.py) makes every answer wait 30 ms and holds every stream to a
bandwidth. Blocks of 32 consecutive samples are read in random order, SAR and optical, and decoded by two threads,
WINDOW blocks ahead. Writes results/remote.{json,md}. About four minutes; a 1.1 GB store in the scratch folder is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from loader_store import make_store
from measure import Section, write_results

from sarmae.data.cache import CacheConfig
from sarmae.data.layout import open_split
from sarmae.data.objects import Objects, open_objects
from sarmae.data.reader import SplitReader

BLOCK = 32
WINDOW = 12  # blocks ahead, two ranges each: more than are in flight
DECODERS = 2
LATENCY_MS = 30.0
NETWORKS = ((100.0, 8), (50.0, 16), (25.0, 8), (25.0, 32))  # MB/s a stream, requests in flight
SERVER = Path(__file__).parents[1] / "servers" / "objects.py"


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One pass over all samples. served: requests and bytes of the server."""

    samples_per_s: float
    first_block_s: float
    cpu_s_per_1000: float
    requests: int
    served_bytes: int


@dataclass(frozen=True, kw_only=True)
class Service:
    """The running server."""

    url: str
    process: psutil.Process

    def counts(self) -> tuple[int, int]:
        with urllib.request.urlopen(f"{self.url}/.count", timeout=5) as answer:  # noqa: S310 - loopback
            counted = json.load(answer)
        return counted["requests"], counted["sent_bytes"]

    def cpu_s(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)


@contextmanager
def serving(store: Path, stream_mb_per_s: float) -> Iterator[Service]:
    """The paced server over a folder, ended with the context."""
    command = [sys.executable, str(SERVER), str(store), "--latency-ms", str(LATENCY_MS)]
    command += ["--stream-mb-per-s", str(stream_mb_per_s)]
    paths = os.pathsep.join([str(SERVER.parents[1]), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": paths}) as server:
        try:
            assert server.stdout is not None
            yield Service(url=f"http://127.0.0.1:{int(server.stdout.readline())}", process=psutil.Process(server.pid))
        finally:
            server.terminate()


def read_all(objects: Objects, seed: int) -> tuple[float, float, int]:
    """Seconds for all samples, seconds to the first block, and how many samples: blocks in random order."""
    began = time.perf_counter()
    index = open_split(objects, "train")
    reader = SplitReader(index, objects)
    starts = np.random.default_rng(seed).permutation(np.arange(0, len(index), BLOCK))
    blocks = [np.arange(start, min(start + BLOCK, len(index))) for start in starts]
    first: list[float] = []

    def read(block: np.ndarray) -> None:
        sar = np.empty((len(block), *index.sar.sample_shape), index.sar.dtype)
        optical = np.empty((len(block), *index.optical.sample_shape), index.optical.dtype)
        faults = reader.read_into(block, np.arange(len(block)), sar, optical)
        if faults:
            raise faults[0]
        first.append(time.perf_counter() - began)

    def bring(block: np.ndarray) -> np.ndarray:
        objects.prefetch(reader.ranges(block))
        return block

    with ThreadPoolExecutor(WINDOW) as fetchers, ThreadPoolExecutor(DECODERS) as decoders:
        for done in [decoders.submit(read, brought) for brought in fetchers.map(bring, blocks)]:
            done.result()
    return time.perf_counter() - began, first[0], len(index)


def measured(objects: Objects, service: Service, seed: int) -> Pass:
    """A pass, with what it cost this process and the server."""
    requests, served_bytes = service.counts()
    cpu_s = time.process_time()
    seconds, first_s, samples = read_all(objects, seed)
    cpu_s = time.process_time() - cpu_s
    after = service.counts()
    objects.close()
    return Pass(
        samples_per_s=samples / seconds,
        first_block_s=first_s,
        cpu_s_per_1000=cpu_s / samples * 1000,
        requests=after[0] - requests,
        served_bytes=after[1] - served_bytes,
    )


def passes(store: Path, service: Service, cache: CacheConfig, seed: int) -> dict[str, Pass]:
    """Cold cache; the same process again; as a new process would (nothing trusted yet); the local store."""
    shutil.rmtree(cache.root, ignore_errors=True)
    remote = open_objects(service.url, cache)
    return {
        "cold cache": measured(remote, service, seed),
        "cached, same process": measured(remote, service, seed + 1),
        "cached, resumed": measured(open_objects(service.url, cache), service, seed + 2),
        "local store": measured(open_objects(str(store)), service, seed + 1),
    }


def network_rows(store: Path, scratch: Path, rounds: int) -> Iterator[dict[str, Any]]:
    """A row for every network and kind of pass; medians over rounds, cache and local in turn."""
    for stream_mb_per_s, in_flight in NETWORKS:
        cache = CacheConfig(root=scratch / "cache", max_bytes=8 * 2**30, in_flight=in_flight)
        with serving(store, stream_mb_per_s) as service:
            server_cpu_s = service.cpu_s()
            found = [passes(store, service, cache, seed=10 * number) for number in range(rounds)]
            server_cpu_s = (service.cpu_s() - server_cpu_s) / rounds
        for kind in found[0]:
            of_kind = [by_kind[kind] for by_kind in found]
            rate = statistics.median(each.samples_per_s for each in of_kind)
            cold = kind == "cold cache"
            limit = stream_mb_per_s * 1e6 * in_flight / _sample_bytes(store)
            yield {
                "MB/s a stream": stream_mb_per_s,
                "in flight": in_flight,
                "pass": kind,
                "samples/s": rate,
                "slowest": min(each.samples_per_s for each in of_kind),
                "first block s": statistics.median(each.first_block_s for each in of_kind),
                "CPU-s per 1,000": statistics.median(each.cpu_s_per_1000 for each in of_kind),
                "requests": max(each.requests for each in of_kind),
                "MB served": max(each.served_bytes for each in of_kind) / 1e6,
                "of the network's limit": rate / limit if cold else "",
                "server CPU-s": server_cpu_s if cold else "",
            }


def widening_rows(store: Path) -> list[dict[str, Any]]:
    """Bytes fetched over bytes asked for, of a single block of 32 samples, by the unit that ranges are rounded to."""
    objects = open_objects(str(store))
    index = open_split(objects, "train")
    reader = SplitReader(index, objects)
    ranges = [each for start in range(0, len(index), BLOCK) for each in reader.ranges(np.arange(start, start + BLOCK))]
    asked = sum(each.stop - each.start for each in ranges)
    rows = []
    for unit_kib in (64, 128, 256, 1024, 4096, 8192):
        unit = unit_kib * 1024
        fetched = sum(
            min(-(-each.stop // unit) * unit, index.files[each.name]) - each.start // unit * unit for each in ranges
        )
        rows.append({"unit KiB": unit_kib, "fetched / asked": fetched / asked})
    return rows


def _sample_bytes(store: Path) -> float:
    index = open_split(open_objects(str(store)), "train")
    return sum(index.files.values()) / len(index)


NOTE = (
    f"Every answer waits {LATENCY_MS:g} ms, every stream is held to its bandwidth; blocks of {BLOCK} samples in random "
    f"order, {WINDOW} blocks ahead, {DECODERS} decoding threads. Opening the store is part of every pass. Server and "
    "reader share the machine's cores (server CPU-s: of a round of four passes). Medians and slowest of the rounds."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scratch", type=Path, default=Path("build/bench/remote"))
    given = parser.parse_args()
    store = given.scratch / f"store-{given.samples}"
    if not store.is_dir():
        make_store(store, given.samples)
    rows = list(network_rows(store, given.scratch, given.rounds))
    title = f"Over the network: {given.samples:,} samples of {_sample_bytes(store) / 1e3:.0f} kB"
    widening = "What rounding a block's ranges to a unit costs where its neighbours are not wanted yet, or evicted."
    sections = [
        Section(title=title, note=NOTE, rows=rows),
        Section(title="Unit of presence", note=widening, rows=widening_rows(store)),
    ]
    print(
        write_results("remote", "Remote stores and the disk cache", "python tests/benchmarks/bench_remote.py", sections)
    )


if __name__ == "__main__":
    main()
