"""Splits by groups: whole, balanced, pure; the dataset's own split without what leaks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sar1m.store.errors import ConfigError
from sarmae.evaluate.label_splits import SplitSamples, SplitShares, assign_splits, contradictions, split_groups
from sarmae.evaluate.study_config import DatasetConfig


def config(**keys):
    return DatasetConfig(kind="folders", path="nowhere", **keys)


def samples(groups, labels=None, own=None, **attributes):
    groups = np.asarray(groups)
    return SplitSamples(
        groups=groups,
        labels=np.zeros(len(groups), dtype=np.int64) if labels is None else np.asarray(labels),
        own=np.full(len(groups), "") if own is None else np.array(own),
        attributes={name: np.array(column) for name, column in attributes.items()},
    )


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), min_size=1, max_size=120), st.integers(0, 9))
def test_groups_stay_whole_and_the_draw_is_pure(pairs, seed):
    groups, labels = (np.array(column) for column in zip(*pairs, strict=True))
    shares = SplitShares(val=0.15, test=0.3)
    splits = split_groups(groups, labels, shares, seed)
    assert all(len(set(splits[groups == group])) == 1 for group in set(groups))
    assert (splits == split_groups(groups, labels, shares, seed)).all()


@given(st.lists(st.integers(2, 25), min_size=2, max_size=5), st.integers(0, 9))
def test_every_class_is_taught_and_tested(groups_by_class, seed):
    labels = np.repeat(np.arange(len(groups_by_class)), groups_by_class)
    splits = split_groups(np.arange(len(labels)), labels, SplitShares(val=0.15, test=0.3), seed)
    for kind in range(len(groups_by_class)):
        assert {"train", "test"} <= set(splits[labels == kind])


def test_shares_hold_by_class():
    labels = np.repeat([0, 1, 2], [200, 100, 40])
    splits = split_groups(np.arange(340), labels, SplitShares(val=0.15, test=0.3), 0)
    for kind, count in enumerate((200, 100, 40)):
        assert (splits[labels == kind] == "test").sum() == pytest.approx(0.3 * count, abs=1.01)
        assert (splits[labels == kind] == "val").sum() == pytest.approx(0.15 * count, abs=1.01)


def test_another_seed_draws_another_split():
    labels = np.zeros(60, dtype=np.int64)
    drawn = [split_groups(np.arange(60), labels, SplitShares(val=0, test=0.3), seed) for seed in (0, 1)]
    assert (drawn[0] != drawn[1]).any()
    assert "val" not in drawn[0]


def test_shares_that_leave_nothing_to_teach_are_refused():
    with pytest.raises(ConfigError, match=r"no samples are left for train"):
        assign_splits(config(val_share=0.6, test_share=0.4), samples(range(9)))


def test_the_datasets_own_split_is_taken_and_val_comes_out_of_train():
    own = ["train"] * 40 + ["test"] * 10
    assigned = assign_splits(config(val_share=0.25), samples(range(50), own=own))
    assert (assigned.splits[40:] == "test").all()
    assert (assigned.splits[:40] == "val").sum() == 10
    assert "val: 25% of train" in assigned.notes[1]


def test_a_val_split_alone_is_tested():
    assigned = assign_splits(config(val_share=0), samples(range(6), own=["train"] * 4 + ["val"] * 2))
    assert assigned.splits.tolist() == ["train"] * 4 + ["test"] * 2
    assert "its val split serves as test split" in assigned.notes[0]


def test_what_leaks_is_left_out_of_the_lower_split():
    own = ["train", "train", "train", "val", "val", "test", "test"]
    assigned = assign_splits(config(), samples([0, 1, 2, 1, 3, 0, 3], own=own))
    assert assigned.kept.tolist() == [2, 3, 5, 6]  # 0 is tested, 1 is validated, 4 is tested
    assert assigned.splits.tolist() == ["train", "val", "test", "test"]
    assert "3 of 5 samples of train and val are near-copies of samples of a later split; left out" in assigned.notes


def test_a_trusted_split_keeps_what_leaks_and_counts_it():
    own = ["train", "train", "val", "test"]
    assigned = assign_splits(config(trust_split=True), samples([5, 6, 6, 5], own=own))
    assert assigned.kept.tolist() == [0, 1, 2, 3]
    assert assigned.splits.tolist() == own
    assert len(set(assigned.groups)) == 4  # no group in two splits
    assert "2 of 3 samples" in assigned.notes[-1]
    assert "trust_split" in assigned.notes[-1]


def test_held_out_values_are_tested_and_their_copies_never_taught():
    assigned = assign_splits(
        config(hold_out="country=PRT, FRA", val_share=0),
        samples(
            [0, 1, 2, 2, 4], own=["train", "test", "test", "train", "val"], country=["PRT", "ESP", "FRA", "ESP", "X"]
        ),
    )
    assert assigned.kept.tolist() == [0, 1, 2, 4]
    assert assigned.splits.tolist() == ["test", "train", "test", "train"]
    assert "1 others left out: near-copies of samples of the test split" in assigned.notes


@pytest.mark.parametrize(
    ("hold_out", "message"),
    [("region=PRT", "no attribute 'region'"), ("country=PRT,XXX", "no sample has 'XXX'"), ("country=PRT,ESP", "every")],
)
def test_a_hold_out_that_holds_nothing_or_everything_is_refused(hold_out, message):
    with pytest.raises(ConfigError, match=message):
        assign_splits(config(hold_out=hold_out), samples(range(4), country=["PRT", "PRT", "ESP", "ESP"]))


def test_contradicting_labels_of_copies_are_counted():
    assert contradictions(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 0])) == 1
