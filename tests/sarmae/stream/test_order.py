"""The order of samples: nothing lost or repeated, the same for every world size, and it goes on where it stopped."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sar1m.store.errors import ConfigError
from sarmae.stream.loader_settings import LoaderSettings
from sarmae.stream.order.sample_order import Order
from sarmae.stream.order.specification import OrderSpec, StoreShare

WORLDS = (1, 2, 4, 8)


def stores_of(*sizes):
    return tuple(StoreShare(name=f"/stores/{n}", digest=f"digest {n}", size=size) for n, size in enumerate(sizes))


def spec_of(*, stores, **of_loader):
    return OrderSpec(settings=LoaderSettings(**{"block": 16} | of_loader), stores=stores)


def changed_spec(spec, **changes):
    """With other stores, or other settings."""
    stores = changes.pop("stores", spec.stores)
    return OrderSpec(settings=replace(spec.settings, **changes), stores=stores)


@st.composite
def specs(draw, **fixed):
    batch = draw(st.sampled_from([8, 16, 24]))
    first = draw(st.integers(batch, 150))
    settings_of = {
        "seed": draw(st.integers(0, 2**40)),
        "global_batch": batch,
        "stores": stores_of(first, *draw(st.lists(st.integers(1, 60), max_size=2))),
        "order": draw(st.sampled_from(["full", "lanes"])),
        "block": draw(st.sampled_from([1, 3, 16])),
        "lanes": draw(
            st.sampled_from([8, batch, None if batch < 24 else 24])
        ),  # left out it is 12 of 24: not for 8 ranks
        "window": draw(st.sampled_from([1, 5, 32, None])),
        "tail": draw(st.sampled_from(["drop", "keep"])),
    }
    return spec_of(**settings_of | fixed)


def epoch_of(order, epoch):
    return [order.batch(epoch, step) for step in range(order.steps)]


# ---- an epoch ----


@given(specs(), st.integers(0, 1000))
def test_an_epoch_draws_every_sample_once_but_for_the_tail(spec, epoch):
    batches = epoch_of(Order(spec), epoch)
    drawn = np.concatenate(batches)
    assert len(np.unique(drawn)) == len(drawn)
    assert set(drawn) <= set(range(spec.samples))
    batch = spec.settings.global_batch
    whole, tail = divmod(spec.samples, batch)
    expected = [batch] * whole + [tail] * (spec.settings.tail == "keep" and tail > 0)
    assert [len(drawn) for drawn in batches] == expected


@given(specs(stores=stores_of(150, 60)), st.integers(0, 5))
def test_epochs_and_seeds_differ(spec, epoch):
    one = np.concatenate(epoch_of(Order(spec), epoch))
    other_seed = changed_spec(spec, seed=spec.settings.seed + 1)
    assert not np.array_equal(one, np.concatenate(epoch_of(Order(spec), epoch + 1)))
    assert not np.array_equal(one, np.concatenate(epoch_of(Order(other_seed), epoch)))


def test_windows_and_turns_of_stores_are_drawn_anew_each_epoch():
    one_block = spec_of(
        seed=1, global_batch=8, stores=stores_of(64), order="lanes", lanes=1, block=64, window=64, tail="keep"
    )
    in_windows = [np.concatenate(epoch_of(Order(one_block), epoch)).tolist() for epoch in range(3)]
    assert len({tuple(numbers) for numbers in in_windows}) == 3
    two_stores = Order(spec_of(seed=1, global_batch=8, stores=stores_of(64, 64)))
    turns = [two_stores.locate(np.concatenate(epoch_of(two_stores, epoch)))[0].tolist() for epoch in range(3)]
    assert len({tuple(stores) for stores in turns}) == 3


def test_the_dropped_tail_differs_between_epochs():
    order = Order(spec_of(seed=3, global_batch=40, stores=stores_of(100)))
    dropped = [set(range(100)) - set(np.concatenate(epoch_of(order, epoch))) for epoch in range(60)]
    assert all(len(tail) == 20 for tail in dropped)
    assert set.union(*dropped) == set(range(100))


@given(specs(), st.randoms(use_true_random=False))
def test_batches_do_not_depend_on_what_was_asked_before(spec, random):
    order = Order(spec)
    asked = [(epoch, step) for epoch in range(4) for step in range(order.steps)]
    in_turn = {place: order.batch(*place) for place in asked}
    random.shuffle(asked)
    again = Order(spec)
    for place in asked:
        assert np.array_equal(again.batch(*place), in_turn[place])


def test_a_batch_is_the_callers_own():
    order = Order(spec_of(seed=1, global_batch=8, stores=stores_of(64)))
    before = order.batch(0, 0)
    order.batch(0, 0)[:] = -1
    order.rank_batch(0, 0, 0, 2)[:] = -1
    assert np.array_equal(order.batch(0, 0), before)


def test_all_permutations_are_equally_likely():
    seen = {}
    for seed in range(4800):
        order = Order(spec_of(seed=seed, global_batch=4, stores=stores_of(4)))
        key = tuple(order.batch(0, 0))
        seen[key] = seen.get(key, 0) + 1
    assert len(seen) == 24
    assert sum((count - 200) ** 2 / 200 for count in seen.values()) < 49.7  # chi-square, 23 degrees, p = 0.001


@pytest.mark.parametrize(("epoch", "step"), [(-1, 0), (0, -1), (0, 8)])
def test_no_such_step(epoch, step):
    order = Order(spec_of(seed=1, global_batch=8, stores=stores_of(64)))
    with pytest.raises(IndexError, match="from 0 to 7"):
        order.batch(epoch, step)


# ---- ranks ----


@given(specs(), st.integers(0, 3), st.data())
def test_ranks_part_the_same_global_batch_for_every_world(spec, epoch, data):
    order = Order(spec)
    step = data.draw(st.integers(0, order.steps - 1))
    whole = order.batch(epoch, step)
    for world in WORLDS:
        parts = [Order(spec).rank_batch(epoch, step, rank, world) for rank in range(world)]
        assert sum(map(len, parts)) == len(whole)
        assert max(map(len, parts)) - min(map(len, parts)) <= (len(whole) % world > 0)
        rebuilt = np.full(len(whole), -1)
        for rank, part in enumerate(parts):
            rebuilt[rank::world] = part
        assert np.array_equal(rebuilt, whole)


@pytest.mark.parametrize("world", [2, 4, 8])
def test_a_block_is_read_by_one_rank_save_on_the_borders_of_lanes(world):
    spec = spec_of(seed=1, global_batch=32, stores=stores_of(5000), order="lanes", lanes=16, block=16, window=64)
    order = Order(spec)
    readers = {}
    for step in range(order.steps):
        for rank in range(world):
            for block in order.rank_batch(0, step, rank, world) // 16:
                readers.setdefault(block, set()).add(rank)
    assert len(readers) == -(-5000 // 16)
    assert sum(len(ranks) > 1 for ranks in readers.values()) <= 16 - 1


@pytest.mark.parametrize(("mode", "world"), [("full", 3), ("full", 0), ("lanes", 16), ("lanes", 3)])
def test_a_world_that_does_not_divide_is_refused(mode, world):
    order = Order(spec_of(seed=1, global_batch=16, stores=stores_of(64), order=mode, lanes=8))
    name, allowed = ("lanes = 8", r"\[1, 2, 4, 8\]") if mode == "lanes" else ("global_batch = 16", "4, 8, 16")
    with pytest.raises(ConfigError, match=f"world size {world}: .*{name}.*{allowed}"):
        order.rank_batch(0, 0, 0, world)


@pytest.mark.parametrize("rank", [-1, 2])
def test_a_rank_outside_the_world_is_refused(rank):
    order = Order(spec_of(seed=1, global_batch=16, stores=stores_of(64)))
    with pytest.raises(ConfigError, match=f"rank {rank}: expected 0 to 1"):
        order.rank_batch(0, 0, rank, 2)


# ---- lanes ----


def test_lanes_mix_blocks_as_theory_says():
    """Two of the g samples that a lane gives share a block with probability (block - 1) / (window - 1)."""
    block, window, lanes, batch = 16, 64, 8, 64
    spec = spec_of(
        seed=5, global_batch=batch, stores=stores_of(64_000), order="lanes", lanes=lanes, block=block, window=window
    )
    order = Order(spec)
    blocks = np.stack(epoch_of(order, 0)) // block
    pairs = sum(
        (counts * (counts - 1)).sum() / 2 for counts in (np.unique(row, return_counts=True)[1] for row in blocks)
    )
    per_lane = batch // lanes
    expected = order.steps * lanes * per_lane * (per_lane - 1) / 2 * (block - 1) / (window - 1)
    assert pairs == pytest.approx(expected, rel=0.1)  # borders of blocks within windows take a few per cent


def test_with_a_lane_for_each_sample_no_batch_holds_two_of_a_block():
    spec = spec_of(seed=5, global_batch=32, stores=stores_of(32 * 16 * 10), order="lanes", lanes=32, window=512)
    order = Order(spec)
    for batch in epoch_of(order, 0):
        assert len(np.unique(batch // 16)) == 32


def test_reads_spread_evenly_over_the_steps():
    spec = spec_of(seed=5, global_batch=32, stores=stores_of(32 * 160), order="lanes", lanes=32, block=16, window=16)
    order = Order(spec)
    fresh = np.zeros(order.steps, dtype=int)
    for block in order.upcoming(0, 0, order.steps):
        fresh[block.step] += 1
    assert fresh.sum() == 320
    assert fresh[16:].max() <= 6  # 2 on average; 32 at once if all lanes changed windows together


@given(specs(), st.integers(1, 12), st.data())
def test_upcoming_names_every_block_once_when_it_is_first_needed(spec, count, data):
    order = Order(spec)
    step = data.draw(st.integers(0, order.steps - 1))
    world = data.draw(st.sampled_from(WORLDS))
    rank = data.draw(st.integers(0, world - 1))
    size = spec.block if spec.in_lanes else 1
    wanted = {}
    for later in range(step, min(step + count, order.steps)):
        stores, places = order.locate(order.rank_batch(1, later, rank, world))
        for store, place in zip(stores.tolist(), places.tolist(), strict=True):
            start = place // size * size
            wanted.setdefault((store, start, min(start + size, spec.stores[store].size)), later)
    found = order.upcoming(1, step, count, rank, world)
    assert {(block.store, block.start, block.stop): block.step for block in found} == wanted
    assert len(found) == len(wanted)
    assert all(one.step <= other.step for one, other in pairwise(found))


@given(st.lists(st.integers(1, 50), min_size=1, max_size=5))
def test_locate_finds_the_store_and_the_place(sizes):
    order = Order(spec_of(seed=0, global_batch=1, stores=stores_of(*sizes)))
    stores, places = order.locate(np.arange(sum(sizes)))
    expected = [(store, place) for store, size in enumerate(sizes) for place in range(size)]
    assert list(zip(stores.tolist(), places.tolist(), strict=True)) == expected
    with pytest.raises(IndexError, match=rf"\[0, {sum(sizes)}\)"):
        order.locate(np.array([sum(sizes)]))


# ---- going on ----


@given(specs(), st.data())
def test_a_run_goes_on_with_the_next_batch_at_any_world_size(spec, data):
    undisturbed = Order(spec)
    whole = [*epoch_of(undisturbed, 0), *epoch_of(undisturbed, 1)]
    done = data.draw(st.integers(0, undisturbed.steps))
    saved = json.loads(json.dumps(undisturbed.state(0, done).state_dict()))
    resumed = Order(spec)
    epoch, step = resumed.resume(saved)
    assert epoch * resumed.steps + step == done
    world = data.draw(st.sampled_from(WORLDS))
    for expected in whole[done:]:
        found = np.empty_like(expected)
        for rank in range(world):
            found[rank::world] = resumed.rank_batch(epoch, step, rank, world)
        assert np.array_equal(found, expected)
        epoch, step = (epoch, step + 1) if step + 1 < resumed.steps else (epoch + 1, 0)


LANES = spec_of(seed=7, global_batch=8, stores=stores_of(40, 60), order="lanes", lanes=8, block=4, window=16)


@pytest.mark.parametrize(
    ("field", "changed"),
    [
        ("seed", {"seed": 8}),
        ("global_batch", {"global_batch": 16}),
        ("keep_tail", {"tail": "keep"}),
        ("mode", {"order": "full"}),
        ("block", {"block": 8}),
        ("lanes", {"lanes": 4}),
        ("window", {"window": 32}),
        ("sizes", {"stores": stores_of(40, 61)}),
        ("stores", {"stores": stores_of(40, 60)[::-1]}),
        ("weights", {"weights": (1, 2)}),
    ],
)
def test_the_state_of_another_order_is_refused(field, changed):
    saved = Order(LANES).state(1, 2).state_dict()
    other = Order(changed_spec(LANES, **changed))
    found, expected = saved[field], other.state(0, 0).state_dict()[field]
    with pytest.raises(ConfigError) as refusal:
        other.resume(saved)
    assert f"{field} is {found!r} in the state, expected {expected!r}" in str(refusal.value)
    assert "World size, workers and threads may change" in str(refusal.value)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("version", 2, "version is 2 in the state, expected 1 .* Finish this run with the version"),
        ("version", None, "version is None"),
        ("step", 13, "step is 13, expected at most 12"),
        ("step", -1, "step is -1"),
        ("step", 1.0, "step is 1.0"),
        ("epoch", True, "epoch is True"),
        ("extra", 1, r"\['extra'\] are missing or unknown"),
    ],
)
def test_a_damaged_state_is_refused(field, value, words):
    order = Order(LANES)
    with pytest.raises(ConfigError, match=words):
        order.resume(order.state(1, 2).state_dict() | {field: value})


def test_a_state_with_a_field_missing_is_refused():
    saved = Order(LANES).state(1, 2).state_dict()
    del saved["window"]
    with pytest.raises(ConfigError, match=r"\['window'\] are missing or unknown"):
        Order(LANES).resume(saved)


def test_a_store_may_move_and_settings_of_lanes_do_not_bind_mode_full():
    moved = tuple(StoreShare(**vars(store) | {"name": "elsewhere"}) for store in LANES.stores)
    full = changed_spec(LANES, order="full")
    saved = Order(full).state(1, 2).state_dict()
    assert Order(changed_spec(full, stores=moved, block=32, lanes=2)).resume(saved) == (1, 2)


# ---- what cannot be ----


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"order": "random"}, "order is 'random', expected 'full'"),
        ({"lanes": 3}, r"lanes is 3 and global_batch 8: .*\[1, 2, 4, 8\]"),
        ({"block": 0}, "block is 0, expected at least 1"),
        ({"window": 0}, "window is 0, expected at least 1"),
        ({"seed": -1}, "seed is -1, expected at least 0"),
        ({"global_batch": 128}, "global_batch is 128 and the stores hold 100 samples"),
        ({"stores": ()}, "stores is empty"),
        ({"weights": (1.0,)}, "weights: found 1 for 2 stores"),
        ({"unpaired_share": 1.5}, "unpaired_share is 1.5, expected 0 to 1"),
        ({"unpaired_share": float("nan")}, "unpaired_share is nan"),
    ],
)
def test_a_specification_that_cannot_be_is_refused(changed, words):
    with pytest.raises(ConfigError, match=words):
        changed_spec(LANES, **changed)


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused(weight):
    with pytest.raises(ConfigError, match=f"/stores/0: weight {weight}"):
        spec_of(stores=stores_of(10), global_batch=2, weights=(weight,))


def test_an_empty_store_is_refused():
    with pytest.raises(ConfigError, match="/stores/0: 0 samples"):
        stores_of(0)


@pytest.mark.parametrize(("batch", "lanes", "window"), [(8, 8, 64), (256, 16, 64), (4096, 16, 64), (1021, 1, 64)])
def test_lanes_and_window_follow_the_batch_where_left_out(batch, lanes, window):
    spec = spec_of(seed=0, global_batch=batch, stores=stores_of(5000), order="lanes")
    assert (spec.lanes, spec.window) == (lanes, window)


# ---- golden values: if one changes, raise ALGORITHM_VERSION, or every running training comes to harm ----


def test_golden_full():
    order = Order(spec_of(seed=20251216, global_batch=8, stores=stores_of(1_000_003)))
    assert order.batch(0, 0).tolist() == GOLDEN_FULL
    assert order.batch(3, 125_000 - 1).tolist() == GOLDEN_FULL_LATER


def test_golden_lanes():
    spec = spec_of(
        seed=20251216, global_batch=8, stores=stores_of(1000, 77), order="lanes", lanes=4, block=16, window=64
    )
    assert Order(spec).batch(0, 0).tolist() == GOLDEN_LANES
    assert Order(spec).batch(2, 130).tolist() == GOLDEN_LANES_LATER


def test_golden_mix():
    stores = stores_of(500, 100)
    flags = [np.arange(500) % 4 > 0, np.arange(100) % 2 > 0]
    spec = spec_of(seed=20251216, global_batch=10, stores=stores, weights=(1.0, 3.0), unpaired_share=0.3)
    assert Order(spec, flags).batch(5, 7).tolist() == GOLDEN_MIX


@pytest.mark.parametrize("order", ["full", "lanes"])
def test_a_run_goes_on_from_a_state_that_an_earlier_version_saved(order):
    saved, batch = EARLIER_STATES[order]
    flags = [np.arange(40) % 4 > 0, np.arange(60) % 2 > 0]
    mixed = {"weights": (1.0, 3.0), "unpaired_share": 0.3, "tail": "keep"} if order == "lanes" else {}
    spec = spec_of(stores=stores_of(40, 60), seed=7, global_batch=8, order=order, block=32, lanes=8, **mixed)
    resumed = Order(spec, flags)
    assert resumed.resume(saved) == (3, 5)
    assert resumed.state(3, 5).state_dict() == saved
    assert resumed.batch(3, 5).tolist() == batch


# as sarmae wrote them when `mode` and `keep_tail` were names of settings too
EARLIER_STATES = {
    "lanes": (
        {
            "version": 1,
            "mode": "lanes",
            "seed": 7,
            "global_batch": 8,
            "keep_tail": True,
            "stores": ["digest 0", "digest 1"],
            "sizes": [40, 60],
            "weights": [1.0, 3.0],
            "unpaired_share": 0.3,
            "paired_digest": "55a5ab83353f1ca7bb919cdefbacd044",
            "block": 32,
            "lanes": 8,
            "window": 64,
            "epoch": 3,
            "step": 5,
        },
        [37, 63, 93, 59, 95, 1, 56, 88],
    ),
    "full": (
        {
            "version": 1,
            "mode": "full",
            "seed": 7,
            "global_batch": 8,
            "keep_tail": False,
            "stores": ["digest 0", "digest 1"],
            "sizes": [40, 60],
            "weights": [None, None],
            "unpaired_share": None,
            "paired_digest": None,
            "block": None,
            "lanes": None,
            "window": None,
            "epoch": 3,
            "step": 5,
        },
        [94, 99, 18, 68, 10, 27, 43, 49],
    ),
}
GOLDEN_FULL = [527412, 772723, 737166, 242798, 832564, 155027, 507393, 444297]
GOLDEN_FULL_LATER = [131374, 925224, 512952, 640157, 848793, 456108, 145565, 441711]
GOLDEN_LANES = [438, 1048, 1044, 699, 491, 91, 1045, 696]
GOLDEN_LANES_LATER = [141, 651, 1034, 840, 138, 653, 1042, 709]
GOLDEN_MIX = [583, 575, 591, 368, 524, 510, 597, 594, 343, 523]
