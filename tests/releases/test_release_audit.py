"""Splits that stay, and an audit that finds what leaks."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sar1m.config import SplitConfig
from sar1m.releases.audit import Fixed, audit_splits, draw_splits, number
from sar1m.store.schema import SPLITS
from support.examples import examples
from support.made_releases import samples_of

CONFIG = SplitConfig(block_km=20, buffer_km=1, val_share=0.2, test_share=0.2)
WIDE = CONFIG.model_copy(update={"buffer_km": 8.0})  # many samples stand in the gap
FREE = Fixed(blocks={}, sample_ids=frozenset())


def scattered(count, seed=0):
    """Samples of made-up places over a region of 3 degrees."""
    rng = np.random.default_rng(seed)
    lon, lat = rng.uniform(10, 13, count), rng.uniform(40, 43, count)
    return pd.DataFrame(
        {
            "sample_id": [f"s{seed}-{n}" for n in range(count)],
            "patch": [f"p{seed}-{n}" for n in range(count)],
            "lon": lon,
            "lat": lat,
            "paired": True,
            "sar_product": [f"product{n % 7}" for n in range(count)],
            "datatake": "A",
            "optical_product": "O",
            "phash": rng.integers(1, 2**62, count),
        }
    )


def placed(samples, fixed=FREE, config=CONFIG):
    drawn, near = draw_splits(samples, config, 7, fixed)
    return drawn.drop(index=drawn.index[near.rows]).reset_index(drop=True)


def test_drawn_splits_hold():
    samples = placed(scattered(400))
    audit = audit_splits(samples, CONFIG, 4)
    assert audit["holds"]
    assert audit["problems"] == []
    assert min(audit["samples"].values()) > 20
    assert all(km >= 1 for km in audit["least_distance_km"].values())
    assert audit["shared_sar_products"]["train/test"] == 7


def bad(kind):
    """A made-up bad split of each kind, and the words by which the audit must name it."""
    samples = placed(scattered(400))
    train, test = (samples.index[samples["split"] == split] for split in ("train", "test"))
    if kind == "distance":
        samples.loc[test[0], "lon"] = samples.loc[train[0], "lon"]
        samples.loc[test[0], "lat"] = samples.loc[train[0], "lat"] + 0.001
        return samples, "train/test: the nearest two samples are 0.111 km apart"
    if kind == "block":
        inside = samples.index[samples["block"] == samples.loc[train[0], "block"]]
        samples.loc[inside[0], "split"] = "val"
        return samples, f"1 blocks stand in two splits, first {samples.loc[train[0], 'block']}"
    if kind == "patch":
        samples.loc[test[0], "patch"] = samples.loc[train[0], "patch"]
        return samples, "1 patches stand in two splits"
    samples.loc[test[0], "phash"] = samples.loc[train[0], "phash"] ^ (0b11 if kind == "near" else 0)
    return samples, f"first ['{train_first(samples, train, test)}"


def train_first(samples, train, test):
    return min(samples.loc[train[0], "sample_id"], samples.loc[test[0], "sample_id"])


@pytest.mark.parametrize("kind", ["distance", "block", "patch", "near", "copy"])
def test_a_bad_split_is_found_and_named(kind):
    samples, words = bad(kind)
    audit = audit_splits(samples, CONFIG, 4)
    assert not audit["holds"]
    assert any(words in problem for problem in audit["problems"]), audit["problems"]
    if kind in ("near", "copy"):
        assert audit["near_duplicates"]["count"] == 1
        assert audit["near_duplicates"]["first"][0][2] == (2 if kind == "near" else 0)


def test_a_real_store_with_one_sample_moved_is_found(built):
    samples = samples_of(built.large).reset_index(drop=True)
    assert audit_splits(samples, CONFIG, 4)["holds"]
    crowded = samples[samples["split"] == "train"]["block"].value_counts().index[0]
    samples.loc[samples.index[samples["block"] == crowded][0], "split"] = "test"
    assert len(audit_splits(samples, CONFIG, 4)["problems"]) == 2  # of the block, and of the gap


@examples(0.3)
@given(st.integers(1, 10**6), st.integers(1, 200))
def test_adding_samples_moves_and_removes_none(seed, count):
    former = placed(scattered(150), config=WIDE)
    fixed = Fixed(
        blocks=dict(zip(former["block"], former["split"], strict=True)), sample_ids=frozenset(former["sample_id"])
    )
    both = pd.concat([scattered(count, seed), former[scattered(1).columns]], ignore_index=True)
    later = placed(both, fixed, WIDE)
    now = dict(zip(later["sample_id"], later["split"], strict=True))
    assert {name: now.get(name) for name in former["sample_id"]} == dict(
        zip(former["sample_id"], former["split"], strict=True)
    )
    audit = audit_splits(later, WIDE, 0)
    assert audit["buffer_holds"]
    assert audit["blocks_in_two_splits"]["count"] == 0


def test_new_blocks_fall_into_all_splits_by_their_share():
    former = placed(scattered(20))
    fixed = Fixed(
        blocks=dict(zip(former["block"], former["split"], strict=True)), sample_ids=frozenset(former["sample_id"])
    )
    wide = scattered(3000, 3)
    wide["lon"], wide["lat"] = (wide["lon"] - 10) * 30, (wide["lat"] - 40) * 15
    drawn, _ = draw_splits(pd.concat([wide, former[wide.columns]], ignore_index=True), CONFIG, 7, fixed)
    shares = drawn["split"].value_counts(normalize=True)
    assert shares["val"] == pytest.approx(0.2, abs=0.04)
    assert shares["test"] == pytest.approx(0.2, abs=0.04)


@examples(0.3)
@given(st.permutations(range(60)), st.sets(st.integers(0, 59), max_size=50))
def test_the_order_depends_on_names_alone(order, without):
    samples = scattered(60).assign(split=[SPLITS[n % 3] for n in range(60)])
    whole = number(samples, 8, 5)
    assert number(samples.iloc[order], 8, 5)["sample_id"].tolist() == whole["sample_id"].tolist()
    fewer = number(samples.drop(index=list(without)), 8, 5)["sample_id"].tolist()
    assert fewer == [name for name in whole["sample_id"] if name in set(fewer)]
    assert whole["shard"].tolist() == (whole["index"] // 8).tolist()
    assert whole["sample_id"].tolist() != samples.sort_values("split")["sample_id"].tolist()
