"""Statistics of a store against numpy on the same pixels, and against the order of summation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sar1m.stages.statistics import ChannelTotals, channel_statistics, self_test_summary
from sar1m.store.schema import optical_encoding, sar_encoding
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
    found = self_test_summary([{"sample_id": "a", **row}])
    assert (found["pairs"], found["measured"], found["rmse_px"], found["bias_row_px"]) == (1, 0, None, None)
