"""Prices of whole routes for the tables of documents: pure arithmetic, shown line by line."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from sar1m.config import BuildConfig
from sar1m.sources.area.pricing import GB, Pace, Stage, chunk_bytes, duration, stages
from sar1m.sources.scene import Price


@dataclass(frozen=True, kw_only=True)
class Route:
    """One way to the same blocks: name, what a block costs for SAR and for its partner, and how many scenes share."""

    name: str
    sar: Price
    optical: Price
    sar_scenes: int
    optical_scenes: int


@dataclass(frozen=True, kw_only=True)
class RouteRow:
    """A priced route with its arithmetic, line by line."""

    name: str
    requests: float
    down_bytes: float
    units: float
    disk_bytes: float
    stages: tuple[Stage, ...]
    arithmetic: tuple[str, ...]


def price_route(route: Route, blocks: int, config: BuildConfig, pace: Pace) -> RouteRow:
    """A route over a number of blocks, all paired. Pure arithmetic: what tables in documents are made by."""
    shared = [(route.sar, route.sar_scenes), (route.optical, route.optical_scenes)]
    fetched = sum(scenes for price, scenes in shared if price.shared_bytes)
    price = Price(
        requests=blocks * (route.sar.requests + route.optical.requests) + fetched,
        bytes=blocks * (route.sar.bytes + route.optical.bytes),
        shared_bytes=sum(price.shared_bytes * scenes for price, scenes in shared),
        units=blocks * (route.sar.units + route.optical.units),
    )
    patches = blocks * config.grid.patches_per_side**2
    disk = patches * sum(chunk_bytes(config))
    return RouteRow(
        name=route.name,
        requests=price.requests,
        down_bytes=price.bytes + price.shared_bytes,
        units=price.units,
        disk_bytes=disk,
        stages=stages(price, patches, 0, bool(route.sar.shared_bytes), config, pace)[1:],
        arithmetic=_arithmetic(route, blocks, price, disk, patches),
    )


def _arithmetic(route: Route, blocks: int, price: Price, disk: float, patches: int) -> tuple[str, ...]:
    per_block = route.sar + route.optical
    scenes = [
        f"{count:,} x {one.shared_bytes / 1e6:,.0f} MB"
        for one, count in ((route.sar, route.sar_scenes), (route.optical, route.optical_scenes))
        if one.shared_bytes
    ]
    down = " + ".join([f"{blocks:,} x {per_block.bytes / 1e6:.2f} MB", *scenes])
    return (
        f"requests: {blocks:,} blocks x {per_block.requests:.1f} + whole scenes = {price.requests:,.0f}",
        f"down: {down} = {(price.bytes + price.shared_bytes) / GB:,.1f} GB",
        f"units: {blocks:,} x {per_block.units:.2f} = {price.units:,.0f}",
        f"store: {patches:,} pairs x {disk / patches / 1e3:.1f} kB = {disk / GB:,.1f} GB",
    )


def route_table(rows: list[RouteRow]) -> str:
    """Markdown: one row a route."""
    heads: list[tuple[str, Callable[[RouteRow], str]]] = [
        ("route", lambda row: row.name),
        ("requests", lambda row: f"{row.requests:,.0f}"),
        ("GB down", lambda row: _short(row.down_bytes / GB)),
        ("GB store", lambda row: _short(row.disk_bytes / GB)),
        ("quota units", lambda row: f"{row.units:,.0f}" if row.units else "none"),
        ("download", lambda row: duration(row.stages[0].seconds)),
        ("read, prepare, pack", lambda row: duration(sum(stage.seconds for stage in row.stages[1:]))),
    ]
    lines = [[name for name, _ in heads], ["---"] * len(heads), *([of(row) for _, of in heads] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _short(number: float) -> str:
    digits = max(0, 2 - math.floor(math.log10(number))) if number > 0 else 0
    return f"{number:,.{min(digits, 2)}f}"
