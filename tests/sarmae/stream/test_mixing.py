"""Stores by weight and a set share of unpaired samples: exact to a sample, and nobody drawn twice before the others."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sar1m.store.errors import ConfigError
from sarmae.stream.loader_settings import LoaderSettings
from sarmae.stream.order.mixing import apportion, mix_of
from sarmae.stream.order.sample_order import Order
from sarmae.stream.order.specification import OrderSpec, StoreShare

MODES = st.sampled_from(["full", "lanes"])


def spec_of(sizes, weights=None, **more):
    stores = tuple(StoreShare(name=f"/stores/{n}", digest=f"digest {n}", size=size) for n, size in enumerate(sizes))
    standard = {"seed": 11, "global_batch": 4, "tail": "keep", "block": 8, "window": 16}
    settings_of = {**standard, "weights": weights and tuple(weights), **more}
    return OrderSpec(settings=LoaderSettings(**settings_of), stores=stores)


def drawn_in(order, epochs):
    return np.concatenate([order.batch(epoch, step) for epoch in epochs for step in range(order.steps)])


def flags_of(size, unpaired):
    """`unpaired` of them False, spread over the store."""
    flags = np.ones(size, dtype=bool)
    flags[np.linspace(0, size - 1, unpaired).astype(int)] = False
    return flags


weighted = st.lists(st.tuples(st.integers(2, 90), st.floats(0.05, 20)), min_size=1, max_size=4)


# ---- shares ----


@given(st.integers(0, 10**7), st.lists(st.floats(0, 1e6) | st.integers(0, 10**6), min_size=1, max_size=8))
def test_apportioned_numbers_sum_up_and_lie_within_one(total, weights):
    assume(any(weights))
    shares = apportion(total, weights)
    assert sum(shares) == total
    whole = sum(map(Fraction, weights))
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share - total * Fraction(weight) / whole) < 1


def test_what_is_left_goes_to_the_largest_remainders_first_come_first_served():
    assert apportion(10, [1, 1, 1]) == [4, 3, 3]
    assert apportion(7, [0.5, 0.0, 2.5]) == [1, 0, 6]


@given(weighted, MODES, st.integers(0, 4))
def test_weights_are_met_within_one_sample_an_epoch(pairs, mode, epoch):
    sizes, weights = map(list, zip(*pairs, strict=True))
    total, whole = sum(sizes), sum(map(Fraction, weights))
    assume(total >= 4 and all(total * Fraction(weight) / whole >= 1 for weight in weights))
    order = Order(spec_of(sizes, weights, order=mode))
    counts = np.bincount(order.locate(drawn_in(order, [epoch]))[0], minlength=len(sizes))
    assert counts.sum() == total
    for count, weight in zip(counts.tolist(), weights, strict=True):
        assert abs(count - total * Fraction(weight) / whole) < 1


@given(st.lists(st.tuples(st.integers(4, 80), st.integers(1, 3)), min_size=1, max_size=3), st.floats(0, 1), MODES)
def test_the_unpaired_share_is_met_within_one_sample_an_epoch(stores, share, mode):
    sizes = [size for size, _ in stores]
    flags = [flags_of(size, unpaired) for size, unpaired in stores]
    order = Order(spec_of(sizes, order=mode, unpaired_share=share), flags)
    for epoch in (0, 3):
        unpaired = ~np.concatenate(flags)[drawn_in(order, [epoch])]
        assert len(unpaired) == sum(sizes)
        assert abs(unpaired.sum() - share * sum(sizes)) <= 0.5


@given(st.lists(st.tuples(st.integers(10, 80), st.floats(0.5, 2)), min_size=1, max_size=3), st.floats(0, 1), MODES)
def test_weights_and_the_unpaired_share_are_met_together(stores, share, mode):
    sizes, weights = map(list, zip(*stores, strict=True))
    flags = [flags_of(size, 3) for size in sizes]
    order = Order(spec_of(sizes, weights, order=mode, unpaired_share=share), flags)
    drawn = drawn_in(order, [2])
    counts = np.bincount(order.locate(drawn)[0], minlength=len(sizes))
    whole = sum(map(Fraction, weights))
    assert all(abs(c - sum(sizes) * Fraction(w) / whole) < 1 for c, w in zip(counts.tolist(), weights, strict=True))
    assert abs((~np.concatenate(flags)[drawn]).sum() - share * sum(sizes)) <= 0.5


def test_stores_of_one_kind_give_that_kind_and_the_others_fill_up():
    flags = [np.ones(40, dtype=bool), np.zeros(40, dtype=bool), flags_of(40, 10)]
    order = Order(spec_of([40, 40, 40], [2, 1, 1], unpaired_share=0.4), flags)
    drawn = drawn_in(order, [0])
    store, _ = order.locate(drawn)
    unpaired = ~np.concatenate(flags)[drawn]
    assert np.bincount(store).tolist() == [60, 30, 30]
    assert np.bincount(store, unpaired).tolist() == [0, 30, 18]


def test_no_share_leaves_the_stores_as_they_are():
    flags = [flags_of(60, 7)]
    order = Order(spec_of([60]), flags)
    assert (~flags[0][drawn_in(order, [0])]).sum() == 7


# ---- who is drawn ----


@given(weighted, MODES, st.integers(1, 5))
def test_no_sample_is_two_draws_ahead_of_another_of_its_store(pairs, mode, epochs):
    sizes, weights = map(list, zip(*pairs, strict=True))
    total, whole = sum(sizes), sum(map(Fraction, weights))
    assume(total >= 4 and all(total * Fraction(weight) / whole >= 1 for weight in weights))
    order = Order(spec_of(sizes, weights, order=mode))
    counts = np.bincount(drawn_in(order, range(epochs)), minlength=total)
    for store in np.split(counts, np.cumsum(sizes)[:-1]):
        assert store.max() - store.min() <= 1


@given(st.integers(4, 40), st.integers(4, 40), st.floats(0.1, 10))
def test_in_mode_full_none_comes_again_before_all_of_its_store_came(one, other, weight):
    order = Order(spec_of([one, other], [1, weight]))
    drawn = drawn_in(order, range(4))
    for numbers, start, size in ((drawn[drawn < one], 0, one), (drawn[drawn >= one], one, other)):
        for cycle in range(len(numbers) // size):
            round_of = numbers[cycle * size : (cycle + 1) * size]
            assert sorted(round_of) == list(range(start, start + size))


def test_a_store_drawn_from_sparingly_still_gets_through_all_its_samples():
    order = Order(spec_of([100, 100], [9, 1]))
    drawn = drawn_in(order, range(5))
    assert sorted(drawn[drawn >= 100]) == list(range(100, 200))


def test_rounds_of_the_same_store_differ():
    order = Order(spec_of([30], unpaired_share=0.5), [flags_of(30, 3)])
    unpaired = np.flatnonzero(~flags_of(30, 3))
    drawn = drawn_in(order, range(4))
    rounds = drawn[np.isin(drawn, unpaired)].reshape(-1, 3)
    assert len(rounds) == 20
    assert len(np.unique(rounds, axis=0)) == 6


@pytest.mark.parametrize(("mode", "spread"), [("full", 1), ("lanes", 8)])
def test_kinds_and_stores_are_spread_over_the_whole_epoch(mode, spread):
    flags = [flags_of(20_000, 2000), flags_of(10_000, 3000)]
    spec = spec_of([20_000, 10_000], [1, 3], order=mode, unpaired_share=0.25, global_batch=8, lanes=8, window=64)
    order = Order(spec, flags)
    drawn = drawn_in(order, [1]).reshape(10, -1)
    unpaired = (~np.concatenate(flags)[drawn]).mean(axis=1)
    second = (order.locate(drawn)[0] == 1).mean(axis=1)
    deviation = np.sqrt(0.25 * 0.75 / drawn.shape[1] * spread)
    assert np.abs(unpaired - 0.25).max() < 5 * deviation
    assert np.abs(second - 0.75).max() < 5 * deviation


def test_a_few_samples_drawn_very_often():
    flags = [flags_of(100_000, 3)]
    order = Order(spec_of([100_000], unpaired_share=0.5, global_batch=1000), flags)
    counts = np.bincount(drawn_in(order, [7]), minlength=100_000)[~flags[0]]
    assert counts.sum() == 50_000
    assert counts.max() - counts.min() <= 1


# ---- what cannot be ----


@pytest.mark.parametrize(
    ("flags", "share", "words"),
    [
        ([np.ones(20, dtype=bool)], 0.2, "unpaired_share is 0.2 and the stores hold no unpaired sample. Use 0,"),
        ([np.zeros(20, dtype=bool)], 0.2, "unpaired_share is 0.2 and the stores hold no paired sample. Use 1,"),
        ([], 0.2, r"flags of every store, \[20\] of them, found \[\]"),
        ([np.ones(19, dtype=bool)], 0.2, r"flags of every store, \[20\] of them, found \[19\]"),
    ],
)
def test_a_share_that_cannot_be_had_is_refused(flags, share, words):
    with pytest.raises(ConfigError, match=words):
        Order(spec_of([20], unpaired_share=share), flags)


def test_a_share_that_the_weights_forbid_is_refused_with_the_range():
    flags = [np.ones(40, dtype=bool), flags_of(40, 10)]
    with pytest.raises(ConfigError, match=r"asks for 40 unpaired samples of an epoch's 80.* a share from 0 to 0\.25"):
        mix_of(spec_of([40, 40], [3, 1], unpaired_share=0.5), flags)


def test_a_weight_too_small_for_a_sample_is_refused():
    with pytest.raises(ConfigError, match=r"/stores/1: weight 0\.001 gives it no sample"):
        mix_of(spec_of([40, 40], [3, 0.001]), ())


def test_flags_that_changed_are_noticed_where_they_matter():
    before, after = [flags_of(40, 10)], [flags_of(40, 11)]
    shared = spec_of([40], unpaired_share=0.5)
    saved = Order(shared, before).state(0, 3).state_dict()
    assert Order(shared, before).resume(saved) == (0, 3)
    with pytest.raises(ConfigError, match=r"paired_digest is .* paired flags changed"):
        Order(shared, after).resume(saved)
    with pytest.raises(ConfigError, match=r"unpaired_share is 0\.5 in the state, expected 0\.25"):
        Order(spec_of([40], unpaired_share=0.25), before).resume(saved)
    plain = spec_of([40])
    assert Order(plain, after).resume(Order(plain, before).state(0, 3).state_dict()) == (0, 3)
