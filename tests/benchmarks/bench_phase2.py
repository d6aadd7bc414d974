"""Phase 2 without pixels: from staged records to tables and statistics, by the number of samples.

    python tests/benchmarks/bench_phase2.py [--samples 10000 100000 1000000] [--scratch FOLDER]

Records of a simulated build are repeated under other names, at other places and with other hashes, and staged by the
product's own function, with chunks of four bytes. A process of its own then runs choose, plan_packing and write_tables
over them, as `sar1m build` does before it packs the first shard. A thousand samples take some 7 MB on the
scratch; staging them takes longer than phase 2. Writes results/phase2.{json,md}.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from measure import Section, run_with_one_thread, write_results

from sar1m.config import BuildConfig
from sar1m.records import Row
from sar1m.sources.simulated import SimulatedSource
from sar1m.stages.choose import choose
from sar1m.stages.pack import plan_packing, write_tables
from sar1m.stages.plan import Plan, PlannedItem, make_plan, read_plan, write_plan
from sar1m.stages.prepare import prepare_block
from sar1m.stages.staged import StagedRecord, write_staged
from sar1m.store.outputs.folder import FolderOutput

PATCHES = 16  # of a block
TEMPLATES = 3
STEPS = ("read, select, number", "digest of the packing", "tables and statistics")


class UnsyncedOutput(FolderOutput):
    """A folder without a sync a file: the staged blocks of a benchmark need not survive a power cut."""

    def write_once(self, name: str, content: bytes) -> None:
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def templates(config: BuildConfig) -> tuple[Plan, list[StagedRecord]]:
    """A plan, and records of prepared blocks."""
    source = SimulatedSource(2 * TEMPLATES)
    candidates = [one for one in source.candidates(config) if one.optical is not None][:TEMPLATES]
    records = [prepare_block(one, source.read(one, config), config)[0] for one in candidates]
    return make_plan("simulated", iter(candidates), config)[0], records


def stage(out: Path, samples: int, plan: Plan, records: list[StagedRecord]) -> None:
    """Stages so many samples."""
    rng, staging = np.random.default_rng(5), FolderOutput(out / "staging")
    blocks = UnsyncedOutput(out / "staging" / plan.blocks)
    items = []
    for number in range(samples // PATCHES):
        key = f"{(number * 0x9E3779B97F4A7C15) % 2**64:016x}{number:016x}"
        record = _moved(records[number % len(records)], number, rng)
        names = [f"{row['patch']}/{array}" for row in record.rows for array in ("sar", "optical")]
        write_staged(blocks, key, record, dict.fromkeys(names, b"none"))
        items.append(PlannedItem(item_id=f"block {number:08d}", key=key, patches=PATCHES))
    write_plan(staging, replace(plan, items=tuple(items)))


def _moved(record: StagedRecord, number: int, rng: np.random.Generator) -> StagedRecord:
    """The record at a place of its own: blocks stand 10 km apart on land of some 20 degrees, then further east."""
    cell = f"{number:08d}"
    lat, lon = -60 + 0.1 * (number % 1200), -179 + 0.25 * (number // 1200)
    rows = list(_moved_rows(record.rows, cell, lon, lat, rng))
    names = {old["sample_id"]: new["sample_id"] for old, new in zip(record.rows, rows, strict=True)}
    patches = {old["patch"]: new["patch"] for old, new in zip(record.rows, rows, strict=True)}
    return StagedRecord(
        rows=rows,
        statistics=[{**one, "patch": patches[one["patch"]]} for one in record.statistics],
        self_test=[{**one, "sample_id": names[one["sample_id"]]} for one in record.self_test],
    )


def _moved_rows(rows: Any, cell: str, lon: float, lat: float, rng: np.random.Generator) -> Iterator[Row]:
    for place, row in enumerate(rows):
        east, north = lon + 0.023 * (place % 4), lat + 0.023 * (place // 4)
        yield {
            **row,
            "cell": cell,
            "site": cell,
            "patch": f"{cell}_{place // 4}_{place % 4}",
            "sample_id": f"{cell}_{place // 4}_{place % 4}_S1A_20200309T160227",
            "sar_product": f"{row['sar_product']}_{int(cell) // 400}",
            "optical_product": f"{row['optical_product']}_{int(cell) // 40}",
            "lon": east,
            "lat": north,
            "bounds_lonlat": [east - 0.0115, north - 0.0115, east + 0.0115, north + 0.0115],
            "phash": int(rng.integers(1, 2**63 - 1)),
        }


def run(out: Path) -> None:
    """Phase 2 over what is staged; prints seconds by step and the peak of memory as JSON."""
    config, folder = BuildConfig(name="simulated"), FolderOutput(out)
    plan = read_plan(folder.below("staging"))
    start, started, seconds = time.process_time(), time.perf_counter(), list[float]()
    choice = choose(folder.below("staging"), plan, config)
    seconds.append(time.process_time() - start)
    packing = plan_packing(folder, choice, plan.kind, config)
    seconds.append(time.process_time() - start - sum(seconds))
    write_tables(packing, plan, config)
    seconds.append(time.process_time() - start - sum(seconds))
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall = time.perf_counter() - started
    print(json.dumps({"cpu": seconds, "wall": wall, "peak_gb": peak_kb * 1024 / 1e9, "accepted": len(choice.samples)}))


def rows_of(found: dict[int, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """One row a size, with the exponent of time between it and the size before."""
    before: tuple[int, float] | None = None
    for samples, one in found.items():
        total = sum(one["cpu"])
        slope = "" if before is None else f"{math.log(total / before[1]) / math.log(samples / before[0]):.2f}"
        yield {
            "samples": f"{samples:,}",
            "accepted": f"{one['accepted']:,}",
            **{f"{name}, CPU s": seconds for name, seconds in zip(STEPS, one["cpu"], strict=True)},
            "all, CPU s": total,
            "wall s": one["wall"],
            "exponent": slope,
            "peak GB": f"{one['peak_gb']:.2f}",
        }
        before = samples, total


def main() -> None:
    """Stage, run, print and write the table."""
    run_with_one_thread()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--scratch", type=Path)
    parser.add_argument("--staged", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.staged is not None:
        run(given.staged)
        return
    plan, records = templates(BuildConfig(name="simulated"))
    found = {}
    for samples in given.samples:
        with tempfile.TemporaryDirectory(dir=given.scratch) as folder:
            stage(Path(folder), samples, plan, records)
            command = [sys.executable, __file__, "--staged", folder]
            answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found[samples] = json.loads(answer)
            print(samples, found[samples], flush=True)
    note = (
        "choose, plan_packing and write_tables in one process with one thread: all of phase 2 but shards, page and "
        "seal. exponent: of CPU time against the size before. peak: resident memory of the process."
    )
    section = Section(title="Phase 2 by samples", note=note, rows=list(rows_of(found)))
    command_line = "python tests/benchmarks/bench_phase2.py"
    print(write_results("phase2", "Phase 2 of a build by the number of samples", command_line, [section]))


if __name__ == "__main__":
    main()
