"""The metadata files of a finished store, each read whole and believed only where its digest holds.

BUILD_COMPLETE.json, of a release RELEASE_COMPLETE.json, of a part of one PARTIAL_DOWNLOAD.json, carries a digest of
itself, the digest of manifest-sha256.txt and every file's size; the manifest carries every file's sha256. So one
flipped bit in a zarr.json or a small array is found before anything is made of it. Shards are too large for that: each
of their chunks has its own checksum.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from sar1m.store.errors import StoreError
from sar1m.store.schema import MANIFEST_FILE, MARKER_FILE, PARTIAL_FILE, RELEASE_MARKER_FILE, SCHEMA_VERSION
from sarmae.stream.objects import ByteRange, Objects

MAX_MARKER_BYTES = 64 * 2**20  # some 600,000 files: 150 million samples
MAX_MANIFEST_BYTES = 2 * MAX_MARKER_BYTES
MAX_JSON_BYTES = 2**20
REMEDY = "Verify the store (sar1m verify) and copy or build it again."

_LINE = re.compile(r"([0-9a-f]{64})  (\S[^\0\n]*)")


@dataclass(frozen=True, kw_only=True)
class Sealed:
    """Files of a store with the sizes and digests its maker sealed. digest: of the manifest that holds them. Of a part
    of a release, sizes names what is there and sha256 all that the whole one has."""

    objects: Objects
    digest: str
    sizes: Mapping[str, int]
    sha256: Mapping[str, str]

    def place(self, name: str) -> str:
        """A file as messages name it."""
        return f"{self.objects.location}/{name}"

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """A whole file. StoreError where the store has none, it is larger than max_bytes, or it was changed."""
        size = self.sizes.get(name)
        if size is None or name not in self.sha256:
            raise StoreError(self.absent(name))
        if size > max_bytes:
            raise StoreError(f"{self.place(name)}: {size} bytes, at most {max_bytes} expected of such a file. {REMEDY}")
        for _ in range(2):  # of a remote store, a damaged copy may lie in the cache
            content = self.objects.read(name, max_bytes=size)
            if hashlib.sha256(content).hexdigest() == self.sha256[name]:
                return content
            self.objects.forget(ByteRange(name=name, start=0, stop=max(size, 1)))
        raise StoreError(f"{self.place(name)}: damaged: its content differs from its sha256. {REMEDY}")

    def leaves_out(self, name: str) -> bool:
        """Whether a file is of the release that this is a part of, and not of the part."""
        return name in self.sha256 and name not in self.sizes

    def absent(self, name: str) -> str:
        """What to say of a file that sizes does not name."""
        if self.leaves_out(name):
            return (
                f"{self.place(name)}: left out of this copy, which is a part of a release ({PARTIAL_FILE}). Get the "
                "rest into the same folder with `sar1m get`."
            )
        return f"{self.place(name)}: no such file in the store's manifest. {REMEDY}"

    def prefetch(self, names: Iterable[str]) -> None:
        """Brings those of the files that the store has into reach at once: of a remote store, in one round trip instead
        of one each. StoreError as of Objects.prefetch."""
        there = {name: size for name in names if (size := self.sizes.get(name))}
        self.objects.prefetch([ByteRange(name=name, start=0, stop=size) for name, size in there.items()])

    def read_json(self, name: str) -> dict[str, Any]:
        """A file that holds one JSON object, of at most 1 MiB. StoreError as `read`, and for other content."""
        return parsed_object(self.read(name, max_bytes=MAX_JSON_BYTES), self.place(name))


def open_sealed(objects: Objects) -> Sealed:
    """The seal of a store. StoreError where the location holds no finished store or its marker was damaged."""
    with ThreadPoolExecutor(1) as beside:  # one round trip for the two
        manifest = beside.submit(_unsealed, objects, MANIFEST_FILE, MAX_MANIFEST_BYTES)
        name, content = _marker(objects)
        place = f"{objects.location}/{name}"
        marker = parsed_object(content, place)
    sizes, digest = marker.get("files"), marker.get("manifest_sha256")
    if marker.get("marker_sha256") != _marker_digest(marker) or not isinstance(digest, str):
        raise StoreError(f"{place}: damaged: its digest of itself does not hold. {REMEDY}")
    version = str(marker.get("schema_version"))
    if version.partition(".")[0] != SCHEMA_VERSION.partition(".")[0]:
        raise StoreError(f"{place}: layout version {version}, but {SCHEMA_VERSION} is what this version reads.")
    if not isinstance(sizes, dict) or not all(type(size) is int and size >= 0 for size in sizes.values()):
        raise StoreError(f"{place}: `files` is no table of names and sizes. {REMEDY}")
    return Sealed(
        objects=objects, digest=digest, sizes=sizes, sha256=_digests(manifest.result(), digest, objects.location)
    )


def manifest_digests(objects: Objects, digest: str) -> dict[str, str]:
    """sha256 by file name. StoreError where the manifest is missing, malformed, or not the one of this digest."""
    return _digests(_unsealed(objects, MANIFEST_FILE, MAX_MANIFEST_BYTES), digest, objects.location)


def _digests(content: bytes, digest: str, location: str) -> dict[str, str]:
    place = f"{location}/{MANIFEST_FILE}"
    if hashlib.sha256(content).hexdigest() != digest:
        raise StoreError(f"{place}: differs from the digest in the marker. {REMEDY}")
    entries: dict[str, str] = {}
    for number, line in enumerate(content.decode("utf-8", errors="replace").splitlines(), start=1):
        match = _LINE.fullmatch(line)
        if match is None or match[2] in entries:
            raise StoreError(f"{place}, line {number}: not `sha256  relative/name`: {line[:120]!r}")
        entries[match[2]] = match[1]
    return entries


def _marker(objects: Objects) -> tuple[str, bytes]:
    """The marker's name and content: of a build, else of a release, else of a part of one."""
    try:
        return MARKER_FILE, _unsealed(objects, MARKER_FILE, MAX_MARKER_BYTES)
    except StoreError:
        name = next((name for name in (RELEASE_MARKER_FILE, PARTIAL_FILE) if objects.size(name) is not None), None)
        if name is None:
            raise
    return name, _unsealed(objects, name, MAX_MARKER_BYTES)


def _unsealed(objects: Objects, name: str, max_bytes: int) -> bytes:
    """One of the two files that no manifest covers."""
    try:
        return objects.read(name, max_bytes=max_bytes)
    except StoreError:
        if objects.size(name) is not None:
            raise
    raise StoreError(
        f"{objects.location}: no {name} here: no finished store. Give the folder or URL in which "
        "`sar1m build` ended; an interrupted build is finished by running it again."
    )


def parsed_object(content: bytes, place: str) -> dict[str, Any]:
    """One JSON object. StoreError where the bytes are no JSON, nest too deeply, or hold another type."""
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{place}: no JSON that can be read ({error}). {REMEDY}") from error
    if not isinstance(parsed, dict):
        raise StoreError(f"{place}: a JSON object was expected, found {type(parsed).__name__}. {REMEDY}")
    return parsed


def _marker_digest(marker: Mapping[str, Any]) -> str | None:
    """Of everything in the marker but the digest itself, as the pipeline computes it; None of what has none."""
    told = {key: value for key, value in marker.items() if key != "marker_sha256"}
    try:
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    except (ValueError, RecursionError):  # lone surrogates, nesting
        return None
