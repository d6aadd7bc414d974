"""A download writes its files and nothing else: no link is followed, and no listed name leads or looks elsewhere."""

import json

import pytest

from sar1m.releases.portable_names import require_portable
from sar1m.releases.portions import Portion, get
from sar1m.store.durable import digest_file
from sar1m.store.errors import OutputError, StoreError
from sar1m.store.schema import MANIFEST_FILE, RELEASE_MARKER_FILE
from sar1m.store.seal_text import manifest_bytes, marker_bytes
from servers.base import Reply
from servers.objects import PREFIX, folder_server
from support.tiny_releases import Silence, contents, tiny_release


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return tiny_release(tmp_path_factory.mktemp("safely") / "release")


def fetch(target, out):
    return get(str(target), out, Portion(), Silence())


@pytest.mark.parametrize(
    "place", ["data", "data/train.zarr", "data/train.zarr/sar/c/0/0/0/0", "samples.parquet", "build-log",
              "build-log/lock", MANIFEST_FILE, RELEASE_MARKER_FILE, "unlisted"],
)  # fmt: skip
@pytest.mark.parametrize("again", [False, True], ids=["new", "begun"])
def test_nothing_is_written_or_kept_through_a_link(release, tmp_path, place, again):
    out, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    if again:
        fetch(release, out)
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("mine")
    link = out / place
    link.parent.mkdir(parents=True, exist_ok=True)
    kept = None
    if link.exists():
        kept = tmp_path / "kept"
        link.rename(kept)
    target = kept or (elsewhere if "." not in place and place != "build-log/lock" else elsewhere / "precious")
    link.symlink_to(target)
    before = contents(tmp_path)
    with pytest.raises(OutputError, match="link"):
        fetch(release, out)
    assert contents(tmp_path) == before


def test_a_link_to_the_folder_itself_is_the_users_own_choice(release, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "here").symlink_to(tmp_path / "disk")
    fetch(release, tmp_path / "here")
    assert contents(tmp_path / "disk") == contents(release)


HOSTILE = {
    ".bashrc": "hidden",
    "data/.git/hooks/pre-commit": "hidden",
    "C:/Windows/win.ini": "signs",
    "a:b": "signs",
    "what?": "signs",
    "CON": "device",
    "data/nul.txt": "device",
    "com1.tar.gz": "device",
    "data/ends.": "ends with a dot",
    "ends ": "space",
    "data/ x": "space",
    "build-log/lock": "its own files",
    "BUILD-LOG/x": "its own files",
    "d" * 200 + "/" + "e" * 250 + "/" + "f" * 250 + "/" + "g" * 250 + "/" + "h" * 250: "1024 bytes",
    "png.\u202etxt": "control",
}


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name[:30]))
def test_a_hostile_name_is_refused_before_anything_is_written(release, tmp_path, name):
    lying = tmp_path / "lying"
    lying.mkdir()
    (lying / "real").write_bytes(b"x")
    digest = digest_file(lying / "real")
    manifest = manifest_bytes({"real": digest, name: digest})
    (lying / MANIFEST_FILE).write_bytes(manifest)
    facts = json.loads((release / RELEASE_MARKER_FILE).read_text())
    (lying / RELEASE_MARKER_FILE).write_bytes(marker_bytes(facts, manifest, {"real": 1, name: 1}))
    with pytest.raises(StoreError, match=HOSTILE[name]):
        fetch(lying, tmp_path / "here")
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["data/A", "data/a"], "same file"),
        (["caf\u00e9", "cafe\u0301"], "same file"),
        (["stra\u00dfe", "STRASSE"], "same file"),
        (["Data/a", "data/b"], "same folder"),
        (["a", "a/b"], "a file and a folder"),
        (["A", "a/b"], "a file and a folder"),
        (["../a"], "leads out"),
        (["/etc/passwd"], "leads out"),
        (["a\\b"], "signs"),
        (["a\nb"], "control"),
    ],
)
def test_names_that_meet_or_lead_away_are_refused(names, found):
    with pytest.raises(StoreError, match=f"here: lists the file .*{found}"):
        require_portable(names, "here")


def test_the_names_of_our_own_releases_pass(release):
    require_portable(contents(release), "here")
    require_portable(["data/train.zarr/sar/c/10/0/0/0", "console.txt", "com/lpt/x", "null", "CONTRIBUTING.md"], "here")


AWAY = {
    "another port": lambda other, path: f"{other}{path}",
    "another host": lambda other, path: f"http://localhost:{other.rpartition(':')[2]}{path}",
    "no scheme": lambda other, path: f"//{other.partition('//')[2]}{path}",
    "a user": lambda other, path: f"http://user:word@{other.partition('//')[2]}{path}",
    "another scheme": lambda other, path: f"https://{other.partition('//')[2]}{path}",
    "a file": lambda other, path: "file:///etc/passwd",
    "no address": lambda other, path: "http://[::1",
}


@pytest.mark.parametrize("kind", AWAY)
def test_a_redirect_to_another_server_is_refused_and_nobody_else_is_asked(release, tmp_path, kind):
    with folder_server(release) as other:

        def move(asked, right):
            return Reply(status=302, headers={"Location": AWAY[kind](other.url, asked.path)})

        with folder_server(release, move) as server, pytest.raises(StoreError, match="another host or port"):
            fetch(f"{server.url}{PREFIX}", tmp_path / "here")
        assert other.asked == []
    assert not (tmp_path / "here").exists()


def test_a_redirect_on_the_same_server_is_followed_but_not_for_ever(release, tmp_path):
    def once(asked, right):
        return right if asked.query else Reply(status=307, headers={"Location": f"{asked.path}?again=1"})

    with folder_server(release, once) as server:
        fetch(f"{server.url}{PREFIX}", tmp_path / "here")
        assert contents(tmp_path / "here") == contents(release)
        assert len([asked for asked in server.asked if asked.query]) > 5

    def always(asked, right):
        return Reply(status=301, headers={"Location": asked.path})

    with folder_server(release, always) as server, pytest.raises(StoreError, match="redirects more than 5 times"):
        fetch(f"{server.url}{PREFIX}", tmp_path / "never")
