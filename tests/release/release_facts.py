"""A release under way, made from a finished build: what the catalogue generators are given, without the rest."""

import json

import pandas as pd

from sar1m.io.tables import read_table
from sar1m.release.records import LicenceRow, ReleaseFacts
from sar1m.schema import REJECTED_FILE, SAMPLE_COLUMNS, SAMPLES_FILE, STATS_DIR


def facts_of(root, **changes):
    """Facts of the build's own files, in a folder that may be written into."""
    samples = read_table(root / SAMPLES_FILE)
    summary = json.loads((root / STATS_DIR / "summary.json").read_text())
    years = pd.concat([samples["sar_datetime"], samples["optical_datetime"]]).dt.year.dropna().astype(int)
    counts = samples["licence_sar"].value_counts()
    rows = [
        LicenceRow(
            source=f"source under {licence}",
            licence=str(licence),
            url="https://cdla.dev/permissive-1-0/" if "CDLA" in str(licence) else "",
            redistribution="redistribute",
            evidence="section 3.1",
            samples=int(count),
        )
        for licence, count in counts.items()
    ]
    given = {
        "root": root,
        "name": "sar-1m",
        "version": "0.1.0",
        "samples": samples[[column.name for column in SAMPLE_COLUMNS]],
        "rejected": read_table(root / REJECTED_FILE),
        "counts": {**summary["counts"], "recipes": 0},
        "normalisation": json.loads((root / STATS_DIR / "normalisation.json").read_text()),
        "audit": json.loads((root / STATS_DIR / "splits.json").read_text()),
        "summary": summary,
        "licences": tuple(rows),
        "years": tuple(sorted(set(years))),
        "previous": None,
        "changes": {"added": len(samples), "removed": 0, "changed": 0, "moved": 0},
    }
    return ReleaseFacts(**given | changes)
