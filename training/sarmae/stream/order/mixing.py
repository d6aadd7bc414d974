"""How many draws of an epoch go to which samples: stores by weight, unpaired samples by a set share.

A pool is a set of samples that are drawn alike: one store, or, where unpaired_share is set, the paired or the unpaired
samples of one store. A pool with quota q an epoch and n samples draws positions [epoch * q, (epoch + 1) * q) of an
endless sequence of permutations of its n samples, so that at any epoch's end no sample of it is more than one draw
ahead of another, and a pool that is drawn from sparingly still gets through all its samples, over the epochs.

Quotas are whole numbers that sum to the stores' sizes and lie less than one sample from the exact share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from sar1m.store.errors import ConfigError
from sarmae.stream.order.shuffle import I64, random_rows, shuffle_within
from sarmae.stream.order.specification import OrderSpec

Flags = Sequence[npt.NDArray[np.bool_]]


@dataclass(frozen=True, kw_only=True)
class Pool:
    """name: key of its randomness. size: samples. quota: draws an epoch, at least 1."""

    name: str
    size: int
    quota: int

    def draw(self, seed: int, epoch: int, block: int) -> tuple[I64, I64]:
        """The epoch's runs of consecutive members in the order of drawing: (R,) first member, (R,) length.

        A run is a block of `block` members, shorter at the end of the pool and where an epoch begins or ends within it.
        """
        size, begin = self.size, epoch * self.quota
        cycles = range(begin // size, -(-(begin + self.quota) // size))
        blocks = -(-size // block)
        words = random_rows(seed, self.name, cycles, blocks).ravel()
        order = shuffle_within(np.full(len(cycles), blocks), words) % blocks
        firsts = order * block
        lengths = np.minimum(block, size - firsts)
        return _cut(firsts, lengths, begin - cycles.start * size, self.quota)


@dataclass(frozen=True, kw_only=True, eq=False)
class Mix:
    """members: global numbers of the pools' samples, pool after pool, ascending in each: M of them."""

    pools: tuple[Pool, ...]
    members: I64


def mix_of(spec: OrderSpec, paired: Flags) -> Mix:
    """What an epoch draws from. paired: (size,) flags of each store, looked at if unpaired_share is set.

    ConfigError where the share or a weight cannot be had from these stores.
    """
    sizes = [store.size for store in spec.stores]
    share = spec.settings.unpaired_share
    if share is None:
        pools = [
            Pool(name=f"store {number}", size=size, quota=quota)
            for number, (size, quota) in enumerate(zip(sizes, _store_quotas(spec), strict=True))
        ]
        return Mix(pools=tuple(pools), members=np.arange(sum(sizes)))
    _check_flags(spec, paired)
    kinds = [
        (np.flatnonzero(flags) + start, np.flatnonzero(np.logical_not(flags)) + start)
        for flags, start in zip(paired, np.cumsum([0, *sizes[:-1]]), strict=True)
    ]
    unpaired = round(spec.samples * Fraction(share))
    split = _kind_quotas(spec, unpaired, [(len(with_optical), len(without)) for with_optical, without in kinds])
    drawn = [
        (Pool(name=f"store {number} {kind}", size=len(members), quota=quota), members)
        for number, (both, quotas) in enumerate(zip(kinds, split, strict=True))
        for kind, members, quota in zip(("paired", "unpaired"), both, quotas, strict=True)
        if quota
    ]
    return Mix(pools=tuple(pool for pool, _ in drawn), members=np.concatenate([members for _, members in drawn]))


def apportion(total: int, weights: Sequence[int | float]) -> list[int]:
    """Whole numbers that sum to total, each less than 1 from its exact share; by largest remainder, ties to the first.

    weights: not negative, one of them positive. A weight of 0 gets 0.
    """
    exact = [Fraction(weight) for weight in weights]
    shares = [total * weight / sum(exact) for weight in exact]
    quotas = [share.numerator // share.denominator for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda i: (quotas[i] - shares[i], i))
    for i in by_remainder[: total - sum(quotas)]:
        quotas[i] += 1
    return quotas


def _store_quotas(spec: OrderSpec) -> list[int]:
    weights = spec.settings.weights or [store.size for store in spec.stores]
    quotas = apportion(spec.samples, weights)
    for store, weight, quota in zip(spec.stores, weights, quotas, strict=True):
        if not quota:
            raise ConfigError(
                f"{store.name}: weight {weight} gives it no sample of an epoch's {spec.samples}, expected at "
                "least one. Raise its weight or leave the store out."
            )
    return quotas


def _kind_quotas(spec: OrderSpec, unpaired: int, sizes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """(paired, unpaired) draws of each store. With weights both the stores' and the kinds' totals hold."""
    if spec.settings.weights is not None:
        return _split_by_weight(_store_quotas(spec), sizes, unpaired)
    totals = (spec.samples - unpaired, unpaired)
    columns = []
    for kind, total, having in zip(("paired", "unpaired"), totals, zip(*sizes, strict=True), strict=True):
        if total and not any(having):
            raise ConfigError(
                f"unpaired_share is {spec.settings.unpaired_share} and the stores hold no {kind} sample. Use "
                f"{1 if kind == 'paired' else 0}, or add a store that has some."
            )
        columns.append(apportion(total, having) if total else [0] * len(having))
    return list(zip(*columns, strict=True))


def _split_by_weight(quotas: list[int], sizes: list[tuple[int, int]], unpaired: int) -> list[tuple[int, int]]:
    """Stores of one kind alone give that kind; the others share what is left of the unpaired by their quotas."""
    forced = [0 if paired else quota for quota, (paired, _) in zip(quotas, sizes, strict=True)]
    free = [quota if paired and without else 0 for quota, (paired, without) in zip(quotas, sizes, strict=True)]
    least, most = sum(forced), sum(forced) + sum(free)
    if not least <= unpaired <= most:
        total = sum(quotas)
        raise ConfigError(
            f"unpaired_share asks for {unpaired} unpaired samples of an epoch's {total}, and the stores at these "
            f"weights can give {least} to {most}. Use a share from {least / total:.6g} to {most / total:.6g}, or "
            "other weights."
        )
    shared = apportion(unpaired - least, free) if most > least else [0] * len(free)
    return [(q - f - s, f + s) for q, f, s in zip(quotas, forced, shared, strict=True)]


def _check_flags(spec: OrderSpec, paired: Flags) -> None:
    found, expected = [len(flags) for flags in paired], [store.size for store in spec.stores]
    if found != expected:
        raise ConfigError(
            f"unpaired_share is set: expected the paired flags of every store, {expected} of them, found {found}. "
            "Give the flags of the same stores in the same order."
        )


def _cut(firsts: I64, lengths: I64, skipped: int, kept: int) -> tuple[I64, I64]:
    """Of runs laid end to end, what lies in [skipped, skipped + kept)."""
    ends = np.cumsum(lengths)
    begins = ends - lengths
    new_begins = np.clip(begins, skipped, skipped + kept)
    new_lengths = np.clip(ends, skipped, skipped + kept) - new_begins
    some = new_lengths > 0
    return (firsts + new_begins - begins)[some], new_lengths[some]
