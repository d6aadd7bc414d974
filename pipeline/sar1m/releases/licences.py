"""The licence gate: pixels are released only under terms that allow it, and every source is named with the statement
that this relies on.

licences.toml beside this module lists known terms. A licence that is not listed is unknown and refused, since nobody
has read it. Google, Esri and Bing pictures are recipe-only at best, whatever their licence column says.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal, cast

import numpy as np
import pandas as pd

from sar1m.core.table import Bool
from sar1m.releases.contents import LicenceRow, Redistribution
from sar1m.store.errors import ConfigError
from sar1m.store.foreign_text import markdown_text, spreadsheet_cell
from sar1m.store.side_files import toml_value

RECIPE_ONLY: Final = "recipe_only"  # unpaired_reason of a sample whose optical pixels stay with their provider
COPERNICUS_WORDS: Final = "Contains modified Copernicus Sentinel data"
_COPERNICUS: Final = re.compile(r"Contains modified Copernicus Sentinel data\s*(\[[^\]]*\])?")
OUTLINES: Final = LicenceRow(
    source="Natural Earth 1:50m (country outlines in the page)",
    licence="public domain",
    url="https://www.naturalearthdata.com/about/terms-of-use/",
    redistribution="redistribute",
    evidence="terms of use: all versions are in the public domain",
    samples=0,
)

Terms = Literal["redistribute", "recipe-only", "forbidden", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Term:
    """What may be done under a licence, and the statement that is relied on."""

    licence: str
    url: str
    redistribution: Terms
    evidence: str


@dataclass(frozen=True, kw_only=True)
class Use:
    """Pixels of one provider under one licence in samples of a release. part: sar or optical."""

    part: Literal["sar", "optical"]
    provider: str
    licence: str


def term_of(licence: str, provider: str) -> Term:
    """The terms of a provider's pixels under a licence; redistribution unknown where nobody has read them."""
    listed = _known()["licence"]
    entry = next((one for one in listed if licence.casefold() in {name.casefold() for name in one["names"]}), None)
    term = Term(licence=licence, url="", redistribution="unknown", evidence="")
    if entry is not None:
        term = _term(entry)
    owner = next((one for one in _known()["host"] if _delivers_from(provider, one["hosts"])), None)
    if owner is not None and term.redistribution == "redistribute":
        return Term(licence=licence, url=owner["url"], redistribution="recipe-only", evidence=owner["evidence"])
    return term


def gate(samples: pd.DataFrame, *, recipes: bool) -> pd.DataFrame:
    """The samples as they may be released: with recipes, those whose optical pixels are recipe-only become unpaired,
    for the reason recipe_only.

    samples: SAMPLE_COLUMNS. Optical terms count for paired samples alone: others hold no such pixel. Raises
    ConfigError listing source, licence and number of samples wherever pixels may not leave: SAR under anything but
    redistribute (without it there is no sample), forbidden and unknown optical ones, recipe-only ones without recipes.
    """
    counts = _uses(samples)
    terms = {use: term_of(use.licence, use.provider).redistribution for use in counts}
    allowed = {"redistribute", "recipe-only"} if recipes else {"redistribute"}
    refused = [use for use in counts if terms[use] not in (allowed if use.part == "optical" else {"redistribute"})]
    if refused:
        raise ConfigError(_refusal(refused, counts, terms))
    withheld = {(use.provider, use.licence) for use in counts if terms[use] == "recipe-only"}
    keys = zip(_text(samples, "optical_provider"), _text(samples, "licence_optical"), strict=True)
    leave_out = _paired(samples) & np.fromiter((key in withheld for key in keys), dtype=np.bool_, count=len(samples))
    return samples.assign(
        paired=_paired(samples) & ~leave_out,
        unpaired_reason=np.where(leave_out, RECIPE_ONLY, samples["unpaired_reason"].to_numpy(dtype=object)),
    )


def licence_rows(samples: pd.DataFrame) -> tuple[LicenceRow, ...]:
    """One row a source of what the samples hold or whose recipe they carry, sorted by name; samples as gate gives them.

    Raises ConfigError where terms are unknown.
    """
    with_recipes = samples.assign(paired=_paired(samples) | (samples["unpaired_reason"] == RECIPE_ONLY).to_numpy())
    counts = _uses(with_recipes)
    rows = [
        _row(f"{use.provider or 'not named'} ({use.part})", term_of(use.licence, use.provider), count)
        for use, count in counts.items()
    ]
    for notice in _known()["notice"]:
        count = int(samples["attribution"].str.contains(notice["words"], regex=False).sum())
        if count:
            term = term_of(notice["licence"], "")
            if term.redistribution == "unknown":
                term = _term({**notice, "redistribution": "redistribute"})
            rows.append(_row(notice["source"], term, count))
    return tuple(sorted([*rows, OUTLINES], key=lambda row: (row.source, row.licence)))


def licences_csv(rows: Iterable[LicenceRow]) -> bytes:
    """LICENSES.csv."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["source", "licence", "url", "redistribution", "evidence", "samples"])
    for row in rows:
        texts = (row.source, row.licence, row.url, row.redistribution, row.evidence)
        writer.writerow([*map(spreadsheet_cell, texts), row.samples])
    return text.getvalue().encode()


def attribution_md(samples: pd.DataFrame, rows: Iterable[LicenceRow], title: str) -> bytes:
    """ATTRIBUTION.md: what has to be said when pixels are passed on, with the years of acquisition."""
    lines = [
        f"# Attribution for {markdown_text(title)}",
        "",
        "Whoever passes on these data or what was made of them says:",
        "",
    ]
    lines += [f"- {markdown_text(text)} ({count:,} samples)" for text, count in sorted(_notices(samples).items())]
    if len(lines) == 4:
        lines.append("- nothing: no source asks for a notice")
    lines += ["", "## Sources", "", "| source | licence | samples |", "|---|---|---|"]
    for row in rows:
        licence = markdown_text(row.licence)
        name = f"[{licence}]({row.url})" if row.url else licence
        lines.append(f"| {markdown_text(row.source)} | {name} | {row.samples:,} |")
    lines += ["", "`LICENSES.csv` says on which statement each of these relies.", ""]
    return "\n".join(lines).encode()


def years_of(samples: pd.DataFrame) -> tuple[int, ...]:
    """Years of acquisition of the pixels that the samples hold, ascending."""
    return tuple(sorted(_years(samples)))


def _notices(samples: pd.DataFrame) -> Counter[str]:
    """Samples by notice. That of Copernicus names the years of the samples it is said of, whatever years a source's
    own text names: those are of its whole archive."""
    found: Counter[str] = Counter()
    copernicus = np.zeros(len(samples), dtype=np.bool_)
    columns = [_column(samples, name) for name in ("attribution", "licence_sar", "licence_optical")]
    for (text, *licences), positions in samples.groupby(columns, sort=True).indices.items():
        parts = [part.strip() for part in str(text).split(";") if part.strip()]
        copernicus[positions] = any(map(_COPERNICUS.fullmatch, parts)) or "Copernicus Sentinel" in "".join(licences)
        for part in dict.fromkeys(part for part in parts if not _COPERNICUS.fullmatch(part)):
            found[part] += len(positions)
    if copernicus.any():
        years = ", ".join(map(str, sorted(_years(samples[copernicus]))))
        found[f"{COPERNICUS_WORDS} [{years or 'years unknown'}]"] = int(copernicus.sum())
    return found


def _years(samples: pd.DataFrame) -> set[int]:
    sar = pd.to_datetime(samples["sar_datetime"], utc=True)
    optical = pd.to_datetime(samples.loc[_paired(samples), "optical_datetime"], utc=True)
    return {int(year) for column in (sar, optical) for year in column.dropna().dt.year.unique()}


def _refusal(refused: list[Use], counts: Mapping[Use, int], terms: Mapping[Use, Terms]) -> str:
    uses = "; ".join(
        f"{counts[use]:,} samples of {use.provider or 'a source without name'} ({use.part}, licence "
        f"{use.licence or 'not stated'!r}): {terms[use]}"
        for use in refused
    )
    remedies = []
    if any(use.part == "optical" and terms[use] == "recipe-only" for use in refused):
        remedies.append("--recipes ships recipes in place of recipe-only optical pixels")
    if any(terms[use] == "unknown" for use in refused):
        remedies.append("state a known licence in the source's own description (known: sar1m/releases/licences.toml)")
    remedies.append("or leave these sources out of the builds")
    return f"the licences do not allow this release: {uses}. {'; '.join(remedies)}."


def _uses(samples: pd.DataFrame) -> dict[Use, int]:
    """Samples by use, sorted."""
    counts: Counter[tuple[str, str, str]] = Counter()
    paired = samples[_paired(samples)]
    for part, rows, provider in (("sar", samples, "provider"), ("optical", paired, "optical_provider")):
        pairs = zip(_text(rows, provider), _text(rows, f"licence_{part}"), strict=True)
        counts.update((part, *pair) for pair in pairs)
    return {
        Use(part=cast(Literal["sar", "optical"], part), provider=provider, licence=licence): counts[key]
        for key in sorted(counts)
        for part, provider, licence in [key]
    }


def _row(source: str, term: Term, samples: int) -> LicenceRow:
    if term.redistribution == "unknown":
        raise ConfigError(f"{source}: nobody has read the licence {term.licence!r}; see sar1m/releases/licences.toml.")
    allowed: Redistribution = term.redistribution
    return LicenceRow(
        source=source,
        licence=term.licence,
        url=term.url,
        redistribution=allowed,
        evidence=term.evidence,
        samples=samples,
    )


def _term(entry: Mapping[str, Any]) -> Term:
    return Term(**{name: entry[name] for name in ("licence", "url", "redistribution", "evidence")})


def _delivers_from(provider: str, hosts: Iterable[str]) -> bool:
    name = provider.casefold()
    return any(name == host or name.endswith(f".{host}") for host in hosts)


def _paired(samples: pd.DataFrame) -> Bool:
    return np.asarray(samples["paired"], dtype=np.bool_)


def _column(samples: pd.DataFrame, name: str) -> pd.Series:
    return samples[name].astype(object).where(samples[name].notna(), "")


def _text(samples: pd.DataFrame, name: str) -> list[str]:
    return [str(value) for value in _column(samples, name)]


@cache
def _known() -> dict[str, list[dict[str, Any]]]:
    return toml_value(files("sar1m.releases").joinpath("licences.toml").read_text(encoding="utf-8"))
