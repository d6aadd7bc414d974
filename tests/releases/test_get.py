"""Downloads of a release: whole, by split, by shards; checked, resumed, never marked complete too early."""

import re
import shutil
from functools import partial

import pytest

from sar1m.releases.differences import diff
from sar1m.releases.portions import Portion, get
from sar1m.releases.verification import verify_release
from sar1m.store.errors import ConfigError, OutputError, StoreError
from sar1m.store.places.folder import FolderPlace
from sar1m.store.schema import MANIFEST_FILE, PARTIAL_FILE, RELEASE_MARKER_FILE
from sar1m.store.seal import read_seal
from sar1m.store.seal_text import RELEASE_MARKERS
from servers.base import Reply
from servers.objects import PREFIX, folder_server
from support.campaigns import campaign
from support.crash_runner import interrupted
from support.tiny_releases import Silence, contents, few_files, put, tiny_release

WHOLE = Portion()


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return tiny_release(tmp_path_factory.mktemp("get") / "release")


def fetch(target, out, portion=WHOLE):
    return get(str(target), out, portion, Silence())


def faults(root):
    return {fault.path: fault.found for fault in verify_release(root, Silence()).faults}


def test_a_release_comes_from_a_web_server_byte_for_byte_and_once(release, tmp_path):
    with folder_server(release) as server:
        first = fetch(f"{server.url}{PREFIX}", tmp_path / "here")
        assert contents(tmp_path / "here") == contents(release)
        asked = len(server.asked)
        again = fetch(f"{server.url}{PREFIX}", tmp_path / "here")
        assert len(server.asked) - asked == 3  # marker, manifest, and whether there is a signature
    assert (first.kept, again.fetched, again.kept) == (0, 0, first.fetched)
    assert first.fetched_bytes == sum(
        len(c) for n, c in contents(release).items() if n not in {MANIFEST_FILE, RELEASE_MARKER_FILE}
    )


def test_a_split_comes_with_all_that_is_no_image_and_says_that_it_is_a_part(release, tmp_path):
    out = tmp_path / "here"
    summary = fetch(release, out, Portion(split="val"))
    names = contents(out).keys()
    assert {name.split("/")[1] for name in names if name.startswith("data/")} == {"val.zarr"}
    assert names >= {name for name in contents(release) if not name.startswith("data/")} - {RELEASE_MARKER_FILE}
    assert RELEASE_MARKER_FILE not in names
    assert PARTIAL_FILE in names
    assert summary.left_out == sum(name.startswith("data/train") for name in contents(release))
    assert faults(out) == {}
    put(out / "data/val.zarr/zarr.json", b"{}")
    assert faults(out).keys() == {"data/val.zarr/zarr.json"}


@pytest.mark.parametrize(
    ("portion", "words"),
    [
        (Portion(split="val"), "all of val"),
        (Portion(split="train", shards=1), "some of train"),
        (Portion(shards=1), "some of train, all of val"),
    ],
)
def test_every_command_names_a_part_as_a_part(sar1m, release, tmp_path, portion, words):
    part, whole = tmp_path / "part", len(read_seal(FolderPlace(release), RELEASE_MARKERS).files)
    fetch(release, part, portion)
    words_shown = rf"tiny v1\.0\.0.* \(a part of it, \d+ of {whole} files: {words}\)"
    code, out, _ = sar1m("verify", part)
    assert code == 0
    assert re.search(words_shown, out)
    for command in (["report", part], ["release", part, "--version", "1.0.0", "--out", tmp_path / "made"]):
        code, _, err = sar1m(*command)
        assert code != 0
        assert "a release, or a part of one" in err
    code, _, err = sar1m("publish", part, tmp_path / "there")
    assert code != 0
    assert "Only a whole one is published" in err
    assert not (tmp_path / "there").exists()
    assert sar1m("verify", release)[1].count("a part of it") == 0


def test_a_part_has_lost_and_gained_nothing_against_its_release(release, tmp_path):
    fetch(release, tmp_path / "part", Portion(split="val"))
    found = diff(tmp_path / "part", release)
    assert (found.same, found.unchanged, len(found.not_held)) == (True, 2, 7)


def test_portions_add_up_to_the_whole(release, tmp_path):
    fetch(release, tmp_path / "here", Portion(split="val"))
    fetch(release, tmp_path / "here", Portion(split="train", shards=1))
    assert (tmp_path / "here/data/train.zarr/sar/c/0/0/0/0").exists()
    assert not (tmp_path / "here/data/train.zarr/sar/c/1/0/0/0").exists()
    assert (tmp_path / "here/data/val.zarr/sar/c/0/0/0/0").exists()
    assert faults(tmp_path / "here") == {}
    fetch(release, tmp_path / "here")
    assert contents(tmp_path / "here") == contents(release)


def test_the_first_shards_of_every_array(release, tmp_path):
    fetch(release, tmp_path / "here", Portion(shards=1))
    gone = contents(release).keys() - contents(tmp_path / "here").keys() - {RELEASE_MARKER_FILE}
    assert gone == {f"data/train.zarr/{array}/c/1/0/0/0" for array in ("sar", "optical")}


def test_a_file_that_arrives_damaged_is_refused_and_leaves_no_marker(release, tmp_path):
    name = "data/train.zarr/sar/c/0/0/0/0"

    def spoil(asked, right):
        if asked.path.endswith(name):
            return Reply(body=right.body[:-1] + bytes([right.body[-1] ^ 1]))
        return right

    with folder_server(release, spoil) as server:
        with pytest.raises(StoreError, match=rf"{name}: what came .* differs from the manifest"):
            fetch(f"{server.url}{PREFIX}", tmp_path / "here")
        assert not (tmp_path / "here" / RELEASE_MARKER_FILE).exists()
        assert not (tmp_path / "here" / name).exists()
        server.fault = None
        assert fetch(f"{server.url}{PREFIX}", tmp_path / "here").kept > 0
    assert contents(tmp_path / "here") == contents(release)


def test_damage_on_the_own_disk_is_mended(release, tmp_path):
    out = shutil.copytree(release, tmp_path / "here")
    put(out / "LICENSE", b"other\n")
    (out / "README.md").unlink()
    assert fetch(release, out).fetched == 2
    assert contents(out) == contents(release)


@pytest.mark.parametrize("every", [37, *campaign(13), pytest.param(1, marks=pytest.mark.long)])
def test_interrupted_between_two_changes_it_goes_on(tmp_path, every):
    release, point = few_files(tmp_path / "release"), 0
    while interrupted(partial(fetch, release, tmp_path / str(point)), point):
        out = tmp_path / str(point)
        if (out / RELEASE_MARKER_FILE).exists():
            assert contents(out).items() >= contents(release).items()
        fetch(release, out)
        assert contents(out) == contents(release)
        point += every
    assert point > 50


def test_other_folders_are_left_alone(release, tmp_path):
    put(tmp_path / "mine/thesis.pdf", b"x")
    with pytest.raises(OutputError, match="is not empty and holds no release"):
        fetch(release, tmp_path / "mine")
    other = few_files(tmp_path / "other")
    with pytest.raises(OutputError, match="another release, or another version"):
        fetch(release, other)
    put(tmp_path / "file", b"x")
    with pytest.raises(OutputError, match="is a file"):
        fetch(release, tmp_path / "file")
    assert contents(tmp_path / "mine") == {"thesis.pdf": b"x"}


def test_a_part_is_not_passed_on_as_a_release(release, tmp_path):
    fetch(release, tmp_path / "part", Portion(split="val"))
    with pytest.raises(StoreError, match="itself a part"):
        fetch(tmp_path / "part", tmp_path / "here")


@pytest.mark.parametrize("portion", [{"split": "training"}, {"shards": 0}])
def test_portions_that_mean_nothing_are_refused(portion):
    with pytest.raises(ConfigError):
        Portion(**portion)
