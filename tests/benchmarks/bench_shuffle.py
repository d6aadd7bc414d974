"""How well the sample orders mix scenes, and what an epoch's order costs.

    PYTHONPATH=training python tests/benchmarks/bench_shuffle.py [--samples 1000000]

One core, half a minute. Writes results/shuffle.{json,md} beside this file.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from typing import Any

import numpy as np
from measure import MIB, Section, Spread, run_with_one_thread, write_results

from sarmae.stream.loader_settings import LoaderSettings
from sarmae.stream.order.sample_order import Order
from sarmae.stream.order.specification import OrderSpec, StoreShare, divisors

BATCH = 256
SAMPLE_MB = 0.368  # compressed, design/storage.md
PACK_SEED = 20251216
EPOCHS = (0, 1)
Lanes = tuple[int, int | None, int | None]  # block, lanes, window; None: as below
MOST_LANES = 512
MOST_SAMPLES = 16_384  # lanes x window: 6 GB of cache at 368 KB a sample
SETTINGS: tuple[Lanes, ...] = (
    (16, None, None),
    (32, None, None),
    (16, 256, 16),
    (16, 256, 32),
    (16, 256, 128),
    (32, 256, 32),
    (32, 256, 128),
    (16, 64, 64),
    (16, 64, 256),
    (16, 64, 512),
    (32, 64, 256),
    (32, 64, 512),
    (16, 16, 256),
    (16, 16, 1024),
    (32, 16, 1024),
    (32, 16, 4096),
    (16, 8, 16),
    (32, 8, 32),
)

BATCHES = (32, 256, 1024, 4096)

QUALITY_NOTE = f"""Pairs of samples of the same scene, over all batches of two epochs, relative to what uniform sampling
without replacement gives: within a batch of {BATCH}, and between one batch and the next. Scenes' sizes are lognormal
(sigma 0.5) around samples / scenes. *As packed*: the pipeline shuffles a split's samples once before it writes them
(core/select.py), so that neighbours in a store are no neighbours on the ground; *scene order* is the hard case, a store
that nobody shuffled. In flight: lanes x (window + block), what must be at hand at any time; first batch: samples in
the blocks that the first batch of an epoch touches, all of which a reader that fetches whole blocks needs before it can
deliver. Goal within a batch: 1.0 local, at most 1.6 remote. The first two rows of lanes are the defaults at blocks of
16 and 32. Expected of lanes in scene order, within a batch: 1 + b S / B (1 - C / G), where b is the block, S the number
of scenes, B = lanes x window; so C = G mixes best at the same B, and what a larger window then buys is that batches in
succession differ."""
BATCHES_NOTE = """Default block, lanes and window, read as above."""
COST_NOTE = f"""One process, one thread, batches of {BATCH}; CPU seconds, which others on the machine disturb less.
Set-up: until the first batch of a new epoch, over five epochs. Peak: memory traced while it is made, over what is kept.
Kept: pools and two epochs. A batch: microseconds, once the epoch is set up. Goal: under 0.3 s for a million."""


def scene_of_sample(samples: int, scenes: int, *, packed: bool) -> np.ndarray:
    """(samples,) scene numbers in the store's order."""
    sizes = np.random.default_rng(7).lognormal(0, 0.5, scenes)
    borders = np.round(np.cumsum(sizes) / sizes.sum() * samples).astype(np.int64)
    scene = np.searchsorted(borders, np.arange(samples), side="right")
    if packed:  # as core/select.py does for split 0
        scene = scene[np.argsort(np.random.Philox([PACK_SEED, 0]).random_raw(samples), kind="stable")]
    return scene


def pair_ratios(order: Order, scene: np.ndarray, scenes: int) -> tuple[float, float]:
    """Same-scene pairs within batches and between successive ones, over their expectations."""
    sizes = np.bincount(scene, minlength=scenes).astype(float)
    same = (sizes * (sizes - 1)).sum() / (len(scene) * (len(scene) - 1))  # probability that two samples share a scene
    within, between = [], []
    for epoch in EPOCHS:
        numbers = np.stack([order.batch(epoch, step) for step in range(order.steps)])
        cells = scene[numbers] + scenes * np.arange(order.steps)[:, None]
        counts = np.bincount(cells.ravel(), minlength=scenes * order.steps).reshape(order.steps, scenes)
        size = numbers.shape[1]
        within.append((counts * (counts - 1)).sum() / order.steps / (size * (size - 1) * same))
        between.append((counts[1:] * counts[:-1]).sum() / (order.steps - 1) / (size**2 * same))
    return float(np.mean(within)), float(np.mean(between))


def order_of(samples: int, lanes: Lanes | None, batch: int = BATCH) -> Order:
    store = StoreShare(name="store", digest="none", size=samples)
    if lanes is None:
        return Order(OrderSpec(settings=LoaderSettings(seed=1, global_batch=batch), stores=(store,)))
    block, count, window = lanes
    count = count or max(number for number in divisors(batch) if number <= MOST_LANES)
    window = window or max(4 * block, MOST_SAMPLES // count)
    settings = LoaderSettings(seed=1, global_batch=batch, order="lanes", block=block, lanes=count, window=window)
    return Order(OrderSpec(settings=settings, stores=(store,)))


def quality_row(samples: int, lanes: Lanes | None, batch: int = BATCH) -> dict[str, Any]:
    order, row = order_of(samples, lanes, batch), {}
    spec = order.spec
    layouts = [("as packed, 1,000 scenes", 1000, True)]
    layouts += [(f"scene order, {scenes:,} scenes", scenes, False) for scenes in (250, 1000, 4000)]
    for title, scenes, packed in layouts:
        within, between = pair_ratios(order, scene_of_sample(samples, scenes, packed=packed), scenes)
        row[title] = f"{within:.2f} / {between:.2f}"
    if lanes is None:
        return {"mode": "full", "block": "", "lanes": "", "window": ""} | row | {"in flight": "", "first batch": ""}
    touched = sum(block.stop - block.start for block in order.upcoming(0, 0, 1))
    in_flight = spec.lanes * (spec.window + spec.block)
    setting = {"mode": "lanes", "block": spec.block, "lanes": spec.lanes, "window": spec.window}
    sizes = {"in flight": f"{in_flight:,} ({in_flight * SAMPLE_MB / 1000:.1f} GB)"}
    sizes["first batch"] = f"{touched:,} ({touched * SAMPLE_MB / 1000:.1f} GB)"
    return setting | row | sizes


def cost_row(samples: int, lanes: Lanes | None) -> dict[str, Any]:
    tracemalloc.start()
    order = order_of(samples, lanes)
    order.batch(0, 0)
    order.batch(1, 0)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    seconds = []
    for epoch in range(2, 7):
        start = time.process_time()
        order.batch(epoch, 0)
        seconds.append(time.process_time() - start)
    steps = min(order.steps, 3000)
    start = time.process_time()
    for step in range(steps):
        order.batch(6, step)
    return {
        "samples": samples,
        "mode": "lanes" if lanes else "full",
        "set-up, CPU-s": str(Spread.of(seconds)),
        "peak, MiB": (peak - kept) / MIB,
        "peak, bytes a sample": (peak - kept) / samples,
        "kept, MiB": kept / MIB,
        "a batch, CPU-us": (time.process_time() - start) / steps * 1e6,
    }


def main() -> None:
    """Run everything, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1_000_000)
    arguments = parser.parse_args()
    run_with_one_thread()
    quality = [quality_row(arguments.samples, lanes) for lanes in (None, *SETTINGS)]
    batches = [{"batch": batch} | quality_row(arguments.samples, SETTINGS[0], batch) for batch in BATCHES]
    cost = [cost_row(samples, lanes) for samples in (1_000_000, 10_000_000) for lanes in (None, SETTINGS[0])]
    sections = [
        Section(title=f"Same-scene pairs, {arguments.samples:,} samples", note=QUALITY_NOTE, rows=quality),
        Section(title="The defaults at other batch sizes", note=BATCHES_NOTE, rows=batches),
        Section(title="Cost of an epoch's order", note=COST_NOTE, rows=cost),
    ]
    command = "PYTHONPATH=training python tests/benchmarks/bench_shuffle.py"
    print(write_results("shuffle", "How well the sample orders mix", command, sections))


if __name__ == "__main__":
    main()
