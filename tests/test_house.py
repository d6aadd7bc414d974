"""The rules of the house, checked: what documents name exists, what should stay small is small, nobody's home shows."""

import ast
import functools
import re
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import sar1m
from sar1m.store.schema import SCRATCH_DIRS
from sar1m.store.table_columns import CANDIDATE_COLUMNS, FAILED_COLUMNS, REJECTED_COLUMNS, SAMPLE_COLUMNS
from support.paths import ROOT

PACKAGES = (ROOT / "pipeline/sar1m", ROOT / "pipeline/sarworld", ROOT / "training/sarmae")
SOURCES = sorted(path for package in PACKAGES for path in package.rglob("*.py"))
TESTS = sorted(path for path in (ROOT / "tests").rglob("*.py") if "benchmarks" not in path.parts)
STORE_NAMES = re.compile(r"(data|stats|provenance|report|build|staging|cache|build-log)/|.*\.parquet|\.venv/")
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_MEDIAN, MAX_P95 = 400, 60, 10, 50
MAX_ARGUMENTS = 8
MAX_TRACKED_BYTES = 2**20
HEAVY = ("dask", "distributed", "rasterio", "geopandas", "pyarrow", "zarr", "shapely", "torch", "pydantic", "scipy")


@functools.cache
def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def tracked_files():
    """What git knows or would take, as far as it is there."""
    listing = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        found = subprocess.run(listing, capture_output=True, check=True).stdout.decode()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no git checkout here: {error}")
    return [ROOT / name for name in sorted(set(found.split("\0")) - {""}) if (ROOT / name).is_file()]


def test_the_census_is_about_something():
    assert len(SOURCES) > 50
    assert len(functions()) > 300


# ---- documents ----


def named_paths(document):
    """Back-quoted words that look like a path in the repository; names inside a store or an output folder are not."""
    text = re.sub(r"^```.*?^```", "", (ROOT / document).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    words = re.findall(r"`([^`\n]+)`", text) + re.findall(r"\]\(([^)#:]+)\)", text)
    looks = re.compile(r"[\w.-]+(/[\w.-]+)*/?")
    paths = [word for word in words if looks.fullmatch(word) and ("/" in word or re.search(r"\.[a-z]{2,5}$", word))]
    known_to_store = {"BUILD_COMPLETE.json", "manifest-sha256.txt", "croissant.json", "collection.json"}
    return [path for path in paths if not STORE_NAMES.match(path) and path not in known_to_store]


@pytest.mark.parametrize(
    "document", ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md", "dataset_cards/SOURCES.md", "CHANGELOG.md"]
)
def test_every_path_a_document_names_exists(document):
    """From the root, from the package, or, for a bare file name, anywhere in the package or beside a table."""
    present = {path.name for path in SOURCES} | {"scenes.csv"}
    missing = [
        path
        for path in named_paths(document)
        if not ((ROOT / path).exists() or any((package / path).exists() for package in PACKAGES) or path in present)
    ]
    assert missing == []


def test_the_architecture_fits_on_a_page_and_names_every_part():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 80
    assert len(named_paths("ARCHITECTURE.md")) > 15
    parts = [path for package in PACKAGES for path in (package.iterdir() if package.name != "sarworld" else [package])]
    parts = [
        path.relative_to(ROOT).as_posix()
        for path in parts
        if (path / "__init__.py").exists() or (path.suffix == ".py" and not path.name.startswith("__"))
    ]
    assert len(parts) > 25
    assert [name for name in parts if name not in text] == []


def test_the_readme_promises_the_commands_and_codes_there_are():
    from sar1m import cli  # noqa: PLC0415 - pulls in the whole pipeline; the other tests here need none of it

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = {name.replace("-", "_") for name in re.findall(r"`sar1m ([\w-]+)", text)}
    commands = {command.callback.__name__ for command in cli.app.registered_commands}
    assert named <= commands
    assert commands <= named
    codes = (
        "3 finished, but some work items failed (they are named); 4 drift found a change, audit-pairs a pair beyond "
        "the limit or none it could measure, or register no shift; 5 --finish found work items that no share has "
        "prepared (they are named); 75 another build works on the same output; 130"
    )
    for document in (text, cli.__doc__):
        assert codes in " ".join(document.split())


def test_placeholders_are_filled():
    unfilled = [
        path.relative_to(ROOT).as_posix()
        for path in tracked_files()
        if path.suffix == ".md" and re.search(r"@@\w+@@", path.read_text(encoding="utf-8"))
    ]
    assert unfilled == []


def test_versions_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    cited = re.search(r"^version: (\S+)$", citation, re.MULTILINE)
    assert cited is not None
    assert project["version"] == sar1m.__version__ == cited[1]
    assert project["license"] == "Apache-2.0"
    assert "license: Apache-2.0" in citation


def test_the_licence_is_apache():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_make_help_lists_every_target():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony is not None
    shown = subprocess.run(["make", "-C", str(ROOT), "help"], capture_output=True, text=True, check=True).stdout
    listed = re.findall(r"^  make ([\w-]+) +\S", shown, re.MULTILINE)
    rules = re.findall(r"^([a-z][\w-]*):(?!=)", makefile, re.MULTILINE)
    assert sorted(listed) == sorted(rules) == sorted(phony[1].split())
    assert {"build-sar1m", "test", "help"} <= set(listed)


# ---- columns ----


@pytest.mark.parametrize("columns", [CANDIDATE_COLUMNS, SAMPLE_COLUMNS, REJECTED_COLUMNS, FAILED_COLUMNS])
def test_every_column_has_a_description_and_a_name_of_its_own(columns):
    assert all(len(column.description) > 5 for column in columns)
    names = [column.name for column in columns]
    assert len(set(names)) == len(names)
    units = {"_px": "px", "_deg": "deg", "_db": "dB", "_hours": "h", "_frac": "1", "_m": "m"}
    wrong = [c.name for c in columns for ending, unit in units.items() if c.name.endswith(ending) and c.unit != unit]
    assert wrong == []


# ---- imports ----


@pytest.mark.parametrize(
    ("imports", "absent"),
    [
        ("sar1m.store.schema, sar1m.store.errors, sar1m.store.seal", HEAVY),
        ("sar1m.store.shard_index, sar1m.store.array_metadata", HEAVY),
        ("sar1m.records, sar1m.config", ("dask", "distributed", "rasterio", "geopandas", "pyarrow", "zarr", "torch")),
        (
            "sar1m.core.grid, sar1m.core.registration, sar1m.core.select, sar1m.core.quality",
            (
                "dask",
                "distributed",
                "rasterio",
                "geopandas",
                "zarr",
                "torch",
            ),  # its tables bring pandas, pandas pyarrow
        ),
    ],
)
def test_light_parts_stay_light(imports, absent):
    """What import-linter cannot see: what the imported packages themselves drag in."""
    program = f"import sys, {imports}; print(*sorted({{n.split('.')[0] for n in sys.modules}}))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "numpy" in loaded
    assert sorted(set(loaded) & set(absent)) == []


# ---- the census ----


@functools.cache
def functions():
    """(file:line name, lines, arguments, node) of every function of the package."""
    found = []
    for path in SOURCES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                where = f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                found.append((where, lines, arguments(node), node))
    return found


def arguments(node):
    given = node.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    named += [extra for extra in (given.vararg, given.kwarg) if extra is not None]
    return [argument for argument in named if argument.arg not in ("self", "cls")]


def test_files_stay_short():
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: length for name, length in lengths.items() if length > MAX_FILE_LINES} == {}


def test_functions_stay_short():
    lengths = {where: lines for where, lines, _, _ in functions()}
    assert {where: lines for where, lines in lengths.items() if lines > MAX_FUNCTION_LINES} == {}
    assert statistics.median(lengths.values()) <= MAX_MEDIAN
    assert statistics.quantiles(lengths.values(), n=20)[-1] <= MAX_P95


def test_every_function_is_annotated_and_takes_few_arguments():
    bare = [
        where
        for where, _, given, node in functions()
        if node.returns is None or any(argument.annotation is None for argument in given)
    ]
    assert bare == []
    # a command, and the function of the public face that it calls, takes one argument an option
    face = re.compile(r"/(cli/\w+|cli|api|commands)\.py:")
    many = [where for where, _, given, _ in functions() if len(given) > MAX_ARGUMENTS and not face.search(where)]
    assert many == []


def test_no_work_at_import_and_no_prints():
    printing = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "breakpoint")
    ]
    assert printing == []


# ---- the tests ----


WHOLE = "pytest.mark.campaign"


def is_test(node):
    return isinstance(node, ast.FunctionDef) and node.name.startswith("test_")


def test_every_campaign_has_a_representative_in_the_usual_run():
    """A campaign is the rest of a parametrisation of which at least one value bears no mark, or a test beside others of
    its file that bear none."""
    found, alone = 0, []
    for path in TESTS:
        tests = [node for node in ast.walk(tree_of(path)) if is_test(node)]
        usual = [node for node in tests if not any(ast.unparse(one) == WHOLE for one in node.decorator_list)]
        for node in tests:
            for marked in (one for one in node.decorator_list if "campaign" in ast.unparse(one)):
                found += 1
                if ast.unparse(marked) == WHOLE and usual:
                    continue
                values = marked.args[1].elts if isinstance(marked, ast.Call) and len(marked.args) == 2 else ()
                if all(re.search(r"campaign|mark\.long", ast.unparse(value)) for value in values):
                    alone.append(f"{path.relative_to(ROOT)}::{node.name}")
    assert found > 15
    assert alone == []


def test_where_things_lie_is_written_once():
    """The checkout and what stands beside it: support/paths.py."""
    climbing = re.compile(r"Path\(__file__\)[\w.()]*\.parents\[")
    allowed = {ROOT / "tests/support/paths.py", ROOT / "tests/lowest_versions.py"}  # the latter runs without packages
    assert [path.name for path in TESTS if path not in allowed and climbing.search(path.read_text())] == []


def test_profiles_alone_count_examples():
    """conftest.py has the profiles, support/examples.py shares of them."""
    counting = re.compile(r"\b(max_examples|deadline)=")
    allowed = {ROOT / "tests/conftest.py", ROOT / "tests/support/examples.py"}
    assert [path.name for path in TESTS if path not in allowed and counting.search(path.read_text())] == []


# ---- the repository ----


def test_nobodys_home_stands_in_a_file():
    home = re.compile(rb"(?<![\w.])/(?:home|Users)/[\w.-]+|(?<![\w.])/root/[\w.-]+|[A-Z]:\\Users\\")
    found = []
    for path in tracked_files():
        content = path.read_bytes()
        if b"\0" not in content[:8192] and path != Path(__file__).resolve():
            found += [f"{path.relative_to(ROOT)}: {match[0].decode()}" for match in home.finditer(content)]
    assert found == []


def test_nothing_large_and_nothing_built_is_tracked():
    files = tracked_files()
    assert len(files) > 100
    assert [path.relative_to(ROOT).as_posix() for path in files if path.stat().st_size > MAX_TRACKED_BYTES] == []
    top = {path.relative_to(ROOT).parts[0] for path in files}
    assert top.isdisjoint({"build", ".venv", "__pycache__", *SCRATCH_DIRS})


def test_without_the_pipelines_libraries_the_command_says_what_to_install():
    program = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'rasterio': raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "from sar1m.__main__ import main\n"
        "sys.argv = ['sar1m', 'plan', '--region', 'sample']\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "sar1m: rasterio is not installed. Install the pipeline: pip install 'sar1m[pipeline]'\n"
