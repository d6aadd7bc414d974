"""The training step in arms, beside a plain float32 MAE step; on a GPU its rate, MFU and wait for samples.

    PYTHONPATH=training python tests/benchmarks/bench_train.py [--quick] [--sizes base small] [--rounds 3]
    PYTHONPATH=training python tests/benchmarks/bench_train.py --device cuda [--data FOLDER] [--batches 256 512 1024]

On a CPU: one thread, arms in turn, round by round, CPU time and wall time; peak memory of every arm (first size) in a
process of its own; torch.compile behind its parity gate. Writes results/train.{md,json}; with --device, of which cpu is
for trying that part, results/train-<device>.{md,json}. --quick: one round, one size.
Some eight minutes on a quiet core.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from bench_train_parts.accelerator import GpuTrial, loader_rows, step_rows
from bench_train_parts.arms import ARMS, FULL, PLAIN, PLAIN_FULL, Arm, Bed, check_equal_loss, made_spec
from bench_train_parts.compiled import compile_rows
from measure import Section, Spread, run_with_one_thread, write_results

BATCH = 8
MEMORY_STEPS = 2
GOAL = 2.8
COMMAND = "PYTHONPATH=training python tests/benchmarks/bench_train.py"
GPU_COMMAND = f"{COMMAND} --device cuda --data build/s1m"

COMPARED = f"""
One step: forward, backward, AdamW; ViT encoder with MAE's decoder (512 wide, 8 deep), 224 px, two channels, 75 %
masked, batch {BATCH}, one thread. Every sample is paired. Not in the step: reading, augmentation, speckle.
*plain*: written in the usual way in `bench_train_parts/plain.py`: all patches embedded and the visible ones gathered,
all of them decoded, float32, torch's default AdamW, timm's blocks as they come, the teacher (where it has one) run in
every step in float32. *ours*: `Objective` and `Stepper` with what `train/setup.py` sets; gradient norm and guard
included. The ViT-B teacher is timm's `vit_base_patch16_dinov3` at random weights: it stands for DINOv3's size, not for
what it knows. Cached: int8 codes of that teacher's features cut out and decoded to its full width in the step."""

TRIED = """
Tried once by hand on ViT-base, batch 8, CPU s, medians of 2 or 3 steps one after the other and not in turn, not
repeated by this script: `set_flush_denormal` gains nothing beyond the spread (4.16 against 4.34 fp32, 1.28 against 1.29
full method); the plain step with explicit attention in place of timm's fused one 5.05 against 4.69, with bf16 autocast
2.40 against 2.85; the ViT-B teacher alone 2.31 in float32, 0.90 under bf16 autocast (features' least cosine 1.0000, at
random weights), 0.81 with bf16 weights."""


def times(bed: Bed, arms: Sequence[Arm], rounds: int) -> dict[Arm, list[tuple[float, float]]]:
    """(CPU, wall) seconds of a step by arm, after one step of each that does not count."""
    for arm in arms:
        bed.step(arm)
    taken: dict[Arm, list[tuple[float, float]]] = {arm: [] for arm in arms}
    for number in range(rounds):
        for arm in arms[number % len(arms) :] + arms[: number % len(arms)]:
            cpu, wall = time.process_time(), time.perf_counter()
            bed.step(arm)
            taken[arm].append((time.process_time() - cpu, time.perf_counter() - wall))
    return taken


def step_table(size: str, rounds: int, *, memory: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of the arms, and of the check of their losses."""
    bed = Bed(made_spec(size), BATCH, torch.device("cpu"))
    equal = check_equal_loss(bed)
    taken = times(bed, ARMS, rounds)
    rows = []
    for arm in ARMS:
        cpu = [cpu for cpu, _ in taken[arm]]
        against = {
            base: Spread.of([one / own for (one, _), own in zip(taken[base], cpu, strict=True)])
            for base in (PLAIN, PLAIN_FULL)
        }
        row = {"peak memory MiB": peak_memory(size, arm)} if memory else {}
        rows.append(
            {
                "arm": arm.label if arm.plain else f"ours: {arm.label}",
                "CPU s a step": str(Spread.of(cpu)),
                "wall s": Spread.of([wall for _, wall in taken[arm]]).median,
                "x plain, no teacher": f"{against[PLAIN].median:.2f}",
                "x plain, live ViT-B": str(against[PLAIN_FULL]) if arm == FULL else f"{against[PLAIN_FULL].median:.2f}",
                **row,
            }
        )
    return rows, equal


def peak_memory(size: str, arm: Arm) -> int:
    """Largest resident memory in MiB of a process that takes two steps of one arm and nothing else."""
    command = [sys.executable, __file__, "--arm", json.dumps(asdict(arm)), "--sizes", size]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    if done.returncode:
        raise RuntimeError(f"{arm}: exit code {done.returncode}: {done.stderr[-2000:]}")
    return int(done.stdout)


def one_arm(size: str, arm: Arm) -> None:
    """What peak_memory starts."""
    bed = Bed(made_spec(size), BATCH, torch.device("cpu"))
    for _ in range(MEMORY_STEPS):
        bed.step(arm)
    sys.stdout.write(f"{_peak_kib() // 1024}\n")


def _peak_kib() -> int:
    """VmHWM, of this program alone: getrusage's ru_maxrss still knows the parent's size before exec."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def instructions() -> str:
    """Those that make bfloat16 pay on a CPU, as far as this one has them."""
    listing = Path("/proc/cpuinfo")
    flags = listing.read_text(encoding="utf-8").split() if listing.is_file() else []
    found = [name for name in ("avx512f", "avx512_bf16", "amx_bf16", "avx512_fp16") if name in flags]
    return ", ".join(found) or "none of avx512f, avx512_bf16, amx_bf16"


def on_cpu(sizes: Sequence[str], rounds: int, *, quick: bool) -> str:
    """Measures and writes results/train.{md,json}."""
    sections = []
    for size in sizes:
        rows, equal = step_table(size, rounds, memory=size == sizes[0])
        ratio = rows[ARMS.index(FULL)]["x plain, live ViT-B"]
        reached = "reached" if float(ratio.split()[0]) >= GOAL else "not reached"
        note = (
            f"Median and quartiles of {rounds} rounds, arms in turn; ratios are medians of the ratios within a round. "
            f"Full method, cached teacher, against the plain step with live teacher: {ratio}, goal {GOAL}: {reached}."
        )
        sections.append(Section(title=f"ViT-{size}, batch {BATCH}", note=note, rows=rows))
        sections.append(Section(title=f"ViT-{size}: the same loss", note="fp32, same weights and masks.", rows=equal))
    size = sizes[-1]
    note = (
        f"ViT-{size}, batch {BATCH}, bf16, quarter decoded, no teacher. Gate: losses of 20 steps from the same "
        "weights, eager against compiled, each at most 1 % apart. The first step includes compiling: 46 s where "
        "inductor's cache on disk is empty, a few seconds where this machine has compiled the same before."
    )
    sections.append(Section(title="torch.compile", note=note, rows=compile_rows(size, BATCH, rounds, quick=quick)))
    return report(sections)


def report(sections: Sequence[Section]) -> str:
    """Writes what was measured on a CPU, under what it compares."""
    gpu = f"GPU part (`{GPU_COMMAND}`): not run: no GPU was lent."
    cpu = f"This CPU has {instructions()}; torch {torch.__version__}."
    head = f"The training step\n\n{gpu}\n{COMPARED}\n{TRIED}\n\n{cpu}"
    return write_results("train", head, COMMAND, sections)


def on_accelerator(trial: GpuTrial) -> str:
    """Measures and writes results/train-<device>.{md,json}."""
    name = torch.cuda.get_device_name(trial.device) if trial.device.type == "cuda" else "cpu"
    steps = Section(
        title="Steps on data that lie on the device",
        note="bf16; MFU: operations of encoder and decoder (`step_flops`, teacher left out) over the measured matmul "
        "ceiling. Goal 45 %.",
        rows=step_rows(trial),
    )
    sections = [steps]
    if trial.stores:
        note = "`sarmae pretrain`'s own loop on real shards, last log step. Goal: data wait under 1 %."
        sections.append(Section(title="Steps fed by ShardLoader", note=note, rows=loader_rows(trial)))
    title = f"The training step on {name}\n\ntorch {torch.__version__}."
    command = f"{COMMAND} {' '.join(sys.argv[1:])}"
    return write_results(f"train-{trial.device.type}", title, command, sections)


def main() -> None:
    """Picks what to run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--device")
    parser.add_argument("--sizes", nargs="+", default=None)
    parser.add_argument("--batches", nargs="+", type=int, default=[256, 512, 1024])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", nargs="*", default=[])
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.device is not None:
        sizes = asked.sizes or ["base", "large"]
        device = torch.device(asked.device)
        trial = GpuTrial(device, sizes, asked.batches, asked.data, quick=asked.quick)
        sys.stdout.write(on_accelerator(trial))
        return
    torch.set_num_threads(1)
    sizes = asked.sizes or (["small"] if asked.quick else ["base", "small"])
    if asked.arm:
        one_arm(sizes[0], Arm(**json.loads(asked.arm)))
        return
    sys.stdout.write(on_cpu(sizes, 1 if asked.quick else asked.rounds, quick=asked.quick))


if __name__ == "__main__":
    if "--device" not in sys.argv:
        run_with_one_thread()
    main()
