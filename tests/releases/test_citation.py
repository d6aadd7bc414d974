"""CITATION.cff, LICENSE, CHANGELOG.md, ERRATA.md: their form, and under which licence a release is passed on."""

from dataclasses import replace
from datetime import date

import pytest
import yaml

from sar1m.releases.catalogue import release_terms
from sar1m.releases.citation import citation_files, citation_words
from support.release_facts import row, small_facts


@pytest.fixture
def facts(tmp_path_factory):
    return small_facts(tmp_path_factory)


@pytest.mark.parametrize(
    ("licences", "spdx"),
    [
        (["CC0-1.0"], "CC0-1.0"),
        (["CDLA-Permissive-1.0"], "CDLA-Permissive-1.0"),
        (["CC-BY-4.0", "CC0-1.0"], "CC-BY-4.0"),
        (["Copernicus Sentinel data legal notice"], "CC-BY-4.0"),
        (
            ["CDLA-Permissive-1.0", "Copernicus Sentinel data legal notice", "Copernicus WorldDEM-30 licence"],
            "CC-BY-4.0",
        ),
        (["CC-BY-SA-4.0"], None),
        (["CC-BY-4.0", "ODC-By-1.0"], None),
        (["CC-BY-4.0", "a licence nobody knows"], None),
    ],
)
def test_a_release_takes_the_widest_terms_its_sources_allow(licences, spdx):
    assert release_terms([row(licence) for licence in licences]).spdx == spdx


def test_sources_without_pixels_in_the_release_do_not_bind_it():
    rows = [row("CC0-1.0"), row("public domain", samples=0), row("CC-BY-NC-ND-4.0", redistribution="recipe-only")]
    assert release_terms(rows).spdx == "CC0-1.0"


def test_the_citation_file_has_what_the_format_asks_for(facts):
    found = yaml.safe_load(citation_files(facts)["CITATION.cff"])
    assert {"cff-version", "message", "title", "authors"} <= found.keys()  # required by CFF 1.2.0
    assert found["cff-version"] == "1.2.0"
    assert (found["type"], found["title"], found["version"]) == ("dataset", "sar-1m", "0.1.0")
    assert found["license"] == "CC0-1.0"
    assert isinstance(found["version"], str)
    assert found["authors"] == [{"name": "The SAR-1M engineers"}]
    allowed = {"abstract", "authors", "cff-version", "keywords", "license", "message", "title", "type", "version"}
    assert found.keys() <= allowed


def test_day_and_address_stand_where_they_are_given(facts):
    given = replace(facts, published=date(2026, 11, 3), url="https://example.org/a?b=c: #d")
    found = yaml.safe_load(citation_files(given)["CITATION.cff"])
    assert (found["date-released"], found["url"]) == (date(2026, 11, 3), "https://example.org/a?b=c: #d")
    assert citation_words(given).endswith(", version 0.1.0. 2026-11-03. https://example.org/a?b=c: #d")
    assert citation_words(facts).endswith(", version 0.1.0.")
    assert citation_words(replace(facts, published=date(2026, 11, 3))).endswith(", version 0.1.0. 2026-11-03.")


def test_the_citation_file_names_no_single_licence_where_there_is_none(facts):
    mixed = replace(facts, licences=(row("CC-BY-SA-4.0", 3), row("CC0-1.0", 2)))
    files = {name: content.decode() for name, content in citation_files(mixed).items()}
    assert "\nlicense:" not in files["CITATION.cff"]
    assert 'title: "sar-1m"' in files["CITATION.cff"].splitlines()
    assert "no single licence" in files["LICENSE"]
    assert "- a source under CC-BY-SA-4.0: CC-BY-SA-4.0 (https://example.org/terms); redistribute; 3 samples" in (
        files["LICENSE"].splitlines()
    )


def test_the_licence_says_that_pixels_are_left_out(facts):
    assert "not part of this release" not in citation_files(facts)["LICENSE"].decode()
    left_out = replace(facts, counts={**facts.counts, "recipes": 1200})
    assert "The optical pixels of 1,200 samples are not part" in citation_files(left_out)["LICENSE"].decode()


def test_the_changelog_distinguishes_a_first_version_from_a_later_one(facts):
    first = citation_files(facts)["CHANGELOG.md"].decode()
    assert f"First version: {len(facts.samples)} samples" in first
    later = replace(facts, previous="0.0.9", changes={"added": 5, "removed": 4, "changed": 3, "moved": 2000})
    text = citation_files(later)["CHANGELOG.md"].decode()
    assert "First version" not in text
    assert "Since 0.0.9" in text
    for line in ("- 5 samples added", "- 3 samples with other pixels", "- 2,000 samples moved to another split"):
        assert line in text.splitlines()


def test_errata_start_empty_and_say_how_to_report(facts):
    text = citation_files(facts)["ERRATA.md"].decode()
    assert text.startswith("# Errata of sar-1m v0.1.0\n")
    assert text.rstrip().endswith("|---|---|---|---|")
    assert "sample_id" in text
