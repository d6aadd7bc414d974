"""What the rows of an audit come to: one line, and the figures behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sar1m.audit.item import PairRow
from sar1m.records import F64

WORST = 20


@dataclass(frozen=True, kw_only=True, eq=False)
class Verdict:
    """measured, unmeasurable, failed: numbers of pairs. beyond: measured pairs whose shift is longer than limit_px.

    median_px, p95_px, largest_px, sigma_px (median): of measured pairs, NaN of none. common_px: median row and column;
    about_it_px: median distance from it. disagreeing: pairs whose windows disagree by over a pixel. doubted: pairs
    whose unit the numbers contradict; doubt: of the first of them.
    """

    limit_px: float
    measured: int
    unmeasurable: int
    failed: int
    beyond: int
    median_px: float
    p95_px: float
    largest_px: float
    largest_pair: str
    sigma_px: float
    common_px: tuple[float, float]
    about_it_px: float
    disagreeing: int
    doubted: int
    doubt: str

    @property
    def holds(self) -> bool:
        """Whether every measured pair lies within the limit, and there is one."""
        return self.measured > 0 and not self.beyond

    @property
    def line(self) -> str:
        """The verdict in one line."""
        limit = f"{self.limit_px:g} px"
        if not self.measured:
            return f"Not shown to be aligned to {limit}: no pair could be measured."
        most = f"median {self.median_px:.2f} px, 95 % within {self.p95_px:.2f} px"
        if not self.beyond:
            return f"Aligned to {limit}: {_all(self.measured)} within it ({most})."
        share = 100 * self.beyond / self.measured
        return (
            f"Not aligned to {limit}: {self.beyond:,} of {self.measured:,} measured pairs ({share:.0f} %) lie further "
            f"off; {most}, the largest {self.largest_px:.2f} px."
        )

    def remarks(self) -> list[str]:
        """What a careful reader would look up next, a sentence each."""
        words = []
        if self.measured > 1 and np.hypot(*self.common_px) > max(self.about_it_px, self.sigma_px):
            words.append(
                f"Most of it is one common shift: {self.common_px[0]:+.2f} rows, {self.common_px[1]:+.2f} columns "
                f"(medians). About it the pairs scatter by {self.about_it_px:.2f} px."
            )
        if self.disagreeing:
            words.append(
                f"In {self.disagreeing:,} of {self.measured:,} pairs the windows disagree by over 1 px with the pair's "
                "shift: no one shift fits them (relief that was not corrected, rotation, scale)."
            )
        if self.doubted:
            words.append(f"The unit of the SAR pictures is in doubt in {self.doubted:,} pairs. {self.doubt}")
        if self.unmeasurable:
            words.append(
                f"{self.unmeasurable:,} pairs show too little that both sensors see, or lie further apart than was "
                "searched (--search-px)."
            )
        if self.failed:
            words.append(f"{self.failed:,} pairs failed: they are named with the cause in the table.")
        return words


def judge(rows: Sequence[PairRow], limit_px: float) -> Verdict:
    """The verdict on rows in any order."""
    measured = [row for row in rows if row.status == "measured"]
    length = _floats([row.shift_px for row in measured])
    places = np.array([(row.row_px, row.col_px) for row in measured], dtype=np.float64).reshape(-1, 2)
    common = np.median(places, axis=0) if len(places) else np.full(2, np.nan)
    about = np.hypot(*(places - common).T)
    return Verdict(
        limit_px=limit_px,
        measured=len(measured),
        unmeasurable=sum(row.status == "unmeasurable" for row in rows),
        failed=sum(row.status == "failed" for row in rows),
        beyond=int((length > limit_px).sum()),
        median_px=_quantile(length, 0.5),
        p95_px=_quantile(length, 0.95),
        largest_px=_quantile(length, 1.0),
        largest_pair=max(measured, key=lambda row: row.shift_px).pair if measured else "",
        sigma_px=_quantile(_floats([row.sigma_px for row in measured]), 0.5),
        common_px=(float(common[0]), float(common[1])),
        about_it_px=_quantile(about, 0.5),
        disagreeing=sum(row.windows_apart_px > 1 for row in measured),
        doubted=sum(bool(row.doubt) for row in rows),
        doubt=next((row.doubt for row in sorted(rows, key=lambda row: row.pair) if row.doubt), ""),
    )


def worst_of(rows: Sequence[PairRow]) -> list[PairRow]:
    """The measured pairs with the longest shifts, at most WORST, the longest first."""
    measured = [row for row in rows if row.status == "measured"]
    return sorted(measured, key=lambda row: (-row.shift_px, row.pair))[:WORST]


def _all(count: int) -> str:
    return "the one measured pair lies" if count == 1 else f"all {count:,} measured pairs lie"


def _floats(values: Sequence[float]) -> F64:
    return np.asarray(values, dtype=np.float64)


def _quantile(values: F64, share: float) -> float:
    known = values[np.isfinite(values)]
    return float(np.quantile(known, share)) if len(known) else float("nan")
