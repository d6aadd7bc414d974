"""From single scores to what a study says: means over seeds with intervals, and differences to a control."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from sarmae.evaluate.score_files import Kept, Row
from sarmae.evaluate.study_config import ArmConfig, StudyConfig
from sarmae.evaluate.uncertainty import Difference, holm, paired_difference, seed_interval

LEVEL: Final = 0.05


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a score answers: a task by a protocol in a setting, in a metric."""

    task: str
    protocol: str
    setting: str
    metric: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """An arm's answer to a question. by_seed: in the order of the study's seeds, only those that answered. low, high:
    95 % t interval of the mean over seeds; where seeds change nothing, or there is one, the first one's bootstrap
    interval over the tested samples. tested: samples. difference: to the control, paired by seed, None for the control
    itself and without a common seed. p_adjusted: Holm's, over the arms of the question."""

    question: Question
    arm: str
    control: str
    by_seed: tuple[float, ...]
    mean: float
    low: float | None
    high: float | None
    tested: int
    difference: Difference | None
    p_adjusted: float | None

    @property
    def told(self) -> str:
        """0.684, or 0.684 (0.671 to 0.697)."""
        if self.low is None or self.high is None:
            return f"{self.mean:.3f}"
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"

    @property
    def told_difference(self) -> str:
        """+0.021 (0.003 to 0.039), with * where it is significant after correction; a dash where there is none."""
        if self.difference is None or self.difference.low is None:
            return "–"
        mark = "*" if self.significant else ""
        return f"{self.difference.mean:+.3f}{mark} ({self.difference.low:+.3f} to {self.difference.high:+.3f})"

    @property
    def significant(self) -> bool:
        """Whether the difference to the control is, at LEVEL after Holm's correction."""
        return self.p_adjusted is not None and self.p_adjusted < LEVEL


def summarise(kept: Kept) -> list[Line]:
    """One line a question and arm, in the study's order; questions in the order in which they were answered."""
    by_question: dict[Question, dict[str, list[Row]]] = {}
    for row in kept.rows():
        score = row.score
        question = Question(task=row.task, protocol=score.protocol, setting=score.setting, metric=score.metric)
        by_question.setdefault(question, {}).setdefault(row.arm, []).append(row)
    return [line for question, arms in by_question.items() for line in _lines(kept.study, question, arms)]


def main_questions(lines: Iterable[Line]) -> dict[str, list[Question]]:
    """Of every task the first question of each protocol: the plain setting in the main metric."""
    found: dict[str, list[Question]] = {}
    for line in lines:
        question = line.question
        asked = found.setdefault(question.task, [])
        if question.protocol not in {other.protocol for other in asked}:
            asked.append(question)
    return found


def _lines(study: StudyConfig, question: Question, arms: dict[str, list[Row]]) -> list[Line]:
    first = study.arms[0].name
    told = [_line(question, arm, arms, arm.control or first) for arm in study.arms if arm.name in arms]
    p_values = {line.arm: line.difference.p for line in told if line.difference and line.difference.p is not None}
    adjusted = dict(zip(p_values, holm([p for p in p_values.values() if p is not None]), strict=True))
    return [replace(line, p_adjusted=adjusted.get(line.arm)) for line in told]


def _line(question: Question, arm: ArmConfig, arms: dict[str, list[Row]], control: str) -> Line:
    own = {row.seed: row.score.value for row in arms[arm.name]}
    mean, low, high = seed_interval(list(own.values()))
    others = {row.seed: row.score.value for row in arms.get(control, ())}
    if low is None:  # the seed decides nothing, or there is one: what the tested samples alone leave open
        low, high = arms[arm.name][0].score.low, arms[arm.name][0].score.high
    compared = arm.name != control and bool(own.keys() & others)
    return Line(
        question=question,
        arm=arm.name,
        control=control,
        by_seed=tuple(own.values()),
        mean=mean,
        low=low,
        high=high,
        tested=arms[arm.name][0].score.tested,
        difference=paired_difference(own, others) if compared else None,
        p_adjusted=None,
    )
