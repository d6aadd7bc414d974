"""The page of an audit: shifts as vectors and as a histogram, the worst pairs under a swipe, every pair in a table.

One file that loads nothing, in the style of a store's page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, Final

import numpy as np
from markupsafe import Markup

from sar1m.audit.item import PairRow
from sar1m.audit.reading import HowRead, OpenPair, PairSource, open_pair
from sar1m.audit.verdict import Verdict, worst_of
from sar1m.page.browser import script_json
from sar1m.page.build_page import asset, content_policy, page_template, source_hash
from sar1m.page.charts import Vectors, scatter_figure
from sar1m.page.histograms import Limit, histogram_figure
from sar1m.page.previews import png_data_uri
from sar1m.page.svg import Figure
from sar1m.records import F32, U8
from sar1m.store.errors import Sar1mError

PICTURE_PX: Final = 512  # of the longest side; the middle of larger pictures is shown pixel by pixel
ROWS_SHOWN: Final = 500
FAILED_SHOWN: Final = 50
_DARK, _BRIGHT = 0.02, 0.98  # shares of the pixels that are drawn black and white


def render_page(
    sources: Mapping[str, PairSource], rows: Sequence[PairRow], verdict: Verdict, how: HowRead, *, title: str
) -> str:
    """The page as HTML text. sources: by name, of which the worst pairs are read again for their pictures; one that
    cannot be read any more is shown without them."""
    style, script = asset("page.css") + _own("audit.css"), _own("audit.js")
    worst = [_shown(row, sources.get(row.pair), how) for row in worst_of(rows)]
    failed = [row for row in rows if row.status == "failed"]
    others = sorted((row for row in rows if row.status != "failed"), key=_by_length)
    return page_template(
        "sar1m.audit"
    ).render(
        policy=content_policy(style, source_hash(script)),
        style=Markup(style),  # noqa: S704 - our own files
        script=Markup(script),  # noqa: S704 - our own file
        title=title,
        verdict=verdict,
        remarks=verdict.remarks(),
        figures=_figures(rows, verdict),
        worst=worst,
        pairs=script_json(worst),
        rows=[_cells(row, verdict.limit_px) for row in others[:ROWS_SHOWN]],
        count=len(others),
        failed=[(_text(row.pair), _text(row.cause)) for row in failed[:FAILED_SHOWN]],
        failed_count=len(failed),
        median=_number(verdict.median_px),
        p95=_number(verdict.p95_px),
        largest=_number(verdict.largest_px),
        sigma=_number(verdict.sigma_px),
    )


def _own(name: str) -> str:
    return files("sar1m.audit").joinpath(name).read_text(encoding="utf-8")


def _figures(rows: Sequence[PairRow], verdict: Verdict) -> list[Figure]:
    there = [row for row in rows if row.status != "failed"]
    length = np.array([row.shift_px for row in there], dtype=np.float64)
    return [
        scatter_figure(
            "shift of every pair",
            "Displacement of the optical content against the SAR content",
            Vectors(
                row_px=np.array([row.row_px for row in there], dtype=np.float64),
                col_px=np.array([row.col_px for row in there], dtype=np.float64),
                kind=[row.status for row in there],
            ),
        ),
        histogram_figure(
            name="length of the shift",
            title="Pairs by the length of their shift (px)",
            accepted=length,
            rejected=np.array([], dtype=np.float64),
            limit=Limit(value=verdict.limit_px, side="above", effect="is not aligned"),
        ),
        histogram_figure(
            name="disagreement",
            title="Median distance of the windows' shifts from the pair's (px)",
            accepted=np.array([row.windows_apart_px for row in there], dtype=np.float64),
            rejected=np.array([], dtype=np.float64),
            limit=None,
        ),
    ]


def _shown(row: PairRow, source: PairSource | None, how: HowRead) -> dict[str, Any]:
    """What the script needs of one pair. shift: in shares of the picture's height and width."""
    cells = _cells(row, math.inf)
    facts = [
        ["shift, rows down", f"{cells['row']} px"],
        ["shift, columns right", f"{cells['col']} px"],
        ["length", f"{cells['length']} px" + (f" ({cells['metres']} m)" if cells["metres"] != "–" else "")],
        ["sigma", f"{cells['sigma']} px"],
        ["confidence (PSR)", cells["psr"]],
        ["windows that measure alone", cells["windows"]],
        ["their disagreement", f"{cells['disagreement']} px"],
        ["SAR", _text(row.sar)],
        ["optical", _text(row.optical)],
        *([["doubt", _text(row.doubt)]] if row.doubt else []),
    ]
    shown: dict[str, Any] = {"id": _text(row.pair), "facts": facts, "sar": "", "optical": "", "down": 0.0, "right": 0.0}
    try:
        if source is not None:
            opened = open_pair(source, how)
            shown |= _pictures(opened)
            rows, cols = (min(side, PICTURE_PX) for side in opened.size)
            shown |= {"down": -row.row_px / rows, "right": -row.col_px / cols, "aspect": cols / rows}
    except Sar1mError:
        shown["facts"] = [*facts, ["pictures", "cannot be read any more"]]
    return shown


def _pictures(opened: OpenPair) -> dict[str, str]:
    rows, cols = opened.size
    high, wide = min(rows, PICTURE_PX), min(cols, PICTURE_PX)
    area = ((rows - high) // 2, (cols - wide) // 2, high, wide)
    power, bands = opened.sar(*area), opened.optical(*area)
    with np.errstate(divide="ignore", invalid="ignore"):
        decibels = 10 * np.log10(np.where(power[:1] > 0, power[:1], np.nan))
    grey = [0] if len(bands) < 3 else [2, 1, 0]  # red, green, blue
    return {"sar": _uri(decibels, [0]), "optical": _uri(bands, grey)}


def _uri(planes: F32, chosen: list[int]) -> str:
    valid = np.asarray(np.isfinite(planes[chosen]).all(axis=0))
    layers = [_stretched(planes[index], valid) for index in chosen]
    return png_data_uri(np.dstack(layers if len(layers) == 3 else layers * 3), valid)


def _stretched(plane: F32, valid: np.ndarray) -> U8:
    if not valid.any():
        return np.zeros(plane.shape, dtype=np.uint8)
    low, high = (float(value) for value in np.quantile(plane[valid], (_DARK, _BRIGHT)))
    share = np.clip((np.where(valid, plane, low) - low) / max(high - low, 1e-9), 0, 1)
    grey: U8 = np.rint(255 * share).astype(np.uint8)
    return grey


def _cells(row: PairRow, limit_px: float) -> dict[str, str]:
    """A row as texts."""
    return {
        "pair": _text(row.pair),
        "status": row.status,
        "row": _number(row.row_px),
        "col": _number(row.col_px),
        "length": _number(row.shift_px),
        "sigma": _number(row.sigma_px),
        "psr": _number(row.psr, digits=1),
        "windows": f"{row.windows_measured} of {row.windows}",
        "disagreement": _number(row.windows_apart_px),
        "metres": _number(row.shift_m, digits=1),
        "beyond": "yes" if row.shift_px > limit_px else "",
        "cause": _text(row.cause),
    }


def _by_length(row: PairRow) -> tuple[float, str]:
    return (-row.shift_px if math.isfinite(row.shift_px) else math.inf, row.pair)


def _number(value: float, *, digits: int = 2) -> str:
    return f"{value:.{digits}f}".replace("-", "−") if math.isfinite(value) else "–"


def _text(text: str) -> str:
    """A name that a page may hold: what is no letter of Unicode is replaced."""
    return text.encode("utf-8", "replace").decode()
