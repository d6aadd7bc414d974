"""Near-duplicates: the same acquisition twice, the same place and track within days, or nearly the same picture."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd

from sar1m.config import BalanceConfig
from sar1m.core.screening import OpticalVerdict
from sar1m.core.table import I64, U64, Bool, Rejections, codes, days, floats, pair_codes

NO_HASH = 0  # perceptual_hash of a patch without structure: such patches are not copies of each other
DAYS_DECIMALS = 2  # a repeat cycle of 12 d comes back within seconds, not to the second


class _Twin(NamedTuple):
    """The kept row that another row repeats; reason, measured and limit as in Rejections."""

    kept_row: int
    reason: str
    measured: float
    limit: float


class _Kept:
    """The rows kept so far, by each property that makes a later row their near-duplicate."""

    def __init__(self, relations: _Relations, config: BalanceConfig) -> None:
        self._relations = relations
        self._config = config
        self._by_sample: dict[int, int] = {}
        self._by_product: dict[int, int] = {}
        self._by_orbit: dict[int, list[int]] = {}
        self._by_hash: dict[int, int] = {}

    def add(self, row: int) -> None:
        of = self._relations
        self._by_sample[of.sample[row]] = row
        self._by_product[of.product[row]] = row
        self._by_orbit.setdefault(of.orbit[row], []).append(row)
        self._by_hash.setdefault(of.hash_number[row], row)

    def twin(self, row: int) -> _Twin | None:
        """The kept row that a row repeats; None where it repeats none."""
        return self._same_acquisition(row) or self._same_orbit(row) or self._same_picture(row)

    def _same_acquisition(self, row: int) -> _Twin | None:
        of = self._relations
        for number, kept in ((of.sample[row], self._by_sample), (of.product[row], self._by_product)):
            if number >= 0 and number in kept:
                return _Twin(kept[number], "duplicate_product", np.nan, np.nan)
        return None

    def _same_orbit(self, row: int) -> _Twin | None:
        of, limit = self._relations, self._config.duplicate_days
        if of.orbit[row] < 0:
            return None
        apart = [(abs(of.day[row] - of.day[kept]), kept) for kept in self._by_orbit.get(of.orbit[row], ())]
        for days_apart, kept in sorted(apart)[:1]:
            if round(days_apart, DAYS_DECIMALS) <= limit:
                return _Twin(kept, "duplicate_orbit", float(days_apart), limit)
        return None

    def _same_picture(self, row: int) -> _Twin | None:
        of = self._relations
        number = of.hash_number[row]
        for other, distance in ((number, 0), *of.neighbours.get(number, ())):
            if other >= 0 and other in self._by_hash:
                limit = float(self._config.duplicate_hamming)
                return _Twin(self._by_hash[other], "duplicate_hash", float(distance), limit)
        return None


class _Relations:
    """Numbers that agree where rows share a property; -1 where a row shares nothing by that property.

    They are plain lists, since they are read one number at a time.

    neighbours: for the number of a hash, the numbers and distances of the hashes within the limit, nearest first.
    suspects: (n,) rows that may have a near-duplicate.
    """

    def __init__(self, table: pd.DataFrame, config: BalanceConfig) -> None:
        sample, product = codes(table, "sample_id"), pair_codes(table, "patch", "sar_product")
        day = days(table, "sar_datetime")
        orbit = np.where(np.isnan(day), -1, pair_codes(table, "patch", "relative_orbit"))
        phash = table["phash"].to_numpy(dtype=np.int64, na_value=NO_HASH).view(np.uint64)
        distinct, hash_number = np.unique(phash, return_inverse=True)
        hash_number = np.where(phash == NO_HASH, -1, hash_number)
        first, second = hamming_pairs(distinct, config.duplicate_hamming)
        real = (distinct[first] != NO_HASH) & (distinct[second] != NO_HASH)
        self.neighbours = _neighbours(distinct, first[real], second[real])
        has_neighbour = np.isin(hash_number, list(self.neighbours))
        shared = [_shared(sample), _shared(product), _shared(orbit), _shared(hash_number), has_neighbour]
        self.suspects: Bool = np.logical_or.reduce(shared)
        self.sample, self.product, self.orbit = sample.tolist(), product.tolist(), orbit.tolist()
        self.hash_number, self.day = hash_number.tolist(), day.tolist()


def duplicate_rejections(table: pd.DataFrame, optical: OpticalVerdict, config: BalanceConfig) -> Rejections:
    """Rows that repeat a better row.

    The better row has an optical partner that passes; of equal ones less cloud, then less time between the sensors,
    then the earlier position in the table. Unknown values count as worst. A row is compared with kept rows only, so of
    a chain of small steps every second row is kept.

    The reasons are
    - duplicate_product: the same sample_id, or the same patch and SAR product;
    - duplicate_orbit: the same patch and relative orbit within duplicate_days (to 0.01 d);
    - duplicate_hash: perceptual hashes within duplicate_hamming bits, anywhere in the world. A copy far away is still a
      copy, and hashes of different pictures practically never come this close.
    """
    relations = _Relations(table, config)
    kept = _Kept(relations, config)
    twins: list[tuple[int, int, str, float, float]] = []
    order = _best_first(table, optical)
    for row in order[relations.suspects[order]].tolist():
        twin = kept.twin(row)
        if twin is None:
            kept.add(row)
        else:
            twins.append((row, *twin))
    columns = list(zip(*twins, strict=True)) or [(), (), (), (), ()]
    return Rejections(
        rows=np.array(columns[0], dtype=np.int64),
        kept_rows=np.array(columns[1], dtype=np.int64),
        reason=np.array(columns[2], dtype=object),
        measured=np.array(columns[3], dtype=np.float64),
        limit=np.array(columns[4], dtype=np.float64),
    )


def hamming_pairs(hashes: U64, radius: int) -> tuple[I64, I64]:
    """All pairs i < j of hashes that differ in at most radius of 64 bits, as two arrays of indices.

    If the bits are divided into radius + 2 bands, such a pair agrees in at least two of them (multi-index hashing,
    Norouzi et al. 2012). Only hashes that share two bands are therefore compared. For a radius over 10 the bands are so
    narrow that the work approaches n^2.

    hashes: (n,), distinct.
    """
    edges = np.linspace(0, 64, radius + 3).astype(np.int64)
    bands = [_bits(int(start), int(stop)) for start, stop in pairwise(edges)]
    found = [_pairs_sharing(hashes, one | two, radius) for one, two in combinations(bands, 2)]
    pairs = np.unique(np.concatenate(found), axis=0)
    return pairs[:, 0], pairs[:, 1]


def _bits(start: int, stop: int) -> int:
    return ((1 << (stop - start)) - 1) << start


def _pairs_sharing(hashes: U64, mask: int, radius: int) -> I64:
    """Pairs (m, 2) that agree in all bits of the mask and differ in at most radius bits."""
    shared = hashes & np.uint64(mask)
    order = np.argsort(shared, kind="stable")
    ordered, ordered_shared = hashes[order], shared[order]
    run_stop = np.searchsorted(ordered_shared, ordered_shared, side="right")
    left = np.arange(len(hashes))
    found = [np.empty((0, 2), dtype=np.int64)]
    for step in range(1, len(hashes)):
        left = left[left + step < run_stop[left]]
        if len(left) == 0:
            break
        close = left[np.bitwise_count(ordered[left] ^ ordered[left + step]) <= radius]
        found.append(np.sort(np.stack([order[close], order[close + step]], axis=1), axis=1))
    return np.concatenate(found)


def _neighbours(hashes: U64, first: I64, second: I64) -> dict[int, list[tuple[int, int]]]:
    distance = np.bitwise_count(hashes[first] ^ hashes[second])
    found: dict[int, list[tuple[int, int]]] = {}
    for one, two, bits in zip(first.tolist(), second.tolist(), distance.tolist(), strict=True):
        found.setdefault(one, []).append((two, bits))
        found.setdefault(two, []).append((one, bits))
    return {number: sorted(others, key=lambda other: (other[1], other[0])) for number, others in found.items()}


def _shared(numbers: I64) -> Bool:
    """Rows (n,) whose number another row has too."""
    _, inverse, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    return (numbers >= 0) & (counts[inverse] > 1)


def _best_first(table: pd.DataFrame, optical: OpticalVerdict) -> I64:
    # numpy sorts NaN last: unknown is worst
    cloud, dt_hours = floats(table, "cloud_frac"), np.abs(floats(table, "dt_hours"))
    return np.lexsort((np.arange(len(table)), dt_hours, cloud, ~optical.paired))
