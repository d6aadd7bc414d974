"""Splits of a release, and the audit that a reader judges them by.

Blocks and the gap between splits are those of a build (core.splits). The first release of several builds draws its
splits over all samples. A release of a single build keeps the splits of that build. In a later version every block of
the former version keeps its split. The split of a new block follows from the keyed hash of its name alone. A new sample
in the gap is left out, a former one stays. So adding builds never moves a sample to another split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Final

import numpy as np
import pandas as pd

from sar1m.config import SplitConfig
from sar1m.core import splits as core
from sar1m.core.dedupe import NO_HASH, hamming_pairs
from sar1m.core.identity import sample_key
from sar1m.core.sphere import box_around, nearest_km, unit_vectors
from sar1m.core.table import F64, I64, U64, Bool, Rejections, Strings, floats, keyed_hash
from sar1m.io.tables import parquet_bytes
from sar1m.store.schema import SPLITS
from sar1m.store.table_columns import Column

EXAMPLES: Final = 20  # of each kind of leak in the audit; the counts are whole
STRONGEST_FIRST: Final = (core.TEST, core.VAL, core.TRAIN)

BLOCK_COLUMNS: Final = (
    Column(name="block", type="string", unit="", description="name of the block"),
    Column(name="split", type="string", unit="", description="train, val or test"),
    Column(name="samples", type="int64", unit="1", description="samples in the block"),
    Column(name="paired", type="int64", unit="1", description="of these with an optical partner"),
    Column(name="bounds_lonlat", type="list<float64>", unit="deg", description="west, south, east, north of these"),
)
SPLIT_COLUMNS: Final = (
    Column(name="sample_id", type="string", unit="", description="patch and SAR acquisition; stable for ever"),
    Column(name="sample_key", type="int64", unit="", description="63-bit hash of sample_id"),
    Column(name="block", type="string", unit="", description="geographic block"),
    Column(name="shard", type="int32", unit="", description="number of the shard in the split"),
    Column(name="index", type="int64", unit="", description="position on the sample dimension"),
    Column(name="paired", type="bool", unit="", description="has an optical partner in the store"),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Fixed:
    """What a new version must keep. blocks: the split of each block; sample_ids: samples that stay even where a sample
    of another split comes near them."""

    blocks: Mapping[str, str]
    sample_ids: frozenset[str]


def draw_splits(samples: pd.DataFrame, config: SplitConfig, seed: int, fixed: Fixed) -> tuple[pd.DataFrame, Rejections]:
    """All samples with block and split set, and which of these rows lie in the gap between two splits (split_buffer).

    samples: one row a sample. The order of the rows does not change the result.
    """
    blocks = core.block_names(floats(samples, "lon"), floats(samples, "lat"), config.block_km)
    if not set(blocks.tolist()) & fixed.blocks.keys():
        sides, near = core.split_with_buffer(samples, blocks, config, seed)
    else:
        sides = _kept_sides(blocks, config, seed, fixed.blocks)
        stays = samples["sample_id"].isin(fixed.sample_ids).to_numpy()
        near = _too_near(unit_vectors(floats(samples, "lon"), floats(samples, "lat")), sides, stays, config.buffer_km)
    names = np.array(SPLITS, dtype=object)
    return samples.assign(block=blocks, split=names[sides]), near


def _kept_sides(blocks: Strings, config: SplitConfig, seed: int, fixed: Mapping[str, str]) -> I64:
    """Side of each row. A new block's goes by its hash: the lowest test_share of all hashes are test, the highest
    val_share val, the ends from which core.splits.assign_splits takes too."""
    names, inverse = np.unique(blocks.astype(str), return_inverse=True)
    place = keyed_hash(names.tolist(), seed=seed, purpose="split").astype(np.float64) / 2.0**64
    drawn = np.where(place < config.test_share, core.TEST, core.TRAIN)
    drawn = np.where(place >= 1 - config.val_share, core.VAL, drawn)
    sides = [SPLITS.index(fixed[name]) if name in fixed else side for name, side in zip(names, drawn, strict=True)]
    return np.array(sides, dtype=np.int64)[inverse]


def _too_near(points: F64, sides: I64, stays: Bool, buffer_km: float) -> Rejections:
    """New samples within the buffer of one in another split that is kept: of a former one, else of a stronger split."""
    kept, gap_km = stays.copy(), np.full(len(points), np.inf)
    for side in STRONGEST_FIRST:
        rows = np.flatnonzero(~stays & (sides == side))
        gap_km[rows] = nearest_km(points[rows], points[kept & (sides != side)])
        kept[rows] = gap_km[rows] >= buffer_km
    rows = np.flatnonzero(~kept)
    return Rejections.of(rows, "split_buffer", gap_km[rows], buffer_km)


def number(samples: pd.DataFrame, shard_samples: int, seed: int) -> pd.DataFrame:
    """The samples in store order, split by split, with index and shard.

    Within a split they are ordered by a keyed hash of sample_id. This is a shuffle in which samples that are added or
    removed never change the order of two others.
    """
    draw = keyed_hash(samples["sample_id"], seed=seed, purpose="release order")
    side = samples["split"].map({name: position for position, name in enumerate(SPLITS)}).to_numpy(dtype=np.int64)
    ordered = samples.iloc[np.lexsort((draw, side))].reset_index(drop=True)
    index = ordered.groupby("split", sort=False).cumcount().to_numpy(dtype=np.int64)
    return ordered.assign(index=index, shard=(index // shard_samples).astype(np.int32))


def audit_splits(samples: pd.DataFrame, config: SplitConfig, duplicate_hamming: int) -> dict[str, Any]:
    """What leaks from split to split: the content of leakage_audit.json, measured on the table alone.

    Least distance against the buffer, products and data takes in two splits (a scene is wider than a block: counted,
    not forbidden), and the leaks, which a release refuses: a block or a patch in two splits, a distance under the
    buffer, perceptual hashes within duplicate_hamming bits across splits. holds: no leak. problems: each in words.
    samples: columns of SAMPLE_COLUMNS in any order, also a made-up table's.
    """
    measured = core.audit_splits(samples, config).to_json()
    twins = _twins_across(samples, duplicate_hamming)
    shared_blocks, shared_patches = _in_two_splits(samples, "block"), _in_two_splits(samples, "patch")
    problems = [
        f"{pair}: the nearest two samples are {km} km apart, under the buffer of {config.buffer_km:g} km"
        for pair, km in measured["least_distance_km"].items()
        if km is not None and km < config.buffer_km
    ]
    for found, words in (
        (shared_blocks, "blocks stand in two splits"),
        (shared_patches, "patches stand in two splits"),
        (twins, "near-duplicates stand in two splits"),
    ):
        if found:
            problems.append(f"{len(found)} {words}, first {found[0]}")
    return {
        **measured,
        "blocks_in_two_splits": {"count": len(shared_blocks), "first": shared_blocks[:EXAMPLES]},
        "patches_in_two_splits": {"count": len(shared_patches), "first": shared_patches[:EXAMPLES]},
        "near_duplicates": {"hamming": duplicate_hamming, "count": len(twins), "first": twins[:EXAMPLES]},
        "holds": not problems,
        "problems": problems,
    }


def blocks_parquet(samples: pd.DataFrame) -> bytes:
    """blocks.parquet: one row a block, by name, with the outline of its samples as geometry."""
    bounds: F64 = np.array(samples["bounds_lonlat"].tolist(), dtype=np.float64).reshape(-1, 4)
    table = samples[["block", "split"]].assign(samples=1, paired=samples["paired"].astype(np.int64))
    grouped = table.groupby(["block", "split"], sort=True)
    blocks = grouped.agg({"samples": "sum", "paired": "sum"}).reset_index()
    names = zip(blocks["block"], blocks["split"], strict=True)
    outlines = pd.Series([list(box_around(bounds[grouped.indices[name]])) for name in names], dtype=object)
    return parquet_bytes(blocks.assign(bounds_lonlat=outlines), BLOCK_COLUMNS)


def split_parquet(samples: pd.DataFrame, split: str) -> bytes:
    """splits/<split>.parquet: which samples it holds, in store order."""
    rows = samples[samples["split"] == split]
    keys = np.array([sample_key(name) for name in rows["sample_id"]], dtype=np.int64)
    return parquet_bytes(rows.assign(sample_key=keys), SPLIT_COLUMNS)


def _in_two_splits(samples: pd.DataFrame, column: str) -> list[str]:
    splits = samples.groupby(column, sort=True)["split"].nunique()
    return [str(name) for name in splits.index[splits > 1]]


def _twins_across(samples: pd.DataFrame, hamming: int) -> list[list[Any]]:
    """Pairs (sample_id, sample_id, bits) of different splits, one pair for every two hashes near each other and every
    two splits that hold them, so that a picture that stands everywhere does not make a list of n^2."""
    phash: U64 = samples["phash"].to_numpy(dtype=np.int64, na_value=NO_HASH).view(np.uint64)
    first: dict[int, dict[str, str]] = {}
    ids, splits = samples["sample_id"].tolist(), samples["split"].tolist()
    for name, split, bits64 in sorted(zip(ids, splits, phash.tolist(), strict=True)):
        if bits64 != NO_HASH:
            first.setdefault(bits64, {}).setdefault(split, name)
    distinct: U64 = np.array(sorted(first), dtype=np.uint64)
    pairs = [(one, one, 0) for one in distinct.tolist()]
    if len(distinct):
        left, right = hamming_pairs(distinct, hamming)
        bits = np.bitwise_count(distinct[left] ^ distinct[right])
        pairs += zip(distinct[left].tolist(), distinct[right].tolist(), bits.tolist(), strict=True)
    found = [
        [*sorted((first[one][a], first[other][b])), distance]
        for one, other, distance in pairs
        for a, b in permutations(SPLITS, 2)
        if a in first[one] and b in first[other]
    ]
    return [list(twin) for twin in sorted({tuple(twin) for twin in found})]
