"""A score: one number that a protocol gives for one encoder."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Score:
    """One result.

    protocol: `knn`, `linear`, `attentive`, `fine-tune`, `pyramid`, `fcos` ...
    setting: what was special, such as "10 a class", "30 % of the labels", "ENL 4"; empty for the plain case.
    low, high: 95 % bootstrap interval over the tested samples (groups of near-copies are drawn whole); None where there
    is none.
    tested: number of samples behind it.
    """

    protocol: str
    setting: str
    metric: str
    value: float
    low: float | None
    high: float | None
    tested: int
