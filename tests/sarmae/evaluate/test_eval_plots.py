"""Plots: the values that were given are the ones drawn, in the same bytes each time."""

import sys
from dataclasses import replace

import matplotlib as mpl
import pytest
from defusedxml import ElementTree
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from sar1m.store.errors import ConfigError
from sarmae.evaluate.plot_style import MARKERS, PALETTE, line_style
from sarmae.evaluate.plots import (
    Labels,
    Mark,
    Series,
    bars,
    draw_bars,
    draw_curves,
    draw_forest,
    forest,
    label_curve,
    looks_curve,
)

LABELS = Labels(title="Land cover", x="labels a class", y="accuracy")
LINES = (
    Series(name="MAE", x=(10, 1, 100), y=(0.5, 0.3, 0.9), low=(0.4, 0.2, 0.8), high=(0.6, 0.4, 1.0)),
    Series(name="MAE + SARE", x=(1, 10, 100), y=(0.4, 0.6, 0.7)),
)
MARKS = (
    Mark(name="better", value=0.2, low=0.1, high=0.3),
    Mark(name="unclear", value=0.05, low=-0.1, high=0.2),
    Mark(name="worse", value=-0.2, low=-0.3, high=-0.1),
    Mark(name="one seed", value=0.1),
)
PLOTS = {
    "label_curve": lambda: label_curve(LINES, LABELS),
    "looks_curve": lambda: looks_curve(LINES, LABELS),
    "forest": lambda: forest(MARKS, LABELS),
    "bars": lambda: bars(MARKS, LABELS),
}


def drawn(draw, *arguments, **options):
    axes = Figure().add_subplot()
    draw(axes, *arguments, **options)
    return axes


@pytest.mark.parametrize("name", PLOTS)
def test_the_same_figures_give_the_same_bytes_whatever_the_user_has_set(name):
    first = PLOTS[name]()
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.hashsalt": None}):
        assert PLOTS[name]() == first
        assert mpl.rcParams["font.size"] == 30
    assert ElementTree.fromstring(first).tag.endswith("svg")
    assert b"Land cover" in first
    assert b"<text" not in first.replace(b"<!--", b"")  # letters are outlines
    assert b"dc:date" not in first


def test_curves_hold_the_points_and_the_band():
    axes = drawn(draw_curves, LINES, falling=False)
    first, second = axes.lines
    assert list(zip(*first.get_data(), strict=True)) == [(1, 0.3), (10, 0.5), (100, 0.9)]
    assert list(zip(*second.get_data(), strict=True)) == [(1, 0.4), (10, 0.6), (100, 0.7)]
    (band,) = axes.collections
    corners = {tuple(point) for point in band.get_paths()[0].vertices.tolist()}
    assert {(1, 0.2), (1, 0.4), (10, 0.4), (10, 0.6), (100, 0.8), (100, 1.0)} <= corners
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "10", "100"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["MAE", "MAE + SARE"]


def test_fewer_looks_lie_to_the_right_and_rank_the_legend():
    axes = drawn(draw_curves, LINES, falling=True)
    left, right = axes.get_xlim()
    assert left > right
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["MAE + SARE", "MAE"]
    colours = [to_hex(handle.get_color()) for handle in axes.get_legend().get_lines()]
    assert colours == [PALETTE[1], PALETTE[0]]


def test_a_forest_holds_intervals_and_tells_what_is_clear():
    axes = drawn(draw_forest, MARKS)
    zero, *rest = axes.lines
    assert set(zero.get_xdata()) == {0.0}
    intervals = [tuple(line.get_xdata()) for line in rest if len(line.get_xdata()) == 2]
    assert intervals == [(0.1, 0.3), (-0.1, 0.2), (-0.3, -0.1)]
    points = [line for line in rest if len(line.get_xdata()) == 1]
    assert [(point.get_xdata()[0], point.get_ydata()[0]) for point in points] == [
        (0.2, 0), (0.05, 1), (-0.2, 2), (0.1, 3),
    ]  # fmt: skip
    assert [point.get_markerfacecolor() == "white" for point in points] == [False, True, False, True]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["better", "unclear", "worse", "one seed"]
    bottom, top = axes.get_ylim()
    assert bottom > top  # the first on top


def test_bars_begin_at_nought_and_say_their_value():
    axes = drawn(draw_bars, MARKS)
    assert [(bar.get_x(), bar.get_width()) for bar in axes.patches] == [(0, 0.2), (0, 0.05), (0, -0.2), (0, 0.1)]
    assert [text.get_text() for text in axes.texts] == ["0.2", "0.05", "-0.2", "0.1"]
    assert [tuple(line.get_xdata()) for line in axes.lines] == [(0.1, 0.3), (-0.1, 0.2), (-0.3, -0.1)]


def test_no_two_lines_look_alike():
    looks = [(look["color"], look["marker"]) for look in map(line_style, range(len(PALETTE) * len(MARKERS)))]
    assert len(set(looks)) == len(looks)


def test_odd_names_are_drawn_as_they_are():
    names = ("_hidden", "$cost$", "a name that is far too long for one line of a legend beside the axes", "<&>")
    lines = [Series(name=name, x=(1.0,), y=(0.5,)) for name in names]
    axes = drawn(draw_curves, lines, falling=False)
    shown = [text.get_text().replace("\n", " ") for text in axes.get_legend().get_texts()]
    assert shown == list(names)
    assert ElementTree.fromstring(label_curve(lines, replace(LABELS, title="a $ b $ <c>"))).tag.endswith("svg")


@pytest.mark.parametrize(
    "draw",
    [
        lambda: label_curve((), LABELS),
        lambda: looks_curve([Series(name="MAE", x=(), y=())], LABELS),
        lambda: forest((), LABELS),
        lambda: bars((), LABELS),
    ],
)
def test_nothing_to_draw_is_an_error(draw):
    with pytest.raises(ConfigError, match="plot 'Land cover'"):
        draw()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Series(name="MAE", x=(1, 2), y=(0.5,)),
        lambda: Series(name="MAE", x=(1,), y=(float("nan"),)),
        lambda: Series(name="MAE", x=(1,), y=(0.5,), low=(0.4,)),
        lambda: Mark(name="MAE", value=float("inf")),
        lambda: Mark(name="MAE", value=1.0, low=0.5),
    ],
)
def test_figures_that_do_not_fit_together_are_refused(make):
    with pytest.raises(ConfigError, match="'MAE'"):
        make()


def test_no_labels_have_no_place_on_a_logarithm():
    with pytest.raises(ConfigError, match="above 0"):
        label_curve([Series(name="MAE", x=(0, 1), y=(0.1, 0.2))], LABELS)


def test_without_matplotlib_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"sar1m\[evaluate\]"):
        bars(MARKS, LABELS)
