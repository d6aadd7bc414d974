"""The contract's room and the trainer's stream: no import circles, and nothing heavy is loaded to open a place."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from support.paths import ROOT

ROOMS = {"sar1m.store": ROOT / "pipeline", "sarmae.stream": ROOT / "training"}


def modules(room):
    root = ROOMS[room]
    paths = (root / room.replace(".", "/")).rglob("*.py")
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imported(path: Path, known):
    """Modules of the room that a module imports anywhere: at its top, in functions, for types."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from {node.module, *(f"{node.module}.{name.name}" for name in node.names)} & known
        elif isinstance(node, ast.Import):
            yield from {name.name for name in node.names} & known


def arrows(room):
    known = modules(room)
    return {name: set(imported(path, known.keys())) - {name} for name, path in known.items()}


@pytest.mark.parametrize("room", ROOMS)
def test_no_module_imports_itself_by_way_of_others(room):
    found = arrows(room)
    assert sum(map(len, found.values())) > 10
    TopologicalSorter(found).prepare()


def test_a_circle_would_be_found():
    with pytest.raises(CycleError):
        TopologicalSorter(arrows("sar1m.store") | {"sar1m.store.errors": {"sar1m.store.cache.place"}}).prepare()


HEAVY = ("obstore", "pydantic", "zarr", "rasterio", "torch", "pyarrow", "huggingface_hub", "numcodecs")


def test_opening_a_place_loads_neither_the_clients_nor_anything_heavy(tmp_path):
    program = (
        "import sys\n"
        "from sar1m.store.cache.bound import CacheConfig\n"
        "from sar1m.store.cache.place import open_cached\n"
        "from sar1m.store.places.opening import open_place\n"
        "from sar1m.store.seal import read_seal\n"
        "from pathlib import Path\n"
        f"open_place({str(tmp_path)!r}); open_place('gs://bucket/prefix')\n"
        f"open_cached('s3://bucket/prefix', CacheConfig(root=Path({str(tmp_path)!r}), max_bytes=10**9))\n"
        f"print([name for name in {HEAVY} if name in sys.modules])\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
