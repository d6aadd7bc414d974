"""Near-duplicates: the same acquisition twice, the same place and track soon again, or nearly the same picture."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pandas as pd

from sar1m.config import BalanceConfig
from sar1m.core.screening import OpticalVerdict
from sar1m.core.table import I64, U64, Bool, Rejections, codes, days, floats, pair_codes

NO_HASH = 0  # what perceptual_hash gives a patch without structure: such patches are no copies of each other
DAYS_DECIMALS = 2  # a repeat cycle of 12 d comes back within seconds, not to the second


class _Kept:
    """What has been kept so far, by everything that makes a later row its near-duplicate."""

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

    def twin(self, row: int) -> tuple[int, str, float, float] | None:
        """The kept row it repeats, with reason, measured and limit; None where it is new."""
        return self._same_acquisition(row) or self._same_orbit(row) or self._same_picture(row)

    def _same_acquisition(self, row: int) -> tuple[int, str, float, float] | None:
        of = self._relations
        for number, kept in ((of.sample[row], self._by_sample), (of.product[row], self._by_product)):
            if number >= 0 and number in kept:
                return kept[number], "duplicate_product", np.nan, np.nan
        return None

    def _same_orbit(self, row: int) -> tuple[int, str, float, float] | None:
        of, limit = self._relations, self._config.duplicate_days
        if of.orbit[row] < 0:
            return None
        apart = [(abs(of.day[row] - of.day[kept]), kept) for kept in self._by_orbit.get(of.orbit[row], ())]
        for days_apart, kept in sorted(apart)[:1]:
            if round(days_apart, DAYS_DECIMALS) <= limit:
                return kept, "duplicate_orbit", float(days_apart), limit
        return None

    def _same_picture(self, row: int) -> tuple[int, str, float, float] | None:
        of = self._relations
        number = of.hash_number[row]
        for other, distance in ((number, 0), *of.neighbours.get(number, ())):
            if other >= 0 and other in self._by_hash:
                return self._by_hash[other], "duplicate_hash", float(distance), float(self._config.duplicate_hamming)
        return None


class _Relations:
    """What each row could share with others, as numbers; -1 where it shares nothing by that rule.

    Plain lists, since they are read one number at a time. neighbours: by number of a hash, the numbers of the hashes
    within the limit with their distance, nearest first.
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
    """Rows that repeat a better one. The better is kept: with a partner that passes before without, then less cloud,
    then less time between the sensors, then the earlier row; unknown counts as worst.

    duplicate_product: same sample_id, or same patch and SAR product. duplicate_orbit: same patch and relative orbit
    within duplicate_days (to 0.01 d). duplicate_hash: perceptual hashes within duplicate_hamming bits, anywhere in the
    world: a copy far away is still a copy, and hashes of unlike pictures practically never come this close.
    A row is compared with kept rows only, so a chain of small steps keeps every second link.
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
    """All pairs i < j of the distinct hashes (n,) that differ in at most radius of 64 bits.

    Cut into radius + 2 bands, such a pair agrees in at least two of them (pigeonhole; multi-index hashing, Norouzi et
    al. 2012), so only hashes that share two bands are compared. For a radius over 10 the bands get so narrow that the
    work approaches n^2.
    """
    edges = np.linspace(0, 64, radius + 3).astype(np.int64)
    bands = [_bits(int(start), int(stop)) for start, stop in pairwise(edges)]
    found = [_pairs_sharing(hashes, one | two, radius) for one, two in combinations(bands, 2)]
    pairs = np.unique(np.concatenate(found), axis=0)
    return pairs[:, 0], pairs[:, 1]


def _bits(start: int, stop: int) -> int:
    return ((1 << (stop - start)) - 1) << start


def _pairs_sharing(hashes: U64, mask: int, radius: int) -> I64:
    """(m, 2) pairs that agree in all bits of the mask and lie within the radius."""
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
    """Rows whose number another row has too."""
    _, inverse, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    return (numbers >= 0) & (counts[inverse] > 1)


def _best_first(table: pd.DataFrame, optical: OpticalVerdict) -> I64:
    # numpy sorts NaN last: unknown is worst
    cloud, dt_hours = floats(table, "cloud_frac"), np.abs(floats(table, "dt_hours"))
    return np.lexsort((np.arange(len(table)), dt_hours, cloud, ~optical.paired))
