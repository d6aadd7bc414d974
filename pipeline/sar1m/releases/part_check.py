"""A part by samples, compared with what it says it is part of, by the files of the release that it keeps.

From the release's manifest in provenance/release everything follows: it covers the release's tables, arrays and the
files that came as they are; these are cut again and compared; and the lock among the tables has a hash of every pixel.
What stays open is whether that manifest is its publisher's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from sar1m.io.zarr_groups import different_files
from sar1m.releases.array_chunks import AT_ONCE, ArrayChunks
from sar1m.releases.sample_parts import (
    CUT_TABLES,
    RELEASE_DIR,
    REQUEST_FILE,
    PartRows,
    SampleChoice,
    cut_arrays,
    images_of,
    part_facts,
    part_name,
    select,
    wrong_pixels,
)
from sar1m.store.errors import ConfigError, RegionError, StoreError, UnreachableError
from sar1m.store.places.place import Place
from sar1m.store.sample_filter import SampleFilter
from sar1m.store.schema import DATA_DIR, MANIFEST_FILE, RELEASE_MARKER_FILE, SIGNATURE_FILE, group_name
from sar1m.store.seal import Seal, StoreFault
from sar1m.store.seal_text import parse_manifest, parse_marker
from sar1m.store.shard_index import SHARD_NAME, shard_name

_MANIFEST = f"{RELEASE_DIR}/{MANIFEST_FILE}"
_MARKER = f"{RELEASE_DIR}/{RELEASE_MARKER_FILE}"
_OWN = (_MANIFEST, _MARKER, REQUEST_FILE, f"{RELEASE_DIR}/{SIGNATURE_FILE}")


def part_faults(place: Place, seal: Seal) -> list[StoreFault]:
    """What of a part by samples is not its release's, by file. The files are those of its own manifest already.

    Raises UnreachableError where a server does not answer.
    """
    try:
        manifest = _read(place, seal, _MANIFEST)
        if hashlib.sha256(manifest).hexdigest() != (seal.part_of or {}).get("manifest_sha256"):
            return [StoreFault(path=_MANIFEST, found="not the manifest of the release that the part says it is of")]
        copied = list(_copied_faults(seal, parse_manifest(manifest)))
        return copied or list(_cut_faults(place, seal))
    except UnreachableError:
        raise
    except (StoreError, ConfigError, RegionError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
        return [StoreFault(path=seal.marker_file, found=f"cannot be compared with its release: {error}")]


def _copied_faults(seal: Seal, release: Mapping[str, str]) -> Iterator[StoreFault]:
    """Files that came as they are and differ from the release's, and files that are of neither kind."""
    origins = {new: name for name in release if (new := part_name(name)) is not None}
    for name, sealed in seal.files.items():
        if name in CUT_TABLES or name.startswith(f"{DATA_DIR}/") or name in _OWN:
            continue
        if name not in origins:
            yield StoreFault(path=name, found="not in the release's manifest")
        elif sealed.sha256 != release[origins[name]]:
            yield StoreFault(path=name, found="differs from the release's manifest")


def _cut_faults(place: Place, seal: Seal) -> Iterator[StoreFault]:
    """Tables, arrays and pixels that are not those selected from the release's."""
    choice = _choice(seal)
    samples, lock = (_table(_read(place, seal, str(part_name(name)))) for name in CUT_TABLES)
    rows = select(samples, lock, choice)
    facts = part_facts(parse_marker(_read(place, seal, _MARKER)), rows, choice)
    if any(seal.marker.get(key) != value for key, value in facts.items()):
        yield StoreFault(path=seal.marker_file, found="states other facts than follow from the release")
    known: set[str] = set()
    hashes: dict[str, dict[str, str]] = {name: {} for name in rows.ids}
    slots = 1
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for split in rows.splits:
            group = group_name(split)
            cut = cut_arrays(_group(place, seal, f"{RELEASE_DIR}/{group}"), rows, split)
            for name in different_files(cut, _group(place, seal, group)):
                yield StoreFault(path=f"{group}/{name}", found="not what was selected from the release")
            known |= {f"{group}/{name}" for name in cut}
            for image in images_of(cut, group):
                slots = image.layout.shard_samples
                source = ArrayChunks(place, seal.files, group, image, pool)
                known |= _compared(rows, split, source, hashes)
    held = {name for name in seal.files if name.startswith(f"{DATA_DIR}/")}
    yield from (StoreFault(path=name, found="not in the release, or not selected") for name in sorted(held - known))
    for name, expected in rows.tables(slots).items():
        if not _table(expected).equals(_table(_read(place, seal, name))):
            yield StoreFault(path=name, found="not the rows that were selected from the release")
    for name in wrong_pixels(rows, hashes):
        yield StoreFault(path=f"sample {name}", found="its pixels differ from the hash in the release's lock")


def _choice(seal: Seal) -> SampleChoice:
    wanted = seal.part_of or {}
    box = wanted.get("bbox")
    samples = SampleFilter(where=wanted.get("where"), bbox=None if box is None else tuple(box))
    return SampleChoice(samples=samples, split=wanted.get("split"))


def _compared(rows: PartRows, split: str, source: ArrayChunks, hashes: Mapping[str, dict[str, str]]) -> set[str]:
    """Adds the hash of every chunk of an array of the part, by sample_id. Returns the shards that hold them."""
    array, slots = source.image.layout.name, source.image.layout.shard_samples
    ids = [rows.ids[member] for member in rows.splits[split]]
    numbers = rows.with_chunk(source, split, range(len(ids)))
    for name, found in zip(ids, source.hashes(numbers), strict=True):
        if found is not None:
            hashes[name][array] = found
    shards = {number // slots for number in numbers if number is not None}
    return {f"{group_name(split)}/{shard_name(array, shard)}" for shard in shards}


def _group(place: Place, seal: Seal, group: str) -> dict[str, bytes]:
    """The files of a group but its shards, by name within it."""
    names = [name for name in seal.files if name.startswith(f"{group}/") and not SHARD_NAME.fullmatch(name)]
    return {name.removeprefix(f"{group}/"): _read(place, seal, name) for name in names}


def _read(place: Place, seal: Seal, name: str) -> bytes:
    sealed = seal.files.get(name)
    if sealed is None:
        raise StoreError(f"{name} is missing")
    return place.read(name, max_bytes=sealed.size or 0)


def _table(content: bytes) -> pa.Table:
    return pq.read_table(pa.BufferReader(content))
