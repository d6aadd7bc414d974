"""Files that are whole or absent: written aside, synced, renamed. zarr and shutil do not sync; a build must."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sar1m.store.errors import OutputError, Sar1mError, printable

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")
PARTIAL_SUFFIX = ".partial"


@dataclass(frozen=True, kw_only=True)
class FileDigest:
    """sha256 (hexadecimal) and size in bytes of a file."""

    sha256: str
    size: int


@contextlib.contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Turns an operating system's refusal (disk full, read-only, quota, a file in place of a folder) into an
    OutputError that names the path.
    """
    try:
        yield
    except OSError as error:
        there = next((place for place in (path, *path.parents) if place.exists()), path)
        if error.errno in (errno.EEXIST, errno.ENOTDIR) and not there.is_dir():
            raise OutputError(
                f"{printable(str(there))}: is a file; a folder expected. Give another output folder, or move the file."
            ) from error
        raise OutputError(
            f"{path}: cannot be written: {error.strerror or error}. Free space, mend the permissions or give "
            "another output folder, then run the same command again: nothing finished is lost."
        ) from error


def local_folder(path: Path | None) -> Path | None:
    """An output path as it was given, None for none.

    Raises OutputError for an address such as s3://bucket/prefix, which would become a folder named `s3:`: a Path has
    lost one of its slashes already.
    """
    address = None if path is None else address_in(path)
    if address is not None:
        raise OutputError(
            f"{address}: is an address, but this goes to folders of this machine alone. Give a folder. Builds are "
            "also written to buckets (`sar1m build --out s3://bucket/prefix`), finished releases by `sar1m publish`."
        )
    return path


def address_in(path: Path) -> str | None:
    """The address that was given where a path was expected; None for a path."""
    return _ADDRESS.sub(r"\1://", str(path), count=1) if _ADDRESS.match(str(path)) else None


@contextlib.contextmanager
def nothing_left_behind(folder: Path, keep: str) -> Iterator[None]:
    """Removes a folder that was not there before, and the new ones above it, where what is done raises a Sar1mError.
    keep: a name in the folder with which it stays."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        yield
    except Sar1mError:
        if folder in missing and not (folder / keep).exists():
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                for above in missing[1:]:
                    above.rmdir()
        raise


def sync_directory(folder: Path) -> None:
    """Makes the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_file(path: Path) -> None:
    """Makes the content of a file durable that another library wrote."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def make_folders(folder: Path) -> None:
    """Makes a folder and those above it that are missing, each with a durable name."""
    missing = list(itertools.takewhile(lambda one: not one.exists(), (folder, *folder.parents)))
    folder.mkdir(parents=True, exist_ok=True)
    for one in reversed(missing):
        sync_directory(one.parent)


def settle_folders(root: Path) -> None:
    """Makes every name below root durable, also in folders that an interrupted run made.

    Call it before a marker is written: the marker states that all these files are there.
    """
    for folder, _folders, _files in os.walk(root):
        sync_directory(Path(folder))


def write_durably(path: Path, pieces: Iterable[bytes]) -> FileDigest:
    """Writes pieces one after the other into path: a temporary name, fsync, rename, fsync of the folder.

    After a crash at any instant path holds either its former content or all pieces. Returns digest and size, taken
    from the bytes on their way. Raises OutputError where the system refuses.
    """
    # A random name: workers in containers on several machines have the same process numbers.
    partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}{PARTIAL_SUFFIX}")
    sha256, size = hashlib.sha256(), 0
    with writing_to(path):
        make_folders(path.parent)
        try:
            with partial.open("wb") as stream:
                for piece in pieces:
                    stream.write(piece)
                    sha256.update(piece)
                    size += len(piece)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)  # on a full disk it would take the room that the log needs
            raise
        sync_directory(path.parent)
    return FileDigest(sha256=sha256.hexdigest(), size=size)


def digest_file(path: Path) -> FileDigest:
    """Digest and size of an existing file, read in pieces."""
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        return FileDigest(sha256=sha256, size=stream.tell())


def json_bytes(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """JSON as the files of stores and releases hold it: sorted keys, no NaN, numpy's numbers as Python's, a line's
    end."""
    return json.dumps(value, sort_keys=True, indent=1, allow_nan=False, default=_plain).encode() + b"\n"


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no place in a JSON file")


def remove_partials(folder: Path) -> None:
    """Removes what an interrupted run left half written, anywhere below folder."""
    for path in sorted(folder.rglob(f"*{PARTIAL_SUFFIX}")):
        remove_tree(path)


def digest_pieces(pieces: Iterable[bytes]) -> FileDigest:
    """Digest and size of content that comes piece by piece."""
    sha256, size = hashlib.sha256(), 0
    for piece in pieces:
        sha256.update(piece)
        size += len(piece)
    return FileDigest(sha256=sha256.hexdigest(), size=size)


def remove_tree(path: Path) -> None:
    """Removes a file or a folder with all below it; absent is fine."""
    with writing_to(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
