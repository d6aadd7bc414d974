"""Cover against shapely, and choices against a search through all pairs."""

from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from sar1m.config import GridConfig
from sar1m.core.grid import block_grids, cells_at, make_cells
from sar1m.core.pairing import (
    CLOUD_DAYS,
    DAY_S,
    CoverTable,
    OpticalPasses,
    PairingRules,
    SarPasses,
    block_shapes,
    choose,
    cover_fractions,
)
from sar1m.core.utm import lonlat_from_utm
from support.examples import examples

RULES = PairingRules(scenes_per_cell=1, seasons=1, pair_days=15.0, max_cloud_frac=0.2, min_cover=0.99, orbit="any")


def grids_at(lon, lat):
    return block_grids(make_cells(*cells_at(lon, lat)), GridConfig())


def outline(grid, near_lon):
    left, bottom, right, top = grid.bounds_m
    lon, lat = lonlat_from_utm([left, right, right, left], [bottom, bottom, top, top], grid.epsg)
    return shapely.Polygon(np.column_stack([near_lon + np.mod(lon - near_lon + 180, 360) - 180, lat]))


def closed(points):
    return (*points, points[0])


# ---- cover ----

offsets = st.tuples(st.floats(-0.3, 0.3), st.floats(-0.3, 0.3))


@given(
    lon=st.floats(-179.9, 179.9),
    lat=st.floats(-70, 75),
    points=st.lists(offsets, min_size=3, max_size=7),
    turns=st.integers(-1, 1),
    clockwise=st.booleans(),
)
def test_cover_is_the_area_that_shapely_finds(lon, lat, points, turns, clockwise):
    """Any simple ring (sorted around its middle: not always convex), either way round, a whole turn away."""
    grid = grids_at([lon], [lat])[0]
    block = outline(grid, lon)
    middle = np.mean(points, axis=0)
    points = sorted(points, key=lambda p: np.arctan2(p[1] - middle[1], p[0] - middle[0]), reverse=clockwise)
    x, y = block.centroid.x, block.centroid.y
    ring = [(x + dx / np.cos(np.radians(lat)), y + dy) for dx, dy in points]
    polygon = shapely.Polygon(ring)
    if not polygon.is_valid:
        return
    expected = block.intersection(polygon).area / block.area
    moved = closed([(a + 360.0 * turns, b) for a, b in ring])
    found = cover_fractions(block_shapes([grid], lon), [moved])
    assert found.shape == (1, 1)
    assert found[0, 0] == pytest.approx(expected, abs=0.004)  # the block is a trapezium to shapely


def test_cover_of_rings_of_several_lengths_keeps_their_order():
    grid = grids_at([10.0], [0.5])[0]
    block = outline(grid, 10.0)
    west, south, east, north = block.bounds
    middle = (west + east) / 2
    whole = closed([(west - 1, south - 1), (east + 1, south - 1), (east + 1, north + 1), (west - 1, north + 1)])
    half = closed(
        [(middle, south - 1), (east + 1, south - 1), (east + 2, 0.5), (east + 1, north + 1), (middle, north + 1)]
    )
    away = closed([(50, 0), (51, 0), (51, 1)])
    found = cover_fractions(block_shapes([grid], 10.0), [away, whole, half, whole])
    assert found[0] == pytest.approx([0, 1, 0.5, 1], abs=2e-3)
    assert found[0, 1] == pytest.approx(1, abs=1e-6)


def test_cover_across_the_antimeridian():
    """Blocks on both sides of 180 degrees under one footprint that runs on."""
    grids = grids_at([179.9, -179.8], [-17.0, -17.0])
    ring = closed([(179, -18), (181, -18), (181, -16), (179, -16)])
    other = closed([(-181, -18), (-179, -18), (-179, -16), (-181, -16)])
    assert cover_fractions(block_shapes(grids, 179.9), [ring, other]) == pytest.approx(np.ones((2, 2)), abs=1e-6)


def test_no_blocks_or_no_rings():
    shapes = block_shapes(grids_at([10.0], [0.5]), 10.0)
    assert cover_fractions(shapes, []).shape == (1, 0)


# ---- choice ----


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
    choices = choose(sar, optical, covers, rules)
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
    first, second = choose(sar, optical, covers, rules), choose(turned_sar, turned_optical, turned, rules)
    assert named(first, sar, optical) == named(second, turned_sar, turned_optical)
    assert first.cell_reason == second.cell_reason


@given(worlds())
@examples(2)
def test_one_scene_a_cell_is_the_cheapest_pair_of_all(world):
    """Against a search through all pairs of each cell, written from the rules."""
    sar, optical, covers = world
    choices = choose(sar, optical, covers, RULES)
    found = {cell: (s, o) for cell, s, o in zip(choices.cell, choices.sar, choices.optical, strict=True)}
    for cell in range(len(covers.sar)):
        pairs = []
        for s in np.flatnonzero(covers.sar[cell] >= RULES.min_cover):
            pairs.append((np.inf, sar.direction[s], sar.time_s[s], sar.name[s], 0.0, "", s, -1))
            for o in np.flatnonzero(covers.optical[cell] >= RULES.min_cover):
                days = abs(sar.time_s[s] - optical.time_s[o]) / DAY_S
                cloud = RULES.max_cloud_frac if np.isnan(optical.cloud_frac[o]) else optical.cloud_frac[o]
                if days <= RULES.pair_days and cloud <= RULES.max_cloud_frac:
                    cost = days + CLOUD_DAYS * cloud
                    key = (cost, sar.direction[s], sar.time_s[s], sar.name[s], optical.time_s[o], optical.name[o])
                    pairs.append((*key, s, o))
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
    choices = choose(sar, optical, full(sar, optical), replace(RULES, **asked))
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
    choices = choose(sar, optical, full(sar, optical), replace(RULES, scenes_per_cell=2))
    assert [sar.name[s] for s in choices.sar] == ["a1", "a2"]
    assert [sar.name[s] for s in choose(sar, optical, full(sar, optical), RULES).sar] == ["d1"]


def test_one_pair_goes_before_two_scenes_alone():
    sar = SarPasses(
        name=["a1", "a2", "d1"],
        time_s=np.asarray([10.0, 22.0, 60.0]) * DAY_S,
        direction=["ascending", "ascending", "descending"],
        quarter=np.zeros(3, dtype=np.int64),
    )
    optical = clear(61.0)
    choices = choose(sar, optical, full(sar, optical), replace(RULES, scenes_per_cell=2))
    assert named(choices, sar, optical) == [(0, "d1", "o061.000", "paired")]


@pytest.mark.parametrize("names", [["x", "y"], ["y", "x"]])
def test_of_two_scenes_alike_the_first_name_is_taken(names):
    sar, optical = replace(year(3.0, 3.0), name=names), replace(clear(4.0, 4.0), name=names)
    assert named(choose(sar, optical, full(sar, optical), RULES), sar, optical) == [(0, "x", "x", "paired")]


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
    assert choose(sar, optical, covers, RULES).reason == [reason]


def test_every_cell_has_its_reason():
    sar = SarPasses(
        name=["a", "d"], time_s=np.zeros(2), direction=["ascending", "descending"], quarter=np.zeros(2, dtype=np.int64)
    )
    covers = np.asarray([[1, 0], [0.5, 0.5], [0, 1], [0, 0]], dtype=np.float32)
    table = CoverTable(sar=covers, optical=np.zeros((4, 0), np.float32))
    choices = choose(sar, clear(), table, replace(RULES, orbit="ascending"))
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
    before = named(choose(sar, optical, covers, rules), sar, optical)
    after = named(choose(sar, both, CoverTable(sar=covers.sar, optical=np.hstack(parts)), rules), sar, both)
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
    assert named(choose(sar, both, full(sar, both), RULES), sar, both) == [(0, sar.name[0], partner, "paired")]


def test_of_equal_costs_the_pair_with_a_date_is_taken():
    """The earlier SAR scene has an undated partner alone, the later one a dated one that costs as much."""
    sar = year(0.0, 20.0)
    both = with_undated(OpticalPasses(name=["o"], time_s=np.asarray([35.0 * DAY_S]), cloud_frac=np.asarray([np.nan])))
    assert named(choose(sar, both, full(sar, both), RULES), sar, both) == [(0, sar.name[1], "o", "paired")]


def test_an_undated_partner_is_held_to_cloud_and_cover():
    sar, cloudy = year(0.0), with_undated(clear(), cloud_frac=(0.3,))
    assert choose(sar, cloudy, full(sar, cloudy), RULES).reason == ["optical_cloudy"]
    part = CoverTable(sar=np.ones((1, 1), np.float32), optical=np.full((1, 1), 0.5, np.float32))
    assert choose(sar, with_undated(clear()), part, RULES).reason == ["optical_covers_part_of_the_block"]
