"""Injected beside observed speckle: on real Sentinel-1 chips, and on simulated ones wherever those are absent."""

import numpy as np
import pytest

from benchmarks.speckle_chips import REAL_FOLDER, chip_row, real_chips, simulated_chip
from sar1m.core.speckle import estimate_enl

SMOOTH = ("282D_485L_3_3 VV", "282D_485L_3_3 VH", "Nigeria_812045_S1Hand VV")


@pytest.fixture(scope="module")
def real_rows():
    """Chips with large homogeneous areas; the others have too few for an estimate of their looks."""
    chips = [chip for chip in real_chips() if chip.name in SMOOTH]
    if not chips:
        pytest.skip(f"no real chips beside the checkout ({REAL_FOLDER.name}/s1s2_rtc_pairs, flood_chips)")
    return [chip_row(chip) for chip in chips]


def test_observed_speckle_is_gamma_and_correlated_as_ours(real_rows):
    for row in real_rows:
        assert 3.5 < row["ENL"] < 7, row["chip"]
        assert row["KS correlated"] < 0.03, row["chip"]
        assert row["lag 1 injected"] == pytest.approx(row["lag 1 observed"], abs=0.05), row["chip"]


def test_correlation_takes_the_leak_out_of_a_thinned_pair(real_rows):
    for row in real_rows:
        assert row["leak white 1"] > 0.28, row["chip"]
        assert abs(row["leak corr. 1"]) < 0.05, row["chip"]
        assert abs(row["leak corr. 0"]) < 0.05, row["chip"]


def test_looks_after_extra_speckle_are_those_of_the_formula(real_rows):
    for row in real_rows:
        assert row["ENL x 2 looks"] == pytest.approx(row["expected"], rel=0.12), row["chip"]


def test_simulated_speckle_is_told_apart_from_lognormal():
    chip = simulated_chip(4.4)
    assert estimate_enl(chip.power).value == pytest.approx(4.4, rel=0.06)
    row = chip_row(chip)
    assert row["KS gamma"] < 0.012
    assert row["KS lognormal"] > 0.025
    assert row["lag 1 observed"] == pytest.approx(0.59, abs=0.02)
    assert row["leak white 1"] == pytest.approx(0.6 / 4.4 * 2.2, abs=0.03)
    assert row["ENL x 2 looks"] == pytest.approx(row["expected"], rel=0.12)


def test_a_chip_without_looks_gives_no_row():
    chip = simulated_chip(4.4, side_px=64)
    chip.power[::5, ::5] = np.nan
    assert chip_row(chip) is None
