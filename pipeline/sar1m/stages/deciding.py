"""The code and the libraries that decide bytes, told apart by digests.

The version string of a package says what its author meant; a digest says what runs. It covers the import closure of the
stages that make pixels, rows and shards, and of the source that reads the scenes. Comments and docstrings are left out,
so that rewording them changes nothing.

Two closures count. That of `prepare` and the source decides staged blocks: it names their folder, so that blocks of
other code are never mixed in. With `choose` and `pack` it decides the store: it stands in the completion marker and,
module by module, in provenance/code.json.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.util
import json
import re
import secrets
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, NamedTuple

from sar1m.store.durable import PARTIAL_SUFFIX
from sar1m.store.errors import OutputError, StoreError
from sar1m.store.outputs.output import Output
from sar1m.store.places.place import Place
from sar1m.store.schema import PROVENANCE_DIR
from sar1m.store.side_files import MAX_SIDE_BYTES, json_value

CODE_FILE: Final = f"{PROVENANCE_DIR}/code.json"
_CODE_FILES: Final = re.compile(rf"{PROVENANCE_DIR}/(builds/[0-9a-f]{{16}}/)?code\.json")
BYTE_DECIDING: Final = (
    *("numpy", "scipy", "numba", "zarr", "numcodecs", "rasterio", "pyproj", "pyarrow", "pandas", "shapely"),
    *("pillow", "jinja2"),
)
PREPARE: Final = "sar1m.stages.prepare"
STAGES: Final = (PREPARE, "sar1m.stages.choose", "sar1m.stages.pack")
_IMPORTED_AS: Final = {"pillow": "PIL"}  # libraries whose modules have another name
_OURS: Final = ("sar1m", "sarworld")
_LOADED: Final = time.time()  # files that change later are not what runs in this process
_NOTE_BYTES: Final = 1000  # more than a note holds
_NAMED: Final = 5  # of what differs; more hides the first


@dataclass(frozen=True, kw_only=True)
class Code:
    """roots: the modules whose import closure this is. modules: digest by name, of the whole closure. libraries:
    version by name, of those that the closure imports, and Python's own. All empty: not known."""

    roots: tuple[str, ...] = ()
    modules: Mapping[str, str] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """blake2b-64, hexadecimal, of modules and libraries."""
        text = json.dumps([dict(self.modules), dict(self.libraries)], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """JSON values: what from_json reads, and the digest."""
        parts = {"modules": dict(sorted(self.modules.items())), "libraries": dict(sorted(self.libraries.items()))}
        return {"digest": self.digest, "roots": list(self.roots), **parts}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Code:
        """The code that to_json described. Raises ValueError where it is something else."""
        roots, modules, libraries = (found.get(name) for name in ("roots", "modules", "libraries"))
        if not (isinstance(roots, list) and isinstance(modules, dict) and isinstance(libraries, dict)):
            raise ValueError("no roots, modules and libraries")
        return cls(roots=tuple(map(str, roots)), modules=modules, libraries=libraries)

    def differences(self, other: Code) -> list[str]:
        """What the other has that this has not, or has in another version; one text each, sorted."""
        found = [name for name in self.modules.keys() | other.modules.keys() if not _same(self, other, name)]
        libraries = [
            f"{name} {other.libraries.get(name, 'missing')} for {self.libraries.get(name, 'none')}"
            for name in self.libraries.keys() | other.libraries.keys()
            if self.libraries.get(name) != other.libraries.get(name)
        ]
        return [*sorted(found), *sorted(libraries)]


UNKNOWN_CODE: Final = Code()


class _Parsed(NamedTuple):
    """digest: of what a source file does. imports: the modules it names, ours and others', as far as they may count."""

    digest: str
    imports: tuple[str, ...]


_PARSED: Final[dict[bytes, _Parsed]] = {}  # by blake2b-128 of the file: parsing takes most of the time


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What a worker has to show before its first item: this code, and this note in the output. It pickles.

    note: a file in the output, holding nonce. parsed: what is known of source files by their content; a worker with the
    same files need not parse them.
    """

    code: Code
    parsed: Mapping[bytes, _Parsed]
    out: Output
    note: str
    nonce: str

    def complaint(self) -> str:
        """Why this process must not work for the build; empty where it may."""
        _PARSED.update(self.parsed)
        found = self.code.differences(code_of(self.code.roots))
        if found:
            shown = in_words(found)
            return f"has other code or libraries than the command that started the build: {shown}. Install the same"
        stale = [name for name in self.code.modules if name in sys.modules and _path(name).stat().st_ctime > _LOADED]
        if stale:
            return f"runs older code than its files hold: {', '.join(stale[:_NAMED])} changed since. Start it again"
        return _blindness(self.out, self.note, self.nonce)


def differences_from_here(place: Place, files: Iterable[str]) -> list[str]:
    """What the code and libraries at hand have otherwise than those that made a store: as Code.differences, of all its
    builds; empty where nothing differs or the store, of an earlier schema version, does not say.

    files: names of its files. Raises StoreError where one of its lists of code cannot be read.
    """
    return sorted({text for code in codes_of(place, files) for text in code.differences(code_of(code.roots))})


def codes_of(place: Place, files: Iterable[str]) -> list[Code]:
    """The code that made each build of a store. files: names of its files. Raises StoreError where a list cannot be
    read."""
    return [_listed(place, name) for name in sorted(files) if _CODE_FILES.fullmatch(name)]


def _listed(place: Place, name: str) -> Code:
    try:
        return Code.from_json(json_value(place.read(name, max_bytes=MAX_SIDE_BYTES)))
    except (ValueError, TypeError, AttributeError) as error:
        raise StoreError(f"{place.location}/{name}: {error}. Check the store with `sar1m verify`.") from error


def in_words(differences: list[str]) -> str:
    """The first of what differs, and how many more."""
    more = len(differences) - _NAMED
    return ", ".join(differences[:_NAMED]) + (f" and {more} more" if more > 0 else "")


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
        remote = "://" in out.location
        remedy = "Give its environment credentials and endpoint" if remote else "Mount it there under this very path"
        return f"does not share the output {'' if remote else 'folder '}({error}). {remedy}"
    return "" if seen == nonce.encode() else f"sees another disk under {out.location}. Mount the output folder there"


@contextlib.contextmanager
def showing_proof(roots: Iterable[str], out: Output) -> Iterator[Proof]:
    """The proof to ask of every worker of a build, whose note lies in the output inside the context.

    Raises OutputError where it cannot be written.
    """
    nonce = secrets.token_hex(16)
    note = f"build-log/note-{nonce[:8]}{PARTIAL_SUFFIX}"  # goes with the partials, should the build be killed
    out.write(note, [nonce.encode()])
    try:
        yield Proof(code=code_of(roots), parsed=dict(_PARSED), out=out, note=note, nonce=nonce)
    finally:
        out.remove(note)


def code_of_blocks(source: object) -> Code:
    """What decides staged blocks: the preparation, and the modules of the classes that a source is made of.

    Of a source with a `reader` this is what the reader is made of: the rest says which blocks there are, and stands in
    their keys.
    """
    return code_of((PREPARE, *sorted(set(_class_modules(getattr(source, "reader", source))))))


def code_of_store(blocks: Code) -> Code:
    """What decides a store whose blocks are prepared from these roots."""
    return code_of((*STAGES, *(root for root in blocks.roots if root != PREPARE)))


def _class_modules(value: object, depth: int = 3) -> Iterator[str]:
    module = type(value).__module__
    if module.partition(".")[0] in _OURS and depth:
        yield module
        for part in getattr(value, "__dict__", {}).values():
            yield from _class_modules(part, depth - 1)


def code_of(roots: Iterable[str]) -> Code:
    """Digests of the import closure of modules, read from their files, and the versions of the libraries in it.

    Names that are not of our packages, or that this version does not have, are left out: differences names those.
    """
    named = tuple(roots)
    modules: dict[str, str] = {}
    imported: set[str] = set()
    left, seen = list(named), set(named)
    while left:
        name = left.pop()
        top = name.partition(".")[0]
        imported.add(top)
        for one in (part for part in _with_packages(name) if top in _OURS and part not in modules):
            path = _find(one)
            if path is not None:
                parsed = _parse(path.read_bytes())
                modules[one] = parsed.digest
                left += [other for other in parsed.imports if other not in seen]
                seen.update(parsed.imports)
    libraries = {"python": ".".join(map(str, sys.version_info[:2]))}
    for library in (one for one in BYTE_DECIDING if _IMPORTED_AS.get(one, one) in imported):
        try:
            libraries[library] = version(library)
        except PackageNotFoundError:
            libraries[library] = "missing"
    return Code(roots=named, modules=modules, libraries=libraries)


def _parse(source: bytes) -> _Parsed:
    key = hashlib.blake2b(source, digest_size=16).digest()
    found = _PARSED.get(key)
    if found is None:
        tree = ast.parse(source)
        found = _PARSED[key] = _Parsed(digest=_digest(tree), imports=tuple(_imported(tree)))
    return found


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
    """What a module imports anywhere but for type checking; of our packages, names in modules count as modules."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            if node.module.partition(".")[0] in _OURS:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
        yield from _imported(node)


def _with_packages(name: str) -> list[str]:
    """A dotted name, after the packages that it lies in."""
    parts = name.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]
