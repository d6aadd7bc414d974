"""The manifest of a finished store, the completion marker, and verification.

`manifest-sha256.txt` has the format of sha256sum, so that `sha256sum -c` checks it without our code. The marker
BUILD_COMPLETE.json comes last: it holds the digest of the manifest and the size of every file.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sar1m.store.durable import FileDigest, digest_file, write_durably
from sar1m.store.errors import StoreError
from sar1m.store.schema import MANIFEST_FILE, MARKER_FILE, SCRATCH_DIRS

_LINE = re.compile(r"([0-9a-f]{64})  (\S[^\0\n]*)")
MAX_MANIFEST_BYTES = 256 * 2**20


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing wrong with a store: the file, and what was found."""

    path: str
    found: str


def payload_files(store: Path) -> Iterator[str]:
    """Relative POSIX names of everything the manifest must cover, sorted. Links are listed as what they are."""
    for path in sorted(store.rglob("*")):
        name = path.relative_to(store).as_posix()
        if name.split("/", 1)[0] in SCRATCH_DIRS or name in (MANIFEST_FILE, MARKER_FILE):
            continue
        if path.is_symlink() or not path.is_dir():
            yield name


def manifest_text(digests: Mapping[str, FileDigest]) -> str:
    """The manifest's lines, sorted by name."""
    return "".join(f"{digest.sha256}  {name}\n" for name, digest in sorted(digests.items()))


def write_manifest(store: Path, digests: Mapping[str, FileDigest], facts: Mapping[str, Any]) -> None:
    """Writes the manifest and then, last of all, the completion marker with facts (JSON values) inside."""
    text = manifest_text(digests).encode()
    write_durably(store / MANIFEST_FILE, [text])
    marker = {
        **facts,
        "manifest_sha256": hashlib.sha256(text).hexdigest(),
        "files": {name: digest.size for name, digest in sorted(digests.items())},
    }
    marker["marker_sha256"] = _marker_digest(marker)
    write_durably(store / MARKER_FILE, [json.dumps(marker, sort_keys=True, indent=1).encode() + b"\n"])


def _marker_digest(marker: Mapping[str, Any]) -> str:
    """Of everything in the marker but this digest itself: the marker is the one file no manifest can cover."""
    content = {key: value for key, value in marker.items() if key != "marker_sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_marker(store: Path) -> dict[str, Any] | None:
    """The completion marker; None where the store is not complete. Raises StoreError where it is damaged."""
    path = store / MARKER_FILE
    if not path.is_file():
        return None
    try:
        marker = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(marker["files"], dict) or marker["marker_sha256"] != _marker_digest(marker):
            raise ValueError("its digest of itself does not hold")
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise StoreError(
            f"{path}: damaged completion marker ({error}). Run the build again to make it anew."
        ) from error
    return dict(marker)


def read_manifest(store: Path) -> dict[str, str]:
    """sha256 by file name. Raises StoreError where the manifest is missing, malformed or names a file outside."""
    path = store / MANIFEST_FILE
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise StoreError(f"{path}: larger than any manifest of ours ({MAX_MANIFEST_BYTES} bytes).")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: cannot be read ({error}). Is this a finished store?") from error
    entries: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        match = _LINE.fullmatch(line)
        if match is None or match[2].startswith("/") or ".." in match[2].split("/") or match[2] in entries:
            raise StoreError(f"{path}, line {number}: not `sha256  relative/name`: {line[:120]!r}")
        entries[match[2]] = match[1]
    return entries


def verify(store: Path, progress: Callable[[str], None] = lambda _name: None) -> list[Fault]:
    """Every changed, missing, added or truncated file of a store, sorted by name; empty where all is well.

    progress is called with each name before it is read. Raises StoreError where marker or manifest cannot be used.
    """
    marker = read_marker(store)
    if marker is None:
        raise StoreError(f"{store}: no {MARKER_FILE} here: not a finished store. Finish it with `sar1m build`.")
    entries = read_manifest(store)
    faults = _manifest_faults(store, marker, entries)
    present = set(payload_files(store))
    faults += [Fault(path=name, found="missing") for name in sorted(entries.keys() - present)]
    faults += [Fault(path=name, found="not in the manifest") for name in sorted(present - entries.keys())]
    for name in sorted(entries.keys() & present):
        progress(name)
        faults += _file_faults(store / name, name, entries[name], marker["files"].get(name))
    return sorted(faults, key=lambda fault: fault.path)


def _manifest_faults(store: Path, marker: Mapping[str, Any], entries: Mapping[str, str]) -> list[Fault]:
    found = digest_file(store / MANIFEST_FILE).sha256
    if found != marker["manifest_sha256"]:
        return [Fault(path=MANIFEST_FILE, found="differs from the digest in the completion marker")]
    if marker["files"].keys() != entries.keys():
        return [Fault(path=MARKER_FILE, found="lists other files than the manifest")]
    return []


def _file_faults(path: Path, name: str, sha256: str, size: int | None) -> list[Fault]:
    if path.is_symlink() or not path.is_file():
        return [Fault(path=name, found="not a regular file")]
    try:
        digest = digest_file(path)
    except OSError as error:
        return [Fault(path=name, found=f"cannot be read: {error.strerror}")]
    if digest.size != size:
        return [Fault(path=name, found=f"{digest.size} bytes, expected {size}")]
    return [] if digest.sha256 == sha256 else [Fault(path=name, found="content differs from its sha256")]
