"""Splits: whole blocks, shares near the wanted ones, a gap between splits, and an audit that finds violations."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sar1m.config import BalanceConfig, SplitConfig
from sar1m.core.sphere import EARTH_RADIUS_KM, nearest_km, unit_vectors
from sar1m.core.splits import assign_splits, audit_splits, block_names
from sar1m.store.schema import SPLITS
from support.candidate_tables import candidate_table, choose, reasons
from support.examples import examples

THIRDS = SplitConfig(val_share=0.3, test_share=0.3)


def haversine_km(one: pd.DataFrame, two: pd.DataFrame) -> np.ndarray:
    """(len(one), len(two)) great-circle distances by the haversine formula."""
    lon1, lat1 = (np.radians(one[name].to_numpy())[:, None] for name in ("lon", "lat"))
    lon2, lat2 = (np.radians(two[name].to_numpy())[None, :] for name in ("lon", "lat"))
    a = np.sin((lat2 - lat1) / 2) ** 2 + np.cos(lat1) * np.cos(lat2) * np.sin((lon2 - lon1) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(a))


def region(seed: int, count: int = 150, degrees: float = 2.0) -> pd.DataFrame:
    """Patches crowded into a square, so that blocks touch."""
    rng = np.random.default_rng(seed)
    lat = 50 + degrees * rng.random(count)
    return candidate_table(count, seed, lon=4 + degrees * rng.random(count), lat=lat)


@examples(0.2)
@given(seed=st.integers(0, 10_000), buffer_km=st.floats(0, 30))
def test_the_buffer_holds_and_train_gives_way(seed, buffer_km):
    config = SplitConfig(val_share=0.15, test_share=0.15, buffer_km=buffer_km)
    selection = choose(region(seed), split=config)
    by_split = {name: selection.samples[selection.samples["split"] == name] for name in SPLITS}
    assert len(by_split["train"])
    least = {}
    for one, two in combinations(SPLITS, 2):
        distance = haversine_km(by_split[one], by_split[two])
        least[f"{one}/{two}"] = distance.min() if distance.size else None
        assert distance.size == 0 or distance.min() >= buffer_km - 1e-6
    found = selection.audit.to_json()
    assert found["buffer_holds"]
    for pair, expected in least.items():
        assert found["least_distance_km"][pair] == (None if expected is None else pytest.approx(expected, abs=6e-4))
    for name, (reason, measured, limit) in reasons(selection).items():
        assert (reason, limit) == ("split_buffer", buffer_km)
        row = selection.rejected[selection.rejected["sample_id"] == name]
        to_test, to_val = (haversine_km(row, by_split[side]).min(initial=np.inf) for side in ("test", "val"))
        assert min(abs(measured - to_test), abs(measured - min(to_test, to_val))) < 1e-6  # from val, or from train
        assert measured < buffer_km


def test_only_train_and_val_lose_samples_to_the_buffer():
    table = region(3, 400)
    free = choose(table, split=SplitConfig(val_share=0.2, test_share=0.2, buffer_km=0)).samples
    held = choose(table, split=SplitConfig(val_share=0.2, test_share=0.2, buffer_km=8)).samples
    test_before, test_after = (set(frame.loc[frame["split"] == "test", "key"]) for frame in (free, held))
    assert test_before == test_after
    assert len(held) < len(free)


@given(
    points=st.lists(st.tuples(st.floats(-180, 180), st.floats(-90, 90)), min_size=1, max_size=12),
    others=st.lists(st.tuples(st.floats(-180, 180), st.floats(-90, 90)), min_size=1, max_size=12),
)
def test_nearest_agrees_with_haversine_everywhere(points, others):
    one, two = (pd.DataFrame(rows, columns=["lon", "lat"]) for rows in (points, others))
    vectors = [unit_vectors(frame["lon"].to_numpy(), frame["lat"].to_numpy()) for frame in (one, two)]
    # asin loses digits at the antipode, where both formulas may differ by a metre or two
    np.testing.assert_allclose(nearest_km(*vectors), haversine_km(one, two).min(axis=1), rtol=1e-9, atol=2e-3)


def test_a_degree_of_the_equator_is_the_published_length():
    here, there = unit_vectors(np.array([0.0, 1.0]), np.array([0.0, 0.0]))
    assert nearest_km(here[None], there[None])[0] == pytest.approx(111.195, abs=1e-3)


def test_a_planted_leak_is_seen():
    samples = choose(region(5, 300), split=THIRDS).samples
    clean = audit_splits(samples, THIRDS).to_json()
    assert clean["buffer_holds"]
    assert clean["shared_sar_products"]["train/test"] == 0
    leaked = samples.copy()
    train, test = (leaked.index[leaked["split"] == name][0] for name in ("train", "test"))
    leaked.loc[test, "lon"] = leaked.loc[train, "lon"]
    leaked.loc[test, "lat"] = leaked.loc[train, "lat"] + 0.001
    for name in ("sar_product", "datatake", "optical_product"):
        leaked.loc[test, name] = leaked.loc[train, name]
    found = audit_splits(leaked, THIRDS).to_json()
    assert not found["buffer_holds"]
    assert found["least_distance_km"]["train/test"] == pytest.approx(0.111, abs=1e-3)
    for name in ("sar_product", "datatake", "optical_product"):
        assert found[f"shared_{name}s"]["train/test"] == 1
        assert found[f"shared_{name}s"]["train/val"] == 0
    leaked.loc[test, "paired"] = False
    assert audit_splits(leaked, THIRDS).to_json()["shared_optical_products"]["train/test"] == 0


@pytest.mark.parametrize("block_km", [5.0, 50.0, 700.0])
@given(lon=st.floats(-180, 180), lat=st.floats(-90, 90))
def test_a_block_name_depends_on_its_point_alone(block_km, lon, lat):
    alone = block_names(np.array([lon]), np.array([lat]), block_km)[0]
    among = block_names(np.array([10.0, lon, -70.0]), np.array([80.0, lat, -3.0]), block_km)[1]
    assert alone == among
    assert block_names(np.array([lon + 360]), np.array([lat]), block_km)[0] == alone or abs(lon) == 180 or lon % 1


def test_blocks_have_about_the_same_size_everywhere():
    rng = np.random.default_rng(0)
    count, block_km = 400_000, 500.0
    names = block_names(rng.uniform(-180, 180, count), np.degrees(np.arcsin(rng.uniform(-1, 1, count))), block_km)
    area_km2 = 4 * np.pi * EARTH_RADIUS_KM**2 * np.unique(names, return_counts=True)[1] / count
    middle = np.quantile(area_km2, [0.05, 0.5, 0.95]) / block_km**2
    np.testing.assert_allclose(middle, [0.9, 1.0, 1.1], atol=0.06)


@given(
    sizes=st.lists(st.integers(1, 12), min_size=0, max_size=40),
    val_share=st.floats(0, 0.45),
    test_share=st.floats(0, 0.45),
    seed=st.integers(0, 100),
)
def test_blocks_stay_whole_and_shares_come_near(sizes, val_share, test_share, seed):
    blocks = np.repeat(np.array([f"b{i}" for i in range(len(sizes))], dtype=object), sizes)
    sides = assign_splits(blocks, val_share=val_share, test_share=test_share, seed=seed)
    assert all(len(set(sides[blocks == name])) == 1 for name in set(blocks))
    if sizes:
        assert (sides == 0).any()
    for side, share in ((1, val_share), (2, test_share)):
        taken = np.count_nonzero(sides == side)
        if share == 0:
            assert taken == 0
        elif len(sizes) >= 3:
            assert taken > 0
            # a block too large to help leaves at most its size; the smallest block may be more than was wished for
            assert taken - share * len(blocks) <= max(max(sizes) / 2, min(sizes, default=0) * 12)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [([6], [6, 0, 0]), ([4, 2], [4, 2, 0]), ([3, 1, 1, 1], [4, 1, 1]), ([1, 1, 1], [1, 1, 1]), ([9, 1, 5], [9, 1, 5])],
)
def test_few_places_leave_train_the_most(sizes, expected):
    blocks = np.repeat(np.array([f"b{i}" for i in range(len(sizes))], dtype=object), sizes)
    sides = assign_splits(blocks, val_share=0.05, test_share=0.05, seed=3)
    assert np.bincount(sides, minlength=3).tolist() == expected


def test_many_blocks_meet_the_shares_and_seldom_change_sides_when_others_join():
    blocks = np.repeat(np.array([f"b{i}" for i in range(2000)], dtype=object), 5)
    sides = assign_splits(blocks, val_share=0.05, test_share=0.1, seed=3)
    assert np.bincount(sides).tolist() == [8500, 500, 1000]
    part = assign_splits(blocks[:9000], val_share=0.05, test_share=0.1, seed=3)
    assert (part != sides[:9000]).mean() < 0.02
    assert (assign_splits(blocks, val_share=0.05, test_share=0.1, seed=4) != sides).mean() > 0.1


def test_two_near_places_are_all_train_rather_than_no_train():
    """Each patch is in a block of its own, but they are 3 km apart, so that the buffer would remove all of train."""
    table = candidate_table(2, lon=[4.0, 4.043], lat=[50.0, 50.0])
    config = SplitConfig(block_km=1.0, buffer_km=5.0, val_share=0.4, test_share=0.4)
    samples = choose(table, split=config).samples
    assert samples["block"].nunique() == 2
    assert samples["split"].tolist() == ["train", "train"]


def test_where_the_shares_take_the_last_of_train_the_rest_is_train():
    """Train may get the unpaired patch and one that the buffer removes: then too few are paired."""
    table = candidate_table(4, optical_product=["a", "b", "c", None], lon=[50.0, 50.1, 100.0, 0.0], lat=0.0)
    split = SplitConfig(block_km=5, buffer_km=30)
    emptied = 0
    for seed in range(30):
        selection = choose(table, balance=BalanceConfig(), split=split, seed=seed)
        assert (selection.samples["split"] == "train").any()
        lost = set(selection.rejected["reason"]) == {"unpaired_share", "split_buffer"}
        emptied += lost and set(selection.samples["split"]) == {"train"}
    assert emptied
