"""A release under way, made from a finished build: what the catalogue generators are given, without the rest."""

import importlib.util
import json
from dataclasses import replace

import pandas as pd
import pytest

from sar1m.building import BuildRequest, build
from sar1m.config import CONFIG_FOLDERS, load_config
from sar1m.flow import WorkersSettings
from sar1m.io.tables import read_table
from sar1m.releases.card import card_files
from sar1m.releases.citation import citation_files
from sar1m.releases.contents import LicenceRow, ReleaseFacts
from sar1m.releases.croissant import croissant_files
from sar1m.releases.explorer.explorer_page import explorer_files
from sar1m.releases.preview import preview_files
from sar1m.releases.stac import stac_files
from sar1m.store.schema import REJECTED_FILE, SAMPLES_FILE, STATS_DIR
from sar1m.store.table_columns import SAMPLE_COLUMNS
from support.crash_runner import Silence
from support.made_releases import make_build, release

CARRIER = "bigearthnet_common"
# as make_release calls them
GENERATORS = (preview_files, stac_files, citation_files, explorer_files, card_files, croissant_files)


_made = {}  # one folder of each kind for the whole session: nobody writes into it


def small_facts(factory):
    """Some simulated samples, with every generated file in place."""
    if "small" not in _made:
        _made["small"] = _generated(facts_of(make_build(factory.mktemp("catalogues") / "small", 3)))
    return _made["small"]


def small_release(factory):
    """A sealed release of the same samples, as `sar1m release` makes it."""
    if "release" not in _made:
        _made["release"] = factory.mktemp("catalogues") / "release"
        release([small_facts(factory).root], _made["release"], "0.1.0", check_builds=False)
    return _made["release"]


def real_facts(factory):
    """The embedded sample: six real pairs."""
    if importlib.util.find_spec(CARRIER) is None:
        pytest.skip(f"the sample's package {CARRIER} is not installed (make test installs it)")
    if "real" not in _made:
        out = factory.mktemp("catalogues") / "sample"
        config = load_config(CONFIG_FOLDERS[1] / "sample.toml")
        build(BuildRequest(region="sample", out=out, config=config, workers=WorkersSettings(workers=0)), Silence())
        _made["real"] = _generated(facts_of(out))
    return _made["real"]


def _generated(facts):
    for generate in GENERATORS:
        for name, content in generate(facts).items():
            (facts.root / name).parent.mkdir(exist_ok=True)
            (facts.root / name).write_bytes(content)
    return facts


def facts_of(root):
    """Facts of a build's own files."""
    samples = read_table(root / SAMPLES_FILE)
    summary = json.loads((root / STATS_DIR / "summary.json").read_text())
    years = pd.concat([samples["sar_datetime"], samples["optical_datetime"]]).dt.year.dropna().astype(int)
    return ReleaseFacts(
        root=root,
        name="sar-1m",
        version="0.1.0",
        samples=samples[[column.name for column in SAMPLE_COLUMNS]],
        rejected=read_table(root / REJECTED_FILE),
        counts={**summary["counts"], "recipes": 0},
        normalisation=json.loads((root / STATS_DIR / "normalisation.json").read_text()),
        audit=json.loads((root / STATS_DIR / "splits.json").read_text()),
        summary=summary,
        licences=tuple(row(str(name), int(n)) for name, n in samples["licence_sar"].value_counts().items()),
        years=tuple(sorted(set(years))),
        previous=None,
        changes={"added": len(samples), "removed": 0, "changed": 0, "moved": 0},
    )


def row(licence, samples=1, redistribution="redistribute"):
    return LicenceRow(
        source=f"a source under {licence}",
        licence=licence,
        url="https://example.org/terms",
        redistribution=redistribution,
        evidence="section 3.1",
        samples=samples,
    )


def with_column(facts, name, values):
    """The facts with another column of the samples."""
    return replace(facts, samples=facts.samples.assign(**{name: values}))
