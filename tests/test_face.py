"""The public faces, `import sar1m` and `import sarmae`: light, complete, not hidden by a module of the same name."""

import ast
import importlib
import json
import pkgutil
import subprocess
import sys

import pytest

import sar1m
import sarmae
from support.paths import ROOT

FACES = {
    "sar1m": ("audit_pairs", "build", "open", "plan", "release", "verify"),
    "sarmae": ("LoaderSettings", "ShardLoader", "load_encoder", "pretrain"),
}
HEAVY = {
    "dask",
    "distributed",
    "rasterio",
    "geopandas",
    "pandas",
    "pyarrow",
    "zarr",
    "xarray",
    "scipy",
    "numba",
    "torch",
}
ENTRANCES = ("sar1m", "sarmae", "sar1m.cli", "sarmae.cli", "sar1m.store.schema")


def modules_after(program):
    """Top-level packages that a fresh process has loaded after a program."""
    program += "\nimport json, sys\nprint(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("module", ENTRANCES)
def test_an_import_loads_no_heavy_library(module):
    assert modules_after(f"import {module}") & HEAVY == set()


@pytest.mark.parametrize("module", ["sar1m", "sarmae"])
@pytest.mark.parametrize("option", ["--version", "--help"])
def test_version_and_help_load_no_heavy_library(module, option):
    program = (
        f"import sys; from {module}.__main__ import main\n"
        f"sys.argv = [{module!r}, {option!r}]\ntry: main()\nexcept SystemExit: pass"
    )
    assert modules_after(program) & HEAVY == set()


@pytest.mark.parametrize("package", [sar1m, sarmae], ids=lambda package: package.__name__)
def test_no_module_hides_a_function_of_the_face(package):
    """Importing a submodule sets it as an attribute of its package: a function of that name would be gone."""
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if found.name.split(".")[-1] != "__main__" and found.name != "sarmae.data.stream":
            importlib.import_module(found.name)
    for name in FACES[package.__name__]:
        assert callable(getattr(package, name)), name
        assert name in dir(package)


def test_an_unknown_name_is_an_attribute_error():
    for package in (sar1m, sarmae):
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            package.nothing  # noqa: B018


@pytest.mark.parametrize("top", ["pipeline/sar1m", "pipeline/sarworld", "training/sarmae"])
def test_a_public_function_and_a_module_beside_it_never_share_a_name(top):
    shared = []
    for package in sorted(path.parent for path in (ROOT / top).rglob("__init__.py")):
        public = {name for name in names_in(package / "__init__.py") if not name.startswith("_")}
        beside = {path.stem for path in package.glob("*.py")} | {
            path.parent.name for path in package.glob("*/__init__.py")
        }
        shared += [f"{package.relative_to(ROOT)}: {name}" for name in sorted(public & beside)]
    assert shared == []


def names_in(path):
    """What a module defines or imports at its top level, for type checkers too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)


def test_a_build_is_opened_verified_and_released(tmp_path):
    """The whole face on the simulated world, without the command line."""
    out = tmp_path / "store"
    planned = sar1m.plan("simulated:4", out)
    summary = sar1m.build("simulated:4", out, workers=0)
    assert planned.work_items == summary.prepared == 4
    store = sar1m.open(out)
    samples = store.samples()
    assert len(samples) == store.facts["counts"]["accepted"] > 0
    train = store.split("train")
    assert train.sar.dims == ("sample", "pol", "y", "x")
    assert train.sizes["sample"] == (samples["split"] == "train").sum()
    assert sar1m.verify(out) == []
    made = sar1m.release([out], "0.1.0", tmp_path / "release")
    assert sar1m.open(made.root).facts["counts"]["accepted"] == len(samples)
    (out / "samples.parquet").write_bytes(b"damaged")
    assert [fault.path for fault in sar1m.verify(out)] == ["samples.parquet"]
    with pytest.raises(sar1m.store.errors.ConfigError, match="has no split 'nowhere'"):
        store.split("nowhere")
