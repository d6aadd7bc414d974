"""What a batch costs between the reader and the model: draws, crops, dequantisation; and the published data set.

    PYTHONPATH=training python tests/benchmarks/bench_transforms.py [--rounds 15]

A batch of 64 pairs of 256 px (SAR 2 x uint16, optical 3 x uint16) cropped to 224. CPU time of one thread, variants in
turn.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import Clock, Section, Spread, run_with_one_thread, write_results
from PIL import Image

from sar1m.store.schema import LinearEncoding, optical_encoding, sar_encoding
from sarmae.stream.batch import Batch, ImageSpec
from sarmae.stream.keyed_random import DrawKey, normal, uniform
from sarmae.stream.loader_settings import CropFlip
from sarmae.stream.normalise import Normalise
from sarmae.stream.published.index import index_published
from sarmae.stream.published.picture_reader import PublishedReader
from sarmae.stream.transforms import Dequantise, _copy_windows, _gather_windows, crop_flip, draw_geometry

SAMPLES, STORED_PX, CROP_PX = 64, 256, 224
PICTURES = 256
KEY = DrawKey(seed=1, epoch=2, stream="bench")
Jobs = Mapping[str, Callable[[], object]]


def made_batch() -> Batch:
    """Digital numbers of the range real ones have."""
    rng = np.random.default_rng(5)
    sar = rng.integers(600, 1200, (SAMPLES, 2, STORED_PX, STORED_PX)).astype(np.uint16)
    optical = rng.integers(256, 560, (SAMPLES, 3, STORED_PX, STORED_PX)).astype(np.uint16)
    return Batch(
        sar=torch.from_numpy(sar),
        optical=torch.from_numpy(optical),
        paired=torch.ones(SAMPLES, dtype=torch.bool),
        id=torch.from_numpy(rng.integers(0, 1 << 62, SAMPLES)),
        enl=torch.full((SAMPLES,), 4.4),
        epoch=1,
        step=0,
    )


def spec(name: str, encoding: LinearEncoding) -> ImageSpec:
    """An encoding as an index tells it."""
    return ImageSpec(
        name=name,
        labels=("a",),
        sample_shape=(1, STORED_PX, STORED_PX),
        dtype=encoding.dtype,
        scale_factor=encoding.scale_factor,
        add_offset=encoding.add_offset,
        units=encoding.units,
        slots=1,
        codec="none",
    )


def batch_jobs() -> Jobs:
    """Everything a batch passes, and what was weighed against it."""
    batch, crop = made_batch(), CropFlip(crop_px=CROP_PX)
    geometry = draw_geometry(batch, crop, 1)
    encoding = sar_encoding("training", "gamma0")
    dequantise = Dequantise(spec("sar", encoding), spec("optical", optical_encoding("training", "reflectance")))
    cropped = crop_flip(batch, crop, 1).batch
    alone = replace(cropped, optical=None)
    physical = dequantise(cropped)
    normalise = Normalise((-11.0, -19.0), (5.0, 9.0))
    shape = (2, CROP_PX, CROP_PX)
    return {
        "geometry alone: corners and flips": lambda: draw_geometry(batch, crop, 1),
        "crop and flip, both sensors (strided copies)": lambda: crop_flip(batch, crop, 1),
        "  SAR alone by strided copies": lambda: _copy_windows(batch.sar, geometry),
        "  SAR alone by one gather (the way on a GPU)": lambda: _gather_windows(batch.sar, geometry),
        "dequantise, both sensors (table look-up)": lambda: dequantise(cropped),
        "  SAR alone by table look-up": lambda: dequantise(alone),
        "  SAR alone by the schema's decode": lambda: encoding.decode(cropped.sar.numpy()),
        "normalise SAR, NaN to 0": lambda: normalise(physical.sar),
        "normal field 2 x 224 x 224, keyed": lambda: normal(KEY, batch.id, shape),
        "  torch.randn of that size (not keyed)": lambda: torch.randn((SAMPLES, *shape)),
        "uniform, 8 draws a sample": lambda: uniform(KEY, batch.id, 8),
    }


def published_jobs(folder: Path) -> Jobs:
    """Headers and pictures of a small folder in the published layout."""
    rng = np.random.default_rng(6)
    smooth = np.cumsum(rng.normal(0, 3, (STORED_PX, STORED_PX)), axis=1) + 128
    grey = np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)
    for name in ("SAR", "OPT"):
        (folder / name).mkdir()
    for number in range(PICTURES):
        Image.fromarray(np.roll(grey, number, axis=0)).save(folder / f"SAR/{number}.png")
        Image.fromarray(np.stack([grey] * 3, axis=-1)).save(folder / f"OPT/{number}.jpg")
    pairs = [{"sar": f"SAR/{number}.png", "optical": f"OPT/{number}.jpg"} for number in range(PICTURES)]
    (folder / "paired.json").write_text(json.dumps(pairs), encoding="utf-8")
    (folder / "unpaired.json").write_text("[]", encoding="utf-8")
    published = index_published(folder, patch_px=CROP_PX, threads=1)
    reader, samples = PublishedReader(published), np.arange(PICTURES)
    sar = np.empty((PICTURES, *published.split.sar.sample_shape), dtype=np.uint8)
    optical = np.empty((PICTURES, 3, CROP_PX, CROP_PX), dtype=np.uint8)
    return {
        "index (two headers a pair)": lambda: index_published(folder, patch_px=CROP_PX, threads=1),
        "read (PNG and JPEG decoded)": lambda: reader.read_into(samples, samples, sar, optical),
    }


def measured(jobs: Jobs, rounds: int) -> dict[str, list[float]]:
    """CPU seconds by job; every job runs once before the clock does."""
    for work in jobs.values():
        work()
    clock = Clock()
    clock.rounds(rounds, jobs)
    return clock.seconds


def main() -> None:
    """Writes results/transforms.md and .json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = [
        {"step": name, "ms a batch of 64": str(Spread.of(seconds, 1e3))}
        for name, seconds in measured(batch_jobs(), rounds).items()
    ]
    with tempfile.TemporaryDirectory() as folder:
        pairs = [
            {"step": name, "pairs/s": str(Spread.of([PICTURES / s for s in seconds]))}
            for name, seconds in measured(published_jobs(Path(folder)), max(3, rounds // 3)).items()
        ]
    note = f"CPU ms of one thread: median and quartiles of {rounds} rounds. torch {torch.__version__}."
    sections = [
        Section(title="A batch between reader and model", note=note, rows=rows),
        Section(title="The published SAR-1M as it is", note="256 pairs of 256 px, warm cache.", rows=pairs),
    ]
    command = "PYTHONPATH=training python tests/benchmarks/bench_transforms.py"
    sys.stdout.write(write_results("transforms", "Transforms of a batch", command, sections))


if __name__ == "__main__":
    run_with_one_thread()
    main()
