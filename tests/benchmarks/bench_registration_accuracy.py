"""Accuracy of SAR-optical registration against a truth that is not ours, beside rivals, in one interleaved run.

    python tests/benchmarks/registration_consensus.py      (writes the truth, once)
    python tests/benchmarks/bench_registration_accuracy.py [--before REVISION] [--quick | --speed]

The truth is results/registration-consensus.csv: see registration_consensus.py. Only scenes of tile 11SMT are scored,
and the sites apart. --before adds rows for the method as it was at a revision. --quick takes every fourth scene and
writes nothing; nor is anything written without the scenes. --speed measures the speed alone, in a minute: with
memory that the C library gives back to the system as it likes, and with all of it kept (glibc). It replaces that
section. Tables go to results/registration-accuracy.{json,md}.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import platform
import subprocess
import sys
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import scipy
from bench_registration import cpu_model, strict, table
from registration_consensus import FOLDER, scene_images
from registration_consensus import RESULTS as TRUTH
from registration_parts.members import F32
from registration_parts.pairs import SEARCH_PX, UNGATED, rtc_pairs, simulated_pairs
from registration_parts.scores import Row, calibration, figures
from registration_parts.windows import (
    RIVALS,
    Method,
    Window,
    colour_of_rtc,
    ours,
    package_at,
    scene_windows,
    site_windows,
    unrelated,
)

from sar1m.config import RegistrationConfig
from sar1m.core.registration import register_block
from sar1m.records import Shift

RESULTS = Path(__file__).with_name("results") / "registration-accuracy"
GATE = RegistrationConfig(search_px=SEARCH_PX)
OURS = "ours"
LAYOUTS = (*((size, 1) for size in (256, 192, 128, 64)), (128, 4))  # pixels, windows: four of 64 px at once


def accuracy_rows(windows: list[Window], methods: dict[str, Method], resamples: int) -> list[Row]:
    """Errors of every method on the windows, by strength of the truth, strong ones first."""
    rows = []
    for strength in ("strong", "weak"):
        chosen = [one for one in windows if one.strength == strength]
        for size, parts in LAYOUTS if chosen else ():
            truths = np.array([one.sigma_px for one in chosen])
            for name, method in methods.items():
                errors = np.array([method(*one.centre(size), _parts(size, parts)) - one.truth_px for one in chosen])
                heading = {"truth": strength, "window": f"{size} px" if parts == 1 else "4 x 64 px", "method": name}
                pairs = [one.pair for one in chosen]
                rows.append({**heading, **figures(errors, truths, pairs, resamples=resamples)})
    return rows


def site_rows(windows: list[Window], methods: dict[str, Method]) -> list[Row]:
    """Distance from the truth of every method on every chip, whole and its centre of 192 and 64 px."""
    rows = []
    for window in windows:
        whole = window.sar.shape[-1]
        for size in (whole, *(size for size in (192, 64) if size < whole)):
            row = {"site": window.pair, "size_px": size, "truth": window.strength, "truth_sigma_px": window.sigma_px}
            for name, method in methods.items():
                error = method(*window.centre(size), _parts(size, 1)) - window.truth_px
                row[name] = float(np.hypot(*error))
            rows.append(row)
    return rows


def gated_rows(windows: list[Window], resamples: int) -> tuple[list[Row], list[Row]]:
    """Of our method with its gate: errors of what it accepts, and whether sigma is right; strong truths."""
    accepted, calibrated = [], []
    chosen = [one for one in windows if one.strength == "strong"]
    for size, parts in LAYOUTS if chosen else ():
        free = [_register(*one.centre(size), parts, UNGATED) for one in chosen]
        kept = [_register(*one.centre(size), parts, GATE).status == "measured" for one in chosen]
        errors = np.array([[s.row_px, s.col_px] for s in free]) - [one.truth_px for one in chosen]
        truths = np.array([one.sigma_px for one in chosen])
        sigmas = np.array([s.sigma_px for s in free])
        heading = {"window": f"{size} px" if parts == 1 else "4 x 64 px"}
        scenes = [one.pair for one, keep in zip(chosen, kept, strict=True) if keep]
        share = {"accepted": float(np.mean(kept))}
        accepted.append(
            {**heading, **share, **figures(errors[kept], truths[kept], scenes, resamples=resamples)}
            if any(kept)
            else {**heading, **share}
        )
        for group, these in (("all", np.ones(len(chosen), bool)), ("accepted", np.array(kept))):
            calibrated.append({**heading, "group": group, **calibration(errors[these], sigmas[these], truths[these])})
    return accepted, calibrated


def gate_rows(groups: dict[str, list[Window]]) -> list[Row]:
    """Recall of the default gate on pairs with a truth, and the share of unrelated pairs that it lets in."""
    rows = []
    for group, windows in groups.items():
        for size in (256, 192, 128, 64):
            some = [one for one in windows if one.sar.shape[-1] >= size]
            if not some:
                continue
            true = [_register(*one.centre(size), 1, GATE) for one in some]
            right = [
                shift.status == "measured" and np.hypot(*(np.array([shift.row_px, shift.col_px]) - one.truth_px)) < 2
                for shift, one in zip(true, some, strict=True)
            ]
            false = [
                _register(*pair, 1, GATE).status == "measured"
                for pair in unrelated(some, size, turns=2 if len(some) > 50 else 8)
            ]
            rows.append(
                {
                    "pairs": group,
                    "size_px": size,
                    "true": len(true),
                    "recall": float(np.mean([shift.status == "measured" for shift in true])),
                    "recall_under_2px": float(np.mean(right)),
                    "unrelated": len(false),
                    "false_accepts": float(np.mean(false)) if false else float("nan"),
                }
            )
    return rows


def consistency_rows() -> list[Row]:
    """Our shifts by the four bands of L2A and by the 8 bit colour picture of one acquisition, s1s2_rtc_pairs."""
    rows = []
    for pair in rtc_pairs():
        colour = colour_of_rtc(pair.name)
        for size in (224, 192):
            start = (224 - size) // 2
            area = np.s_[:, start : start + size, start : start + size]
            bands, picture = (_register(pair.sar[area], one[area], 1, UNGATED) for one in (pair.optical, colour))
            apart = float(np.hypot(bands.row_px - picture.row_px, bands.col_px - picture.col_px))
            rows.append(
                {
                    "site": pair.name,
                    "size_px": size,
                    "l2a_row_px": bands.row_px,
                    "l2a_col_px": bands.col_px,
                    "rgb_row_px": picture.row_px,
                    "rgb_col_px": picture.col_px,
                    "apart_px": apart,
                }
            )
    return rows


def speed_rows(methods: dict[str, Method], rounds: int) -> list[Row]:
    """Pairs a second, interleaved, of 256 px with two polarisations and four bands: the fastest tenth of the calls."""
    pair = next(iter(simulated_pairs(4.4, 1)))
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for name, method in methods.items():
            began = time.process_time()
            method(pair.sar, pair.optical, _parts(256, 1))
            seconds[name].append(time.process_time() - began)
    rate = {name: float(1 / np.quantile(each, 0.1)) for name, each in seconds.items()}
    ratio = {name: one / rate["phase, channels summed"] for name, one in rate.items()}
    return [{"method": name, "pairs_per_s": rate[name], "of_phase_summed": ratio[name]} for name in rate]


def measure_speed_alone() -> None:
    """Replaces the section on speed in the results: each way to manage memory in a process of its own."""
    kept = {"MALLOC_TRIM_THRESHOLD_": "1000000000", "MALLOC_MMAP_THRESHOLD_": str(2**25)}
    rows = []
    for memory, environment in (("as it comes", {}), ("kept", kept)):
        call = "from bench_registration_accuracy import *; print(json.dumps(speed_rows(all_methods(), 60)))"
        done = subprocess.run(
            [sys.executable, "-c", call],
            cwd=Path(__file__).parent,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            check=True,
        )
        rows += [{"memory": memory, **row} for row in json.loads(done.stdout)]
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    command = "python tests/benchmarks/bench_registration_accuracy.py --speed"
    note = f"`{command}`, {datetime.now(UTC).date()}, {cpu_model()}, one core, load of the machine {load}."
    title = "## Speed\n\n"
    before = RESULTS.with_suffix(".md").read_text(encoding="utf-8").split(title)[0]
    RESULTS.with_suffix(".md").write_text(f"{before}{title}{note}\n\n{table(rows)}", encoding="utf-8")
    document = json.loads(RESULTS.with_suffix(".json").read_text(encoding="utf-8"))
    document["sections"]["Speed"] = rows
    document["speed"] = note
    RESULTS.with_suffix(".json").write_text(
        json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8"
    )
    print(note, table(rows), sep="\n\n")


def all_methods() -> dict[str, Method]:
    """The package's method and its rivals."""
    return {OURS: ours(register_block, UNGATED)} | RIVALS


def _parts(size: int, parts: int) -> list[tuple[int, int, int, int]]:
    side = size if parts == 1 else size // 2
    return [(row, col, side, side) for row in range(0, size, side) for col in range(0, size, side)]


def _register(sar: F32, optical: F32, parts: int, settings: RegistrationConfig) -> Shift:
    windows = _parts(sar.shape[-1], parts)
    return register_block(sar, optical, masked=None, windows=windows, settings=settings).scene


NOTES = """Distances are two-dimensional, in pixels of the grid (10 m; 8.3 m on the ground for s1s2_vh_rgb, whose
EPSG:3395 is not metric). Truth: a consensus of six estimators that share no code with the package; how it was made,
what was fixed on which scenes, and its uncertainty stand in tests/benchmarks/registration_consensus.py. rmse_px is raw;
net_px has the truth's mean variance taken out; intervals are 95 % by 1,000 draws of whole scenes. rmse_under_2px
leaves gross errors out; no_peak is counted as a miss in the shares. The truth of a block of 256 px is also that of its
central 192, 128 and 64 px. strong: the members' standard error is at most 0.15 px and relief moves the block by at most
0.5 px (root mean square) inside; weak: all other blocks with a consensus.
4 x 64 px: the quarters of the central 128 px; the package adds their surfaces, the rivals take the median.
AROSICS is not in the table: it needs the bindings of GDAL (osgeo), which pip cannot install without GDAL itself.
Sites: the chips that the method was made on, so not held out. Tile 11SLT, not shown here, was for tuning.
One polarisation (VH) and three bands of 8 bit in tile 11SMT; two polarisations and four bands in the sites."""


def main() -> None:
    """Run everything, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", metavar="REVISION", help="also the method as it was then")
    parser.add_argument("--quick", action="store_true", help="every fourth scene; nothing is written")
    parser.add_argument("--speed", action="store_true", help="the speed alone, which replaces its section")
    arguments = parser.parse_args()
    if arguments.speed:
        measure_speed_alone()
        return
    methods: dict[str, Method] = {OURS: ours(register_block, UNGATED)}
    if arguments.before:
        module, config = package_at(arguments.before)
        before = config.RegistrationConfig(**UNGATED.model_dump(include=set(config.RegistrationConfig.model_fields)))
        methods[f"ours at {arguments.before}"] = ours(module.register_block, before)
    methods |= RIVALS
    every = 4 if arguments.quick else 1
    test = scene_windows(TRUTH, scene_images, split="test", every=every) if FOLDER.exists() else []
    sites = site_windows(TRUTH)
    resamples = 1000
    accepted, calibrated = gated_rows(test, resamples)
    sections = {
        "Tile 11SMT, held out": accuracy_rows(test, methods, resamples),
        "Tile 11SMT, accepted by the gate": accepted,
        "Whether sigma is right, tile 11SMT": calibrated,
        "Sites that the method was made on, distance from the truth": site_rows(sites, methods),
        "The gate": gate_rows({"tile 11SMT": test, "sites": sites}),
        "L2A against RGB of one acquisition": consistency_rows(),
        "Speed": speed_rows(methods, 5 if arguments.quick else 25),
    }
    machine = {
        "cpu": cpu_model(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "python": platform.python_version(),
        "date": datetime.now(UTC).date().isoformat(),
    }
    command = "python tests/benchmarks/bench_registration_accuracy.py"
    command += f" --before {arguments.before}" if arguments.before else ""
    text = f"# Accuracy of registration\n\n`{command}`\n\n{' · '.join(f'{k} {v}' for k, v in machine.items())}\n\n"
    text += f"{NOTES}\n\n" + "\n".join(f"## {title}\n\n{table(rows)}" for title, rows in sections.items())
    print(text)
    if test and not arguments.quick:
        RESULTS.with_suffix(".md").write_text(text, encoding="utf-8")
        document = {"command": command, "machine": machine, "notes": NOTES, "sections": sections}
        RESULTS.with_suffix(".json").write_text(
            json.dumps(strict(document), indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
