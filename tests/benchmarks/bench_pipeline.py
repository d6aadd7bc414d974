"""What a build costs: CPU time by stage, memory, speed-up, pack rate, and Dask's share.

    python tests/benchmarks/bench_pipeline.py [--quick] [--only stages,memory,speedup,pack,dask] [--scratch FOLDER]

Pairs of 256 px under configs/sar1m.toml from the simulated source, which stands in for download and geocoding and is
named apart. Prints tables and writes results/pipeline.{json,md}. About 20 minutes on two quiet cores; --quick takes
some four minutes and shows that it runs, no more. Needs 5 GB of scratch space, freed at the end.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from measure import MIB, Clock, Run, Section, Spread, run_command, run_with_one_thread, write_results
from pipeline_stages import PAIRS_PER_BLOCK, SOURCE, WHOLE_PHASE_1, measure_phase_1, measure_phase_2

from sar1m.config import resolve_config
from sar1m.flow import Workers, WorkersSettings
from sar1m.sources.simulated import SimulatedSource
from sar1m.stages.choose import choose
from sar1m.stages.pack import ShardTask, plan_packing, shard_tasks, write_shard
from sar1m.stages.plan import make_plan, read_plan
from sar1m.stages.prepare import prepare_item
from sar1m.store.durable import remove_tree, sync_directory
from sar1m.store.outputs.folder import FolderOutput
from sar1m.store.outputs.output import Output

Item = TypeVar("Item")

CONFIG = "sar1m"
GOAL_CPU_S = 15.0  # for 1,000 pairs
PHASE_2 = ("read records", "select and count", "tables and statistics", "pack", "report", "seal and install")


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured."""

    blocks: int  # whose stages are timed one by one
    rounds: int
    build_cells: int  # of the build that phase 2 and the cross-check are taken from
    memory_cells: tuple[int, ...]
    speedup_cells: int
    empty_items: int


FULL = Size(blocks=16, rounds=5, build_cells=63, memory_cells=(63, 125, 250, 500), speedup_cells=40, empty_items=3000)
QUICK = Size(blocks=3, rounds=2, build_cells=4, memory_cells=(2, 4), speedup_cells=4, empty_items=200)


def sar1m(cells: int, out: Path, workers: int) -> Run:
    """One real build through the command line, in a process of its own."""
    region = ["--region", f"simulated:{cells}", "--config", CONFIG]
    start = [sys.executable, "-c", "from sar1m.cli import main; main()", "build"]
    return run_command([*start, *region, "--workers", str(workers), "--out", str(out)])


def stage_sections(size: Size, scratch: Path) -> list[Section]:
    """CPU seconds by stage, and beside them a whole build as the system counts it."""
    config, out = resolve_config(CONFIG, []), scratch / "build"
    prepared = measure_phase_1(config, FolderOutput(scratch / "staging"), size.blocks, size.rounds)
    build = sar1m(size.build_cells, out, workers=0)
    empty = run_command([sys.executable, "-c", "import sar1m.cli"])
    finished = measure_phase_2(config, FolderOutput(out), size.rounds)
    shutil.rmtree(out)
    block_pairs, build_pairs = size.blocks * PAIRS_PER_BLOCK, size.build_cells * PAIRS_PER_BLOCK
    seconds = {name: Spread.of(values, 1000 / block_pairs) for name, values in prepared.seconds.items()}
    seconds |= {name: Spread.of(finished.seconds[name], 1000 / build_pairs) for name in PHASE_2}
    whole = seconds[WHOLE_PHASE_1].median + sum(seconds[name].median for name in PHASE_2)
    counted = 1000 * (build.cpu_s - empty.cpu_s) / build_pairs - seconds[SOURCE].median
    return [
        Section(
            title="CPU by stage",
            note=f"CPU seconds for 1,000 pairs on one core; median and quartiles. Phase 1: {size.blocks} blocks of "
            f"{PAIRS_PER_BLOCK} pairs, {size.rounds} rounds, every stage apart and `prepare_block` with `write_staged` "
            f"in one. Phase 2: over {build_pairs:,} candidates, {size.rounds} rounds. A report shows a fixed number of "
            "samples at most, so that its cost does not grow with the build.",
            rows=[_stage_row(name, spread) for name, spread in seconds.items()],
        ),
        Section(
            title="CPU end to end",
            note=f"Both phases without the source; goal: at most {GOAL_CPU_S:g} CPU-s for 1,000 pairs. The build as a "
            "whole: user and system time of `sar1m build --workers 0`, less imports, less the source as timed above "
            "on paired blocks; unpaired ones, a tenth, cost less in both, so that this figure comes out low.",
            rows=[
                {"": "phase 1 in one, and the stages of phase 2", "CPU-s / 1,000 pairs": whole},
                {"": "the same without the report", "CPU-s / 1,000 pairs": whole - seconds["report"].median},
                {"": f"sar1m build, {build_pairs:,} pairs", "CPU-s / 1,000 pairs": counted},
            ],
        ),
    ]


def _stage_row(name: str, spread: Spread) -> dict[str, object]:
    quartiles = f"{spread.low:.3g} to {spread.high:.3g}"
    measured = {"CPU-s / 1,000 pairs": spread.median, "quartiles": quartiles, "repeats": spread.repeats}
    return {"phase": 2 if name in PHASE_2 else 1, "stage": name, **measured}


def memory_section(size: Size, scratch: Path) -> list[Section]:
    """Peaks of whole builds of growing size."""
    rows = []
    for cells in size.memory_cells:
        out = scratch / "memory"
        run = sar1m(cells, out, workers=2)
        shutil.rmtree(out)
        pairs = cells * PAIRS_PER_BLOCK
        rows.append(
            {
                "pairs": pairs,
                "main process, MiB": run.main_mib,
                "largest worker, MiB": run.worker_mib,
                "wall, s": run.wall_s,
                "pairs / s": pairs / run.wall_s,
            }
        )
    note = "Largest resident memory of whole builds on two workers; goal: flat. The main process holds the scheduler."
    return [Section(title="Memory", note=note, rows=rows)]


def speedup_section(size: Size, scratch: Path) -> list[Section]:
    """Phase 1 on one and on two workers, in turn; the workers have imported everything before."""
    config, source = resolve_config(CONFIG, []), SimulatedSource(size.speedup_cells)
    _, candidates = make_plan("simulated", source.candidates(config), config)
    clock = Clock(cpu=False)

    def phase_1(workers: Workers) -> None:
        staging = FolderOutput(scratch / "speedup")
        task = partial(prepare_item, source=source, config=config, staging=staging)
        require_no_faults(workers, task, list(candidates.items()))

    with ExitStack() as stack:
        one, two = warm_workers(stack, partial(_rehearse, source=source, staging=FolderOutput(scratch / "rehearsal")))
        for _ in range(3):
            for name, workers in (("1", one), ("2", two)):
                with clock.time(name):
                    phase_1(workers)
                remove_tree(scratch / "speedup")
    first = Spread.of(clock.seconds["1"])
    note = f"Wall time of phase 1, {size.speedup_cells} cells, source included, in turn; goal: at least 1.8."
    rows = [
        {"workers": int(name), "wall, s": str(Spread.of(values)), "speed-up": first.median / Spread.of(values).median}
        for name, values in clock.seconds.items()
    ]
    return [Section(title="Speed-up", note=note, rows=rows)]


def pack_section(size: Size, scratch: Path) -> list[Section]:
    """Shards from staged blocks in the page cache, against writing the same bytes in one go."""
    config, out = resolve_config(CONFIG, []), FolderOutput(scratch / "pack")
    cells = size.memory_cells[-2]
    sar1m(cells, out.work, workers=2)
    plan = read_plan(out.below("staging"))
    choice = choose(out.below("staging"), plan, config)
    tasks = list(shard_tasks(plan_packing(out, choice, plan.kind, config)))
    samples, written = len(choice.samples), sum(write_shard(task).digest.size for task in tasks)
    clock = Clock(cpu=False)
    with ExitStack() as stack:
        one, two = warm_workers(stack, write_shard, tasks[:1])
        for _ in range(size.rounds):
            payloads = [b"".join(task.packed.stream(task.name)) for task in tasks]
            with clock.time("raw write + fsync"):
                _write_raw(scratch / "raw", payloads)
            (scratch / "raw").unlink()
            del payloads
            for name, workers in (("1 worker", one), ("2 workers", two)):
                _remove_shards(tasks)
                with clock.time(name):
                    require_no_faults(workers, write_shard, tasks)
    shutil.rmtree(out.work)
    rows = []
    for name, values in clock.seconds.items():
        spread = Spread.of(values)
        rates = {"samples / s": samples / spread.median, "MB / s": written / 1e6 / spread.median}
        rows.append({"": name, "wall, s": str(spread), **rates})
    note = (
        f"{samples:,} samples, {written / MIB:,.0f} MiB in {len(tasks)} shards, staged blocks in the page cache; "
        "digests are taken while writing, every shard is synced. Raw: one file, the same bytes, one sync."
    )
    return [Section(title="Pack rate", note=note, rows=rows)]


def dask_section(size: Size, scratch: Path) -> list[Section]:
    """What a work item costs beside its work."""
    clock = Clock(cpu=False)
    with ExitStack() as stack:
        _, two = warm_workers(stack, int)
        alone = stack.enter_context(Workers(WorkersSettings(workers=0)))
        items = range(size.empty_items)
        variants = {"no Dask": alone, "2 workers": two}
        clock.rounds(size.rounds, {name: partial(_drain, workers, items) for name, workers in variants.items()})
    rows: list[dict[str, object]] = []
    for name, values in clock.seconds.items():
        spread = Spread.of(values)
        each_ms = 1000 * spread.median / size.empty_items
        rows.append({"": name, "items / s": size.empty_items / spread.median, "ms an item": each_ms})
    note = f"{size.empty_items:,} empty items through flow.Workers.map; an item of a build is a block of 16 pairs."
    return [Section(title="Dask's share", note=note, rows=rows)]


def warm_workers(stack: ExitStack, task: Callable[[Any], object], items: Sequence[Any] = (0,) * 4) -> list[Workers]:
    """One worker and two, which have run task before."""
    pools = [stack.enter_context(Workers(WorkersSettings(workers=count))) for count in (1, 2)]
    for pool in pools:
        require_no_faults(pool, task, items)
    return pools


def require_no_faults(workers: Workers, task: Callable[[Item], object], items: Sequence[Item]) -> None:
    """Runs every item; a fault would pass for speed."""
    faults = [outcome.cause for outcome in workers.map(task, items) if outcome.error]
    if faults:
        raise RuntimeError(f"{len(faults)} of {len(items)} items failed, first: {faults[0]}")


def _rehearse(_item: int, *, source: SimulatedSource, staging: Output) -> None:
    config = resolve_config(CONFIG, [])
    candidate = next(source.candidates(config))
    prepare_item((f"{os.getpid():032x}", candidate), source=source, config=config, staging=staging)


def _drain(workers: Workers, items: Sequence[int]) -> None:
    for _ in workers.map(int, items):
        pass


def _write_raw(path: Path, payloads: Sequence[bytes]) -> None:
    with path.open("wb") as stream:
        for payload in payloads:
            stream.write(payload)
        stream.flush()
        os.fsync(stream.fileno())
    sync_directory(path.parent)


def _remove_shards(tasks: Sequence[ShardTask]) -> None:
    for task in tasks:
        task.packed.remove(task.name)


SECTIONS: dict[str, Callable[[Size, Path], list[Section]]] = {
    "stages": stage_sections,
    "memory": memory_section,
    "speedup": speedup_section,
    "pack": pack_section,
    "dask": dask_section,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes; writes results/pipeline-quick")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, comma-separated")
    parser.add_argument("--scratch", type=Path, help="folder for builds, on the disk to be measured")
    chosen = parser.parse_args()
    names = [name for name in SECTIONS if name in chosen.only.split(",")]
    if not names:
        parser.error(f"--only {chosen.only}: known are {', '.join(SECTIONS)}")
    sections = []
    with tempfile.TemporaryDirectory(dir=chosen.scratch) as scratch:
        for name in names:
            began = time.perf_counter()
            sections += SECTIONS[name](QUICK if chosen.quick else FULL, Path(scratch))
            print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    partial_run = "" if len(names) == len(SECTIONS) else "-" + "-".join(names)
    name = f"pipeline{'-quick' if chosen.quick else ''}{partial_run}"
    arguments = [*(["--quick"] if chosen.quick else []), *(["--only", ",".join(names)] if partial_run else [])]
    command = " ".join(["python tests/benchmarks/bench_pipeline.py", *arguments])
    print(write_results(name, "Cost of a build", command, sections))


if __name__ == "__main__":
    run_with_one_thread()
    main()
