"""The samples as the page holds them: what is filtered on as columns, everything else by parts of 1,000 rows.

The core comes first and is enough to draw map and list. Metric columns follow, one script each, in single precision as
samples.parquet has them, so that a filter counts what pandas counts. The rest of a row is loaded when one opens it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final

import numpy as np
import pandas as pd

from sar1m.core.table import F64, floats, keyed_hash
from sar1m.page.browser import readable
from sar1m.page.histograms import bin_values
from sar1m.page.reasons import reason_words
from sar1m.page.store_contents import METRIC_COLUMNS, metric_columns
from sar1m.releases.catalogue import class_names
from sar1m.releases.explorer.encoding import Json, coded, packed, repeated
from sar1m.sources.regions.countries import countries
from sar1m.store.schema import SPLITS
from sar1m.store.table_columns import SAMPLE_COLUMNS, Column

HELD_MOST: Final = 200_000  # samples in the page; of a larger release a spread choice, or no browser would open it
PART_ROWS: Final = 1_000
METRICS_PART_VALUES: Final = 250_000  # metric columns a script: few scripts of a small release, one a column of a large
PAIRED_WORDS: Final = "with optical partner"
UNKNOWN: Final = ""
# Sentinel-1 product names begin with mission, mode, type: Sentinel-1 Product Specification, section 3.4.1.
_MODE: Final = re.compile(r"S1[A-Z]_(IW|EW|WV|S[1-6]|SM)_")
FACETS: Final = {
    "split": "Split",
    "partner": "Optical partner",
    "class": "Land cover or label",
    "country": "Country",
    "platform": "Platform",
    "orbit_state": "Pass",
    "mode": "SAR mode",
    "polarisations": "Polarisations",
    "registration_status": "Registration",
    "year": "Year of the SAR image",
    "picture": "Pictures",
}
# Not shown row by row: what the core or the metric columns hold, and what only programs read.
_ELSEWHERE: Final = frozenset(
    {column.name for column in METRIC_COLUMNS}
    | {"sample_id", "key", "lon", "lat", "split", "index", "shard", "paired", "phash", "mean_db", "transform"}
    | {"bounds_lonlat", "duplicates_of", "land_cover", "gsd_m"}
)
ROW_COLUMNS: Final = tuple(column for column in SAMPLE_COLUMNS if column.name not in _ELSEWHERE)
LOCK_COLUMNS: Final = ("build", "sar_hash", "optical_hash", "pixel_hash")


def held_positions(samples: pd.DataFrame) -> list[int]:
    """Positions of the samples that the page holds, in store order: all of them up to HELD_MOST, above it those of the
    lowest keyed hash of their names."""
    if len(samples) <= HELD_MOST:
        return list(range(len(samples)))
    draw = keyed_hash(samples["sample_id"], seed=0, purpose="explorer")
    chosen: list[int] = np.sort(np.argsort(draw, kind="stable")[:HELD_MOST]).tolist()
    return chosen


def facet_columns(samples: pd.DataFrame, pictured: Sequence[int]) -> dict[str, list[str]]:
    """Texts to filter by, one a sample, by the names of FACETS; an empty text where unknown. pictured: as core's."""
    here = set(pictured)
    years = pd.to_datetime(samples["sar_datetime"], utc=True).dt.year
    found = {
        "split": samples["split"].astype(str).tolist(),
        "partner": [
            PAIRED_WORDS if paired else f"none: {reason_words(str(why))}"
            for paired, why in zip(samples["paired"], samples["unpaired_reason"], strict=True)
        ],
        "class": class_names(samples).tolist(),
        "mode": [mode[1] if (mode := _MODE.match(str(name))) else UNKNOWN for name in samples["sar_product"]],
        "polarisations": ["+".join(names) for names in samples["polarisations"]],
        "picture": ["on this page" if number in here else "by a line of Python" for number in range(len(samples))],
        "year": [UNKNOWN if pd.isna(year) else str(int(year)) for year in years],
    }
    found["country"] = [_country_words(code) for code in texts(samples, "country")]
    plain = {name: texts(samples, name) for name in FACETS if name not in found}
    return {name: (found | plain)[name] for name in FACETS}


def texts(samples: pd.DataFrame, name: str) -> list[str]:
    """One column as texts; an empty one where missing."""
    column = samples[name]
    return [UNKNOWN if missing else str(value) for value, missing in zip(column, column.isna(), strict=True)]


def metric_values(samples: pd.DataFrame, polarisations: Sequence[str]) -> dict[Column, F64]:
    """(n,) values of every metric, NaN where it was not measured."""
    means = {
        f"mean_db {pol}": [row[number] if len(row) > number else np.nan for row in samples["mean_db"]]
        for number, pol in enumerate(polarisations)
    }
    table = samples[[column.name for column in METRIC_COLUMNS]].assign(**means)
    return {column: floats(table, column.name) for column in metric_columns(polarisations)}


def core(samples: pd.DataFrame, metrics: Mapping[Column, F64], pictured: Sequence[int]) -> Json:
    """What map, list and filters start with. pictured: positions of the samples that have pictures, ascending."""
    numbers = np.full(len(samples), -1, dtype=np.int64)
    numbers[list(pictured)] = np.arange(len(pictured))
    facets = facet_columns(samples, pictured)
    return {
        "count": len(samples),
        "ids": samples["sample_id"].tolist(),
        "index": packed(samples["index"], "u4"),
        "lon": packed(floats(samples, "lon"), "f4"),
        "lat": packed(floats(samples, "lat"), "f4"),
        "pictured": packed(numbers, "i4"),
        "facets": [{"name": name, "label": FACETS[name], **coded(values)} for name, values in facets.items()],
        "splits": list(SPLITS),
        "products": {name: coded(texts(samples, name)) for name in ("sar_product", "optical_product")},
        "dates": coded([text[:10] for text in texts(samples, "sar_datetime")]),
        "metrics": [_metric(column, values) for column, values in metrics.items()],
        "rows": [[column.name, column.description] for column in ROW_COLUMNS],
        "part_rows": PART_ROWS,
        "part_metrics": metrics_a_part(len(samples)),
        "paired_words": PAIRED_WORDS,
    }


def metric_parts(metrics: Mapping[Column, F64]) -> Iterator[dict[str, Json]]:
    """Values by name of every metric that was measured on any sample, metrics_a_part of them a part."""
    known = [column for column, values in metrics.items() if np.isfinite(values).any()]
    step = metrics_a_part(len(metrics[known[0]])) if known else 1
    for start in range(0, len(known), step):
        yield {column.name: packed(metrics[column], "f4") for column in known[start : start + step]}


def metrics_a_part(count: int) -> int:
    """How many metric columns of so many samples a script holds."""
    return max(1, METRICS_PART_VALUES // max(1, count))


def row_parts(samples: pd.DataFrame, lock: pd.DataFrame | None) -> Iterator[Json]:
    """Words of every row, PART_ROWS a part. lock: LOCK_COLUMNS by sample_id; None where there is none."""
    for start in range(0, len(samples), PART_ROWS):
        part = samples.iloc[start : start + PART_ROWS]
        found = {column.name: repeated(_readable(part, column)) for column in ROW_COLUMNS}
        found["land_cover"] = [_shares(cover) for cover in part["land_cover"]]
        if lock is not None:
            here = lock.loc[part["sample_id"]]
            found |= {name: repeated(texts(here, name)) for name in LOCK_COLUMNS}
        yield found


def _country_words(code: str) -> str:
    """Name and code of a country; the code alone where the outlines know none."""
    name = _country_names().get(code)
    return code if name is None else f"{name} ({code})"


@cache
def _country_names() -> dict[str, str]:
    return {country.alpha_3: country.name for country in countries()}


def _metric(column: Column, values: F64) -> Json:
    named = {"name": column.name, "meaning": column.description, "unit": column.unit}
    known = values[np.isfinite(values)].astype(np.float32).astype(np.float64)
    if not known.size:
        return {**named, "known": 0}
    edges = bin_values(known, np.empty(0), None).edges
    return {
        **named,
        "known": int(known.size),
        "least": float(known.min()),
        "most": float(known.max()),
        "low": float(edges[0]),
        "high": float(edges[-1]),
        "bins": len(edges) - 1,
    }


def _readable(part: pd.DataFrame, column: Any) -> list[str]:  # noqa: ANN401 - a schema Column, a pandas cell
    return [readable(_plain(value), column) for value in part[column.name]]


def _plain(value: Any) -> Any:  # noqa: ANN401 - any cell of a table
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if value is pd.NaT or value is pd.NA:
        return None
    return value.to_pydatetime() if isinstance(value, pd.Timestamp) else value


def _shares(cover: Mapping[str, float] | None) -> list[list[Json]]:
    """Classes with their shares in per cent, the largest first."""
    shares = sorted((cover or {}).items(), key=lambda item: (-item[1], item[0]))
    return [[name, round(100 * float(share), 1)] for name, share in shares]
