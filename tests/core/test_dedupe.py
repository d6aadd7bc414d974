"""Near-duplicates: planted ones are found, the better one stays, Hamming neighbours agree with brute force."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sar1m.config import BalanceConfig
from sar1m.core.dedupe import hamming_pairs
from support.candidate_tables import candidate_table, choose, reasons

PAIR = [f"p{i}_S1A" for i in range(2)]


def flipped(value: int, bits: list[int]) -> int:
    """The signed 64-bit number with some of its bits inverted."""
    mask = sum(1 << bit for bit in bits)
    return int(np.array([(value % 2**64) ^ mask], dtype=np.uint64).view(np.int64)[0])


def at_days(*days: float) -> pd.Series:
    return pd.Series(pd.to_datetime("2024-06-01T06:00:00Z") + pd.to_timedelta(days, unit="D"))


@given(seed=st.integers(0, 10_000), radius=st.integers(0, 12), count=st.integers(0, 120))
def test_hamming_pairs_agree_with_comparing_all(seed, radius, count):
    rng = np.random.default_rng(seed)
    families = rng.integers(0, 2**63, size=max(count // 6, 1), dtype=np.uint64)
    hashes = rng.choice(families, count)
    for _ in range(radius):  # a walk of up to radius flips away from its family
        hashes ^= np.uint64(1) << rng.integers(0, 64, count).astype(np.uint64)
    hashes = np.unique(hashes)
    first, second = hamming_pairs(hashes, radius)
    expected = {
        (i, j)
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if (int(hashes[i]) ^ int(hashes[j])).bit_count() <= radius
    }
    assert len(first) == len(expected)
    assert set(zip(first.tolist(), second.tolist(), strict=True)) == expected


@pytest.mark.parametrize(("bits", "gone"), [([], True), ([0, 13, 40, 63], True), ([0, 13, 27, 40, 63], False)])
def test_a_nearly_equal_picture_goes_wherever_it_stands(bits, gone):
    table = candidate_table(40)
    table.loc[31, "phash"] = flipped(int(table.loc[7, "phash"]), bits)
    table["cloud_frac"] = np.where(np.arange(40) == 7, 0.02, 0.01)
    selection = choose(table)
    assert reasons(selection) == ({"p7_S1A": ("duplicate_hash", len(bits), 4.0)} if gone else {})
    assert selection.rejected["duplicates_of"].tolist() == (["p31_S1A"] if gone else [])


def test_patches_without_structure_are_no_copies_of_each_other():
    assert len(choose(candidate_table(20, phash=0)).samples) == 20


@pytest.mark.parametrize(
    ("days_apart", "limit_days", "gone"),
    [(6.0, 12.0, True), (12.0, 12.0, True), (12.00002, 12.0, True), (12.1, 12.0, False), (0.5, 0.0, False)],
)
def test_same_patch_and_track_soon_again(days_apart, limit_days, gone):
    """12.00002 d is a repeat cycle and two seconds: orbits do not repeat to the second."""
    table = candidate_table(2, patch="p", relative_orbit=15, sar_datetime=at_days(0, days_apart))
    table["dt_hours"] = [-30.0, 20.0]
    found = reasons(choose(table, balance=BalanceConfig(duplicate_days=limit_days)))
    assert list(found) == ([PAIR[0]] if gone else [])
    if gone:
        assert found[PAIR[0]] == ("duplicate_orbit", pytest.approx(days_apart), limit_days)


@pytest.mark.parametrize("changed", [{"relative_orbit": [15, 16]}, {"relative_orbit": None}, {"patch": ["p", "q"]}])
def test_another_track_or_place_is_no_duplicate(changed):
    columns = {"patch": "p", "relative_orbit": 15, "sar_datetime": at_days(0, 1)} | changed
    assert len(choose(candidate_table(2, **columns)).samples) == 2


def test_a_time_without_a_date_is_no_duplicate():
    table = candidate_table(2, patch="p", relative_orbit=15, sar_datetime=None)
    assert len(choose(table).samples) == 2


def test_a_time_series_keeps_every_second_of_steps_that_are_too_short():
    table = candidate_table(6, patch="p", relative_orbit=15, sar_datetime=at_days(0, 8, 16, 24, 32, 40))
    table["cloud_frac"] = [0.001, 0.002, 0.003, 0.004, 0.005, 0.006]
    selection = choose(table)
    assert sorted(selection.samples["sample_id"]) == ["p0_S1A", "p2_S1A", "p4_S1A"]
    assert {found[1] for found in reasons(selection).values()} == {8.0}


SAME_ACQUISITION = [
    {"sample_id": "p_S1A"},
    {"patch": "p", "sar_product": "s1", "relative_orbit": None},
]


@pytest.mark.parametrize("same", SAME_ACQUISITION)
@pytest.mark.parametrize(
    ("worse", "better"),
    [
        ({"optical_product": None}, {"cloud_frac": 0.04}),
        ({"cloud_frac": 0.3, "dt_hours": 0.1}, {"cloud_frac": 0.04}),  # over the limit, hence unpaired
        ({"cloud_frac": 0.03, "dt_hours": 0.1}, {"cloud_frac": 0.02}),
        ({"cloud_frac": None}, {"cloud_frac": 0.02}),
        ({"dt_hours": -50.0}, {"dt_hours": 20.0}),
        ({"key": "b"}, {"key": "a"}),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_the_better_of_two_of_one_acquisition_stays(same, worse, better, turned):
    table = candidate_table(2, **same)
    rows = (1, 0) if turned else (0, 1)
    for row, values in zip(rows, (worse, better), strict=True):
        for name, value in values.items():
            table.at[row, name] = value
    worse_key, better_key = (table["key"][row] for row in rows)
    selection = choose(table)
    assert selection.samples["key"].tolist() == [better_key]
    assert selection.rejected["key"].tolist() == [worse_key]
    assert selection.rejected["reason"].tolist() == ["duplicate_product"]
    assert selection.rejected["measured"].isna().all()
    assert selection.rejected["duplicates_of"].tolist() == selection.samples["sample_id"].tolist()


def test_what_no_longer_stands_suppresses_nothing():
    """The better of the two fails a rule for SAR, so the other repeats nothing."""
    table = candidate_table(2, patch="p", relative_orbit=15, cloud_frac=[0.0, 0.04], dynamic_range_db=[1.0, 9.0])
    assert {name: found[0] for name, found in reasons(choose(table)).items()} == {"p0_S1A": "dynamic_range"}
