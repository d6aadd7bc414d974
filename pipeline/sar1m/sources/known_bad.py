"""Acquisitions that are known to be wrong and that no check of a single product would find."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Final

from sar1m.store.side_files import toml_value

_FILE: Final = "known_bad_scenes.toml"


@dataclass(frozen=True, kw_only=True)
class BadSpan:
    """A stretch of one platform's time, ends included. evidence: where it is documented."""

    platform: str
    first: datetime
    last: datetime
    reason: str
    evidence: str


@cache
def bad_spans() -> tuple[BadSpan, ...]:
    """The list that comes with the package."""
    text = files("sar1m.sources").joinpath(_FILE).read_text(encoding="utf-8")
    return tuple(BadSpan(**entry) for entry in toml_value(text)["span"])


def known_fault(platform: str, start: datetime) -> str | None:
    """What is wrong with an acquisition of platform (such as sentinel-1b) that starts then, and where that is
    documented; None where nothing is known."""
    for span in bad_spans():
        if span.platform == platform and span.first <= start <= span.last:
            return f"{span.reason} ({span.evidence})"
    return None
