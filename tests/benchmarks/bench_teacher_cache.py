"""The teacher cache: its size, what it costs to write and to read, and how near its features are to live ones.

    PYTHONPATH=training python tests/benchmarks/bench_teacher_cache.py STORE [--weights dinov3_small=FILE ...]

STORE: a finished store with pairs, e.g. of `sar1m build --region simulated:8`. One core, two minutes. Writes
results/teacher-cache.{json,md} beside this file. Teachers: the control, EfficientNet-lite0, and each that weights are
given for. Real images are ../shared/data/s1s2_rtc_pairs, left out with a word where they are absent.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from measure import Clock, Section, Spread, run_with_one_thread, write_results

from sar1m.store.progress import LineWatch
from sarmae.config import PretrainConfig
from sarmae.sarc import open_anchors
from sarmae.sarc.anchors import slice_grid
from sarmae.sarc.cache_writer import write_cache
from sarmae.sarc.compression import Basis
from sarmae.sarc.feature_cache import INDEX_ENTRY, INDEX_FILE, read_teacher
from sarmae.sarc.frozen_encoders import FrozenTeacher
from sarmae.sarc.teachers import open_teacher
from sarmae.stream.batch import Batch
from sarmae.stream.loader import ShardLoader
from sarmae.stream.loader_settings import TOKEN_PX, LoaderSettings
from sarmae.stream.order.specification import StoreShare
from sarmae.stream.transforms import Augmented, Dequantise, Geometry

ROUNDS = 20
BATCH = 64
IMAGES = 48  # of the store, for fidelity
SITES = Path(__file__).parents[2] / "../shared/data/s1s2_rtc_pairs"
FLIPS = {"none": (False, False), "rows": (True, False), "cols": (False, True), "both": (True, True)}

COST_NOTE = """Whole stored patches of 256 px, 16 x 16 features each. Written: samples a second of wall time on one
thread, reading, teacher, coding and fsync included, the fit of the basis too (at a few samples it weighs more than it
will). A batch: wall ms to read it from the page cache in four threads, crc32c checked, and to decode it: slice it and
put it back into the teacher's space, float32, one thread."""
FIDELITY_NOTE = """Cosine with live features of the crop, over all its patches: mean and 1st percentile; *centred* with
the teacher's mean feature removed from both, which is harder and shows more. 8 bits: the same whole image, before and
after coding. Slice: what the trainer gets of an aligned crop against a live look at that crop; flips: the grid turned
against a live look at the turned crop. Any other: a live feature against that of a random other patch, what no relation
would give."""


def config_for(teacher: str, weights: str | None, store: str, cache: Path | None = None) -> PretrainConfig:
    """A run on the CPU."""
    sarc = {"teacher": teacher, "weights": weights, "cache": None if cache is None else str(cache)}
    return PretrainConfig.model_validate({"data": {"stores": [store]}, "sarc": sarc, "train": {"device": "cpu"}})


def cost(config: PretrainConfig, out: Path) -> dict[str, Any]:
    """A row of the first table; leaves the cache in out."""
    start = time.perf_counter()
    write_cache(config, out, LineWatch(print))
    seconds = time.perf_counter() - start
    facts, basis = read_teacher(out)
    cached = config.model_copy(update={"sarc": config.sarc.model_copy(update={"cache": str(out)})})
    anchors = open_anchors(cached, torch.device("cpu"))
    loader = ShardLoader(config.data.stores, LoaderSettings(global_batch=BATCH, optical=False))
    shares = loader.order.spec.stores
    anchors.prepare(None, [StoreShare(name=one.name, digest=one.digest, size=one.size) for one in shares])
    batch = next(iter(loader))
    augmented = Augmented(batch=batch, geometry=random_corners(len(batch), 256, 224, (False, False)))
    codes = torch.zeros((len(batch), facts.grid, facts.grid, facts.components), dtype=torch.int8)
    clock = Clock(cpu=False)
    clock.rounds(
        ROUNDS,
        {"all": lambda: anchors(augmented), "decode": lambda: decoded(basis, codes, augmented.geometry)},
    )
    samples = sum(len(np.fromfile(path, dtype=INDEX_ENTRY)) for path in out.glob(f"*/{INDEX_FILE}"))
    return {
        "teacher": facts.teacher,
        "features": facts.width,
        "components": facts.components,
        "variance kept": f"{facts.variance_kept:.2%}",
        "KB a sample": facts.sample_bytes / 1000,
        "written, samples/s": samples / seconds,
        f"a batch of {BATCH} ({int(batch.paired.sum())} paired), ms": str(Spread.of(clock.seconds["all"], 1e3)),
        "of that decoding, ms": str(Spread.of(clock.seconds["decode"], 1e3)),
    }


def decoded(basis: Basis, codes: torch.Tensor, geometry: Geometry) -> torch.Tensor:
    """What the trainer makes of the codes of a batch."""
    return basis.decode(slice_grid(codes, geometry))


def random_corners(count: int, side_px: int, size_px: int, flips: tuple[bool, bool]) -> Geometry:
    """Aligned crops at random places, all flipped alike."""
    corners = np.random.default_rng(5).integers(0, (side_px - size_px) // TOKEN_PX + 1, (2, count)) * TOKEN_PX
    rows, cols = torch.from_numpy(corners)
    flags = [torch.full((count,), flip) for flip in flips]
    return Geometry(rows_px=rows, cols_px=cols, flipped_rows=flags[0], flipped_cols=flags[1], size_px=size_px)


def cut(rgb: torch.Tensor, geometry: Geometry) -> torch.Tensor:
    """The crops of (B, 3, S, S), turned."""
    size = geometry.size_px
    corners = zip(geometry.rows_px.tolist(), geometry.cols_px.tolist(), strict=True)
    crops = torch.stack([one[:, r : r + size, c : c + size] for one, (r, c) in zip(rgb, corners, strict=True)])
    axes = [axis for axis, flags in ((2, geometry.flipped_rows), (3, geometry.flipped_cols)) if flags.any()]
    return crops.flip(axes)


def fidelity(name: str, teacher: FrozenTeacher, basis: Basis, rgb: torch.Tensor, size_px: int) -> Iterator[dict]:
    """Rows of the second table."""
    side_px, grid = rgb.shape[-1], rgb.shape[-1] // TOKEN_PX
    whole = torch.cat([teacher(part) for part in rgb.split(16)])
    codes = basis.encode(whole)
    yield row(name, "8 bits", basis, basis.decode(codes), whole)
    for turned, flips in FLIPS.items():
        geometry = random_corners(len(rgb), side_px, size_px, flips)
        live = torch.cat([teacher(part) for part in cut(rgb, geometry).split(16)])
        stored = codes.view(len(rgb), grid, grid, -1)
        yield row(name, f"slice, flips: {turned}", basis, decoded(basis, stored, geometry), live)
    flat = whole.flatten(0, 1)
    order = torch.randperm(len(flat), generator=torch.Generator().manual_seed(0))
    yield row(name, "any other", basis, flat, flat[order])


def row(name: str, what: str, basis: Basis, found: torch.Tensor, live: torch.Tensor) -> dict[str, Any]:
    """Cosines of two sets of features."""
    plain = torch.cosine_similarity(found, live, dim=-1).flatten().numpy()
    centred = torch.cosine_similarity(found - basis.mean, live - basis.mean, dim=-1).flatten().numpy()
    return {
        "teacher": name,
        "what": what,
        "cosine": f"{plain.mean():.4f}",
        "1st percentile": f"{np.quantile(plain, 0.01):.4f}",
        "centred": f"{centred.mean():.4f}",
        "centred, 1st percentile": f"{np.quantile(centred, 0.01):.4f}",
    }


def store_images(store: str) -> torch.Tensor:
    """(B, 3, 256, 256) of a store's paired samples, red first as our stores have it."""
    loader = ShardLoader([store], LoaderSettings(global_batch=BATCH))
    dequantise = Dequantise(loader.sar, loader.optical)
    batch: Batch = dequantise(next(iter(loader)))
    return batch.optical[batch.paired][:IMAGES]


def real_images() -> torch.Tensor | None:
    """(3, 3, 224, 224) display brightness of three places on Earth; None where they are not here."""
    if not SITES.is_dir():
        return None
    images = []
    for path in sorted((SITES / "S2RGB").glob("*.tif")):
        with rasterio.open(path) as dataset:
            images.append(torch.from_numpy(dataset.read([1, 2, 3]).astype(np.float32) / 255))
    return torch.stack(images)


def measured(teachers: Mapping[str, str | None], store: str) -> list[Section]:
    """The tables."""
    costs, made, real = [], [], []
    images, sites = store_images(store), real_images()
    for name, weights in teachers.items():
        with tempfile.TemporaryDirectory() as folder:
            config = config_for(name, weights, store)
            costs.append(cost(config, Path(folder)))
            basis = read_teacher(Path(folder))[1]
        teacher = open_teacher(config.sarc)
        made += fidelity(name, teacher, basis, images, 224)
        if sites is not None:
            turns = torch.cat([sites, sites.flip(2), sites.transpose(2, 3), sites.transpose(2, 3).flip(3)])
            real += fidelity(name, teacher, basis, turns, 192)
    sections = [
        Section(title="Cost", note=COST_NOTE, rows=costs),
        Section(title="Fidelity on the store's images, crops of 224 of 256 px", note=FIDELITY_NOTE, rows=made),
    ]
    note = """Three real Sentinel-2 images of 224 px in four turns, crops of 192 px; the basis is the store's, which
knows nothing of them: as if a store of another region had been added to a cache."""
    return sections + ([Section(title="Fidelity on real images", note=note, rows=real)] if real else [])


def main() -> None:
    """Writes results/teacher-cache.md and .json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store")
    parser.add_argument("--weights", nargs="*", default=[], metavar="TEACHER=FILE")
    given = parser.parse_args()
    torch.set_num_threads(1)
    teachers: dict[str, str | None] = {"linear_patch": None, "efficientnet_lite0": None}
    teachers |= dict(pair.split("=", 1) for pair in given.weights)
    command = "PYTHONPATH=training python tests/benchmarks/bench_teacher_cache.py STORE"
    sections = measured(teachers, given.store)
    if not SITES.is_dir():
        sys.stdout.write(f"{SITES} is not here: no figures on real images.\n")
    sys.stdout.write(write_results("teacher-cache", "Teacher cache", command, sections))


if __name__ == "__main__":
    run_with_one_thread()
    main()
