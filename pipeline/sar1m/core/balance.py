"""Shares that hold over the whole dataset: unpaired samples, water, any one land-cover class or ecoregion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sar1m.config import BalanceConfig
from sar1m.core.table import U64, Bool, Rejections, Strings, floats

ROUNDING = 1e-9  # a share of 0.05 of 100 samples allows 5, whatever binary fractions say


@dataclass(frozen=True, kw_only=True, eq=False)
class Quota:
    """A group of rows and how many of them may stay. share: what the configuration allows, for the record."""

    reason: str
    members: Bool
    allowed: int
    share: float


def balance_rejections(table: pd.DataFrame, paired: Bool, draw: U64, config: BalanceConfig) -> Rejections:
    """Rows left out so that the shares hold in what remains.

    draw: a random number a row; of the rows in excess those with the highest go. Rules: class_share (dominant
    land-cover class; rows without land cover belong to none), ecoregion_share (rows without one likewise),
    water_patch_share, unpaired_share, in turn until all hold at once. measured: the share when the row went. A share
    that must hold in what remains can leave nothing: where no sample is paired and not all may be unpaired, none is
    left.
    """
    alive = np.ones(len(table), dtype=np.bool_)
    groups = _Groups(
        dominant=dominant_class(table) if config.max_class_share < 1 else np.full(len(table), "", dtype=object),
        ecoregion=np.array([name if isinstance(name, str) else "" for name in table["ecoregion"]], dtype=object),
        water=floats(table, "water_frac").astype(np.float32) >= np.float32(config.water_patch_frac),
        unpaired=~paired,
    )
    parts = []
    unsettled = True
    while unsettled:
        before = alive.sum()
        for quota in groups.quotas(alive, config):
            parts.append(_shed(quota, alive, draw))
            alive[parts[-1].rows] = False
        unsettled = alive.sum() < before
    return Rejections.join(parts)


def dominant_class(table: pd.DataFrame) -> Strings:
    """Name of the class with the largest fraction of each row, the first by name where two agree; "" where unknown."""
    names = [
        min(fractions.items(), key=lambda item: (-item[1], item[0]))[0] if fractions else ""
        for fractions in table["land_cover"]
    ]
    return np.array(names, dtype=object)


def class_cap(counts: Sequence[int], without_class: int, share: float) -> int:
    """The most samples a class may keep so that none exceeds its share of what all keep together.

    counts: by class; without_class: samples that belong to none. The share must be at least 1 / len(counts).
    """
    low, high = 0, max(counts, default=0)
    while low < high:  # the surplus of the share over the cap is concave in the cap and not negative at 0
        middle = (low + high + 1) // 2
        kept = without_class + sum(min(count, middle) for count in counts)
        low, high = (middle, high) if middle <= share * kept + ROUNDING else (low, middle - 1)
    return low


@dataclass(frozen=True, kw_only=True, eq=False)
class _Groups:
    dominant: Strings
    ecoregion: Strings
    water: Bool
    unpaired: Bool

    def quotas(self, alive: Bool, config: BalanceConfig) -> Iterator[Quota]:
        """What each group may keep; alive is read anew for every group."""
        if config.max_class_share < 1:
            yield from _by_name("class_share", self.dominant, alive, config.max_class_share)
        if config.max_ecoregion_share < 1:
            yield from _by_name("ecoregion_share", self.ecoregion, alive, config.max_ecoregion_share)
        for reason, members, share in (
            ("water_patch_share", self.water, config.max_water_patch_share),
            ("unpaired_share", self.unpaired, config.max_unpaired_share),
        ):
            yield Quota(reason=reason, members=members, allowed=_allowed(members, alive, share), share=share)


def _by_name(reason: str, names: Strings, alive: Bool, wanted: float) -> Iterator[Quota]:
    """What each name may keep; "" is none and keeps all."""
    counts = Counter(names[alive].tolist())
    unnamed = counts.pop("", 0)
    if counts:
        share = max(wanted, 1 / len(counts))  # no choice puts every name under 1 / names
        cap = class_cap(list(counts.values()), unnamed, share)
        for name in sorted(counts):
            yield Quota(reason=reason, members=names == name, allowed=cap, share=share)


def _allowed(members: Bool, alive: Bool, share: float) -> int:
    """The most m with m <= share * (m + others)."""
    if share >= 1:
        return int(alive.sum())
    return int(share / (1 - share) * (alive & ~members).sum() + ROUNDING)


def _shed(quota: Quota, alive: Bool, draw: U64) -> Rejections:
    rows = np.flatnonzero(alive & quota.members)
    in_order = rows[np.argsort(draw[rows], kind="stable")]
    measured = len(rows) / max(int(alive.sum()), 1)
    return Rejections.of(np.sort(in_order[quota.allowed :]), quota.reason, measured, quota.share)
