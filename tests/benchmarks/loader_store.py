"""A finished store of any size for the benchmarks of the loader: simulated blocks, told apart by turns and shifts.

    python tests/benchmarks/loader_store.py FOLDER [--samples 8192] [--patch-px 256] [--codec blosc-lz4] [--seed 0]

A few blocks go through the pipeline's own preparation (simulator, registration, encoding). Every sample of the store
shows one of their patches in one of eight orientations, rolled by a random number of pixels: no two samples have the
same bytes, all have the noise, texture and compressibility of the simulator, and 8,192 of them take half a minute. The
layout, the tables, the manifest and the marker are written by the pipeline's functions.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from sar1m import __version__
from sar1m.config import BuildConfig, GridConfig, PackConfig, PixelsConfig, SimulatedConfig
from sar1m.io.tables import candidate_batch, parquet_bytes
from sar1m.io.zarr_groups import ImageArray
from sar1m.records import Row, StoreKind
from sar1m.sources.simulated import SimulatedSource
from sar1m.stages.choose import number_samples
from sar1m.stages.install import install, seal
from sar1m.stages.pack import PackedShard, all_checksum_files, image_arrays, metadata_files
from sar1m.stages.plan import make_plan
from sar1m.stages.prepare import prepare_block
from sar1m.stages.statistics import ChannelTotals
from sar1m.store.chunks import Compression, encode_chunk, noting_checksums
from sar1m.store.durable import remove_tree, write_durably
from sar1m.store.outputs.folder import FolderOutput
from sar1m.store.schema import DATA_DIR, SAMPLES_FILE, SCHEMA_VERSION, STATS_DIR
from sar1m.store.seal import read_marker
from sar1m.store.shard_index import shard_name, shard_pieces
from sar1m.store.table_columns import SAMPLE_COLUMNS

SPLIT = "train"
BASE_BLOCKS = 12
PATCHES_PER_SIDE = 4
ORIENTATIONS = 8
CHECKSUM_BYTES = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Base:
    """Patches all samples are made of. rows: of the pipeline's table; dn: by array, (patches, C, H, W)."""

    config: BuildConfig
    kind: StoreKind
    rows: list[Row]
    dn: dict[str, np.ndarray]
    normalisation: dict[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Draws:
    """How each of S samples is made, all (S,): base patch, orientation, roll down and right, optical partner or not."""

    patch: np.ndarray
    orientation: np.ndarray
    roll_px: np.ndarray  # (S, 2)
    paired: np.ndarray

    @staticmethod
    def of(seed: int, samples: int, patches: int, patch_px: int, paired_share: float) -> Draws:
        """All patches in all orientations equally often; rolls at random, so that repeats differ in their bytes."""
        rng = np.random.default_rng(seed)
        number = rng.permutation(samples)
        return Draws(
            patch=number % patches,
            orientation=number // patches % ORIENTATIONS,
            roll_px=rng.integers(0, patch_px, (samples, 2)),
            paired=rng.permutation(samples) < round(paired_share * samples),
        )

    def apply(self, base: np.ndarray, sample: int) -> np.ndarray:
        """Digital numbers (C, H, W) of one sample of an array, whose base patches are (patches, C, H, W)."""
        turned = np.rot90(base[self.patch[sample]], self.orientation[sample] % 4, axes=(1, 2))
        turned = turned[:, ::-1] if self.orientation[sample] >= ORIENTATIONS // 2 else turned
        return np.roll(turned, tuple(self.roll_px[sample]), axis=(1, 2))


def make_store(
    root: Path,
    samples: int = 8192,
    patch_px: int = 256,
    codec: Compression = "blosc-lz4",
    seed: int = 0,
    paired_share: float = 0.75,
) -> Path:
    """Writes a finished store (SAR (2, px, px) uint16 at 0.05 dB, optical (3, px, px) uint16 at 0.001, split train) and
    returns root.

    A store that is already whole there is left as it is; the caller answers for its having the same settings.
    """
    if root.is_dir() and read_marker(root) is not None:
        return root
    base = simulate_base(patch_px, codec, seed)
    draws = Draws.of(seed, samples, len(base.rows), patch_px, paired_share)
    out, pack = FolderOutput(root), "staging/pack/bench"
    packed = root / pack
    remove_tree(packed)
    frame = number_samples(_sample_frame(base, draws), base.config.pack.shard_samples)
    images = image_arrays(base.config, base.kind)
    statistics = json.dumps(base.normalisation, sort_keys=True, indent=1).encode() + b"\n"
    files = {SAMPLES_FILE: parquet_bytes(frame, SAMPLE_COLUMNS), f"{STATS_DIR}/normalisation.json": statistics}
    files |= metadata_files(frame, images, {"name": base.config.name, "kind": asdict(base.kind)})
    known = {name: write_durably(packed / name, [content]) for name, content in files.items()}
    shards = _write_shards(packed, images, base, draws)
    known |= {name: shard.digest for name, shard in shards.items()}
    checksums = all_checksum_files(
        {"train": samples, "val": 0, "test": 0}, images, {name: shard.checksums for name, shard in shards.items()}
    )
    known |= {name: write_durably(packed / name, [content]) for name, content in checksums.items()}
    facts = {"name": base.config.name, "region": "simulated", "code_version": __version__, "seed": seed}
    seal(out, pack, known, {**facts, "schema_version": SCHEMA_VERSION, "counts": {"accepted": samples}})
    install(out, pack)
    remove_tree(root / "staging")
    return root


def simulate_base(patch_px: int, codec: Compression, seed: int) -> Base:
    """Clear, paired blocks through the preparation that a build runs."""
    config = BuildConfig(
        name="loader-benchmark",
        seed=seed,
        grid=GridConfig(patch_px=patch_px, patches_per_side=PATCHES_PER_SIDE, halo_px=16),
        pixels=PixelsConfig(compression=codec),
        pack=PackConfig(shard_samples=512),
        simulated=SimulatedConfig(cloudy_share=0, unpaired_share=0),
    )
    plain = config.model_copy(update={"pixels": PixelsConfig(compression="none")})
    source = SimulatedSource(BASE_BLOCKS)
    rows: list[Row] = []
    statistics: list[Row] = []
    chunks: list[dict[str, bytes]] = []
    candidates = list(source.candidates(plain))
    for candidate in candidates:
        record, encoded = prepare_block(candidate, source.read(candidate, plain), plain)
        rows += [{**row, "key": f"{0:032x}/{row['patch']}"} for row in record.rows]
        statistics += record.statistics
        chunks += [{name: encoded[f"{row['patch']}/{name}"] for name in ("sar", "optical")} for row in record.rows]
    kind = make_plan("simulated", candidates, config)[0].kind
    images = image_arrays(config, kind)
    dn = {image.layout.name: np.stack([_pixels(one, image) for one in chunks]) for image in images}
    return Base(config=config, kind=kind, rows=rows, dn=dn, normalisation=_normalisation(images, statistics))


def _pixels(chunks: dict[str, bytes], image: ImageArray) -> np.ndarray:
    payload = memoryview(chunks[image.layout.name])[:-CHECKSUM_BYTES]
    return np.frombuffer(payload, dtype=image.layout.dtype).reshape(image.layout.sample_shape)


def _normalisation(images: list[ImageArray], statistics: list[Row]) -> dict[str, Any]:
    """Turning and rolling changes no statistics but the patches' shares, alike to within one in forty."""
    summaries = {}
    for image in images:
        total = ChannelTotals(image.labels, image.encoding)
        for row in statistics:
            total.add(row[image.layout.name])
        summaries[image.layout.name] = total.summary()
    return {"basis": SPLIT, "samples": len(statistics), **summaries}


def _sample_frame(base: Base, draws: Draws) -> pd.DataFrame:
    candidates = pa.Table.from_batches([candidate_batch(base.rows)]).to_pandas(maps_as_pydicts="strict")
    frame = candidates.iloc[draws.patch].reset_index(drop=True)
    unpaired = pd.Series(~draws.paired)
    for name in ("optical_product", "optical_digest", "optical_datetime"):
        frame[name] = frame[name].mask(unpaired)
    return frame.assign(
        sample_id=[f"{name}_{number:06d}" for number, name in enumerate(frame["sample_id"])],
        paired=draws.paired,
        unpaired_reason=np.where(draws.paired, "", "benchmark"),
        block=frame["cell"],
        split=SPLIT,
        duplicates_of="",
    )


def _write_shards(root: Path, images: list[ImageArray], base: Base, draws: Draws) -> dict[str, PackedShard]:
    slots, known = base.config.pack.shard_samples, {}
    for image in images:
        for shard, first in enumerate(range(0, len(draws.patch), slots)):
            numbers = range(first, min(first + slots, len(draws.patch)))
            name = f"{DATA_DIR}/{SPLIT}.zarr/{shard_name(image.layout.name, shard)}"
            chunks, checksums = _chunks(image, base, draws, numbers), list[int]()
            digest = write_durably(root / name, shard_pieces(noting_checksums(chunks, checksums), slots=slots))
            known[name] = PackedShard(digest=digest, checksums=tuple(checksums))
    return known


def _chunks(image: ImageArray, base: Base, draws: Draws, numbers: range) -> Iterator[bytes | None]:
    for number in numbers:
        present = image.layout.name == "sar" or draws.paired[number]
        yield encode_chunk(draws.apply(base.dn[image.layout.name], number), image.compression) if present else None


def main() -> None:
    """Write a store and say what a sample takes in it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=8192)
    parser.add_argument("--patch-px", type=int, default=256)
    parser.add_argument("--codec", choices=("blosc-lz4", "none"), default="blosc-lz4")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    root = make_store(given.folder, given.samples, given.patch_px, given.codec, given.seed)
    marker = read_marker(root) or {}
    for array in ("sar", "optical"):
        size = sum(size for name, size in marker["files"].items() if f"/{array}/c/" in name)
        print(f"{array}: {size / 1e6:,.0f} MB, {size / given.samples / 1e3:.1f} kB a sample of the split")


if __name__ == "__main__":
    main()
