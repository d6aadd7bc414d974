"""Samples read straight into a batch: equal to what was written and to what zarr-python reads, whatever the codec."""

import errno
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zarr

from sar1m.store.chunks import crc32c, encode_chunk
from sar1m.store.places.folder import FolderPlace
from sar1m.store.places.handles import Descriptor, Handles
from sar1m.store.seal import verify
from sar1m.store.shard_index import parse_index
from sarmae.errors import ChunkError
from support import small_stores


class FarObjects(FolderPlace):
    """As a remote store shows itself: no files to open, bytes alone."""

    def local_path(self, name):
        return None


@pytest.mark.parametrize("compression", ["blosc-lz4", "none"])
@pytest.mark.parametrize(("samples", "slots"), [(1, 4), (4, 4), (11, 4), (5, 1)])
@pytest.mark.parametrize("objects", [FolderPlace, FarObjects])
def test_every_sample_is_what_was_written_and_what_zarr_reads(tmp_path, compression, samples, slots, objects):
    store = small_stores.small_store(tmp_path, samples=samples, slots=slots, compression=compression, unpaired=(2, 3))
    order = np.random.default_rng(0).permutation(samples)
    index, sar, optical, faults = small_stores.read_all(store, objects(tmp_path), order)
    assert faults == []
    assert index.sar.codec == index.optical.codec == compression
    np.testing.assert_array_equal(sar, store.sar[order])
    np.testing.assert_array_equal(optical, store.optical[order])
    group = zarr.open_group(store.group, mode="r")
    np.testing.assert_array_equal(sar, group["sar"][:][order])
    np.testing.assert_array_equal(optical, group["optical"][:][order])


def test_sixteen_bit_optical_of_the_archive_profile(tmp_path):
    store = small_stores.small_store(tmp_path, profile="archive")
    index, _, optical, faults = small_stores.read_all(store)
    assert faults == []
    assert (index.optical.dtype, index.sar.scale_factor) == ("uint16", 0.01)
    np.testing.assert_array_equal(optical, store.optical)


def test_pixels_that_do_not_compress(tmp_path):
    """blosc then stores them as they are, and says so in the header's flags."""
    store = small_stores.small_store(tmp_path, samples=4, unpaired=(), bound=False)
    store.sar[:] = np.random.default_rng(0).integers(0, 65536, store.sar.shape)
    small_stores.write_shard(store.group, "sar", 0, [encode_chunk(one, "blosc-lz4") for one in store.sar], 4)
    small_stores.seal(tmp_path)
    _, sar, _, faults = small_stores.read_all(store)
    assert faults == []
    np.testing.assert_array_equal(sar, store.sar)


def test_a_fault_names_store_split_sample_and_shard_and_blanks_the_rows(tmp_path):
    store = small_stores.small_store(tmp_path)
    small_stores.damage(store.group / "optical/c/1/0/0/0", 40)
    _, sar, optical, faults = small_stores.read_all(store)
    (fault,) = faults
    assert isinstance(fault, ChunkError)
    assert fault.sample == 4
    for part in (str(tmp_path), "'train'", "sample 4", "data/train.zarr/optical/c/1/0/0/0", "checksum", "sar1m verify"):
        assert part in str(fault)
    assert not sar[4].any()
    assert not optical[4].any()
    whole = np.arange(11) != 4
    np.testing.assert_array_equal(sar[whole], store.sar[whole])
    np.testing.assert_array_equal(optical[whole], store.optical[whole])


@pytest.mark.parametrize("position", [-1, -10, -60])
def test_a_damaged_index_costs_the_samples_of_its_shard(tmp_path, position):
    store = small_stores.small_store(tmp_path)
    small_stores.damage(store.group / "sar/c/1/0/0/0", position)
    _, sar, optical, faults = small_stores.read_all(store)
    assert [fault.sample for fault in faults] == [4, 5, 6, 7]
    assert all("the checksum of its index does not hold" in str(fault) for fault in faults)
    assert not sar[4:8].any()
    assert not optical[4:8].any()


@pytest.mark.parametrize(
    ("table", "found"),
    [
        ([(0, 50), (50, 50)], None),
        ([(0, 50), (2**64 - 1, 2**64 - 1), (50, 50)], None),
        ([(0, 99), (99, 1)], "chunks of 1 to 99 bytes"),
        ([(0, 100)], "chunks of 100 to 100 bytes, at most 99"),
        ([(0, 2**63), (2**63, 2**63), (0, 50), (50, 50)], "chunks of"),
        ([(50, 50), (0, 50)], "do not follow one another"),
        ([(0, 50), (40, 60)], "do not follow one another"),
        ([(0, 50), (60, 40)], "do not follow one another"),
        ([(0, 50)], "do not follow one another"),
        ([(0, 50), (2**64 - 1, 50)], "do not follow one another"),
        ([], "do not follow one another"),
    ],
)
def test_the_chunks_of_an_index_tile_its_shard(table, found):
    """100 bytes of chunks, none over 99."""
    entries = np.array(table, dtype="<u8").tobytes()
    raw = entries + crc32c(entries)
    if found is None:
        assert parse_index(raw, file_bytes=100 + len(raw), longest=99).entries == entries
    else:
        with pytest.raises(ValueError, match=found):
            parse_index(raw, file_bytes=100 + len(raw), longest=99)


@pytest.mark.parametrize(("array", "sample"), [("sar", 5), ("optical", 5)])
def test_a_sample_without_its_chunk_is_a_fault(tmp_path, array, sample):
    store = small_stores.small_store(tmp_path)
    chunks = [encode_chunk(one, "blosc-lz4") for one in getattr(store, array)[4:8]]
    chunks[sample - 4] = None
    small_stores.write_shard(store.group, array, 1, chunks, 4)
    small_stores.seal(tmp_path)
    _, _, _, faults = small_stores.read_all(store)
    assert [fault.sample for fault in faults] == [sample]
    assert "chunk is missing" in str(faults[0])


@pytest.mark.parametrize("objects", [FolderPlace, FarObjects])
@pytest.mark.parametrize("cut", ["deleted", "truncated"])
def test_a_shard_lost_in_mid_run_costs_its_own_samples(tmp_path, objects, cut):
    store = small_stores.small_store(tmp_path)
    reader, samples, sar, optical = small_stores.opened(store, objects)
    path = store.group / "sar/c/2/0/0/0"
    if cut == "deleted":
        path.unlink()
    else:
        os.truncate(path, 100)
    faults = reader.read_into(samples, samples, sar, optical)
    assert [fault.sample for fault in faults] == [8, 9, 10]
    assert all("sar/c/2/0/0/0" in str(fault) for fault in faults)
    np.testing.assert_array_equal(sar[:8], store.sar[:8])


def test_a_shard_cut_after_its_index_was_read(tmp_path):
    store = small_stores.small_store(tmp_path)
    reader, samples, sar, optical = small_stores.opened(store)
    assert reader.read_into(samples, samples, sar, optical) == []
    os.truncate(store.group / "sar/c/0/0/0/0", 10)
    faults = reader.read_into(samples, samples, sar, optical)
    assert [fault.sample for fault in faults] == [0, 1, 2, 3]
    assert "truncated" in str(faults[0])


def test_a_disk_that_refuses_is_a_fault_of_the_sample(tmp_path, monkeypatch):
    store = small_stores.small_store(tmp_path)
    reader, samples, sar, optical = small_stores.opened(store)
    assert reader.read_into(samples, samples, sar, optical) == []

    def refuse(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", refuse)
    faults = reader.read_into(samples[:2], samples[:2], sar, optical)
    assert [fault.sample for fault in faults] == [0, 1]
    assert "Input/output error" in str(faults[0])
    assert not sar[:2].any()


def test_a_read_in_two_goes_is_whole(tmp_path, monkeypatch):
    """Some file systems return less than was asked for."""
    store = small_stores.small_store(tmp_path, compression="none")
    reader, samples, sar, optical = small_stores.opened(store)
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda file, buffers, start: preadv(file, [buffers[0][:777]], start))
    assert reader.read_into(samples, samples, sar, optical) == []
    np.testing.assert_array_equal(sar, store.sar)
    np.testing.assert_array_equal(optical, store.optical)


@pytest.mark.parametrize("bound", [True, False])
def test_whole_valid_chunks_in_the_place_of_others_are_found_by_checksums_by_sample(tmp_path, bound):
    """Uncompressed shards of one size. In stores of a schema before 1.3 the manifest's sha256 alone sees it."""
    store = small_stores.small_store(tmp_path, samples=8, unpaired=(), compression="none", bound=bound)
    first, second = (store.group / f"sar/c/{number}/0/0/0" for number in (0, 1))
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    assert [fault.sample for fault in small_stores.read_all(store)[3]] == (list(range(8)) if bound else [])
    assert [fault.path for fault in verify(tmp_path)] == [f"data/train.zarr/sar/c/{n}/0/0/0" for n in (0, 1)]


def test_threads_share_a_reader(tmp_path):
    store = small_stores.small_store(tmp_path, samples=60, slots=2, unpaired=range(0, 60, 7))
    reader, _, _, _ = small_stores.opened(store)

    def read(seed):
        order = np.random.default_rng(seed).permutation(60)
        sar, optical = np.empty_like(store.sar), np.empty_like(store.optical)
        faults = reader.read_into(order, np.arange(60), sar, optical)
        return faults == [] and (sar == store.sar[order]).all() and (optical == store.optical[order]).all()

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(32)))


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_few_descriptors_serve_many_threads_and_are_given_back(tmp_path):
    paths = [tmp_path / str(number) for number in range(20)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * 64)
    files = Handles(Descriptor, limit=3)
    before = descriptors()
    wrong = []

    def read(seed, files):
        for number in np.random.default_rng(seed).integers(0, 20, 400).tolist():
            file = files.get(paths[number])
            if os.pread(file.number, 64, 0) != bytes([number]) * 64:
                wrong.append(number)

    threads = [threading.Thread(target=read, args=(seed, files)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert descriptors() - before <= 3
    del files, read, threads, thread
    assert descriptors() == before


def test_ranges_cover_the_chunks_and_join_neighbours(tmp_path):
    store = small_stores.small_store(tmp_path)
    reader, samples, _, _ = small_stores.opened(store)
    whole = {
        f"data/train.zarr/{array}/c/{n}/0/0/0": (store.group / f"{array}/c/{n}/0/0/0").stat().st_size - (4 * 16 + 4)
        for array in ("sar", "optical")
        for n in range(3)
    }
    assert {one.name: (one.start, one.stop) for one in reader.ranges(samples)} == {
        name: (0, size) for name, size in whole.items()
    }
    one = reader.ranges(np.array([2]))  # unpaired
    assert [found.name for found in one] == ["data/train.zarr/sar/c/0/0/0/0"]


def test_a_broken_shard_is_left_out_of_ranges(tmp_path):
    store = small_stores.small_store(tmp_path)
    small_stores.damage(store.group / "sar/c/1/0/0/0", -10)
    reader, samples, _, _ = small_stores.opened(store, optical=False)
    assert [one.name[-7] for one in reader.ranges(samples)] == ["0", "2"]


def test_without_optical_none_is_touched(tmp_path):
    store = small_stores.small_store(tmp_path)
    reader, samples, sar, optical = small_stores.opened(store, optical=False)
    (store.group / "optical/c/0/0/0/0").unlink()
    assert reader.read_into(samples, samples, sar, None) == []
    np.testing.assert_array_equal(sar, store.sar)
    with pytest.raises(ValueError, match="optical=False"):
        reader.read_into(samples, samples, sar, optical)


@pytest.mark.parametrize(
    "call",
    [
        lambda n, sar, optical: (n + 1, n, sar, optical),
        lambda n, sar, optical: (n - 1, n, sar, optical),
        lambda n, sar, optical: (n, n + 1, sar, optical),
        lambda n, sar, optical: (n, n[:-1], sar, optical),
        lambda n, sar, optical: (n, n, sar[:, :, ::2], optical),
        lambda n, sar, optical: (n, n, sar.astype("int16"), optical),
        lambda n, sar, optical: (n, n, sar.swapaxes(2, 3), optical),
    ],
)
def test_numbers_and_arrays_that_do_not_fit_are_refused(tmp_path, call):
    reader, samples, sar, optical = small_stores.opened(small_stores.small_store(tmp_path))
    with pytest.raises(ValueError, match=r"samples|rows|sar|argument"):
        reader.read_into(*call(samples, sar, optical))


def test_reading_pulls_in_neither_the_geo_stack_nor_zarr(tmp_path):
    small_stores.small_store(tmp_path)
    code = f"""
import sys
from pathlib import Path
import numpy as np
from sarmae.stream.layout import open_split
from sar1m.store.places.folder import FolderPlace
from sarmae.stream.reader import SplitReader
objects = FolderPlace(Path({str(tmp_path)!r}))
index = open_split(objects, "train")
sar, optical = np.empty((11, 2, 24, 24), "uint16"), np.empty((11, 3, 24, 24), "uint16")
assert SplitReader(index, objects).read_into(np.arange(11), np.arange(11), sar, optical) == []
print(*sorted({{"dask", "rasterio", "geopandas", "pyarrow", "pandas", "zarr", "obstore"}} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
