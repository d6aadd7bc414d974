"""Chunks of codecs that zarr-python reads for us, and chunks that claim more than a sample."""

import struct
import tracemalloc

import numpy as np
import pytest
import zarr
from numcodecs.zstd import Zstd
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, TransposeCodec, ZstdCodec

from sar1m.store.chunks import crc32c, encode_chunk
from support import small_stores

CHAINS = {
    "zstd": {"compressors": [ZstdCodec(level=1), Crc32cCodec()]},
    "blosc-zstd": {"compressors": [BloscCodec(cname="zstd", shuffle="shuffle", typesize=2), Crc32cCodec()]},
    "big-endian": {"compressors": [Crc32cCodec()], "serializer": BytesCodec(endian="big")},
    "transposed": {
        "compressors": [ZstdCodec(level=1), Crc32cCodec()],
        "filters": [TransposeCodec(order=(0, 2, 3, 1))],
    },
}


def rewrite_sar(store, chain):
    """The same pixels, written by zarr-python with other codecs."""
    group = zarr.open_group(store.group, mode="r+")
    attributes = dict(group["sar"].attrs)
    array = group.create_array(
        "sar",
        shape=store.sar.shape,
        chunks=(1, *store.sar.shape[1:]),
        shards=(store.slots, *store.sar.shape[1:]),
        dtype="uint16",
        fill_value=0,
        dimension_names=("sample", "pol", "y", "x"),
        attributes=attributes,
        overwrite=True,
        **chain,
    )
    array[:] = store.sar
    small_stores.seal(store.root)


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_other_codecs_are_read_through_zarr_python(tmp_path, chain):
    store = small_stores.small_store(tmp_path, bound=False)
    rewrite_sar(store, chain)
    index, sar, _, faults = small_stores.read_all(store)
    assert faults == []
    assert index.sar.codec == "zarr"
    np.testing.assert_array_equal(sar, store.sar)


def test_damage_under_other_codecs_is_found(tmp_path):
    store = small_stores.small_store(tmp_path, bound=False)
    rewrite_sar(store, CHAINS["zstd"])
    small_stores.damage(store.group / "sar/c/1/0/0/0", 9)
    _, sar, _, faults = small_stores.read_all(store)
    assert [fault.sample for fault in faults] == [4]
    assert not sar[4].any()


def test_a_chunk_that_claims_a_gibibyte_is_refused_before_it_is_unpacked(tmp_path):
    store = small_stores.small_store(tmp_path, bound=False)
    path = store.group / "sar/c/0/0/0/0"
    content = bytearray(path.read_bytes())
    length = len(encode_chunk(store.sar[0], "blosc-lz4"))
    content[4:8] = struct.pack("<I", 2**30)
    content[length - 4 : length] = crc32c(bytes(content[: length - 4]))
    path.write_bytes(content)
    faults, peak = peak_of_reading(store)
    assert [fault.sample for fault in faults] == [0]
    assert "claims to unpack to 1073741824" in str(faults[0])
    assert peak < 2 * 2**20


def test_a_zstd_chunk_that_claims_more_than_a_sample_is_refused(tmp_path):
    store = small_stores.small_store(tmp_path, side=96, bound=False)
    rewrite_sar(store, CHAINS["zstd"])
    good = [bytes(Zstd(level=1).encode(one)) for one in store.sar[:4]]
    bomb = bytes(Zstd(level=1).encode(bytes(64 * 2**20)))
    assert len(bomb) < store.sar[0].nbytes
    frames = [bomb, good[1] + bomb, good[2][:9], good[3]]
    small_stores.write_shard(store.group, "sar", 0, [frame + crc32c(frame) for frame in frames], 4)
    small_stores.seal(tmp_path)
    faults, peak = peak_of_reading(store)
    assert [fault.sample for fault in faults] == [0, 1, 2]
    for fault, found in zip(faults, ("claims to unpack to 67108864", "not one whole", "cut off"), strict=True):
        assert found in str(fault)
    assert peak < 4 * 2**20


def peak_of_reading(store):
    reader, samples, sar, optical = small_stores.opened(store)
    reader.read_into(samples[-1:], samples[-1:], sar, optical)  # imports and buffers stand apart
    tracemalloc.start()
    faults = reader.read_into(samples, samples, sar, optical)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return faults, peak
