"""What a release says of itself: the manifest and the completion marker, read from wherever it lies.

RELEASE_COMPLETE.json has the form of a build's marker: facts (name, version, ...), manifest_sha256, files (size by
name), and marker_sha256 of all the rest. A download of a part has PARTIAL_DOWNLOAD.json in its place, of the same form,
whose files are those that were taken.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any, Final

from sar1m.releases.remote import MissingError, Place
from sar1m.store.errors import StoreError
from sar1m.store.schema import DATA_DIR, MANIFEST_FILE, PARTIAL_FILE, RELEASE_MARKER_FILE, SPLITS
from sar1m.store.seal import Fault

MAX_SEAL_BYTES: Final = 256 * 2**20
_LINE = re.compile(r"([0-9a-f]{64})  (\S[^\0\n\\]*)")


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a file must be; None where the damaged half of the seal would have told."""

    sha256: str | None
    size: int | None


@dataclass(frozen=True, kw_only=True)
class Seal:
    """files: what each file of the release, or of this part of it, must be. left_out: files of the release that a part
    does without. marker_file: the name of the marker that was found. faults: what is wrong with marker and manifest
    themselves."""

    marker_file: str
    marker: Mapping[str, Any]
    marker_bytes: bytes
    manifest_bytes: bytes
    files: Mapping[str, Expected]
    left_out: frozenset[str] = frozenset()
    faults: tuple[Fault, ...] = field(default=())

    @property
    def title(self) -> str:
        """As one cites it: sar-1m v1.0.0."""
        return f"{self.marker.get('name', '?')} v{self.version}"

    @property
    def version(self) -> str:
        """The release's version; ? where the marker does not say."""
        return str(self.marker.get("version", "?"))

    @property
    def part(self) -> str:
        """Which part of a release this is, in words; nothing for a whole one."""
        if self.marker_file != PARTIAL_FILE:
            return ""
        held = [f"{share} of {split}" for split in SPLITS if (share := self._share(f"{DATA_DIR}/{split}.zarr/"))]
        total = len(self.files) + len(self.left_out)
        return f"a part of it, {len(self.files):,} of {total:,} files: {', '.join(held) or 'no images'}"

    def _share(self, group: str) -> str:
        """How much of a group is there: all, some, or nothing said."""
        if not any(name.startswith(group) for name in self.files):
            return ""
        return "some" if any(name.startswith(group) for name in self.left_out) else "all"

    @property
    def own_files(self) -> frozenset[str]:
        """Names that belong to a release beside what the manifest lists."""
        return frozenset({MANIFEST_FILE, self.marker_file})


def read_seal(place: Place) -> Seal:
    """Marker and manifest, each checked against the other.

    Where one of them is damaged, the other still says what it can and faults names the damage. Raises StoreError where
    there is no marker at all, or where both are beyond use.
    """
    marker_file, marker_bytes = _read_marker(place)
    faults: list[Fault] = []
    marker: dict[str, Any] = {}
    try:
        marker = parse_marker(marker_bytes)
    except ValueError as error:
        faults.append(Fault(path=marker_file, found=f"damaged completion marker: {error}"))
    manifest_bytes = b""
    entries: dict[str, str] = {}
    try:
        manifest_bytes = place.read(MANIFEST_FILE, max_bytes=MAX_SEAL_BYTES)
        entries = parse_manifest(manifest_bytes)
    except MissingError:
        faults.append(Fault(path=MANIFEST_FILE, found="missing"))
    except ValueError as error:
        faults.append(Fault(path=MANIFEST_FILE, found=str(error)))
    if marker and entries and marker["manifest_sha256"] != hashlib.sha256(manifest_bytes).hexdigest():
        faults.append(Fault(path=MANIFEST_FILE, found="differs from the digest in the completion marker"))
        entries = {}
    if not marker and not entries:
        raise StoreError(f"{place.location}: {marker_file} and {MANIFEST_FILE} are both damaged: fetch it anew.")
    files = _expected(marker, entries)
    if marker and entries and not _same_files(marker_file, marker["files"].keys(), entries):
        faults.append(Fault(path=marker_file, found="lists other files than the manifest"))
    return Seal(
        marker_file=marker_file,
        marker=marker,
        marker_bytes=marker_bytes,
        manifest_bytes=manifest_bytes,
        files=files,
        left_out=frozenset(entries.keys() - files.keys()),
        faults=tuple(faults),
    )


def require_whole_seal(place: Place) -> Seal:
    """The same where marker and manifest hold. Raises StoreError naming what does not."""
    seal = read_seal(place)
    for fault in seal.faults:
        raise StoreError(f"{place.location}/{fault.path}: {fault.found}. Check the release with `sar1m verify`.")
    return seal


def parse_marker(content: bytes) -> dict[str, Any]:
    """The marker's facts. Raises ValueError where its digest of itself does not hold."""
    try:
        marker = json.loads(content)
        sound = marker["marker_sha256"] == marker_digest(marker) and isinstance(marker["files"], dict)
        sizes = all(is_inside(name) and isinstance(size, int) for name, size in marker["files"].items())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError("it cannot be read") from None
    if not (sound and sizes):
        raise ValueError("its digest of itself does not hold")
    return dict(marker)


def marker_digest(marker: Mapping[str, Any]) -> str:
    """sha256 of everything in the marker but this digest itself: no manifest can cover the marker."""
    content = {key: value for key, value in marker.items() if key != "marker_sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def parse_manifest(content: bytes) -> dict[str, str]:
    """sha256 by name. Raises ValueError naming the line that is not `sha256  relative/name`, or leads outside."""
    entries: dict[str, str] = {}
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None
    for number, line in enumerate(lines, start=1):
        match = _LINE.fullmatch(line)
        if match is None or not is_inside(match[2]) or match[2] in entries:
            raise ValueError(f"line {number} is not `sha256  relative/name`: {line[:120]!r}")
        entries[match[2]] = match[1]
    return entries


def is_inside(name: str) -> bool:
    """Whether a name is a relative POSIX path that stays in its folder and is none of the seal's own files."""
    parts = name.split("/")
    own = {MANIFEST_FILE, RELEASE_MARKER_FILE, PARTIAL_FILE}
    return not any(part in {"", ".", ".."} for part in parts) and "\\" not in name and name not in own


def _read_marker(place: Place) -> tuple[str, bytes]:
    for name in (RELEASE_MARKER_FILE, PARTIAL_FILE):
        try:
            return name, place.read(name, max_bytes=MAX_SEAL_BYTES)
        except MissingError:
            continue
    raise StoreError(f"{place.location}: no {RELEASE_MARKER_FILE} here: not a release, or not a finished one.")


def _same_files(marker_file: str, sized: Set[str], entries: Mapping[str, str]) -> bool:
    return sized <= entries.keys() if marker_file == PARTIAL_FILE else sized == entries.keys()


def _expected(marker: Mapping[str, Any], entries: Mapping[str, str]) -> dict[str, Expected]:
    sizes: Mapping[str, int] = marker.get("files", {})
    names = sizes.keys() if sizes else entries.keys()
    return {name: Expected(sha256=entries.get(name), size=sizes.get(name)) for name in sorted(names)}
