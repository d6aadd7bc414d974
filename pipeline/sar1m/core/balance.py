"""Limits on shares of the whole dataset: unpaired samples, water, any land-cover class, any ecoregion."""

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
    """A group of rows and how many of them may stay. share: the limit in the configuration, for the record."""

    reason: str
    members: Bool
    allowed: int
    share: float


def balance_rejections(table: pd.DataFrame, paired: Bool, draw: U64, config: BalanceConfig) -> Rejections:
    """Rows to leave out so that every share is within its limit among the rows that remain.

    The rules are class_share (dominant land-cover class), ecoregion_share, water_patch_share and unpaired_share. They
    are applied in turn until all hold at once. Rows without land cover, or without ecoregion, belong to no group of
    that rule. `measured` of a rejection is the share at the time when the row was removed. Nothing may remain: where no
    sample is paired and unpaired samples are limited, all are left out.

    paired: (n,). draw: (n,) random numbers; of too many rows, those with the highest numbers are removed.
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
    """Name of the class with the largest fraction in each row, (n,): of equal ones the first by name; "" if unknown."""
    names = [  # a map in Arrow comes as a list of pairs
        min(dict(fractions).items(), key=lambda item: (-item[1], item[0]))[0] if fractions else ""
        for fractions in table["land_cover"]
    ]
    return np.array(names, dtype=object)


def class_cap(counts: Sequence[int], without_class: int, share: float) -> int:
    """The largest number of samples that a class may keep so that no class exceeds its share of all samples kept.

    counts: samples of each class. without_class: samples of no class. share: at least 1 / len(counts).
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
        """The quota of each group. The caller changes `alive` between groups; it is read again for every group."""
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
    """The quota of each name. Rows with the name "" belong to no group."""
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
