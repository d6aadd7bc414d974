"""From scores to what a study says, against figures reckoned by hand and by scipy."""

import pytest
from scipy import stats

from sarmae.evaluate.report.study_tables import rank_table, result_table, setting_tables
from sarmae.evaluate.score_files import ScoreFiles
from sarmae.evaluate.scores import Score
from sarmae.evaluate.study_config import StudyConfig
from sarmae.evaluate.summary import main_questions, summarise

TASKS = ("first", "second")
VALUES = {"A": (0.50, 0.52, 0.51), "B": (0.60, 0.63, 0.62), "C": (0.40, 0.40, 0.40)}


def score(protocol, value, setting="", metric="balanced accuracy"):
    return Score(
        protocol=protocol, setting=setting, metric=metric, value=value, low=value - 0.1, high=value + 0.2, tested=90
    )


@pytest.fixture
def kept(tmp_path):
    dataset = {"kind": "folders", "path": "somewhere"}
    tasks = [
        {"name": name, "kind": "classification", "dataset": dataset | {"split_seed": at}}
        for at, name in enumerate(TASKS)
    ]
    arms = [{"name": "A"}, {"name": "B"}, {"name": "C", "encoder": "statistics", "control": "B"}]
    kept = ScoreFiles(StudyConfig.model_validate({"arms": arms, "tasks": tasks}), tmp_path)
    for arm in kept.study.arms:
        for seed, value in zip(kept.study.seeds, VALUES[arm.name], strict=True):
            answers = [score("knn", value / 2), score("linear", value), score("linear", 0.9, metric="accuracy")]
            answers += [
                score("linear", value - 0.2, "5 a class"),
                score("linear", value - 0.1, "ENL 2 (1 of 90 images as they are)"),
            ]
            for task in kept.study.tasks:
                kept.keep_scores(arm, task, seed, answers)
    return kept


def line_of(lines, task, arm, protocol="linear", setting=""):
    wanted = (task, protocol, setting, "balanced accuracy")
    (found,) = [
        line
        for line in lines
        if (line.question.task, line.question.protocol, line.question.setting, line.question.metric) == wanted
        and line.arm == arm
    ]
    return found


def test_means_intervals_and_differences_are_those_of_scipy(kept):
    lines = summarise(kept)
    b = line_of(lines, "first", "B")
    assert b.mean == pytest.approx(sum(VALUES["B"]) / 3)
    low, high = stats.t.interval(0.95, 2, loc=b.mean, scale=stats.sem(VALUES["B"]))
    assert (b.low, b.high) == pytest.approx((low, high))
    assert b.difference.p == pytest.approx(stats.ttest_rel(VALUES["B"], VALUES["A"]).pvalue)
    assert line_of(lines, "first", "A").difference is None


def test_an_arm_is_held_against_its_own_control_and_corrected_with_all_others(kept):
    lines = summarise(kept)
    b, c = (line_of(lines, "first", arm) for arm in "BC")
    assert c.control == "B"
    assert c.difference.mean == pytest.approx(-b.mean + 0.40)
    smaller, larger = sorted([b.difference.p, c.difference.p])
    assert sorted([b.p_adjusted, c.p_adjusted]) == pytest.approx([2 * smaller, max(larger, 2 * smaller)])


def test_what_no_seed_changes_has_the_interval_of_its_samples(kept):
    c = line_of(summarise(kept), "second", "C")
    assert (c.mean, c.low, c.high) == pytest.approx((0.40, 0.30, 0.60))


def test_tables_hold_every_arm_and_the_settings_apart(kept):
    lines = summarise(kept)
    assert [question.protocol for question in main_questions(lines)["first"]] == ["knn", "linear"]
    table = result_table("first", lines)
    assert [row[0] for row in table.rows] == ["A", "B", "C"]
    assert table.rows[1][2].startswith("0.617 (")
    titles = {table.title: table for table in setting_tables("first", lines)}
    assert set(titles) == {"first, with few labels", "first, with fewer looks"}
    looks = titles["first, with fewer looks"]
    assert looks.head == ("encoder", "linear, ENL 2")
    assert "1 of 90 images as they are" in looks.note
    ranks = rank_table(lines)
    assert [row[0] for row in ranks.rows] == ["B", "A", "C"]
    assert ranks.rows[0][1:] == ("1", "1", "1.0")
