"""What a quick check says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class QuickCheck:
    """One question to a pretrained run. compared: what was held against what, and on how much. values: (name, figure),
    in the order of reading; empty where the question does not arise. verdict: one or two sentences."""

    name: str
    compared: str
    values: tuple[tuple[str, float], ...]
    verdict: str
