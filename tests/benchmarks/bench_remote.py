"""Training's loader over a network with a price: cold cache, cached, resumed, beside the local store in the same order.

    python tests/benchmarks/bench_remote.py [--samples 4096] [--rounds 3] [--scratch FOLDER]

A server in a process of its own (tests/servers/objects.py) makes every answer wait 30 ms and holds every stream to a
bandwidth. ShardLoader reads an epoch in `lanes` order, SAR and optical, two decoding threads, settings as they come.
Writes results/remote.{json,md}. About four minutes; a 1.1 GB store in the scratch folder is kept.
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
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from loader_store import make_store
from measure import Section, write_results

from sar1m.store.cache.bound import CacheConfig
from sar1m.store.cache.place import open_cached
from sarmae.stream.layout import open_split
from sarmae.stream.loader import ShardLoader
from sarmae.stream.loader_settings import LoaderSettings
from sarmae.stream.reader import SplitReader

BATCH = 64
BLOCK = LoaderSettings().block
DECODERS = 2
LATENCY_MS = 30.0
STREAMS_MB_PER_S = (100.0, 25.0)
STRETCH = 6  # the network this much slower, so that the machine is no limit and the requests' overlap shows alone
SERVER = Path(__file__).parents[1] / "servers" / "objects.py"


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One pass over all samples. served: requests and bytes of the server."""

    samples_per_s: float
    opening_s: float
    first_batch_s: float
    cpu_s_per_1000: float
    server_cpu_s_per_1000: float
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
def serving(store: Path, stream_mb_per_s: float, latency_ms: float = LATENCY_MS) -> Iterator[Service]:
    """The paced server over a folder, ended with the context."""
    command = [sys.executable, str(SERVER), str(store), "--latency-ms", str(latency_ms)]
    command += ["--stream-mb-per-s", str(stream_mb_per_s)]
    paths = os.pathsep.join([str(SERVER.parents[1]), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": paths}) as server:
        try:
            assert server.stdout is not None
            yield Service(url=f"http://127.0.0.1:{int(server.stdout.readline())}", process=psutil.Process(server.pid))
        finally:
            server.terminate()


def epoch(loader: ShardLoader, service: Service, began: float) -> Pass:
    """An epoch of an open loader, with what it cost this process and the server. began: when it was being opened."""
    opened, cpu_s, server_cpu_s = time.perf_counter(), time.process_time(), service.cpu_s()
    requests, served_bytes = service.counts()
    samples, first_s = 0, 0.0
    for batch in loader:
        first_s = first_s or time.perf_counter() - began
        samples += len(batch)
    seconds, cpu_s = time.perf_counter() - opened, time.process_time() - cpu_s
    after = service.counts()
    return Pass(
        samples_per_s=samples / seconds,
        opening_s=opened - began,
        first_batch_s=first_s,
        cpu_s_per_1000=cpu_s / samples * 1000,
        server_cpu_s_per_1000=(service.cpu_s() - server_cpu_s) / samples * 1000,
        requests=after[0] - requests,
        served_bytes=after[1] - served_bytes,
    )


def opened(location: str, cache: CacheConfig, seed: int) -> tuple[ShardLoader, float]:
    """A loader in lanes order, and when its opening began."""
    began = time.perf_counter()
    settings = LoaderSettings(global_batch=BATCH, seed=seed, threads=DECODERS, order="lanes")
    return ShardLoader([location], settings, cache=cache), began


def passes(store: Path, service: Service, cache: CacheConfig, seed: int) -> dict[str, Pass]:
    """Cold cache; the same process again; as a new process would (nothing trusted yet); the local store."""
    shutil.rmtree(cache.root, ignore_errors=True)
    remote, began = opened(service.url, cache, seed)
    found = {"cold cache": epoch(remote, service, began)}
    found["cached, next epoch"] = epoch(remote, service, time.perf_counter())
    found["cached, resumed"] = epoch(*_with(service, opened(service.url, cache, seed)))
    found["local store"] = epoch(*_with(service, opened(str(store), cache, seed)))
    return found


def _with(service: Service, loader_began: tuple[ShardLoader, float]) -> tuple[ShardLoader, Service, float]:
    return loader_began[0], service, loader_began[1]


def allowed_per_s(store: Path, stream_mb_per_s: float, in_flight: int) -> float:
    """Samples a second where every stream takes the latency and then a range of half a block at its bandwidth."""
    range_bytes = _sample_bytes(store) * BLOCK / 2
    return in_flight * BLOCK / 2 / (LATENCY_MS / 1e3 + range_bytes / (stream_mb_per_s * 1e6))


def network_rows(store: Path, scratch: Path, rounds: int) -> Iterator[dict[str, Any]]:
    """A row for every network and kind of pass; medians over rounds, cache and local in turn."""
    cores = len(os.sched_getaffinity(0))
    for stream_mb_per_s in STREAMS_MB_PER_S:
        cache = CacheConfig(root=scratch / "cache", max_bytes=8 * 2**30)
        with serving(store, stream_mb_per_s) as service:
            found = [passes(store, service, cache, seed=10 * number) for number in range(rounds)]
        allowed = allowed_per_s(store, stream_mb_per_s, cache.in_flight)
        for kind in found[0]:
            of_kind = [by_kind[kind] for by_kind in found]
            cpu_s = statistics.median(each.cpu_s_per_1000 for each in of_kind)
            server_cpu_s = statistics.median(each.server_cpu_s_per_1000 for each in of_kind)
            implied = cores * 1000 / (cpu_s + server_cpu_s)
            yield {
                "MB/s a stream": stream_mb_per_s,
                "pass": kind,
                "samples/s": statistics.median(each.samples_per_s for each in of_kind),
                "best": max(each.samples_per_s for each in of_kind),
                "CPU-s per 1,000": cpu_s,
                "server's": server_cpu_s,
                "the CPUs allow /s": implied,
                "the network allows /s": allowed if kind == "cold cache" else "",
                "opening s": statistics.median(each.opening_s for each in of_kind),
                "first batch s": statistics.median(each.first_batch_s for each in of_kind),
                "requests": max(each.requests for each in of_kind),
                "MB served": max(each.served_bytes for each in of_kind) / 1e6,
            }


def stretched_rows(store: Path, scratch: Path) -> Iterator[dict[str, Any]]:
    """Cold epochs on networks STRETCH times slower in latency and bandwidth; rates times STRETCH."""
    for stream_mb_per_s in STREAMS_MB_PER_S:
        for in_flight in (8, 16, 32):
            cache = CacheConfig(root=scratch / "cache", max_bytes=8 * 2**30, in_flight=in_flight)
            shutil.rmtree(cache.root, ignore_errors=True)
            with serving(store, stream_mb_per_s / STRETCH, LATENCY_MS * STRETCH) as service:
                one = epoch(*_with(service, opened(service.url, cache, 0)))
            rate, allowed = one.samples_per_s * STRETCH, allowed_per_s(store, stream_mb_per_s, in_flight)
            yield {
                "MB/s a stream": stream_mb_per_s,
                "in flight": in_flight,
                "samples/s": rate,
                "the network allows /s": allowed,
                "share of it": rate / allowed,
            }


def widening_rows(store: Path) -> list[dict[str, Any]]:
    """Bytes fetched over bytes asked for, of a single block of 32 samples, by the unit that ranges are rounded to."""
    objects = open_cached(str(store))
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
    index = open_split(open_cached(str(store)), "train")
    return sum(index.files.values()) / len(index)


NOTE = (
    f"An epoch of ShardLoader, order lanes, batches of {BATCH}, {DECODERS} decoding threads, all else as it comes (32 "
    f"GETs in flight). Every answer waits {LATENCY_MS:g} ms, then flows at the stream's bandwidth. The network allows: "
    "each of 32 streams brings 16 samples' bytes (half a block) in the latency plus bytes / bandwidth. The CPUs allow: "
    "cores / (CPU-seconds of reader and server a sample), which an otherwise idle machine of these cores could do; the "
    "measured rate is of a machine that others load too. First batch: from the beginning of the opening; next epoch: "
    "from asking. Medians of the rounds."
)
STRETCHED = (
    f"Latency and time a byte both times {STRETCH}, rates times {STRETCH}: what the requests' overlap gives where the "
    "CPU is no limit. One cold epoch each, its start included: the first batch waits for the blocks of all lanes."
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
        Section(title="The network alone", note=STRETCHED, rows=list(stretched_rows(store, given.scratch))),
        Section(title="Unit of presence", note=widening, rows=widening_rows(store)),
    ]
    print(
        write_results("remote", "Remote stores and the disk cache", "python tests/benchmarks/bench_remote.py", sections)
    )


if __name__ == "__main__":
    main()
