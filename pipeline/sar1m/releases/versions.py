"""Semantic versions as Croissant defines them: MAJOR when samples changed, were removed or moved between splits, MINOR
when samples were added, PATCH for repackaging. The rule holds from version 0.x on, for those who load by version."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd

from sar1m.io.tables import parquet_bytes, read_table
from sar1m.releases.audit import Fixed
from sar1m.releases.contents import TOMBSTONES_FILE
from sar1m.releases.hub import open_release
from sar1m.store.durable import digest_file
from sar1m.store.errors import ConfigError, StoreError
from sar1m.store.schema import PROVENANCE_DIR, SAMPLES_FILE
from sar1m.store.seal import Seal, require_seal
from sar1m.store.seal_text import RELEASE_MARKERS
from sar1m.store.table_columns import Column

LOCK_FILE: Final = f"{PROVENANCE_DIR}/lock.parquet"
EXAMPLES: Final = 3
_SEMVER: Final = re.compile(r"(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})")
TOMBSTONE_COLUMNS: Final = (
    Column(name="sample_id", type="string", unit="", description="a sample that former versions held"),
    Column(name="version", type="string", unit="", description="the first version without it"),
    Column(name="reason", type="string", unit="", description="why it went: a rule's name, or not_in_builds"),
)
NOT_IN_BUILDS: Final = "not_in_builds"

Version = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class Previous:
    """The release that a new one follows. digest: of its manifest; samples: sample_id, block, split; pixel_hash: by
    sample_id; tombstones: TOMBSTONE_COLUMNS."""

    name: str
    version: str
    digest: str
    samples: pd.DataFrame
    pixel_hash: Mapping[str, str]
    tombstones: pd.DataFrame

    @property
    def fixed(self) -> Fixed:
        """What the new release must not move."""
        blocks = dict(zip(self.samples["block"], self.samples["split"], strict=True))
        return Fixed(blocks=blocks, sample_ids=frozenset(self.samples["sample_id"]))


@dataclass(frozen=True, kw_only=True)
class Changes:
    """sample_ids that differ from the previous release, each sorted."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    moved: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        """How many of each."""
        return {name: len(getattr(self, name)) for name in ("added", "removed", "changed", "moved")}


def parse_version(text: str) -> Version:
    """MAJOR.MINOR.PATCH as numbers. Raises ConfigError for anything else."""
    match = _SEMVER.fullmatch(text)
    if match is None:
        raise ConfigError(f"version {text!r}: expected MAJOR.MINOR.PATCH, such as 1.0.0, without leading zeros.")
    return int(match[1]), int(match[2]), int(match[3])


def read_previous(root: Path) -> Previous:
    """A former release, as far as the next one needs it: its tables, which every part of it holds too. Raises
    StoreError where it is no release or they are damaged."""
    seal = require_seal(open_release(root), RELEASE_MARKERS)
    if seal.part_of is not None:
        raise StoreError(f"{root}: a part by samples, without the rows of the others. Give the whole release.")
    lock, samples = _sealed_table(root, seal, LOCK_FILE), _sealed_table(root, seal, SAMPLES_FILE)
    tombstones = pd.DataFrame({column.name: [] for column in TOMBSTONE_COLUMNS})
    if TOMBSTONES_FILE in seal.files:
        tombstones = _sealed_table(root, seal, TOMBSTONES_FILE)
    return Previous(
        name=str(seal.marker.get("name")),
        version=seal.version,
        digest=str(seal.marker["manifest_sha256"]),
        samples=samples[["sample_id", "block", "split"]],
        pixel_hash=dict(zip(lock["sample_id"], lock["pixel_hash"], strict=True)),
        tombstones=tombstones,
    )


def _sealed_table(root: Path, seal: Seal, name: str) -> pd.DataFrame:
    path = root / name
    expected = seal.files.get(name)
    if expected is None or not path.is_file() or digest_file(path).sha256 != expected.sha256:
        raise StoreError(f"{path}: missing or not what the release's manifest says. Fetch that release again.")
    return read_table(path)


def require_follows(name: str, version: str, previous: Previous) -> None:
    """Raises ConfigError where the new release is no later version of the same data set."""
    if name != previous.name:
        raise ConfigError(f"{name} cannot follow {previous.name}: give the same --name, or no --previous.")
    if parse_version(version) <= parse_version(previous.version):
        raise ConfigError(f"version {version} does not follow {previous.version}: give a higher one.")


def changes_since(previous: Previous, samples: pd.DataFrame, pixel_hash: Mapping[str, str]) -> Changes:
    """samples: sample_id and split of the new release; pixel_hash: by sample_id."""
    before = dict(zip(previous.samples["sample_id"], previous.samples["split"], strict=True))
    now = dict(zip(samples["sample_id"], samples["split"], strict=True))
    both = sorted(before.keys() & now.keys())
    return Changes(
        added=tuple(sorted(now.keys() - before.keys())),
        removed=tuple(sorted(before.keys() - now.keys())),
        changed=tuple(name for name in both if previous.pixel_hash.get(name) != pixel_hash[name]),
        moved=tuple(name for name in both if before[name] != now[name]),
    )


def require_semver(version: str, previous: str, changes: Changes) -> None:
    """Raises ConfigError where more changed than a version of this level may change."""
    new, old = parse_version(version), parse_version(previous)
    if new[0] > old[0]:
        return
    level, forbidden = "MINOR", ["removed", "changed", "moved"]
    if new[1] == old[1]:
        level, forbidden = "PATCH", ["added", *forbidden]
    broken = [(what, getattr(changes, what)) for what in forbidden if getattr(changes, what)]
    if broken:
        found = "; ".join(f"{len(ids):,} {what} (first {', '.join(ids[:EXAMPLES])})" for what, ids in broken)
        needed = f"{old[0] + 1}.0.0"
        if {what for what, _ in broken} == {"added"}:
            needed = f"{old[0]}.{old[1] + 1}.0"
        raise ConfigError(
            f"{version} after {previous} is a {level} version, but samples were {found}. Call it {needed}."
        )


def tombstones_parquet(previous: Previous, changes: Changes, version: str, rejected: pd.DataFrame) -> bytes | None:
    """tombstones.parquet: ids that former versions held and this one does not, with version and reason; None where no
    sample ever went. An id that is back has none. rejected: REJECTED_COLUMNS of the new release."""
    back = set(changes.added)
    old = previous.tombstones[~previous.tombstones["sample_id"].isin(back)]
    reasons = dict(zip(rejected["sample_id"], rejected["reason"], strict=True))
    new = pd.DataFrame(
        {
            "sample_id": list(changes.removed),
            "version": [version] * len(changes.removed),
            "reason": [reasons.get(name, NOT_IN_BUILDS) for name in changes.removed],
        }
    )
    rows = [row for frame in (old, new) for row in frame.to_dict("records")]
    if not rows:
        return None
    table = pd.DataFrame(rows).sort_values("sample_id", kind="stable", ignore_index=True)
    return parquet_bytes(table, TOMBSTONE_COLUMNS)
