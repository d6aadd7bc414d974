"""Bars and scatter plots: what became of the candidates, shifts in pixels, classes by split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from markupsafe import Markup

from sar1m.core.table import F64, floats
from sar1m.page.reasons import reason_words
from sar1m.page.store_contents import Contents
from sar1m.page.svg import Axis, Figure, drawing, element, human
from sar1m.store.schema import SPLITS

SIDE, EDGE = 320, 34  # of a scatter plot and of its margins, drawing units
SCATTER_POINTS = 600
LEAST_REACH_PX = 1.5  # a scatter plot always shows the 1 px circle
BAR_CLASSES = 20


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A row of a bar table. segments: (kind, length in per cent of the longest bar); text: the number."""

    label: str
    segments: tuple[tuple[str, float], ...]
    text: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Vectors:
    """Shifts in pixels: row_px down, col_px right, (n,); kind (n,) names the mark."""

    row_px: F64
    col_px: F64
    kind: list[str]


def outcome_bars(summary: Mapping[str, Any]) -> list[Bar]:
    """What became of the candidates: kept with and without optical partner, rejected by reason, failed.

    summary: as stats/summary.json holds it.
    """
    counts = summary["counts"]
    rows = [("kept, with optical partner", "accepted", counts["paired"])]
    rows += [(f"kept alone: {reason_words(why)}", "alone", n) for why, n in _by_size(summary["unpaired_by_reason"])]
    rows += [(f"rejected: {reason_words(why)}", "rejected", n) for why, n in _by_size(summary["rejected_by_reason"])]
    if counts["failed"]:
        rows.append(("failed: input missing or damaged", "failed", counts["failed"]))
    longest, total = max(1, *(n for *_, n in rows)), max(counts["candidates"], 1)
    return [
        Bar(label=label, segments=((kind, 100 * n / longest),), text=f"{human(n)} ({100 * n / total:.1f} %)")
        for label, kind, n in rows
    ]


def land_cover_bars(classes: pa.Table) -> list[Bar]:
    """Area by land-cover class in patches, split by split. classes: columns land_cover and split."""
    return _split_bars(_sum_by_split(classes, "land_cover"), classes.num_rows, unit="area")


def label_bars(classes: pa.Table) -> list[Bar]:
    """Samples by label of the source. classes: columns labels and split."""
    return _split_bars(_sum_by_split(classes, "labels"), classes.num_rows, unit="samples")


def shift_figures(contents: Contents) -> list[Figure]:
    """What a second method says, shifts as measured, what is left after correction, and the errors of the self-test."""
    samples = contents.samples
    row_px, col_px = floats(samples, "shift_row_px"), floats(samples, "shift_col_px")
    status = samples["registration_status"].fillna("unmeasurable").astype(str).tolist()
    left_row_px, left_col_px = row_px - floats(samples, "applied_row_px"), col_px - floats(samples, "applied_col_px")
    recoveries = contents.self_test.get("recoveries", [])
    errors = np.array([[r["error_row_px"], r["error_col_px"]] for r in recoveries], dtype=np.float64).reshape(-1, 2)
    return [
        scatter_figure(
            "disagreement",
            "Shift by mutual information minus ours, where a second method measured the pair",
            _disagreements(samples, row_px, col_px),
        ),
        scatter_figure(
            "shift as measured",
            "Displacement of the optical content against the SAR content, before correction",
            Vectors(row_px=row_px, col_px=col_px, kind=status),
        ),
        scatter_figure(
            "what is left",
            "Measured shift minus the correction that was applied",
            Vectors(row_px=left_row_px, col_px=left_col_px, kind=status),
        ),
        scatter_figure(
            "self-test error",
            "Recovered minus injected shift, of pairs that were moved by a known amount",
            Vectors(row_px=errors[:, 0], col_px=errors[:, 1], kind=["injected"] * len(errors)),
        ),
    ]


def _disagreements(samples: pd.DataFrame, row_px: F64, col_px: F64) -> Vectors:
    clear = (samples["second_shift_status"] == "measured").to_numpy(dtype=bool)
    rows, cols = floats(samples, "second_shift_row_px") - row_px, floats(samples, "second_shift_col_px") - col_px
    return Vectors(row_px=rows[clear], col_px=cols[clear], kind=["measured"] * int(clear.sum()))


def scatter_figure(name: str, title: str, vectors: Vectors) -> Figure:
    """A scatter plot of vectors with the 1 px circle. As in the pictures, right is east and down is south."""
    length = np.hypot(vectors.row_px, vectors.col_px)
    known = np.flatnonzero(np.isfinite(length))
    if not len(known):
        return Figure(name=name, title=title, svg=None, note="not measured")
    reach = max(LEAST_REACH_PX, 1.1 * float(np.quantile(length[known], 0.99)))
    shown = known[np.unique(np.linspace(0, len(known) - 1, SCATTER_POINTS).astype(np.int64))]
    beyond = int((np.maximum(np.abs(vectors.row_px[shown]), np.abs(vectors.col_px[shown])) > reach).sum())
    under = int((length[known] <= 1).sum())
    note = f"{human(under)} of {human(len(known))} within the 1 px circle"
    note += f"; {human(len(length) - len(known))} not measured" if len(known) < len(length) else ""
    note += f". Showing {human(len(shown))} of {human(len(known))}" if len(shown) < len(known) else ""
    note += f"; {human(beyond)} beyond the frame are drawn on its edge" if beyond else ""
    axis = Axis(lo=-reach, hi=reach, start=EDGE, end=SIDE - EDGE)
    parts = [*_scatter_frame(axis), *_points(axis, vectors, shown)]
    return Figure(name=name, title=title, svg=drawing(SIDE, SIDE, f"{title}: {note}", *parts), note=f"{note}.")


def _scatter_frame(axis: Axis) -> Iterator[Markup]:
    low, high, middle = axis.start, axis.end, axis.at(0)
    yield element("rect", class_="plot", x=low, y=low, width=high - low, height=high - low)
    for value, text in axis.ticks(7):
        at = axis.at(value)
        yield element("line", class_="grid", x1=at, x2=at, y1=low, y2=high)
        yield element("line", class_="grid", x1=low, x2=high, y1=at, y2=at)
        yield element("text", text, class_="tick middle", x=at, y=high + 15)
        yield element("text", text, class_="tick end", x=low - 5, y=at + 4)
    yield element("circle", class_="one-px", cx=middle, cy=middle, r=axis.at(1) - middle)
    yield element("text", "1 px", class_="limit-text start", x=axis.at(0.72) + 3, y=axis.at(-0.72) - 2)
    yield element("text", "columns right, px", class_="tick end", x=high, y=SIDE - 4)
    yield element("text", "rows down, px", class_="tick start", x=4, y=low - 12)


def _points(axis: Axis, vectors: Vectors, shown: np.ndarray) -> Iterator[Markup]:
    for number in shown.tolist():
        col_px = float(np.clip(vectors.col_px[number], axis.lo, axis.hi))
        row_px = float(np.clip(vectors.row_px[number], axis.lo, axis.hi))
        yield element("circle", class_=f"dot {vectors.kind[number]}", cx=axis.at(col_px), cy=axis.at(row_px), r=3.2)


def _by_size(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _sum_by_split(classes: pa.Table, column: str) -> dict[str, F64]:
    """By class name, one number a split: areas in patches for a map of shares, samples for a list of names."""
    sums: dict[str, F64] = {}
    for batch in classes.to_batches():
        array = batch.column(column)
        offsets = array.offsets.to_numpy()
        values = slice(int(offsets[0]), int(offsets[-1]))
        is_map = pa.types.is_map(array.type)
        names = (array.keys if is_map else array.values)[values].to_pandas().to_numpy(dtype=object)
        weights = array.items[values].to_numpy().astype(np.float64) if is_map else np.ones(len(names))
        split = batch.column("split").to_pandas().map(SPLITS.index).to_numpy(dtype=np.int64)
        sides = np.repeat(split, np.diff(offsets))
        for name in sorted(set(names.tolist())):
            here = names == name
            added = np.bincount(sides[here], weights=weights[here], minlength=len(SPLITS))
            sums[str(name)] = sums.get(str(name), np.zeros(len(SPLITS))) + added
    return sums


def _split_bars(sums: Mapping[str, F64], samples: int, *, unit: str) -> list[Bar]:
    ordered = sorted(sums.items(), key=lambda item: (-float(item[1].sum()), item[0]))
    rest = ordered[BAR_CLASSES:]
    if rest:
        other = np.sum([by_split for _, by_split in rest], axis=0)
        ordered = [*ordered[:BAR_CLASSES], (f"{len(rest)} more classes", other)]
    longest = max((float(by_split.sum()) for _, by_split in ordered), default=1.0) or 1.0
    bars = []
    for name, by_split in ordered:
        total = float(by_split.sum())
        share = f"{100 * total / samples:.1f} %"
        text = share if unit == "area" else f"{human(total)} ({share})"
        segments = tuple(zip(SPLITS, (100 * by_split / longest).tolist(), strict=True))
        bars.append(Bar(label=name, segments=segments, text=text))
    return bars
