"""torchvision is repaired where, and only where, its import fails for want of an operator; timm has one door."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import sarmae
from sarmae.timm_door import timm
from sarmae.torchvision_shim import repair_torchvision

# Each case: a torchvision of that kind, laid before the real one; then what the repair did. One process, since each
# start of torch costs seconds; operators stay declared, so the broken one comes last.
CASES = """
import importlib, json, sys
from pathlib import Path
import torch
from sarmae.torchvision_shim import repair_torchvision

def declared():
    return hasattr(torch.ops.torchvision, "nms")

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            raise ModuleNotFoundError("No module named 'torchvision'", name="torchvision")

def attempt(source):
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    Path(sys.argv[1], "torchvision.py").write_text(source)
    importlib.invalidate_caches()
    try:
        acted = repair_torchvision()
    except Exception as error:
        acted = f"{type(error).__name__}: {error}"
    return acted, declared(), "torchvision" in sys.modules

sys.path.insert(0, sys.argv[1])
sys.dont_write_bytecode = True
outcomes = {"sound": attempt("import torch  # all is well")}
outcomes["lacks a module"] = attempt("import a_module_that_is_not_there")
outcomes["other fault"] = attempt("raise RuntimeError('compiled with different CUDA major versions')")
sys.meta_path.insert(0, Absent())
outcomes["absent"] = attempt("")
sys.meta_path.pop(0)
outcomes["broken"] = attempt('''
import torch
@torch.library.register_fake("torchvision::nms")
def shape_of_nms(dets, scores, iou_threshold):
    return dets.new_empty(0)
''')
outcomes["again"] = (repair_torchvision(), declared(), True)
print(json.dumps(outcomes))
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fake")
    paths = os.pathsep.join(path for path in sys.path if path)
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", CASES, str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("sound", [False, False, True]),
        ("absent", [False, False, False]),
        ("lacks a module", ["ModuleNotFoundError: No module named 'a_module_that_is_not_there'", False, False]),
        ("other fault", ["RuntimeError: compiled with different CUDA major versions", False, False]),
        ("broken", [True, True, True]),
        ("again", [False, True, True]),
    ],
)
def test_repair_acts_only_on_a_broken_torchvision(outcomes, kind, expected):
    """Whether it acted (or what it raised), whether the operator is declared, whether torchvision is imported."""
    assert outcomes[kind] == expected


def test_the_door_leaves_torchvision_and_timm_usable():
    assert "torchvision" in sys.modules
    assert repair_torchvision() is False
    assert timm.create_model("resnet10t", num_classes=0).eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 512)


def imported_names(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_no_other_module_imports_timm_or_torchvision():
    behind_the_door = {
        path.name
        for path in Path(sarmae.__file__).parent.rglob("*.py")
        if {"timm", "torchvision"} & {name.split(".")[0] for name in imported_names(path)}
    }
    assert behind_the_door == {"timm_door.py"}
