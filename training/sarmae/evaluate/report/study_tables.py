"""The tables of a study, for Markdown and for the page alike."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sarmae.evaluate.score_files import Kept
from sarmae.evaluate.summary import LEVEL, Line, Question, main_questions

LABELS: Final = re.compile(r"^(?P<number>[\d.]+) (?P<unit>a class|% of the labels)")
LOOKS: Final = re.compile(r"^ENL (?P<number>[\d.]+)")
FEW_LABELS: Final = "with few labels"  # titles of tables after the task's
FEWER_LOOKS: Final = "with fewer looks"
TOLD_APART: Final = "told apart"


@dataclass(frozen=True, kw_only=True)
class Table:
    """head: of the columns, the first of which names the row. note: how to read it."""

    title: str
    note: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def answer_table(task: str, lines: Sequence[Line]) -> Table:
    """Every arm's answer by each protocol in its main metric, and what it differs by from its control."""
    questions = main_questions(lines)[task]
    by_place = {(line.question, line.arm): line for line in lines}
    compared = questions[-1]
    rows = []
    for arm in _arms(lines, task):
        answers = [by_place.get((question, arm)) for question in questions]
        against = by_place.get((compared, arm))
        told = ["–" if answer is None else answer.told for answer in answers]
        difference = "–" if against is None else against.told_difference
        rows.append((arm, *told, difference, "" if against is None or against.difference is None else against.control))
    tested = max(line.tested for line in lines if line.question.task == task)
    note = (
        f"Mean and 95 % t interval over the seeds; where these change nothing, the bootstrap's over the {tested:,} "
        f"tested samples. Differences are paired by seed; * marks those below {LEVEL:.0%} after Holm's correction over "
        f"the arms of the table. Metric: {questions[0].metric}."
    )
    head = ("encoder", *(question.protocol for question in questions), f"{compared.protocol}, difference", "to")
    return Table(title=task, note=note, head=head, rows=tuple(rows))


def setting_tables(task: str, lines: Sequence[Line]) -> list[Table]:
    """Answers in special settings: with few labels, with fewer looks, told apart by an attribute; none where there are
    none."""
    kinds: tuple[tuple[str, Callable[[str], object], str], ...] = (
        (FEW_LABELS, LABELS.match, "Labels are drawn anew by every seed; a smaller share is part of a larger."),
        (FEWER_LOOKS, LOOKS.match, "The test images got speckle until so many equivalent looks were left."),
        (TOLD_APART, _other, "Test samples told apart by what is known of them."),
    )
    tables = []
    for title, belongs, note in kinds:
        wanted = [question for question in _main_in_settings(task, lines) if belongs(question.setting)]
        if wanted:
            tables.append(_by_setting(f"{task}, {title}", note, wanted, lines))
    return tables


def rank_table(lines: Sequence[Line]) -> Table | None:
    """One representation across tasks: its rank in each by the last protocol; None for less than two tasks."""
    main = main_questions(lines)
    if len(main) < 2:
        return None
    ranks: dict[str, list[str]] = {}
    means: dict[str, list[float]] = {}
    for questions in main.values():
        answers = sorted((line for line in lines if line.question == questions[-1]), key=lambda line: -line.mean)
        placed = {line.arm: place for place, line in enumerate(answers, start=1)}
        for arm in _arms(lines, None):
            ranks.setdefault(arm, []).append(str(placed.get(arm, "–")))
            means.setdefault(arm, []).extend([float(placed[arm])] if arm in placed else [])
    rows = [(arm, *places, f"{sum(means[arm]) / len(means[arm]):.1f}") for arm, places in ranks.items() if means[arm]]
    rows.sort(key=lambda row: float(row[-1]))
    note = "Rank by the mean over seeds (1: best), by the last protocol of each task. Ranks hide how close arms are."
    return Table(title="One encoder across tasks", note=note, head=("encoder", *main, "mean rank"), rows=tuple(rows))


def check_table(kept: Kept) -> Table | None:
    """The quick checks of pretrained arms at their first checked seed; None where there are none."""
    found: dict[str, list[dict[str, Any]]] = {}
    for arm in kept.study.arms:
        checks = next((checks for seed in kept.study.seeds if (checks := kept.checks(arm, seed)) is not None), None)
        if checks is not None:
            found[arm.name] = checks
    answered = [(arm, check) for arm, checks in found.items() for check in checks if check["values"]]
    if not answered:
        return None
    rows = tuple((arm, *_check_cells(check)) for arm, check in answered)
    note = "Of the first seed: does the noise behave, does the decoder predict, do pairs agree more than strangers."
    return Table(title="Quick checks", note=note, head=("encoder", "asked", "measured", "says"), rows=rows)


def _check_cells(check: dict[str, Any]) -> tuple[str, str, str]:
    measured = ", ".join(f"{name} {value:.3g}" for name, value in check["values"])
    return str(check["name"]), measured, str(check["verdict"])


def _by_setting(title: str, note: str, questions: Sequence[Question], lines: Sequence[Line]) -> Table:
    by_place = {(line.question, line.arm): line for line in lines}
    head = ("encoder", *(f"{question.protocol}, {question.setting.split(' (')[0]}" for question in questions))
    remarks = dict.fromkeys(question.setting for question in questions if " (" in question.setting)
    rows = []
    for arm in _arms(lines, questions[0].task):
        answers = [by_place.get((question, arm)) for question in questions]
        rows.append((arm, *("–" if answer is None else answer.told for answer in answers)))
    note = " ".join([note, *(f"{remark}." for remark in remarks), f"Metric: {questions[0].metric}."])
    return Table(title=title, note=note, head=head, rows=tuple(rows))


def _main_in_settings(task: str, lines: Sequence[Line]) -> list[Question]:
    """Questions in another setting than the plain one, in the main metric of the task."""
    main = main_questions(lines)[task]
    asked = dict.fromkeys(line.question for line in lines if line.question.task == task)
    return [question for question in asked if question.metric == main[0].metric and question not in main]


def _other(setting: str) -> bool:
    return LABELS.match(setting) is None and LOOKS.match(setting) is None


def _arms(lines: Sequence[Line], task: str | None) -> list[str]:
    return list(dict.fromkeys(line.arm for line in lines if task is None or line.question.task == task))
