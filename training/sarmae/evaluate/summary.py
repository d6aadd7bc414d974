"""From single scores to the results of a study: means over seeds with intervals, and differences to a control.

A difference has up to two intervals: over the tested samples (classification, by the answers to each of them) and over
the seeds. An encoder that exists already, with a classifier that draws nothing, has the first alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from sarmae.evaluate.classify.measures import MEASURES
from sarmae.evaluate.classify.paired import paired_by_sample
from sarmae.evaluate.score_files import Row, ScoreFiles
from sarmae.evaluate.scores import Answers
from sarmae.evaluate.study_config import ArmConfig, StudyConfig, TaskConfig
from sarmae.evaluate.uncertainty import Difference, SampledDifference, holm, paired_difference, seed_interval

LEVEL: Final = 0.05
SAMPLED_METRIC: Final = next(iter(MEASURES))  # of classification, in the plain setting: what differences are shown of
DRAWS_NOTHING: Final = ("knn", "linear")  # protocols whose result does not depend on the seed


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
    sampled: of that difference, over the tested samples; None where the answers to each sample are not kept, and for
    other metrics and settings than the main ones.
    p_adjusted: p of the difference after Holm's correction over the arms of the question. Where both intervals exist
    it is the larger of their p values, because a claim needs both. None with one seed, where seeds change the result.
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
    sampled: SampledDifference | None
    p_adjusted: float | None

    @property
    def text(self) -> str:
        """0.684, or 0.684 (0.671 to 0.697)."""
        if self.low is None or self.high is None:
            return f"{self.mean:.3f}"
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"

    @property
    def difference_text(self) -> str:
        """+0.021 (tested samples +0.003 to +0.039; seeds -0.002 to +0.044), with * where it is significant after
        correction; a dash where there is no difference.
        """
        if self.difference is None:
            return "–"
        texts = [f"{source} {low:+.3f} to {high:+.3f}" for source, (low, high) in self._intervals().items()]
        mark = "*" if self.significant else ""
        return f"{self.difference.mean:+.3f}{mark} ({'; '.join(texts) or 'no interval'})"

    @property
    def reach(self) -> tuple[float, float] | None:
        """From the lowest to the highest end of the intervals of the difference; None without any."""
        ends = [end for interval in self._intervals().values() for end in interval]
        return (min(ends), max(ends)) if ends else None

    @property
    def significant(self) -> bool:
        """Whether the arm differs from its control, at LEVEL after Holm's correction."""
        return self.p_adjusted is not None and self.p_adjusted < LEVEL

    def _intervals(self) -> dict[str, tuple[float, float]]:
        """The intervals of the difference, by what varies."""
        found = {} if self.sampled is None else {"tested samples": self.sampled[:2]}
        if self.difference is not None and self.difference.low is not None and self.difference.high is not None:
            found["seeds"] = (self.difference.low, self.difference.high)
        return found


def summarise(files: ScoreFiles) -> list[ArmResult]:
    """One result for each question and arm, in the order of the study; questions in the order of their first score.

    Raises ConfigError where arms of a task answered to different samples, because the images changed.
    """
    by_question: dict[Question, dict[str, list[Row]]] = {}
    for row in files.rows():
        score = row.score
        question = Question(task=row.task, protocol=score.protocol, setting=score.setting, metric=score.metric)
        by_question.setdefault(question, {}).setdefault(row.arm, []).append(row)
    results = []
    for task in files.study.tasks:
        answers = _answers(files, task)
        asked = {question: arms for question, arms in by_question.items() if question.task == task.name}
        for question, arms in asked.items():
            sampled = _Sampled(study=files.study, task=task, question=question, answers=answers)
            results += _arm_results(files.study, question, arms, sampled)
    return results


def main_questions(results: Iterable[ArmResult]) -> dict[str, list[Question]]:
    """For each task, the first question of every protocol: the plain setting in the main metric."""
    found: dict[str, list[Question]] = {}
    for result in results:
        question = result.question
        asked = found.setdefault(question.task, [])
        if question.protocol not in {other.protocol for other in asked}:
            asked.append(question)
    return found


def _answers(files: ScoreFiles, task: TaskConfig) -> dict[str, dict[int, Answers]]:
    """The kept answers of a task by arm and seed."""
    return {
        arm.name: {seed: found for seed in files.study.seeds if (found := files.answers(arm, task, seed)) is not None}
        for arm in files.study.arms
    }


@dataclass(frozen=True, kw_only=True)
class _Sampled:
    """Differences over the tested samples, for one question."""

    study: StudyConfig
    task: TaskConfig
    question: Question
    answers: Mapping[str, Mapping[int, Answers]]

    def difference(self, arm: str, control: str) -> SampledDifference | None:
        """Of two arms; None for what has no such interval."""
        if (self.question.setting, self.question.metric) != ("", SAMPLED_METRIC):
            return None
        a, b = self.answers[arm], self.answers[control]
        draws, seed = self.task.bootstrap, self.study.seeds[0]
        return paired_by_sample(a, b, self.question.protocol, draws=draws, seed=seed)


def _arm_results(
    study: StudyConfig, question: Question, arms: dict[str, list[Row]], sampled: _Sampled
) -> list[ArmResult]:
    first, there = study.arms[0].name, [arm for arm in study.arms if arm.name in arms]
    results = [_arm_result(question, arm, arms, arm.control or first, sampled) for arm in there]
    fixed = {arm.name for arm in study.arms if arm.encoder not in {None, "random"}}
    p_values = {result.arm: p for result in results if (p := _p_value(result, fixed)) is not None}
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    return [replace(result, p_adjusted=adjusted.get(result.arm)) for result in results]


def _p_value(result: ArmResult, fixed: set[str]) -> float | None:
    """The larger p of the two intervals. fixed: arms whose encoder is the same at every seed."""
    if result.difference is None:
        return None
    seedless = {result.arm, result.control} <= fixed and result.question.protocol in DRAWS_NOTHING
    if result.difference.seeds < 2 and not seedless:
        return None
    return max((part.p for part in (result.difference, result.sampled) if part and part.p is not None), default=None)


def _arm_result(
    question: Question, arm: ArmConfig, arms: dict[str, list[Row]], control: str, sampled: _Sampled
) -> ArmResult:
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
        sampled=sampled.difference(arm.name, control) if compared else None,
        p_adjusted=None,
    )
