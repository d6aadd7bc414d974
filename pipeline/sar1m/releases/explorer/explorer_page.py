"""report/index.html of a release and the script files beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, Final

import numpy as np
import pandas as pd
from markupsafe import Markup

from sar1m.config import stored_config
from sar1m.core.table import floats
from sar1m.io.tables import read_table
from sar1m.page import build_page as report
from sar1m.page.browser import script_json
from sar1m.page.charts import outcome_bars
from sar1m.page.histograms import histogram_figure, metric_limits, metric_title
from sar1m.page.previews import release_stretch, stretch_words
from sar1m.page.svg import Figure
from sar1m.releases.catalogue import description, extent_of, is_simulated, release_terms
from sar1m.releases.citation import citation_words
from sar1m.releases.contents import ReleaseFacts
from sar1m.releases.explorer.encoding import script_part
from sar1m.releases.explorer.outlines import outlines
from sar1m.releases.explorer.rows import core, held_positions, metric_parts, metric_values, row_parts
from sar1m.releases.explorer.thumbnails import Pictures, draw_pictures
from sar1m.releases.provenance import LOCK_COLUMNS
from sar1m.releases.versions import LOCK_FILE
from sar1m.store.schema import PROVENANCE_DIR, REPORT_FILE, SPLITS

FOLDER: Final = REPORT_FILE.rpartition("/")[0]
# One script in this order: later ones use what earlier ones declare.
SCRIPTS: Final = (
    *("parts.js", "store.js", "filters.js", "panel.js", "map.js", "list.js", "viewer.js", "controls.js", "main.js"),
)


def explorer_files(facts: ReleaseFacts) -> dict[str, bytes]:
    """report/index.html and the scripts it loads, by relative name. A pure function of the release's own files.

    Raises StoreError where pixels of a sample are missing, ConfigError for the stored configuration.
    """
    held = _held(facts.samples)
    return page_files(facts, draw_pictures(facts.root, held, release_stretch(facts.normalisation, facts.summary)))


def page_files(facts: ReleaseFacts, pictures: Pictures) -> dict[str, bytes]:
    """The same, with pictures drawn before; their positions count in the samples that the page holds (rows.HELD_MOST
    at most). Of the release's files it reads provenance/config.toml and, where it is there, provenance/lock.parquet."""
    held = _held(facts.samples)
    metrics = metric_values(held, facts.summary["polarisations"])
    parts = {
        "core": core(held, metrics, pictures.positions),
        "outlines": outlines(floats(held, "lon"), floats(held, "lat")),
        **{f"metrics-{number:03d}": part for number, part in enumerate(metric_parts(metrics))},
        **{f"rows-{number:03d}": part for number, part in enumerate(row_parts(held, _lock(facts)))},
        **{f"pictures-{number:03d}": part for number, part in enumerate(pictures.parts())},
    }
    scripts = {f"{name}.js": script_part(name, payload) for name, payload in parts.items()}
    scripts["explorer.js"] = _program()
    index = _index(facts, pictures, len(held), scripts)
    return {f"{FOLDER}/{name}": content for name, content in {"index.html": index, **scripts}.items()}


def _held(samples: pd.DataFrame) -> pd.DataFrame:
    return samples.iloc[held_positions(samples)].reset_index(drop=True)


def _lock(facts: ReleaseFacts) -> pd.DataFrame | None:
    path = facts.root / LOCK_FILE
    if not path.exists():
        return None
    lock = read_table(path)
    return lock[[column.name for column in LOCK_COLUMNS]].set_index("sample_id", drop=False)


def _program() -> bytes:
    """The script: its files in one scope of its own."""
    return ('"use strict";\n(() => {\n' + "\n".join(_asset(name) for name in SCRIPTS) + "})();\n").encode()


def _index(facts: ReleaseFacts, pictures: Pictures, held: int, scripts: Mapping[str, bytes]) -> bytes:
    style = report.asset("page.css") + _asset("explorer.css")
    nonce = _nonce(scripts)
    page = report.page_template("sar1m.releases.explorer").render(
        policy=report.content_policy(style, f"'nonce-{nonce}'"),
        nonce=nonce,
        style=Markup(style),  # noqa: S704 - our own files
        facts=facts,
        held=held,
        pictured=len(pictures.positions),
        picture_px=pictures.longest_px,
        settings=script_json(_settings(facts, pictures, scripts)),
        **_context(facts),
    )
    return page.encode()


def _settings(facts: ReleaseFacts, pictures: Pictures, scripts: Mapping[str, bytes]) -> dict[str, Any]:
    """What the script needs before the first part."""
    licences = [[row.source, row.licence, row.url, row.redistribution] for row in facts.licences]
    return {
        "title": facts.title,
        "samples": len(facts.samples),
        "pictured": len(pictures.positions),
        "picture_px": pictures.longest_px,
        "part_pictures": max((len(part) for part in pictures.parts()), default=1),
        "patch_m": float(facts.summary["patch_px"]) * float(facts.summary["gsd_m"]),
        "licences": licences,
        "parts": sorted(name.removesuffix(".js") for name in scripts),
    }


def _context(facts: ReleaseFacts) -> dict[str, Any]:
    summary, audit = facts.summary, facts.audit
    extent = extent_of(facts)
    return {
        "counts": facts.counts,
        "summary": summary,
        "description": description(facts),
        "simulated": is_simulated(facts.samples),
        "acquired": None
        if extent.first is None or extent.last is None
        else (f"{extent.first:%Y-%m-%d}", f"{extent.last:%Y-%m-%d}"),
        "splits": SPLITS,
        "audit": audit,
        "audit_rows": report.audit_rows(audit),
        "audit_names": report.shared_names(audit),
        "audit_holds": bool(audit.get("holds", audit["buffer_holds"])),
        "outcomes": outcome_bars(summary),
        "figures": _figures(facts),
        "terms": release_terms(facts.licences),
        "citation": citation_words(facts),
        "loading": loading_lines(facts),
        "stretch": stretch_words(release_stretch(facts.normalisation, summary), summary["polarisations"]),
    }


def loading_lines(facts: ReleaseFacts) -> str:
    """Five lines of Python that open the first split that holds samples."""
    split = next(split for split in SPLITS if facts.audit["samples"][split])
    return "\n".join(
        (
            "import geopandas, xarray as xr",
            'samples = geopandas.read_parquet("samples.parquet")',
            f'group = xr.open_zarr("data/{split}.zarr", consolidated=False)',
            'sar_db = group["sar"][0].load()  # (pol, y, x) in decibels, NaN without data',
            f'print(samples[samples["split"] == "{split}"].iloc[0]["sample_id"], float(sar_db.mean()))',
        )
    )


def _figures(facts: ReleaseFacts) -> list[Figure]:
    """Every measured metric, kept and rejected, with the limit of the newest build's configuration."""
    limits = metric_limits(stored_config(facts.root / PROVENANCE_DIR / "config.toml"))
    pols: Sequence[str] = facts.summary["polarisations"]
    rejected = metric_values(facts.rejected, pols)
    return [
        histogram_figure(
            name=column.name,
            title=metric_title(column),
            accepted=values,
            rejected=rejected[column],
            limit=limits.get(column.name),
        )
        for column, values in metric_values(facts.samples, pols).items()
        if np.isfinite(values).any() or np.isfinite(rejected[column]).any()
    ]


def _asset(name: str) -> str:
    return files("sar1m.releases.explorer").joinpath(name).read_text(encoding="utf-8")


def _nonce(scripts: Mapping[str, bytes]) -> str:
    """The word by which the page knows its scripts: a digest of them all, so that no name in them can contain it, and
    the same release has the same. Hashes of files and 'self' do not work for scripts loaded from file://."""
    digest = hashlib.sha256()
    for name in sorted(scripts):
        digest.update(hashlib.sha256(scripts[name]).digest())
    return digest.hexdigest()[:32]
