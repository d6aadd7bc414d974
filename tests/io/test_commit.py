"""Durable files, lock, manifest and verification."""

import os
import resource
import subprocess
import sys

import pytest

from sar1m.store.durable import FileDigest, digest_file, write_durably
from sar1m.store.errors import LockedError, OutputError, StoreError
from sar1m.store.file_lock import output_lock
from sar1m.store.schema import MANIFEST_FILE, MARKER_FILE
from sar1m.store.seal import payload_files, read_marker, verify, write_seal


def test_write_gives_the_digest_of_what_lies_there(tmp_path):
    digest = write_durably(tmp_path / "a/b.bin", [b"one", b"", b"two"])
    assert (tmp_path / "a/b.bin").read_bytes() == b"onetwo"
    assert digest == digest_file(tmp_path / "a/b.bin") == FileDigest(sha256=digest.sha256, size=6)


def test_failed_write_keeps_the_former_content(tmp_path):
    write_durably(tmp_path / "a", [b"former"])

    def pieces():
        yield b"half"
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"a: cannot be written: No space left.*run the same command again"):
        write_durably(tmp_path / "a", pieces())
    assert (tmp_path / "a").read_bytes() == b"former"


def test_failed_write_leaves_nothing_behind(tmp_path):
    def pieces():
        yield b"first"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_durably(tmp_path / "file", pieces())
    assert list(tmp_path.iterdir()) == []


def test_file_size_limit_is_a_typed_error(tmp_path):
    """R4 by RLIMIT_FSIZE: the kernel refuses for real, in a process of its own."""
    program = (
        "import resource, signal, sys, pathlib\n"
        "from sar1m.store.durable import write_durably\n"
        "from sar1m.store.errors import OutputError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_durably(pathlib.Path(sys.argv[1]), [b'x' * 5000])\n"
        "except OutputError as error: print(error); sys.exit(7)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "big"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 7
    assert "big: cannot be written: File too large" in done.stdout
    assert not (tmp_path / "big").exists()
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000


def test_lock_is_held_by_one_process_and_dies_with_it(tmp_path):
    program = (
        "import sys, pathlib\nfrom sar1m.store.file_lock import output_lock\n"
        "with output_lock(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(LockedError, match=rf"another build works here \(process {holder.pid}\)"),
            output_lock(tmp_path),
        ):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with output_lock(tmp_path):
        pass
    assert LockedError.exit_code == 75 == os.EX_TEMPFAIL


@pytest.fixture
def store(tmp_path):
    files = {"data/train.zarr/zarr.json": b"{}", "samples.parquet": b"PAR1" * 50, "stats/summary.json": b"[]"}
    digests = {name: write_durably(tmp_path / name, [content]) for name, content in files.items()}
    write_durably(tmp_path / "staging/x", [b"not ours to verify"])
    write_seal(tmp_path, digests, {"name": "t"})
    return tmp_path


def test_untouched_store_verifies_also_with_coreutils(store):
    assert verify(store) == []
    assert read_marker(store)["name"] == "t"
    assert set(payload_files(store)) == {"data/train.zarr/zarr.json", "samples.parquet", "stats/summary.json"}
    subprocess.run(["sha256sum", "--check", "--quiet", MANIFEST_FILE], cwd=store, check=True)


@pytest.mark.parametrize(
    ("harm", "path", "found"),
    [
        (lambda s: (s / "samples.parquet").write_bytes(b"PAR1" * 49 + b"PAR2"), "samples.parquet", "content differs"),
        (lambda s: (s / "samples.parquet").write_bytes(b"PAR1"), "samples.parquet", "4 bytes, expected 200"),
        (lambda s: (s / "stats/summary.json").unlink(), "stats/summary.json", "missing"),
        (lambda s: (s / "data/extra").write_bytes(b""), "data/extra", "not in the manifest"),
        (
            lambda s: ((s / "stats/summary.json").unlink(), (s / "stats/summary.json").symlink_to("/etc/hostname")),
            "stats/summary.json",
            "not a regular file",
        ),
    ],
)
def test_every_kind_of_harm_is_named(store, harm, path, found):
    harm(store)
    (fault,) = verify(store)
    assert (fault.path, found in fault.found) == (path, True)


def test_manifest_and_marker_vouch_for_each_other(store):
    manifest = store / MANIFEST_FILE
    text = manifest.read_text()
    manifest.write_text(text[64:66] and "0" * 64 + text[64:])
    assert MANIFEST_FILE in {fault.path for fault in verify(store)}
    manifest.write_text("../../etc/passwd\n")
    with pytest.raises(StoreError, match="line 1: not `sha256  relative/name`"):
        verify(store)
    marker = store / MARKER_FILE
    marker.write_text(marker.read_text().replace('"t"', '"u"'))
    with pytest.raises(StoreError, match="damaged completion marker"):
        verify(store)
    marker.unlink()
    with pytest.raises(StoreError, match="not a finished store"):
        verify(store)
