"""What a version promises, and what a former release binds a later one to."""

import shutil

import pandas as pd
import pytest

from sar1m.io.tables import read_table
from sar1m.releases.portions import Portion, get
from sar1m.releases.versions import Changes, parse_version, require_semver
from sar1m.store.errors import ConfigError, StoreError
from support.crash_runner import Silence
from support.made_releases import lock_of, marker_of, release, samples_of

NONE = {"added": (), "removed": (), "changed": (), "moved": ()}


@pytest.mark.parametrize("text", ["1.0", "1.0.0.0", "01.0.0", "1.0.0-rc1", "v1.0.0", "1.0.٣", "", "1.0.0\n", "-1.0.0"])
def test_other_texts_are_no_versions(text):
    with pytest.raises(ConfigError, match=r"expected MAJOR\.MINOR\.PATCH"):
        parse_version(text)


@pytest.mark.parametrize("what", NONE)
@pytest.mark.parametrize(("version", "allowed"), [("1.2.4", ()), ("1.3.0", ("added",)), ("2.0.0", tuple(NONE))])
def test_semver(version, allowed, what):
    changes = Changes(**NONE | {what: ("s1",)})
    require_semver(version, "1.2.3", Changes(**NONE))
    if what in allowed:
        require_semver(version, "1.2.3", changes)
    else:
        call_it = "1.3.0" if what == "added" else "2.0.0"
        with pytest.raises(ConfigError, match=rf"1 {what} \(first s1\)\. Call it {call_it}"):
            require_semver(version, "1.2.3", changes)


@pytest.fixture(scope="module")
def first(built, tmp_path_factory):
    return release([built.large], tmp_path_factory.mktemp("first") / "r").root


def test_adding_a_build_is_minor_and_leaves_former_samples_as_they_were(built, first, tmp_path):
    with pytest.raises(ConfigError, match=r"is a PATCH version, but samples were \d+ added .*Call it 1\.1\.0"):
        release([built.other, built.large], tmp_path / "r", "1.0.1", previous=first)
    assert list(tmp_path.iterdir()) == []
    later = release([built.other, built.large], tmp_path / "r", "1.1.0", previous=first).root
    before, now = samples_of(first), samples_of(later)
    assert set(before.index) < set(now.index)
    assert now.loc[before.index, "split"].equals(before["split"])
    assert lock_of(later).loc[before.index, "pixel_hash"].equals(lock_of(first)["pixel_hash"])
    added = len(now) - len(before)
    assert marker_of(later)["changes"] == {"added": added, "removed": 0, "changed": 0, "moved": 0}
    assert not (later / "tombstones.parquet").exists()


def test_repacking_is_a_patch(built, first, tmp_path):
    later = release([built.large], tmp_path / "r", "1.0.1", previous=first)
    assert set(later.marker["changes"].values()) == {0}


def test_changed_pixels_and_removals_are_major_and_leave_tombstones(built, first, tmp_path):
    with pytest.raises(ConfigError, match=r"is a MINOR version, but samples were \d+ removed .*Call it 2\.0\.0"):
        release([built.part], tmp_path / "a", "1.1.0", previous=first)
    with pytest.raises(ConfigError, match=r"\d+ changed \(first .*Call it 2\.0\.0"):
        release([built.noisy], tmp_path / "a", "1.1.0", previous=release([built.part], tmp_path / "p").root)
    later = release([built.part], tmp_path / "b", "2.0.0", previous=first).root
    gone = set(samples_of(first).index) - set(samples_of(built.part).index)
    stones = read_table(later / "tombstones.parquet")
    assert set(stones["sample_id"]) == gone
    assert set(stones["version"]) == {"2.0.0"}
    assert set(stones["reason"]) == {"not_in_builds"}
    again = release([built.large], tmp_path / "c", "2.1.0", previous=later).root
    assert not (again / "tombstones.parquet").exists()
    third = release([built.part], tmp_path / "d", "3.0.0", previous=again).root
    assert set(read_table(third / "tombstones.parquet")["version"]) == {"3.0.0"}
    kept = release([built.part], tmp_path / "e", "3.0.1", previous=third).root
    pd.testing.assert_frame_equal(read_table(kept / "tombstones.parquet"), read_table(third / "tombstones.parquet"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"version": "1.0.0"}, "does not follow 1.0.0"),
        ({"version": "0.9.0"}, "does not follow 1.0.0"),
        ({"version": "1.1.0", "name": "other"}, "other cannot follow sar-1m"),
    ],
)
def test_what_does_not_follow_is_refused(built, first, tmp_path, options, words):
    with pytest.raises(ConfigError, match=words):
        release([built.large], tmp_path / "r", previous=first, **options)


def test_a_part_of_the_former_release_binds_like_the_whole(built, first, tmp_path):
    get(str(first), tmp_path / "part", Portion(split="val"), Silence())
    whole = release([built.large], tmp_path / "whole", "1.0.1", previous=first)
    part = release([built.large], tmp_path / "of-a-part", "1.0.1", previous=tmp_path / "part")
    assert part.marker == whole.marker


def test_a_build_is_no_former_release(built, tmp_path):
    with pytest.raises(StoreError, match="not a release"):
        release([built.large], tmp_path / "r", "1.1.0", previous=built.large)


@pytest.mark.parametrize("name", ["samples.parquet", "provenance/lock.parquet"])
def test_a_damaged_former_release_binds_nobody(built, first, tmp_path, name):
    former = shutil.copytree(first, tmp_path / "former")
    content = bytearray((former / name).read_bytes())
    content[len(content) // 2] ^= 1
    (former / name).write_bytes(content)
    with pytest.raises(StoreError, match=f"{former / name}: missing or not what the release's manifest says"):
        release([built.large], tmp_path / "r", "1.0.1", previous=former)
