"""Differences between two releases."""

import json

import pytest

from sar1m.releases.differences import ChangedSample, MovedSample, diff
from sar1m.releases.portions import Portion, get
from sar1m.store.errors import StoreError
from support.tiny_releases import Silence, contents, put, seal_release, tiny_release


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Version 2 lost train-6, gained val-2 and val-3; pixels of train-1 differ; train-5 lies in val under its name."""
    root = tmp_path_factory.mktemp("diff")
    old = tiny_release(root / "old", samples={"train": 7, "val": 2})
    new = tiny_release(root / "new", version="2.0.0", samples={"train": 6, "val": 4}, hashes={"train-1": "ff" * 16})
    return old, new


def test_two_copies_are_the_same(pair, tmp_path):
    copy = tiny_release(tmp_path / "copy", version="1.0.1")
    found = diff(pair[0], copy)
    assert found.same
    assert found.unchanged == 9
    assert next(iter(found.lines())) == "tiny v1.0.0 -> tiny v1.0.1"


def test_what_came_went_and_changed_is_named(pair):
    found = diff(*pair)
    assert (found.added, found.removed, found.moved) == (("val-2", "val-3"), ("train-6",), ())
    assert found.changed == (ChangedSample(sample_id="train-1", arrays=("sar", "optical")),)
    assert found.unchanged == 7
    back = diff(*reversed(pair))
    assert (back.added, back.removed, back.changed) == (found.removed, found.added, found.changed)


def test_a_sample_in_another_split_has_moved(pair, tmp_path):
    import pyarrow as pa  # noqa: PLC0415 - of this test alone
    import pyarrow.parquet as pq  # noqa: PLC0415

    moved = tiny_release(tmp_path / "moved")
    table = pq.read_table(moved / "samples.parquet")
    named = zip(table["sample_id"].to_pylist(), table["split"].to_pylist(), strict=True)
    splits = ["val" if name == "train-3" else split for name, split in named]
    pq.write_table(table.set_column(1, "split", pa.array(splits)), moved / "samples.parquet")
    seal_release(moved, name="tiny", version="2.0.0")
    found = diff(pair[0], moved)
    assert found.moved == (MovedSample(sample_id="train-3", before="train", after="val"),)
    assert (found.added, found.removed, found.changed, found.unchanged) == ((), (), (), 8)
    assert "moved     train-3  train -> val" in list(found.lines())


def test_the_table_is_cut_and_the_json_is_not(pair):
    found = diff(*pair)
    assert list(found.lines(most=1)) == [
        "tiny v1.0.0 -> tiny v2.0.0",
        "added                2",
        "removed              1",
        "changed              1",
        "moved                0",
        "unchanged            7",
        "added     val-2",
        "added     ... and 1 more (all of them: --json)",
        "removed   train-6",
        "changed   train-1  sar, optical",
    ]
    listed = json.loads(json.dumps(found.to_json()))
    assert listed["added"] == ["val-2", "val-3"]
    assert listed["changed"] == [{"sample_id": "train-1", "arrays": ["sar", "optical"]}]


def test_of_a_part_by_files_only_what_its_files_hold_is_compared(pair, tmp_path):
    get(str(pair[1]), tmp_path / "part", Portion(split="train", shards=1), Silence())  # train-0 to train-3
    found = diff(pair[0], tmp_path / "part")
    assert (found.added, found.removed, found.moved) == ((), ("train-6",), ())
    assert [one.sample_id for one in found.changed] == ["train-1"]
    assert found.not_held == ("train-4", "train-5", "val-0", "val-1")
    assert found.unchanged == 3
    words = list(found.lines())
    assert words[1].startswith("tiny v2.0.0: a part of it, ")
    assert "not held             4" in words
    back = diff(tmp_path / "part", pair[0])
    assert (back.added, back.removed, back.not_held) == (("train-6",), (), found.not_held)
    assert back.to_json()["before_part"] == found.to_json()["after_part"] != ""


def test_what_is_no_release_or_damaged_is_named(pair, tmp_path):
    with pytest.raises(StoreError, match=r"no RELEASE_COMPLETE\.json"):
        diff(pair[0], tmp_path)
    spoilt = tiny_release(tmp_path / "spoilt")
    put(spoilt / "samples.parquet", contents(pair[1])["samples.parquet"])
    with pytest.raises(StoreError, match="list different samples"):
        diff(pair[0], spoilt)
    put(spoilt / "samples.parquet", b"PAR1")
    with pytest.raises(StoreError, match=r"samples\.parquet: cannot be read"):
        diff(pair[0], spoilt)
