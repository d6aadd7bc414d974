"""Differences of two arms over the tested samples: against closed forms and scipy, and as a study shows them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from sar1m.store.errors import ConfigError
from sarmae.evaluate.classify.measures import balanced_accuracy
from sarmae.evaluate.classify.paired import paired_by_sample
from sarmae.evaluate.report.study_plots import plots_of
from sarmae.evaluate.report.study_tables import result_table
from sarmae.evaluate.score_files import ScoreFiles
from sarmae.evaluate.scores import Answers, Score
from sarmae.evaluate.study_config import StudyConfig
from sarmae.evaluate.summary import ArmResult, summarise

I64 = NDArray[np.int64]
DRAWS = 4000


def answers(truth: I64, right: NDArray[np.bool_], groups: I64 | None = None) -> Answers:
    predicted = np.where(right, truth, truth + 1)
    return Answers(
        truth=truth, groups=np.arange(len(truth)) if groups is None else groups, predicted={"knn": predicted}
    )


def compared(a: Answers, b: Answers, **changes: Any) -> Any:
    return paired_by_sample({0: a}, {0: b}, "knn", **{"draws": DRAWS, "seed": 0, **changes})


def two_by_two(both: int, only_a: int, only_b: int, neither: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    a, b = (True, True, False, False), (True, False, True, False)
    counts = (both, only_a, only_b, neither)
    return np.repeat(a, counts), np.repeat(b, counts)


@pytest.mark.parametrize("counts", [(300, 60, 30, 110), (0, 70, 50, 0), (480, 9, 9, 2), (100, 40, 90, 270)])
def test_of_one_class_the_interval_is_that_of_paired_shares_and_p_is_mcnemars(counts: tuple[int, int, int, int]):
    """The closed forms: Agresti, Categorical Data Analysis, 2002, 10.1.1 (difference of paired shares, McNemar)."""
    a, b = two_by_two(*counts)
    size, only_a, only_b = sum(counts), counts[1], counts[2]
    found = compared(answers(np.zeros(size, np.int64), a), answers(np.zeros(size, np.int64), b))
    difference = (only_a - only_b) / size
    error = math.sqrt((only_a + only_b) - (only_a - only_b) ** 2 / size) / size
    reach = stats.norm.ppf(0.975) * error
    assert (found.low, found.high) == pytest.approx((difference - reach, difference + reach), abs=0.12 * reach)
    mcnemar = stats.chi2.sf((only_a - only_b) ** 2 / (only_a + only_b), 1)
    if only_a == only_b:
        assert found.p > 0.9
    else:
        assert found.p == pytest.approx(mcnemar, abs=0.03)


def test_of_several_classes_and_seeds_the_interval_is_scipys():
    """The mean over classes of unequal sizes; scipy draws the samples of each class for itself."""
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], [300, 150, 250])
    right = {(arm, seed): rng.random(700) < share for arm, share in (("a", 0.8), ("b", 0.7)) for seed in range(3)}
    a, b = ({seed: answers(truth, right[arm, seed]) for seed in range(3)} for arm in "ab")
    found = paired_by_sample(a, b, "knn", draws=DRAWS, seed=0)
    gains = np.mean([right["a", seed].astype(float) - right["b", seed] for seed in range(3)], axis=0)

    def mean_of_classes(*parts: Any, axis: int = -1) -> Any:
        return sum(part.mean(axis=axis) for part in parts) / 3

    parts = tuple(gains[truth == one] for one in range(3))
    oracle = stats.bootstrap(parts, mean_of_classes, n_resamples=DRAWS, method="percentile", rng=rng)
    low, high = oracle.confidence_interval
    assert found is not None
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.006)
    scores = [[balanced_accuracy(truth, arm[seed].predicted["knn"], 4) for seed in range(3)] for arm in (a, b)]
    assert found.low < np.mean(scores[0]) - np.mean(scores[1]) < found.high


def test_it_is_paired_so_common_faults_do_not_widen_it():
    rng = np.random.default_rng(1)
    truth, hard = np.zeros(1000, np.int64), rng.random(1000) < 0.5
    a, b = ~hard, ~hard & (rng.random(1000) < 0.96)
    found = compared(answers(truth, a), answers(truth, b))
    unpaired = 2 * stats.norm.ppf(0.975) * math.sqrt((a.var() + b.var()) / 1000)
    assert found.high - found.low < 0.4 * unpaired
    assert found.low > 0


@pytest.mark.parametrize("right", [np.ones(50, bool), np.zeros(50, bool), np.arange(50) % 3 == 0])
def test_an_arm_and_itself_differ_by_nothing(right: NDArray[np.bool_]):
    one = answers(np.arange(50) % 2, right)
    assert compared(one, one) == (0.0, 0.0, 1.0)


def test_ties_and_other_mistakes_on_the_same_samples_are_no_difference():
    """Right is right: which wrong class is named does not count in balanced accuracy."""
    truth, right = np.arange(40) % 4, np.arange(40) % 5 > 0
    other = Answers(truth=truth, groups=np.arange(40), predicted={"knn": np.where(right, truth, (truth + 2) % 4)})
    assert compared(answers(truth, right), other) == (0.0, 0.0, 1.0)


def test_swapped_arms_give_the_mirrored_interval():
    rng = np.random.default_rng(2)
    truth = np.arange(200) % 2
    a, b = (answers(truth, rng.random(200) < share) for share in (0.8, 0.6))
    forth, back = compared(a, b), compared(b, a)
    assert (back.low, back.high, back.p) == pytest.approx((-forth.high, -forth.low, forth.p))


def test_near_copies_are_drawn_whole():
    rng = np.random.default_rng(3)
    a, b = (np.repeat(rng.random(60) < share, 5) for share in (0.7, 0.6))
    truth, groups = np.zeros(300, np.int64), np.repeat(np.arange(60), 5)
    whole = compared(answers(truth, a, groups), answers(truth, b, groups))
    single = compared(answers(truth, a), answers(truth, b))
    assert (whole.high - whole.low) / (single.high - single.low) == pytest.approx(math.sqrt(5), rel=0.1)


@pytest.mark.parametrize(
    ("changes", "b"),
    [
        ({"draws": 0}, {}),
        ({}, {"seed": 1}),
        ({}, {"protocol": "linear"}),
        ({}, {"groups": np.zeros(8, np.int64)}),
    ],
)
def test_no_interval_without_draws_common_seeds_answers_or_a_second_group(changes: dict[str, int], b: dict[str, Any]):
    groups = b.get("groups", np.arange(8))
    one = answers(np.arange(8) % 2, np.ones(8, bool), groups)
    found = paired_by_sample(
        {0: one}, {b.get("seed", 0): one}, b.get("protocol", "knn"), **{"draws": 9, "seed": 0, **changes}
    )
    assert found is None


@pytest.mark.parametrize("other", [np.arange(9) % 2, np.arange(8) % 3])
def test_arms_that_were_tested_on_different_samples_are_not_compared(other: I64):
    one = answers(np.arange(8) % 2, np.ones(8, bool))
    with pytest.raises(ConfigError, match=r"other .* in another cell .* give it another folder"):
        compared(one, answers(other, np.ones(len(other), bool)))


# ---- in a study ----

TRUTH = np.arange(400) % 2
FIXED = ({"name": "A", "encoder": "pixels"}, {"name": "B", "encoder": "statistics"})
DRAWN = ({"name": "A", "encoder": "pixels"}, {"name": "B"})


def result_of_b(
    folder: Any, arms: Any, shares: dict[str, tuple[float, ...]], *, kept: bool = True, **task: Any
) -> tuple[ArmResult, str, str]:
    """The result of arm B, the note and the caption. shares: of right answers, by arm and seed; of an arm's seeds,
    those with equal shares have the same answers."""
    seeds = list(range(len(shares["A"])))
    dataset = {"kind": "folders", "path": "somewhere"}
    task = {"name": "t", "kind": "classification", "dataset": dataset, "protocols": ["knn"], **task}
    study = StudyConfig.model_validate({"arms": arms, "seeds": seeds, "tasks": [task]})
    files = ScoreFiles(study, folder)
    for arm in study.arms:
        for seed in seeds:
            share = shares[arm.name][seed]
            found = answers(TRUTH, np.random.default_rng(round(share * 1000)).random(400) < share)
            value = balanced_accuracy(TRUTH, found.predicted["knn"], 3)
            score = Score(
                protocol="knn",
                setting="",
                metric="balanced accuracy",
                value=value,
                low=value - 0.1,
                high=value + 0.1,
                tested=400,
            )
            if kept:
                files.keep_answers(arm, study.tasks[0], seed, found)
            files.keep_scores(arm, study.tasks[0], seed, [score])
    results = summarise(files)
    (plot,) = plots_of(results)
    return results[1], result_table("t", results).note, plot.caption


@pytest.mark.parametrize("seeds", [1, 3])
def test_fixed_encoders_have_an_interval_over_the_tested_samples_alone(tmp_path: Any, seeds: int):
    found, note, caption = result_of_b(tmp_path, FIXED, {"A": (0.6,) * seeds, "B": (0.8,) * seeds})
    assert found.difference is not None
    assert found.sampled is not None
    assert found.difference.low is None
    assert found.sampled.low < found.difference.mean < found.sampled.high
    low, high = found.reach or (0, 0)
    text = f"{found.difference.mean:+.3f}* (tested samples {low:+.3f} to {high:+.3f})"
    assert found.difference_text == text
    assert found.significant
    assert "Tested samples: paired bootstrap" in note
    assert "over the tested samples and over the seeds" in caption


def test_where_seeds_matter_there_are_both_and_the_larger_p_counts(tmp_path: Any):
    found, _, _ = result_of_b(tmp_path, DRAWN, {"A": (0.6,) * 3, "B": (0.75, 0.8, 0.85)})
    assert found.difference is not None
    assert found.sampled is not None
    assert "(tested samples +" in found.difference_text
    assert "; seeds +" in found.difference_text
    assert found.p_adjusted == max(found.difference.p or 0, found.sampled.p)
    assert found.reach is not None
    assert found.reach[0] == min(found.sampled.low, found.difference.low or 1)


def test_with_one_seed_nothing_is_marked_that_depends_on_it(tmp_path: Any):
    found, note, _ = result_of_b(tmp_path, DRAWN, {"A": (0.6,), "B": (0.8,)})
    assert found.sampled is not None
    assert found.sampled.low > 0
    assert not found.significant
    assert "With one seed, nothing is marked that depends on the seed." in note


@pytest.mark.parametrize("changes", [{"kept": False}, {"bootstrap": 0}])
def test_without_answers_or_draws_the_seeds_alone_speak_and_the_note_says_so(tmp_path: Any, changes: dict[str, Any]):
    shares = {"A": (0.6,) * 3, "B": (0.75, 0.8, 0.85)}
    found, note, _ = result_of_b(tmp_path / "drawn", DRAWN, shares, **changes)
    assert found.sampled is None
    assert found.difference_text.count("(seeds +") == 1
    assert "over the seeds alone" in note
    found, _, _ = result_of_b(tmp_path / "fixed", FIXED, {"A": (0.6,) * 3, "B": (0.8,) * 3}, **changes)
    assert found.difference_text.endswith("(no interval)")
    assert not found.significant


def test_kept_answers_come_back_and_damaged_ones_are_none(tmp_path: Any):
    dataset = {"kind": "folders", "path": "somewhere"}
    tasks = [{"name": "t", "kind": "classification", "dataset": dataset}]
    study = StudyConfig.model_validate({"arms": FIXED, "tasks": tasks})
    files, arm, task = ScoreFiles(study, tmp_path), study.arms[0], study.tasks[0]
    assert files.answers(arm, task, 0) is None
    given = answers(TRUTH, TRUTH > 0)
    files.keep_answers(arm, task, 0, given)
    found = files.answers(arm, task, 0)
    assert found is not None
    for name in ("truth", "groups"):
        np.testing.assert_array_equal(getattr(found, name), getattr(given, name))
    np.testing.assert_array_equal(found.predicted["knn"], given.predicted["knn"])
    assert files.answers(arm, task.model_copy(update={"bootstrap": 7}), 0) is None
    (path,) = tmp_path.rglob("seed-0.json")
    whole = path.read_text()
    for damage in ('"truth": "0 ', '"truth": "x ', '"truth": "'):
        path.write_text(whole.replace('"truth": "0 1 ', damage))
        assert files.answers(arm, task, 0) is None
