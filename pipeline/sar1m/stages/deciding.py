"""The code and the libraries that decide bytes, told apart by digests.

The version string of a package says what its author meant; a digest says what runs. It covers the import closure of the
stages that make pixels, rows and shards, and of the source that reads the scenes. Comments and docstrings are left out,
so that rewording them changes nothing.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.util
import secrets
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from sar1m.store.durable import PARTIAL_SUFFIX
from sar1m.store.errors import OutputError, StoreError
from sar1m.store.outputs.output import Output

BYTE_DECIDING: Final = (
    *("numpy", "scipy", "numba", "zarr", "numcodecs", "rasterio", "pyproj", "pyarrow", "pandas", "shapely"),
    *("pillow", "jinja2"),
)
STAGES: Final = tuple(f"sar1m.stages.{name}" for name in ("prepare", "choose", "pack"))
_OURS: Final = ("sar1m", "sarworld")
_LOADED: Final = time.time()  # files that change later are not what runs in this process
_NOTE_BYTES: Final = 1000  # more than a note holds
_NAMED: Final = 5  # of what differs; more hides the first


@dataclass(frozen=True, kw_only=True)
class Code:
    """modules: digest by name; libraries: version by name, with Python's own."""

    modules: Mapping[str, str]
    libraries: Mapping[str, str]

    def differences(self, other: Code) -> list[str]:
        """What the other has that this has not, or has in another version; one text each, sorted."""
        found = [name for name in self.modules.keys() | other.modules.keys() if not _same(self, other, name)]
        libraries = [
            f"{name} {other.libraries.get(name, 'missing')} for {self.libraries.get(name, 'none')}"
            for name in self.libraries.keys() | other.libraries.keys()
            if self.libraries.get(name) != other.libraries.get(name)
        ]
        return [*sorted(found), *sorted(libraries)]


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What a worker has to show before its first item: this code, and this note in the output. It pickles.

    roots: modules whose import closure code covers. note: a file in the output, holding nonce.
    """

    roots: tuple[str, ...]
    code: Code
    out: Output
    note: str
    nonce: str

    def complaint(self) -> str:
        """Why this process must not work for the build; empty where it may."""
        found = self.code.differences(code_of(self.roots))
        if found:
            shown = ", ".join(found[:_NAMED]) + (f" and {len(found) - _NAMED} more" if len(found) > _NAMED else "")
            return f"has other code or libraries than the command that started the build: {shown}. Install the same"
        stale = [name for name in self.code.modules if name in sys.modules and _path(name).stat().st_ctime > _LOADED]
        if stale:
            return f"runs older code than its files hold: {', '.join(stale[:_NAMED])} changed since. Start it again"
        return _blindness(self.out, self.note, self.nonce)


def _same(one: Code, other: Code, name: str) -> bool:
    return one.modules.get(name) == other.modules.get(name)


def _blindness(out: Output, note: str, nonce: str) -> str:
    """Why a process does not share the output; empty where it does."""
    own = f"{note.rpartition('/')[0]}/{secrets.token_hex(8)}{PARTIAL_SUFFIX}"
    try:
        seen = out.read(note, max_bytes=_NOTE_BYTES)
        out.write(own, [nonce.encode()])
        out.remove(own)
    except (StoreError, OutputError) as error:
        return f"does not share the output folder ({error}). Mount it there under this very path"
    return "" if seen == nonce.encode() else f"sees another disk under {out.location}. Mount the output folder there"


@contextlib.contextmanager
def showing_proof(roots: Iterable[str], out: Output) -> Iterator[Proof]:
    """The proof to ask of every worker of a build, whose note lies in the output inside the context.

    Raises OutputError where it cannot be written.
    """
    named, nonce = tuple(roots), secrets.token_hex(16)
    note = f"build-log/note-{nonce[:8]}{PARTIAL_SUFFIX}"  # goes with the partials, should the build be killed
    out.write(note, [nonce.encode()])
    try:
        yield Proof(roots=named, code=code_of(named), out=out, note=note, nonce=nonce)
    finally:
        out.remove(note)


def roots_of(source: object) -> tuple[str, ...]:
    """The stages, and the modules of the classes that a source is made of."""
    return (*STAGES, *sorted(set(_class_modules(source))))


def _class_modules(value: object, depth: int = 3) -> Iterator[str]:
    module = type(value).__module__
    if module.partition(".")[0] in _OURS and depth:
        yield module
        for part in getattr(value, "__dict__", {}).values():
            yield from _class_modules(part, depth - 1)


def code_of(roots: Iterable[str]) -> Code:
    """Digests of the import closure of modules, read from their files, and the versions of the libraries."""
    modules: dict[str, str] = {}
    left = [one for root in roots for one in _with_packages(root)]
    while left:
        name = left.pop()
        if name not in modules:
            tree = ast.parse(_path(name).read_bytes())
            modules[name] = _digest(tree)
            left += [one for one in _imported(tree) if one not in modules]
    libraries = {"python": ".".join(map(str, sys.version_info[:2]))}
    for library in BYTE_DECIDING:
        try:
            libraries[library] = version(library)
        except PackageNotFoundError:
            libraries[library] = "missing"
    return Code(modules=modules, libraries=libraries)


def _path(name: str) -> Path:
    found = _find(name)
    if found is None:
        raise RuntimeError(f"{name}: no module of that name")
    return found


def _find(name: str) -> Path | None:
    """The source file of one of our modules; None where there is none of that name. It is not imported."""
    top, *inner = name.split(".")
    place = _root_of(top).joinpath(*inner)
    if (place / "__init__.py").is_file():
        return place / "__init__.py"
    return place.with_suffix(".py") if inner and place.with_suffix(".py").is_file() else None


def _root_of(top: str) -> Path:
    """The folder of one of our two packages."""
    spec = importlib.util.find_spec(top)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"{top}: is not installed as files")
    return Path(spec.origin).parent


def _digest(tree: ast.Module) -> str:
    """blake2b-64 of a module without comments and docstrings. Takes the docstrings out of the tree."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                del node.body[0]
    return hashlib.blake2b(ast.dump(tree).encode(), digest_size=8).hexdigest()


def _imported(tree: ast.AST) -> Iterator[str]:
    """Our modules that a module imports anywhere but for type checking, with the packages they lie in."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.partition(".")[0] in _OURS:
                yield from (one for one in _with_packages(name) if _find(one) is not None)
        yield from _imported(node)


def _with_packages(name: str) -> list[str]:
    """A dotted name, after the packages that it lies in."""
    parts = name.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]
