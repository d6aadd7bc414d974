"""`sar1m drift` over finished stores whose tables are made up: rows as a build writes them, sealed as a build is."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from sar1m.cli import app
from sar1m.releases.drift import drift
from sar1m.store.errors import StoreError
from sar1m.store.schema import SAMPLES_FILE
from servers.objects import PREFIX, folder_server
from support.shift_tables import PATCHES, rows, store


@pytest.fixture(scope="module")
def steady(tmp_path_factory):
    return store(tmp_path_factory.mktemp("steady") / "store", rows())


@pytest.fixture(scope="module")
def drifted(tmp_path_factory):
    return store(tmp_path_factory.mktemp("drifted") / "store", rows(away=0.3))


def run(*words):
    return CliRunner().invoke(app, ["drift", *map(str, words)])


def test_nothing_is_reported_of_an_archive_that_did_not_change(steady):
    result = run(steady)
    assert result.exit_code == 0
    assert "CHANGE" not in result.stdout
    assert result.stdout.splitlines()[-1].startswith("No change found (240 acquisitions, ")
    assert "1,440 patches of 240 scene pairs in 240 acquisitions" in result.stdout


def test_a_step_of_three_tenths_of_a_pixel_is_found_dated_and_sized(drifted):
    result = run(drifted)
    assert result.exit_code == 4
    assert result.stdout.splitlines()[-1].startswith("CHANGE ")
    report = drift([str(drifted)])
    change = report.changes[0]
    assert change.name.startswith("from 2023-0")
    assert change.step_px[1] == pytest.approx(0.3, abs=0.12)
    assert change.step_px[0] == pytest.approx(0.0, abs=0.12)
    assert report.verdict == result.stdout.splitlines()[-1]


def test_a_step_in_range_has_one_sign_on_both_directions(drifted):
    """Ascending passes look east, descending ones west; the columns of the table carry opposite signs."""
    months = {level.level: level for level in drift([str(drifted)]).levels if level.factor == "month"}
    before = np.mean([months[name].away_px for name in months if name < "2023-07"])
    after = np.mean([months[name].away_px for name in months if name >= "2023-07"])
    assert after - before == pytest.approx(0.3, abs=0.15)


def test_a_platform_that_is_off_is_told_with_the_processor_it_cannot_be_told_from(tmp_path):
    table = rows(seed=3)
    table.loc[table["platform"] == "sentinel-1c", "shift_row_px"] += np.where(
        table.loc[table["platform"] == "sentinel-1c", "orbit_state"] == "ascending", 0.3, -0.3
    )
    report = drift([str(store(tmp_path / "store", table))])
    (change,) = report.changes
    assert {change.name, *change.alike} >= {"platform sentinel-1c", "processor IPF 003.90"}
    assert abs(change.step_px[0]) == pytest.approx(0.3, abs=0.1)
    found = {(level.factor, level.level): level for level in report.levels}
    assert found["processor", "IPF 003.90"].acquisitions == found["platform", "sentinel-1c"].acquisitions


def test_patches_of_one_acquisition_count_once(tmp_path):
    """Thirty acquisitions; each patch forty times over adds nothing to what they say."""
    table = rows(30, seed=6)
    many = pd.concat([table.assign(sample_id=table["sample_id"] + f"-{k}") for k in range(40)], ignore_index=True)
    report = drift([str(store(tmp_path / "store", many))])
    assert (report.acquisitions, report.patches, report.changes) == (30, 30 * PATCHES * 40, ())
    alone = drift([str(store(tmp_path / "alone", table))])
    assert [level.sigma_px for level in alone.levels] == [level.sigma_px for level in report.levels]


def test_stores_add_up_whichever_holds_a_sample_and_the_report_is_the_same_again(steady, tmp_path):
    other = store(tmp_path / "other", rows(seed=9))
    both = drift([str(steady), str(other), str(steady)])
    assert both.acquisitions == 480
    assert both.patches == 2 * 240 * PATCHES
    again = run(steady, other, steady, "--json")
    assert again.exit_code == 0
    assert json.loads(again.stdout)["levels"] == json.loads(json.dumps(both.to_json()))["levels"]


def test_a_store_on_the_web_is_read_like_one_on_disk(drifted):
    with folder_server(drifted) as server:
        report = drift([f"{server.url}{PREFIX}"])
    assert report.changes == drift([str(drifted)]).changes


def test_a_table_of_before_the_uncertainty_is_read_too(drifted, tmp_path):
    former = store(tmp_path / "former", rows(away=0.3), without=("shift_sigma_px",))
    assert drift([str(former)]).changes == drift([str(drifted)]).changes


@pytest.mark.parametrize("status", ["measured", "field", "scene"])
def test_a_shift_counts_wherever_it_is_known_from(steady, tmp_path, status):
    report = drift([str(store(tmp_path / "store", rows(registration_status=status)))])
    assert (report.patches, report.patches_without) == (240 * PATCHES, 0)
    assert report.levels == drift([str(steady)]).levels


def test_what_is_not_measured_counts_as_left_out_and_too_little_is_refused(steady, tmp_path):
    table = rows(30, seed=6)
    table.loc[:9, "shift_row_px"] = np.nan
    table.loc[10:19, "registration_status"] = "unmeasurable"
    table.loc[20:29, "orbit_state"] = None
    assert drift([str(store(tmp_path / "some", table))]).patches_without == 30
    with pytest.raises(StoreError, match=r"few: 9 acquisitions with a measured shift.*at least 16 are needed"):
        drift([str(store(tmp_path / "few", rows(9)))])
    coarse = store(tmp_path / "coarse", rows(seed=8, gsd_m=np.float32(20)))
    with pytest.raises(StoreError, match=r"pixels of \[10\.0, 20\.0\] m"):
        drift([str(steady), str(coarse)])


def test_a_table_that_is_not_the_manifests_is_refused(steady, tmp_path):
    spoiled = store(tmp_path / "store", rows(40))
    (spoiled / SAMPLES_FILE).write_bytes((steady / SAMPLES_FILE).read_bytes())
    with pytest.raises(StoreError, match=r"samples\.parquet: differs from the manifest"):
        drift([str(spoiled)])
