"""Statistics of a store against numpy on the same pixels, and against the order of summation."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sar1m.stages.statistics import (
    ChannelTotals,
    channel_statistics,
    registration_words,
    self_test_summary,
    site_summary,
)
from sar1m.store.schema import optical_encoding, sar_encoding
from support.candidate_tables import candidate_table
from support.examples import examples

ENCODINGS = [
    (sar_encoding("training", "sigma0"), (-30, 5), "db"),
    (sar_encoding("archive", "gamma0"), (-30, 5), "db"),
    (optical_encoding("training", "reflectance"), (-0.2, 1.4), "value"),
    (optical_encoding("archive", "reflectance"), (0, 1), "value"),
    (optical_encoding("training", "display"), (1, 255), "value"),
]


@pytest.mark.parametrize(("encoding", "spread", "unit"), ENCODINGS)
def test_moments_and_percentiles_are_numpys(encoding, spread, unit):
    rng = np.random.default_rng(3)
    physical = rng.uniform(*spread, (6, 2, 40, 40)).astype(np.float32)
    physical[0, 0, :5] = np.nan
    dn = encoding.encode(physical)
    total = ChannelTotals(("a", "b"), encoding)
    for sample in dn:
        total.add(channel_statistics(sample, encoding))
    for number, summary in enumerate(total.summary().values()):
        values = encoding.decode(dn[:, number]).astype(np.float64)
        values = values[np.isfinite(values)]
        assert summary["pixels"] == values.size
        assert summary[f"mean_{unit}"] == pytest.approx(values.mean(), rel=1e-6)
        assert summary[f"std_{unit}"] == pytest.approx(values.std(), rel=1e-5)
        bin_width = {"dB": 0.25, "1": max(0.002, encoding.scale_factor)}[encoding.units]
        for percent in (2, 50, 98):
            assert summary[f"p{percent:02d}_{unit}"] == pytest.approx(np.percentile(values, percent), abs=bin_width)


@examples(0.3)
@given(st.permutations(range(6)))
def test_order_of_samples_changes_nothing(order):
    encoding = sar_encoding("training", "sigma0")
    samples = np.random.default_rng(1).integers(0, 2000, (6, 1, 8, 8), dtype=np.uint16)
    sums = []
    for chosen in (range(6), order):
        total = ChannelTotals(("VV",), encoding)
        for number in chosen:
            total.add(channel_statistics(samples[number], encoding))
        sums.append(total.summary())
    assert sums[0] == sums[1]


def test_without_a_valid_pixel_there_is_no_statistic():
    encoding = sar_encoding("training", "sigma0")
    total = ChannelTotals(("VV",), encoding)
    total.add(channel_statistics(np.zeros((1, 4, 4), dtype=np.uint16), encoding))
    assert total.summary()["VV"] == {
        "mean_db": None,
        "std_db": None,
        "p02_db": None,
        "p50_db": None,
        "p98_db": None,
        "pixels": 0,
    }


def test_self_test_without_a_measured_pair_says_none():
    row = dict.fromkeys(
        (
            "injected_row_px",
            "injected_col_px",
            "error_row_px",
            "error_col_px",
            "polarisation_row_px",
            "polarisation_col_px",
        )
    )
    found = self_test_summary([{"sample_id": "a", **row}], candidate_table(1))
    assert (found["pairs"], found["measured"], found["rmse_px"], found["bias_row_px"]) == (1, 0, None, None)


def second_table(disagreement_px, **changed):
    """Candidates that a second method measured; where disagreement_px is None, without a clear peak."""
    status = ["unclear" if one is None else "measured" for one in disagreement_px]
    columns = {"second_shift_status": status, "disagreement_px": disagreement_px, **changed}
    return candidate_table(len(disagreement_px), **columns)


def test_the_disagreement_of_two_methods_is_taken_over_the_pairs_with_a_clear_peak():
    table = second_table([0.1, 0.2, None, 0.3], shift_sigma_px=0.3, second_shift_sigma_px=0.4)
    found = self_test_summary([], pd.concat([table, candidate_table(5)]))["second_estimator"]
    assert (found["asked"], found["measured"]) == (4, 3)
    assert found["median_px"] == pytest.approx(0.2)
    assert found["rms_px"] == pytest.approx(math.sqrt(0.14 / 3))
    assert found["p95_px"] == pytest.approx(0.29)  # linear between 0.2 and 0.3
    assert found["expected_rms_px"] == pytest.approx(math.sqrt(2) * 0.5)  # 3, 4, 5; two components


def test_words_lead_with_the_disagreement_and_name_precision_as_agreement_with_itself():
    table = second_table([0.1, 0.2, None, 0.3], shift_sigma_px=0.3, second_shift_sigma_px=0.4, band_offset_px=0.25)
    test = self_test_summary([], table) | {"rmse_px": 0.05, "pairs": 40}
    first, precision, bands = registration_words(test)
    assert first.startswith("Two methods differ by 0.20 px (median), 0.29 px (95 %), over 3 pairs;")
    assert "on 1 more the second" in first
    assert "Root mean square: 0.22 px, and 0.71 px by the uncertainties that both state. One speckle" in first
    assert first.endswith("their errors correlate by about 0.5.")
    assert "agreement with itself" in precision
    assert "0.25 px (median)" in bands


@pytest.mark.parametrize("told", [{}, {"second_estimator": None}], ids=["schema 1.1", "none"])
def test_a_store_without_a_second_method_says_that_accuracy_was_not_tested(told):
    first, *_ = registration_words(told | {"rmse_px": 0.05, "pairs": 4})
    assert "was not tested" in first
    assert "Two methods" not in first


def test_a_second_method_that_found_no_clear_peak_says_so():
    first, *_ = registration_words(self_test_summary([], second_table([None, None])))
    assert "given 2 pairs and found no clear peak" in first


def test_a_site_states_a_shift_and_a_correction_only_where_its_patches_share_them():
    sites = ["alike", "alike", "each", "each", "two pairs", "two pairs", "unknown", "unknown"]
    scene = [1.25, 1.25, 2.5, 2.5, 0.75, -3.5, None, None]
    table = candidate_table(
        8,
        site=sites,
        optical_product="s2",
        **dict.fromkeys(("scene_shift_row_px", "scene_shift_col_px", "scene_psr"), scene),
        applied_row_px=[1, 1, 2, 4, 1, -4, 0, 0],
        applied_col_px=[1, 1, 3, 3, 1, -4, 0, 0],
    )
    stated = {
        site["site"]: (site["scene_shift_row_px"], site["scene_psr"], site["applied_row_px"], site["applied_col_px"])
        for site in site_summary(table)
    }
    assert stated == {
        "alike": (1.25, 1.25, 1, 1),
        "each": (2.5, 2.5, None, None),
        "two pairs": (None, None, None, None),
        "unknown": (None, None, 0, 0),
    }
