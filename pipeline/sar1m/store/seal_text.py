"""The text of the manifest and of the completion marker: written and parsed here alone.

The manifest, manifest-sha256.txt, has the format of sha256sum, so that `sha256sum -c` checks a store without our code.
The completion marker is JSON and is written last. It holds facts of its maker (name, version, ...), manifest_sha256,
`files` (size in bytes by name) and marker_sha256, the digest of all the rest, since no manifest can cover the marker.
The marker's name states what is complete: BUILD_COMPLETE.json a build, RELEASE_COMPLETE.json a release,
PARTIAL_DOWNLOAD.json a downloaded part of a release. Of a part by files the manifest is the release's and `files` are
only those that were downloaded; a part by samples is a store of its own, with its own manifest, and `part_of` names the
release.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from sar1m.store.durable import FileDigest
from sar1m.store.schema import MANIFEST_FILE, MARKER_FILE, PARTIAL_FILE, RELEASE_MARKER_FILE, SIGNATURE_FILE
from sar1m.store.side_files import json_value

MAX_SEAL_BYTES: Final = 256 * 2**20  # of a manifest or a marker: over two million files
RELEASE_MARKERS: Final = (RELEASE_MARKER_FILE, PARTIAL_FILE)
MARKERS: Final = (MARKER_FILE, *RELEASE_MARKERS)

_OWN_FILES: Final = frozenset({MANIFEST_FILE, SIGNATURE_FILE, *MARKERS})
# Of a path: neither empty nor . nor .., without anything that could end a line for some reader of text.
_PART = r"(?!\.{1,2}(?:/|\Z))[^/\\\x00-\x1f\x7f-\x9f\u2028\u2029]+"
_MAX_PART_BYTES: Final = 255  # of every usual file system
_PATH = rf"{_PART}(?:/{_PART})*"
_NAME = re.compile(_PATH)
_LINE = re.compile(rf"([0-9a-f]{{64}})  (?=\S)({_PATH})")


def manifest_bytes(digests: Mapping[str, FileDigest]) -> bytes:
    """The manifest of these files, one line a file, sorted by name. Raises ValueError for names that parse_manifest
    refuses."""
    if (odd := next((name for name in digests if not _may_be_listed(name)), None)) is not None:
        raise ValueError(f"{odd[:120]!a} cannot stand in a manifest: rename the file")
    return "".join(f"{digest.sha256}  {name}\n" for name, digest in sorted(digests.items())).encode()


def parse_manifest(content: bytes) -> dict[str, str]:
    """sha256 (hexadecimal) by file name. Raises ValueError naming the first line that is no manifest's."""
    try:
        lines = content.decode().split("\n")
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None
    entries: dict[str, str] = {}
    for number, line in enumerate(lines[:-1] if lines[-1] == "" else lines, start=1):
        match = _LINE.fullmatch(line)
        if match is None or not _may_be_listed(match[2]) or match[2] in entries:
            raise ValueError(f"line {number}: not `sha256  relative/name`: {line[:120]!r}")
        entries[match[2]] = match[1]
    return entries


def marker_bytes(facts: Mapping[str, Any], manifest: bytes, sizes: Mapping[str, int]) -> bytes:
    """The completion marker.

    facts: JSON values of its maker; of another marker, all that it holds.
    manifest: the content of the manifest.
    sizes: bytes by name of the files that are there.
    """
    marker = {**facts, "manifest_sha256": hashlib.sha256(manifest).hexdigest(), "files": dict(sizes)}
    marker["marker_sha256"] = _marker_digest(marker)
    return json.dumps(marker, sort_keys=True, indent=1).encode() + b"\n"


def parse_marker(content: bytes) -> dict[str, Any]:
    """All that a completion marker holds. Raises ValueError stating why the bytes are no sound marker."""
    marker = parse_object(content)
    if marker.get("marker_sha256") != _marker_digest(marker):
        raise ValueError("its digest of itself does not hold")
    sizes = marker.get("files")
    if not isinstance(sizes, dict) or not all(type(size) is int and size >= 0 for size in sizes.values()):
        raise ValueError("`files` is no table of names and sizes")
    if (outside := _first_outside(sizes)) is not None:
        raise ValueError(f"`files` lists {outside[:120]!r}, which names no file inside a store")
    if not isinstance(marker.get("manifest_sha256"), str):
        raise ValueError("manifest_sha256 is missing")
    return marker


def parse_object(content: bytes) -> dict[str, Any]:
    """One JSON object. Raises ValueError where the bytes are no JSON, nest too deeply, or hold another type."""
    try:
        parsed = json_value(content)
    except ValueError as error:
        raise ValueError(f"no JSON that can be read ({error})") from None
    if not isinstance(parsed, dict):
        raise ValueError(f"a JSON object was expected, found {type(parsed).__name__}")
    return parsed


def _first_outside(names: Iterable[str]) -> str | None:
    """The first name that is no relative POSIX path inside the store, or is a manifest's or a marker's."""
    return next((name for name in names if not _may_be_listed(name)), None)


def _may_be_listed(name: str) -> bool:
    short = all(len(os.fsencode(part)) <= _MAX_PART_BYTES for part in name.split("/"))
    return name not in _OWN_FILES and short and not name[:1].isspace() and _NAME.fullmatch(name) is not None


def _marker_digest(marker: Mapping[str, Any]) -> str:
    content = {key: value for key, value in marker.items() if key != "marker_sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
