"""Which samples a release will hold. This is decided on the tables alone, before a pixel is copied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sar1m.releases.audit import Fixed, audit_splits, draw_splits, number
from sar1m.releases.builds import Build
from sar1m.releases.licences import gate
from sar1m.releases.merge import Merged, as_rejected, join, merge
from sar1m.releases.versions import Previous, changes_since, require_semver
from sar1m.store.errors import ConfigError, StoreError
from sar1m.store.table_columns import REJECTED_COLUMNS


@dataclass(frozen=True, kw_only=True, eq=False)
class ReleaseSelection:
    """samples: SAMPLE_COLUMNS and merge.ORIGIN_COLUMNS in store order; rejected: REJECTED_COLUMNS by key;
    audit: leakage_audit.json."""

    merged: Merged
    samples: pd.DataFrame
    rejected: pd.DataFrame
    audit: dict[str, Any]
    previous: Previous | None


def choose(builds: Sequence[Build], version: str, previous: Previous | None, *, recipes: bool) -> ReleaseSelection:
    """Merges the builds, applies the licence gate, draws and audits the splits, and checks the version number.

    Raises ConfigError for licences and version, StoreError where tables are damaged or splits leak.
    """
    former = frozenset[str]() if previous is None else previous.fixed.sample_ids
    merged = merge(builds, kept_before=former)
    if merged.samples.empty:
        raise ConfigError("the builds hold no samples: there is nothing to release.")
    allowed = gate(merged.samples, recipes=recipes)
    config = builds[0].config
    placed, near = draw_splits(allowed, config.split, config.pack.seed, _fixed(merged, previous))
    left = np.ones(len(placed), dtype=np.bool_)
    left[near.rows] = False
    samples = number(placed[left], config.pack.shard_samples, config.pack.seed)
    rejected = join([merged.rejected, as_rejected(placed, near)], REJECTED_COLUMNS)
    audit = audit_splits(samples, config.split, config.balance.duplicate_hamming)
    if not audit["holds"]:
        raise StoreError(f"the splits leak: {'; '.join(audit['problems'])}. Raise [split] buffer_km with refilter.")
    if previous is not None:  # pixels are not read yet: those that changed are found when they are
        require_semver(version, previous.version, changes_since(previous, samples, previous.pixel_hash))
    return ReleaseSelection(
        merged=merged,
        samples=samples,
        rejected=rejected.sort_values(["key", "sample_id", "reason"], kind="stable", ignore_index=True),
        audit=audit,
        previous=previous,
    )


def _fixed(merged: Merged, previous: Previous | None) -> Fixed:
    """A former release's splits stay; without one, those of a single build."""
    if previous is not None:
        return previous.fixed
    if len(merged.builds) > 1:
        return Fixed(blocks={}, sample_ids=frozenset())
    samples = merged.samples
    blocks = dict(zip(samples["block"], samples["split"], strict=True))
    return Fixed(blocks=blocks, sample_ids=frozenset(samples["sample_id"]))
