"""Whole shards of a release from the encoded chunks of its builds.

Each chunk is checked, counted and hashed, and copied as it is. Memory holds one chunk and the counts of one shard. For
every finished shard a record beside the release holds its counts and hashes, so that an interrupted release goes on
without reading the shard again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from sar1m.io.zarr_groups import ImageArray
from sar1m.records import Row
from sar1m.releases.build_pixels import BuildChunks, array_hash, decode_pixels
from sar1m.releases.builds import Build
from sar1m.stages.pack import has_chunk, shard_count
from sar1m.stages.statistics import ChannelTotals, channel_statistics, channel_totals
from sar1m.store.chunks import noting_checksums
from sar1m.store.durable import FileDigest, write_durably
from sar1m.store.errors import StoreError
from sar1m.store.progress import Watch
from sar1m.store.schema import SPLITS, group_name
from sar1m.store.shard_index import shard_name, shard_pieces
from sar1m.store.side_files import read_json


@dataclass(frozen=True, kw_only=True, eq=False)
class Packed:
    """What came out. digests: of the shards by path. hashes: by sample_id, by array. channels: totals by split, by
    array, of the splits that have samples. checksums: of the slots of each shard, by its name in the store."""

    digests: dict[Path, FileDigest] = field(default_factory=dict)
    hashes: dict[str, dict[str, str]] = field(default_factory=dict)
    channels: dict[str, dict[str, list[Row]]] = field(default_factory=dict)
    checksums: dict[str, list[int]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Shard:
    """One shard to write. rows: its samples, in the order of their slots."""

    image: ImageArray
    path: Path
    record: Path
    rows: pd.DataFrame


def pack(root: Path, records: Path, samples: pd.DataFrame, builds: Sequence[Build], watch: Watch) -> Packed:
    """Writes every shard below root that is not there yet, and its record below records.

    samples: in store order with split, shard, index, paired and merge.ORIGIN_COLUMNS. Raises StoreError naming the
    build's shard where a chunk is missing or damaged, OutputError where the disk refuses.
    """
    images = builds[0].images
    readers = [build.readers() for build in builds]
    packed = Packed()
    totals = {split: channel_totals(images) for split in SPLITS}
    with watch.stage("pack shards", shard_count(samples, images)) as step:
        for split, shard in _shards(root, records, samples, images):
            known = _read_record(shard) or _write(shard, readers)
            packed.digests[shard.path] = FileDigest(sha256=known["sha256"], size=known["size"])
            packed.checksums[shard.path.relative_to(root).as_posix()] = known["checksums"]
            for name, found in known["hashes"].items():
                packed.hashes.setdefault(name, {})[shard.image.layout.name] = found
            totals[split][shard.image.layout.name].add(known["channels"])
            step()
    for split in samples["split"].unique():
        packed.channels[split] = {name: total.rows() for name, total in totals[split].items()}
    return packed


def _shards(
    root: Path, records: Path, samples: pd.DataFrame, images: Sequence[ImageArray]
) -> Iterator[tuple[str, _Shard]]:
    for split in SPLITS:
        for number, rows in samples[samples["split"] == split].groupby("shard", sort=True):
            for image in images:
                name = image.layout.name
                if has_chunk(rows, name).any():
                    path = root / group_name(split) / shard_name(name, int(number))
                    record = records / f"{split}-{name}-{number}.json"
                    yield split, _Shard(image=image, path=path, record=record, rows=rows)


def _read_record(shard: _Shard) -> dict[str, Any] | None:
    """What an earlier run wrote down; None where it did not come so far. The record comes after its shard."""
    if not shard.record.is_file() or not shard.path.is_file():
        return None
    known: dict[str, Any] = read_json(shard.record, error=StoreError, remedy="Remove it and run again.")
    whole = shard.path.stat().st_size == known["size"] and "checksums" in known  # earlier versions noted none
    return known if whole else None


def _write(shard: _Shard, readers: Sequence[Mapping[str, BuildChunks]]) -> dict[str, Any]:
    totals = ChannelTotals(shard.image.labels, shard.image.encoding)
    hashes: dict[str, str] = {}
    checksums: list[int] = []
    chunks = _chunks(shard, readers, totals, hashes)
    digest = write_durably(
        shard.path, shard_pieces(noting_checksums(chunks, checksums), slots=shard.image.layout.shard_samples)
    )
    known = {"sha256": digest.sha256, "size": digest.size, "hashes": hashes, "channels": totals.rows()}
    known["checksums"] = checksums
    write_durably(shard.record, [json.dumps(known, sort_keys=True).encode()])
    return known


def _chunks(
    shard: _Shard, readers: Sequence[Mapping[str, BuildChunks]], totals: ChannelTotals, hashes: dict[str, str]
) -> Iterator[bytes | None]:
    """Chunk by slot, None where a sample has none; counts and hashes what passes."""
    image, name = shard.image, shard.image.layout.name
    columns = ("sample_id", "origin_build", "origin_split", "origin_index")
    places = zip(*(shard.rows[column] for column in columns), has_chunk(shard.rows, name), strict=True)
    for sample_id, build, split, number, there in places:
        if not there:
            yield None
            continue
        chunk = readers[build][split].chunk(name, int(number))
        dn = decode_pixels(chunk, image, origin=sample_id)
        totals.add(channel_statistics(dn, image.encoding))
        hashes[sample_id] = array_hash(dn, name)
        yield chunk
