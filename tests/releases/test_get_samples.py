"""A part of a release by its samples: their bytes alone, a store of its own, each pixel bound to the release."""

import re
import shutil
from functools import partial

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray

from sar1m.releases.differences import diff
from sar1m.releases.portions import Portion, get
from sar1m.releases.sample_parts import RELEASE_DIR
from sar1m.releases.verification import verify_release
from sar1m.releases.versions import read_previous
from sar1m.store.chunks import crc32c
from sar1m.store.durable import digest_file
from sar1m.store.errors import ConfigError, OutputError, StoreError
from sar1m.store.places.folder import FolderPlace
from sar1m.store.sample_filter import SampleFilter
from sar1m.store.schema import MANIFEST_FILE, PARTIAL_FILE, RELEASE_MARKER_FILE
from sar1m.store.seal import require_seal, write_seal
from sar1m.store.seal_text import RELEASE_MARKERS
from sar1m.store.shard_index import read_index, shard_pieces
from servers.base import Reply
from servers.objects import PREFIX, asked_ranges, folder_server
from support.campaigns import campaign
from support.crash_runner import interrupted
from support.frozen_stores import thaw, with_things_to_come
from support.made_releases import release as make
from support.once import once
from support.tiny_releases import Silence, contents

WHERE = "enl > 0.45 and (paired or split = 'test') and sar_datetime < '2021-03-01'"


@pytest.fixture(scope="module")
def release(tmp_path_factory, built):
    def made(folder):
        make([built.large], folder / "release")
        return folder

    return once(tmp_path_factory, "release-of-large", made) / "release"


def fetch(target, out, where=WHERE, bbox=None, split=None):
    return get(str(target), out, Portion(split=split, samples=SampleFilter(where=where, bbox=bbox)), Silence())


@pytest.fixture(scope="module")
def made_part(release, tmp_path_factory):
    out = tmp_path_factory.mktemp("part") / "part"
    fetch(release, out)
    return out


@pytest.fixture
def part(made_part, tmp_path):
    return shutil.copytree(made_part, tmp_path / "copy")


def wanted(release, where=WHERE):
    """(split, sample_id) in store order, as DuckDB selects them."""
    table = pq.read_table(release / "samples.parquet")
    at = table.schema.get_field_index("sar_datetime")
    table = table.set_column(at, "sar_datetime", table.column(at).cast("timestamp[us]"))
    samples = table.drop_columns(["geometry"])
    assert samples.num_rows
    return duckdb.sql(f"select split, sample_id from samples where {where}").fetchall()  # noqa: S608


def opened(root, split):
    return xarray.open_zarr(root / f"data/{split}.zarr", consolidated=False).load()


def faults(root):
    return {fault.path: fault.found for fault in verify_release(root, Silence()).faults}


def reseal(root):
    """Manifest and marker over what lies there, as someone makes them who changes a part on purpose."""
    marker = dict(require_seal(FolderPlace(root), RELEASE_MARKERS).marker)
    facts = {key: marker[key] for key in marker.keys() - {"files", "manifest_sha256", "marker_sha256"}}
    own = {MANIFEST_FILE, PARTIAL_FILE}
    names = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    write_seal(root, {name: digest_file(root / name) for name in names if name not in own}, facts, PARTIAL_FILE)


def test_a_part_holds_the_selected_samples_and_no_other_byte_of_pixels_is_asked_for(release, tmp_path):
    with folder_server(release) as server:
        summary = fetch(f"{server.url}{PREFIX}", tmp_path / "part")
        ranges = asked_ranges(server)
    expected = wanted(release)
    assert summary.part == f"{len(expected)} of {len(pq.read_table(release / 'samples.parquet'))} samples"
    assert 3 < len(expected) < 13
    for split in {split for split, _ in expected}:
        ids = [name for one, name in expected if one == split]
        whole, found = opened(release, split), opened(tmp_path / "part", split)
        assert found.sample_id.values.tolist() == ids
        rows = [whole.sample_id.values.tolist().index(name) for name in ids]
        xarray.testing.assert_identical(found, whole.isel(sample=rows))
    shards = sum(len(c) for name, c in contents(tmp_path / "part").items() if "/c/" in name and name.endswith("/0/0/0"))
    asked = sum(stop - start for _, start, stop in ranges)
    assert asked <= 1.1 * shards
    assert all("/sar/c/" in name or "/optical/c/" in name for name, _, _ in ranges)


def test_a_part_names_its_release_and_verifies_against_it(sar1m, release, made_part):
    assert faults(made_part) == {}
    part_of = require_seal(FolderPlace(made_part), RELEASE_MARKERS).part_of
    assert part_of["manifest_sha256"] == digest_file(release / MANIFEST_FILE).sha256
    assert part_of["where"] == WHERE
    code, out, _ = sar1m("verify", made_part)
    assert code == 0
    said = " ".join(out.split())
    assert f"{len(wanted(release))} of 13 samples: {WHERE}" in said
    assert f"Not checked: whether {part_of['manifest_sha256']} is the manifest that was published" in said
    code, out, _ = sar1m("info", made_part)
    assert code == 0
    assert "of 13 samples" in " ".join(out.split())
    for found in (diff(made_part, release), diff(release, made_part)):
        assert (found.added, found.removed, found.changed, found.moved) == ((), (), (), ())
        assert (found.unchanged, len(found.not_held)) == (len(wanted(release)), 13 - len(wanted(release)))
    code, out, _ = sar1m("diff", release, made_part)
    assert code == 0
    assert f"a part of it, {len(wanted(release))} of 13 samples: {WHERE}" in " ".join(out.split())


def test_what_a_whole_release_is_needed_for_refuses_a_part(sar1m, made_part, tmp_path):
    with pytest.raises(StoreError, match="itself a part"):
        fetch(made_part, tmp_path / "here")
    with pytest.raises(StoreError, match="a part by samples"):
        read_previous(made_part)
    code, _, err = sar1m("publish", made_part, tmp_path / "there")
    assert (code, "Only a whole one is published" in err) == (1, True)


def test_interrupted_downloads_go_on_and_damage_is_mended(release, made_part, part):
    assert fetch(release, part).fetched == 0
    shard = next(part.rglob("data/train.zarr/sar/c/0/0/0/0"))
    shard.write_bytes(shard.read_bytes()[:-1])
    (part / "README.md").unlink()
    assert fetch(release, part).fetched == 2
    assert contents(part) == contents(made_part)


@pytest.mark.parametrize("every", [97, *campaign(29), pytest.param(1, marks=pytest.mark.long)])
def test_killed_between_two_changes_it_goes_on_to_the_same_bytes(release, made_part, tmp_path, every):
    point = 0
    while interrupted(partial(fetch, release, tmp_path / str(point)), point):
        out = tmp_path / str(point)
        if (out / PARTIAL_FILE).exists():
            assert contents(out).items() >= contents(made_part).items()
        fetch(release, out)
        assert contents(out) == contents(made_part)
        shutil.rmtree(out)
        point += every
    assert point > 200


def swap_chunks(part):
    """Two samples' chunks change places; every checksum holds."""
    path = part / "data/train.zarr/sar/c/0/0/0/0"
    content = path.read_bytes()
    index = read_index(lambda a, b: content[a:b], file_bytes=len(content), slots=4, longest=10**6)
    chunks = [content[span[0] : sum(span)] if (span := index.span(slot)) else None for slot in range(4)]
    chunks[0], chunks[1] = chunks[1], chunks[0]
    path.write_bytes(b"".join(shard_pieces(iter(chunks), slots=4)))


def change_table(name, column):
    def change(part):
        table = pq.read_table(part / name)
        at = table.schema.get_field_index(column)
        values = table.column(column).to_pylist()
        changed = table.set_column(at, table.schema.field(at), pa.array(values[::-1], table.schema.field(at).type))
        pq.write_table(changed, part / name)

    return change


def change_array(part):
    path = part / "data/train.zarr/enl/c/0"
    payload = np.frombuffer(path.read_bytes()[:-4], "<f4")[::-1].tobytes()
    path.write_bytes(payload + crc32c(payload))


def change_marker(part):
    marker = dict(require_seal(FolderPlace(part), RELEASE_MARKERS).marker)
    facts = {key: marker[key] for key in marker.keys() - {"files", "manifest_sha256", "marker_sha256"}}
    sealed = require_seal(FolderPlace(part), RELEASE_MARKERS).files
    write_seal(part, {n: digest_file(part / n) for n in sealed}, {**facts, "version": "9.0.0"}, PARTIAL_FILE)


CHANGES = {
    "swapped chunks": (swap_chunks, "sample .*", "differ from the hash in the release's lock"),
    "a table": (change_table("samples.parquet", "enl"), "samples.parquet", "not the rows"),
    "the lock": (change_table("provenance/lock.parquet", "sar_hash"), "provenance/lock.parquet", "not the rows"),
    "an array": (change_array, "data/train.zarr/enl/c/0", "not what was selected"),
    "the version": (change_marker, PARTIAL_FILE, "other facts"),
    "the terms": (lambda part: (part / "LICENSE").write_text("do as you like"), "LICENSE", "release's manifest"),
    "a new file": (lambda part: (part / "stats/new.json").write_text("{}"), "stats/new.json", "not in the release"),
    "the release's table": (
        change_table(f"{RELEASE_DIR}/samples.parquet", "enl"),
        f"{RELEASE_DIR}/samples.parquet",
        "differs from the release's manifest",
    ),
    "the release's manifest": (
        lambda part: (part / RELEASE_DIR / MANIFEST_FILE).write_text(f"{'0' * 64}  README.md\n"),
        f"{RELEASE_DIR}/{MANIFEST_FILE}",
        "not the manifest of the release",
    ),
    "a shard too many": (
        lambda part: shutil.copy(part / "data/train.zarr/sar/c/0/0/0/0", part / "data/train.zarr/sar/c/1"),
        "data/train.zarr/sar/c/1",
        "not what was selected|not in the release",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_part_that_was_changed_and_sealed_again_is_not_its_releases(part, change):
    alter, path, words = CHANGES[change]
    alter(part)
    if change != "the version":
        reseal(part)
    found = faults(part)
    assert found
    assert any(re.fullmatch(path, name) and re.search(words, what) for name, what in found.items()), found


def test_pixels_that_are_not_the_locks_are_refused_while_they_come(release, tmp_path):
    """A server with a shard whose samples were swapped: crc32c and index hold."""
    other = shutil.copytree(release, tmp_path / "other")
    swap_chunks(other)
    swapped = (other / "data/train.zarr/sar/c/0/0/0/0").read_bytes()

    def answer(asked, right):
        if not asked.path.endswith("data/train.zarr/sar/c/0/0/0/0"):
            return right
        start, stop = (int(part) for part in asked.headers["range"].removeprefix("bytes=").split("-"))
        return Reply(status=206, body=swapped[start : stop + 1])

    with folder_server(release, answer) as server:
        with pytest.raises(StoreError, match=r"sample \S+, sar: its pixels differ from the release's lock"):
            fetch(f"{server.url}{PREFIX}", tmp_path / "part", where="paired")
        assert not (tmp_path / "part" / PARTIAL_FILE).exists()
        server.fault = None
        fetch(f"{server.url}{PREFIX}", tmp_path / "part", where="paired")
    assert faults(tmp_path / "part") == {}


def test_one_split_in_a_box_and_other_selections_are_kept_apart(release, tmp_path):
    fetch(release, tmp_path / "part", where=None, bbox=(-180, -90, 180, 90), split="val")
    assert {path.name for path in (tmp_path / "part/data").iterdir()} == {"val.zarr"}
    with pytest.raises(OutputError, match="another part of a release"):
        fetch(release, tmp_path / "part", split="val")
    with pytest.raises(OutputError, match="holds a part by samples"):
        get(str(release), tmp_path / "part", Portion(), Silence())
    get(str(release), tmp_path / "whole", Portion(split="val"), Silence())
    with pytest.raises(OutputError, match="another part of a release"):
        fetch(release, tmp_path / "whole")


def test_a_condition_that_cannot_be_is_refused_and_the_right_one_goes_on_in_the_same_folder(sar1m, release, tmp_path):
    out = tmp_path / "part"
    code, _, err = sar1m("get", release, out, "--where", "contry = 'PRT'")
    assert (code, "there is no column contry" in err) == (2, True)
    code, _, err = sar1m("get", release, out, "--where", "lat > 89.9")
    assert (code, "none of 13 samples" in " ".join(err.split())) == (2, True)
    assert sar1m("get", release, out, "--where", "lat between", "--bbox", "1,2,3")[0] == 2
    code, said, _ = sar1m("get", release, out, "--where", "paired", "--bbox", "-180,-90,180,90")
    assert (code, "of 13 samples" in " ".join(said.split())) == (0, True)
    assert faults(out) == {}
    with pytest.raises(ConfigError, match="takes no number of shards"):
        Portion(shards=1, samples=SampleFilter(where="paired"))


def test_columns_and_arrays_of_other_schema_versions_are_kept(tmp_path):
    _, old = thaw(tmp_path)
    for release, out in ((old, tmp_path / "old"), (with_things_to_come(old), tmp_path / "new")):
        table = pq.read_table(release / "samples.parquet")
        fetch(release, out, where=f"sample_id = '{table.column('sample_id')[1]}'")
        found = pq.read_table(out / "samples.parquet")
        assert found.column_names == table.column_names
        kept = [name for name in table.column_names if name not in ("index", "shard")]
        assert found.select(kept).to_pylist() == table.select(kept).slice(1, 1).to_pylist()
        assert opened(out, "train").sizes["sample"] == 1
        assert faults(out) == {}
    assert (tmp_path / "new/data/train.zarr/unheard_of/zarr.json").is_file()
    assert (tmp_path / "new/stats/unheard_of.json").is_file()
    assert not (tmp_path / "new" / RELEASE_MARKER_FILE).exists()
