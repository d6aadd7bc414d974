"""CITATION.cff, LICENSE, CHANGELOG.md and ERRATA.md of a release."""

from __future__ import annotations

import json
from typing import Final

from sar1m.releases.catalogue import AUTHORS, KEYWORDS, description, release_terms
from sar1m.releases.contents import (
    ATTRIBUTION_FILE,
    CHANGELOG_FILE,
    CITATION_FILE,
    ERRATA_FILE,
    LICENCE_FILE,
    LICENCES_FILE,
    TOMBSTONES_FILE,
    ReleaseFacts,
)

CHANGES: Final = (
    ("added", "added"),
    ("removed", "removed; tombstones.parquet names them with the reason"),
    ("changed", "with other pixels"),
    ("moved", "moved to another split"),
)


def citation_files(facts: ReleaseFacts) -> dict[str, bytes]:
    """The four files, in UTF-8. No date stands in them but one that was given: the same builds give the same bytes on
    any day."""
    files = {
        CITATION_FILE: _citation(facts),
        LICENCE_FILE: licence_text(facts),
        CHANGELOG_FILE: _changelog(facts),
        ERRATA_FILE: _errata(facts),
    }
    return {name: text.encode() for name, text in files.items()}


def citation_words(facts: ReleaseFacts) -> str:
    """One line to cite the release by."""
    title = f"{AUTHORS}: {facts.name}. Dataset of co-registered SAR and optical patches, version {facts.version}"
    given = (None if facts.published is None else facts.published.isoformat(), facts.url)
    return ". ".join([title, *(one for one in given if one)]) + ("" if facts.url else ".")


def _citation(facts: ReleaseFacts) -> str:
    """Citation File Format 1.2.0. JSON strings are YAML scalars too, whatever a name holds."""
    spdx = release_terms(facts.licences).spdx
    lines = [
        "cff-version: 1.2.0",
        "type: dataset",
        f"message: {json.dumps(f'If you use {facts.name}, please cite it and say what ATTRIBUTION.md asks for.')}",
        f"title: {json.dumps(facts.name)}",
        f"version: {json.dumps(facts.version)}",
        "authors:",
        f"  - name: {json.dumps(AUTHORS)}",
        f"abstract: {json.dumps(description(facts))}",
        f"keywords: {json.dumps(list(KEYWORDS))}",
    ]
    if spdx is not None:
        lines.append(f"license: {spdx}")
    if facts.published is not None:
        lines.append(f"date-released: {facts.published.isoformat()}")
    if facts.url is not None:
        lines.append(f"url: {json.dumps(facts.url)}")
    return "\n".join(lines) + "\n"


def licence_text(facts: ReleaseFacts) -> str:
    """Under which terms the release is passed on, source by source; texts of licences are linked, not copied."""
    terms = release_terms(facts.licences)
    lines = [facts.title, ""]
    if terms.spdx is None:
        lines += [
            "Every source keeps its own terms: there is no single licence for the whole. Before you pass on a sample,",
            f"look up its licence_sar and licence_optical in samples.parquet and the terms in {LICENCES_FILE}.",
        ]
    else:
        lines += [
            "This release as a collection (selection, arrangement, metadata, derived pixels) is licensed under",
            f"{terms.spdx}: {terms.url}",
            "The sources' own terms stay as they are. Whoever passes on samples keeps the notices of",
            f"{ATTRIBUTION_FILE}.",
        ]
    lines += ["", "Sources:", ""]
    for row in facts.licences:
        link = f" ({row.url})" if row.url else ""
        lines.append(f"- {row.source}: {row.licence}{link}; {row.redistribution}; {row.samples:,} samples")
    if facts.counts.get("recipes"):
        lines += [
            "",
            f"The optical pixels of {facts.counts['recipes']:,} samples are not part of this release: recipes.parquet",
            "describes how a holder of the provider's licence makes them.",
        ]
    return "\n".join([*lines, "", "The data come without warranty of any kind.", ""])


def _changelog(facts: ReleaseFacts) -> str:
    lines = [f"# Changes of {facts.name}", "", f"## {facts.version}", ""]
    if facts.previous is None:
        lines += [f"First version: {facts.counts['accepted']:,} samples, {facts.counts['paired']:,} of them paired."]
    else:
        lines += [f"Since {facts.previous}, which stays as it was published:", ""]
        lines += [f"- {facts.changes.get(key, 0):,} samples {words}" for key, words in CHANGES]
    lines += [
        "",
        "MAJOR versions change, remove or move samples; MINOR ones add some; PATCH ones repackage the same.",
        f"A sample's id is never given to another. `sar1m diff OLD NEW` lists samples, {TOMBSTONES_FILE} those gone.",
        "",
    ]
    return "\n".join(lines)


def _errata(facts: ReleaseFacts) -> str:
    return "\n".join(
        [
            f"# Errata of {facts.title}",
            "",
            "None were known when this version was sealed. A published version is never changed: errors found later",
            "stand in the ERRATA.md of the version that follows, and are mended there.",
            "",
            "To report one, open an issue where you found the data, and give the version, the `sample_id`, what is",
            "wrong and how it shows. Say first whether `sar1m verify` finds your copy whole.",
            "",
            "| found in | sample_id or file | what is wrong | mended in |",
            "|---|---|---|---|",
            "",
        ]
    )
