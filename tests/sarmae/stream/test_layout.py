"""Opening a split: what is known before pixels are read, and what is refused before anything is allocated."""

import copy
import hashlib
import json
import os
import shutil
import tracemalloc

import numpy as np
import pytest
import zarr

from sar1m.store.errors import StoreError
from sar1m.store.places.folder import FolderPlace
from sar1m.store.schema import MARKER_FILE, PARTIAL_FILE
from sarmae.stream.layout import open_split
from support import small_stores
from support.small_stores import edit_json


def opened(root, split="train"):
    return open_split(FolderPlace(root), split)


def test_what_the_pipeline_wrote_is_what_the_reader_knows(tmp_path):
    store = small_stores.small_store(tmp_path)
    index = opened(tmp_path)
    assert (len(index), index.split, index.location) == (11, "train", str(tmp_path))
    np.testing.assert_array_equal(index.paired, store.paired)
    np.testing.assert_array_equal(index.keys, store.keys)
    np.testing.assert_array_equal(index.enl, store.enl)
    assert (index.paired.dtype, index.keys.dtype, index.enl.dtype) == (bool, np.int64, np.float32)
    assert (index.sar.labels, index.optical.labels) == (("VV", "VH"), ("B04", "B03", "B02"))
    assert (index.sar.sample_shape, index.optical.sample_shape) == ((2, 24, 24), (3, 24, 24))
    assert (index.sar.dtype, index.optical.dtype) == ("uint16", "uint16")
    assert (index.sar.slots, index.sar.codec, index.sar.units) == (4, "blosc-lz4", "dB")
    assert (index.sar.scale_factor, index.sar.add_offset) == (0.05, -60.0)
    marker = json.loads((tmp_path / "BUILD_COMPLETE.json").read_text())
    assert index.digest == marker["manifest_sha256"]
    assert index.files == marker["files"]


def test_a_store_older_than_enl_has_it_unmeasured(tmp_path):
    store = small_stores.small_store(tmp_path)
    shutil.rmtree(store.group / "enl")
    small_stores.seal(tmp_path)
    assert np.isnan(opened(tmp_path).enl).all()


def test_a_store_of_sar_alone(tmp_path):
    store = small_stores.small_store(tmp_path, unpaired=range(11))
    assert opened(tmp_path).optical is not None
    shutil.rmtree(store.group / "optical")
    small_stores.seal(tmp_path)
    assert opened(tmp_path).optical is None


def test_paired_samples_without_an_optical_array_are_refused(tmp_path):
    store = small_stores.small_store(tmp_path)
    shutil.rmtree(store.group / "optical")
    small_stores.seal(tmp_path)
    with pytest.raises(StoreError, match="no optical array"):
        opened(tmp_path)


def test_a_folder_that_is_no_finished_store(tmp_path):
    with pytest.raises(StoreError, match=r"no BUILD_COMPLETE\.json here.*sar1m build"):
        opened(tmp_path)
    with pytest.raises(StoreError, match="not a finished store"):
        opened(tmp_path / "nowhere")


def test_a_split_that_is_not_there_is_named_with_those_that_are(tmp_path):
    small_stores.small_store(tmp_path)
    with pytest.raises(StoreError, match=r"no samples in split 'val'. There are: train"):
        opened(tmp_path, "val")
    with pytest.raises(StoreError, match=r"no split '\.\./x'. There are: train"):
        opened(tmp_path, "../x")


def part_of(root, wanted):
    """Makes a store a part of a release, as `sar1m get` leaves one: what is not wanted is not there."""
    marker = json.loads((root / MARKER_FILE).read_text())
    del marker["marker_sha256"]
    for name in [name for name in marker["files"] if not wanted(name)]:
        del marker["files"][name]
        (root / name).unlink()
    marker["marker_sha256"] = hashlib.sha256(json.dumps(marker, sort_keys=True).encode()).hexdigest()
    (root / MARKER_FILE).unlink()
    (root / PARTIAL_FILE).write_text(json.dumps(marker))


def test_of_a_part_of_a_release_what_is_there_is_read_and_the_rest_refused(tmp_path):
    store = small_stores.small_store(tmp_path)
    shutil.copytree(store.group, store.group.with_name("val.zarr"))
    edit_json(store.group.with_name("val.zarr") / "zarr.json", lambda meta: meta["attributes"].update(split="val"))
    small_stores.seal(tmp_path)
    whole = opened(tmp_path, "val")
    part_of(tmp_path, lambda name: not name.startswith("data/train.zarr/"))
    part = opened(tmp_path, "val")
    assert (part.digest, part.files, len(part)) == (whole.digest, whole.files, 11)
    with pytest.raises(StoreError, match=r"a part of a release .* without split 'train'; it holds val\. Get the rest"):
        opened(tmp_path)
    with pytest.raises(StoreError, match="no samples in split 'test'"):
        opened(tmp_path, "test")


def test_a_split_of_which_shards_were_left_out_is_refused(tmp_path):
    small_stores.small_store(tmp_path)
    part_of(tmp_path, lambda name: not name.endswith("/c/1/0/0/0"))
    with pytest.raises(StoreError, match=r"sar/c/1/0/0/0: left out of this copy, which is a part of a release"):
        opened(tmp_path)


@pytest.mark.parametrize(("array", "sample"), [("sar", 0), ("optical", 0)])
def test_a_shard_that_is_missing_is_named_when_the_store_is_opened(tmp_path, array, sample):
    store = small_stores.small_store(tmp_path)
    path = store.group / f"{array}/c/{sample}/0/0/0"
    content = path.read_bytes()
    os.truncate(path, 50)
    with pytest.raises(StoreError, match=f"{array}/c/{sample}/0/0/0: 50 bytes, expected {len(content)}"):
        opened(tmp_path)
    path.unlink()
    with pytest.raises(StoreError, match=f"{array}/c/{sample}/0/0/0: missing"):
        opened(tmp_path)
    small_stores.seal(tmp_path)
    with pytest.raises(StoreError, match=f"{array}/c/{sample}/0/0/0: no such file in the store's manifest"):
        opened(tmp_path)


def test_an_optical_shard_of_unpaired_samples_alone_need_not_be(tmp_path):
    store = small_stores.small_store(tmp_path, unpaired=(4, 5, 6, 7))
    assert not (store.group / "optical/c/1").exists()
    assert not opened(tmp_path).paired[4:8].any()


@pytest.mark.parametrize("compression", ["blosc-lz4", "none"])
def test_a_shard_whose_size_cannot_be_true(tmp_path, compression):
    store = small_stores.small_store(tmp_path, compression=compression)
    path = store.group / "sar/c/1/0/0/0"
    path.write_bytes(path.read_bytes() + bytes(40_000))
    small_stores.seal(tmp_path)
    with pytest.raises(StoreError, match=r"sar/c/1/0/0/0: \d+ bytes, expected"):
        opened(tmp_path)


def test_another_layout_version_is_refused(tmp_path):
    small_stores.small_store(tmp_path)
    small_stores.seal(tmp_path, schema_version="2.0")
    with pytest.raises(StoreError, match=r"schema version 2\.0"):
        opened(tmp_path)


@pytest.mark.parametrize("name", ["zarr.json", "sar/zarr.json", "optical/zarr.json", "enl/c/0", "pol/c/0", "band/c/0"])
def test_metadata_that_was_changed_since_it_was_sealed(tmp_path, name):
    """A digit of an offset, a letter of a polarisation: all would read well."""
    store = small_stores.small_store(tmp_path)
    path = store.group / name
    content = path.read_bytes()
    changed = content.replace(b"-60.0", b"-61.0").replace(b"VH", b"VV").replace(b"B02", b"B08")
    path.write_bytes(changed if changed != content else content[:-1] + b"\n")
    with pytest.raises(StoreError, match=f"{name}: damaged: its content differs from its sha256"):
        opened(tmp_path)


def grid(meta):
    return meta["chunk_grid"]["configuration"]


def sharding(meta):
    return meta["codecs"][0]["configuration"]


def nested():
    return json.loads("[" * 900 + "]" * 900)


MALFORMED = {
    "shape of a petabyte": lambda m: m.update(shape=[2**50, 2, 24, 24]),
    "more samples than keys": lambda m: m.update(shape=[2**39, 2, 24, 24]),
    "sample of a gibibyte": lambda m: m.update(shape=[11, 2, 16384, 16384]),
    "as many polarisations as memory": lambda m: m.update(shape=[11, 2**40, 24, 24]),
    "negative shape": lambda m: m.update(shape=[-11, 2, 24, 24]),
    "shape of floats": lambda m: m.update(shape=[11.0, 2, 24, 24]),
    "shape of truths": lambda m: m.update(shape=[True, 2, 24, 24]),
    "three dimensions": lambda m: m.update(shape=[11, 24, 24]),
    "shape a text": lambda m: m.update(shape="11"),
    "no shape": lambda m: m.pop("shape"),
    "format 2": lambda m: m.update(zarr_format=2),
    "a group": lambda m: m.update(node_type="group"),
    "float32": lambda m: m.update(data_type="float32"),
    "int16": lambda m: m.update(data_type="int16"),
    "dtype an object": lambda m: m.update(data_type={"name": "uint16"}),
    "fill 7": lambda m: m.update(fill_value=7),
    "fill false": lambda m: m.update(fill_value=False),
    "other dimensions": lambda m: m.update(dimension_names=["sample", "band", "y", "x"]),
    "shard of a million": lambda m: grid(m).update(chunk_shape=[10**6, 2, 24, 24]),
    "shard over two axes": lambda m: grid(m).update(chunk_shape=[4, 2, 12, 24]),
    "irregular grid": lambda m: m["chunk_grid"].update(name="rectangular"),
    "no grid": lambda m: m.pop("chunk_grid"),
    "dotted keys": lambda m: m["chunk_key_encoding"].update(configuration={"separator": "."}),
    "storage transformers": lambda m: m.update(storage_transformers=[{"name": "x"}]),
    "not sharded": lambda m: m.update(codecs=sharding(m)["codecs"]),
    "codecs a text": lambda m: m.update(codecs="blosc"),
    "chunk of two samples": lambda m: sharding(m).update(chunk_shape=[2, 2, 24, 24]),
    "huge chunk": lambda m: sharding(m).update(chunk_shape=[1, 2, 2**30, 2**30]),
    "index in front": lambda m: sharding(m).update(index_location="start"),
    "index without checksum": lambda m: sharding(m)["index_codecs"].pop(),
    "index compressed": lambda m: sharding(m)["index_codecs"].insert(1, {"name": "gzip"}),
    "chunks without checksum": lambda m: sharding(m)["codecs"].pop(),
    "unknown codec": lambda m: sharding(m)["codecs"].insert(1, {"name": "packbits"}),
    "gzip": lambda m: sharding(m)["codecs"].insert(1, {"name": "gzip", "configuration": {"level": 1}}),
    "two compressors": lambda m: sharding(m)["codecs"].insert(1, {"name": "zstd"}),
    "compressor before bytes": lambda m: sharding(m)["codecs"].reverse(),
    "shards in shards": lambda m: sharding(m).update(codecs=copy.deepcopy(m["codecs"])),
    "codec a number": lambda m: sharding(m)["codecs"].insert(1, 7),
    "codec named by a list": lambda m: sharding(m)["codecs"].insert(1, {"name": ["blosc"]}),
    "codec configured by a list": lambda m: sharding(m)["codecs"][1].update(configuration=[1]),
    "deep nesting": lambda m: m.update(codecs=nested()),
    "scale 0": lambda m: m["attributes"].update(scale_factor=0),
    "scale not a number": lambda m: m["attributes"].update(scale_factor=float("nan")),
    "scale a text": lambda m: m["attributes"].update(scale_factor="0.05"),
    "endless offset": lambda m: m["attributes"].update(add_offset=float("inf")),
    "other no-data": lambda m: m["attributes"].update(_FillValue=1),
    "no units": lambda m: m["attributes"].pop("units"),
    "no attributes": lambda m: m.update(attributes=None),
}


def refused_cheaply(root):
    """The error of opening a store, and the most memory that took."""
    opened_before = FolderPlace(root)
    tracemalloc.start()
    with pytest.raises(StoreError) as caught:
        open_split(opened_before, "train")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return str(caught.value), peak


@pytest.mark.parametrize("change", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_image_array_is_refused_before_allocation(tmp_path, change):
    """Sealed anew: the metadata is what its maker wrote, and hostile."""
    store = small_stores.small_store(tmp_path)
    edit_json(store.group / "sar/zarr.json", change)
    small_stores.seal(tmp_path)
    message, peak = refused_cheaply(tmp_path)
    assert str(tmp_path) in message
    assert ".zarr/" in message
    assert len(message) < 2000
    assert peak < 2 * 2**20


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"shape": ' + b"[" * 100_000, b'{"shape": ' + b"9" * 5000 + b"}"],
    ids=["empty", "cut", "list", "null", "no text", "nested without end", "an endless number"],
)
@pytest.mark.parametrize("name", ["zarr.json", "sar/zarr.json", "paired/zarr.json", "pol/zarr.json"])
def test_a_zarr_json_that_is_no_object(tmp_path, name, content):
    store = small_stores.small_store(tmp_path)
    (store.group / name).write_bytes(content)
    small_stores.seal(tmp_path)
    message, peak = refused_cheaply(tmp_path)
    assert str(store.group / name) in message
    assert peak < 4 * 2**20


def test_a_zarr_json_larger_than_any_is_not_read(tmp_path):
    store = small_stores.small_store(tmp_path)
    with (store.group / "sar/zarr.json").open("ab") as stream:
        stream.write(b" " * 2**21)
    small_stores.seal(tmp_path)
    message, peak = refused_cheaply(tmp_path)
    assert "at most 1048576" in message
    assert peak < 2**20


SMALL = {
    "paired of another length": ("paired", lambda m: m.update(shape=[10])),
    "paired of another type": ("paired", lambda m: m.update(data_type="bool")),
    "paired in two chunks": ("paired", lambda m: grid(m).update(chunk_shape=[6])),
    "paired compressed": ("paired", lambda m: m["codecs"].insert(1, {"name": "zstd"})),
    "keys of 32 bits": ("sample_key", lambda m: m.update(data_type="int32")),
    "keys big-endian": ("sample_key", lambda m: m["codecs"][0].update(configuration={"endian": "big"})),
    "enl of 64 bits": ("enl", lambda m: m.update(data_type="float64")),
    "labels of another number": ("pol", lambda m: m.update(shape=[3])),
    "labels of bytes": ("band", lambda m: m.update(data_type="bytes")),
    "labels under gzip": ("band", lambda m: m["codecs"][1].update(name="gzip")),
    "a group that is an array": (".", lambda m: m.update(node_type="array")),
    "another split": (".", lambda m: m["attributes"].update(split="test")),
}


@pytest.mark.parametrize(("name", "change"), SMALL.values(), ids=SMALL)
def test_malformed_small_arrays_are_refused(tmp_path, name, change):
    store = small_stores.small_store(tmp_path)
    edit_json(store.group / name / "zarr.json", change)
    small_stores.seal(tmp_path)
    message, peak = refused_cheaply(tmp_path)
    assert str(store.group) in message
    assert peak < 2**20


@pytest.mark.parametrize("name", ["paired", "sample_key", "enl", "pol"])
@pytest.mark.parametrize("cut", [0, 3, -1])
def test_small_arrays_cut_or_changed_by_their_maker(tmp_path, name, cut):
    store = small_stores.small_store(tmp_path)
    path = store.group / name / "c/0"
    path.write_bytes(path.read_bytes()[:cut])
    small_stores.seal(tmp_path)
    message, _ = refused_cheaply(tmp_path)
    assert str(path) in message


def test_labels_that_unpack_to_a_gibibyte_are_refused(tmp_path):
    store = small_stores.small_store(tmp_path)
    zarr.open_group(store.group, mode="r+")["pol"][:] = np.array(["VV" * 2**20, "VH"])
    small_stores.seal(tmp_path)
    message, peak = refused_cheaply(tmp_path)
    assert "pol/c/0" in message
    assert peak < 2**20


def test_an_optical_array_of_another_size_is_refused(tmp_path):
    store = small_stores.small_store(tmp_path / "a", side=24)
    other = small_stores.small_store(tmp_path / "b", side=16)
    shutil.rmtree(store.group / "optical")
    shutil.copytree(other.group / "optical", store.group / "optical")
    small_stores.seal(store.root)
    with pytest.raises(StoreError, match=r"optical/zarr\.json: 11 samples of \(16, 16\) pixels, but sar has 11"):
        opened(store.root)
