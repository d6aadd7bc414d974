"""Phase 2: from staged blocks to a finished store. Pure choice first, then whole shards, then the manifest.

Everything is written into a folder of its own under staging/pack, named by what is packed; only when all of it is
durable does it take the place of the former store. Interrupted anywhere, the same command goes on from there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sar1m.config import BuildConfig
from sar1m.io.staged import read_chunk
from sar1m.io.zarr_groups import ImageArray, group_files, shard_path
from sar1m.records import StoreKind
from sar1m.store.chunks import shard_pieces
from sar1m.store.durable import (
    FileDigest,
    digest_file,
    remove_tree,
    settle_folders,
    sync_directory,
    write_durably,
    writing_to,
)
from sar1m.store.errors import StoreError
from sar1m.store.schema import (
    DATA_DIR,
    FAILED_FILE,
    LAYOVER_SHADOW_ENCODING,
    LOCAL_INCIDENCE_ENCODING,
    MARKER_FILE,
    PROVENANCE_DIR,
    REJECTED_FILE,
    REPORT_FILE,
    SAMPLES_FILE,
    SCHEMA_VERSION,
    SPLITS,
    STATS_DIR,
    ArrayLayout,
    optical_encoding,
    sar_encoding,
)
from sar1m.store.seal import payload_files, write_manifest

READY_SUFFIX = ".ready.json"
STORE_NAMES = {DATA_DIR, SAMPLES_FILE, REJECTED_FILE, FAILED_FILE, STATS_DIR, PROVENANCE_DIR, REPORT_FILE.split("/")[0]}


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """One whole shard to write. entries: by slot, key of the staged block and name of the chunk; None: empty slot."""

    staging: Path
    path: Path
    slots: int
    entries: tuple[tuple[str, str] | None, ...]


TERRAIN_LAYERS = {  # array: its second dimension, encoding
    "local_incidence": ("angle", LOCAL_INCIDENCE_ENCODING),
    "layover_shadow": ("mask", LAYOVER_SHADOW_ENCODING),
}


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


def has_chunk(samples: pd.DataFrame, array: str) -> pd.Series:
    """Which samples have a chunk of an array: every one of sar, the paired ones of optical, those over known terrain of
    its layers."""
    if array in TERRAIN_LAYERS:
        return samples["layover_shadow_frac"].notna() & samples["local_incidence_deg"].notna()
    return samples["paired"].astype(bool) if array == "optical" else pd.Series(data=True, index=samples.index)


def number_samples(samples: pd.DataFrame, shard_samples: int) -> pd.DataFrame:
    """Adds shard and index: the position within the split, in the order of the rows."""
    index = samples.groupby("split", sort=False).cumcount().astype(np.int64)
    return samples.assign(index=index, shard=(index // shard_samples).astype(np.int32))


def write_groups(
    root: Path, samples: pd.DataFrame, images: list[ImageArray], attributes: Mapping[str, Any]
) -> dict[Path, FileDigest]:
    """Writes the Zarr metadata and small arrays of every split that has samples. Returns digests by path."""
    digests = {}
    for split in SPLITS:
        chosen = samples[samples["split"] == split]
        if len(chosen):
            group = root / DATA_DIR / f"{split}.zarr"
            facts = {**attributes, "split": split, "schema_version": SCHEMA_VERSION}
            for name, content in group_files(images, chosen, facts).items():
                digests[group / name] = write_durably(group / name, [content])
    return digests


def shard_tasks(root: Path, staging: Path, samples: pd.DataFrame, images: list[ImageArray]) -> Iterator[ShardTask]:
    """Every shard of every split, in order. A sample without a chunk has an empty slot."""
    for split in SPLITS:
        chosen = samples[samples["split"] == split]
        for shard, rows in chosen.groupby("shard", sort=True):
            for image in images:
                name = image.layout.name
                entries = tuple(
                    _chunk_name(key, name) if there else None
                    for key, there in zip(rows["key"], has_chunk(rows, name), strict=True)
                )
                path = shard_path(root / DATA_DIR / f"{split}.zarr", name, int(shard))
                if any(entry is not None for entry in entries):
                    yield ShardTask(staging=staging, path=path, slots=image.layout.shard_samples, entries=entries)


def shard_count(samples: pd.DataFrame, images: list[ImageArray]) -> int:
    """How many tasks shard_tasks gives."""
    chosen = [samples[has_chunk(samples, image.layout.name)] for image in images]
    return sum(len(rows[["split", "shard"]].drop_duplicates()) for rows in chosen)


def _chunk_name(key: str, array: str) -> tuple[str, str]:
    """A sample's key is `<key of its staged block>/<patch>`; its chunks lie there under `<patch>/<array>`."""
    block, patch = key.split("/", 1)
    return block, f"{patch}/{array}"


def write_shard(task: ShardTask) -> FileDigest:
    """Writes one whole shard from staged chunks, or takes the digest of the one already there.

    Raises StoreError naming the staged block where a chunk is missing or damaged, OutputError where the disk refuses.
    """
    if task.path.is_file():  # whole or absent, in a folder named by its content: nothing to do again
        return digest_file(task.path)
    chunks = (None if entry is None else read_chunk(task.staging, *entry) for entry in task.entries)
    return write_durably(task.path, shard_pieces(chunks, slots=task.slots))


def pack_digest(samples: pd.DataFrame, rejected: pd.DataFrame, facts: Mapping[str, Any]) -> str:
    """Names the packing folder: blake2b-128 of what is packed in which order, and of the marker's facts (region, plan,
    configuration, version of the code)."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(facts, sort_keys=True).encode())
    for frame, columns in (
        (samples, ["key", "sample_id", "split", "paired"]),
        (rejected, ["key", "sample_id", "reason"]),
    ):
        for column in columns:
            digest.update("\n".join(frame[column].astype(str)).encode() + b"\0")
    return digest.hexdigest()


def seal(packed: Path, known: Mapping[Path, FileDigest], facts: Mapping[str, Any]) -> None:
    """Digests what is packed and marks the folder as ready to be installed. known: digests taken while writing."""
    digests = {name: known.get(packed / name) or digest_file(packed / name) for name in payload_files(packed)}
    ready = {"facts": dict(facts), "files": {name: [d.sha256, d.size] for name, d in digests.items()}}
    settle_folders(packed)
    write_durably(_ready_path(packed), [json.dumps(ready, sort_keys=True).encode()])


def is_sealed(packed: Path) -> bool:
    """Whether the folder holds a whole store that only waits to be installed."""
    return _ready_path(packed).is_file()


def install(packed: Path, store: Path) -> None:
    """Puts a sealed folder in the place of the store: marker off, entries moved, manifest, marker last.

    Interrupted at any point, calling it again finishes: what has moved is no longer in the packed folder.
    """
    ready = json.loads(_ready_path(packed).read_text(encoding="utf-8"))
    digests = {name: FileDigest(sha256=sha256, size=size) for name, (sha256, size) in ready["files"].items()}
    remove_tree(store / MARKER_FILE)
    sync_directory(store)
    names = sorted({name.split("/", 1)[0] for name in digests})
    with writing_to(store):
        for stale in sorted(STORE_NAMES - set(names)):
            remove_tree(store / stale)
        for name in names:
            if (packed / name).exists():
                remove_tree(store / name)
                (packed / name).rename(store / name)
    sync_directory(store)
    _require_whole(store, digests, packed)
    write_manifest(store, digests, ready["facts"])
    _unseal(packed)
    remove_tree(packed)


def remove_other_packs(packed: Path) -> None:
    """Removes what was packed under another choice and never installed."""
    if not packed.parent.is_dir():
        return
    others = [path for path in packed.parent.iterdir() if path not in (packed, _ready_path(packed))]
    for folders in (False, True):  # a seal, which is a file, vouches for its whole folder: seals go first
        for path in others:
            if path.is_dir() is folders:
                remove_tree(path)
        sync_directory(packed.parent)


def _unseal(packed: Path) -> None:
    """Takes the seal off a folder, durably, before anything in it goes: a seal vouches for all that it lists."""
    remove_tree(_ready_path(packed))
    if packed.parent.is_dir():
        sync_directory(packed.parent)


def _require_whole(store: Path, digests: Mapping[str, FileDigest], packed: Path) -> None:
    """The last look before a store is called complete: somebody may have removed files while it was being put there."""
    for name, digest in digests.items():
        if not (store / name).is_file() or (store / name).stat().st_size != digest.size:
            _unseal(packed)
            raise StoreError(f"{store / name}: went missing while the store was installed. Run the same command again.")


def _ready_path(packed: Path) -> Path:
    return packed.with_name(packed.name + READY_SUFFIX)
