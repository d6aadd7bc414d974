"""The style of a study's plots: one palette, a white card for light and dark pages, the same bytes each time.

The colours are those of Okabe and Ito, Color universal design, 2008, without yellow, which is too faint on white. Each
goes with a marker of its own, so that no line is marked by colour alone. Letters are drawn as outlines: the SVG looks
the same without matplotlib's fonts.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from sarmae.evaluate.extra_packages import extra_package

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PALETTE: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "p")  # 7 and 11: no pair comes twice before 77
INK: Final = "#1a1a1a"
FAINT: Final = "#d9d9d9"
WIDTH_IN: Final = 7.2
PADDING_IN: Final = 0.1
_STYLE: Final[dict[str, Any]] = {
    "svg.hashsalt": "sarmae",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.constrained_layout.w_pad": PADDING_IN,
    "figure.constrained_layout.h_pad": PADDING_IN,
    "path.simplify": False,
    "text.parse_math": False,  # a dollar in an arm's name is a dollar
}


@contextmanager
def styled() -> Iterator[None]:
    """Draw and save within this context. Only matplotlib's own defaults count, never a user's matplotlibrc. Raises
    ConfigError without matplotlib.
    """
    mpl = extra_package("matplotlib", "a plot")
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def new_figure(height_in: float) -> Figure:
    """An empty card with an automatic layout. To be used within `styled`."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - an optional package

    return Figure(figsize=(WIDTH_IN, height_in), layout="constrained")


def svg_of(figure: Figure, title: str) -> bytes:
    """The figure as SVG: the same bytes for the same figure and version of matplotlib. To be used within `styled`."""
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Title": title})
    return stream.getvalue()


def line_style(number: int) -> dict[str, Any]:
    """Colour and marker of a line, by its number."""
    return {"color": PALETTE[number % len(PALETTE)], "marker": MARKERS[number % len(MARKERS)]}
