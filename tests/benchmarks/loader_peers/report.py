"""The tables of the loader's benchmark: figures, goals, settings, objections."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from loader_peers.runs import Ledger, Mode, Result
from measure import MIB, Section, Spread

Facts = Mapping[str, Mapping[str, Any]]

OURS, PLAIN, LIMIT, NPY = "ours-lz4", "ours-none", "limit-lz4", "npy-memmap-none"
GOAL_RATIO, GOAL_LIMIT, GOAL_FIRST_S = 3.0, 0.8, 0.5
BATCH_MIB = 64 * (2 * 2 + 3) * 256**2 / MIB
BOUND_MIB = 8 * BATCH_MIB  # (prefetch 4 + 2) batches, and two more for read buffers and the allocator

HOW = """A run is a process of its own. Samples a second and CPU-seconds for 1,000 samples (user and system time of
the process and all below it) come from a window of {seconds:g} s in the steady state (warm) or from before the loader
is made to the end of the first epoch or of {cold_seconds:g} s, first batch included (cold: pages dropped with
posix_fadvise after sync; the share left, by mincore, is at most 2 %). Batches of 64: SAR uint16 (2, 256, 256),
optical uint16 (3, 256, 256), paired, id, owned by the caller; one byte of every page is read; each run's last batch is
compared with the store byte for byte (the lossy pictures: shapes and pairs only). Memory is looked at twice a second.
Medians of the rounds, quartiles in brackets. Workers: processes of torch's DataLoader; of ours and of the limits:
threads beside the caller's own, 0 for none. First batch: from constructing the loader, imports left out. Memory: peak
of anonymous and shared pages of the whole process tree less what the process held after its imports; in brackets with
mapped files, which the system may take back. {samples:,} samples, a quarter of them unpaired (no bytes in any
format)."""

OBJECTIONS = """What a fair reader may object to:
- The peers' figures are not their defaults. All get bytes fields or whole-batch fetches, decode straight into the
  batch (in workers: into shared memory), persistent workers, four batches ahead, and our own codec where they take
  bytes. The rows `as documented` show their own way of storing arrays; somebody may know faster settings still.
- Where a peer stores pixels uncompressed it decodes nothing: no compressed loader on this machine can take less
  CPU time than the row `limit, lz4`. What compression buys stands under MB on disk and in the cold rows.
- MosaicML Streaming, LitData and WebDataset are made for remote shards and many nodes; here all read a local disk.
- The `lz4 samples` rows are our own addition to them. MosaicML Streaming itself compresses whole shards, unpacked to
  disk at their first use: its cold row is that whole first epoch; from the second on it reads what the uncompressed row
  reads, at that size on disk.
- The peers' folders hold the first {peer_samples:,} of the samples, to fit on a disk; ours and zarr-python's all.
- Two cores: two workers and the process that takes the batches share them. With more cores, processes scale further
  than threads that share one interpreter; ours can be put into DataLoader's workers too (a row shows it).
- Shuffling differs: ours, npy, HDF5, zarr, pictures permute everything; MDS, LitData shuffle within blocks of shards;
  WebDataset through a buffer of 512. A stronger shuffle costs the permuting ones more, cold most of all.
- Ours verifies a checksum of every chunk; of the others only zarr-python on the same store does.
- Ours hands its buffers out again once the caller has dropped a batch. Who keeps batches pays for fresh memory, as the
  peers do.
- Samples are simulated, 192 patches turned and rolled: real scenes compress by some per cent more or less.
- HDF5 and npy have one file for all; a folder of pictures is 1,024 samples.
- The limit decodes 1,024 samples from memory, a smaller set than the page cache holds for the readers."""


def sections(ledger: Ledger, facts: Facts, missing: Mapping[str, str], run: Mapping[str, Any]) -> list[Section]:
    """All of the report. run: samples, peer_samples, seconds, cold_seconds, versions of the peers' environment."""
    versions = ", ".join(f"{name} {number}" for name, number in run["versions"].items())
    note = HOW.format(**run) + f" Read with {versions}."
    modes = sorted({*ledger.warm, *ledger.cold}, key=lambda mode: _place(mode, facts))
    found = [Section(title="Figures", note=note, rows=[_figures(mode, ledger, facts) for mode in modes])]
    if any(label == OURS for label, _ in ledger.warm):
        found += [Section(title="Goals", note="From the warm rows.", rows=_goals(ledger, facts))]
    settings = [{"loader": _name(facts[label]), "settings": facts[label]["settings"]} for label in _labels(modes)]
    found += [Section(title="Settings", note=OBJECTIONS.format(peer_samples=run["peer_samples"]), rows=settings)]
    faults = [*missing.items(), *ledger.failed.items()]
    if faults:
        rows = [{"loader": name, "cause": cause.replace("|", "/")} for name, cause in faults]
        found += [Section(title="Not measured", note="Not installed, or failed.", rows=rows)]
    return found


def _place(mode: Mode, facts: Facts) -> tuple[int, str, int]:
    label, workers = mode
    first = 0 if label.startswith("ours") else 1 if label.startswith("limit") else 3 - facts[label]["streaming"]
    return (first, label, workers)


def _labels(modes: Sequence[Mode]) -> list[str]:
    return list(dict.fromkeys(label for label, _ in modes))


def _name(facts: Mapping[str, Any]) -> str:
    return f"{facts['name']}, {facts['variant']}"


def _figures(mode: Mode, ledger: Ledger, facts: Facts) -> dict[str, Any]:
    warm, cold = ledger.warm.get(mode, []), ledger.cold.get(mode, [])
    described = facts[mode[0]]
    return {
        "loader": _name(described),
        "workers": mode[1],
        "samples/s": _spread(warm, lambda result: result.rate),
        "CPU-s per 1,000": _spread(warm, lambda result: result.cpu_s_per_1000),
        "first batch s": _spread(warm, lambda result: result.figures["first_batch_s"]),
        "memory MiB": _memory([*warm, *cold]),
        "cold samples/s": _spread(cold, lambda result: result.rate),
        "cold CPU-s per 1,000": _spread(cold, lambda result: result.cpu_s_per_1000),
        "cold first batch s": _spread(cold, lambda result: result.figures["first_batch_s"]),
        "cold MB/s off disk": _spread(cold, lambda r: r.figures["read_bytes"] / r.figures["wall_s"] / 1e6),
        "MB on disk": round(described["bytes"] / 1e6),
    }


def _spread(results: Sequence[Result], of: Callable[[Result], float]) -> str:
    if not results:
        return ""
    spread = Spread.of([of(result) for result in results])
    return str(spread) if spread.repeats > 1 else f"{spread.median:.3g}"


def _memory(results: Sequence[Result]) -> str:
    own = max(result.own_bytes - result.figures["after_imports_bytes"] for result in results)
    mapped = max(result.mapped_bytes for result in results)
    return f"{max(own, 0) / MIB:.0f} ({mapped / MIB:.0f})"


def _goals(ledger: Ledger, facts: Facts) -> list[dict[str, str]]:
    rows = _peer_goals(ledger, facts) + _limit_goals(ledger)
    ours = [mode for mode in ledger.warm if mode[0] == OURS]
    first_s = max(median(r.figures["first_batch_s"] for r in ledger.warm[mode]) for mode in ours)
    rows += [
        _goal("first batch, warm, slowest number of threads", f"{first_s:.3f} s", first_s < GOAL_FIRST_S, "< 0.5 s")
    ]
    own = max(r.own_bytes - r.figures["after_imports_bytes"] for mode in ours for r in ledger.warm[mode]) / MIB
    rows += [_goal("memory beyond imports, compressed", f"{own:.0f} MiB", own < BOUND_MIB, f"< {BOUND_MIB:.0f} MiB")]
    if any(label == NPY for label, _ in ledger.warm) and any(label == PLAIN for label, _ in ledger.warm):
        ratio, told = _against(ledger, PLAIN, [mode for mode in ledger.warm if mode[0] == NPY], _rate, largest=True)
        rows += [_goal(f"uncompressed, samples/s: {told}", f"{ratio:.2f}", ratio >= 1, ">= 1")]
    return rows


def _peer_goals(ledger: Ledger, facts: Facts) -> list[dict[str, str]]:
    streaming = [mode for mode in ledger.warm if facts[mode[0]]["streaming"]]
    groups = {
        "best streaming peer, any variant": streaming,
        "best with our codec in it": [mode for mode in streaming if facts[mode[0]]["reads_compressed"]],
        "best as documented": [mode for mode in streaming if "documented" in mode[0]],
        "best with its own compression": [mode for mode in streaming if "zstd" in mode[0]],
    }
    rows = []
    for heading, peers in groups.items():
        if peers:
            ratio, told = _against(ledger, OURS, peers, _rate, largest=True)
            rows.append(_goal(f"samples/s, {heading}: {told}", f"{ratio:.2f}", ratio >= GOAL_RATIO, ">= 3"))
            ratio, told = _against(ledger, OURS, peers, _cpu, largest=False)
            rows.append(_goal(f"CPU-seconds, {heading}: {told}", f"{1 / ratio:.2f}", 1 / ratio >= GOAL_RATIO, ">= 3"))
    return rows


def _limit_goals(ledger: Ledger) -> list[dict[str, str]]:
    """Threads of ours beside threads of the limit; ours with 0 decodes in the caller's own thread, as the limit's 1."""
    rows = []
    for threads, decoding in ((0, 1), (1, 1), (2, 2)):
        for limit in (LIMIT, f"{LIMIT}-and-crc32c"):
            mine, bound = (OURS, threads), (limit, decoding)
            if mine in ledger.warm and bound in ledger.warm:
                rate, cpu = ledger.ratio(mine, bound, _rate), ledger.ratio(bound, mine, _cpu)
                heading = f"ours ({threads}) of {limit} ({decoding})"
                rows.append(_goal(f"samples/s, {heading}", f"{rate:.0%}", rate >= GOAL_LIMIT, ">= 80 %"))
                rows.append(_goal(f"CPU-seconds, {heading}", f"{cpu:.0%}", cpu >= GOAL_LIMIT, ">= 80 %"))
    return rows


def _against(
    ledger: Ledger, ours: str, peers: Sequence[Mode], of: Callable[[Result], float], *, largest: bool
) -> tuple[float, str]:
    """Our best mode over the peers' best, and which they are."""
    mine = ledger.best([mode for mode in ledger.warm if mode[0] == ours], of, largest=largest)
    theirs = ledger.best(peers, of, largest=largest)
    return ledger.ratio(mine, theirs, of), f"{mine[0]} ({mine[1]}) to {theirs[0]} ({theirs[1]})"


def _rate(result: Result) -> float:
    return result.rate


def _cpu(result: Result) -> float:
    return result.cpu_s_per_1000


def _goal(what: str, found: str, met: bool, goal: str) -> dict[str, str]:
    return {"what": what, "found": found, "goal": goal, "": "met" if met else "missed"}
