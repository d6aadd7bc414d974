"""Workers with other code, or without sight of the output, are refused by name before they work on anything."""

import shutil

import pytest

from sar1m.building import BuildRequest, build
from sar1m.config import parse_config
from sar1m.flow import WorkersSettings
from sar1m.sources.simulated import SimulatedSource
from sar1m.stages.deciding import STAGES, code_of, code_of_blocks, code_of_store, showing_proof
from sar1m.store.errors import WorkersError
from sar1m.store.outputs.folder import FolderOutput
from support.campaigns import campaign
from support.crash_runner import REGION, SMALL_BUILD, Silence, run_build, tree_digest
from support.dask_processes import DaskProcesses
from support.hang_guard import STUCK_S
from support.paths import ROOT

PIPELINE = ROOT / "pipeline"


def copy_of_the_code(folder, changed, former, new):
    """The pipeline with one text of one module replaced."""
    for name in ("sar1m", "sarworld"):
        shutil.copytree(PIPELINE / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / changed
    text = path.read_text()
    assert text.count(former) == 1
    path.write_text(text.replace(former, new))
    return folder


def build_with(dask, out):
    settings = WorkersSettings(scheduler=dask.address, patience_s=STUCK_S)
    config = parse_config(SMALL_BUILD, origin="small")
    build(BuildRequest(region=REGION, out=out, config=config, workers=settings), Silence())


def test_worker_with_changed_code_of_the_same_version_is_refused_by_name(tmp_path):
    floor = "SAR_FLOOR_DB / 10))"
    other = copy_of_the_code(tmp_path / "other", "sar1m/stages/prepare.py", floor, "SAR_FLOOR_DB / 10)) * 2")
    named = r"tcp://127.0.0.1:\d+ has other code or libraries .*: sar1m\.stages\.prepare\. Install the same"
    with DaskProcesses(other).start() as dask, pytest.raises(WorkersError, match=named):
        build_with(dask, tmp_path / "out")
    assert not list((tmp_path / "out/staging").glob("*/*/*.zip"))
    assert not list((tmp_path / "out").rglob("note-*"))


@pytest.mark.campaign
def test_worker_whose_docstrings_differ_gives_the_same_bytes(tmp_path):
    docstring = '"""Phase 1 for one work item:'
    other = copy_of_the_code(tmp_path / "other", "sar1m/stages/prepare.py", docstring, '"""Phase one of one work item:')
    run_build(tmp_path / "alone")
    with DaskProcesses(other).start() as dask:
        build_with(dask, tmp_path / "out")
    assert tree_digest(tmp_path / "out") == tree_digest(tmp_path / "alone")


@pytest.mark.parametrize("sight", ["blind", *campaign("other disk")])
def test_worker_that_does_not_see_the_output_is_refused_by_name(sight, tmp_path):
    """The worker's open() of the note fails, or opens another file, as under another disk of the same path."""
    (tmp_path / "blind").mkdir()
    (tmp_path / "blind/sitecustomize.py").write_text(
        "import pathlib\n"
        "opened = pathlib.Path.open\n"
        "def blind(self, *given, **named):\n"
        "    if not self.name.startswith('note-'):\n"
        "        return opened(self, *given, **named)\n"
        + (
            "    return opened(pathlib.Path(__file__), 'rb')\n"
            if sight == "other disk"
            else "    raise FileNotFoundError(2, 'No such file')\n"
        )
        + "pathlib.Path.open = blind\n"
    )
    named = r"tcp://127.0.0.1:\d+ (does not share the output folder|sees another disk)"
    with DaskProcesses(tmp_path / "blind").start() as dask, pytest.raises(WorkersError, match=named):
        build_with(dask, tmp_path / "out")
    assert not list((tmp_path / "out/staging").glob("*/*/*.zip"))


def test_code_is_told_apart_by_what_runs_not_by_what_is_said_of_it(tmp_path, monkeypatch):
    """The digest follows imports into functions, stops at type checking, and leaves out comments and docstrings."""

    def digest_of(**sources):
        package = tmp_path / "sarworld"
        shutil.rmtree(package, ignore_errors=True)
        package.mkdir()
        for name, text in {"__init__": "", "other": "", **sources}.items():
            (package / f"{name}.py").write_text(text)
        return code_of(["sarworld.a"])

    monkeypatch.setattr("sar1m.stages.deciding._root_of", lambda _top: tmp_path / "sarworld")
    plain = digest_of(a="import numpy\ndef f():\n    from sarworld import other\n    return 1\n")
    assert plain.modules.keys() == {"sarworld", "sarworld.a", "sarworld.other"}
    worded = (
        '"""What."""\n'
        'import numpy  # arrays\ndef f():\n    """Other."""\n    from sarworld import other\n\n    return 1\n'
    )
    assert not plain.differences(digest_of(a=worded))
    assert plain.differences(digest_of(a=worded.replace("return 1", "return 2"))) == ["sarworld.a"]
    assert plain.differences(digest_of(a=worded, other="X = 1\n")) == ["sarworld.other"]
    hint = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from sarworld.other import X\n"
    assert digest_of(a=hint).modules.keys() == {"sarworld", "sarworld.a"}


def test_code_covers_numerics_and_the_source_and_no_more():
    modules = code_of_store(code_of_blocks(SimulatedSource(2))).modules
    assert {"sar1m.core.registration", "sar1m.store.chunks", "sar1m.sources.simulated", "sarworld.world"} <= set(
        modules
    )
    assert not [name for name in modules if name.startswith(("sar1m.releases", "sar1m.flow", "sar1m.cli", "sarmae"))]


def test_a_proof_names_libraries_and_code_loaded_before_it_changed(tmp_path, monkeypatch):
    with showing_proof(STAGES, FolderOutput(tmp_path)) as proof:
        assert proof.complaint() == ""
        monkeypatch.setattr("sar1m.stages.deciding.version", lambda name: "0.1" if name == "numpy" else "1")
        assert "numpy 0.1 for " in proof.complaint()
        monkeypatch.undo()
        monkeypatch.setattr("sar1m.stages.deciding._LOADED", 0.0)
        assert proof.complaint().startswith("runs older code than its files hold: sar1m")
    assert "does not share the output folder" in _complaint_without_note(proof, monkeypatch)


def _complaint_without_note(proof, monkeypatch):
    monkeypatch.undo()
    return proof.complaint()
