"""The result of a quick check."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class QuickCheck:
    """One question to a pretrained run, and its result.

    compared: what was compared, and on how many samples.
    values: (name, value) in the order of reading; empty where the question does not apply.
    verdict: one or two sentences.
    """

    name: str
    compared: str
    values: tuple[tuple[str, float], ...]
    verdict: str
