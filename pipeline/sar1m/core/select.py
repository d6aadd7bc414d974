"""Selects the samples among candidates: a pure function of the table of measures and the thresholds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sar1m.config import BalanceConfig, ScreeningConfig, SplitConfig
from sar1m.core.balance import balance_rejections
from sar1m.core.dedupe import duplicate_rejections
from sar1m.core.screening import OpticalVerdict, footprint_rule, judge_optical, sar_rejections
from sar1m.core.splits import TRAIN, SplitAudit, audit_splits, block_names, split_with_buffer
from sar1m.core.table import F64, I64, Rejections, Strings, codes, floats, keyed_hash, row_names
from sar1m.store.errors import StoreError
from sar1m.store.schema import SPLITS

# What the rules, shares, splits and their audit look at.
DECIDING_COLUMNS = (
    "key",
    "patch",
    "sample_id",
    "sar_product",
    "datatake",
    "optical_product",
    "sar_datetime",
    "relative_orbit",
    "lon",
    "lat",
    "bounds_lonlat",
    "transform",
    "gsd_m",
    "sar_nodata_frac",
    "mean_db",
    "plateau_frac",
    "dynamic_range_db",
    "noise_floor_frac",
    "layover_shadow_frac",
    "water_frac",
    "dt_hours",
    "optical_nodata_frac",
    "optical_plateau_frac",
    "saturated_frac",
    "optical_floor_min",
    "optical_floor_max",
    "cloud_frac",
    "residual_px",
    "registration_status",
    "phash",
    "land_cover",
    "ecoregion",
)
ORDER_COLUMNS = ("key", "patch", "sample_id", "sar_product", "optical_product")


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """The result of a selection. Every candidate is in one of the two tables, once.

    samples: the candidates' columns and those that SAMPLE_COLUMNS has beside, without shard and index, in the order of
    packing: train, val, test, each shuffled. rejected: the candidates' columns and those that REJECTED_COLUMNS has
    beside, in the order of key and patch.
    """

    samples: pd.DataFrame
    rejected: pd.DataFrame
    audit: SplitAudit


@dataclass(frozen=True, kw_only=True, eq=False)
class _Chosen:
    """rows: positions that remain, ascending. sides: their splits, as positions in SPLITS. blocks: of all rows."""

    rows: I64
    sides: I64
    blocks: Strings
    rejections: Rejections


def select(
    candidates: pd.DataFrame,
    *,
    screening: ScreeningConfig,
    balance: BalanceConfig,
    split: SplitConfig,
    seed: int,
    excluded: F64 | None = None,
) -> Selection:
    """Selects the samples, gives a reason for every other candidate, and orders the samples for packing.

    The first rule that a row breaks gives its reason. The order is: screening.sar_rejections, near-duplicates, rules
    for the optical side (where on_optical_failure is reject), balance, split_buffer, and balance once more, so that
    shares hold among the rows that remain in the end.

    candidates: DECIDING_COLUMNS and any others, in any order of rows; missing values are None, NaN or NaT. Lists and
    maps may be of an ArrowDtype.
    excluded: (n, 4) west, south, east, north in degrees of places to leave out.
    Raises StoreError where columns are missing, ConfigError where an excluded place is not a box.
    """
    missing = sorted(set(DECIDING_COLUMNS) - set(candidates.columns))
    if missing:
        raise StoreError(f"candidate table: columns missing: {', '.join(missing)}. Build the staging folder again.")
    order = np.lexsort([codes(candidates, name) for name in reversed(ORDER_COLUMNS)])
    table = candidates.iloc[order]
    optical = judge_optical(table, screening)
    places = () if excluded is None else (footprint_rule(table, excluded, split.exclude_buffer_km),)
    gone = [sar_rejections(table, screening, places)]
    rows = _rows_left(table, gone)
    gone.append(duplicate_rejections(table.iloc[rows], optical.of(rows), balance).of_rows(rows))
    if screening.on_optical_failure == "reject":
        rows = _rows_left(table, gone)
        gone.append(optical.of(rows).as_rejections().of_rows(rows))
    chosen = _balance_and_split(table, optical, gone, balance, split, seed)
    samples = _samples(table, chosen, optical, seed)
    return Selection(samples=samples, rejected=_rejected(table, chosen.rejections), audit=audit_splits(samples, split))


def _balance_and_split(
    table: pd.DataFrame,
    optical: OpticalVerdict,
    gone: list[Rejections],
    balance: BalanceConfig,
    split: SplitConfig,
    seed: int,
) -> _Chosen:
    draw = keyed_hash(row_names(table), seed=seed, purpose="balance")
    blocks = np.full(len(table), "", dtype=object)
    sides = np.full(len(table), TRAIN, dtype=np.int64)

    rows = _rows_left(table, gone)
    first = balance_rejections(table.iloc[rows], optical.paired[rows], draw[rows], balance).of_rows(rows)
    rows = _rows_left(table, [*gone, first])
    blocks[rows] = block_names(floats(table, "lon")[rows], floats(table, "lat")[rows], split.block_km)
    sides[rows], near = split_with_buffer(table.iloc[rows], blocks[rows], split, seed)
    near = near.of_rows(rows)
    rows = _rows_left(table, [*gone, first, near])
    last = balance_rejections(table.iloc[rows], optical.paired[rows], draw[rows], balance).of_rows(rows)
    rejections = Rejections.join([*gone, first, near, last])
    rows = _rows_left(table, [rejections])
    if not (sides[rows] == TRAIN).any():
        sides[:] = TRAIN  # the shares took the last of train: what is left trains rather than evaluates nothing
    return _Chosen(rows=rows, sides=sides[rows], blocks=blocks, rejections=rejections)


def _rows_left(table: pd.DataFrame, gone: list[Rejections]) -> I64:
    left = np.ones(len(table), dtype=np.bool_)
    for part in gone:
        left[part.rows] = False
    return np.flatnonzero(left)


def _samples(table: pd.DataFrame, chosen: _Chosen, optical: OpticalVerdict, seed: int) -> pd.DataFrame:
    ordered, splits = [], []
    for side, name in enumerate(SPLITS):
        rows = chosen.rows[chosen.sides == side]
        # Raw Philox bits: numpy promises them for ever, which it does not for Generator.permutation (NEP 19).
        draws = np.random.Philox([seed, side]).random_raw(len(rows))
        ordered.append(rows[np.argsort(draws, kind="stable")])
        splits += [name] * len(rows)
    rows = np.concatenate(ordered)
    samples = table.iloc[rows].reset_index(drop=True)
    return samples.assign(
        paired=optical.paired[rows],
        unpaired_reason=optical.reason[rows],
        block=chosen.blocks[rows],
        split=np.array(splits, dtype=object),
        duplicates_of="",
    )


def _rejected(table: pd.DataFrame, gone: Rejections) -> pd.DataFrame:
    gone = gone.take(np.argsort(gone.rows, kind="stable"))
    sample_ids = np.append(table["sample_id"].to_numpy(dtype=object), "")
    rejected = table.iloc[gone.rows].reset_index(drop=True)
    return rejected.assign(
        reason=gone.reason,
        measured=gone.measured,
        limit=gone.limit,
        duplicates_of=sample_ids[gone.kept_rows],  # position -1, no near-duplicate, is the "" at the end
    )
