"""A histogram of every metric, accepted and rejected stacked, with the limit and the side beyond it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from markupsafe import Markup

from sar1m.config import BuildConfig
from sar1m.core.table import F64, I64, floats
from sar1m.page.store_contents import Contents, metric_columns
from sar1m.page.svg import Axis, Figure, drawing, element, human
from sar1m.store.table_columns import Column

WIDTH, HEIGHT = 360, 200
LEFT, RIGHT, TOP, BOTTOM = 44, 350, 24, 170
BINS = 30
LEAST_BAR = 1.5  # drawing units: a bin with one patch among thousands must not vanish

Side = Literal["above", "below", "beyond"]  # beyond: the absolute value counts


@dataclass(frozen=True, kw_only=True)
class Limit:
    """What the configuration allows of a metric. side: where a value breaks it; effect: what happens to the patch."""

    value: float
    side: Side
    effect: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Binned:
    """Counts by bin. edges: (n + 1,); accepted, rejected: (n,); clipped: how many values lie beyond the axis and are
    counted in its end bins."""

    edges: F64
    accepted: I64
    rejected: I64
    clipped: int


def metric_limits(config: BuildConfig) -> dict[str, Limit]:
    """Limits by metric column, as screening and registration apply them."""
    screening, registration = config.screening, config.registration
    out = "rejected"
    alone = "rejected" if screening.on_optical_failure == "reject" else "loses its optical partner"
    unsure = "not counted as measured"
    return {
        "sar_nodata_frac": Limit(value=screening.max_sar_nodata_frac, side="above", effect=out),
        "dynamic_range_db": Limit(value=screening.min_dynamic_range_db, side="below", effect=out),
        "noise_floor_frac": Limit(value=screening.max_noise_floor_frac, side="above", effect=out),
        "plateau_frac": Limit(value=screening.max_plateau_frac, side="above", effect=out),
        "layover_shadow_frac": Limit(value=screening.max_layover_shadow_frac, side="above", effect=out),
        "water_frac": Limit(value=screening.max_water_frac, side="above", effect=out),
        "optical_nodata_frac": Limit(value=screening.max_optical_nodata_frac, side="above", effect=alone),
        "optical_plateau_frac": Limit(value=screening.max_optical_plateau_frac, side="above", effect=alone),
        "saturated_frac": Limit(value=screening.max_saturated_frac, side="above", effect=alone),
        "cloud_frac": Limit(value=screening.max_cloud_frac, side="above", effect=alone),
        "dt_hours": Limit(value=screening.max_dt_hours, side="beyond", effect=alone),
        "residual_px": Limit(value=screening.max_residual_px, side="above", effect=alone),
        "registration_psr": Limit(value=registration.min_psr, side="below", effect=unsure),
        "scene_psr": Limit(value=registration.min_psr, side="below", effect=unsure),
        "polarisation_spread_px": Limit(value=registration.max_polarisation_spread_px, side="above", effect=unsure),
    }


def metric_figures(contents: Contents) -> list[Figure]:
    """One figure a metric, in the order of metric_columns."""
    limits = metric_limits(contents.config)
    return [
        histogram_figure(
            name=column.name,
            title=metric_title(column),
            accepted=floats(contents.samples, column.name),
            rejected=floats(contents.rejected, column.name),
            limit=limits.get(column.name),
        )
        for column in metric_columns(contents.summary["polarisations"])
    ]


def metric_title(column: Column) -> str:
    """What a metric is, with its unit in brackets."""
    return f"{column.description} ({column.unit})" if column.unit not in ("", "1") else column.description


def histogram_figure(*, name: str, title: str, accepted: F64, rejected: F64, limit: Limit | None) -> Figure:
    """accepted: (n,), rejected: (m,) values. What is not finite was not measured; the note counts it."""
    missing = int((~np.isfinite(accepted)).sum() + (~np.isfinite(rejected)).sum())
    measured = len(accepted) + len(rejected) - missing
    if not measured:
        return Figure(name=name, title=title, svg=None, note=f"not measured on any of {human(missing)} patches")
    binned = bin_values(accepted, rejected, limit)
    note = f"{human(measured)} measured" + (f", {human(missing)} not measured" if missing else "")
    note += f"; {human(binned.clipped)} beyond the axis, counted in its end bins" if binned.clipped else ""
    note += f". {_limit_words(limit)}" if limit else ". No limit."
    return Figure(name=name, title=title, svg=_draw(name, binned, limit, note), note=note)


def bin_values(accepted: F64, rejected: F64, limit: Limit | None) -> Binned:
    """Equal bins over the values. Where the limit lies near, the axis includes it and it falls on an edge of two bins.

    Far outliers must not flatten the rest: where the whole range is over three times as wide as that of the 0.5th to
    the 99.5th percentile, the axis shows the latter. At least one value must be finite.
    """
    values = [part[np.isfinite(part)] for part in (accepted, rejected)]
    both = np.concatenate(values)
    low, high = (float(edge) for edge in np.quantile(both, (0.005, 0.995)))
    whole = (float(both.min()), float(both.max()))
    if whole[1] - whole[0] <= 3 * (high - low) or high == low:
        low, high = whole
    low, high = _with_limit(low, high, limit)
    edges = _edges(low, high, limit)
    counts = [np.histogram(np.clip(part, edges[0], edges[-1]), bins=edges)[0] for part in values]
    clipped = int(((both < edges[0]) | (both > edges[-1])).sum())
    return Binned(edges=edges, accepted=counts[0], rejected=counts[1], clipped=clipped)


def _with_limit(low: float, high: float, limit: Limit | None) -> tuple[float, float]:
    if high == low:
        half = abs(high) * 0.1 or max((abs(mark) for mark in _marks(limit)), default=0.0) / 2 or 0.5
        low, high = (0.0, 2 * half) if low == 0 else (low - half, high + half)
    for mark in _marks(limit):
        wider = (min(low, mark), max(high, mark))
        if wider[1] - wider[0] <= 4 * (high - low):
            margin = 0.08 * (wider[1] - wider[0])
            low = low if mark > low else mark - margin
            high = high if mark < high else mark + margin
    return low, high


def _edges(low: float, high: float, limit: Limit | None) -> F64:
    width = (high - low) / BINS
    inside = [mark for mark in _marks(limit) if low < mark < high]
    if not inside:
        return np.linspace(low, high, BINS + 1)
    first = inside[0] - np.ceil((inside[0] - low) / width - 1e-9) * width
    edges: F64 = first + width * np.arange(int(np.ceil((high - first) / width - 1e-9)) + 1)
    return edges


def _marks(limit: Limit | None) -> tuple[float, ...]:
    if limit is None:
        return ()
    return (-limit.value, limit.value) if limit.side == "beyond" else (limit.value,)


def _limit_words(limit: Limit) -> str:
    words = {"above": "above", "below": "below", "beyond": "further from 0 than"}[limit.side]
    return f"Limit: {words} {human(limit.value)} {limit.effect}."


def _draw(name: str, binned: Binned, limit: Limit | None, note: str) -> Markup:
    across = Axis(lo=float(binned.edges[0]), hi=float(binned.edges[-1]), start=LEFT, end=RIGHT)
    tallest = int((binned.accepted + binned.rejected).max())
    up = Axis(lo=0, hi=max(tallest * 1.05, 1), start=BOTTOM, end=TOP)
    parts = [
        *_limit_shades(across, limit),
        *_frame(across, up),
        *_bars(binned, across, up),
        *_limit_lines(across, limit),
    ]
    return drawing(WIDTH, HEIGHT, f"Histogram of {name}: {note}", *parts)


def _frame(across: Axis, up: Axis) -> Iterator[Markup]:
    for value, text in up.ticks(5):
        if value == int(value):
            yield element("line", class_="grid", x1=LEFT, x2=RIGHT, y1=up.at(value), y2=up.at(value))
            yield element("text", text, class_="tick end", x=LEFT - 5, y=up.at(value) + 4)
    for value, text in across.ticks(7):
        yield element("line", class_="axis", x1=across.at(value), x2=across.at(value), y1=BOTTOM, y2=BOTTOM + 4)
        yield element("text", text, class_="tick middle", x=across.at(value), y=BOTTOM + 17)
    yield element("line", class_="axis", x1=LEFT, x2=RIGHT, y1=BOTTOM, y2=BOTTOM)


def _bars(binned: Binned, across: Axis, up: Axis) -> Iterator[Markup]:
    gap = 0.5
    for number, (kept, out) in enumerate(zip(binned.accepted.tolist(), binned.rejected.tolist(), strict=True)):
        left, right = across.at(float(binned.edges[number])) + gap, across.at(float(binned.edges[number + 1])) - gap
        base = float(BOTTOM)
        for count, kind in ((kept, "accepted"), (out, "rejected")):
            if count:
                height = max(BOTTOM - up.at(count), LEAST_BAR)
                base -= height
                yield element("rect", class_=kind, x=left, y=base, width=right - left, height=height)


def _limit_shades(across: Axis, limit: Limit | None) -> Iterator[Markup]:
    for mark in _marks(limit):
        if not across.lo < mark < across.hi or limit is None:
            continue
        lower_side = limit.side == "below" or (limit.side == "beyond" and mark < 0)
        start, end = (LEFT, across.at(mark)) if lower_side else (across.at(mark), RIGHT)
        yield element("rect", class_="beyond", x=start, y=TOP, width=end - start, height=BOTTOM - TOP)


def _limit_lines(across: Axis, limit: Limit | None) -> Iterator[Markup]:
    marks = _marks(limit)
    inside = [mark for mark in marks if across.lo < mark < across.hi]
    for mark in inside:
        yield element("line", class_="limit", x1=across.at(mark), x2=across.at(mark), y1=TOP - 8, y2=BOTTOM)
    if limit is not None and inside:
        at = across.at(inside[-1])
        anchor, shift = ("end", -4) if at > (LEFT + RIGHT) / 2 else ("start", 4)
        words = f"limit {'±' if limit.side == 'beyond' else ''}{human(limit.value)}"
        yield element("text", words, class_=f"limit-text {anchor}", x=at + shift, y=TOP - 6)
    if limit is not None and not inside:
        side = "→" if limit.value >= across.hi else "←"
        words = f"limit {'±' if limit.side == 'beyond' else ''}{human(limit.value)} lies off this axis {side}"
        yield element("text", words, class_="limit-text end", x=RIGHT, y=TOP - 8)
