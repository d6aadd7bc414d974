"""README.md of a release: the dataset card, with the hub's YAML head. Every number comes from the release's files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup

from sar1m.core.table import floats
from sar1m.page.reasons import reason_words
from sar1m.releases.catalogue import (
    KEYWORDS,
    bias_words,
    class_names,
    description,
    extent_of,
    is_simulated,
    quantiles,
    release_terms,
    sampling_words,
)
from sar1m.releases.citation import citation_words
from sar1m.releases.contents import README_FILE, ReleaseFacts
from sar1m.stages.statistics import registration_words
from sar1m.store.errors import StoreError
from sar1m.store.foreign_text import markdown_text
from sar1m.store.schema import SPLITS, STATS_DIR
from sar1m.store.side_files import read_json, read_text
from sar1m.store.table_columns import SAMPLE_COLUMNS

# Installed beside this module; in a checkout, at the root of the repository.
TEMPLATE_FOLDERS: Final = (Path(__file__).parent / "dataset_cards", Path(__file__).parents[3] / "dataset_cards")
TEMPLATE: Final = "card.md.j2"
METRICS: Final = (
    *("residual_px", "enl", "dt_hours", "cloud_frac", "sar_nodata_frac", "noise_floor_frac", "dynamic_range_db"),
    "incidence_deg",
)
CLASSES_SHOWN: Final = 8
EXAMPLE_BATCH: Final = 32
TAGS: Final = ("geospatial", "geocroissant", "stac")
# The hub's names of sizes, by the first count that is too large for them.
SIZE_CATEGORIES: Final = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"),
)


def card_files(facts: ReleaseFacts) -> dict[str, bytes]:
    """README.md, in UTF-8. Raises StoreError where the template or the statistics are missing or there is no sample."""
    environment = jinja2.Environment(
        autoescape=False,  # noqa: S701 - Markdown; _finalized makes harmless what comes from sources
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_finalized,
    )
    environment.filters["number"] = number
    environment.filters["tojson"] = _yaml_scalar
    text = environment.from_string(_template()).render(facts=facts, **_context(facts))
    return {README_FILE: text.encode()}


def number(value: float | None) -> str:
    """A count with separators, a measurement with three digits, `none` where there is none."""
    if value is None or not np.isfinite(value):
        return "none"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if 1e-6 < abs(value) < 1e-3:
        return format(Decimal(f"{value:.2g}"), "f")
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _context(facts: ReleaseFacts) -> dict[str, Any]:
    samples, terms, summary = facts.samples, release_terms(facts.licences), facts.summary
    paired = samples[samples["paired"].astype(bool)]
    return {
        "licence": "other" if terms.spdx is None else terms.spdx.lower(),
        "spdx": terms.spdx,
        "spdx_url": terms.url,
        "size_category": size_category(facts.counts["accepted"]),
        "tags": sorted({*(word.lower() for word in KEYWORDS), *TAGS}),
        "splits": [split for split in SPLITS if facts.audit["samples"][split]],
        "description": description(facts),
        "acquired": _acquired(facts),
        "by_count": _by_count,
        "reason_words": reason_words,
        "metrics": [_metric(samples, name) for name in METRICS],
        "statuses": _shares(paired["registration_status"]),
        "registration": registration_words(_self_test(facts)) if len(paired) else [],
        "normalisation": _normalisation(facts.normalisation, summary),
        "simulated": is_simulated(samples),
        "bias": bias_words(facts),
        "sampling": sampling_words(facts),
        "classes": _classes(samples),
        "passes": _shares(samples["orbit_state"]),
        "example": _example(facts),
        "citation": citation_words(facts),
    }


def size_category(samples: int) -> str:
    """The hub's name for a number of samples."""
    return next((name for limit, name in SIZE_CATEGORIES if samples < limit), "100M<n<1B")


def _template() -> str:
    for folder in TEMPLATE_FOLDERS:
        if (folder / TEMPLATE).is_file():
            return read_text(folder / TEMPLATE, error=StoreError, remedy="Install sar1m again.")
    raise StoreError(f"{TEMPLATE}: not found in {' or '.join(map(str, TEMPLATE_FOLDERS))}. Install sar1m again.")


def _acquired(facts: ReleaseFacts) -> str:
    extent = extent_of(facts)
    if extent.first is None or extent.last is None:
        return "at times that the sources do not state"
    return f"{extent.first:%Y-%m-%d} to {extent.last:%Y-%m-%d}"


def _metric(samples: pd.DataFrame, name: str) -> dict[str, Any]:
    column = next(column for column in SAMPLE_COLUMNS if column.name == name)
    return {
        "name": name,
        "words": column.description,
        "unit": column.unit,
        **quantiles(floats(samples, name), (5, 50, 95)),
    }


def _normalisation(statistics: Mapping[str, Any], summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row a channel, in the order of the arrays."""
    rows = []
    for array, channels, ending, unit in (
        ("sar", summary["polarisations"], "db", "dB"),
        ("optical", summary["optical_bands"], "value", summary["optical_quantity"]),
    ):
        for channel in channels:
            values = statistics.get(array, {}).get(channel, {})
            known = {name: values.get(f"{name}_{ending}") for name in ("mean", "std", "p02", "p50", "p98")}
            rows.append({"array": array, "unit": unit, "channel": channel, "pixels": values.get("pixels", 0), **known})
    return rows


def _self_test(facts: ReleaseFacts) -> dict[str, Any]:
    path = facts.root / STATS_DIR / "self_test.json"
    recoveries: dict[str, Any] = read_json(path, error=StoreError, remedy="Make the release again.")
    return recoveries


def _by_count(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _shares(column: pd.Series) -> list[tuple[str, int]]:
    """Values and how often they occur, the most frequent first; missing ones left out."""
    known = column[column.notna()]
    return _by_count({str(name): int(count) for name, count in known[known != ""].value_counts().items()})


def _classes(samples: pd.DataFrame) -> list[tuple[str, str]]:
    counts = _shares(pd.Series(class_names(samples), dtype=object))
    return [(name, f"{count / len(samples):.1%}") for name, count in counts[:CLASSES_SHOWN]]


def _example(facts: ReleaseFacts) -> dict[str, Any]:
    """What the examples load: the first split that holds samples, and a batch that it fills."""
    split = next(split for split in SPLITS if facts.audit["samples"][split])
    return {"split": split, "batch": min(EXAMPLE_BATCH, facts.audit["samples"][split])}


def _yaml_scalar(value: object) -> Markup:
    """JSON, which is YAML too; kept from _finalized, whose signs mean nothing in YAML."""
    return Markup(json.dumps(value, ensure_ascii=False))  # noqa: S704 - the head is no HTML


def _finalized(value: object) -> object:
    """Text from sources stands in table cells and sentences: no cell, line or tag of its own."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return markdown_text(value)
    return value
