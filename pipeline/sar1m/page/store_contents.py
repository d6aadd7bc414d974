"""What a page needs from a finished store, read without holding every column of every sample in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sar1m.config import BuildConfig, stored_config
from sar1m.io.tables import read_arrow
from sar1m.store.errors import StoreError
from sar1m.store.schema import FAILED_FILE, PROVENANCE_DIR, REJECTED_FILE, SAMPLES_FILE, STATS_DIR
from sar1m.store.settings import read_text
from sar1m.store.side_files import read_json
from sar1m.store.table_columns import CANDIDATE_COLUMNS, LATER_COLUMNS, Column

# Metrics are the measured numbers of the contract: those of single precision, without the spacing of the grid.
METRIC_COLUMNS = tuple(c for c in CANDIDATE_COLUMNS if c.type == "float32" and c.name != "gsd_m")
PLACE_COLUMNS = ("sample_id", "site", "lon", "lat", "bounds_lonlat", "registration_status", "mean_db")
BOUNDS = ("west", "south", "east", "north")  # the columns that bounds_lonlat becomes
SAMPLE_ONLY_COLUMNS = ("split", "block", "paired", "unpaired_reason", "index", "second_shift_status")
CLASS_COLUMNS = ("land_cover", "labels")
REJECTED_ONLY_COLUMNS = ("reason", "measured", "limit", "duplicates_of")


@dataclass(frozen=True, kw_only=True, eq=False)
class Contents:
    """What the page shows of a store.

    samples, rejected, failed: the columns named above; bounds_lonlat as four columns (BOUNDS), mean_db as one a
    polarisation ("mean_db VV"). classes: CLASS_COLUMNS and split, in the order of samples.
    summary, normalisation, self_test, splits: the files under stats/.
    """

    store: Path
    config: BuildConfig
    config_toml: str
    summary: dict[str, Any]
    normalisation: dict[str, Any]
    self_test: dict[str, Any]
    splits: dict[str, Any]
    samples: pd.DataFrame
    classes: pa.Table
    rejected: pd.DataFrame
    failed: pd.DataFrame


def metric_columns(polarisations: Sequence[str]) -> tuple[Column, ...]:
    """Every metric in the order of the contract, then the mean backscatter by polarisation."""
    means = (
        Column(
            name=f"mean_db {pol}", type="float32", unit="dB", description=f"10 log10 of the mean linear power, {pol}"
        )
        for pol in polarisations
    )
    return (*METRIC_COLUMNS, *means)


def read_contents(store: Path) -> Contents:
    """Reads tables and statistics. Raises StoreError naming the file that is missing or damaged."""
    metrics = tuple(column.name for column in METRIC_COLUMNS)
    config_path = store / PROVENANCE_DIR / "config.toml"
    summary = _json(store, "summary")
    lists = {
        "bounds_lonlat": BOUNDS,
        "mean_db": tuple(f"mean_db {pol}" for pol in summary["polarisations"]),
    }
    return Contents(
        store=store,
        config=stored_config(config_path),
        config_toml=read_text(config_path),
        summary=summary,
        normalisation=_json(store, "normalisation"),
        self_test=_json(store, "self_test"),
        splits=_json(store, "splits"),
        samples=_frame(store / SAMPLES_FILE, (*PLACE_COLUMNS, *metrics, *SAMPLE_ONLY_COLUMNS), lists),
        classes=read_arrow(store / SAMPLES_FILE, (*CLASS_COLUMNS, "split")),
        rejected=_frame(store / REJECTED_FILE, (*PLACE_COLUMNS, *metrics, *REJECTED_ONLY_COLUMNS), lists),
        failed=_frame(store / FAILED_FILE, ("item", "patches", "error", "cause"), {}),
    )


def read_rows(store: Path, positions: list[int]) -> list[dict[str, Any]]:
    """Every column of the samples at the given positions of samples.parquet, in that order; those that a later minor
    version of the schema brought are None where the store lacks them."""
    path = store / SAMPLES_FILE
    rows: dict[int, dict[str, Any]] = {}
    with pq.ParquetFile(path) as file:
        start = 0
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            here = sorted({p for p in positions if start <= p < start + count})
            if here:
                taken = file.read_row_group(group).take([p - start for p in here])
                rows.update(zip(here, taken.to_pylist(maps_as_pydicts="strict"), strict=True))
            start += count
    return [dict.fromkeys(LATER_COLUMNS) | rows[position] for position in positions]


def _frame(path: Path, columns: tuple[str, ...], lists: dict[str, tuple[str, ...]]) -> pd.DataFrame:
    table = read_arrow(path, columns)
    for name, parts in lists.items():
        # padded with nulls, since a patch without data has no mean
        padded = pc.list_slice(table[name], 0, max(len(parts), 1), return_fixed_size_list=True)
        for number, part in enumerate(parts):
            table = table.append_column(part, pc.list_element(padded, number))
        table = table.drop_columns(name)
    return table.to_pandas()


def _json(store: Path, name: str) -> dict[str, Any]:
    found = read_json(
        store / STATS_DIR / f"{name}.json", error=StoreError, remedy="Check the store with `sar1m verify`."
    )
    if not isinstance(found, dict):
        raise StoreError(f"{STATS_DIR}/{name}.json: found {type(found).__name__}, expected an object. Build again.")
    return found
