"""What a block costs from a SAFE product to encoded chunks, and how much memory that takes.

    python tests/benchmarks/bench_safe.py [--whole-build]

Two simulated folders: a scene of 24 km with optical partners, whose pixels are right, and a whole IW swath of
16,700 x 26,000 px in a zip, whose size is. Blocks are Major TOM cells of 1056 px with their halo, sixteen patches of
256 px each, two polarisations, terrain-flattened. --whole-build also builds the whole swath by one worker (some ten
minutes). Writes results/safe.md and results/safe.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
from measure import MIB, Clock, Section, Spread, run_command, run_with_one_thread, write_results

from sar1m.config import BuildConfig, resolve_config
from sar1m.core.radar.product import ImageWindow
from sar1m.io.safe.measurement import read_dn
from sar1m.io.safe.product import read_product
from sar1m.sources.safe import backscatter
from sar1m.sources.safe.source import SafeSource
from sar1m.stages.prepare import prepare_block
from sar1m.store.schema import MARKER_FILE
from sarworld.safe.known_scene import write_scene
from sarworld.safe.scenario import Ground, Partners, SceneSpec
from sarworld.safe.whole_swath import write_whole_swath

RELIEF_M = 150.0  # standard deviation: some 700 m between valleys and tops
WHOLE_LINES, WHOLE_SAMPLES = 16_700, 26_000
BLOCKS = 24  # of the whole swath, spread over it
STAGES = ("read SAR", "read optical", "prepare")


def config() -> BuildConfig:
    return resolve_config("sar1m", ["safe.dem_datum=ellipsoid", "grid.layout=majortom"])


def cpu_by_block(folder: Path, scratch: Path, most: int) -> dict[str, Any]:
    """CPU seconds a block by stage, and this process's peak memory. The first block compiles and inflates; it is told
    apart."""
    settings = config()
    source = SafeSource(folder, scratch)
    started = time.process_time()
    candidates = list(source.candidates(settings))
    planned_s = time.process_time() - started
    chosen = candidates[:: max(1, len(candidates) // most)]
    clock = Clock()
    reading = backscatter.read_block

    def timed(*arguments: Any) -> Any:
        with clock.time("read SAR"):
            return reading(*arguments)

    sys.modules["sar1m.sources.safe.source"].read_block = timed  # type: ignore[attr-defined]
    with clock.time("first block"):
        source.read(chosen[0], settings)
    clock.seconds.pop("read SAR")
    for candidate in chosen:
        with clock.time("read"):
            pixels = source.read(candidate, settings)
        with clock.time("prepare"):
            prepare_block(candidate, pixels, settings)
    both = zip(clock.seconds.pop("read"), clock.seconds["read SAR"], strict=True)
    clock.seconds["read optical"] = [whole - radar for whole, radar in both]
    return {
        "candidates": len(candidates),
        "patches": len(chosen[0].patches),
        "plan_s": planned_s,
        "first_s": clock.seconds["first block"][0],
        "stages": {name: clock.seconds[name] for name in STAGES},
        "rss_mib": psutil.Process().memory_info().rss / MIB,
    }


def child(folder: Path, scratch: Path, most: int) -> dict[str, Any]:
    """cpu_by_block in a process of its own, so that its peak memory is its own."""
    command = [sys.executable, __file__, "--child", str(folder), str(scratch), str(most)]
    run = run_command(command)
    return json.loads((scratch / "child.json").read_text()) | {"peak_mib": run.main_mib}


def row(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    patches = found["patches"]
    stages = found["stages"]
    total = [sum(parts) for parts in zip(*stages.values(), strict=True)]
    cells: dict[str, Any] = {"product": name, "blocks": len(total)}
    for stage, seconds in (*stages.items(), ("all", total)):
        cells[f"{stage}, CPU-s / 1,000 pairs"] = str(Spread.of(seconds, 1000 / patches))
    return cells | {
        "plan, CPU-s": found["plan_s"],
        "first block, CPU-s": found["first_s"],
        "peak MiB": found["peak_mib"],
    }


def inflating(folder: Path, scratch: Path) -> dict[str, Any]:
    """CPU seconds to inflate one channel of a zip and read its first window."""
    (path,) = folder.glob("*.zip")
    product = read_product(path)
    clock = Clock()
    window = ImageWindow(line=4000, sample=9000, lines=1200, samples=1200)
    for name in ("inflate and read", "read"):
        with clock.time(name):
            read_dn(path, product, product.channels[0], window, scratch)
    return {name: seconds[0] for name, seconds in clock.seconds.items()} | {"zip MiB": path.stat().st_size / MIB}


def whole_build(folder: Path, out: Path) -> dict[str, Any]:
    """The command a user types, one worker."""
    settings = [part for key in ("safe.dem_datum=ellipsoid", "balance.max_unpaired_share=1") for part in ("--set", key)]
    command = [
        sys.executable,
        "-m",
        "sar1m",
        "build",
        "--region",
        f"safe:{folder}",
        "--out",
        str(out),
        "--workers",
        "1",
    ]
    run = run_command([*command, *settings])
    counts = json.loads((out / MARKER_FILE).read_text())["counts"]
    return {
        "candidates": counts["candidates"],
        "accepted": counts["accepted"],
        "wall, s": run.wall_s,
        "CPU-s / 1,000 candidates": 1000 * run.cpu_s / counts["candidates"],
        "main MiB": run.main_mib,
        "worker MiB": run.worker_mib,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--whole-build", action="store_true")
    parser.add_argument("--child", nargs=3)
    arguments = parser.parse_args()
    run_with_one_thread()
    if arguments.child:
        folder, scratch, most = arguments.child
        found = cpu_by_block(Path(folder), Path(scratch), int(most))
        (Path(scratch) / "child.json").write_text(json.dumps(found))
        return
    root = Path(tempfile.mkdtemp(prefix="bench-safe-"))
    try:
        measure(root, whole=arguments.whole_build)
    finally:
        shutil.rmtree(root)


def measure(root: Path, *, whole: bool) -> None:
    ground = Ground(relief_m=RELIEF_M)
    (root / "scratch").mkdir()
    write_scene(
        root / "pairs",
        SceneSpec(name="pairs", lines=2400, samples=2400, ground=ground, partners=Partners(dem="lonlat"), zipped=True),
    )
    swath = SceneSpec(name="swath", lines=WHOLE_LINES, samples=WHOLE_SAMPLES, ground=ground, zipped=True)
    write_whole_swath(root / "swath", swath)
    blocks = [
        row("scene of 24 km with optical", child(root / "pairs", root / "scratch", BLOCKS)),
        row("whole swath, SAR alone", child(root / "swath", root / "scratch", BLOCKS)),
    ]
    note = (
        "Sixteen patches a block, medians over blocks with quartiles. prepare: registration, its self-test, metrics, "
        "encoding. The first block of a process loads compiled code and inflates the measurement. Goal: 40 CPU-s a "
        "1,000 pairs, 2,000 MiB."
    )
    (root / "second").mkdir()
    sections = [
        Section(title="By stage", note=note, rows=blocks),
        Section(
            title="Inflating",
            note="One polarisation of the whole swath, once a scratch folder.",
            rows=[inflating(root / "swath", root / "second")],
        ),
    ]
    if whole:
        note = "`sar1m build`, one worker: reading, preparing, packing and the page."
        sections.append(Section(title="The whole swath", note=note, rows=[whole_build(root / "swath", root / "out")]))
    command = "python tests/benchmarks/bench_safe.py" + (" --whole-build" if whole else "")
    print(write_results("safe", "From SAFE to chunks", command, sections))


if __name__ == "__main__":
    main()
