"""The plots of a study, as SVG: curves over labels and looks, differences to the control, bars."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sar1m.store.errors import ConfigError
from sarmae.evaluate.plot_style import FAINT, INK, PALETTE, line_style, new_figure, styled, svg_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURVE_HEIGHT_IN: Final = 3.6
ROW_HEIGHT_IN: Final = 0.3
FRAME_HEIGHT_IN: Final = 1.2  # title, axis and its label
MOST_TICKS: Final = 9
BAND_ALPHA: Final = 0.15
NAME_LETTERS: Final = 36  # a line of a name


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line of a plot.

    x, y: (n,).
    low, high: (n,) ends of the interval over seeds; None or NaN where there is none.
    Raises ConfigError where lengths differ or a point is not finite.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        ends = [part for part in (self.low, self.high) if part is not None]
        whole = all(len(part) == len(self.x) for part in (self.y, *ends)) and len(ends) != 1
        if not whole or not all(math.isfinite(value) for value in (*self.x, *self.y)):
            raise ConfigError(
                f"plot: line {self.name!r} has x {list(self.x)}, y {list(self.y)}, low {self.low}, high {self.high}; "
                "equally many of each, x and y finite, and both or neither of low and high expected."
            )


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One value with its interval, None where there is none. Raises ConfigError for a value that is not finite."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.value) or (self.low is None) != (self.high is None):
            raise ConfigError(
                f"plot: {self.name!r} is {self.value}, interval {self.low} to {self.high}; a finite value and both or "
                "neither end of its interval expected."
            )


@dataclass(frozen=True, kw_only=True)
class Labels:
    """The words of a plot. x, y: of the axes, with units."""

    title: str
    x: str
    y: str = ""


def label_curve(lines: Sequence[Series], labels: Labels) -> bytes:
    """Scores against labels (a class, or shares of them): one line an arm, the interval as a band, x logarithmic.

    Raises ConfigError without a line or a point, and for x that is not above 0.
    """
    return _curves(lines, labels, falling=False)


def looks_curve(lines: Sequence[Series], labels: Labels) -> bytes:
    """Like label_curve, against the equivalent number of looks of the test images. Fewer looks, on harder images,
    stand to the right.
    """
    return _curves(lines, labels, falling=True)


def forest(marks: Sequence[Mark], labels: Labels) -> bytes:
    """Differences of arms to their control, with intervals, and the line of no difference. The first arm is on top.

    Marks are hollow where the interval includes 0 or is missing. Raises ConfigError without a mark.
    """
    return _rows(marks, labels, draw_forest)


def bars(marks: Sequence[Mark], labels: Labels) -> bytes:
    """One bar from 0 for each value, with the value in figures and its interval, if any. The first is on top.

    Raises ConfigError without a mark.
    """
    return _rows(marks, labels, draw_bars)


def draw_curves(axes: Axes, lines: Sequence[Series], *, falling: bool) -> None:
    """Lines with bands, and ticks where there are points. The legend is in the order of the rightmost values.

    falling: x falls to the right.
    """
    drawn = []
    for number, line in enumerate(lines):
        order = sorted(range(len(line.x)), key=line.x.__getitem__, reverse=falling)
        x, y = [line.x[place] for place in order], [line.y[place] for place in order]
        style = line_style(number)
        (artist,) = axes.plot(x, y, label=line.name, linewidth=1.6, markersize=4.5, **style)
        if line.low is not None and line.high is not None:
            low, high = ([end[place] for place in order] for end in (line.low, line.high))
            axes.fill_between(x, low, high, color=style["color"], alpha=BAND_ALPHA, linewidth=0)
        drawn.append((y[-1], artist, _wrapped(line.name)))
    axes.set_xscale("log")
    _tick_at(axes, sorted({value for line in lines for value in line.x}))
    if falling:
        axes.invert_xaxis()
    _, handles, names = zip(*sorted(drawn, key=lambda line: -line[0]), strict=True)
    axes.legend(handles, names, loc="center left", bbox_to_anchor=(1.01, 0.5), borderaxespad=0.0)


def draw_forest(axes: Axes, marks: Sequence[Mark]) -> None:
    """One row for each mark, from the top, and the line at 0."""
    axes.axvline(0.0, color=INK, linewidth=0.9, zorder=1)
    for row, mark in enumerate(marks):
        significant = mark.low is not None and mark.high is not None and not mark.low <= 0 <= mark.high
        if mark.low is not None and mark.high is not None:
            axes.plot([mark.low, mark.high], [row, row], color=PALETTE[0], linewidth=1.8, solid_capstyle="butt")
        face = PALETTE[0] if significant else "white"
        axes.plot([mark.value], [row], "o", color=PALETTE[0], markerfacecolor=face, markersize=6, zorder=3)
    _name_rows(axes, marks)


def draw_bars(axes: Axes, marks: Sequence[Mark]) -> None:
    """One row for each mark, from the top."""
    axes.barh(range(len(marks)), [mark.value for mark in marks], color=PALETTE[0], height=0.62, zorder=2)
    for row, mark in enumerate(marks):
        ends = [end for end in (mark.low, mark.high) if end is not None]
        if ends:
            axes.plot(ends, [row, row], color=INK, linewidth=1.4, zorder=3)
        last = max([mark.value, 0.0, *ends])
        axes.annotate(f"{mark.value:.3g}", (last, row), (4, 0), textcoords="offset points", va="center")
    axes.margins(x=0.12)
    _name_rows(axes, marks)


def _curves(lines: Sequence[Series], labels: Labels, *, falling: bool) -> bytes:
    values = [value for line in lines for value in line.x]
    if not lines or not all(line.x for line in lines):
        raise _nothing(labels, [line.name for line in lines if not line.x])
    if min(values) <= 0:
        raise ConfigError(f"plot {labels.title!r}: x holds {min(values):g}; values above 0 expected: x is logarithmic.")
    with styled():
        figure = new_figure(CURVE_HEIGHT_IN)
        axes = figure.add_subplot()
        draw_curves(axes, lines, falling=falling)
        axes.set(title=labels.title, xlabel=labels.x, ylabel=labels.y)
        return svg_of(figure, labels.title)


def _rows(marks: Sequence[Mark], labels: Labels, draw: Callable[[Axes, Sequence[Mark]], None]) -> bytes:
    if not marks:
        raise _nothing(labels, [])
    with styled():
        figure = new_figure(FRAME_HEIGHT_IN + ROW_HEIGHT_IN * len(marks))
        axes = figure.add_subplot()
        draw(axes, marks)
        axes.set(title=labels.title, xlabel=labels.x, ylabel=labels.y)
        return svg_of(figure, labels.title)


def _name_rows(axes: Axes, marks: Sequence[Mark]) -> None:
    axes.set_yticks(range(len(marks)), [_wrapped(mark.name) for mark in marks])
    axes.set_ylim(len(marks) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_color(FAINT)


def _tick_at(axes: Axes, values: Sequence[float]) -> None:
    """Ticks where there are points; where these are many, at every second, third ... of them."""
    step = -(-len(values) // MOST_TICKS)
    shown = values[::step]
    axes.set_xticks(shown, [f"{value:g}" for value in shown])
    axes.set_xticks([], minor=True)


def _wrapped(name: str) -> str:
    return textwrap.fill(name, NAME_LETTERS)


def _nothing(labels: Labels, empty: Sequence[str]) -> ConfigError:
    found = f"no point in {', '.join(empty)}" if empty else "nothing to draw"
    return ConfigError(f"plot {labels.title!r}: {found}; at least one figure expected. Run the study's tasks first.")
