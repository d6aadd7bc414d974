"""The coverage map: countries, samples by split, rejected patches, split blocks, and an inset of the world."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup

from sar1m.core.sphere import east_of, near_to, wrapped
from sar1m.core.table import F64
from sar1m.page.store_contents import BOUNDS, Contents
from sar1m.page.svg import drawing, element, human
from sar1m.page.window import (
    MapWindow,
    graticule_step_deg,
    outline_path,
    scale_bar_km,
    window_around,
    world_window,
)
from sar1m.store.schema import SPLITS

WIDTH = 1000.0
INSET_WIDTH, INSET_MARGIN = 200.0, 12.0
MAP_MARKS = 1500  # more marks are gathered on a lattice, so that the page of a million samples is no larger
LATTICE_PX = 14.0
LEAST_FOOTPRINT_PX = 10.0  # under it a patch is shown by its mark alone
BLOCKS_DRAWN = 150


@dataclass(frozen=True, kw_only=True, eq=False)
class CoverageMap:
    """note: the text under the map. x, y: (n,) drawing units of the samples in the pair browser."""

    svg: Markup
    note: str
    x: F64
    y: F64


@dataclass(frozen=True, kw_only=True, eq=False)
class Marks:
    """Marks on the map. x, y: (n,) drawing units; kind: (n,) split or "rejected"; scale: (n,) size relative to a plain
    mark; gathered: whether a mark stands for many patches."""

    x: F64
    y: F64
    kind: list[str]
    scale: F64
    gathered: bool


def coverage_map(contents: Contents, picked: list[int]) -> CoverageMap:
    """The map of a store. picked: positions of the samples in the pair browser, which get a ring."""
    samples, rejected = contents.samples, contents.rejected
    window = _window(samples, rejected)
    kept = _marks(window, samples, samples["split"].astype(str).tolist())
    out = _marks(window, rejected, ["rejected"] * len(rejected))
    chosen = samples.iloc[picked]
    x, y = window.x(chosen["lon"].to_numpy(dtype=np.float64)), window.y(chosen["lat"].to_numpy(dtype=np.float64))
    footprints = [] if kept.gathered else list(_footprints(window, samples))
    blocks = list(_blocks(window, samples))
    parts = [
        element("rect", class_="sea", width=WIDTH, height=window.height),
        element("path", class_="land", d=outline_path(window, thinned_px=0.5, least_px=1.5)),
        *_graticule(window),
        *blocks,
        *footprints,
        *_draw_marks(out),
        *_draw_marks(kept),
        *(element("circle", class_="pick", cx=a, cy=b, r=8) for a, b in zip(x.tolist(), y.tolist(), strict=True)),
        element("circle", class_="cursor", cx=-50, cy=-50, r=14),
        *_scale_bar(window),
        *_inset(window, np.concatenate([kept.x, out.x]), np.concatenate([kept.y, out.y])),
    ]
    label = f"Map of {human(len(samples))} samples by split and of {human(len(rejected))} rejected patches"
    svg = drawing(WIDTH, window.height, label, *parts, class_="chart map")
    return CoverageMap(svg=svg, note=_note(contents, kept, out, len(blocks), bool(footprints)), x=x, y=y)


def _window(samples: pd.DataFrame, rejected: pd.DataFrame) -> MapWindow:
    lon = np.concatenate(
        [frame[name].to_numpy(dtype=np.float64) for frame in (samples, rejected) for name in ("west", "east")]
    )
    lat = np.concatenate(
        [frame[name].to_numpy(dtype=np.float64) for frame in (samples, rejected) for name in ("south", "north")]
    )
    known = np.isfinite(lon) & np.isfinite(lat)
    return window_around(lon[known], lat[known], WIDTH)


def _marks(window: MapWindow, frame: pd.DataFrame, kinds: list[str]) -> Marks:
    x, y = window.x(frame["lon"].to_numpy(dtype=np.float64)), window.y(frame["lat"].to_numpy(dtype=np.float64))
    known = np.isfinite(x) & np.isfinite(y)
    table = pd.DataFrame({"x": x, "y": y, "kind": kinds})[known]
    if len(table) <= MAP_MARKS:
        return Marks(
            x=x[known], y=y[known], kind=table["kind"].tolist(), scale=np.full(len(table), 1.0), gathered=False
        )
    table["column"], table["row"] = table["x"] // LATTICE_PX, table["y"] // LATTICE_PX
    count = table.groupby(["row", "column", "kind"], sort=True).size().rename("count").reset_index()
    total = count.groupby(["row", "column"], sort=True)["count"].transform("sum").to_numpy(dtype=np.float64)
    most = count.sort_values(["count", "kind"], ascending=[False, True], kind="stable")
    first = most.drop_duplicates(["row", "column"]).sort_index()
    totals = total[first.index.to_numpy()]
    return Marks(
        x=(first["column"].to_numpy(dtype=np.float64) + 0.5) * LATTICE_PX,
        y=(first["row"].to_numpy(dtype=np.float64) + 0.5) * LATTICE_PX,
        kind=first["kind"].tolist(),
        scale=0.4 + 0.7 * np.log(totals) / max(np.log(totals.max()), 1.0),
        gathered=True,
    )


def _draw_marks(marks: Marks) -> Iterator[Markup]:
    rows = zip(marks.x.tolist(), marks.y.tolist(), marks.kind, marks.scale.tolist(), strict=True)
    for x, y, kind, scale in rows:
        place = f"translate({x:.1f} {y:.1f})" + ("" if scale == 1 else f" scale({scale:.2f})")
        yield element("use", href=f"#mark-{kind}", class_=f"mark {kind}", transform=place)


def _footprints(window: MapWindow, samples: pd.DataFrame) -> Iterator[Markup]:
    for split, (left, top, width, height) in zip(samples["split"], _boxes(window, samples), strict=True):
        if width >= LEAST_FOOTPRINT_PX:
            yield element("rect", class_=f"footprint {split}", x=left, y=top, width=width, height=height)


def _blocks(window: MapWindow, samples: pd.DataFrame) -> Iterator[Markup]:
    middle = (window.lon_0 + window.lon_1) / 2
    extents = samples.assign(west=near_to(samples["west"], middle), east=near_to(samples["east"], middle))
    grouped = extents.groupby(["split", "block"], sort=True)
    if grouped.ngroups > BLOCKS_DRAWN or not len(samples):
        return
    spans = grouped.agg({"west": "min", "south": "min", "east": "max", "north": "max"}).reset_index()
    for row, (left, top, width, height) in zip(spans.itertuples(), _boxes(window, spans), strict=True):
        words = element("title", f"block {row.block}, {row.split}")
        yield element(
            "rect", words, class_=f"block {row.split}", x=left - 3, y=top - 3, width=width + 6, height=height + 6
        )


def _boxes(window: MapWindow, frame: pd.DataFrame) -> Iterator[tuple[float, float, float, float]]:
    """Left, top, width, height in drawing units."""
    west, south, east, north = (frame[name].to_numpy(dtype=np.float64) for name in BOUNDS)
    left, top = window.x(west), window.y(north)
    width = east_of(east, west, least=0.0) / (window.lon_1 - window.lon_0) * window.width
    yield from zip(left.tolist(), top.tolist(), width.tolist(), (window.y(south) - top).tolist(), strict=True)


def _graticule(window: MapWindow) -> Iterator[Markup]:
    step = graticule_step_deg(window.lon_1 - window.lon_0)
    decimals = 0 if step >= 1 else 1 if step >= 0.1 else 2
    for number in range(int(np.ceil(window.lon_0 / step)), int(window.lon_1 // step) + 1):
        x = (number * step - window.lon_0) / (window.lon_1 - window.lon_0) * window.width
        yield element("line", class_="graticule", x1=x, x2=x, y1=0, y2=window.height)
        yield element(
            "text", _degrees(float(wrapped(number * step)), "EW", decimals), class_="tick", x=x + 4, y=window.height - 6
        )
    for number in range(int(np.ceil(window.lat_0 / step)), int(window.lat_1 // step) + 1):
        y = float(window.y(np.array(number * step)))
        yield element("line", class_="graticule", x1=0, x2=window.width, y1=y, y2=y)
        yield element("text", _degrees(number * step, "NS", decimals), class_="tick", x=4, y=y - 4)


def _degrees(value: float, sides: str, decimals: int) -> str:
    return f"{abs(value):.{decimals}f}° {sides[0] if value >= 0 else sides[1]}"


def _scale_bar(window: MapWindow) -> Iterator[Markup]:
    km, length = scale_bar_km(window)
    right, y = window.width - 14, 18
    yield element("path", class_="scale-bar", d=f"M{right - length:.1f},{y - 6}v6h{length:.1f}v-6")
    yield element("text", f"{km:g} km", class_="tick end", x=right - length - 8, y=y + 4)


def _inset(window: MapWindow, x: F64, y: F64) -> Iterator[Markup]:
    """The world in the corner that hides the fewest marks; nothing where the map itself is nearly the world."""
    if window.lon_1 - window.lon_0 > 120:
        return
    world = world_window(INSET_WIDTH)
    lefts = (INSET_MARGIN, window.width - INSET_WIDTH - INSET_MARGIN)
    tops = (INSET_MARGIN + 34, window.height - world.height - INSET_MARGIN - 18)
    corners = [(left, top) for top in reversed(tops) for left in reversed(lefts)]
    hidden = [int(((x >= a) & (x <= a + world.width) & (y >= b) & (y <= b + world.height)).sum()) for a, b in corners]
    left, top = corners[int(np.argmin(hidden))]
    middle_x = float(world.x(np.array((window.lon_0 + window.lon_1) / 2)))
    middle_y = float(world.y(np.array((window.lat_0 + window.lat_1) / 2)))
    span = ((window.lon_1 - window.lon_0) / 360 * world.width, (window.lat_1 - window.lat_0) * world.px_per_degree)
    wide, high = max(span[0], 5.0), max(span[1], 5.0)
    yield element(
        "svg",
        element("rect", class_="sea", width=world.width, height=world.height),
        element("path", class_="land", d=outline_path(world, thinned_px=0.7, least_px=2.0)),
        element("rect", class_="here", x=middle_x - wide / 2, y=middle_y - high / 2, width=wide, height=high),
        element("rect", class_="frame", width=world.width, height=world.height),
        class_="inset",
        x=left,
        y=top,
        width=world.width,
        height=world.height,
    )


def _note(contents: Contents, kept: Marks, out: Marks, blocks: int, footprints: bool) -> str:
    words = []
    for marks, count, name in (
        (kept, len(contents.samples), "samples"),
        (out, len(contents.rejected), "rejected patches"),
    ):
        if marks.gathered:
            words.append(
                f"{human(count)} {name} are gathered into {human(len(marks.x))} marks on a lattice: a mark shows "
                "the kind of most of its patches, and its size the logarithm of their number."
            )
        elif len(marks.x) < count:
            words.append(f"{human(count - len(marks.x))} of {human(count)} {name} have no known place.")
    if footprints:
        words.append("Filled squares are footprints to scale.")
    if blocks:
        words.append("Dashed: the extent of the samples of a split block.")
    elif len(contents.samples):
        number = contents.samples["block"].nunique()
        words.append(f"The {human(number)} split blocks are too many to draw (over {BLOCKS_DRAWN}).")
    return " ".join(words)


def mark_shapes() -> Markup:
    """Definitions of the marks: every kind has its own shape, so that colour is never the only difference."""
    shapes = {
        SPLITS[0]: "M-5,0a5,5 0 1 0 10,0a5,5 0 1 0 -10,0Z",
        SPLITS[1]: "M-4.6,-4.6h9.2v9.2h-9.2Z",
        SPLITS[2]: "M0,-6.2L5.8,4.2H-5.8Z",
        "rejected": "M-4,-4L4,4M-4,4L4,-4",
    }
    return Markup("").join(element("path", id=f"mark-{kind}", d=path) for kind, path in shapes.items())
