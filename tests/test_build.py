"""The build as a whole: same bytes whatever the workers and their order, nothing lost, faults named, work kept."""

import json
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray

from sar1m import building
from sar1m.building import BuildRequest, build, refilter
from sar1m.config import parse_config
from sar1m.flow import Workers, WorkersSettings
from sar1m.sources.simulated import SimulatedSource
from sar1m.store.errors import ConfigError, LockedError, OutputError, SourceError, StoreError
from sar1m.store.file_lock import output_lock
from sar1m.store.seal import payload_files, verify
from sar1m.store.table_columns import REJECTED_COLUMNS, SAMPLE_COLUMNS
from support.campaigns import campaign
from support.crash_runner import SMALL_BUILD, Silence, run_build, tree_digest
from support.hang_guard import STUCK_S
from support.paths import ROOT

CONFIG = parse_config(SMALL_BUILD, origin="small")
HERE = WorkersSettings(workers=0)


def request(out, *, region="simulated:4", config=CONFIG, workers=HERE):
    return BuildRequest(region=region, out=out, config=config, workers=workers)


def changed(**sections):
    values = CONFIG.model_dump()
    for section, keys in sections.items():
        values[section] |= keys
    return type(CONFIG).model_validate(values)


@pytest.fixture(scope="module")
def built(tmp_path_factory, small_build):
    return shutil.copytree(small_build, tmp_path_factory.mktemp("built") / "simulated")


@pytest.mark.parametrize("workers", [1, *campaign(2, 4)])
def test_same_bytes_for_any_number_of_workers(built, tmp_path, workers):
    build(request(tmp_path, workers=WorkersSettings(workers=workers)), Silence())
    assert tree_digest(tmp_path) == tree_digest(built)


def test_same_bytes_in_any_order(built, tmp_path, monkeypatch):
    in_order = Workers.map

    def shuffled(self, function, items):
        drawn = list(items)
        random.Random(7).shuffle(drawn)
        return in_order(self, function, drawn)

    monkeypatch.setattr(Workers, "map", shuffled)
    build(request(tmp_path), Silence())
    assert tree_digest(tmp_path) == tree_digest(built)


def test_counts_add_up_and_tables_follow_the_contract(built):
    facts = json.loads((built / "BUILD_COMPLETE.json").read_text())
    counts = facts["counts"]
    samples = pd.read_parquet(built / "samples.parquet")
    rejected = pd.read_parquet(built / "rejected.parquet")
    assert counts["candidates"] == 16 == counts["accepted"] + counts["rejected"] + counts["failed"]
    assert (len(samples), len(rejected)) == (counts["accepted"], counts["rejected"])
    assert counts["paired"] > 0
    assert list(samples.columns) == [*(column.name for column in SAMPLE_COLUMNS), "geometry"]
    assert list(rejected.columns) == [*(column.name for column in REJECTED_COLUMNS), "geometry"]
    assert set(samples["sample_id"]).isdisjoint(rejected["sample_id"])
    assert samples["sample_id"].is_unique


def test_stored_pixels_are_the_simulators(built):
    """Contract: what xarray decodes equals what the source gave, within the quantisation step."""
    samples = pd.read_parquet(built / "samples.parquet")
    source = SimulatedSource(4)
    blocks = {c.cell: (c, source.read(c, CONFIG)) for c in source.candidates(CONFIG)}
    for split, rows in samples.groupby("split"):
        dataset = xarray.open_zarr(built / "data" / f"{split}.zarr", consolidated=False).load()
        assert list(dataset["sample_id"].values) == list(rows.sort_values("index")["sample_id"])
        for row in rows.itertuples():
            candidate, pixels = blocks[row.cell]
            place = next(p for p in candidate.patches if p.name == row.patch)
            top, left, side = place.row + candidate.halo_px, place.col + candidate.halo_px, CONFIG.grid.patch_px
            sar_db = 10 * np.log10(np.maximum(pixels.sar[:, top : top + side, left : left + side], 10**-5.995))
            np.testing.assert_allclose(dataset["sar"].values[row.index], sar_db, atol=0.0251)
            stored = dataset["optical"].values[row.index]
            if not row.paired:
                assert np.isnan(stored).all()
                continue
            top, left = top + int(row.applied_row_px), left + int(row.applied_col_px)
            expected = pixels.optical[:, top : top + side, left : left + side]
            np.testing.assert_allclose(stored, expected, atol=0.001 / 2 + 1e-6)


def test_second_run_does_nothing(built, monkeypatch):
    before = {name: (built / name).stat().st_mtime_ns for name in payload_files(built)}
    monkeypatch.setattr(building, "prepare_item", None)
    summary = build(request(built), Silence())
    assert summary.nothing_to_do
    assert {name: (built / name).stat().st_mtime_ns for name in payload_files(built)} == before


def test_refilter_reads_no_source_and_equals_a_build_with_those_thresholds(built, tmp_path, monkeypatch):
    shutil.copytree(built, tmp_path / "a")
    strict = changed(screening={"max_cloud_frac": 0.0, "max_dt_hours": 100.0})
    build(request(tmp_path / "b", config=strict), Silence())
    monkeypatch.setattr(SimulatedSource, "read", None)
    summary = refilter(tmp_path / "a", strict, HERE, Silence())
    assert summary.facts["config"] != CONFIG.digest()
    assert tree_digest(tmp_path / "a") == tree_digest(tmp_path / "b")
    assert verify(tmp_path / "a") == []
    refilter(tmp_path / "a", CONFIG, HERE, Silence())  # and back
    assert tree_digest(tmp_path / "a") == tree_digest(built)


def test_refilter_refuses_what_would_change_pixels(built):
    with pytest.raises(ConfigError, match="refilter changes thresholds only"):
        refilter(built, changed(pixels={"profile": "archive"}), HERE, Silence())


def test_failed_item_is_named_counted_and_tried_again(tmp_path, monkeypatch, built):
    read = SimulatedSource.read
    broken = next(iter(SimulatedSource(4).candidates(CONFIG))).item_id

    def failing(self, candidate, config):
        if candidate.item_id == broken:
            raise SourceError(f"/some/where/private/{broken}.tif: not a raster")
        return read(self, candidate, config)

    monkeypatch.setattr(SimulatedSource, "read", failing)
    summary = build(request(tmp_path), Silence())
    assert [item.item_id for item in summary.failed] == [broken]
    assert summary.facts["counts"]["failed"] == 4
    table = pd.read_parquet(tmp_path / "failed.parquet")
    assert table["cause"].tolist() == [f"{broken}.tif: not a raster"]
    assert not [name for name in payload_files(tmp_path) if b"/some/where" in (tmp_path / name).read_bytes()]
    monkeypatch.undo()
    summary = build(request(tmp_path), Silence())
    assert (summary.prepared, summary.reused, summary.failed) == (1, 3, ())
    assert tree_digest(tmp_path) == tree_digest(built)


def test_output_folder_that_is_not_ours_is_left_alone(tmp_path):
    (tmp_path / "thesis.docx").write_text("years of work")
    with pytest.raises(OutputError, match="was not made by sar1m"):
        build(request(tmp_path), Silence())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.docx"]


def test_output_folder_of_another_region_keeps_its_store(built):
    with pytest.raises(OutputError, match="holds region simulated-4, this build is of simulated-5"):
        build(request(built, region="simulated:5"), Silence())
    assert verify(built) == []


def test_second_build_on_the_same_output_is_refused(built):
    with output_lock(built), pytest.raises(LockedError):
        build(request(built), Silence())


def test_region_of_an_unknown_service_writes_nothing(tmp_path):
    asked = request(tmp_path / "out", region="portugal")
    config = asked.config.model_copy(update={"area": asked.config.area.model_copy(update={"sar": "cdsee"})})
    with pytest.raises(ConfigError, match="cdse"):
        build(replace(asked, config=config), Silence())
    assert not (tmp_path / "out").exists()


def test_damaged_staged_block_is_named_and_made_anew(tmp_path, built):
    shutil.copytree(built, tmp_path, dirs_exist_ok=True)
    block = sorted((tmp_path / "staging").glob("*/??/*.zip"))[0]
    block.write_bytes(block.read_bytes()[:-100])
    (tmp_path / "BUILD_COMPLETE.json").unlink()
    with pytest.raises(StoreError, match=block.name):
        run_build(tmp_path)
    block.unlink()
    run_build(tmp_path)
    assert tree_digest(tmp_path) == tree_digest(built)


@pytest.mark.parametrize("count", [48, *campaign(500)])
def test_every_mutation_of_a_store_is_found(built, tmp_path, count):
    """Flips, truncations, deletions, additions anywhere; the file always named."""
    copy = tmp_path / "copy"
    shutil.copytree(built, copy, ignore=shutil.ignore_patterns("staging"))
    names = [*payload_files(copy), "manifest-sha256.txt", "BUILD_COMPLETE.json"]
    rng = random.Random(11)
    for number in range(count):
        path = copy / rng.choice(names)
        name, whole = path.relative_to(copy).as_posix(), path.read_bytes()
        kind = ("flip", "cut", "delete", "add")[number % 4]
        if kind == "flip" and whole:
            position = rng.randrange(len(whole))
            path.write_bytes(
                whole[:position] + bytes([whole[position] ^ 1 << rng.randrange(8)]) + whole[position + 1 :]
            )
        elif kind == "cut" and whole:
            path.write_bytes(whole[: rng.randrange(len(whole))])
        elif kind == "delete":
            path.unlink()
        else:
            path = path.with_name(path.name + ".extra")
            name = path.relative_to(copy).as_posix()
            path.write_bytes(b"x")
        try:
            found = " ".join(fault.path for fault in verify(copy))
        except StoreError as error:
            found = str(error)
        assert name in found, (kind, name)
        if kind == "add":
            path.unlink()
        else:
            path.write_bytes(whole)
    assert verify(copy) == []


def test_footprints_left_out_are_named_without_their_folder(built, tmp_path):
    """The same exclusion file in two places gives the same store; another content, another store."""
    lon, lat = pd.read_parquet(built / "samples.parquet").loc[0, ["lon", "lat"]]
    digests = []
    for name, side in (("one", 0.001), ("two", 0.001), ("three", 0.5)):
        ring = [[lon, lat], [lon + side, lat], [lon + side, lat + side], [lon, lat + side], [lon, lat]]
        area = tmp_path / name / "benchmarks.geojson"
        area.parent.mkdir()
        area.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
        config = changed(split={"exclude_footprints": str(area)})
        summary = build(request(tmp_path / f"out-{name}", config=config), Silence())
        assert summary.facts["rejected_by_reason"]["benchmark_footprint"] > 0
        assert "benchmarks.geojson" in (tmp_path / f"out-{name}/provenance/config.toml").read_text()
        assert str(tmp_path) not in (tmp_path / f"out-{name}/provenance/config.toml").read_text()
        digests.append(tree_digest(tmp_path / f"out-{name}"))
    assert digests[0] == digests[1] != digests[2]


def test_names_of_places_stay_out_of_a_store(built, small_build):
    """No absolute path of the output, the checkout or the home folder in any payload file."""
    canaries = [str(small_build.parent), str(ROOT), str(Path.home() / "")]
    for name in payload_files(built):
        content = (built / name).read_bytes()
        for canary in canaries:
            assert canary.encode() not in content, (name, canary)


@pytest.mark.parametrize("kills", [1, *campaign(2)])
def test_killed_worker_loses_nothing(tmp_path, built, kills):
    """On a small scale: a worker dies in the middle of the build; the bytes are the same."""
    program = (
        "import os, signal, sys, threading, time, pathlib\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "import psutil\n"
        "from support.crash_runner import SMALL_BUILD, Silence\n"
        "from sar1m.building import BuildRequest, build\n"
        "from sar1m.config import parse_config\n"
        "from sar1m.flow import WorkersSettings\n"
        "def kill():\n"
        "    deadline, killed = time.monotonic() + 300, 0\n"
        "    staging = pathlib.Path(sys.argv[1]) / 'staging'\n"
        "    while time.monotonic() < deadline and killed < int(sys.argv[3]):\n"
        "        staged = len(list(staging.glob('*/??/*.zip')))\n"
        "        try:\n"
        "            children = psutil.Process().children(recursive=True)\n"
        "            workers = [p for p in children if 'spawn_main' in ' '.join(p.cmdline())]\n"
        "        except psutil.Error: continue\n"
        "        if staged > killed and workers:\n"
        "            workers[0].send_signal(signal.SIGKILL); killed += 1\n"
        "        time.sleep(0.01)\n"
        "    print('killed', killed)\n"
        "if __name__ == '__main__':\n"
        "    thread = threading.Thread(target=kill); thread.start()\n"
        "    config = parse_config(SMALL_BUILD, origin='small')\n"
        "    build(BuildRequest(region='simulated:4', out=pathlib.Path(sys.argv[1]), config=config,\n"
        "          workers=WorkersSettings(workers=2)), Silence())\n"
        "    thread.join()\n"
    )
    script = tmp_path / "killer.py"
    script.write_text(program)
    command = [sys.executable, script, tmp_path / "out", ROOT / "tests", str(kills)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=STUCK_S)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "killed 0" not in done.stdout
    assert "killed" in done.stdout
    assert tree_digest(tmp_path / "out") == tree_digest(built)
