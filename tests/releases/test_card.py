"""README.md of a release: its head parses as the hub's, its numbers are the release's, its examples run."""

import re
import runpy
from dataclasses import replace

import duckdb
import numpy as np
import pytest
import yaml
from huggingface_hub import DatasetCard, DatasetCardData
from huggingface_hub.repocard import metadata_load

from sar1m.releases.card import card_files, number, size_category
from sar1m.store.errors import StoreError
from support.made_releases import release
from support.paths import ROOT
from support.release_facts import real_facts, row, small_facts, small_release, with_column

COMMITTED = ROOT / "dataset_cards/sar-1m-v0.1.0-sample.md"
SECTIONS = (
    *("What it is, and what it is not", "Counts", "Splits", "Measured quality", "Normalisation", "Biases and limits"),
    *("Out of scope", "Licences", "Loading", "Citation"),
)


@pytest.fixture
def facts(tmp_path_factory):
    return small_facts(tmp_path_factory)


def card(facts):
    return card_files(facts)["README.md"].decode()


def head_of(text):
    return text.split("---\n")[1]


def cells(text, first):
    """The cells of the table row that begins with the given cell."""
    found = [line for line in text.splitlines() if line.startswith(f"| {first}")]
    assert len(found) == 1, (first, found)
    return [cell.strip() for cell in found[0].strip("|").split("|")]


def test_the_hub_reads_the_head(facts):
    head = DatasetCard(card(facts)).data
    assert isinstance(head, DatasetCardData)
    assert head.license == "cc0-1.0"
    assert head.size_categories == ["n<1K"]
    assert head.configs[0] == {"config_name": "preview", "default": True, "data_files": "preview.parquet"}
    assert {"path": "splits/train.parquet", "split": "train"} in head.configs[1]["data_files"]


def test_the_head_is_yaml_with_the_hubs_keys(facts):
    head = yaml.safe_load(head_of(card(replace(facts, licences=(row("CC-BY-SA-4.0"),)))))
    assert (head["license"], head["license_link"]) == ("other", "LICENSES.csv")
    assert head["pretty_name"] == "sar-1m v0.1.0"
    assert "license_name" not in yaml.safe_load(head_of(card(facts)))
    assert [entry["split"] for entry in head["configs"][1]["data_files"]] == [
        split for split in ("train", "val", "test") if (facts.samples["split"] == split).any()
    ]


def test_every_section_of_the_datasheet_is_there(facts):
    headings = re.findall(r"^## (.+)$", card(facts), re.MULTILINE)
    assert headings == list(SECTIONS)


def test_numbers_are_the_releases_own(facts):
    changed = replace(
        facts,
        counts={**facts.counts, "candidates": 987654, "rejected": 7001, "recipes": 17},
        summary={**facts.summary, "rejected_by_reason": {"clouds": 7000, "a rule of tomorrow": 1}},
        audit={**facts.audit, "buffer_km": 4.25, "least_distance_km": {"train/test": 5.5, "train/val": None}},
    )
    changed = with_column(changed, "residual_px", np.linspace(0.125, 0.125, len(facts.samples), dtype=np.float32))
    text = card(changed)
    assert cells(text, "candidates") == ["candidates", "987,654"]
    assert cells(text, "of the accepted, optical pixels")[1] == "17"
    assert cells(text, "a rule of tomorrow")[1] == "1"
    assert "at least 4.25 km" in text
    assert cells(text, "train/test")[1] == "5.5"
    assert cells(text, "train/val")[1] == "none"
    assert cells(text, "length of measured shift")[2:] == [str(len(facts.samples)), "0.125", "0.125", "0.125"]
    vv = facts.normalisation["sar"]["VV"]
    assert cells(text, "sar [dB] | VV")[2:4] == [number(vv["mean_db"]), number(vv["std_db"])]


def test_bad_news_stands_in_the_card(facts):
    assert "does not hold" not in card(facts).lower()
    assert "WHICH DOES NOT HOLD HERE" in card(replace(facts, audit={**facts.audit, "buffer_holds": False}))
    assert "All pixels are simulated" in card(facts)
    assert "simulated" not in card(with_column(facts, "provider", "a service")).split("## Counts")[0].replace(
        facts.summary["region"], ""
    )


def test_texts_of_sources_make_no_cell_line_or_tag(facts):
    evil = replace(row("CC0-1.0"), source="a | b\n# heading <script>alert(1)</script>")
    text = card(replace(facts, licences=(evil,)))
    assert "<script" not in text
    assert "\n# heading" not in text
    assert "a \\| b # heading &lt;script>" in text


def test_the_same_facts_give_the_same_bytes(facts):
    assert card_files(facts) == card_files(facts)


def test_a_release_without_statistics_is_refused(facts, tmp_path):
    with pytest.raises(StoreError, match=r"self_test\.json"):
        card_files(replace(facts, root=tmp_path))
    with pytest.raises(StoreError, match="without samples"):
        card_files(replace(facts, samples=facts.samples.iloc[:0]))


def test_the_card_of_a_release_is_what_the_hub_takes(tmp_path_factory):
    """What the hub asks of a card's head, as far as its client and its documentation show without a network."""
    path = small_release(tmp_path_factory) / "README.md"
    head = DatasetCard.load(path).data.to_dict()
    assert head == metadata_load(path)
    assert head["license"] in {"cc0-1.0", "cc-by-4.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "other"}
    assert set(head["task_categories"]) <= {
        "image-feature-extraction",
        "image-to-image",
        "unconditional-image-generation",
    }
    assert all(isinstance(tag, str) for tag in head["tags"])
    assert [config.get("default", False) for config in head["configs"]] == [True, False]
    files = [entry["path"] for entry in head["configs"][1]["data_files"]] + [head["configs"][0]["data_files"]]
    assert [file for file in files if not (path.parent / file).is_file()] == []


EXAMPLES = {"xarray": "'pol': 2", "sarmae": "torch.Size", "geopandas": "]", "duckdb": "'train'"}


@pytest.mark.parametrize("library", EXAMPLES)
def test_every_example_runs_as_it_stands(library, monkeypatch, tmp_path, tmp_path_factory, capsys):
    if library == "sarmae":
        pytest.importorskip("torch", reason="torch is not installed (make test installs it)")
    root = small_release(tmp_path_factory)
    examples = re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(), re.DOTALL)
    by_library = {re.search(r"(?:import|from) (\w+)", text)[1]: text for text in examples}
    assert by_library.keys() == EXAMPLES.keys()
    assert len(examples) == len(EXAMPLES)
    assert len([line for line in by_library[library].splitlines() if line]) <= 5
    script = tmp_path / "example.py"
    script.write_text(by_library[library])
    monkeypatch.chdir(root)
    runpy.run_path(str(script))
    assert EXAMPLES[library] in capsys.readouterr().out


def test_the_committed_card_is_the_one_that_the_sample_gives(tmp_path_factory, tmp_path):
    """dataset_cards/README.md says how it is made; see there before you change either."""
    build = real_facts(tmp_path_factory).root
    made = release([build], tmp_path / "release", "0.1.0", check_builds=False).root / "README.md"
    assert COMMITTED.read_bytes() == made.read_bytes()


def test_duckdb_counts_what_the_card_states(tmp_path_factory):
    root = small_release(tmp_path_factory)
    counted = duckdb.read_parquet(str(root / "samples.parquet")).aggregate("split, count(*)").fetchall()
    head = {split: int(cells((root / "README.md").read_text(), f"{split} |")[1]) for split, _ in counted}
    assert dict(counted) == head


@pytest.mark.parametrize(
    ("samples", "name"),
    [(6, "n<1K"), (1_000, "1K<n<10K"), (999_999, "100K<n<1M"), (1_000_000, "1M<n<10M"), (2 * 10**8, "100M<n<1B")],
)
def test_sizes_have_the_hubs_names(samples, name):
    assert size_category(samples) == name


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234567, "1,234,567"),
        (0.123456, "0.123"),
        (-12.3456, "-12.3"),
        (1442.962, "1,443"),
        (0.00003994, "0.00004"),
        (None, "none"),
    ],
)
def test_numbers_are_written_for_people(value, text):
    assert number(value) == text
    assert number(float("nan")) == "none"
