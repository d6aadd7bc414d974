"""The plots of a study and the tables below which they stand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from re import Pattern
from typing import Final

from sarmae.evaluate.plots import Labels, Mark, Series, forest, label_curve, looks_curve
from sarmae.evaluate.report.study_tables import FEW_LABELS, FEWER_LOOKS, LABELS, LOOKS
from sarmae.evaluate.summary import ArmResult, Question, main_questions

MOST_LINES: Final = 5  # of a plot; more bands cannot be distinguished
ALL_LABELS: Final = 100.0


@dataclass(frozen=True, kw_only=True)
class StudyPlot:
    """A plot. table: title of the table with which it stands."""

    table: str
    svg: str
    caption: str


def plots_of(results: Sequence[ArmResult]) -> list[StudyPlot]:
    """For each task: differences to the controls, and scores against labels and against looks where these were
    evaluated.
    """
    plots = []
    for task, questions in main_questions(results).items():
        plain = [result for result in results if result.question == questions[-1]]
        plots += _differences(task, plain)
        special = [
            result
            for result in results
            if result.question.task == task
            and result.question.protocol == questions[-1].protocol
            and result.question.metric == questions[-1].metric
            and result.question != questions[-1]
        ]
        plots += _label_curves(task, questions[-1], plain, special)
        plots += _looks_curve(task, questions[-1], plain, special)
    return plots


def _differences(task: str, plain: Sequence[ArmResult]) -> list[StudyPlot]:
    marks = [
        Mark(name=result.arm, value=result.difference.mean, low=low, high=high)
        for result in plain
        for low, high in [result.reach or (None, None)]
        if result.difference is not None
    ]
    if not marks:
        return []
    question = plain[0].question
    labels = Labels(title=f"{task}: {question.protocol}", x=f"difference of {question.metric} to the control")
    caption = (
        "Mean difference over seeds, before correction. The bar joins the 95 % intervals over the tested samples and "
        "over the seeds, as far as there are; hollow where it includes 0."
    )
    return [StudyPlot(table=task, svg=_text(forest(marks, labels)), caption=caption)]


def _label_curves(
    task: str, question: Question, plain: Sequence[ArmResult], special: Sequence[ArmResult]
) -> list[StudyPlot]:
    """One plot for labels a class, and one for shares of the labels, which ends with the result for all labels."""
    plots = []
    for unit, axis in (("a class", "labels a class"), ("% of the labels", "share of the labels in %")):
        chosen = [
            result for result in special if (found := LABELS.match(result.question.setting)) and found["unit"] == unit
        ]
        ends = plain if unit.startswith("%") else ()
        if chosen:
            series = _series(chosen, LABELS, {result.arm: (ALL_LABELS, result) for result in ends}, plain)
            labels = Labels(title=f"{task}: {question.protocol}", x=axis, y=question.metric)
            svg = _text(label_curve(series, labels))
            plots.append(StudyPlot(table=f"{task}, {FEW_LABELS}", svg=svg, caption=_caption(series, plain)))
    return plots


def _looks_curve(
    task: str, question: Question, plain: Sequence[ArmResult], special: Sequence[ArmResult]
) -> list[StudyPlot]:
    chosen = [result for result in special if LOOKS.match(result.question.setting)]
    if not chosen:
        return []
    series = _series(chosen, LOOKS, {}, plain)
    labels = Labels(
        title=f"{task}: {question.protocol}", x="equivalent number of looks of the test images", y=question.metric
    )
    caption = f"{_caption(series, plain)} The classifier was trained on images without added speckle."
    return [StudyPlot(table=f"{task}, {FEWER_LOOKS}", svg=_text(looks_curve(series, labels)), caption=caption)]


def _series(
    chosen: Sequence[ArmResult],
    pattern: Pattern[str],
    ends: dict[str, tuple[float, ArmResult]],
    plain: Sequence[ArmResult],
) -> list[Series]:
    """The curves of the first arm and of the best arms in the plain setting, MOST_LINES in all."""
    best = [result.arm for result in sorted(plain, key=lambda result: -result.mean)]
    shown = set(list(dict.fromkeys([plain[0].arm, *best]))[:MOST_LINES])
    series = []
    for arm in dict.fromkeys(result.arm for result in chosen if result.arm in shown):
        points = {_number(pattern, result): result for result in chosen if result.arm == arm}
        points |= dict([ends[arm]]) if arm in ends else {}
        ordered = sorted(points.items())
        series.append(
            Series(
                name=arm,
                x=tuple(x for x, _ in ordered),
                y=tuple(result.mean for _, result in ordered),
                low=tuple(math.nan if result.low is None else result.low for _, result in ordered),
                high=tuple(math.nan if result.high is None else result.high for _, result in ordered),
            )
        )
    return series


def _number(pattern: Pattern[str], result: ArmResult) -> float:
    """The number in a setting that matches the pattern."""
    found = pattern.match(result.question.setting)
    return math.nan if found is None else float(found["number"])


def _caption(series: Sequence[Series], plain: Sequence[ArmResult]) -> str:
    caption = "Mean over seeds and its 95 % t interval."
    if len(plain) > len(series):
        caption += f" Of {len(plain)} encoders: the first one, and the best {len(series) - 1} in the plain setting."
    return caption


def _text(svg: bytes) -> str:
    """From <svg on: a page takes no XML declaration."""
    text = svg.decode()
    return text[text.index("<svg") :]
