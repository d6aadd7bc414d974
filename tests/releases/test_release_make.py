"""A release from builds: whole, readable, the same bytes whoever makes it in whatever order."""

import json
import os
import shutil
import subprocess
import sys
from datetime import date

import numpy as np
import pytest
import zarr

from sar1m.releases.build_pixels import array_hash
from sar1m.releases.verification import verify_release
from sar1m.store.errors import ConfigError, LockedError, OutputError, StoreError
from sar1m.store.file_lock import output_lock
from sar1m.store.schema import SPLITS, sar_encoding
from sar1m.store.table_columns import SAMPLE_COLUMNS
from support.crash_runner import Silence
from support.made_releases import contents, lock_of, marker_of, release, samples_of
from support.paths import ROOT


@pytest.fixture(scope="module")
def made(built, tmp_path_factory):
    return release([built.large, built.other], tmp_path_factory.mktemp("made") / "r").root


def pixels_of(root, array):
    """Digital numbers by sample_id, read by zarr-python."""
    found = {}
    for path in sorted((root / "data").glob("*.zarr")):
        group = zarr.open_group(path, mode="r")
        found |= dict(zip(group["sample_id"][:].tolist(), group[array][:], strict=True))
    return found


def test_every_sample_of_both_builds_has_its_own_pixels(built, made):
    samples = samples_of(made)
    from_builds = {**pixels_of(built.large, "sar"), **pixels_of(built.other, "sar")}
    here = pixels_of(made, "sar")
    assert len(samples) > 20
    assert here.keys() == set(samples.index) <= from_builds.keys()
    assert all(np.array_equal(here[name], from_builds[name]) for name in here)
    optical = {**pixels_of(built.large, "optical"), **pixels_of(built.other, "optical")}
    for name, picture in pixels_of(made, "optical").items():
        assert np.array_equal(picture, optical[name] if samples.loc[name, "paired"] else np.zeros_like(picture))


def test_the_tables_agree_with_the_store(made):
    samples = samples_of(made)
    assert [name for name in samples.columns if name != "geometry"] == [column.name for column in SAMPLE_COLUMNS]
    for split in SPLITS:
        group = zarr.open_group(made / f"data/{split}.zarr", mode="r")
        rows = samples[samples["split"] == split]
        assert group["sample_id"][:].tolist() == rows["sample_id"].tolist()
        assert rows["index"].tolist() == list(range(len(rows)))
    rejected = json.loads((made / "stats/summary.json").read_text())["counts"]
    assert rejected["candidates"] == rejected["accepted"] + rejected["rejected"] + rejected["failed"] == 28


def test_it_verifies_and_names_no_work_folder(made):
    assert verify_release(made, Silence()).faults == ()
    assert [path.name for path in made.parent.iterdir()] == ["r"]


def test_hashes_are_of_decoded_pixels(made):
    lock, sar, optical = lock_of(made), pixels_of(made, "sar"), pixels_of(made, "optical")
    for name, row in lock.iterrows():
        assert row["sar_hash"] == array_hash(sar[name], "sar")
        if isinstance(row["optical_hash"], str):
            assert row["optical_hash"] == array_hash(optical[name], "optical")
    assert lock["pixel_hash"].is_unique


def test_normalisation_is_that_of_the_training_pixels(made):
    stored = json.loads((made / "stats/normalisation.json").read_text())
    group = zarr.open_group(made / "data/train.zarr", mode="r")
    value = sar_encoding("training", "gamma0").decode(group["sar"][:])[:, 0].astype(np.float64)
    assert stored["sar"]["VV"]["pixels"] == np.isfinite(value).sum()
    assert stored["sar"]["VV"]["mean_db"] == pytest.approx(np.nanmean(value), abs=1e-5)
    assert stored["sar"]["VV"]["std_db"] == pytest.approx(np.nanstd(value), abs=1e-5)


def test_a_release_of_one_build_keeps_its_splits_and_statistics(built, tmp_path):
    root = release([built.large], tmp_path / "r").root
    ours, theirs = samples_of(root), samples_of(built.large)
    assert dict(ours["split"]) == dict(theirs["split"])
    for name in ("normalisation", "self_test"):
        assert json.loads((root / f"stats/{name}.json").read_text()) == json.loads(
            (built.large / f"stats/{name}.json").read_text()
        )


def test_clones_in_any_order_give_the_same_bytes(built, made, tmp_path):
    clones = [shutil.copytree(path, tmp_path / f"somewhere/{path.name}-clone") for path in (built.other, built.large)]
    again = release([*clones, built.large], tmp_path / "elsewhere").root
    assert contents(again) == contents(made)


def test_another_checkout_gives_the_same_bytes(built, made, tmp_path):
    """The code lies elsewhere under another name, and the command runs there as its user runs it."""
    here, there = ROOT, tmp_path / "some/where/sar"
    for part in ("pipeline", "dataset_cards"):
        shutil.copytree(here / part, there / part, ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        sys.executable,
        "-m",
        "sar1m",
        "release",
        built.other,
        built.large,
        "--version",
        "1.0.0",
        "--out",
        "made",
    ]
    environment = {**os.environ, "PYTHONPATH": str(there / "pipeline"), "TZ": "Asia/Kolkata", "LC_ALL": "C"}
    done = subprocess.run(command, cwd=there, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert contents(there / "made") == contents(made)


def test_day_and_address_stand_where_they_were_given_and_nowhere_else(built, tmp_path):
    given = {"published": date(2026, 11, 23), "url": "https://example.org/sar-1m"}
    plain, dated = (
        release([built.part], tmp_path / name, **options).root for name, options in (("p", {}), ("t", given))
    )
    differing = {name for name, content in contents(dated).items() if contents(plain)[name] != content}
    catalogues = {
        "CITATION.cff",
        "README.md",
        "collection.json",
        "croissant.json",
        "items.parquet",
        "report/index.html",
    }
    assert catalogues | {"manifest-sha256.txt", "RELEASE_COMPLETE.json"} == differing
    assert {key: marker_of(dated)[key] for key in given} == {"published": "2026-11-23", "url": given["url"]}
    assert not given.keys() & marker_of(plain).keys()
    assert json.loads((dated / "collection.json").read_text())["links"][-1] == {"rel": "about", "href": given["url"]}
    with pytest.raises(OutputError, match="other builds or settings"):
        release([built.part], dated)


@pytest.mark.parametrize(
    "url",
    ["example.org/x", "ftp://example.org/x", "https://me:hunter2@example.org/x", "https://a.org/x\ny", "https://é.fr"],
)
def test_an_address_that_nobody_could_follow_is_refused(built, tmp_path, url):
    with pytest.raises(ConfigError, match="--url: expected") as refusal:
        release([built.part], tmp_path / "r", url=url)
    assert "hunter2" not in str(refusal.value)


def test_the_same_command_again_finds_nothing_to_do(built, made):
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    assert release([built.other, built.large], made).nothing_to_do
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before
    assert [path.name for path in made.parent.iterdir()] == ["r"]


def test_a_release_is_never_overwritten(built, made, tmp_path):
    for options in ({"version": "1.0.1"}, {"name": "other"}):
        with pytest.raises(OutputError, match=r"holds sar-1m v1\.0\.0 made from other builds or settings"):
            release([built.large, built.other], made, **options)
    (tmp_path / "r").mkdir()
    (tmp_path / "r/thesis.tex").write_text("mine")
    with pytest.raises(OutputError, match="is no release"):
        release([built.large], tmp_path / "r")
    assert (tmp_path / "r/thesis.tex").read_text() == "mine"


def test_a_damaged_release_in_its_place_is_told(built, tmp_path):
    root = release([built.part], tmp_path / "r").root
    (root / "samples.parquet").write_bytes(b"short")
    with pytest.raises(OutputError, match=r"damaged: 1 files differ, first samples\.parquet"):
        release([built.part], root)


def test_a_second_maker_is_refused(built, tmp_path):
    with output_lock(tmp_path / "r.making"), pytest.raises(LockedError):
        release([built.part], tmp_path / "r")


def copy_with_damage(built, tmp_path):
    clone = shutil.copytree(built.part, tmp_path / "clone")
    shard = next((clone / "data").glob("*.zarr/sar/c/0/0/0/0"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 1
    shard.write_bytes(content)
    return clone, shard


def test_a_damaged_build_is_named(built, tmp_path):
    clone, shard = copy_with_damage(built, tmp_path)
    with pytest.raises(StoreError, match=f"{shard.relative_to(clone)}: content differs"):
        release([clone], tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_a_damaged_chunk_is_found_even_if_nobody_looked_at_the_build(built, tmp_path):
    clone, shard = copy_with_damage(built, tmp_path)
    with pytest.raises(StoreError, match=f"{shard}: damaged: the checksum of slot"):
        release([clone], tmp_path / "r", check_builds=False)


@pytest.mark.parametrize("options", [{"version": "1.0"}, {"version": "v1.0.0"}, {"name": "a/b"}, {"name": ""}])
def test_impossible_options_are_refused_before_anything_is_written(built, tmp_path, options):
    with pytest.raises(ConfigError):
        release([built.part], tmp_path / "r", **options)
    assert list(tmp_path.iterdir()) == []


def test_no_builds_and_unfinished_builds_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="no builds were given"):
        release([], tmp_path / "r")
    with pytest.raises(StoreError, match="not a finished build"):
        release([tmp_path], tmp_path / "r")


def test_the_marker_tells_what_it_is_made_of(built, made):
    marker = marker_of(made)
    assert (marker["name"], marker["version"], len(marker["builds"])) == ("sar-1m", "1.0.0", 2)
    assert set(marker["files"]) == set(contents(made)) - {"manifest-sha256.txt", "RELEASE_COMPLETE.json"}


def test_what_another_release_left_behind_is_not_taken_for_this_one(built, tmp_path):
    """The first is stopped at its very end; its shards have the names of the second's and hold the same samples."""
    with pytest.raises(OutputError, match="a canary"):
        release([built.noisy], tmp_path / "r", canaries=("simulated",))
    assert list(tmp_path.glob("r.making/records/*.json"))
    root = release([built.part], tmp_path / "r").root
    assert contents(root) == contents(release([built.part], tmp_path / "undisturbed").root)
