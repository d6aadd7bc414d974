"""Several builds as one table: what is the same, what is newer, what does not go together."""

import shutil

import pytest

from sar1m.io.tables import read_table
from sar1m.releases.builds import open_builds
from sar1m.releases.merge import merge
from sar1m.store.errors import ConfigError
from support.made_releases import make_build, marker_of, release, reseal, samples_of


def test_a_sample_in_two_builds_is_held_once(built):
    merged = merge(open_builds([built.large, built.part]), kept_before=())
    twice = merged.rejected[merged.rejected["reason"] == "same_in_other_build"]
    assert sorted(twice["sample_id"]) == sorted(samples_of(built.part).index)
    assert (twice["duplicates_of"] == twice["sample_id"]).all()
    assert sorted(merged.samples["sample_id"]) == sorted(samples_of(built.large).index)


def test_of_other_pixels_under_one_id_the_largest_digest_wins_in_any_order(built):
    for order in ([built.large, built.noisy], [built.noisy, built.large]):
        builds = open_builds(order)
        assert [build.digest for build in builds] == sorted(build.digest for build in builds)
        merged = merge(builds, kept_before=())
        lost = merged.rejected[merged.rejected["reason"] == "superseded_by_other_build"]
        both = set(samples_of(built.large).index) & set(samples_of(built.noisy).index)
        assert set(lost["sample_id"]) == both
        assert both
        winners = merged.samples.set_index("sample_id").loc[sorted(both), "origin_build"]
        assert set(winners) == {1}


def test_newer_code_wins_over_a_larger_digest(built, monkeypatch):
    first, second = open_builds([built.large, built.noisy])
    monkeypatch.setattr("sar1m.releases.builds._version_order", lambda build: (build.digest == first.digest,))
    assert [build.digest for build in open_builds([built.large, built.noisy])] == [second.digest, first.digest]


@pytest.fixture
def twins(built, monkeypatch):
    """A sample of each build, of which the tables say that they look alike but for two bits."""
    ours, theirs = samples_of(built.large).iloc[0], samples_of(built.other).iloc[0]

    def read(path):
        frame = read_table(path)
        if path == built.other / "samples.parquet":
            frame.loc[frame["sample_id"] == theirs["sample_id"], "phash"] = ours["phash"] ^ 0b101
        return frame

    monkeypatch.setattr("sar1m.releases.merge.read_table", read)
    return ours["sample_id"], theirs["sample_id"]


def test_near_duplicates_across_builds_go_with_their_reason(built, twins):
    merged = merge(open_builds([built.large, built.other]), kept_before=())
    (gone,) = merged.rejected[merged.rejected["reason"] == "duplicate_hash"].itertuples()
    assert {gone.sample_id, gone.duplicates_of} == set(twins)
    assert (gone.measured, gone.limit) == (2, 4)
    assert not merged.samples["sample_id"].eq(gone.sample_id).any()
    assert merged.samples["sample_id"].eq(gone.duplicates_of).any()


@pytest.mark.parametrize("stays", [0, 1])
def test_a_former_sample_stays_where_a_new_one_repeats_it(built, twins, stays):
    merged = merge(open_builds([built.large, built.other]), kept_before={twins[stays]})
    (gone,) = merged.rejected[merged.rejected["reason"] == "duplicate_hash"].itertuples()
    assert (gone.sample_id, gone.duplicates_of) == (twins[1 - stays], twins[stays])


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("grid.patch_px=80", "patch_px is 80, but 64 in|patch_px is 64, but 80 in"),
        ("pixels.profile=archive", "profile is"),
        ("pack.shard_samples=8", "pack.shard_samples is .*refilter"),
        ("split.block_km=50", "split.block_km is .*refilter"),
    ],
)
def test_builds_of_other_kinds_are_refused_naming_what_differs(built, tmp_path, key, words):
    other = make_build(tmp_path / "b", 1, key)
    with pytest.raises(ConfigError, match=words):
        open_builds([built.part, other])


def test_sigma0_and_gamma0_never_mix(built, tmp_path):
    sigma = shutil.copytree(built.part, tmp_path / "sigma")
    path = sigma / "stats/summary.json"
    path.write_text(path.read_text().replace('"gamma0"', '"sigma0"'))
    reseal(sigma)
    with pytest.raises(
        ConfigError, match=r"quantity is '(sigma0|gamma0)', but '(sigma0|gamma0)' in .*: make one release"
    ):
        open_builds([built.part, sigma])


def test_rejected_and_failed_rows_of_all_builds_are_told(built, tmp_path):
    root = release([built.large, built.other, built.part], tmp_path / "r").root
    rejected = read_table(root / "provenance/rejected.parquet")
    theirs = sum(len(read_table(build / "rejected.parquet")) for build in (built.large, built.other, built.part))
    assert marker_of(root)["counts"]["rejected"] == len(rejected) >= theirs + len(samples_of(built.part))
    assert {"same_in_other_build", *read_table(built.other / "rejected.parquet")["reason"]} <= set(rejected["reason"])
