"""Columns of the candidate table as arrays, names as random numbers, and rejected rows."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
Bool = npt.NDArray[np.bool_]
Strings = npt.NDArray[np.object_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Rejections:
    """Rejected rows. All fields are arrays of the same length.

    rows: positions in the table.
    measured, limit: in the unit of the rule; NaN where nothing is measured.
    kept_rows: position of the near-duplicate that was kept; -1 for other rules.
    """

    rows: I64
    reason: Strings
    measured: F64
    limit: F64
    kept_rows: I64

    @staticmethod
    def of(rows: I64, reason: Strings | str, measured: F64 | float, limit: F64 | float) -> Rejections:
        """Rejections of rows that are no near-duplicates. reason, measured, limit: one for all, or one for each row."""
        count = len(rows)
        return Rejections(
            rows=rows,
            reason=np.broadcast_to(np.asarray(reason, dtype=object), count),
            measured=np.broadcast_to(np.asarray(measured, dtype=np.float64), count),
            limit=np.broadcast_to(np.asarray(limit, dtype=np.float64), count),
            kept_rows=np.full(count, -1, dtype=np.int64),
        )

    def take(self, order: I64) -> Rejections:
        """The entries at some positions, in that order."""
        return Rejections(
            rows=self.rows[order],
            reason=self.reason[order],
            measured=self.measured[order],
            limit=self.limit[order],
            kept_rows=self.kept_rows[order],
        )

    def of_rows(self, rows: I64) -> Rejections:
        """The same rejections, whose positions refer to table.iloc[rows], with positions in the table."""
        kept_rows = np.where(self.kept_rows < 0, -1, rows[self.kept_rows]) if len(rows) else self.kept_rows
        return replace(self, rows=rows[self.rows], kept_rows=kept_rows)

    @staticmethod
    def join(parts: Sequence[Rejections]) -> Rejections:
        """All parts, one after the other; at least one."""
        return Rejections(
            rows=np.concatenate([part.rows for part in parts]),
            reason=np.concatenate([part.reason for part in parts]),
            measured=np.concatenate([part.measured for part in parts]),
            limit=np.concatenate([part.limit for part in parts]),
            kept_rows=np.concatenate([part.kept_rows for part in parts]),
        )


def floats(table: pd.DataFrame, name: str) -> F64:
    """One numeric column as float64; a missing value is NaN."""
    column: F64 = table[name].to_numpy(dtype=np.float64, na_value=np.nan)
    return column


def codes(table: pd.DataFrame, name: str) -> I64:
    """One column as numbers in the order of its values, -1 where missing or an empty text."""
    column = table[name]
    numbers, _ = pd.factorize(column.mask(column == ""), sort=True)
    return np.asarray(numbers, dtype=np.int64)


def pair_codes(table: pd.DataFrame, first: str, second: str) -> I64:
    """Numbers that agree exactly where both columns agree; -1 where either is missing."""
    one, two = codes(table, first), codes(table, second)
    return np.where((one < 0) | (two < 0), -1, one * (two.max(initial=0) + 1) + two)


def days(table: pd.DataFrame, name: str) -> F64:
    """A time column as days since 1970-01-01 UTC; NaN where missing."""
    instants = pd.to_datetime(table[name], utc=True).dt.tz_localize(None).to_numpy(dtype="datetime64[us]")
    microseconds = np.where(np.isnat(instants), 0, instants.astype(np.int64))
    return np.where(np.isnat(instants), np.nan, microseconds / 86_400e6)


def finite_lists(table: pd.DataFrame, name: str) -> Bool:
    """Whether each row of a list column holds numbers, at least one and all of them finite."""
    rows = table[name]
    if isinstance(rows.dtype, pd.ArrowDtype):
        counts = rows.list.len().to_numpy(dtype=np.int64, na_value=0)
        numbers = rows.list.flatten().to_numpy(dtype=np.float64, na_value=np.nan)
        odd = np.bincount(np.repeat(np.arange(len(rows)), counts)[~np.isfinite(numbers)], minlength=len(rows))
        whole: Bool = (counts > 0) & (odd == 0)
        return whole
    found = (
        row is not None and len(row) > 0 and all(number is not None and math.isfinite(number) for number in row)
        for row in rows
    )
    return np.fromiter(found, dtype=np.bool_, count=len(table))


def list_numbers(table: pd.DataFrame, name: str, rows: I64) -> F64:
    """A list column as (k, length) at some rows, whose lists have one length."""
    chosen = table[name].iloc[rows]
    if isinstance(chosen.dtype, pd.ArrowDtype):
        numbers: F64 = chosen.list.flatten().to_numpy(dtype=np.float64, na_value=np.nan).reshape(len(rows), -1)
        return numbers
    return np.stack(chosen.to_numpy(dtype=object)).astype(np.float64)


def row_names(table: pd.DataFrame) -> list[str]:
    """key/patch of every row: the key alone names a staged block, which holds several patches."""
    return [f"{key}/{patch}" for key, patch in zip(table["key"], table["patch"], strict=True)]


def keyed_hash(names: Iterable[str], *, seed: int, purpose: str) -> U64:
    """64 random-looking bits of each name: blake2b keyed by seed and purpose.

    A name keeps its number whatever else stands in the table, so that a grown dataset redraws nothing.
    """
    key = hashlib.blake2b(f"{purpose}/{seed}".encode(), digest_size=32).digest()
    digests = (hashlib.blake2b(name.encode(), digest_size=8, key=key).digest() for name in names)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)
