"""Train, val and test splits: near-copies stay together, and classes are balanced as far as groups allow.

The splits are a pure function of groups, labels, shares and seed. A split that the dataset brings is used, without the
samples that have a near-copy in a split of higher rank. The test split keeps everything, so that scores stay
comparable; train and val lose the copies.
"""

# S samples, K classes

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sar1m.store.errors import ConfigError
from sarmae.evaluate.study_config import DatasetConfig
from sarmae.stream.keyed_random import DrawKey, uniform

I64 = NDArray[np.int64]
Strings = NDArray[np.str_]
NO_SPLIT: Final = ""
SPLITS: Final = ("train", "val", "test")  # in order of rank: of two near-copies, the one in the later split is kept
_STREAM: Final = 0x5911  # keeps these draws apart from others of the same seed


@dataclass(frozen=True, kw_only=True)
class SplitShares:
    """Shares of the samples, each in [0, 1). Train gets the rest."""

    val: float
    test: float

    def __post_init__(self) -> None:
        if not (0 <= self.val < 1 and 0 <= self.test < 1 and self.val + self.test < 1):
            raise ConfigError(
                f"val_share {self.val} and test_share {self.test}: no samples are left for train. Their sum must be "
                "below 1."
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class SplitSamples:
    """What a split depends on.

    groups, labels: (S,) int64.
    own: (S,) splits that the dataset brings, NO_SPLIT where it brings none.
    attributes: columns (S,) that hold_out may name.
    kin: how the members of a group are related, for notes.
    """

    groups: I64
    labels: I64
    own: Strings
    attributes: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    kin: str = "near-copies of"


@dataclass(frozen=True, kw_only=True, eq=False)
class AssignedSplits:
    """kept: (n,) numbers of the samples that are used, ascending. splits, groups: (n,). No group is in two splits."""

    kept: I64
    splits: Strings
    groups: I64
    notes: tuple[str, ...]


def split_groups(groups: I64, labels: I64, shares: SplitShares, seed: int) -> Strings:
    """(S,) the split of each sample. Whole groups, the largest first, go to the split that lacks their classes most.

    A class with at least two groups, none of which is shared with another class, is in train and, where its share is
    above 0, in test.
    """
    members, group_of = np.unique(groups, return_inverse=True)
    kinds, label_of = np.unique(labels, return_inverse=True)
    counts = np.zeros((len(members), len(kinds)), dtype=np.int64)
    np.add.at(counts, (group_of, label_of), 1)
    order = np.random.default_rng([_STREAM, seed]).permutation(len(members))
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    wanted = np.outer([1 - shares.val - shares.test, shares.val, shares.test], counts.sum(axis=0))
    taken = np.empty(len(members), dtype=np.int64)
    given = np.zeros_like(wanted)
    for group in order:
        taken[group] = _neediest(wanted, given, counts[group])
        given[taken[group]] += counts[group]
    return np.array(SPLITS)[taken[group_of]]


def _neediest(wanted: NDArray[np.float64], given: NDArray[np.float64], count: I64) -> int:
    """The split with the smallest fraction of its wanted samples of the group's classes. Splits with none of a class
    come first, in the order train, test, val.
    """
    its = count > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        served = np.where(wanted[:, its] > 0, given[:, its] / wanted[:, its], np.inf)
    need = (served * count[its]).sum(axis=1)
    return int((0, 2, 1)[int(np.argmin(need[[0, 2, 1]]))])


def assign_splits(config: DatasetConfig, samples: SplitSamples) -> AssignedSplits:
    """The splits of a dataset: by hold_out if given; else the dataset's own; else drawn by groups.

    Raises ConfigError where hold_out names an unknown attribute, or would hold out no sample or all of them.
    """
    if config.hold_out is not None:
        return _held_out(config, samples, _matches(config.hold_out, samples.attributes))
    if (samples.own != NO_SPLIT).all():
        return _own(config, samples)
    shares = SplitShares(val=config.val_share, test=config.test_share)
    note = (
        f"split drawn by groups ({samples.kin} each other, seed {config.split_seed}): "
        f"{len(np.unique(samples.groups))} groups of {len(samples.groups)} samples"
    )
    splits = split_groups(samples.groups, samples.labels, shares, config.split_seed)
    return AssignedSplits(kept=np.arange(len(splits)), splits=splits, groups=samples.groups, notes=(note,))


def share_of_groups(numbers: I64, groups: I64, share: float, *, stream: str, seed: int) -> I64:
    """The samples `numbers` that belong to a share of their groups, in the order given.

    groups: (S,) of all samples.
    share: above 0, up to 1; at least one group is taken.
    stream, seed: decide the draw. A smaller share lies within a larger one.
    """
    members: I64 = np.unique(groups[numbers])
    draws = uniform(DrawKey(seed=seed, epoch=0, stream=stream), members, 1)[:, 0]
    chosen = members[np.argsort(draws, kind="stable")][: max(1, round(share * len(members)))]
    return numbers[np.isin(groups[numbers], chosen)]


def contradictions(groups: I64, labels: I64) -> int:
    """Number of groups of near-copies with more than one label."""
    return int((np.unique(np.unique(np.stack([groups, labels]), axis=1)[0], return_counts=True)[1] > 1).sum())


def _matches(hold_out: str, attributes: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
    name, values = hold_out.split("=", 1)
    if name not in attributes:
        known = ", ".join(sorted(attributes)) or "no attribute"
        raise ConfigError(f"hold_out: the dataset has no attribute {name!r}; it has {known}.")
    column = attributes[name].astype(np.str_)
    wanted = [value.strip() for value in values.split(",")]
    unknown = [value for value in wanted if value not in column]
    held = np.isin(column, wanted)
    if unknown or held.all():
        there = sorted(set(column.tolist()))
        raise ConfigError(
            f"hold_out {hold_out!r}: {'no sample has ' + repr(unknown[0]) if unknown else 'holds every sample out'}. "
            f"Values of {name}: {', '.join(there[:20])}{' ...' if len(there) > 20 else ''}."
        )
    return np.asarray(held)


def _held_out(config: DatasetConfig, samples: SplitSamples, held: NDArray[np.bool_]) -> AssignedSplits:
    copied = ~held & np.isin(samples.groups, samples.groups[held])
    train = np.flatnonzero(~held & ~copied)
    splits = np.full(len(held), "test", dtype="<U5")
    shares = SplitShares(val=config.val_share, test=0)
    splits[train] = split_groups(samples.groups[train], samples.labels[train], shares, config.split_seed)
    notes = [f"test: {config.hold_out} ({int(held.sum())} samples); train and val: all others ({len(train)})"]
    if copied.any():
        notes.append(f"{int(copied.sum())} others left out: {samples.kin} samples of the test split")
    kept = np.flatnonzero(~copied)
    return AssignedSplits(kept=kept, splits=splits[kept], groups=samples.groups[kept], notes=tuple(notes))


def _own(config: DatasetConfig, samples: SplitSamples) -> AssignedSplits:
    splits, notes = samples.own.astype("<U5"), ["the dataset's own split"]
    if "test" not in splits:
        splits[splits == "val"] = "test"
        notes = ["the dataset's own split; its val split serves as test split, because it has none"]
    kept, groups, more = _without_leaks(config, splits, samples)
    splits, labels = splits[kept], samples.labels[kept]
    if "val" not in splits and config.val_share > 0:
        rows = np.flatnonzero(splits == "train")
        shares = SplitShares(val=config.val_share, test=0)
        splits[rows] = split_groups(groups[rows], labels[rows], shares, config.split_seed)
        notes.append(f"val: {config.val_share:.0%} of train, by groups (seed {config.split_seed})")
    return AssignedSplits(kept=kept, splits=splits, groups=groups, notes=(*notes, *more))


def _without_leaks(config: DatasetConfig, splits: Strings, samples: SplitSamples) -> tuple[I64, I64, list[str]]:
    """Numbers of the samples kept, their groups, and notes. With trust_split all are kept, and a group ends at the
    border of its split.
    """
    rank = np.array([SPLITS.index(split) for split in splits])
    groups = samples.groups
    members, group_of = np.unique(groups, return_inverse=True)
    highest = np.zeros(len(members), dtype=np.int64)
    np.maximum.at(highest, group_of, rank)
    copied = rank < highest[group_of]
    if not copied.any():
        return np.arange(len(splits)), groups, []
    earlier = f"{int(copied.sum())} of {int((rank < 2).sum())} samples of train and val"
    copies = f"{earlier} are {samples.kin} samples of a later split"
    if config.trust_split:
        return np.arange(len(splits)), groups * len(SPLITS) + rank, [f"{copies}; kept, as trust_split asks"]
    kept = np.flatnonzero(~copied)
    return kept, groups[kept], [f"{copies}; left out"]
