"""Which SAR scenes a cell takes, and which optical partner each of them gets.

A scene is taken for a block only where it covers it nearly whole: mosaics are not made, since two passes differ in
time, geometry or calibration. What that loses: blocks on the border between two slices of one pass. Where slices of
170 km abut, that is 6 % of the blocks of 10.24 km of a pass; other passes, whose slices begin elsewhere, mostly serve
them. So do other dates for Sentinel-2 tiles, but two tiles share 9.8 km only: a block may stand on every border.

Whether a scene serves a cell, and at what cost, depends on nothing but time, cloud, direction and cover, so that
neighbouring cells choose alike and share what is downloaded. Of the optical scenes of one pass (granules of one
datatake, seconds apart) the one that covers more is taken: they show the same ground under the same sky.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from sar1m.core.utm import FloatArray, IntArray
from sar1m.records import Bool

CLOUD_DAYS: Final = 20.0  # cost of full cloud in days of |dt|: 5 % less cloud over the scene is worth waiting a day
SAME_PASS_S: Final = 1800.0  # slices of one pass are seconds apart, an orbit takes 98 minutes
ROUNDING: Final = 1e-6  # of a block's area, well under a pixel
MIN_PARTNER_COVER: Final = 0.5  # least share of the SAR's ground that the partner of a described scene must cover
COVER_STEP: Final = 1e-3  # covers that differ by less count as equal: a row of pixels of a block of 1,024
DAY_S: Final = 86_400.0

CellReason = Literal["taken", "no_sar_scene", "sar_covers_part_of_the_block", "sar_only_of_other_orbit_direction"]
PartnerReason = Literal[
    "paired", "no_optical_scene", "optical_covers_part_of_the_block", "optical_cloudy", "optical_too_far_in_time"
]
Direction = Literal["any", "ascending", "descending"]


@dataclass(frozen=True, kw_only=True, eq=False)
class SarPasses:
    """What choosing knows of SAR scenes (S,).

    time_s: UNIX time in seconds. direction: ascending, descending, or '' where unknown.
    quarter: of the year, 0 from December, 1 from March, 2 from June, 3 from September.
    """

    name: Sequence[str]
    time_s: FloatArray
    direction: Sequence[str]
    quarter: IntArray


@dataclass(frozen=True, kw_only=True, eq=False)
class OpticalPasses:
    """What choosing knows of optical scenes (O,).

    time_s: UNIX time in seconds. cloud_frac: 0..1 over the scene. Both may be NaN where unknown; that costs as much as
    the most that the rules allow.
    """

    name: Sequence[str]
    time_s: FloatArray
    cloud_frac: FloatArray


@dataclass(frozen=True, kw_only=True, eq=False)
class CoverTable:
    """Fractions of blocks inside footprints: sar (N, S), optical (N, O), float32."""

    sar: npt.NDArray[np.float32]
    optical: npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class PairingRules:
    """What pairs must be.

    scenes_per_cell: SAR scenes of a cell. seasons: where over 1, they are spread over that many quarters of the year.
    pair_days, max_cloud_frac: of partners, at most. min_cover: of SAR and partner, 0..1 of the block.
    orbit: any takes one direction for a cell, whichever pairs best.
    """

    scenes_per_cell: int
    seasons: int
    pair_days: float
    max_cloud_frac: float
    min_cover: float
    orbit: Direction


@dataclass(frozen=True, kw_only=True, eq=False)
class Choices:
    """Work items (K,), by cell, then by time of the SAR scene.

    cell, sar, optical: numbers; optical is -1 where there is no partner. reason: why there is a partner or none.
    cell_reason: for every cell (N,), why it takes scenes or none.
    """

    cell: IntArray
    sar: IntArray
    optical: IntArray
    reason: list[PartnerReason]
    cell_reason: list[CellReason]


def cheapest(cost: FloatArray) -> tuple[IntArray, FloatArray]:
    """The partner of least cost for each of several scenes, and that cost.

    cost: (S, O) for S scenes and O possible partners, inf where the two make no pair.
    Returns numbers of partners (S,), -1 where no pair is possible, and costs (S,), inf there. Of equal costs the first
    partner is taken: the order of the columns decides.
    """
    if not cost.size:
        return np.full(len(cost), -1), np.full(len(cost), np.inf)
    first = cost.argmin(axis=1)
    least = cost[np.arange(len(cost)), first]
    return np.where(np.isfinite(least), first, -1), least


def best_of_pass(cost: FloatArray, time_s: FloatArray, cover: npt.ArrayLike) -> tuple[IntArray, FloatArray]:
    """The partner of several scenes: of the pass that the cheapest one belongs to, the one that covers most.

    cost: (S, O) as cheapest takes it. time_s: (O,), of the possible partners; one of unknown time (NaN) is a pass of
    its own. cover: (O,), 0..1, of the ground that is looked at.
    Returns what cheapest does. Of equally large covers the one of less cost is taken, then the first.
    """
    first, least = cheapest(cost)
    if not cost.size:
        return first, least
    one_pass = np.abs(time_s - time_s[first][:, None]) <= SAME_PASS_S
    one_pass[np.arange(len(cost)), first] = True
    steps = np.where(one_pass & np.isfinite(cost), cover_steps(cover), -1)
    return cheapest(np.where(steps == steps.max(axis=1, keepdims=True), cost, np.inf))


def cover_steps(cover: npt.ArrayLike) -> IntArray:
    """Covers as whole numbers of COVER_STEP, rounded down."""
    steps: IntArray = np.floor(np.asarray(cover, dtype=np.float64) / COVER_STEP + ROUNDING).astype(np.int64)
    return steps


def nearest_partner(
    apart_s: Sequence[float | None], cover: Sequence[float], names: Sequence[str], min_cover: float = MIN_PARTNER_COVER
) -> int | None:
    """Number of the optical scene for one SAR scene, of those that cover enough; None where none does.

    Of the pass nearest in time the one that covers more, then the nearer one, then the first name.
    apart_s: seconds from the SAR scene, negative before it; None where unknown, which is further than any known time.
    cover: share of the SAR's ground that each covers, 0..1.
    """
    order = sorted((n for n in range(len(names)) if cover[n] >= min_cover), key=lambda number: names[number])
    time_s = np.asarray([np.nan if (apart := apart_s[n]) is None else apart for n in order], dtype=np.float64)
    furthest = float(np.finfo(np.float64).max)
    cost = np.where(np.isnan(time_s), furthest, np.abs(time_s))[None]
    undated = np.isnan(time_s).all()  # they are one pass as far as anybody knows
    best = int(best_of_pass(cost, np.zeros_like(time_s) if undated else time_s, [cover[n] for n in order])[0][0])
    return None if best < 0 else order[best]


def choose_scenes(sar: SarPasses, optical: OpticalPasses, covers: CoverTable, rules: PairingRules) -> Choices:
    """SAR scenes of every cell, each with the optical scene of least cost: |dt| in days and CLOUD_DAYS times the cloud.
    Of that one's pass the scene that covers the block most is taken, and its cost counts.

    Paired scenes go before unpaired ones; scenes of one pass count as one. Of several directions the one with more
    pairs, then more scenes, then the lower sum of costs, then the first name. Ties go to the earlier scene (an
    undated one is the last of all), then to the first name: the order of the inputs plays no part.
    """
    table = _CostTable(sar=sar, optical=optical, rules=rules)
    serves_sar = covers.sar[:, table.sar_order] >= rules.min_cover - ROUNDING
    serves_sar[:, ~table.direction_allowed] = False
    serves_optical = covers.optical[:, table.optical_order] >= rules.min_cover - ROUNDING
    cover = covers.optical[:, table.optical_order]
    alike, cells_of = _cells_alike(serves_sar, np.where(serves_optical, cover_steps(cover), 0).astype(np.uint16))
    cell, chosen_sar, chosen_optical = [], [], []
    for example, cells in zip(alike, cells_of, strict=True):
        partners = np.flatnonzero(serves_optical[example])
        taken = table.best(np.flatnonzero(serves_sar[example]), partners, cover[example, partners])
        cell.append(np.repeat(cells, len(taken)))
        chosen_sar.append(np.tile([pair.sar for pair in taken], len(cells)))
        chosen_optical.append(np.tile([pair.optical for pair in taken], len(cells)))
    none = np.empty(0, dtype=np.int64)
    cell_number, sar_rank, optical_rank = (
        np.concatenate([none, *parts]).astype(np.int64) for parts in (cell, chosen_sar, chosen_optical)
    )
    order = np.lexsort((sar_rank, cell_number))
    cell_number, sar_rank, optical_rank = cell_number[order], sar_rank[order], optical_rank[order]
    meets_optical = cover > ROUNDING
    return Choices(
        cell=cell_number,
        sar=table.sar_order[sar_rank],
        optical=np.where(optical_rank < 0, -1, np.append(table.optical_order, -1)[optical_rank]),
        reason=table.partner_reasons(cell_number, sar_rank, optical_rank, serves_optical, meets_optical),
        cell_reason=_cell_reasons(covers.sar, serves_sar, rules),
    )


def _cells_alike(serves_sar: Bool, optical_steps: npt.NDArray[np.uint16]) -> tuple[IntArray, list[IntArray]]:
    """Cells that the same scenes cover alike choose alike: one example of each such group, and the groups' cells."""
    packed = np.hstack([np.packbits(serves_sar, axis=1), np.ascontiguousarray(optical_steps).view(np.uint8)])
    if not packed.shape[1]:
        return np.empty(0, dtype=np.int64), []
    keys = np.ascontiguousarray(packed).view(f"V{packed.shape[1]}").ravel()
    _, example, group = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(group, kind="stable")
    return example, np.split(order, np.cumsum(np.bincount(group))[:-1])


def _cell_reasons(cover: npt.NDArray[np.float32], serves: Bool, rules: PairingRules) -> list[CellReason]:
    taken = serves.any(axis=1)
    covered = (cover >= rules.min_cover - ROUNDING).any(axis=1)
    met = (cover > ROUNDING).any(axis=1)
    words: tuple[CellReason, ...] = (
        "taken",
        "sar_only_of_other_orbit_direction",
        "sar_covers_part_of_the_block",
        "no_sar_scene",
    )
    number = np.select([taken, covered, met], [0, 1, 2], default=3)
    return [words[one] for one in number.tolist()]


class _Pair(NamedTuple):
    """A SAR scene and its partner (-1 for none) by their places in time, and their cost (inf without a partner)."""

    cost: float
    sar: int
    optical: int


@dataclass(frozen=True, kw_only=True, eq=False)
class _CostTable:
    """Scenes in the order of time and name, and what pairing any two of them costs."""

    sar: SarPasses
    optical: OpticalPasses
    rules: PairingRules

    @cached_property
    def sar_order(self) -> IntArray:
        return _in_time(self.sar.name, self.sar.time_s)

    @cached_property
    def optical_order(self) -> IntArray:
        return _in_time(self.optical.name, self.optical.time_s)

    @cached_property
    def sar_time_s(self) -> FloatArray:
        return self.sar.time_s[self.sar_order]

    @cached_property
    def direction(self) -> list[str]:
        return [self.sar.direction[number] for number in self.sar_order.tolist()]

    @cached_property
    def quarter(self) -> list[int]:
        quarters: list[int] = self.sar.quarter[self.sar_order].tolist()
        return quarters

    @cached_property
    def direction_allowed(self) -> Bool:
        wanted = self.rules.orbit
        return np.asarray([wanted in ("any", one) for one in self.direction], dtype=np.bool_)

    @cached_property
    def apart_s(self) -> FloatArray:
        """|dt| (S, O); as far as allowed where it is unknown."""
        apart: FloatArray = np.abs(self.optical.time_s[self.optical_order] - self.sar_time_s[:, None])
        return np.where(np.isnan(apart), self.rules.pair_days * DAY_S, apart)

    @cached_property
    def clear(self) -> Bool:
        """(O,); unknown counts as clear enough."""
        return ~(self.optical.cloud_frac[self.optical_order] > self.rules.max_cloud_frac)

    @cached_property
    def cost(self) -> FloatArray:
        """(S, O) in days, inf where the two make no pair; with an undated one more than any equal sum with a date."""
        cloud = self.optical.cloud_frac[self.optical_order]
        cloud = np.where(np.isnan(cloud), self.rules.max_cloud_frac, cloud)
        near = self.apart_s <= self.rules.pair_days * DAY_S
        cost = np.where(near & self.clear, self.apart_s / DAY_S + CLOUD_DAYS * cloud, np.inf)
        undated = np.isnan(self.optical.time_s[self.optical_order])
        return np.where(undated, np.nextafter(cost, np.inf), cost)

    def best(self, sar: IntArray, optical: IntArray, cover: FloatArray) -> list[_Pair]:
        """The pairs that a cell takes, of the scenes that serve it. cover: of the cell by the optical ones."""
        if not sar.size:
            return []
        times_s = self.optical.time_s[self.optical_order[optical]]
        column, cost = best_of_pass(self.cost[sar[:, None], optical], times_s, cover)
        partner = np.append(optical, -1)[column]
        ranked = np.argsort(cost, kind="stable")
        by_direction: dict[str, list[_Pair]] = {}
        for pair in map(_Pair, cost[ranked].tolist(), sar[ranked].tolist(), partner[ranked].tolist()):
            by_direction.setdefault(self.direction[pair.sar], []).append(pair)
        sets = {name: self._spread(pairs) for name, pairs in by_direction.items()}
        return sets[min(sets, key=lambda name: (*_merit(sets[name]), name))]

    def _spread(self, ranked: list[_Pair]) -> list[_Pair]:
        """As many pairs of one direction as are asked for, from several quarters of the year where that is asked for.

        ranked: best first. Pairs are taken in turn from the quarters that offer the best ones, and from the other
        quarters only when these have no more.
        """
        wanted = self.rules.scenes_per_cell
        if wanted == 1:
            return ranked[:1]
        queues: dict[int, list[_Pair]] = {}
        for pair in ranked:
            queues.setdefault(self.quarter[pair.sar] if self.rules.seasons > 1 else 0, []).append(pair)
        listed = list(queues.values())
        chosen: list[_Pair] = []
        for group in (listed[: self.rules.seasons], listed[self.rules.seasons :]):
            while len(chosen) < wanted and any(group):
                for queue in group:
                    found = self._next_pass(queue, chosen)
                    if found is not None and len(chosen) < wanted:
                        chosen.append(found)
        return chosen

    def _next_pass(self, queue: list[_Pair], chosen: list[_Pair]) -> _Pair | None:
        """Takes the best pair out of a queue whose SAR scene is of no chosen pass. Those before it are dropped."""
        while queue:
            pair = queue.pop(0)
            if all(abs(self.sar_time_s[pair.sar] - self.sar_time_s[other.sar]) > SAME_PASS_S for other in chosen):
                return pair
        return None

    def partner_reasons(
        self, cell: IntArray, sar: IntArray, optical: IntArray, serves: Bool, meets: Bool
    ) -> list[PartnerReason]:
        """Why each chosen SAR scene has its partner or none: the last thing that stood in the way."""
        words: list[PartnerReason] = ["paired"] * cell.size
        near = self.apart_s <= self.rules.pair_days * DAY_S
        for number in np.flatnonzero(optical < 0).tolist():
            row, around = cell[number], near[sar[number]]
            if (serves[row] & around).any():
                words[number] = "optical_cloudy"
            elif (meets[row] & around).any():
                words[number] = "optical_covers_part_of_the_block"
            elif serves[row].any():
                words[number] = "optical_too_far_in_time"
            else:
                words[number] = "no_optical_scene"
        return words


def _in_time(name: Sequence[str], time_s: FloatArray) -> IntArray:
    """Undated ones last, so that of two equal costs the dated one's comes first."""
    sortable = np.where(np.isnan(time_s), np.inf, time_s)
    keys = sorted(range(len(name)), key=lambda number: (sortable[number], name[number]))
    return np.asarray(keys, dtype=np.int64)


def _merit(chosen: list[_Pair]) -> tuple[int, int, float]:
    """Less is better: minus the number of pairs, minus the number of scenes, and the sum of what the pairs cost."""
    costs = [pair.cost for pair in chosen if pair.optical >= 0]
    return -len(costs), -len(chosen), sum(costs)
