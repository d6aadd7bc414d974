"""From single scores to the results of a study: means over seeds with intervals, and differences to a control."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from sarmae.evaluate.score_files import Row, ScoreFiles
from sarmae.evaluate.study_config import ArmConfig, StudyConfig
from sarmae.evaluate.uncertainty import Difference, holm, paired_difference, seed_interval

LEVEL: Final = 0.05


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a score measures: a task, by a protocol, in a setting, with a metric."""

    task: str
    protocol: str
    setting: str
    metric: str


@dataclass(frozen=True, kw_only=True)
class ArmResult:
    """The scores of one arm for one question.

    by_seed: in the order of the study's seeds, only seeds with a score.
    low, high: 95 % t interval of the mean over seeds. Where seeds change nothing, or there is only one: the bootstrap
    interval over the tested samples, of the first seed.
    tested: number of tested samples.
    difference: to the control, paired by seed; None for the control itself and without a common seed.
    p_adjusted: p of that difference after Holm's correction over the arms of the question.
    """

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
    def text(self) -> str:
        """0.684, or 0.684 (0.671 to 0.697)."""
        if self.low is None or self.high is None:
            return f"{self.mean:.3f}"
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"

    @property
    def difference_text(self) -> str:
        """+0.021 (0.003 to 0.039), with * where it is significant after correction; a dash where there is no
        difference.
        """
        if self.difference is None or self.difference.low is None:
            return "–"
        mark = "*" if self.significant else ""
        return f"{self.difference.mean:+.3f}{mark} ({self.difference.low:+.3f} to {self.difference.high:+.3f})"

    @property
    def significant(self) -> bool:
        """Whether the arm differs from its control, at LEVEL after Holm's correction."""
        return self.p_adjusted is not None and self.p_adjusted < LEVEL


def summarise(files: ScoreFiles) -> list[ArmResult]:
    """One result for each question and arm, in the order of the study; questions in the order of their first score."""
    by_question: dict[Question, dict[str, list[Row]]] = {}
    for row in files.rows():
        score = row.score
        question = Question(task=row.task, protocol=score.protocol, setting=score.setting, metric=score.metric)
        by_question.setdefault(question, {}).setdefault(row.arm, []).append(row)
    return [result for question, arms in by_question.items() for result in _arm_results(files.study, question, arms)]


def main_questions(results: Iterable[ArmResult]) -> dict[str, list[Question]]:
    """For each task, the first question of every protocol: the plain setting in the main metric."""
    found: dict[str, list[Question]] = {}
    for result in results:
        question = result.question
        asked = found.setdefault(question.task, [])
        if question.protocol not in {other.protocol for other in asked}:
            asked.append(question)
    return found


def _arm_results(study: StudyConfig, question: Question, arms: dict[str, list[Row]]) -> list[ArmResult]:
    first = study.arms[0].name
    results = [_arm_result(question, arm, arms, arm.control or first) for arm in study.arms if arm.name in arms]
    p_values = {
        result.arm: result.difference.p for result in results if result.difference and result.difference.p is not None
    }
    adjusted = dict(zip(p_values, holm([p for p in p_values.values() if p is not None]), strict=True))
    return [replace(result, p_adjusted=adjusted.get(result.arm)) for result in results]


def _arm_result(question: Question, arm: ArmConfig, arms: dict[str, list[Row]], control: str) -> ArmResult:
    own = {row.seed: row.score.value for row in arms[arm.name]}
    mean, low, high = seed_interval(list(own.values()))
    others = {row.seed: row.score.value for row in arms.get(control, ())}
    if low is None:  # the seed decides nothing, or there is one: what the tested samples alone leave open
        low, high = arms[arm.name][0].score.low, arms[arm.name][0].score.high
    compared = arm.name != control and bool(own.keys() & others)
    return ArmResult(
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
