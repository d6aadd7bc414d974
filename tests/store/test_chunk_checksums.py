"""Chunks are bound to their place: by the loader at no cost, by verify --quick without reading pixels."""

import shutil
import struct

import google_crc32c
import numpy as np
import pytest
import zarr

from sar1m.releases.verification import verify_release
from sar1m.store.chunk_checksums import QuickComparison
from sar1m.store.errors import StoreError
from sar1m.store.seal import verify
from servers.objects import PREFIX, asked_ranges, folder_server
from support.campaigns import campaign
from support.crash_runner import Silence
from support.made_releases import release
from support.small_stores import read_all, small_store

EMPTY = 2**64 - 1


def chunks_of(path, slots):
    """By slot, read as the Zarr specification says."""
    content = path.read_bytes()
    table = struct.unpack(f"<{2 * slots}Q", content[-16 * slots - 4 : -4])
    return [None if at == EMPTY else content[at : at + size] for at, size in zip(table[::2], table[1::2], strict=True)]


def write_shard(path, chunks):
    offset, index = 0, b""
    for chunk in chunks:
        index += struct.pack("<QQ", *((EMPTY, EMPTY) if chunk is None else (offset, len(chunk))))
        offset += len(chunk or b"")
    trailer = struct.pack("<I", google_crc32c.value(index))
    path.write_bytes(b"".join(chunk for chunk in chunks if chunk) + index + trailer)


def quick(root):
    return {fault.path: fault.found for fault in verify(root, compare=QuickComparison())}


def test_a_build_keeps_the_checksum_of_every_chunk_by_sample(small_build):
    checked = 0
    for group in sorted((small_build / "data").glob("*.zarr")):
        for array in ("sar", "optical"):
            image = zarr.open_array(group / array, mode="r")
            kept = zarr.open_array(group / f"{array}_crc32c", mode="r")
            assert (kept.dtype, kept.shape, kept.metadata.dimension_names) == ("uint32", image.shape[:1], ("sample",))
            for path in group.glob(f"{array}/c/*/0/0/0"):
                slots, number = image.shards[0], int(path.parts[-4])
                wanted = [0 if one is None else google_crc32c.value(one[:-4]) for one in chunks_of(path, slots)]
                found = kept[number * slots : (number + 1) * slots].tolist()
                assert found + [0] * (slots - len(found)) == wanted
                checked += sum(map(bool, wanted))
    assert checked > 20
    comparison = QuickComparison()
    assert verify(small_build, compare=comparison) == []
    assert comparison.chunks == checked


def trade(root, rng):
    """Two chunks of any two shards of any arrays and splits change places. Every checksum and index holds."""
    paths = sorted(root.glob("data/*.zarr/*/c/*/0/0/0"))
    picked = [paths[number] for number in rng.integers(len(paths), size=2)]
    slots = {path: zarr.open_array(path.parents[4], mode="r").shards[0] for path in picked}
    shards = {path: chunks_of(path, slots[path]) for path in picked}
    places = [(path, rng.choice([n for n, chunk in enumerate(shards[path]) if chunk])) for path in picked]
    (one, at), (other, to) = places
    shards[one][at], shards[other][to] = shards[other][to], shards[one][at]
    for path, chunks in shards.items():
        write_shard(path, chunks)
    return picked


def swap_files(root, rng):
    paths = sorted(root.glob("data/*.zarr/*/c/*/0/0/0"))
    picked = [paths[number] for number in rng.choice(len(paths), size=2, replace=False)]
    one, other = (path.read_bytes() for path in picked)
    picked[0].write_bytes(other)
    picked[1].write_bytes(one)
    return picked


@pytest.mark.parametrize("count", [24, *campaign(1000)])
def test_swapped_chunks_and_shards_are_found_without_reading_pixels(small_build, tmp_path, count):
    """In a shard, between shards, arrays and splits; the file is always named, by its size or by its checksums."""
    copy = shutil.copytree(small_build, tmp_path / "copy", ignore=shutil.ignore_patterns("staging"))
    done = 0
    for number in range(count):
        paths = sorted(copy.glob("data/*.zarr/*/c/*/0/0/0"))
        before = {path: path.read_bytes() for path in paths}
        picked = (trade, swap_files)[number % 2](copy, np.random.default_rng(number))
        changed = {path for path in picked if path.read_bytes() != before[path]}
        assert {str(path.relative_to(copy)) for path in changed} <= quick(copy).keys(), number
        done += bool(changed)
        for path in picked:
            path.write_bytes(before[path])
    assert done > 0.6 * count
    assert quick(copy) == {}


def test_the_loader_names_samples_whose_chunks_were_swapped(tmp_path):
    store = small_store(tmp_path, compression="none")
    path = store.group / "sar/c/1/0/0/0"
    chunks = chunks_of(path, store.slots)
    write_shard(path, [chunks[1], chunks[0], *chunks[2:]])
    _, sar, _, faults = read_all(store)
    assert [fault.sample for fault in faults] == [4, 5]
    assert not sar[4:6].any()
    assert "sample 4 (sar)" in str(faults[0])
    assert "whole, but not this sample's" in str(faults[0])
    assert "sar1m verify" in str(faults[0])


def test_a_store_of_an_earlier_schema_is_read_and_needs_the_whole_comparison(tmp_path):
    store = small_store(tmp_path, bound=False)
    _, sar, _, faults = read_all(store)
    assert not faults
    np.testing.assert_array_equal(sar, store.sar)
    with pytest.raises(
        StoreError, match=r"no checksums by sample, which stores have since schema 1\.3.*without --quick"
    ):
        quick(tmp_path)


def test_small_files_are_compared_whole_and_pixels_are_not(tmp_path):
    store = small_store(tmp_path)
    path = store.group / "sar/c/0/0/0/0"
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(content)
    assert quick(tmp_path) == {}
    assert [fault.path for fault in verify(tmp_path)] == ["data/train.zarr/sar/c/0/0/0/0"]
    path = store.group / "sar_crc32c/c/0"
    path.write_bytes(path.read_bytes()[::-1])
    assert "data/train.zarr/sar_crc32c/c/0" in quick(tmp_path)


def test_a_release_on_a_server_is_compared_by_ranges(small_build, tmp_path):
    root = tmp_path / "release"
    release([small_build], root)
    shards = {path.relative_to(root).as_posix(): path.stat().st_size for path in root.glob("data/*.zarr/*/c/*/0/0/0")}
    with folder_server(root) as server:
        url, comparison = f"{server.url}{PREFIX}", QuickComparison()
        assert verify_release(url, Silence(), quick=comparison).faults == ()
        assert comparison.chunks > len(shards)
        asked = [(name, stop - start) for name, start, stop in asked_ranges(server) if name in shards]
        assert {name for name, _ in asked} == shards.keys()
        assert sum(count for _, count in asked) < 0.2 * sum(shards.values())
        touched = trade(root, np.random.default_rng(1))
        found = {fault.path for fault in verify_release(url, Silence(), quick=QuickComparison()).faults}
    assert found == {path.relative_to(root).as_posix() for path in touched}
