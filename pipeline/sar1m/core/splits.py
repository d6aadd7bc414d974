"""Splits by geographic block with a gap between splits, and the audit that checks the gap."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from sar1m.config import SplitConfig
from sar1m.core.sphere import EARTH_RADIUS_KM, KM_PER_DEGREE, east_of, nearest_km, unit_vectors
from sar1m.core.table import F64, I64, Bool, Rejections, Strings, floats, keyed_hash
from sar1m.store.schema import SPLITS

TRAIN, VAL, TEST = range(3)  # positions in schema.SPLITS
PAIRS = tuple(combinations(SPLITS, 2))
SHARED_COLUMNS = ("sar_product", "datatake", "optical_product")


@dataclass(frozen=True, kw_only=True)
class SplitAudit:
    """Facts by which to judge whether the splits are independent of each other.

    samples, blocks: number in each split.
    least_km: for each pair of splits, great-circle distance of the two nearest patch centres; None where one is empty.
    shared: for each column and pair of splits, number of products or data takes that occur in both. A scene is wider
        than a block, so shared scenes are expected; they are counted and not forbidden.
    """

    block_km: float
    buffer_km: float
    samples: tuple[int, ...]
    blocks: tuple[int, ...]
    least_km: tuple[float | None, ...]
    shared: tuple[tuple[str, tuple[int, ...]], ...]

    def to_json(self) -> dict[str, Any]:
        """The audit as JSON values, distances rounded to the metre."""
        names = ["/".join(pair) for pair in PAIRS]
        least_km = [None if km is None else round(km, 3) for km in self.least_km]
        return {
            "block_km": self.block_km,
            "buffer_km": self.buffer_km,
            "samples": dict(zip(SPLITS, self.samples, strict=True)),
            "blocks": dict(zip(SPLITS, self.blocks, strict=True)),
            "least_distance_km": dict(zip(names, least_km, strict=True)),
            "buffer_holds": all(km is None or km >= self.buffer_km for km in self.least_km),
            **{f"shared_{column}s": dict(zip(names, counts, strict=True)) for column, counts in self.shared},
        }


def block_names(lon_deg: F64, lat_deg: F64, block_km: float) -> Strings:
    """Names of the blocks that points lie in, (n,), such as 50km_2781_3120.

    A name consists of block size, row from the south pole and column from 180 W. It depends on the point and block_km
    alone. Rows are block_km high. Each row is divided into a whole number of columns, as near to block_km wide at its
    middle latitude as possible. Blocks thus have nearly the same area, and only the antimeridian is a seam.

    lon_deg, lat_deg: (n,).
    """
    rows = int(np.ceil(180 * KM_PER_DEGREE / block_km))
    row = np.clip(np.floor((lat_deg + 90) * KM_PER_DEGREE / block_km).astype(np.int64), 0, rows - 1)
    middle_lat = np.minimum((row + 0.5) * block_km / KM_PER_DEGREE - 90, 90)
    around_km = 2 * np.pi * EARTH_RADIUS_KM * np.cos(np.radians(middle_lat))
    columns = np.maximum(np.rint(around_km / block_km).astype(np.int64), 1)
    column = np.floor(east_of(lon_deg, -180.0, least=0.0) / 360 * columns).astype(np.int64)
    number, inverse = np.unique(row * (1 << 32) + np.minimum(column, columns - 1), return_inverse=True)
    names = [f"{block_km:g}km_{packed >> 32:04d}_{packed & 0xFFFFFFFF:04d}" for packed in number.tolist()]
    return np.array(names, dtype=object)[inverse] if names else np.empty(0, dtype=object)


def assign_splits(blocks: Strings, *, val_share: float, test_share: float, seed: int) -> I64:
    """Split of every row (0 train, 1 val, 2 test). All rows of a block are in the same split.

    Blocks are ordered by a keyed hash of their name. Test takes blocks from the low end and val from the high end, each
    block that brings its number of samples nearer to its share. A block therefore seldom changes its split when others
    are added. A wanted split that would stay empty gets the smallest block of train, as long as train keeps one: two
    blocks give train and val, three give all splits, one is all train.

    blocks: (n,) names.
    """
    names, inverse, sizes = np.unique(blocks.astype(str), return_inverse=True, return_counts=True)
    order = np.argsort(keyed_hash(names.tolist(), seed=seed, purpose="split"), kind="stable")
    sides = np.full(len(names), TRAIN, dtype=np.int64)
    for split, share, walk, to_leave in (
        (VAL, val_share, order[::-1], 2 if test_share > 0 else 1),
        (TEST, test_share, order, 1),
    ):
        free = walk[sides[walk] == TRAIN]
        taken, wished = 0, share * len(blocks)
        for block in free.tolist():
            if abs(taken + sizes[block] - wished) < abs(taken - wished) and np.sum(sides == TRAIN) > to_leave:
                sides[block] = split
                taken += int(sizes[block])
        if share > 0 and taken == 0 and len(free) > 1:
            sides[free[np.argmin(sizes[free])]] = split
    return sides[inverse]


def split_with_buffer(table: pd.DataFrame, blocks: Strings, config: SplitConfig, seed: int) -> tuple[I64, Rejections]:
    """Split of every row, and rejections (split_buffer) of rows within buffer_km of a sample of another split.

    Of two samples that are too near, train loses its sample before val and test, and val before test. Where that
    would leave train empty, there is no test split, and if needed no val split either: a small place is all train.
    """
    points = unit_vectors(floats(table, "lon"), floats(table, "lat"))
    for val_share, test_share in ((config.val_share, config.test_share), (config.val_share, 0.0), (0.0, 0.0)):
        sides = assign_splits(blocks, val_share=val_share, test_share=test_share, seed=seed)
        gap_km = _gap_to_stronger_km(points, sides, config.buffer_km)
        near = gap_km < config.buffer_km
        if (sides[~near] == TRAIN).any():
            break
    rows = np.flatnonzero(near)
    return sides, Rejections.of(rows, "split_buffer", gap_km[rows], config.buffer_km)


def audit_splits(samples: pd.DataFrame, config: SplitConfig) -> SplitAudit:
    """The audit of selected samples, from the columns split, block, lon, lat, paired and products of their table."""
    points = unit_vectors(floats(samples, "lon"), floats(samples, "lat"))
    split = samples["split"].to_numpy(dtype=object)
    members = {name: split == name for name in SPLITS}
    shared = []
    for column in SHARED_COLUMNS:
        counted = samples["paired"].to_numpy(dtype=np.bool_) if column == "optical_product" else np.True_
        values = {name: _distinct(samples[column], members[name] & counted) for name in SPLITS}
        shared.append((column, tuple(len(values[one] & values[two]) for one, two in PAIRS)))
    return SplitAudit(
        block_km=config.block_km,
        buffer_km=config.buffer_km,
        samples=tuple(int(members[name].sum()) for name in SPLITS),
        blocks=tuple(len(_distinct(samples["block"], members[name])) for name in SPLITS),
        least_km=tuple(_least_km(points[members[one]], points[members[two]]) for one, two in PAIRS),
        shared=tuple(shared),
    )


def _gap_to_stronger_km(points: F64, sides: I64, buffer_km: float) -> F64:
    """Distance in km to the nearest remaining sample of a split that outranks the row's own, (n,); inf for test."""
    gap_km = np.full(len(points), np.inf)
    is_test, is_val, is_train = (sides == side for side in (TEST, VAL, TRAIN))
    gap_km[is_val] = nearest_km(points[is_val], points[is_test])
    stays = is_test | (is_val & (gap_km >= buffer_km))
    gap_km[is_train] = nearest_km(points[is_train], points[stays])
    return gap_km


def _least_km(points: F64, others: F64) -> float | None:
    few, many = sorted((points, others), key=len)
    return float(nearest_km(few, many).min()) if len(few) else None


def _distinct(column: pd.Series, rows: Bool) -> set[str]:
    chosen = column[rows]
    return set(chosen[chosen.notna() & (chosen != "")].unique())
