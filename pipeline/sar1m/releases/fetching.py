"""Files of a release on their way into a folder: each is checked as it comes and is whole or absent."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sar1m.store.durable import digest_file, write_durably
from sar1m.store.errors import OutputError, StoreError
from sar1m.store.places.folder import FolderPlace
from sar1m.store.places.place import Place
from sar1m.store.progress import Watch
from sar1m.store.seal import SealedFile

_AT_ONCE: Final = 4


@dataclass(frozen=True, kw_only=True)
class GetSummary:
    """fetched, fetched_bytes: of this run; kept: files that were there already with the right content; left_out: files
    of the release that do not belong to the portion. part: in words what part it is, empty for a whole release."""

    title: str
    out: Path
    fetched: int
    fetched_bytes: int
    kept: int
    left_out: int
    part: str = ""


@dataclass(frozen=True, kw_only=True)
class WantedFile:
    """A file of the release by its name there, and what it must be."""

    source: str
    expected: SealedFile


def fetch(place: Place, wanted: Mapping[str, WantedFile], out: Path, watch: Watch) -> list[WantedFile]:
    """Brings files into out, by name there; those that are right already stay. Returns what was fetched.

    Raises StoreError where one that arrives differs from the manifest, OutputError where something is in its way.
    """
    missing = {name: one for name, one in wanted.items() if not _is_there(out / name, one.expected)}
    with watch.stage("get", len(missing)) as step, ThreadPoolExecutor(_AT_ONCE) as pool:
        for _ in pool.map(lambda name: _fetch(place, missing[name], out, name), missing):
            step()
    return list(missing.values())


def require_plain(out: Path) -> Mapping[str, int]:
    """What lies in out, as a listing. Raises OutputError where it is no folder, or holds a link."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file. Give a new or empty folder.")
    there = FolderPlace(out).listing() if out.exists() else {}
    for name in there:
        if (out / name).is_symlink():
            raise OutputError(f"{out / name}: is a link, and nothing is written or read through one. Remove it.")
    return there


def require_free(out: Path, name: str) -> Path:
    """Where a file goes. Raises OutputError where a link, or a folder in place of a file, is in its way."""
    path = out / name
    for one in (path, *path.parents[: name.count("/")]):
        if one.is_symlink() or (one.exists() and one.is_dir() == (one is path)):
            raise OutputError(f"{one}: is in the way of a file of the release. Remove it.")
    return path


def _is_there(path: Path, expected: SealedFile) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size != expected.size:
        return False
    return digest_file(path).sha256 == expected.sha256


def _fetch(place: Place, wanted: WantedFile, out: Path, name: str) -> None:
    """One file, whole and right, or not at all."""
    write_durably(require_free(out, name), _checked(place, wanted))


def _checked(place: Place, wanted: WantedFile) -> Iterator[bytes]:
    """The pieces of a file; raises after the last one, while the file still has its temporary name."""
    name, expected = wanted.source, wanted.expected
    sha256, size = hashlib.sha256(), 0
    for piece in place.stream(name):
        sha256.update(piece)
        size += len(piece)
        if size > (expected.size or 0):
            break
        yield piece
    if size != expected.size or sha256.hexdigest() != expected.sha256:
        raise StoreError(
            f"{place.location}/{name}: what came ({size} bytes) differs from the manifest ({expected.size} bytes). "
            "Check the release there with `sar1m verify`; what is fetched is kept."
        )
