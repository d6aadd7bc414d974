"""Verification of releases: every kind of harm by name, whole and sampled, here and over a network."""

import json
import shutil

import numpy as np
import pytest

from sar1m.releases.hub import open_release
from sar1m.releases.verification import Sampling, verify_release
from sar1m.store.errors import ConfigError, Sar1mError, StoreError, UnreachableError
from sar1m.store.schema import MANIFEST_FILE, RELEASE_MARKER_FILE
from sar1m.store.seal import read_seal
from sar1m.store.seal_text import RELEASE_MARKERS, marker_bytes
from servers.base import Reply
from servers.objects import PREFIX, asked_ranges, folder_server
from support.campaigns import campaign
from support.tiny_releases import Silence, contents, put, tiny_release

EVERY_CHUNK = Sampling(files=0, chunks=400, seed=1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return tiny_release(tmp_path_factory.mktemp("whole") / "release")


@pytest.fixture
def release(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "release")


def faults(location, sampling=None):
    return {fault.path: fault.found for fault in verify_release(location, Silence(), sampling).faults}


def test_an_untouched_release_has_no_fault(whole):
    summary = verify_release(whole, Silence())
    payload = {
        name: content for name, content in contents(whole).items() if "manifest" not in name and "COMP" not in name
    }
    assert summary.faults == ()
    assert (summary.title, summary.listed, summary.files) == ("tiny v1.0.0", True, len(payload))
    assert (summary.read_files, summary.read_bytes) == (len(payload), sum(map(len, payload.values())))


class Mutant:
    """Spoils a release in a way drawn by number, says which files must be named, and mends it again."""

    def __init__(self, root):
        self.root = root
        self.former = contents(root)
        self.names = sorted(self.former)

    def spoil(self, number):
        rng = np.random.default_rng([8, number])
        kind = ("flip", "truncate", "delete", "add", "swap")[number % 5]
        name = self.names[rng.integers(len(self.names))]
        content = bytearray(self.former[name])
        if kind == "flip":
            content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
            put(self.root / name, bytes(content))
            return {name}
        if kind == "truncate":
            put(self.root / name, bytes(content[: rng.integers(len(content))]))
            return {name}
        if kind == "delete":
            (self.root / name).unlink()
            return {name}
        if kind == "add":
            added = f"{name}.new"
            put(self.root / added, rng.bytes(int(rng.integers(20))))
            return {added}
        others = [one for one in self.names if self.former[one] != self.former[name]]
        other = others[rng.integers(len(others))]
        put(self.root / name, self.former[other])
        put(self.root / other, self.former[name])
        return {name, other}

    def mend(self, named):
        for name in named:
            (self.root / name).unlink(missing_ok=True)
            if name in self.former:
                put(self.root / name, self.former[name])


def found_by(root):
    """Names of what verify finds, or all its error says."""
    try:
        return set(faults(root))
    except StoreError as error:
        return {name for name in (RELEASE_MARKER_FILE, MANIFEST_FILE) if name in str(error)}


def undetected(root, numbers):
    mutant = Mutant(root)
    missed = []
    for number in numbers:
        named = mutant.spoil(number)
        found = found_by(root)
        mutant.mend(named)
        if not named <= found or (len(named) == 1 and found != named):
            missed.append((number, named, found))
    assert found_by(root) == set()
    return missed


@pytest.mark.parametrize(
    "numbers",
    [
        range(50),
        *campaign(range(500)),
        pytest.param(range(500, 5500), marks=pytest.mark.long),
    ],
)
def test_mutations_are_all_found_by_name(release, numbers):
    assert undetected(release, numbers) == []


def test_a_file_with_the_content_of_another_of_its_size_says_so(tmp_path):
    root = tiny_release(tmp_path / "r")
    names = [name for name, content in contents(root).items() if "zarr.json" in name]
    sizes = {}
    for name in names:
        sizes.setdefault(len((root / name).read_bytes()), []).append(name)
    alike = next(group for group in sizes.values() if len({(root / n).read_bytes() for n in group}) > 1)
    first, second = sorted(alike, key=lambda name: (root / name).read_bytes())[:: len(alike) - 1]
    a, b = (root / first).read_bytes(), (root / second).read_bytes()
    put(root / first, b)
    put(root / second, a)
    found = faults(root)
    assert found.keys() == {first, second}
    assert all(text.startswith("holds the content of ") for text in found.values())


def test_links_are_no_files_of_a_release(release):
    (release / "LICENSE").unlink()
    (release / "LICENSE").symlink_to(release / "README.md")
    (release / "elsewhere").symlink_to("/etc")
    assert faults(release) == {"LICENSE": "not a regular file", "elsewhere": "not in the manifest"}


def test_no_release_is_an_error_not_a_fault(tmp_path):
    with pytest.raises(StoreError, match=r"no RELEASE_COMPLETE\.json here"):
        verify_release(tmp_path, Silence())


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a//b", "a/./b", MANIFEST_FILE, "a\\b"])
def test_names_that_lead_outside_are_refused(release, name):
    marker = json.loads((release / RELEASE_MARKER_FILE).read_text())
    put(release / RELEASE_MARKER_FILE, marker_bytes(marker, b"", {**marker["files"], name: 3}))
    put(release / MANIFEST_FILE, (release / MANIFEST_FILE).read_bytes() + f"{'0' * 64}  {name}\n".encode())
    with pytest.raises(StoreError, match="both damaged"):
        read_seal(open_release(release), RELEASE_MARKERS)


def test_a_sample_of_chunks_finds_a_flipped_bit_in_any_of_them(release):
    path = release / "data/train.zarr/optical/c/0/0/0/0"
    content = bytearray(path.read_bytes())
    assert faults(release, EVERY_CHUNK) == {}
    for at, found in ((5, "the checksum of chunk 0 does not hold"), (-1, "the checksum of its index does not hold")):
        content[at] ^= 16
        path.write_bytes(content)
        assert faults(release, EVERY_CHUNK) == {"data/train.zarr/optical/c/0/0/0/0": found}
        content[at] ^= 16


def test_sampled_files_and_chunks_are_as_many_as_asked_and_drawn_by_seed(whole):
    first = verify_release(whole, Silence(), Sampling(files=5, chunks=6, seed=3))
    assert (first.read_files, first.read_chunks, first.faults) == (5, 6, ())
    with folder_server(whole) as server:
        drawn = []
        for seed in (3, 3, 4):
            before = len(server.asked)
            verify_release(f"{server.url}{PREFIX}", Silence(), Sampling(files=0, chunks=3, seed=seed))
            drawn.append(
                [asked.headers.get("range") + asked.path for asked in server.asked[before:] if "range" in asked.headers]
            )
        assert drawn[0] == drawn[1] != drawn[2]
        assert sum(stop - start for _, start, stop in asked_ranges(server)) < 9000


def test_a_web_server_is_verified_but_cannot_be_listed(release):
    with folder_server(release) as server:
        summary = verify_release(f"{server.url}{PREFIX}", Silence())
        assert (summary.faults, summary.listed, summary.read_files) == ((), False, summary.files)
        put(release / "stats/normalisation.json", b"{},")
        (release / "LICENSE").unlink()
        assert faults(f"{server.url}{PREFIX}") == {
            "LICENSE": "missing",
            "stats/normalisation.json": "content differs from its sha256",
        }


def test_a_server_that_refuses_is_no_fault_of_the_release(whole):
    def refuse(asked, right):
        return Reply(status=403, body=b"canary-signature") if "optical" in asked.path else right

    with folder_server(whole, refuse) as server, pytest.raises(UnreachableError, match="HTTP status 403") as caught:
        verify_release(f"{server.url}{PREFIX}", Silence())
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "location",
    ["ftp://h/x", "https://u:p@h/x", "https://h/x?key=canary", "s3://", "hf://owner/name", "hf://models/o/n"],
)
def test_other_locations_are_refused_without_showing_secrets(location):
    with pytest.raises(ConfigError) as caught:
        open_release(location)
    assert "canary" not in str(caught.value)


def test_garbage_as_seal_is_a_typed_error(release):
    """R7: whatever stands in marker and manifest, the error is one of ours and names a file."""
    rng = np.random.default_rng(7)
    former = {name: (release / name).read_bytes() for name in (RELEASE_MARKER_FILE, MANIFEST_FILE)}
    nested = b"[" * 100_000
    pool = [b"", b"{}", b"[]", b"null", nested, b"\xff\xfe", b'{"files": [], "marker_sha256": 1}', b"\0" * 99]
    for number in range(200):
        for name, content in former.items():
            garbage = bytearray(pool[number] if number < len(pool) else content)
            if number >= len(pool):
                for at in rng.integers(len(garbage), size=rng.integers(1, 30)):
                    garbage[at] = rng.integers(256)
            put(release / name, bytes(garbage))
        try:
            assert {RELEASE_MARKER_FILE, MANIFEST_FILE} & set(faults(release))
        except Sar1mError as error:
            assert RELEASE_MARKER_FILE in str(error)  # noqa: PT017 - either way is right, each asserted
    for name, content in former.items():
        put(release / name, content)
    assert faults(release) == {}
