"""Longitudes across the antimeridian, in any turn of the globe."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sar1m.core.sphere import (
    box_around,
    boxes_home,
    boxes_within_world,
    east_of,
    near_to,
    running_on,
    spans_within_world,
    turns_home,
    turns_to,
    widest_gap,
    widths_deg,
    wrapped,
)

LON = st.floats(-720.0, 720.0).map(lambda degrees: round(degrees, 6))


def same_meridian(a: float, b: float) -> bool:
    """By the circle itself: sine and cosine."""
    return math.hypot(
        math.cos(math.radians(a)) - math.cos(math.radians(b)), math.sin(math.radians(a)) - math.sin(math.radians(b))
    ) == pytest.approx(0, abs=1e-9)


@given(LON)
def test_a_wrapped_longitude_is_the_same_meridian_within_the_world(lon: float) -> None:
    found = float(wrapped(lon))
    assert -180 <= found < 180
    assert same_meridian(found, lon)


@given(LON, LON)
def test_the_shorter_way_leads_from_the_reference_to_the_longitude(lon: float, reference: float) -> None:
    way = float(east_of(lon, reference))
    assert -180 <= way < 180
    assert same_meridian(reference + way, lon)


@given(LON, LON, st.sampled_from([-180.0, -0.25, 0.0]))
def test_the_way_east_starts_at_the_least_that_is_asked_for(lon: float, reference: float, least: float) -> None:
    way = float(east_of(lon, reference, least=least))
    assert least <= way <= least + 360
    assert same_meridian(reference + way, lon)


def test_differences_across_the_antimeridian_are_small() -> None:
    assert east_of([-179.0, 179.0], [179.0, -179.0]).tolist() == [2.0, -2.0]
    assert east_of(-179.0, 179.0, least=0.0) == 2.0
    assert east_of(179.0, -179.0, least=0.0) == 358.0


@given(LON, LON)
def test_a_longitude_is_brought_within_half_a_turn_of_a_reference(lon: float, reference: float) -> None:
    found = float(near_to(lon, reference))
    assert abs(found - reference) <= 180 + 1e-9
    assert same_meridian(found, lon)


@given(LON, LON)
def test_turns_are_whole_and_bring_a_longitude_nearest_to_a_reference(lon: float, reference: float) -> None:
    turns = float(turns_to(lon, reference))
    assert turns % 360 == 0
    assert all(abs(lon + turns - reference) <= abs(lon + turns + more - reference) + 1e-9 for more in (-360, 360))


@given(LON)
def test_turns_home_bring_a_longitude_into_the_world(lon: float) -> None:
    turns = float(turns_home(lon))
    assert turns % 360 == 0
    assert -180 <= lon + turns < 180


@given(st.lists(st.floats(-30.0, 30.0).map(lambda step: round(step, 6)), max_size=30), LON)
def test_a_line_keeps_its_steps_when_it_is_written_within_the_world(steps: list[float], start: float) -> None:
    line = start + np.cumsum([0.0, *steps])
    found = running_on(wrapped(line))
    np.testing.assert_allclose(np.diff(found), np.diff(line), atol=1e-9)
    assert found[0] == wrapped(line)[0]


def test_a_line_without_jumps_stays_as_it_is_to_the_last_bit() -> None:
    line = np.array([170.1, 179.9, 180.3, 190.7, 179.7])
    assert running_on(line).tolist() == line.tolist()
    assert running_on([179.9, -179.7]).tolist() == [179.9, -179.7 + 360.0]


def test_the_widest_gap_of_points_on_both_sides_of_the_antimeridian_ends_at_the_western_ones() -> None:
    end, width = widest_gap([-178.0, 177.0, 179.0])
    assert (end, width) == (177.0, 355.0)
    assert widest_gap([-10.0, 20.0]) == (350.0, 330.0)
    assert widest_gap([25.0]) == (25.0, 360.0)


@given(st.lists(LON, min_size=1, max_size=8))
def test_all_points_lie_east_of_the_widest_gap_within_what_it_leaves(lon: list[float]) -> None:
    end, width = widest_gap(lon)
    ways = east_of(np.asarray(lon) + 1e-7, end, least=0.0)
    assert ways.max() <= 360 - width + 1e-6


@pytest.mark.parametrize(
    ("west", "east", "parts"),
    [
        (10.0, 20.0, [(10.0, 20.0)]),
        (170.0, 180.0, [(170.0, 180.0)]),
        (170.0, 190.0, [(170.0, 180.0), (-180.0, -170.0)]),
        (170.0, -170.0, [(170.0, 180.0), (-180.0, -170.0)]),
    ],
)
def test_a_span_across_the_antimeridian_is_cut_in_two(
    west: float, east: float, parts: list[tuple[float, float]]
) -> None:
    assert spans_within_world(west, east) == parts
    assert boxes_within_world((west, -1.0, east, 1.0)) == [(left, -1.0, right, 1.0) for left, right in parts]


BOXES = st.lists(st.tuples(st.floats(-180, 180), st.floats(0.001, 40), st.floats(-80, 80)), min_size=1, max_size=6)


def crossing_boxes(drawn: list[tuple[float, float, float]]) -> np.ndarray:
    """Boxes (n, 4) as tables hold them: west > east across the antimeridian."""
    return np.array([(west, lat, float(wrapped(west + width)), lat + 1) for west, width, lat in drawn])


@given(BOXES)
def test_the_box_around_holds_every_box_and_no_wider_one_would_be_needed(
    drawn: list[tuple[float, float, float]],
) -> None:
    boxes = crossing_boxes(drawn)
    west, south, east, north = box_around(boxes)
    assert (south, north) == (boxes[:, 1].min(), boxes[:, 3].max())
    width = east - west + (360 if west > east else 0)
    within = np.concatenate([np.linspace(start, start + size, 9) for start, size, _ in drawn])
    ways = np.mod(within - west + 1e-7, 360.0)
    assert ways.max() <= width + 1e-6
    # by brute force: the narrowest stretch that starts at one of the boxes and holds all of them
    starts = np.array([start for start, _, _ in drawn])
    sizes = np.array([size for _, size, _ in drawn])
    narrowest = min(float((np.mod(starts - first, 360.0) + sizes).max()) for first in starts)
    if narrowest < 179.999:
        assert width == pytest.approx(narrowest, abs=1e-6)
    elif narrowest > 180.001:
        assert west <= east


@pytest.mark.parametrize(
    ("boxes", "around"),
    [
        ([(179.99, 0, -179.99, 1)], (179.99, 0, -179.99, 1)),
        ([(178.0, 0, 179.0, 1), (-179.5, -2, -179.0, 0)], (178.0, -2, -179.0, 1)),  # none crosses, both do
        ([(-179.0, 0, -178.0, 1), (178.0, 0, 179.0, 1)], (178.0, 0, -178.0, 1)),
        ([(-9.5, 37, -6.0, 42), (10.0, 40, 12.0, 41)], (-9.5, 37, 12.0, 42)),
        ([(170.0, 0, 180.0, 1)], (170.0, 0, 180.0, 1)),
        ([(-180.0, 0, 180.0, 1), (3.0, 0, 4.0, 5)], (-180.0, 0, 180.0, 5)),
        ([(-120.0, 0, -119.0, 1), (0.0, 0, 1.0, 1), (130.0, 0, 131.0, 1)], (-120.0, 0, 131.0, 1)),  # all over the world
        ([(-120.0, 0, -119.0, 1), (0.0, 0, 1.0, 1), (179.0, 0, -179.0, 1)], (-180.0, 0, 180.0, 1)),
    ],
)
def test_the_box_around_is_the_narrowest_or_the_plain_one(boxes: list[tuple], around: tuple) -> None:
    assert box_around(boxes) == around
    assert box_around(boxes[::-1]) == around


def test_boxes_come_home_from_beyond_the_antimeridian() -> None:
    beyond = [(179.0, 0, 181.0, 1), (10.0, 0, 20.0, 1), (170.0, 0, 180.0, 1), (-180.0, 0, 180.0, 1), (5.0, 0, 365.0, 1)]
    assert boxes_home(beyond)[:, [0, 2]].tolist() == [
        *([179.0, -179.0], [10.0, 20.0], [170.0, 180.0], [-180.0, 180.0], [-180.0, 180.0])
    ]
    assert widths_deg(boxes_home(beyond)).tolist() == [2.0, 10.0, 10.0, 360.0, 360.0]
    assert boxes_home([]).shape == (0, 4)
