"""Every manifest and marker that we can write is read back, whatever files are called; others are not written."""

import hashlib
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sar1m.store.durable import FileDigest
from sar1m.store.seal_text import manifest_bytes, marker_bytes, parse_manifest, parse_marker

DIGEST = FileDigest(sha256=hashlib.sha256(b"x").hexdigest(), size=1)
ODD = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029\0\\/. ~:é\U0001f6f0\udcff"
NAMES = st.text(st.sampled_from(ODD) | st.characters(), min_size=1, max_size=30) | st.text(min_size=1)


@given(st.lists(NAMES, unique=True, max_size=4))
def test_what_is_written_is_read_back(names):
    digests = dict.fromkeys(names, DIGEST)
    try:
        content = manifest_bytes(digests)
    except ValueError:
        content = b""
    if content:
        assert parse_manifest(content) == dict.fromkeys(names, DIGEST.sha256)
        marker = marker_bytes({}, content, dict.fromkeys(names, 1))
        assert parse_marker(marker)["files"] == dict.fromkeys(names, 1)


@pytest.mark.parametrize("letter", "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029\0\x1b\x9b\\")
def test_a_name_that_ends_a_line_for_some_reader_is_not_written(letter):
    with pytest.raises(ValueError, match="cannot stand in a manifest"):
        manifest_bytes({f"data/a{letter}b": DIGEST})
    line = f"{DIGEST.sha256}  data/a{letter}b\n".encode()
    with pytest.raises(ValueError, match=r"line [12]: not"):
        parse_manifest(line)


@pytest.mark.parametrize("name", ["a" * 256, "é" * 128, "x/" + "b" * 300, " a", "../a", "a/./b", "/a", "a//b", ""])
def test_names_that_no_file_system_holds_are_neither_written_nor_read(name):
    with pytest.raises(ValueError, match="cannot stand"):
        manifest_bytes({name: DIGEST})
    with pytest.raises(ValueError, match=r"line [12]: not"):
        parse_manifest(f"{DIGEST.sha256}  {name}\n".encode())


def test_sha256sum_reads_what_we_write(tmp_path):
    names = ["a b", "é", "a'b", "\U0001f6f0", "-x", "a" * 255, ".hidden", "x ", "#"]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "list.txt").write_bytes(manifest_bytes(dict.fromkeys(names, DIGEST)))
    subprocess.run(["sha256sum", "-c", "list.txt"], cwd=tmp_path, check=True, capture_output=True)
