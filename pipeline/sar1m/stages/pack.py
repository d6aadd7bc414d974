"""The middle of phase 2: writes what was chosen, tables and statistics first, then one whole shard a task.

All goes into a folder of its own under staging/pack, named by what is packed. A file there is whole or absent, so that
an interrupted build keeps what it has packed. stages/install.py then puts the folder in the place of the store.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from sar1m.config import BuildConfig
from sar1m.io.tables import parquet_bytes
from sar1m.io.zarr_groups import ImageArray, checksum_files, group_files
from sar1m.records import StoreKind
from sar1m.stages.choose import Choice, excluded_boxes
from sar1m.stages.deciding import BYTE_DECIDING, CODE_FILE
from sar1m.stages.plan import Plan
from sar1m.stages.staged import read_chunk
from sar1m.stages.statistics import normalisation
from sar1m.store.chunk_checksums import joined_checksums
from sar1m.store.chunks import noting_checksums
from sar1m.store.durable import FileDigest, json_bytes
from sar1m.store.outputs.output import Output
from sar1m.store.schema import (
    FAILED_FILE,
    LAYOVER_SHADOW_ENCODING,
    LOCAL_INCIDENCE_ENCODING,
    PROVENANCE_DIR,
    REJECTED_FILE,
    SAMPLES_FILE,
    SCHEMA_VERSION,
    SPLITS,
    STATS_DIR,
    ArrayLayout,
    group_name,
    optical_encoding,
    sar_encoding,
)
from sar1m.store.shard_index import shard_name, shard_pieces
from sar1m.store.table_columns import FAILED_COLUMNS, REJECTED_COLUMNS, SAMPLE_COLUMNS
from sar1m.store.version import __version__

PACK_DIR = "staging/pack"  # of packing folders
TERRAIN_LAYERS = {  # array: its second dimension, encoding
    "local_incidence": ("angle", LOCAL_INCIDENCE_ENCODING),
    "layover_shadow": ("mask", LAYOVER_SHADOW_ENCODING),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Packing:
    """A chosen store and where it is written. staging: its staged blocks. name: of the packing folder in the output;
    images: the arrays of every split."""

    staging: Output
    name: str
    packed: Output
    choice: Choice
    images: list[ImageArray]


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """One whole shard to write. name: in the packing folder. entries: by slot, key of the staged block and name of the
    chunk; None: empty slot."""

    staging: Output
    packed: Output
    name: str
    slots: int
    entries: tuple[tuple[str, str] | None, ...]


@dataclass(frozen=True, kw_only=True)
class PackedShard:
    """digest: of the file. checksums: the crc32c of each slot's chunk, by slot; 0 for an empty one."""

    digest: FileDigest
    checksums: tuple[int, ...]


def plan_packing(out: Output, choice: Choice, kind: StoreKind, config: BuildConfig) -> Packing:
    """Where in an output, and in which arrays, a choice is packed. Writes nothing."""
    name = f"{PACK_DIR}/{pack_digest(choice.samples, choice.rejected, choice.facts)}"
    images = image_arrays(config, kind)
    blocks = out.below(f"staging/{choice.blocks}")
    return Packing(staging=blocks, name=name, packed=out.below(name), choice=choice, images=images)


def pack_digest(samples: pd.DataFrame, rejected: pd.DataFrame, facts: Mapping[str, Any]) -> str:
    """blake2b-128 of what is packed in which order, and of the marker's facts (region, plan, configuration, version of
    the code and its digest)."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(facts, sort_keys=True).encode())
    for frame, columns in (
        (samples, ["key", "sample_id", "split", "paired"]),
        (rejected, ["key", "sample_id", "reason"]),
    ):
        for column in columns:
            digest.update("\n".join(frame[column].astype(str)).encode() + b"\0")
    return digest.hexdigest()


def image_arrays(config: BuildConfig, kind: StoreKind) -> list[ImageArray]:
    """The arrays of every split under this configuration."""
    side, profile = config.grid.patch_px, config.pixels.profile
    optical = optical_encoding(profile, "display" if kind.optical_quantity == "display" else "reflectance")
    terrain = TERRAIN_LAYERS if config.pixels.terrain_layers else {}
    arrays = []
    for name, dim, labels, encoding in (
        ("sar", "pol", kind.polarisations, sar_encoding(profile, kind.quantity)),
        ("optical", "band", kind.bands, optical),
        *((name, dim, (name,), encoding) for name, (dim, encoding) in terrain.items()),
    ):
        if not labels:
            continue
        layout = ArrayLayout(
            name=name,
            dims=("sample", dim, "y", "x"),
            sample_shape=(len(labels), side, side),
            dtype=encoding.dtype,
            shard_samples=config.pack.shard_samples,
        )
        compression = config.pixels.compression
        arrays.append(ImageArray(layout=layout, encoding=encoding, compression=compression, labels=labels))
    return arrays


def write_tables(packing: Packing, plan: Plan, config: BuildConfig) -> dict[str, FileDigest]:
    """Writes everything but shards and page: tables, statistics, provenance, Zarr metadata. Returns digests by name."""
    choice = packing.choice
    failed = pd.DataFrame(
        [{"item": f.item_id, "patches": f.patches, "error": f.error, "cause": f.cause} for f in plan.failed],
        columns=[column.name for column in FAILED_COLUMNS],
    )
    files: dict[str, bytes] = {
        FAILED_FILE: parquet_bytes(failed, FAILED_COLUMNS),
        f"{STATS_DIR}/summary.json": json_bytes(choice.summary),
        f"{STATS_DIR}/self_test.json": json_bytes(choice.self_test),
        f"{STATS_DIR}/splits.json": json_bytes(choice.audit.to_json()),
        f"{STATS_DIR}/normalisation.json": json_bytes(normalisation(choice.staged, choice.samples, packing.images)),
        f"{PROVENANCE_DIR}/config.toml": config.portable().to_toml().encode(),
        f"{PROVENANCE_DIR}/environment.txt": environment_text().encode(),
        CODE_FILE: json_bytes(choice.code.to_json()),
    }
    footprints = config.portable().split.exclude_footprints
    if footprints is not None:
        files[f"{PROVENANCE_DIR}/{footprints}"] = footprints_json(excluded_boxes(config))
    files |= metadata_files(choice.samples, packing.images, {"name": config.name, "kind": asdict(plan.kind)})
    known = {name: packing.packed.write(name, [content]) for name, content in files.items()}
    for name, frame, columns in (
        (SAMPLES_FILE, choice.samples, SAMPLE_COLUMNS),
        (REJECTED_FILE, choice.rejected, REJECTED_COLUMNS),
    ):
        known[name] = packing.packed.write(name, choice.staged.parquet(frame, columns))
    return known


def footprints_json(boxes: npt.NDArray[np.float64]) -> bytes:
    """Boxes of excluded_boxes as GeoJSON, from which excluded_boxes gives the very same numbers."""
    rings = [[[w, s], [e, s], [e, n], [w, n], [w, s]] for w, s, e, n in boxes.tolist()]
    return json_bytes({"type": "MultiPolygon", "coordinates": [[ring] for ring in rings]})


def environment_text() -> str:
    """Versions of Python, of sar1m and of the packages that decide bytes, one a line."""
    lines = [f"sar1m=={__version__}", f"python=={platform.python_version()}"]
    return "\n".join([*lines, *(f"{name}=={version(name)}" for name in BYTE_DECIDING)]) + "\n"


def metadata_files(samples: pd.DataFrame, images: list[ImageArray], attributes: Mapping[str, Any]) -> dict[str, bytes]:
    """The Zarr metadata and small arrays of every split that has samples, by name in the store."""
    files: dict[str, bytes] = {}
    for split in SPLITS:
        chosen = samples[samples["split"] == split]
        if len(chosen):
            facts = {**attributes, "split": split, "schema_version": SCHEMA_VERSION}
            found = group_files(images, chosen, facts)
            files |= {f"{group_name(split)}/{name}": content for name, content in found.items()}
    return files


def shard_tasks(packing: Packing) -> Iterator[ShardTask]:
    """Every shard of every split, in order, made as they are drawn. A sample without a chunk has an empty slot."""
    samples = packing.choice.samples
    for split in SPLITS:
        chosen = samples[samples["split"] == split]
        for shard, rows in chosen.groupby("shard", sort=True):
            for image in packing.images:
                name = image.layout.name
                entries = tuple(
                    _chunk_name(key, name) if there else None
                    for key, there in zip(rows["key"], has_chunk(rows, name), strict=True)
                )
                if any(entry is not None for entry in entries):
                    yield ShardTask(
                        staging=packing.staging,
                        packed=packing.packed,
                        name=f"{group_name(split)}/{shard_name(name, int(shard))}",
                        slots=image.layout.shard_samples,
                        entries=entries,
                    )


def shard_count(samples: pd.DataFrame, images: list[ImageArray]) -> int:
    """How many shards the samples fill."""
    chosen = [samples[has_chunk(samples, image.layout.name)] for image in images]
    return sum(len(rows[["split", "shard"]].drop_duplicates()) for rows in chosen)


def has_chunk(samples: pd.DataFrame, array: str) -> pd.Series:
    """Which samples have a chunk of an array: all of sar, the paired ones of optical, those over known terrain of the
    terrain layers."""
    if array in TERRAIN_LAYERS:
        return samples["layover_shadow_frac"].notna() & samples["local_incidence_deg"].notna()
    return samples["paired"].astype(bool) if array == "optical" else pd.Series(data=True, index=samples.index)


def write_shard(task: ShardTask) -> PackedShard:
    """Writes one whole shard from staged chunks, or reads the one already there.

    Raises StoreError naming the staged block where a chunk is missing or damaged, OutputError where the output refuses.
    """
    chunks = (None if entry is None else read_chunk(task.staging, *entry) for entry in task.entries)
    checksums: list[int] = []
    noted = noting_checksums(chunks, checksums)
    if task.packed.size(task.name) is None:
        digest = task.packed.write(task.name, shard_pieces(noted, slots=task.slots))
    else:  # whole or absent, in a folder named by its content: nothing to write
        digest = task.packed.digest(task.name)
        deque(noted, maxlen=0)
    return PackedShard(digest=digest, checksums=tuple(checksums))


def write_checksums(packing: Packing, shards: Mapping[str, PackedShard]) -> dict[str, FileDigest]:
    """Writes the arrays of checksums of every split. shards: all of them, by name. Returns digests by name."""
    samples = packing.choice.samples
    counts = {split: int((samples["split"] == split).sum()) for split in SPLITS}
    files = all_checksum_files(counts, packing.images, {name: shard.checksums for name, shard in shards.items()})
    return {name: packing.packed.write(name, [content]) for name, content in files.items()}


def all_checksum_files(
    counts: Mapping[str, int], images: list[ImageArray], shards: Mapping[str, Sequence[int]]
) -> dict[str, bytes]:
    """The arrays of checksums of every split that has samples, by name in the store.

    counts: samples by split. shards: the checksums of their slots, by name in the store."""
    files: dict[str, bytes] = {}
    for split in (name for name in SPLITS if counts[name]):
        columns = {}
        for image in images:
            slots, array = image.layout.shard_samples, image.layout.name
            names = {f"{group_name(split)}/{shard_name(array, n)}": n for n in range(-(-counts[split] // slots))}
            found = {number: shards[name] for name, number in names.items() if name in shards}
            columns[array] = joined_checksums(found, samples=counts[split], slots=slots)
        files |= {f"{group_name(split)}/{name}": content for name, content in checksum_files(columns).items()}
    return files


def _chunk_name(key: str, array: str) -> tuple[str, str]:
    """A sample's key is `<key of its staged block>/<patch>`; its chunks lie there under `<patch>/<array>`."""
    block, patch = key.split("/", 1)
    return block, f"{patch}/{array}"
