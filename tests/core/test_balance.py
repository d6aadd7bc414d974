"""Shares of the dataset: limits hold exactly, no more rows go than necessary, and which go depends on no other row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sar1m.config import BalanceConfig, SplitConfig
from sar1m.core.balance import class_cap, dominant_class
from support.candidate_tables import candidate_table, choose, reasons
from support.examples import examples

WHOLE = SplitConfig(val_share=0, test_share=0)
FREE = {"max_unpaired_share": 1.0, "max_water_patch_share": 1.0}


def first(count: int, of: int) -> np.ndarray:
    return np.arange(of) < count


@pytest.mark.parametrize(
    ("unpaired", "share", "kept"), [(40, 0.25, 20), (20, 0.25, 20), (21, 0.25, 20), (40, 0, 0), (40, 1, 40)]
)
def test_unpaired_share(unpaired, share, kept):
    table = candidate_table(60 + unpaired)
    table["optical_product"] = table["optical_product"].where(~first(unpaired, len(table)))
    selection = choose(table, balance=BalanceConfig(**FREE | {"max_unpaired_share": share}), split=WHOLE)
    assert (~selection.samples["paired"]).sum() == kept
    assert selection.samples["paired"].sum() == 60
    found = set(reasons(selection).values())
    assert found == ({("unpaired_share", unpaired / len(table), share)} if kept < unpaired else set())


@pytest.mark.parametrize(("wet", "kept"), [(30, 5), (5, 5), (6, 5), (0, 0)])
def test_water_patches_are_those_at_least_half_water(wet, kept):
    table = candidate_table(95 + wet, water_frac=np.where(first(wet, 95 + wet), 0.5, 0.4375))
    selection = choose(table, balance=BalanceConfig(max_water_patch_share=0.05), split=WHOLE)
    assert (selection.samples["water_frac"] >= 0.5).sum() == kept
    assert len(selection.rejected) == wet - kept
    assert set(selection.rejected["reason"]) <= {"water_patch_share"}


def test_no_pairs_and_pairs_demanded_leaves_nothing_and_says_so():
    selection = choose(candidate_table(10, optical_product=None), balance=BalanceConfig())
    assert len(selection.samples) == 0
    assert set(reasons(selection).values()) == {("unpaired_share", 1.0, 0.25)}


def test_class_share():
    cover = [{"tree": 0.6, "crop": 0.4}] * 80 + [{"crop": 1.0}] * 15 + [{"built": 1.0}] * 10 + [{}] * 5
    table = candidate_table(110, land_cover=cover)
    selection = choose(table, balance=BalanceConfig(**FREE, max_class_share=0.4), split=WHOLE)
    counts = np.unique(dominant_class(selection.samples), return_counts=True)
    assert dict(zip(*(part.tolist() for part in counts), strict=True)) == {"": 5, "built": 10, "crop": 15, "tree": 20}
    assert set(reasons(selection).values()) == {("class_share", 80 / 110, 0.4)}


def test_a_class_share_no_choice_can_reach_means_equal_classes():
    cover = [{"tree": 1.0}] * 8 + [{"crop": 1.0}] * 3
    one = choose(candidate_table(11, land_cover=cover), balance=BalanceConfig(**FREE, max_class_share=0.2), split=WHOLE)
    assert sorted(dominant_class(one.samples)) == ["crop"] * 3 + ["tree"] * 3
    assert set(reasons(one).values()) == {("class_share", 8 / 11, 0.5)}


def test_ecoregion_share():
    places = ["taiga"] * 80 + ["savanna"] * 15 + ["reef"] * 10 + [None] * 5
    shares = BalanceConfig(**FREE, max_ecoregion_share=0.4)
    selection = choose(candidate_table(110, ecoregion=places), balance=shares, split=WHOLE)
    assert selection.samples["ecoregion"].value_counts().to_dict() == {"taiga": 20, "savanna": 15, "reef": 10}
    assert selection.samples["ecoregion"].isna().sum() == 5
    assert set(reasons(selection).values()) == {("ecoregion_share", 80 / 110, 0.4)}
    assert set(selection.rejected["ecoregion"]) == {"taiga"}
    free = choose(candidate_table(110, ecoregion=places), balance=BalanceConfig(**FREE), split=WHOLE)
    assert len(free.samples) == 110


def test_dominant_class_breaks_ties_by_name_and_knows_the_unknown():
    table = candidate_table(3, land_cover=[{"tree": 0.5, "crop": 0.5}, None, {"tree": 0.4, "sea": 0.6}])
    assert dominant_class(table).tolist() == ["crop", "", "sea"]


@given(
    counts=st.lists(st.integers(1, 60), min_size=1, max_size=6), loose=st.integers(0, 30), share=st.floats(0.01, 0.99)
)
def test_class_cap_is_the_largest_that_holds(counts, loose, share):
    share = max(share, 1 / len(counts))

    def holds(cap: int) -> bool:
        kept = [min(count, cap) for count in counts]
        return max(kept) <= share * (sum(kept) + loose) + 1e-9

    cap = class_cap(counts, loose, share)
    assert holds(cap)
    assert not any(holds(more) for more in range(cap + 1, max(counts) + 1))


@examples(0.2)
@given(seed=st.integers(0, 1000))
def test_all_shares_hold_at_once(seed):
    rng = np.random.default_rng(seed)
    count = 400  # few rows and tight shares wear each other down to nothing
    names = rng.choice(["tree", "crop", "built"], count, p=[0.7, 0.2, 0.1])
    table = candidate_table(
        count,
        water_frac=rng.choice([0.1, 0.8], count),
        land_cover=[{name: 1.0} for name in names],
        ecoregion=rng.choice(np.array(["taiga", "savanna", "reef", None], dtype=object), count, p=[0.6, 0.2, 0.1, 0.1]),
        optical_product=rng.choice(np.array(["s2", None], dtype=object), count),
    )
    shares = BalanceConfig(
        max_class_share=0.5, max_ecoregion_share=0.5, max_water_patch_share=0.3, max_unpaired_share=0.3
    )
    samples = choose(table, balance=shares, split=WHOLE).samples
    assert len(samples) > 0
    assert np.unique(dominant_class(samples), return_counts=True)[1].max() <= 0.5 * len(samples)
    assert samples["ecoregion"].value_counts().max() <= 0.5 * len(samples)
    assert (samples["water_frac"] >= 0.5).mean() <= 0.3
    assert (~samples["paired"]).mean() <= 0.3


def test_who_goes_is_drawn_by_seed_and_keeps_its_lot_when_others_join():
    table = candidate_table(100)
    table["optical_product"] = table["optical_product"].where(~first(60, 100))
    kept = [
        set(choose(part, balance=BalanceConfig(), split=WHOLE, seed=seed).samples["sample_id"])
        for part, seed in ((table, 1), (table, 2), (table.drop(index=[97, 98, 99]), 1))
    ]
    assert kept[0] != kept[1]
    assert len(kept[0] - kept[2] - {"p97_S1A", "p98_S1A", "p99_S1A"}) == 1  # 37 pairs allow 12 unpaired, 40 allow 13
    assert kept[2] < kept[0]
