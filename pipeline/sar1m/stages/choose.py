"""The beginning of phase 2: reads what is staged, applies the thresholds and numbers the samples. Writes nothing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from sar1m.config import BuildConfig, ScreeningConfig
from sar1m.core.select import DECIDING_COLUMNS, select
from sar1m.core.sphere import boxes_home
from sar1m.core.splits import SplitAudit
from sar1m.sources.regions.ecoregions import open_ecoregions
from sar1m.sources.regions.polygon_file import read_polygons
from sar1m.stages.deciding import Code, code_of_store
from sar1m.stages.plan import Plan
from sar1m.stages.staged_table import StagedTable
from sar1m.stages.statistics import SUMMARY_COLUMNS, count_summary, self_test_summary, site_summary
from sar1m.store.errors import StoreError
from sar1m.store.outputs.output import Output
from sar1m.store.schema import SCHEMA_VERSION
from sar1m.store.version import __version__

PACKED_COLUMNS = ("enl", "local_incidence_deg")  # of candidates: what the arrays beside the images hold


@dataclass(frozen=True, kw_only=True, eq=False)
class Choice:
    """A store that is chosen but not written.

    staged: all candidates; staged.parquet gives all columns of those in samples and rejected. samples: in the order
    they are packed: select.DECIDING_COLUMNS, PACKED_COLUMNS, what SAMPLE_COLUMNS has beside, and `row`, the number of
    the candidate in staged. rejected: the same, with what REJECTED_COLUMNS has beside. audit: of the splits. summary,
    self_test: as stats/ holds them. facts: what the completion marker says of the store. code: what decides its bytes.
    blocks: the folder of the staged blocks, below staging.
    """

    staged: StagedTable
    samples: pd.DataFrame
    rejected: pd.DataFrame
    audit: SplitAudit
    summary: dict[str, Any]
    self_test: dict[str, Any]
    facts: dict[str, Any]
    code: Code
    blocks: str


def choose(staging: Output, plan: Plan, config: BuildConfig) -> Choice:
    """The samples of a store: a pure function of the staged records, the plan and the thresholds.

    Raises StoreError where a block is damaged or missing, or where the counts do not add up.
    """
    staged = _staged_table(staging.below(plan.blocks), plan)
    candidates = staged.frame(sorted({*DECIDING_COLUMNS, *PACKED_COLUMNS, *SUMMARY_COLUMNS}))
    sites, self_test = site_summary(candidates), self_test_summary(staged.recoveries, candidates)
    candidates = candidates[[*DECIDING_COLUMNS, *PACKED_COLUMNS, "row"]]
    code = code_of_store(plan.code)
    ecoregions = open_ecoregions(config.balance)
    if ecoregions is not None:  # no pixel depends on them: they are looked up here, so that refilter can change them
        candidates = candidates.assign(ecoregion=ecoregions.at(candidates["lon"], candidates["lat"]))
    selection = select(
        candidates,
        screening=_screening(plan, config),
        balance=config.balance,
        split=config.split,
        seed=config.pack.seed,
        excluded=excluded_boxes(config),
    )
    samples = number_samples(selection.samples, config.pack.shard_samples)
    counts = count_summary(samples, selection.rejected, failed=sum(item.patches for item in plan.failed))
    if counts["counts"]["candidates"] != plan.patches:
        raise StoreError(
            f"{staging.location}: {plan.patches} patches were planned, but {counts['counts']} came out. "
            "Remove the staging folder and build again."
        )
    return Choice(
        staged=staged,
        samples=samples,
        rejected=selection.rejected,
        audit=selection.audit,
        summary={**_kind_summary(plan, config), **counts, "sites": sites},
        self_test=self_test,
        facts={
            "name": config.name,
            "region": plan.region,
            "schema_version": SCHEMA_VERSION,
            "code_version": __version__,
            "code": code.digest,
            "plan": plan.digest(),
            "config": choice_digest(config),
            **counts,
        },
        code=code,
        blocks=plan.blocks,
    )


def _screening(plan: Plan, config: BuildConfig) -> ScreeningConfig:
    """The limits for what a store holds: white of display pictures is snow, or a choice of who made them."""
    pictures = plan.kind.optical_quantity == "display"
    return config.screening.model_copy(update={"max_saturated_frac": 1.0}) if pictures else config.screening


def choice_digest(config: BuildConfig) -> str:
    """Of all that decides the choice beside the staged blocks: the configuration, the footprints left out and the
    ecoregions. Raises RegionError or ConfigError where their files cannot be used."""
    polygons = hashlib.blake2b(excluded_boxes(config).tobytes(), digest_size=8)
    ecoregions = open_ecoregions(config.balance)
    if ecoregions is not None:
        polygons.update(ecoregions.digest.encode())
    return f"{config.portable().digest()}-{polygons.hexdigest()}"


def excluded_boxes(config: BuildConfig) -> npt.NDArray[np.float64]:
    """Bounding boxes (n, 4), west, south, east, north in degrees, of the footprints to leave out; west > east across
    the antimeridian; (0, 4) without a file. Raises RegionError where the file cannot be used."""
    if config.split.exclude_footprints is None:
        return np.empty((0, 4))
    polygons, _notes = read_polygons(Path(config.split.exclude_footprints))
    return boxes_home(shapely.bounds(np.array(polygons, dtype=object)))


def number_samples(samples: pd.DataFrame, shard_samples: int) -> pd.DataFrame:
    """Adds shard and index: the position within the split, in the order of the rows."""
    index = samples.groupby("split", sort=False).cumcount().astype(np.int64)
    return samples.assign(index=index, shard=(index // shard_samples).astype(np.int32))


def _staged_table(staging: Output, plan: Plan) -> StagedTable:
    """Every staged block, read once."""
    failed = {item.item_id for item in plan.failed}
    return StagedTable(staging, (item.key for item in plan.items if item.item_id not in failed))


def _kind_summary(plan: Plan, config: BuildConfig) -> dict[str, Any]:
    return {
        "name": config.name,
        "region": plan.region,
        "profile": config.pixels.profile,
        "patch_px": config.grid.patch_px,
        "gsd_m": config.grid.gsd_m,
        "quantity": plan.kind.quantity,
        "polarisations": plan.kind.polarisations,
        "optical_quantity": plan.kind.optical_quantity,
        "optical_bands": plan.kind.bands,
    }
