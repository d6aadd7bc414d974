"""Several builds as one table: each sample once, near-duplicates removed, every removed sample listed with its reason.

A sample_id that several builds hold is taken from the build with the newest code; among builds of one code version,
from the one with the largest manifest digest. The order on the command line does not matter.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sar1m.config import BalanceConfig
from sar1m.core.dedupe import duplicate_rejections
from sar1m.core.screening import OpticalVerdict
from sar1m.core.table import Rejections, floats
from sar1m.io.tables import parquet_bytes, read_table
from sar1m.io.zarr_groups import ImageArray
from sar1m.releases.build_pixels import BuildChunks, array_hash, decode_pixels, pixel_hash
from sar1m.releases.builds import Build
from sar1m.stages.pack import has_chunk
from sar1m.store.errors import StoreError
from sar1m.store.schema import FAILED_FILE, REJECTED_FILE, SAMPLES_FILE
from sar1m.store.table_columns import (
    CANDIDATE_COLUMNS,
    FAILED_COLUMNS,
    LATER_COLUMNS,
    REJECTED_COLUMNS,
    SAMPLE_COLUMNS,
    Column,
)

SAME_PIXELS: Final = "same_in_other_build"
OTHER_PIXELS: Final = "superseded_by_other_build"
ORIGIN_COLUMNS: Final = ("origin_build", "origin_split", "origin_index")  # where a sample's chunks lie


@dataclass(frozen=True, kw_only=True, eq=False)
class Merged:
    """samples: SAMPLE_COLUMNS as in the builds and ORIGIN_COLUMNS (number of the build, split and position
    there), by key; rejected: REJECTED_COLUMNS; failed: FAILED_COLUMNS."""

    builds: tuple[Build, ...]
    samples: pd.DataFrame
    rejected: pd.DataFrame
    failed: pd.DataFrame


def merge(builds: Sequence[Build], *, kept_before: Collection[str]) -> Merged:
    """One table of builds in canonical order (builds.open_builds).

    kept_before: sample_ids of the release this one follows: of near-duplicates they stay, so that adding builds
    removes nothing. Raises StoreError where a table is damaged or not the contract's.
    """
    samples, held = _each_once(_samples(builds), builds)
    samples, twins = _without_twins(samples, builds[0].config.balance, kept_before)
    rejected = [_table(build, REJECTED_FILE, REJECTED_COLUMNS) for build in builds]
    failed = [_table(build, FAILED_FILE, FAILED_COLUMNS) for build in builds]
    return Merged(
        builds=tuple(builds),
        samples=samples,
        rejected=join([*rejected, held, twins], REJECTED_COLUMNS),
        failed=join(failed, FAILED_COLUMNS),
    )


def join(frames: Sequence[pd.DataFrame], columns: Sequence[Column]) -> pd.DataFrame:
    """Frames with the contract's columns one after the other, typed as if read from one file: pandas alone would guess
    the types of columns that are empty in one of them."""
    tables = [pq.read_table(io.BytesIO(parquet_bytes(frame, columns))) for frame in frames]
    joined: pd.DataFrame = pa.concat_tables(tables).to_pandas(maps_as_pydicts="strict")
    return joined[[column.name for column in columns]]


def as_rejected(table: pd.DataFrame, gone: Rejections) -> pd.DataFrame:
    """REJECTED_COLUMNS of the rows of the table that a rule turned away."""
    ids = np.append(table["sample_id"].to_numpy(dtype=object), "")
    rejected = table[[column.name for column in CANDIDATE_COLUMNS]].iloc[gone.rows].reset_index(drop=True)
    return rejected.assign(
        reason=gone.reason, measured=gone.measured, limit=gone.limit, duplicates_of=ids[gone.kept_rows]
    )


def _samples(builds: Sequence[Build]) -> pd.DataFrame:
    frames = [_table(build, SAMPLES_FILE, SAMPLE_COLUMNS) for build in builds]
    samples = join(frames, SAMPLE_COLUMNS)
    build = np.repeat(np.arange(len(frames)), [len(frame) for frame in frames])
    return samples.assign(origin_build=build, origin_split=samples["split"], origin_index=samples["index"])


def _table(build: Build, name: str, columns: Sequence[Column]) -> pd.DataFrame:
    """A column that a later minor version of the schema brought is empty where the build lacks it."""
    frame = read_table(build.root / name)
    absent = sorted({column.name for column in columns} - set(frame.columns))
    missing = [column for column in absent if column not in LATER_COLUMNS]
    if missing:
        raise StoreError(f"{build.root / name}: columns missing: {', '.join(missing)}. Build it again.")
    return frame.assign(**dict.fromkeys(absent))[[column.name for column in columns]]


def _each_once(samples: pd.DataFrame, builds: Sequence[Build]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The last row of every sample_id (builds stand in canonical order), and the others as rejected."""
    superseded = samples["sample_id"].duplicated(keep="last").to_numpy()
    ids = samples["sample_id"].to_numpy(dtype=object)
    kept = {ids[row]: row for row in np.flatnonzero(~superseded)}
    rows = np.flatnonzero(superseded)
    kept_rows = np.array([kept[ids[row]] for row in rows], dtype=np.int64)
    readers = [build.readers() for build in builds]
    images = builds[0].images
    hashes = {row: _sample_hash(samples.iloc[[row]], images, readers) for row in {*rows.tolist(), *kept_rows.tolist()}}
    reasons = [
        SAME_PIXELS if hashes[row] == hashes[winner] else OTHER_PIXELS
        for row, winner in zip(rows.tolist(), kept_rows.tolist(), strict=True)
    ]
    nothing = np.full(len(rows), np.nan)
    gone = Rejections(
        rows=rows, reason=np.array(reasons, dtype=object), measured=nothing, limit=nothing, kept_rows=kept_rows
    )
    held = as_rejected(samples, gone)
    return samples[~superseded].sort_values(["key", "sample_id"], kind="stable", ignore_index=True), held


def _sample_hash(row: pd.DataFrame, images: Sequence[ImageArray], readers: Sequence[Mapping[str, BuildChunks]]) -> str:
    """row: one row."""
    sample = row.iloc[0]
    reader = readers[sample["origin_build"]][sample["origin_split"]]
    hashes = {}
    for image in images:
        name = image.layout.name
        if has_chunk(row, name).all():
            chunk = reader.chunk(name, int(sample["origin_index"]))
            hashes[name] = array_hash(decode_pixels(chunk, image, origin=sample["sample_id"]), name)
    return pixel_hash(hashes)


def _without_twins(
    samples: pd.DataFrame, balance: BalanceConfig, kept_before: Collection[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """By the rules of a build (core.dedupe), over all builds. Samples of the former release rank before all others."""
    former = samples["sample_id"].isin(list(kept_before)).to_numpy()
    reason = np.where(former, "", samples["unpaired_reason"].to_numpy(dtype=object))
    nothing = np.full(len(samples), np.nan)
    optical = OpticalVerdict(reason=reason, measured=nothing, limit=nothing)
    ranked = samples.assign(cloud_frac=np.where(former, -1.0, floats(samples, "cloud_frac")))
    gone = duplicate_rejections(ranked, optical, balance)
    left = np.ones(len(samples), dtype=np.bool_)
    left[gone.rows] = False
    order = np.argsort(gone.rows, kind="stable")
    return samples[left].reset_index(drop=True), as_rejected(samples, gone.take(order))
