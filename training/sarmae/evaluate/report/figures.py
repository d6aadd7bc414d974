"""The plots of a study, under the tables they belong to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from re import Pattern
from typing import Final

from sarmae.evaluate.plots import Labels, Mark, Series, forest, label_curve, looks_curve
from sarmae.evaluate.report.study_tables import FEW_LABELS, FEWER_LOOKS, LABELS, LOOKS
from sarmae.evaluate.summary import Line, Question, main_questions

MOST_LINES: Final = 5  # of a plot; more bands cannot be told apart
ALL_LABELS: Final = 100.0


@dataclass(frozen=True, kw_only=True)
class Figure:
    """table: title of the table it stands with."""

    table: str
    svg: str
    caption: str


def figures_of(lines: Sequence[Line]) -> list[Figure]:
    """Differences to the controls by task; scores against labels and against looks where they were asked for."""
    figures = []
    for task, questions in main_questions(lines).items():
        plain = [line for line in lines if line.question == questions[-1]]
        figures += _differences(task, plain)
        special = [
            line
            for line in lines
            if line.question.task == task
            and line.question.protocol == questions[-1].protocol
            and line.question.metric == questions[-1].metric
            and line.question != questions[-1]
        ]
        figures += _label_curves(task, questions[-1], plain, special)
        figures += _looks_curve(task, questions[-1], plain, special)
    return figures


def _differences(task: str, plain: Sequence[Line]) -> list[Figure]:
    marks = [
        Mark(name=line.arm, value=line.difference.mean, low=line.difference.low, high=line.difference.high)
        for line in plain
        if line.difference is not None
    ]
    if not marks:
        return []
    question = plain[0].question
    labels = Labels(title=f"{task}: {question.protocol}", x=f"difference of {question.metric} to the control")
    caption = "Mean difference over seeds with its 95 % t interval, before correction; hollow where it holds 0."
    return [Figure(table=task, svg=_text(forest(marks, labels)), caption=caption)]


def _label_curves(task: str, question: Question, plain: Sequence[Line], special: Sequence[Line]) -> list[Figure]:
    """One plot for labels a class, one for shares of the labels; the latter ends in the plain answer."""
    figures = []
    for unit, axis in (("a class", "labels a class"), ("% of the labels", "share of the labels in %")):
        asked = [line for line in special if (found := LABELS.match(line.question.setting)) and found["unit"] == unit]
        ends = plain if unit.startswith("%") else ()
        if asked:
            series = _series(asked, LABELS, {line.arm: (ALL_LABELS, line) for line in ends}, plain)
            labels = Labels(title=f"{task}: {question.protocol}", x=axis, y=question.metric)
            svg = _text(label_curve(series, labels))
            figures.append(Figure(table=f"{task}, {FEW_LABELS}", svg=svg, caption=_caption(series, plain)))
    return figures


def _looks_curve(task: str, question: Question, plain: Sequence[Line], special: Sequence[Line]) -> list[Figure]:
    asked = [line for line in special if LOOKS.match(line.question.setting)]
    if not asked:
        return []
    series = _series(asked, LOOKS, {}, plain)
    labels = Labels(
        title=f"{task}: {question.protocol}", x="equivalent number of looks of the test images", y=question.metric
    )
    caption = f"{_caption(series, plain)} The classifier learned from images as they are."
    return [Figure(table=f"{task}, {FEWER_LOOKS}", svg=_text(looks_curve(series, labels)), caption=caption)]


def _series(
    asked: Sequence[Line], pattern: Pattern[str], ends: dict[str, tuple[float, Line]], plain: Sequence[Line]
) -> list[Series]:
    """Of the first arm and of the best in the plain setting, MOST_LINES in all."""
    best = [line.arm for line in sorted(plain, key=lambda line: -line.mean)]
    shown = set(list(dict.fromkeys([plain[0].arm, *best]))[:MOST_LINES])
    series = []
    for arm in dict.fromkeys(line.arm for line in asked if line.arm in shown):
        points = {float(pattern.match(line.question.setting)["number"]): line for line in asked if line.arm == arm}  # type: ignore[index]  # they matched before
        points |= dict([ends[arm]]) if arm in ends else {}
        ordered = sorted(points.items())
        series.append(
            Series(
                name=arm,
                x=tuple(x for x, _ in ordered),
                y=tuple(line.mean for _, line in ordered),
                low=tuple(math.nan if line.low is None else line.low for _, line in ordered),
                high=tuple(math.nan if line.high is None else line.high for _, line in ordered),
            )
        )
    return series


def _caption(series: Sequence[Series], plain: Sequence[Line]) -> str:
    told = "Mean over seeds and its 95 % t interval."
    if len(plain) > len(series):
        told += f" Of {len(plain)} encoders the first and the best {len(series) - 1} in the plain setting."
    return told


def _text(svg: bytes) -> str:
    """From <svg on: a page takes no XML declaration."""
    text = svg.decode()
    return text[text.index("<svg") :]
