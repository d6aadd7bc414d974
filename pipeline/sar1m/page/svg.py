"""Inline SVG without a chart library: elements, axes and ticks. Everything that comes from a store is escaped here."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup

Attribute = str | float | int


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A drawing with its texts. Where nothing was measured, svg is None and note states what is missing."""

    name: str
    title: str
    svg: Markup | None
    note: str


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A linear scale from values lo..hi to drawing units start..end."""

    lo: float
    hi: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Drawing position of a value, also beyond the ends."""
        return self.start + (value - self.lo) / (self.hi - self.lo) * (self.end - self.start)

    def ticks(self, wanted: int) -> list[tuple[float, str]]:
        """Round values inside the scale with their texts, at most one more than wanted."""
        step = _round_step((self.hi - self.lo) / wanted)
        first = math.ceil(self.lo / step - 1e-9)
        last = math.floor(self.hi / step + 1e-9)
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        return [(n * step, f"{n * step:,.{decimals}f}".replace("-", "−")) for n in range(first, last + 1)]


def element(name: str, *children: Markup | str, **attributes: Attribute) -> Markup:
    """An SVG or HTML element. Texts are escaped and numbers written with two decimals at most.

    attributes: a trailing underscore of a name is dropped (class_), others become hyphens (stroke_width).
    """
    pairs = (
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _text(value)) for key, value in attributes.items()
    )
    return Markup("<{0}{1}>{2}</{0}>").format(name, Markup("").join(pairs), Markup("").join(children))


def drawing(width: float, height: float, label: str, *children: Markup, class_: str = "chart") -> Markup:
    """A whole drawing. label: what a screen reader says for it."""
    return element(
        "svg", *children, class_=class_, viewBox=f"0 0 {_text(width)} {_text(height)}", role="img", aria_label=label
    )


def line_path(points: Iterable[tuple[float, float]], *, closed: bool) -> str:
    """Path data of straight lines through the points."""
    body = "L".join(f"{_text(x)},{_text(y)}" for x, y in points)
    return f"M{body}{'Z' if closed else ''}"


def human(value: float) -> str:
    """A number as people write it: counts with thousands separators, measures with three significant digits."""
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}".replace("-", "−")
    return f"{value:.3g}".replace("-", "−")


def _text(value: Attribute) -> str:
    if isinstance(value, str):
        return value
    rounded = round(float(value), 2)
    return f"{int(rounded)}" if rounded.is_integer() else f"{rounded:g}" if abs(rounded) < 1e4 else f"{rounded:.1f}"


def _round_step(rough: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is at least rough, but for rounding."""
    power = 10.0 ** math.floor(math.log10(rough))
    return power * min(step for step in (1, 2, 5, 10) if step * power >= rough * (1 - 1e-9))
