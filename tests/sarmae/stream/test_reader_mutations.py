"""R8 on the reader: whatever happens to the files of a store, no pixel is wrong and every damage is a typed error.

One mutation at a time, drawn from its number: before the store is opened, after, or after every index was read.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np
import pytest

from sar1m.store.errors import StoreError
from sar1m.store.places.folder import FolderPlace
from sar1m.store.shard_index import shard_pieces
from sarmae.stream.layout import open_split
from sarmae.stream.reader import SplitReader
from support import small_stores
from support.campaigns import campaign

SLOTS = 4
INDEX = 16 * SLOTS + 4
UNREAD = ("land_cover/", "lon/", "lat/", "sample_id/")  # nothing of theirs reaches a trainer


@dataclass(frozen=True)
class Damage:
    """What was done: the files touched, with their new contents (None: deleted)."""

    kind: str
    contents: dict[Path, bytes | None]


def shard_files(store):
    return sorted(store.group.glob("*/c/*/0/0/0"))


def any_file(store, rng):
    """Shards half of the time, so that small files do not take all the blows."""
    everything = sorted(path for path in store.root.rglob("*") if path.is_file())
    return rng.choice(shard_files(store) if rng.random() < 0.5 else everything)


def flipped(store, rng):
    path = any_file(store, rng)
    content = bytearray(path.read_bytes())
    content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    return {path: bytes(content)}


def truncated(store, rng):
    path = any_file(store, rng)
    content = path.read_bytes()
    return {path: content[: rng.integers(len(content))]}


def extended(store, rng):
    path = any_file(store, rng)
    content = path.read_bytes()
    at = rng.integers(len(content))
    return {path: content[:at] + rng.bytes(rng.integers(1, 99)) + content[at:]}


def deleted(store, rng):
    return {any_file(store, rng): None}


def blanked(store, rng):
    """A lost sector: zeros in place of what was there."""
    path = any_file(store, rng)
    content = bytearray(path.read_bytes())
    start = int(rng.integers(len(content)))
    stop = min(len(content), start + 512)
    if not any(content[start:stop]):
        return {}
    content[start:stop] = bytes(stop - start)
    return {path: bytes(content)}


def files_swapped(store, rng):
    one, two = rng.choice(shard_files(store), 2, replace=False)
    return {one: two.read_bytes(), two: one.read_bytes()}


def index_of(content):
    return np.frombuffer(content[-INDEX:-4], dtype="<u8").reshape(-1, 2).copy()


def with_index(content, table):
    """A shard with another index whose checksum holds: the damage of a careless tool, not of a disk."""
    entries = table.tobytes()
    return content[:-INDEX] + entries + struct.pack("<I", google_crc32c.value(entries))


def entries_swapped(store, rng):
    path = rng.choice(shard_files(store))
    content = path.read_bytes()
    table = index_of(content)
    one, two = rng.choice(SLOTS, 2, replace=False)
    table[[one, two]] = table[[two, one]]
    changed = with_index(content, table)
    return {path: changed} if changed != content else {}


def entry_forged(store, rng):
    path = rng.choice(shard_files(store))
    content = path.read_bytes()
    table = index_of(content)
    forged = [0, 1, 5, len(content), 2**31, 2**32 + 7, 2**63, 2**64 - 2, 2**64 - 1, int(rng.integers(len(content)))]
    slot, column = rng.integers(SLOTS), rng.integers(2)
    table[slot, column] = rng.choice(np.array(forged, dtype=np.uint64))
    changed = with_index(content, table)
    return {path: changed} if changed != content else {}


def chunks_swapped(store, rng):
    """The bytes of two neighbouring chunks change places, the index stays."""
    path = rng.choice(shard_files(store))
    content = path.read_bytes()
    table = index_of(content)
    there = table[table[:, 0] != 2**64 - 1]
    if len(there) < 2:
        return {}
    at = rng.integers(len(there) - 1)
    (start, length), (_, other) = there[at : at + 2].tolist()
    middle, stop = start + length, start + length + other
    return {path: content[:start] + content[middle:stop] + content[start:middle] + content[stop:]}


def chunks_of(content):
    return [
        None if start == 2**64 - 1 else content[start : start + length] for start, length in index_of(content).tolist()
    ]


def chunks_traded(store, rng):
    """Two samples change places, inside a shard or between two of any array, both written whole: what a careless tool
    does. Every checksum and every index holds."""
    paths = rng.choice(shard_files(store), 2)
    shards = {path: chunks_of(path.read_bytes()) for path in paths}
    one, two = ((path, rng.choice([n for n, chunk in enumerate(shards[path]) if chunk])) for path in paths)
    (path, slot), (other, place) = one, two
    shards[path][slot], shards[other][place] = shards[other][place], shards[path][slot]
    written = {path: b"".join(shard_pieces(iter(chunks), slots=SLOTS)) for path, chunks in shards.items()}
    return {path: content for path, content in written.items() if content != path.read_bytes()}


KINDS = (
    flipped, truncated, extended, deleted, blanked, files_swapped, entries_swapped, entry_forged, chunks_swapped,
    chunks_traded,
)  # fmt: skip


def damage_number(store, number):
    rng = np.random.default_rng(number)
    kind = KINDS[number % len(KINDS)]
    return Damage(kind=kind.__name__, contents=kind(store, rng))


def write(contents):
    for path, content in contents.items():
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)


def check(store, damage, when):
    """Every sample is right or a named fault with blank rows; damage to what is read does not pass unnoticed."""
    objects = FolderPlace(store.root)
    before = {path: path.read_bytes() for path in damage.contents}
    reader = None if when == "before" else SplitReader(open_split(objects, "train"), objects)
    if when == "late":
        assert not check_pixels(store, reader, damage)
    write(damage.contents)
    objects.close()
    try:
        index = open_split(objects, "train") if when == "before" else None
        reader = reader or SplitReader(index, objects)
        noticed = check_pixels(store, reader, damage)
        if index is not None:
            check_metadata(store, index)
    except StoreError as error:
        noticed = str(store.root) in str(error)  # an error that names no file counts as none
    finally:
        write(before)
    return noticed


def check_pixels(store, reader, damage):
    samples = np.arange(len(store.keys))
    sar, optical = np.full_like(store.sar, 999), np.full_like(store.optical, 99)
    faults = reader.read_into(samples, samples, sar, optical)
    faulty = np.isin(samples, [fault.sample for fault in faults])
    for got, wanted in ((sar, store.sar), (optical, store.optical)):
        assert (got[~faulty] == wanted[~faulty]).all(), f"{damage.kind}: a wrong pixel"
        assert not got[faulty].any()
    touched = [str(path.relative_to(store.root)) for path in damage.contents]
    for fault in faults:
        assert f"sample {fault.sample} " in str(fault)
        assert any(name in str(fault) for name in touched), (damage.kind, str(fault))
    return bool(faults)


def check_metadata(store, index):
    for got, wanted in ((index.paired, store.paired), (index.keys, store.keys), (index.enl, store.enl)):
        np.testing.assert_array_equal(got, wanted)
    assert (index.sar.labels, index.sar.scale_factor, index.sar.add_offset) == (("VV", "VH"), 0.05, -60.0)


def must_be_noticed(store, damage, when):
    """After opening shards alone are read, and once every index is known damage to it does no harm."""
    if when == "late":
        return False
    names = [str(path.relative_to(store.root)) for path in damage.contents]
    if when == "after" or damage.kind == "extended":
        names = [name for name in names if "/c/" in name and name.endswith("/0/0/0")]
    return any(not name.removeprefix("data/train.zarr/").startswith(UNREAD) for name in names)


def run_mutants(root, compression, numbers):
    """Returns how many mutations there were: some draws change nothing."""
    store = small_stores.small_store(root, compression=compression)
    assert not check(store, Damage(kind="none", contents={}), "before")
    done = 0
    for number in numbers:
        damage = damage_number(store, number)
        when = ("before", "after", "late")[number // len(KINDS) % 3]
        if not damage.contents:
            continue
        noticed = check(store, damage, when)
        assert noticed or not must_be_noticed(store, damage, when), (number, damage.kind, when, list(damage.contents))
        done += 1
    return done


@pytest.mark.parametrize("compression", ["blosc-lz4", "none"])
@pytest.mark.parametrize(
    "numbers",
    [
        range(66),
        *campaign(range(660)),
        pytest.param(range(10_000, 16_600), marks=pytest.mark.long),
    ],
    ids=len,
)
def test_mutations_of_a_store(tmp_path, compression, numbers):
    assert run_mutants(tmp_path, compression, numbers) >= 0.75 * len(numbers)
