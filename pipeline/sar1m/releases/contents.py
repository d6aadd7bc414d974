"""Names inside a release, and the frozen values that pass between its parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final, Literal

import pandas as pd

README_FILE: Final = "README.md"
LICENCE_FILE: Final = "LICENSE"
ATTRIBUTION_FILE: Final = "ATTRIBUTION.md"
LICENCES_FILE: Final = "LICENSES.csv"
CHANGELOG_FILE: Final = "CHANGELOG.md"
ERRATA_FILE: Final = "ERRATA.md"
CITATION_FILE: Final = "CITATION.cff"
CROISSANT_FILE: Final = "croissant.json"
COLLECTION_FILE: Final = "collection.json"
ITEMS_FILE: Final = "items.parquet"
PREVIEW_FILE: Final = "preview.parquet"
BLOCKS_FILE: Final = "blocks.parquet"
AUDIT_FILE: Final = "leakage_audit.json"
SPLITS_DIR: Final = "splits"
RECIPES_FILE: Final = "recipes.parquet"  # samples whose optical pixels stay with their provider
TOMBSTONES_FILE: Final = "tombstones.parquet"  # ids of former versions that are gone, and why

Redistribution = Literal["redistribute", "recipe-only", "forbidden"]


@dataclass(frozen=True, kw_only=True)
class LicenceRow:
    """A source's terms as LICENSES.csv lists them. evidence: the statement that is relied on, with its address."""

    source: str
    licence: str
    url: str
    redistribution: Redistribution
    evidence: str
    samples: int


@dataclass(frozen=True, kw_only=True)
class ReleaseFacts:
    """Everything that cards and catalogues are made of, all of it from the release's own files.

    root: the folder under way; data, samples.parquet, statistics and splits lie there already. samples: one row a
    sample, SAMPLE_COLUMNS in store order (split by split); rejected: REJECTED_COLUMNS. counts: candidates, accepted,
    rejected, failed, paired, unpaired, recipes. normalisation, audit, summary: what stats/normalisation.json,
    leakage_audit.json and stats/summary.json hold. years: of acquisition, ascending. previous: the version this one
    follows, None for a first one. changes: samples added, removed, changed, moved since then. published, url: the day
    and the address of publication as whoever makes the release gives them, None where they do not.
    """

    root: Path
    name: str
    version: str
    samples: pd.DataFrame
    rejected: pd.DataFrame
    counts: Mapping[str, int]
    normalisation: Mapping[str, Any]
    audit: Mapping[str, Any]
    summary: Mapping[str, Any]
    licences: tuple[LicenceRow, ...]
    years: tuple[int, ...]
    previous: str | None
    changes: Mapping[str, int]
    published: date | None = None
    url: str | None = None

    @property
    def title(self) -> str:
        """As one cites it: sar-1m v1.0.0."""
        return f"{self.name} v{self.version}"
