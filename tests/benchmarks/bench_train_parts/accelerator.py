"""A GPU's part: rate and utilisation of steps on data at hand, and of the real loop on real shards."""

from __future__ import annotations

import gc
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from bench_train_parts.arms import FULL, Arm, Bed, made_spec

from sarmae.config import PretrainConfig
from sarmae.model.flops import step_flops
from sarmae.train.loop import Progress, pretrain
from sarmae.train.metrics import matmul_ceiling

WARM_UP, STEPS = 5, 20
LOOP_STEPS, LOOP_LOG = 90, 30
ARMS = (
    Arm(label="all decoded, no teacher", bf16=True),
    replace(FULL, label="quarter decoded, cached teacher"),
    Arm(label="quarter decoded, live ViT-B teacher", bf16=True, share=0.25, teacher="vit_base"),
)


@dataclass(frozen=True)
class GpuTrial:
    """What to run. stores: for the part with the loader; none leaves it out."""

    device: torch.device
    sizes: Sequence[str]
    batches: Sequence[int]
    stores: Sequence[str]
    quick: bool


def step_rows(trial: GpuTrial) -> list[dict[str, Any]]:
    """A row for every size, batch, arm and eager or compiled; one that does not fit says so."""
    ceiling = matmul_ceiling(trial.device, bf16=True)
    return [_step_row(trial, ceiling, *case) for case in _cases(trial)]


def _cases(trial: GpuTrial) -> Iterator[tuple[str, int, Arm]]:
    for size in trial.sizes:
        for batch in trial.batches[:1] if trial.quick else trial.batches:
            for arm in ARMS[:2] if trial.quick else ARMS:
                yield size, batch, arm
                if not (trial.quick and arm != ARMS[0]):
                    yield size, batch, replace(arm, compiled=True)


def _step_row(trial: GpuTrial, ceiling: float, size: str, batch: int, arm: Arm) -> dict[str, Any]:
    row: dict[str, Any] = {"model": f"ViT-{size}", "batch": batch, "arm": arm.label}
    row["mode"] = "compiled" if arm.compiled else "eager"
    spec = replace(made_spec(size), decode_share=arm.share)
    try:
        rate, memory = _rate(Bed(spec, batch, trial.device), arm)
        told = {"img/s": rate, "MFU %": 100 * rate * step_flops(spec).step / ceiling, "GiB": memory}
    except torch.cuda.OutOfMemoryError:
        told = {"img/s": "out of memory", "MFU %": "", "GiB": ""}
    torch.compiler.reset()
    gc.collect()
    if trial.device.type == "cuda":
        torch.cuda.empty_cache()
    return {**row, **told, "ceiling TFLOP/s": ceiling / 1e12}


def _rate(bed: Bed, arm: Arm) -> tuple[float, float]:
    """Images a second, and GiB of the device at most."""
    for _ in range(WARM_UP):
        bed.step(arm)
    _wait(bed.device)
    if bed.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(bed.device)
    start = time.perf_counter()
    for _ in range(STEPS):
        bed.step(arm)
    _wait(bed.device)
    seconds = time.perf_counter() - start
    memory = torch.cuda.max_memory_allocated(bed.device) / 2**30 if bed.device.type == "cuda" else 0.0
    return STEPS * bed.batch / seconds, memory


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class _Last:
    """Keeps the last log step; the first ones hold warm-up and compilation."""

    def __init__(self) -> None:
        self.seen: Progress | None = None

    def keep(self, progress: Progress) -> None:
        """A log step."""
        self.seen = progress


def loader_rows(trial: GpuTrial) -> list[dict[str, Any]]:
    """The run of `sarmae pretrain` without teacher, eager and compiled, at the first batch size."""
    rows = []
    for size in trial.sizes:
        for compiled in (False, True):
            told = _looped(trial, size, compiled=compiled)
            row = {"model": f"ViT-{size}", "batch": trial.batches[0], "mode": "compiled" if compiled else "eager"}
            row |= {"img/s": told.images_per_s, "MFU %": 100 * told.utilisation}
            rows.append({**row, "data wait %": 100 * told.data_wait, "steps timed": LOOP_LOG})
    return rows


def _looped(trial: GpuTrial, size: str, *, compiled: bool) -> Progress:
    threads = max(1, len(os.sched_getaffinity(0)) - 2)
    steps, log = (6, 3) if trial.quick else (LOOP_STEPS, LOOP_LOG)
    config = PretrainConfig.model_validate(
        {
            "data": {"stores": tuple(trial.stores), "threads": threads},
            "model": made_model_section(size),
            "train": {
                "steps": steps,
                "log_every": log,
                "checkpoint_every": 10 * steps,
                "precision": "bf16",
                "global_batch": trial.batches[0],
                "compile": compiled,
                "device": str(trial.device),
            },
        }
    )
    last = _Last()
    with tempfile.TemporaryDirectory() as folder:
        pretrain(config, Path(folder), on_log=last.keep)
    if last.seen is None:
        raise RuntimeError("the loop told of no log step")
    return last.seen


def made_model_section(size: str) -> dict[str, Any]:
    """[model] for what made_spec makes."""
    spec = made_spec(size)
    decoder = {name: getattr(spec, name) for name in ("decoder_width", "decoder_depth", "decoder_heads")}
    return {"size": size, **decoder}
