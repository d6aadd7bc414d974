"""Choices of scenes and partners against a search through all pairs."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sar1m.core.pairing import (
    CLOUD_DAYS,
    DAY_S,
    CoverTable,
    OpticalPasses,
    PairingRules,
    SarPasses,
    cheapest,
    choose_scenes,
    nearest_partner,
)
from support.examples import examples

RULES = PairingRules(scenes_per_cell=1, seasons=1, pair_days=15.0, max_cloud_frac=0.2, min_cover=0.99, orbit="any")


@st.composite
def worlds(draw):
    """A few cells and scenes with coarse times and covers, so that ties happen."""
    cells, count_sar, count_optical = draw(st.integers(1, 4)), draw(st.integers(0, 7)), draw(st.integers(0, 7))
    days = st.integers(0, 60).map(float)
    cover = st.sampled_from([0.0, 0.5, 0.995, 1.0])

    def covers(count):
        rows = draw(st.lists(st.lists(cover, min_size=count, max_size=count), min_size=cells, max_size=cells))
        return np.asarray(rows, dtype=np.float32).reshape(cells, count)

    sar_days = draw(st.lists(days, min_size=count_sar, max_size=count_sar))
    optical_days = draw(st.lists(days, min_size=count_optical, max_size=count_optical))
    directions = st.sampled_from(["ascending", "descending", ""])
    clouds = st.sampled_from([0.0, 0.1, 0.3, float("nan")])
    sar = SarPasses(
        name=[f"s{number}" for number in range(count_sar)],
        time_s=np.asarray(sar_days, dtype=np.float64) * DAY_S,
        direction=draw(st.lists(directions, min_size=count_sar, max_size=count_sar)),
        quarter=np.asarray([int(day // 20) for day in sar_days], dtype=np.int64),
    )
    optical = OpticalPasses(
        name=[f"o{number}" for number in range(count_optical)],
        time_s=np.asarray(optical_days, dtype=np.float64) * DAY_S,
        cloud_frac=np.asarray(draw(st.lists(clouds, min_size=count_optical, max_size=count_optical)), dtype=np.float64),
    )
    return sar, optical, CoverTable(sar=covers(count_sar), optical=covers(count_optical))


def rules_drawn():
    return st.builds(
        replace,
        st.just(RULES),
        scenes_per_cell=st.integers(1, 4),
        seasons=st.integers(1, 4),
        pair_days=st.sampled_from([0.0, 3.0, 15.0]),
        orbit=st.sampled_from(["any", "ascending", "descending"]),
    )


def named(choices, sar, optical):
    return [
        (cell, sar.name[s], optical.name[o] if o >= 0 else None, reason)
        for cell, s, o, reason in zip(choices.cell, choices.sar, choices.optical, choices.reason, strict=True)
    ]


@given(worlds(), rules_drawn())
def test_rules_hold(world, rules):
    sar, optical, covers = world
    choices = choose_scenes(sar, optical, covers, rules)
    directions = {}
    for cell, s, o in zip(choices.cell, choices.sar, choices.optical, strict=True):
        assert covers.sar[cell, s] >= rules.min_cover
        assert rules.orbit in ("any", sar.direction[s])
        directions.setdefault(cell, set()).add(sar.direction[s])
        if o >= 0:
            assert covers.optical[cell, o] >= rules.min_cover
            assert abs(sar.time_s[s] - optical.time_s[o]) <= rules.pair_days * DAY_S
            assert not optical.cloud_frac[o] > rules.max_cloud_frac
    assert all(len(found) == 1 for found in directions.values())
    assert all(len(set(np.asarray(choices.sar)[choices.cell == cell])) <= rules.scenes_per_cell for cell in directions)
    assert [reason == "taken" for reason in choices.cell_reason] == [n in directions for n in range(len(covers.sar))]
    assert all((o >= 0) == (reason == "paired") for o, reason in zip(choices.optical, choices.reason, strict=True))


@given(worlds(), rules_drawn(), st.randoms(use_true_random=False))
def test_the_order_of_the_scenes_plays_no_part(world, rules, random):
    sar, optical, covers = world
    by_sar, by_optical = list(range(len(sar.name))), list(range(len(optical.name)))
    random.shuffle(by_sar)
    random.shuffle(by_optical)
    turned_sar = SarPasses(
        name=[sar.name[n] for n in by_sar],
        time_s=sar.time_s[by_sar],
        direction=[sar.direction[n] for n in by_sar],
        quarter=sar.quarter[by_sar],
    )
    turned_optical = OpticalPasses(
        name=[optical.name[n] for n in by_optical],
        time_s=optical.time_s[by_optical],
        cloud_frac=optical.cloud_frac[by_optical],
    )
    turned = CoverTable(sar=covers.sar[:, by_sar], optical=covers.optical[:, by_optical])
    first, second = choose_scenes(sar, optical, covers, rules), choose_scenes(turned_sar, turned_optical, turned, rules)
    assert named(first, sar, optical) == named(second, turned_sar, turned_optical)
    assert first.cell_reason == second.cell_reason


@given(worlds())
@examples(2)
def test_one_scene_a_cell_is_the_cheapest_pair_of_all(world):
    """Against a search through all pairs of each cell, written from the rules."""
    sar, optical, covers = world
    choices = choose_scenes(sar, optical, covers, RULES)
    found = {cell: (s, o) for cell, s, o in zip(choices.cell, choices.sar, choices.optical, strict=True)}
    for cell in range(len(covers.sar)):
        pairs = []
        for s in np.flatnonzero(covers.sar[cell] >= RULES.min_cover):
            partners = []
            for o in np.flatnonzero(covers.optical[cell] >= RULES.min_cover):
                days = abs(sar.time_s[s] - optical.time_s[o]) / DAY_S
                cloud = RULES.max_cloud_frac if np.isnan(optical.cloud_frac[o]) else optical.cloud_frac[o]
                if days <= RULES.pair_days and cloud <= RULES.max_cloud_frac:
                    partners.append((days + CLOUD_DAYS * cloud, optical.time_s[o], optical.name[o], o))
            nearest = min(partners, default=None)  # days are whole: scenes of one time are one pass
            of_pass = [(-covers.optical[cell, one[3]], *one) for one in partners if nearest and one[1] == nearest[1]]
            _, cost, _, _, o = min(of_pass, default=(0.0, np.inf, 0.0, "", -1))
            pairs.append((cost, sar.direction[s], sar.time_s[s], sar.name[s], s, o))
        assert found.get(cell) == (min(pairs)[-2:] if pairs else None)


def year(*days, direction="ascending"):
    """SAR passes on days of a year of 360 days."""
    return SarPasses(
        name=[f"s{day:07.3f}" for day in days],
        time_s=np.asarray(days, dtype=np.float64) * DAY_S,
        direction=[direction] * len(days),
        quarter=np.asarray([int(day // 90) for day in days], dtype=np.int64),
    )


def clear(*days):
    return OpticalPasses(
        name=[f"o{day:07.3f}" for day in days],
        time_s=np.asarray(days, dtype=np.float64) * DAY_S,
        cloud_frac=np.zeros(len(days)),
    )


def full(sar, optical, cells=1):
    return CoverTable(
        sar=np.ones((cells, len(sar.name)), np.float32), optical=np.ones((cells, len(optical.name)), np.float32)
    )


def days_taken(sar, optical, **asked):
    choices = choose_scenes(sar, optical, full(sar, optical), replace(RULES, **asked))
    return sorted(float(sar.time_s[s] / DAY_S) for s in choices.sar)


def test_seasons_are_spread():
    """The best pairs all lie in one quarter of the year; seasons spreads them, evenly, over as many as asked."""
    sar = year(1, 13, 25, 37, 100, 190, 280)
    optical = clear(1, 13, 25, 37, 101, 192, 283)
    assert days_taken(sar, optical, scenes_per_cell=4) == [1, 13, 25, 37]
    assert days_taken(sar, optical, scenes_per_cell=4, seasons=2) == [1, 13, 25, 100]  # the second quarter has only one
    assert days_taken(sar, optical, scenes_per_cell=4, seasons=4) == [1, 100, 190, 280]


def test_slices_of_one_pass_count_once():
    sar, optical = year(1.0, 1.0003, 1.0006, 40.0), clear(1.0, 50.0)
    assert days_taken(sar, optical, scenes_per_cell=3) == [1.0, 40.0]


def test_the_direction_with_more_pairs_is_taken():
    """One descending scene pairs best of all, but two ascending ones make two pairs."""
    sar = SarPasses(
        name=["a1", "a2", "d1"],
        time_s=np.asarray([10.0, 22.0, 16.0]) * DAY_S,
        direction=["ascending", "ascending", "descending"],
        quarter=np.zeros(3, dtype=np.int64),
    )
    optical = clear(16.0, 12.0)
    choices = choose_scenes(sar, optical, full(sar, optical), replace(RULES, scenes_per_cell=2))
    assert [sar.name[s] for s in choices.sar] == ["a1", "a2"]
    assert [sar.name[s] for s in choose_scenes(sar, optical, full(sar, optical), RULES).sar] == ["d1"]


def test_one_pair_goes_before_two_scenes_alone():
    sar = SarPasses(
        name=["a1", "a2", "d1"],
        time_s=np.asarray([10.0, 22.0, 60.0]) * DAY_S,
        direction=["ascending", "ascending", "descending"],
        quarter=np.zeros(3, dtype=np.int64),
    )
    optical = clear(61.0)
    choices = choose_scenes(sar, optical, full(sar, optical), replace(RULES, scenes_per_cell=2))
    assert named(choices, sar, optical) == [(0, "d1", "o061.000", "paired")]


@pytest.mark.parametrize("names", [["x", "y"], ["y", "x"]])
def test_of_two_scenes_alike_the_first_name_is_taken(names):
    sar, optical = replace(year(3.0, 3.0), name=names), replace(clear(4.0, 4.0), name=names)
    assert named(choose_scenes(sar, optical, full(sar, optical), RULES), sar, optical) == [(0, "x", "x", "paired")]


@pytest.mark.parametrize(
    ("cover", "cloud", "day", "reason"),
    [
        (1.0, 0.1, 5.0, "paired"),
        (1.0, 0.21, 5.0, "optical_cloudy"),
        (1.0, 0.1, 15.5, "optical_too_far_in_time"),
        (0.9, 0.1, 5.0, "optical_covers_part_of_the_block"),
        (0.0, 0.1, 5.0, "no_optical_scene"),
    ],
)
def test_every_partner_has_its_reason(cover, cloud, day, reason):
    sar = year(0.0)
    optical = OpticalPasses(name=["o"], time_s=np.asarray([day * DAY_S]), cloud_frac=np.asarray([cloud]))
    covers = CoverTable(sar=np.ones((1, 1), np.float32), optical=np.full((1, 1), cover, np.float32))
    assert choose_scenes(sar, optical, covers, RULES).reason == [reason]


def test_every_cell_has_its_reason():
    sar = SarPasses(
        name=["a", "d"], time_s=np.zeros(2), direction=["ascending", "descending"], quarter=np.zeros(2, dtype=np.int64)
    )
    covers = np.asarray([[1, 0], [0.5, 0.5], [0, 1], [0, 0]], dtype=np.float32)
    table = CoverTable(sar=covers, optical=np.zeros((4, 0), np.float32))
    choices = choose_scenes(sar, clear(), table, replace(RULES, orbit="ascending"))
    assert choices.cell_reason == [
        "taken",
        "sar_covers_part_of_the_block",
        "sar_only_of_other_orbit_direction",
        "no_sar_scene",
    ]


# ---- undated partners ----


def with_undated(optical, cloud_frac=(np.nan,), first=True):
    """Optical scenes and undated ones, before or behind them."""
    parts = [(optical.name, optical.time_s, optical.cloud_frac)]
    parts.insert(0 if first else 1, ([f"u{n}" for n in range(len(cloud_frac))], [np.nan] * len(cloud_frac), cloud_frac))
    name, time_s, cloud = ([one for part in parts for one in part[column]] for column in range(3))
    return OpticalPasses(name=name, time_s=np.asarray(time_s, float), cloud_frac=np.asarray(cloud, float))


@given(worlds(), rules_drawn(), st.booleans())
@examples(2)
def test_a_dated_partner_goes_before_an_undated_one(world, rules, first):
    """Of equal cover and of no known cloud: an undated scene changes no pair that is there without it (with one SAR
    scene a cell), and stands by every SAR scene that nothing dated can be put beside."""
    sar, optical, covers = world
    rules = replace(rules, scenes_per_cell=1)
    both = with_undated(optical, first=first)
    column = np.ones((len(covers.optical), 1), np.float32)
    parts = (column, covers.optical) if first else (covers.optical, column)
    before = named(choose_scenes(sar, optical, covers, rules), sar, optical)
    after = named(choose_scenes(sar, both, CoverTable(sar=covers.sar, optical=np.hstack(parts)), rules), sar, both)
    dated = {cell: (s, o) for cell, s, o, _ in before if o is not None}
    assert {cell: (s, o) for cell, s, o, _ in after if o != "u0"} == dated
    assert [(cell, reason) for cell, _, _, reason in after] == [(cell, "paired") for cell, *_ in before]


@pytest.mark.parametrize(
    ("day", "cloud", "partner"),
    [(15.0, 0.2, "o"), (15.0, np.nan, "o"), (0.0, 0.21, "u0"), (15.1, 0.0, "u0")],
)
def test_an_undated_partner_costs_as_much_as_the_worst_that_is_allowed(day, cloud, partner):
    sar = year(0.0)
    optical = OpticalPasses(name=["o"], time_s=np.asarray([day * DAY_S]), cloud_frac=np.asarray([cloud]))
    both = with_undated(optical)
    assert named(choose_scenes(sar, both, full(sar, both), RULES), sar, both) == [(0, sar.name[0], partner, "paired")]


def test_of_equal_costs_the_pair_with_a_date_is_taken():
    """The earlier SAR scene has an undated partner alone, the later one a dated one that costs as much."""
    sar = year(0.0, 20.0)
    both = with_undated(OpticalPasses(name=["o"], time_s=np.asarray([35.0 * DAY_S]), cloud_frac=np.asarray([np.nan])))
    assert named(choose_scenes(sar, both, full(sar, both), RULES), sar, both) == [(0, sar.name[1], "o", "paired")]


def test_an_undated_partner_is_held_to_cloud_and_cover():
    sar, cloudy = year(0.0), with_undated(clear(), cloud_frac=(0.3,))
    assert choose_scenes(sar, cloudy, full(sar, cloudy), RULES).reason == ["optical_cloudy"]
    part = CoverTable(sar=np.ones((1, 1), np.float32), optical=np.full((1, 1), 0.5, np.float32))
    assert choose_scenes(sar, with_undated(clear()), part, RULES).reason == ["optical_covers_part_of_the_block"]


# ---- one scene's partner ----

partners = st.lists(
    st.tuples(
        st.one_of(st.none(), st.sampled_from([-7200.0, -60.0, 0.0, 9.0, 1500.0, 7200.0, 90_000.0])),
        st.sampled_from([0.0, 0.4, 0.5, 0.7, 1.0]),
        st.integers(0, 9),
    ),
    max_size=6,
    unique_by=lambda one: one[2],
)


@given(partners)
@examples(2)
def test_the_nearest_partner_is_what_a_search_through_all_finds(described):
    apart_s, cover = [one[0] for one in described], [one[1] for one in described]
    names = [f"o{one[2]}" for one in described]
    enough = [number for number in range(len(names)) if cover[number] >= 0.5]
    dated = [number for number in enough if apart_s[number] is not None]
    found = nearest_partner(apart_s, cover, names)
    if not dated:
        assert found == min(enough, key=lambda n: (-cover[n], names[n]), default=None)
        return
    nearest = min(dated, key=lambda n: (abs(apart_s[n]), names[n]))
    of_pass = [n for n in dated if abs(apart_s[n] - apart_s[nearest]) <= 1800]
    assert found == min(of_pass, key=lambda n: (-cover[n], abs(apart_s[n]), names[n]))


def test_of_one_pass_the_one_that_covers_more_is_taken_then_the_nearer_then_the_first_name():
    assert nearest_partner([60.0, 60.0, 60.0], [0.6, 0.9, 0.9], ["a", "c", "b"]) == 2
    assert nearest_partner([18_300.0, 18_309.0], [0.6, 1.0], ["a", "b"]) == 1  # two granules, 9 s apart
    assert nearest_partner([-18_309.0, -18_300.0], [1.0, 0.6], ["a", "b"]) == 0
    assert nearest_partner([18_300.0, 18_309.0], [0.9995, 0.9999], ["b", "a"]) == 0  # less than a row of pixels
    assert nearest_partner([3600.0, 90_000.0], [0.6, 1.0], ["a", "b"]) == 0  # another day is another pass
    assert nearest_partner([3600.0, -3600.0], [0.6, 1.0], ["a", "b"]) == 0  # and so is one as far before


def test_of_two_granules_of_one_pass_a_cell_takes_the_one_that_covers_it_more():
    sar = year(0.0)
    two = OpticalPasses(
        name=["near", "whole"], time_s=np.asarray([18_300.0, 18_309.0]), cloud_frac=np.asarray([0.0, 0.15])
    )
    loose = replace(RULES, min_cover=0.5)
    for cover, taken in (([0.6, 1.0], "whole"), ([1.0, 0.6], "near"), ([1.0, 1.0], "near")):
        covers = CoverTable(sar=np.ones((1, 1), np.float32), optical=np.asarray([cover], np.float32))
        assert named(choose_scenes(sar, two, covers, loose), sar, two) == [(0, sar.name[0], taken, "paired")]
    half = np.asarray([[0.6, 1.0], [1.0, 0.6]], np.float32)  # each of two blocks its own
    covers = CoverTable(sar=np.ones((2, 1), np.float32), optical=half)
    assert [row[2] for row in named(choose_scenes(sar, two, covers, loose), sar, two)] == ["whole", "near"]


def test_a_partner_of_unknown_time_is_taken_only_where_no_dated_one_covers_enough():
    assert nearest_partner([None, 1e9], [1.0, 0.5], ["a", "b"]) == 1
    assert nearest_partner([None, 1e9], [1.0, 0.4], ["a", "b"]) == 0
    assert nearest_partner([None, 1e9], [0.4, 0.4], ["a", "b"]) is None


def test_of_equal_costs_the_first_column_is_taken_and_no_pair_is_minus_one():
    partner, cost = cheapest(np.array([[3.0, 1.0, 1.0], [np.inf, np.inf, np.inf]]))
    assert partner.tolist() == [1, -1]
    assert cost.tolist() == [1.0, np.inf]
    assert cheapest(np.empty((2, 0)))[0].tolist() == [-1, -1]
