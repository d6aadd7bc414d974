"""The files under stats/ of a release, all recomputed over its own samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from sar1m.core.balance import dominant_class
from sar1m.core.sphere import box_around
from sar1m.core.table import F64, floats
from sar1m.io.zarr_groups import ImageArray
from sar1m.page.store_contents import METRIC_COLUMNS
from sar1m.records import Row
from sar1m.releases.builds import Build
from sar1m.releases.merge import Merged, join
from sar1m.releases.shards import Packed
from sar1m.stages.statistics import (
    ChannelTotals,
    channel_totals,
    count_summary,
    finite,
    histogram_step,
    normalisation_summary,
    self_test_summary,
    site_summary,
)
from sar1m.store.schema import SPLITS
from sar1m.store.table_columns import CANDIDATE_COLUMNS

BINS = 50
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)


def summary_of(
    name: str, version: str, merged: Merged, samples: pd.DataFrame, rejected: pd.DataFrame
) -> dict[str, Any]:
    """stats/summary.json: a build's summary over the release's samples; recipes among the counts."""
    first = merged.builds[0].summary
    kept = ("profile", "patch_px", "gsd_m", "quantity", "polarisations", "optical_quantity", "optical_bands")
    counted = count_summary(samples, rejected, failed=int(merged.failed["patches"].sum()))
    counted["counts"]["recipes"] = int((samples["unpaired_reason"] == "recipe_only").sum())
    return {
        "name": name,
        "version": version,
        "region": ", ".join(regions(merged.builds)),
        **{key: first[key] for key in kept},
        **counted,
        "sites": site_summary(join([samples, rejected], CANDIDATE_COLUMNS)),
    }


def regions(builds: Sequence[Build]) -> list[str]:
    """The regions of the builds, each once, sorted."""
    return sorted({str(build.marker["region"]) for build in builds})


def self_test_of(merged: Merged, samples: pd.DataFrame, rejected: pd.DataFrame) -> dict[str, Any]:
    """stats/self_test.json: the recoveries of all builds together, and what the release's tables say."""
    recoveries = (row for build in merged.builds for row in build.self_test["recoveries"])
    return self_test_summary(recoveries, join([samples, rejected], CANDIDATE_COLUMNS))


def normalisation_of(packed: Packed, images: Sequence[ImageArray], samples: pd.DataFrame) -> dict[str, Any]:
    """stats/normalisation.json, as a build's: over the training split, over all samples where that is empty."""
    train = int((samples["split"] == "train").sum())
    chosen = ["train"] if train else list(packed.channels)
    totals = channel_totals(images)
    for split in chosen:
        for name, rows in packed.channels[split].items():
            totals[name].add(rows)
    return normalisation_summary(totals, samples=train or len(samples), train=bool(train))


def histograms_of(
    packed: Packed, images: Sequence[ImageArray], samples: pd.DataFrame, rejected: pd.DataFrame
) -> dict[str, Any]:
    """stats/histograms.json. metrics: by metric over BINS equal bins from the least to the largest value; counts by
    split and of rejected ones, percentiles of the samples. pixels: by array and channel over all splits, in the unit
    of the array; a bin's lower edge is first_edge + i * width."""
    metrics = {
        column.name: {"unit": column.unit, "description": column.description}
        | _metric(floats(samples, column.name), samples["split"].to_numpy(dtype=object), floats(rejected, column.name))
        for column in METRIC_COLUMNS
    }
    pixels = {}
    for image in images:
        total = ChannelTotals(image.labels, image.encoding)
        for channels in packed.channels.values():
            total.add(channels[image.layout.name])
        rows = zip(image.labels, total.rows(), strict=True)
        pixels[image.layout.name] = {label: _pixels(row, image) for label, row in rows}
    return {"metrics": metrics, "pixels": pixels}


def coverage_of(samples: pd.DataFrame) -> dict[str, Any]:
    """stats/coverage.json: how many samples by place, time and sensor, of the release and of each split."""
    named = samples.assign(
        year=pd.to_datetime(samples["sar_datetime"], utc=True).dt.year,
        month=pd.to_datetime(samples["sar_datetime"], utc=True).dt.month,
        dominant_land_cover=dominant_class(samples),
        latitude_band_deg=np.floor(floats(samples, "lat") / 10).astype(np.int64) * 10,
    )
    coverage = {"all": _coverage(named)}
    return coverage | {
        split: _coverage(named[named["split"] == split]) for split in SPLITS if (named["split"] == split).any()
    }


def _metric(values: F64, splits: np.ndarray, rejected: F64) -> dict[str, Any]:
    known = values[np.isfinite(values)]
    both = np.concatenate([known, rejected[np.isfinite(rejected)]])
    if not both.size:
        return {"missing": len(values), "edges": [], "by_split": {}, "rejected": [], "percentiles": {}}
    edges = np.histogram_bin_edges(both, bins=BINS)
    counts = {split: np.histogram(values[(splits == split) & np.isfinite(values)], edges)[0] for split in SPLITS}
    return {
        "missing": int(len(values) - known.size),
        "edges": edges.tolist(),
        "by_split": {split: count.tolist() for split, count in counts.items()},
        "rejected": np.histogram(rejected[np.isfinite(rejected)], edges)[0].tolist(),
        "percentiles": {f"p{p:02d}": finite(np.percentile(known, p)) for p in PERCENTILES} if known.size else {},
    }


def _pixels(row: Row, image: ImageArray) -> dict[str, Any]:
    step, encoding = histogram_step(image.encoding), image.encoding
    return {
        "unit": encoding.units,
        "first_edge": encoding.add_offset + encoding.scale_factor * step * row["first_bin"],
        "width": encoding.scale_factor * step,
        "counts": row["histogram"],
    }


def _coverage(samples: pd.DataFrame) -> dict[str, Any]:
    bounds = np.array(samples["bounds_lonlat"].tolist(), dtype=np.float64).reshape(-1, 4)
    columns = ("country", "ecoregion", "platform", "orbit_state", "year", "month", "dominant_land_cover")
    cover: dict[str, float] = {}
    for row in samples["land_cover"]:
        for name, share in dict(row or {}).items():
            cover[name] = cover.get(name, 0.0) + float(share)
    return {
        "samples": len(samples),
        "paired": int(samples["paired"].sum()),
        "cells": int(samples["cell"].nunique()),
        "blocks": int(samples["block"].nunique()),
        "sar_products": int(samples["sar_product"].nunique()),
        "optical_products": int(samples.loc[samples["paired"].astype(bool), "optical_product"].nunique()),
        "bounds_lonlat": list(box_around(bounds)),
        "land_cover_samples": {name: round(total, 4) for name, total in sorted(cover.items())},
        **{f"by_{name}": _counts(samples[name]) for name in (*columns, "latitude_band_deg")},
    }


def _counts(column: pd.Series) -> dict[str, int]:
    known = column[column.notna() & (column.astype(str) != "")]
    return {str(int(v) if isinstance(v, float) else v): int(c) for v, c in known.value_counts().sort_index().items()}
