"""Staged blocks and stores are bound to the code that made them: blocks of other code are not used, and named."""

import json
import shutil

import pytest

from sar1m import building
from sar1m.building import BuildRequest, build, refilter
from sar1m.config import parse_config
from sar1m.flow import WorkersSettings
from sar1m.sources.simulated import SimulatedSource
from sar1m.stages import deciding
from sar1m.stages.deciding import Code, code_of, code_of_blocks
from sar1m.store.errors import ConfigError
from sar1m.store.seal import read_marker, verify
from support.crash_runner import REGION, SMALL_BUILD, Silence, tree_digest

CONFIG = parse_config(SMALL_BUILD, origin="small")
HERE = WorkersSettings(workers=0)
PREPARE = "sar1m.stages.prepare"


class Notes(Silence):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def other_code(monkeypatch):
    """The preparation does something else from now on, as far as its digest says."""

    def changed(source):
        found = former(source)
        return found._replace(digest="0" * 16) if b"def prepare_item" in source else found

    former = deciding._parse
    return lambda: monkeypatch.setattr(deciding, "_parse", changed)


def blocks(out):
    return {path.parts[-3]: path.read_bytes() for path in (out / "staging").glob("*/??/*.zip")}


def build_in(out, watch):
    return build(BuildRequest(region=REGION, out=out, config=CONFIG, workers=HERE), watch)


def test_blocks_of_other_code_are_named_and_never_used(small_build, tmp_path, other_code, monkeypatch):
    shutil.copytree(small_build, tmp_path, dirs_exist_ok=True)
    before, marker, tree = set(blocks(tmp_path)), read_marker(tmp_path), tree_digest(tmp_path)
    other_code()
    with pytest.raises(ConfigError, match=r"staged by other code than this \(sar1m\.stages\.prepare\)"):
        refilter(tmp_path, CONFIG, HERE, Silence())
    watch = Notes()
    with monkeypatch.context() as patch:
        patch.setattr(building, "_finish", interrupted)
        with pytest.raises(RuntimeError, match="interrupted"):
            build_in(tmp_path, watch)
    assert any("staged by other code (sar1m.stages.prepare) are not used" in note for note in watch.notes)
    assert len(set(blocks(tmp_path))) == 2, "who goes back to the former code finds its blocks again"
    summary = build_in(tmp_path, watch)
    assert (summary.prepared, summary.reused) == (0, 4)
    assert set(blocks(tmp_path)).isdisjoint(before)
    assert summary.facts["plan"] == marker["plan"], (
        "content keys, and so the order of samples, do not depend on the code"
    )
    assert summary.facts["code"] != marker["code"]
    assert verify(tmp_path) == []
    assert tree_digest(tmp_path) != tree, "the store says what made it"


def interrupted(*_arguments):
    raise RuntimeError("interrupted")


def test_a_store_lists_the_code_that_made_it(small_build):
    listed = json.loads((small_build / deciding.CODE_FILE).read_text())
    code = Code.from_json(listed)
    assert listed["digest"] == code.digest == read_marker(small_build)["code"]
    assert code.differences(code_of(code.roots)) == []
    assert listed["modules"].keys() >= {PREPARE, "sar1m.stages.choose", "sarworld.world"}
    assert listed["libraries"].keys() >= {"python", "numpy", "zarr"}


def test_what_chooses_does_not_decide_blocks():
    modules = code_of_blocks(SimulatedSource(2)).modules
    assert PREPARE in modules
    assert "sar1m.core.balance" not in modules
