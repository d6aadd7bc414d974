"""The page of a store: everything a reader needs to judge it, in one HTML file that loads nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from sar1m.page.browser import browser_json, load_samples
from sar1m.page.charts import label_bars, land_cover_bars, outcome_bars, shift_figures
from sar1m.page.coverage import coverage_map, mark_shapes
from sar1m.page.histograms import metric_figures
from sar1m.page.previews import release_stretch, stretch_words
from sar1m.page.reasons import reason_words
from sar1m.page.store_contents import Contents, read_contents
from sar1m.page.svg import human
from sar1m.stages.statistics import registration_words
from sar1m.store.places.folder import FolderPlace
from sar1m.store.places.place import Place
from sar1m.store.schema import SPLITS

REJECTED_SHOWN = 20  # of each reason
FAILED_SHOWN = 50
SITES_SHOWN = 40


@dataclass(frozen=True, kw_only=True)
class RejectedGroup:
    """All candidates that one rule rejected. reason: the rule in words. rows: the first candidates, as texts: sample,
    site, measured, limit, the sample that it duplicates."""

    reason: str
    count: int
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class AuditRow:
    """How far two splits are apart. distance: of their nearest samples, as text; holds: whether it is at least the
    buffer, None where a split is empty; shared: numbers of inputs in common, in the order of shared_names."""

    pair: str
    distance: str
    holds: bool | None
    shared: tuple[str, ...]


def render_report(store: Path, pixels: Place | None = None) -> str:
    """The page as HTML text: a pure function of the store's files, without times, paths or names of machines.

    pixels: where the images lie, if that is not the folder of the tables.
    Raises StoreError naming the file or sample that is missing or damaged, ConfigError for the stored configuration.
    """
    contents = read_contents(store)
    stretch = release_stretch(contents.normalisation, contents.summary)
    positions, shown = load_samples(contents, stretch, pixels or FolderPlace(store))
    coverage = coverage_map(contents, positions)
    style, script = asset("page.css"), asset("page.js")
    return page_template(
        "sar1m.page"
    ).render(
        policy=content_policy(style, source_hash(script)),
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        marks=mark_shapes(),
        contents=contents,
        summary=contents.summary,
        counts=contents.summary["counts"],
        second=contents.self_test.get("second_estimator"),
        first=first_words(contents),
        coverage=coverage,
        shown=shown,
        browser=browser_json(shown, coverage.x, coverage.y),
        stretch=stretch_words(stretch, contents.summary["polarisations"]),
        outcomes=outcome_bars(contents.summary),
        rejected=rejected_groups(contents.rejected),
        failed=_failed_rows(contents.failed),
        metrics=metric_figures(contents),
        shifts=shift_figures(contents),
        sites=contents.summary["sites"][:SITES_SHOWN],
        land_cover=land_cover_bars(contents.classes),
        labels=label_bars(contents.classes),
        audit=audit_rows(contents.splits),
        shared_names=shared_names(contents.splits),
        splits=SPLITS,
    )


def first_words(contents: Contents) -> list[str]:
    """The sentences under "What to read first": what a careful reader would look up, bad news before good."""
    counts, test = contents.summary["counts"], contents.self_test
    words = []
    if not counts["accepted"]:
        words.append("The store holds no samples: see below why each candidate was rejected.")
    if counts["failed"]:
        words.append(
            f"{_many(counts['failed'], 'patch', 'patches')} failed for missing or damaged inputs; the store lacks them."
        )
    if contents.splits.get("buffer_holds") is False:
        words.append("The gap between splits is smaller than the buffer: do not evaluate on these splits.")
    reasons = sorted(contents.summary["rejected_by_reason"].items(), key=lambda item: (-item[1], item[0]))
    if reasons:
        share = 100 * counts["rejected"] / counts["candidates"]
        words.append(
            f"{human(counts['rejected'])} of {_many(counts['candidates'], 'candidate')} ({share:.0f} %) were rejected. "
            f"Most often, {human(reasons[0][1])} times: {reason_words(reasons[0][0])}."
        )
    if counts["unpaired"]:
        words.append(f"{_many(counts['unpaired'], 'sample')} without an optical partner; each states its reason.")
    if counts["paired"]:
        words.extend(registration_words(test))
    return words


def _many(count: int, one: str, several: str = "") -> str:
    return f"{human(count)} {one if count == 1 else several or one + 's'}"


def rejected_groups(rejected: pd.DataFrame) -> list[RejectedGroup]:
    """Rejected candidates by reason, the most frequent first; the first 20 of each in the order of their names."""
    groups = []
    for reason, rows in rejected.groupby("reason", sort=True):
        first = rows.sort_values("sample_id", kind="stable").head(REJECTED_SHOWN)
        cells = tuple(
            (
                str(row.sample_id),
                str(row.site),
                human_or_missing(row.measured),
                human_or_missing(row.limit),
                str(row.duplicates_of),
            )
            for row in first.itertuples()
        )
        groups.append(RejectedGroup(reason=reason_words(str(reason)), count=len(rows), rows=cells))
    return sorted(groups, key=lambda group: (-group.count, group.reason))


def audit_rows(splits: Mapping[str, Any]) -> list[AuditRow]:
    """One row a pair of splits. splits: as stats/splits.json holds the audit."""
    buffer_km = splits["buffer_km"]
    return [
        AuditRow(
            pair=pair,
            distance="–" if km is None else f"{km:,.1f} km",
            holds=None if km is None else km >= buffer_km,
            shared=tuple(human_or_missing(splits[name].get(pair)) for name in _shared_keys(splits)),
        )
        for pair, km in splits["least_distance_km"].items()
    ]


def human_or_missing(value: float | None) -> str:
    """A number as people write it; a dash where it is missing."""
    return "–" if value is None or pd.isna(value) else human(value)


def shared_names(splits: Mapping[str, Any]) -> list[str]:
    """The inputs that the split audit compares, such as "sar product"."""
    return [name.removeprefix("shared_").replace("_", " ") for name in _shared_keys(splits)]


def _shared_keys(splits: Mapping[str, Any]) -> list[str]:
    return sorted(name for name in splits if name.startswith("shared_") and isinstance(splits[name], dict))


def _failed_rows(failed: pd.DataFrame) -> list[tuple[str, ...]]:
    first = failed.sort_values("item", kind="stable").head(FAILED_SHOWN)
    return [(str(r.item), human(r.patches), str(r.error), str(r.cause)) for r in first.itertuples()]


def page_template(package: str) -> jinja2.Template:
    """template.html.j2 of a package, which may use the macros of this one. Every text is escaped, and a missing value
    is an error."""
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(package, "."), jinja2.PackageLoader("sar1m.page", ".")]),
    )
    environment.filters["human"] = human_or_missing
    return environment.get_template("template.html.j2")


def asset(name: str) -> str:
    """Text of a file beside this module: a style sheet or a script."""
    return files("sar1m.page").joinpath(name).read_text(encoding="utf-8")


def content_policy(style: str, scripts: str) -> str:
    """Content Security Policy Level 3 of a page that loads nothing.

    style: the text of its one style sheet. scripts: the source expression of the scripts that may run.
    """
    return (
        f"default-src 'none'; img-src data:; style-src {source_hash(style)}; script-src {scripts}; "
        "base-uri 'none'; form-action 'none'"
    )


def source_hash(text: str) -> str:
    """The source expression that allows exactly this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
