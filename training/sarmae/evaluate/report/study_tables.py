"""The tables of a study, for the Markdown file and for the page."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sarmae.evaluate.score_files import ScoreFiles
from sarmae.evaluate.summary import LEVEL, ArmResult, Question, main_questions

LABELS: Final = re.compile(r"^(?P<number>[\d.]+) (?P<unit>a class|% of the labels)")
LOOKS: Final = re.compile(r"^ENL (?P<number>[\d.]+)")
FEW_LABELS: Final = "with few labels"  # titles of tables after the task's
FEWER_LOOKS: Final = "with fewer looks"
BY_ATTRIBUTE: Final = "by attribute"


@dataclass(frozen=True, kw_only=True)
class Table:
    """head: names of the columns; the first column names the row. note: how to read the table."""

    title: str
    note: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def result_table(task: str, results: Sequence[ArmResult]) -> Table:
    """The results of every arm by each protocol, in its main metric, and the difference to its control."""
    questions = main_questions(results)[task]
    by_place = {(result.question, result.arm): result for result in results}
    compared = questions[-1]
    rows = []
    for arm in _arms(results, task):
        answers = [by_place.get((question, arm)) for question in questions]
        against = by_place.get((compared, arm))
        texts = ["–" if answer is None else answer.text for answer in answers]
        difference = "–" if against is None else against.difference_text
        rows.append((arm, *texts, difference, "" if against is None or against.difference is None else against.control))
    tested = max(result.tested for result in results if result.question.task == task)
    note = (
        f"Mean and 95 % t interval over the seeds. Where seeds change nothing: the bootstrap interval over the "
        f"{tested:,} tested samples. {_of_differences(results, compared)} Metric: {questions[0].metric}."
    )
    head = ("encoder", *(question.protocol for question in questions), f"{compared.protocol}, difference", "to")
    return Table(title=task, note=note, head=head, rows=tuple(rows))


def _of_differences(results: Sequence[ArmResult], compared: Question) -> str:
    """How the differences of a table are to be read: what their intervals come from."""
    compares = [result for result in results if result.question == compared and result.difference is not None]
    if not compares:
        return "There is no other encoder to compare with."
    sampled = any(result.sampled is not None for result in compares)
    sources = (
        "Differences have up to two 95 % intervals. Tested samples: paired bootstrap; how much the choice of the test "
        "samples leaves open, with the trained models as they are. Seeds: paired t interval; how much weights, order "
        "and drawn labels leave open, with the test samples as they are; none where seeds change nothing."
        if sampled
        else "Differences have a 95 % interval over the seeds alone (paired t interval), and none where seeds change "
        "nothing. An interval over the tested samples needs draws and the answer to each sample, which is kept for "
        "classification only."
    )
    return (
        f"{sources} * marks a p value below {LEVEL:.0%} after Holm's correction over the arms of the table; of two "
        "intervals, the larger p counts. With one seed, nothing is marked that depends on the seed."
    )


def setting_tables(task: str, results: Sequence[ArmResult]) -> list[Table]:
    """Results in special settings, where there are any: with few labels, with fewer looks, by an attribute."""
    kinds: tuple[tuple[str, Callable[[str], object], str], ...] = (
        (FEW_LABELS, LABELS.match, "Every seed draws other labels. A smaller share is part of a larger one."),
        (FEWER_LOOKS, LOOKS.match, "Speckle was added to the test images, until they had so many equivalent looks."),
        (BY_ATTRIBUTE, _other, "Parts of the test samples, by their attributes."),
    )
    tables = []
    for title, belongs, note in kinds:
        wanted = [question for question in _main_in_settings(task, results) if belongs(question.setting)]
        if wanted:
            tables.append(_by_setting(f"{task}, {title}", note, wanted, results))
    return tables


def rank_table(results: Sequence[ArmResult]) -> Table | None:
    """The rank of each encoder in every task by the last protocol; None for less than two tasks."""
    main = main_questions(results)
    if len(main) < 2:
        return None
    ranks: dict[str, list[str]] = {}
    means: dict[str, list[float]] = {}
    for questions in main.values():
        answers = sorted(
            (result for result in results if result.question == questions[-1]), key=lambda result: -result.mean
        )
        placed = {result.arm: place for place, result in enumerate(answers, start=1)}
        for arm in _arms(results, None):
            ranks.setdefault(arm, []).append(str(placed.get(arm, "–")))
            means.setdefault(arm, []).extend([float(placed[arm])] if arm in placed else [])
    rows = [(arm, *places, f"{sum(means[arm]) / len(means[arm]):.1f}") for arm, places in ranks.items() if means[arm]]
    rows.sort(key=lambda row: float(row[-1]))
    note = "Rank by the mean over seeds (1: best), by the last protocol of each task. Ranks hide how close arms are."
    return Table(title="One encoder across tasks", note=note, head=("encoder", *main, "mean rank"), rows=tuple(rows))


def check_table(files: ScoreFiles) -> Table | None:
    """The quick checks of pretrained arms, at the first seed that has them; None where there are none."""
    found: dict[str, list[dict[str, Any]]] = {}
    for arm in files.study.arms:
        checks = next((checks for seed in files.study.seeds if (checks := files.checks(arm, seed)) is not None), None)
        if checks is not None:
            found[arm.name] = checks
    answered = [(arm, check) for arm, checks in found.items() for check in checks if check["values"]]
    if not answered:
        return None
    rows = tuple((arm, *_check_cells(check)) for arm, check in answered)
    note = "Of the first seed: is the injected speckle as it should be, are masked patches predicted, do pairs agree."
    return Table(title="Quick checks", note=note, head=("encoder", "check", "measured", "verdict"), rows=rows)


def _check_cells(check: dict[str, Any]) -> tuple[str, str, str]:
    measured = ", ".join(f"{name} {value:.3g}" for name, value in check["values"])
    return str(check["name"]), measured, str(check["verdict"])


def _by_setting(title: str, note: str, questions: Sequence[Question], results: Sequence[ArmResult]) -> Table:
    by_place = {(result.question, result.arm): result for result in results}
    head = ("encoder", *(f"{question.protocol}, {question.setting.split(' (')[0]}" for question in questions))
    remarks = dict.fromkeys(question.setting for question in questions if " (" in question.setting)
    rows = []
    for arm in _arms(results, questions[0].task):
        answers = [by_place.get((question, arm)) for question in questions]
        rows.append((arm, *("–" if answer is None else answer.text for answer in answers)))
    note = " ".join([note, *(f"{remark}." for remark in remarks), f"Metric: {questions[0].metric}."])
    return Table(title=title, note=note, head=head, rows=tuple(rows))


def _main_in_settings(task: str, results: Sequence[ArmResult]) -> list[Question]:
    """Questions in the main metric of the task, in other settings than the plain one."""
    main = main_questions(results)[task]
    asked = dict.fromkeys(result.question for result in results if result.question.task == task)
    return [question for question in asked if question.metric == main[0].metric and question not in main]


def _other(setting: str) -> bool:
    return LABELS.match(setting) is None and LOOKS.match(setting) is None


def _arms(results: Sequence[ArmResult], task: str | None) -> list[str]:
    return list(dict.fromkeys(result.arm for result in results if task is None or result.question.task == task))
