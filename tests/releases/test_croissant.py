"""croissant.json: mlcroissant validates it and loads its records; the terms of GeoCroissant; digests of every file."""

import hashlib
import json
import subprocess
import sys
import warnings
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from sar1m.releases.croissant import croissant, croissant_files
from sar1m.store.errors import StoreError
from sar1m.store.table_columns import SAMPLE_COLUMNS
from support.release_facts import row, small_facts, small_release, with_column


@pytest.fixture
def facts(tmp_path_factory):
    return small_facts(tmp_path_factory)


@pytest.fixture
def dataset(facts):
    """The release as mlcroissant opens it; its own libraries warn of their own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlcroissant  # noqa: PLC0415 - it warns when it is imported

        yield mlcroissant.Dataset(jsonld=facts.root / "croissant.json")


def test_mlcroissant_finds_no_error(dataset):
    issues = dataset.metadata.ctx.issues
    assert issues.errors == set()
    # a release holds no date, or it would not be the same on another day: whoever publishes it says when
    assert [str(warning) for warning in issues.warnings if "datePublished" not in str(warning)] == []


def validated(path):
    """`mlcroissant validate` as a user runs it."""
    command = [Path(sys.executable).with_name("mlcroissant"), "validate", "--jsonld", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_validates_a_whole_release(tmp_path_factory, tmp_path):
    path = small_release(tmp_path_factory) / "croissant.json"
    done = validated(path)
    assert done.returncode == 0, done.stderr
    assert "Done" in done.stderr
    found = json.loads(path.read_text())
    found["recordSet"][0]["field"][0]["dataType"] = "sc:Nothing"
    (tmp_path / "croissant.json").write_text(json.dumps(found))
    assert validated(tmp_path / "croissant.json").returncode != 0


def test_with_a_date_of_publication_nothing_is_left_to_warn_of(facts, tmp_path):
    found = croissant(replace(facts, published=date(2026, 11, 23), url="https://example.org/sar-1m"))
    assert (found["datePublished"], found["url"]) == ("2026-11-23", "https://example.org/sar-1m")
    assert not {"datePublished", "url"} & croissant(facts).keys()
    (tmp_path / "croissant.json").write_text(json.dumps(found))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlcroissant  # noqa: PLC0415 - it warns when it is imported

        issues = mlcroissant.Dataset(jsonld=tmp_path / "croissant.json").metadata.ctx.issues
    assert (issues.errors, issues.warnings) == (set(), set())


def test_mlcroissant_loads_every_sample(facts, dataset):
    records = list(dataset.records(record_set="samples"))
    assert [record["samples/sample_id"].decode() for record in records] == facts.samples["sample_id"].tolist()
    for record, (_, row_) in zip(records, facts.samples.iterrows(), strict=True):
        assert record["samples/lon"] == row_["lon"]
        assert record["samples/split"].decode() == row_["split"]
        assert record["samples/bounds_lonlat"] == list(row_["bounds_lonlat"])
        assert [name.decode() for name in record["samples/polarisations"]] == ["VV", "VH"]


def test_mlcroissant_opens_the_thumbnails(dataset):
    first = next(iter(dataset.records(record_set="preview")))
    assert first["preview/sar"].size == first["preview/optical"].size == (64, 64)
    assert [record["splits/name"] for record in dataset.records(record_set="splits")] == ["train", "val", "test"]


def test_every_file_but_pixels_stands_there_with_its_digest(facts):
    found = {entry["@id"]: entry for entry in croissant(facts)["distribution"] if entry["@type"] == "cr:FileObject"}
    there = {p.relative_to(facts.root).as_posix() for p in facts.root.rglob("*") if p.is_file()}
    later = {"croissant.json", "manifest-sha256.txt", "RELEASE_COMPLETE.json"}
    assert found.keys() == {name for name in there if not name.startswith("data/")} - later
    for name, entry in found.items():
        content = (facts.root / name).read_bytes()
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert entry["contentSize"] == f"{len(content)} B"
        assert entry["contentUrl"] == name


def test_file_sets_find_the_groups(facts):
    sets = [entry for entry in croissant(facts)["distribution"] if entry["@type"] == "cr:FileSet"]
    assert {entry["@id"] for entry in sets} == {f"data/{path.name}" for path in (facts.root / "data").iterdir()}
    for entry in sets:
        assert (facts.root / entry["@id"] / "zarr.json") in set(facts.root.glob(entry["includes"] + "/*"))


def test_it_conforms_to_both_and_holds_the_terms_of_geocroissant(facts):
    found = croissant(facts)
    assert found["conformsTo"] == ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/geo/1.0"]
    assert found["@context"]["geocr"] == "http://mlcommons.org/croissant/geo/"
    south, west, north, east = map(float, found["spatialCoverage"]["geo"]["box"].split())
    samples = facts.samples
    assert south < samples["lat"].min() <= samples["lat"].max() < north
    assert west < samples["lon"].min() <= samples["lon"].max() < east
    assert found["geocr:coordinateReferenceSystem"] == ", ".join(f"EPSG:{c}" for c in sorted(set(samples["epsg"])))
    assert found["geocr:spatialResolution"] == {"@type": "sc:QuantitativeValue", "value": 10.0, "unitText": "m"}
    assert found["geocr:bandConfiguration"]["geocr:bandNameList"] == ["VV", "VH", "B04", "B03", "B02"]
    assert found["geocr:bandConfiguration"]["geocr:totalBands"] == 5
    red = found["geocr:spectralBandMetadata"][0]
    assert (red["name"], red["geocr:centerWavelength"]["value"]) == ("B04", 664.6)
    first, last = found["temporalCoverage"].split("/")
    times = samples[["sar_datetime", "optical_datetime"]].stack()
    assert (first, last) == tuple(time.strftime("%Y-%m-%dT%H:%M:%SZ") for time in (times.min(), times.max()))


def test_unknown_times_and_mixed_licences_are_stated_as_such(facts):
    timeless = replace(facts, samples=facts.samples.assign(sar_datetime=None, optical_datetime=None))
    assert "temporalCoverage" not in croissant(timeless)
    mixed = replace(facts, licences=(row("CC-BY-SA-4.0"), row("CC0-1.0")))
    assert croissant(mixed)["license"] == ["LICENSES.csv", "https://example.org/terms"]
    assert croissant(facts)["license"] == "https://creativecommons.org/publicdomain/zero/1.0/"
    display = replace(facts, summary={**facts.summary, "optical_quantity": "display"})
    assert "geocr:spectralBandMetadata" not in croissant(display)  # pictures have no spectral response of their own


def test_fields_follow_the_contract(facts):
    samples = next(entry for entry in croissant(facts)["recordSet"] if entry["@id"] == "samples")
    fields = {field["name"]: field for field in samples["field"]}
    assert fields.keys() == {column.name for column in SAMPLE_COLUMNS} - {"land_cover"}
    assert fields["transform"]["arrayShape"] == "6"
    assert fields["labels"]["arrayShape"] == "-1"
    assert fields["dt_hours"]["description"].endswith("[h]")
    assert fields["split"]["references"] == {"field": {"@id": "splits/name"}}


def test_bytes_repeat_and_missing_tables_are_refused(facts, tmp_path):
    assert croissant_files(facts) == croissant_files(facts)
    assert json.loads((facts.root / "croissant.json").read_bytes()) == croissant(facts)
    (tmp_path / "samples.parquet").write_bytes(b"")
    with pytest.raises(StoreError, match=r"preview\.parquet"):
        croissant_files(replace(facts, root=tmp_path))
    assert "none" not in croissant(with_column(facts, "country", None))["geocr:spatialBias"]
