"""Changes put into made-up displacements are found, and tables without one give an alarm as rarely as asked."""

import numpy as np
import pytest

from sar1m.core.drift import Contrast, centre_and_sigma, find_changes


def table(seed, *, count=160, tracks=6, months=18):
    """Displacements with heavy tails, each track about a place of its own; track, month and platform of each."""
    rng = np.random.default_rng(seed)
    track, month, platform = (rng.integers(0, size, count) for size in (tracks, months, 2))
    values = 0.25 * rng.standard_t(3, (count, 2)) + rng.normal(0, 0.6, (tracks, 2))[track]
    return values, track, month, platform


def questions(month, platform):
    every = np.ones(len(month), dtype=np.bool_)
    asked = [Contrast(name=f"from {m}", side=month >= m, among=every) for m in range(1, int(month.max()) + 1)]
    asked += [Contrast(name=f"{q.name} on {p}", side=q.side, among=platform == p) for q in asked for p in (0, 1)]
    return [*asked, Contrast(name="platform", side=platform == 1, among=every)]


def alarms(false_alarms, tables=60):
    found = 0
    for seed in range(tables):
        values, track, month, platform = table(seed)
        result = find_changes(values, track, questions(month, platform), false_alarms=false_alarms)
        found += bool(result.changes)
    return found


def test_without_a_change_alarms_are_as_rare_as_asked_over_all_questions():
    """52 questions each. Binomial bounds that hold in 999 of 1,000 draws of 60 tables; the draw here is fixed."""
    assert alarms(0.01) <= 4
    assert 3 <= alarms(0.2) <= 22


@pytest.mark.parametrize("seed", range(6))
def test_a_step_of_three_tenths_from_a_month_on_is_found_with_its_size(seed):
    values, track, month, platform = table(seed, count=400)
    values[month >= 9, 0] += 0.3
    first, *others = find_changes(values, track, questions(month, platform), false_alarms=0.01).changes
    assert first.p <= 0.01
    assert not others
    assert abs(int(first.name.split()[1]) - 9) <= 2
    if first.name == "from 9":
        assert first.step_px[0] == pytest.approx(0.3, abs=4 * first.sigma_px)
        assert first.step_px[1] == pytest.approx(0.0, abs=4 * first.sigma_px)


def test_a_platform_that_is_off_is_named_and_what_cannot_be_told_from_it():
    values, track, month, platform = table(1, count=400)
    values[platform == 1, 1] -= 0.3
    twin = Contrast(name="processor", side=platform == 1, among=np.ones(400, dtype=np.bool_))
    (change,) = find_changes(values, track, [*questions(month, platform), twin], false_alarms=0.01).changes
    assert (change.name, change.alike) == ("platform", ("processor",))
    assert change.step_px[1] == pytest.approx(-0.3, abs=0.1)


def test_two_changes_are_found_one_after_the_other():
    values, track, month, platform = table(2, count=600)
    values[platform == 1, 1] += 0.5
    values[month >= 9, 0] += 0.4
    found = find_changes(values, track, questions(month, platform), false_alarms=0.01).changes
    assert [change.name for change in found] == ["platform", "from 9"]


def test_gross_errors_neither_make_nor_hide_a_change():
    values, track, month, platform = table(3, count=400)
    wild = np.random.default_rng(0).random(400) < 0.05
    values[wild] += 12.0
    assert not find_changes(values, track, questions(month, platform), false_alarms=0.01).changes
    values[platform == 1, 1] += 0.3
    (change, *_) = find_changes(values, track, questions(month, platform), false_alarms=0.01).changes
    assert change.name == "platform"


def test_what_differs_from_track_to_track_is_no_change():
    """Platforms that fly different tracks cannot be compared: the question is not asked."""
    values, track, *_ = table(4, count=400)
    apart = track % 2
    values[apart == 1] += 2.0
    every = np.ones(400, dtype=np.bool_)
    result = find_changes(values, track, [Contrast(name="platform", side=apart == 1, among=every)], false_alarms=0.01)
    assert (result.contrasts, result.changes) == (0, ())


def test_the_sigma_of_a_groups_median_is_its_scatter_over_many_draws():
    rng = np.random.default_rng(5)
    medians, sigmas = zip(*(centre_and_sigma(rng.normal(0, 0.4, (25, 2)), 0.4) for _ in range(400)), strict=True)
    assert np.std(np.array(medians)) == pytest.approx(np.mean(sigmas), rel=0.1)
    assert centre_and_sigma(np.array([[1.0, 2.0]]), 0.4)[1] == pytest.approx(0.4)
