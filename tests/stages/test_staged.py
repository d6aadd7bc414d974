"""Staged blocks: round trip, same bytes, damage, what an interrupted run leaves."""

import json
import zipfile

import pytest

from sar1m.stages.staged import StagedRecord, read_chunk, read_record, staged_keys, staged_name, write_staged
from sar1m.store.chunks import crc32c
from sar1m.store.durable import remove_partials
from sar1m.store.errors import StoreError
from sar1m.store.outputs.folder import FolderOutput

KEY = "ab" * 16
RECORD = StagedRecord(rows=[{"patch": "p", "x": 1.5}], statistics=[{"patch": "p"}], self_test=[])


def chunk(payload: bytes) -> bytes:
    return payload + crc32c(payload)


def test_absent_staged_block_is_not_called_damaged(tmp_path):
    with pytest.raises(StoreError, match=r"ab\.zip: this staged block is missing"):
        read_record(FolderOutput(tmp_path), KEY)


def test_staged_block_round_trip_and_same_bytes(tmp_path):
    chunks = {"p/sar": chunk(b"s" * 100), "p/optical": chunk(b"o")}
    one, two = (FolderOutput(tmp_path / name) for name in ("one", "two"))
    write_staged(one, KEY, RECORD, chunks)
    write_staged(two, KEY, RECORD, dict(reversed(chunks.items())))
    assert read_record(one, KEY) == RECORD
    assert read_chunk(one, KEY, "p/sar") == chunks["p/sar"]
    assert staged_keys(one) == staged_keys(two) == {KEY}
    assert (tmp_path / "one" / staged_name(KEY)).read_bytes() == (tmp_path / "two" / staged_name(KEY)).read_bytes()


def test_damaged_staged_block_names_file_and_remedy(tmp_path):
    write_staged(FolderOutput(tmp_path), KEY, RECORD, {"p/sar": chunk(b"s" * 100)})
    path = tmp_path / staged_name(KEY)
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    with pytest.raises(StoreError, match=r"ab\.zip: this staged block cannot be read .* prepared anew"):
        read_record(FolderOutput(tmp_path), KEY)
    path.write_bytes(whole.replace(b"ssss", b"sssS"))
    with pytest.raises(StoreError, match=r"ab\.zip"):
        read_chunk(FolderOutput(tmp_path), KEY, "p/sar")
    with pytest.raises(StoreError, match="optical"):
        read_chunk(FolderOutput(tmp_path), KEY, "p/optical")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("record.json", json.dumps({"rows": []}))
    with pytest.raises(StoreError, match="cannot be read"):
        read_record(FolderOutput(tmp_path), KEY)


def test_partials_go_whole_blocks_stay(tmp_path):
    write_staged(FolderOutput(tmp_path), KEY, RECORD, {})
    half = (tmp_path / staged_name(KEY)).with_name("x.zip.123.partial")
    half.write_bytes(b"half")
    remove_partials(tmp_path)
    assert not half.exists()
    assert (tmp_path / staged_name(KEY)).exists()
