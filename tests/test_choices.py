"""Several choices, runs and folders on one output: nothing stale, nothing lost, nothing done twice."""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sar1m import building
from sar1m.building import BuildRequest, build, refilter, without_folders
from sar1m.config import parse_config, resolve_config
from sar1m.flow import Workers, WorkersSettings
from sar1m.sources.simulated import SimulatedSource
from sar1m.stages import staged_table
from sar1m.store.durable import remove_tree
from sar1m.store.errors import RegionError, SourceError, StoreError
from sar1m.store.seal import payload_files, verify
from support.crash_runner import SMALL_BUILD, Silence, run_build, tree_digest
from support.folders import write_modalities

CONFIG = parse_config(SMALL_BUILD, origin="small")
HERE = WorkersSettings(workers=0)


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours catches it."""


def kill(*_arguments):
    raise Killed


def request(out, *, region="simulated:4", config=CONFIG, workers=HERE):
    return BuildRequest(region=region, out=out, config=config, workers=workers)


def with_cloud(max_cloud_frac):
    screening = CONFIG.screening.model_copy(update={"max_cloud_frac": max_cloud_frac})
    return CONFIG.model_copy(update={"screening": screening})


def seal_only(out, config, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(building, "install", kill)
        with pytest.raises(Killed):
            refilter(out, config, HERE, Silence())


@pytest.mark.parametrize("removals", [1, 2])
def test_pack_of_another_choice_that_is_half_removed_is_not_believed(tmp_path, monkeypatch, small_build, removals):
    """Sealed under one choice, killed while a second choice cleared it away, then the first choice again."""
    shutil.copytree(small_build, tmp_path, dirs_exist_ok=True)
    seal_only(tmp_path, with_cloud(0.0), monkeypatch)
    left = removals

    def remove(path):
        nonlocal left
        if path.parent.name == "pack":
            left -= 1
            if left < 0:
                raise Killed
        remove_tree(path)

    with monkeypatch.context() as patch:
        patch.setattr("sar1m.store.outputs.folder.remove_tree", remove)
        with pytest.raises(Killed):
            refilter(tmp_path, with_cloud(0.05), HERE, Silence())
    refilter(tmp_path, with_cloud(0.0), HERE, Silence())
    assert verify(tmp_path) == []
    build(request(tmp_path / "whole", config=with_cloud(0.0)), Silence())
    assert tree_digest(tmp_path / "whole") == tree_digest_of_store(tmp_path)


def tree_digest_of_store(out):
    """tree_digest of an output folder that holds another one of ours, named whole."""
    (out / "whole").rename(out.with_name(out.name + "-whole"))
    return tree_digest(out)


def test_store_is_not_called_complete_where_packed_files_went_missing(tmp_path, monkeypatch, small_build):
    with monkeypatch.context() as patch:
        patch.setattr(building, "install", kill)
        with pytest.raises(Killed):
            run_build(tmp_path)
    next((tmp_path / "staging/pack").rglob("sar/c/0/0/0/0")).unlink()
    with pytest.raises(StoreError, match="went missing while the store was installed"):
        run_build(tmp_path)
    assert not (tmp_path / "BUILD_COMPLETE.json").exists()
    run_build(tmp_path)
    assert tree_digest(tmp_path) == tree_digest(small_build)


def test_items_that_fail_again_pack_nothing_anew(tmp_path, monkeypatch):
    read = SimulatedSource.read
    broken = next(iter(SimulatedSource(4).candidates(CONFIG))).item_id

    def failing(self, candidate, config):
        if candidate.item_id == broken:
            raise SourceError(cause)
        return read(self, candidate, config)

    monkeypatch.setattr(SimulatedSource, "read", failing)
    cause = "no pixels"
    build(request(tmp_path), Silence())
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in payload_files(tmp_path)}
    summary = build(request(tmp_path), Silence())
    assert [item.item_id for item in summary.failed] == [broken]
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in payload_files(tmp_path)} == before
    cause = "no file"  # what is said of the failure is part of the store
    build(request(tmp_path), Silence())
    assert pd.read_parquet(tmp_path / "failed.parquet")["cause"].tolist() == ["no file"]


def test_refilter_names_a_missing_block_and_the_remedy_and_keeps_the_store(tmp_path, small_build):
    shutil.copytree(small_build, tmp_path, dirs_exist_ok=True)
    next(iter(sorted((tmp_path / "staging").glob("*/??/*.zip")))).unlink()
    with pytest.raises(StoreError, match=r"this staged block is missing\. Run the build again"):
        refilter(tmp_path, with_cloud(0.0), HERE, Silence())
    assert verify(tmp_path) == []


def test_footprints_left_out_stay_so_where_their_file_is_gone(small_build, tmp_path, monkeypatch):
    lon, lat = pd.read_parquet(small_build / "samples.parquet").loc[0, ["lon", "lat"]]
    ring = [[lon, lat], [lon + 0.1, lat], [lon + 0.1, lat + 0.1], [lon, lat + 0.1], [lon, lat]]
    (tmp_path / "config.toml").write_text(SMALL_BUILD.replace("[split]", '[split]\nexclude_footprints = "sites.json"'))
    (tmp_path / "sites.json").write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    config = resolve_config(str(tmp_path / "config.toml"), [])
    out = tmp_path / "out"
    first = build(request(out, config=config), Silence()).facts
    assert first["rejected_by_reason"]["benchmark_footprint"] > 0
    (tmp_path / "sites.json").unlink()
    former = str(out / "provenance/config.toml")
    assert refilter(out, resolve_config(former, []), HERE, Silence()).nothing_to_do
    changed = refilter(out, resolve_config(former, ["screening.max_cloud_frac=0.0"]), HERE, Silence()).facts
    assert changed["rejected_by_reason"]["benchmark_footprint"] == first["rejected_by_reason"]["benchmark_footprint"]
    assert verify(out) == []


def test_footprints_that_cannot_be_read_stop_a_build_before_its_first_block(tmp_path):
    split = CONFIG.split.model_copy(update={"exclude_footprints": str(tmp_path / "none.geojson")})
    with pytest.raises(RegionError, match=r"none\.geojson: no such file"):
        build(request(tmp_path / "out", config=CONFIG.model_copy(update={"split": split})), Silence())
    assert not (tmp_path / "out").exists()


def test_corrected_description_reaches_the_store(tmp_path):
    """Labels and rights stand in no raster; changing them is a change of the inputs all the same."""
    names = ("a", "b")
    write_modalities(tmp_path / "scenes", np.random.default_rng(3), names)
    (tmp_path / "scenes/S2L2A").rename(tmp_path / "scenes/unused")
    (tmp_path / "scenes/S2RGB").rename(tmp_path / "scenes/unused2")
    config = resolve_config("chips", ["grid.patch_px=64", "grid.halo_px=8", "balance.max_unpaired_share=1.0"])
    for attribution in ("", "Contains modified Copernicus data"):
        lines = ["pair,kind,path,bands,unit,quantity,attribution"]
        lines += [f"{name},sar,S1RTC/{name}.tif,VV VH,db,gamma0,{attribution}" for name in names]
        (tmp_path / "scenes/scenes.csv").write_text("\n".join(lines))
        build(request(tmp_path / "out", region=f"folder:{tmp_path}/scenes", config=config), Silence())
        tables = [pd.read_parquet(tmp_path / "out" / f"{name}.parquet") for name in ("samples", "rejected")]
        assert set(pd.concat(tables)["attribution"]) == {attribution}


def test_folders_with_blanks_leave_no_trace_in_causes():
    home = Path("/data/Jane Doe/my scenes")
    cause = "/data/Jane Doe/my scenes/S1/a b.tif: unreadable; /opt/lib/x.so; https://a.org/b/c; 3/4 of it"
    assert without_folders(cause, [home]) == "S1/a b.tif: unreadable; x.so; https://a.org/b/c; 3/4 of it"


def test_workers_that_run_in_another_folder_write_to_the_same_output(tmp_path, monkeypatch, small_build):
    with Workers(WorkersSettings(workers=1)) as cluster:  # its worker runs where it was started
        monkeypatch.chdir(tmp_path)
        elsewhere = WorkersSettings(scheduler=cluster._cluster.client.scheduler.address)
        build(request(Path("out"), workers=elsewhere), Silence())
    assert tree_digest(tmp_path / "out") == tree_digest(small_build)


class Counting:
    """A Watch that compares the steps of each stage with what was announced."""

    def __init__(self):
        self.announced, self.done = {}, {}

    def stage(self, title, total):
        self.announced[title], self.done[title] = total, 0
        return nullcontext(lambda: self.done.update({title: self.done[title] + 1}))

    def note(self, text):
        pass


def test_progress_ends_where_it_was_announced_and_batches_change_no_byte(tmp_path, monkeypatch, small_build):
    monkeypatch.setattr(staged_table, "BLOCKS_A_BATCH", 3)
    watch = Counting()
    build(request(tmp_path), watch)
    assert watch.announced["pack shards"] > 2
    assert watch.done == watch.announced
    assert tree_digest(tmp_path) == tree_digest(small_build)
