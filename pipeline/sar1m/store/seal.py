"""The seal of a finished store: manifest and completion marker, written, read and compared with the files.

One reading for builds, releases and parts of releases, in a folder or at a remote place (see seal_text.py for the two
files). What a file must be is in Seal.files; listing_faults and content_faults compare with it what is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from sar1m.store.durable import FileDigest, digest_pieces
from sar1m.store.errors import MissingError, StoreError, UnreachableError
from sar1m.store.outputs.folder import FolderOutput
from sar1m.store.outputs.output import Output
from sar1m.store.places.folder import FolderPlace
from sar1m.store.places.place import NOT_A_FILE, Place
from sar1m.store.schema import (
    MANIFEST_FILE,
    MARKER_FILE,
    PARTIAL_FILE,
    RELEASE_MARKER_FILE,
    SCHEMA_VERSION,
    SCRATCH_DIRS,
    SIGNATURE_FILE,
    SPLITS,
    group_name,
)
from sar1m.store.seal_text import MAX_SEAL_BYTES, manifest_bytes, marker_bytes, parse_manifest, parse_marker

REMEDY: Final = "Verify the store (sar1m verify) and copy or build it again."
PART_OF: Final = "part_of"  # in the marker of a part that is a store of its own: see sar1m.releases.sample_parts
_READERS: Final = 4  # files digested at a time


@dataclass(frozen=True, kw_only=True)
class StoreFault:
    """One thing wrong with a store: the file, and what was found."""

    path: str
    found: str


@dataclass(frozen=True, kw_only=True)
class SealedFile:
    """What a file must be. None where the half of the seal that states it is damaged."""

    sha256: str | None
    size: int | None


@dataclass(frozen=True, kw_only=True)
class Seal:
    """Marker and manifest of a store, each checked against the other.

    marker_file: the name of the marker that was found.
    manifest_bytes: empty where the manifest is missing or cannot be parsed.
    marker, sizes: all that the marker holds, and of this the bytes by file name; empty where it is damaged.
    sha256: of every file, by name, as the manifest states; empty where it is damaged or not the marker's.
    faults: what is wrong with marker and manifest themselves.
    """

    location: str
    marker_file: str
    marker_bytes: bytes
    manifest_bytes: bytes
    marker: Mapping[str, Any]
    sizes: Mapping[str, int]
    sha256: Mapping[str, str]
    faults: tuple[StoreFault, ...]

    @cached_property
    def files(self) -> dict[str, SealedFile]:
        """Every file of the store, or of this part of a release, sorted by name."""
        names = sorted(self.sizes or self.sha256)
        return {name: SealedFile(sha256=self.sha256.get(name), size=self.sizes.get(name)) for name in names}

    @cached_property
    def left_out(self) -> frozenset[str]:
        """Files of the release that this part of it does not hold."""
        return frozenset(self.sha256.keys() - self.sizes.keys()) if self.sizes else frozenset()

    @property
    def title(self) -> str:
        """Name and version as one cites them: sar-1m v1.0.0."""
        return f"{self.marker.get('name', '?')} v{self.version}"

    @property
    def version(self) -> str:
        """The release's version; ? where the marker states none."""
        return str(self.marker.get("version", "?"))

    @property
    def part_of(self) -> Mapping[str, Any] | None:
        """Of a part by samples: manifest_sha256 and samples of its release, and what was selected; else None."""
        found = self.marker.get(PART_OF) if self.marker_file == PARTIAL_FILE else None
        return found if isinstance(found, dict) else None

    @property
    def part(self) -> str:
        """Which part of a release this is, in words; empty for a whole one."""
        if self.marker_file != PARTIAL_FILE:
            return ""
        if self.part_of is not None:
            counts, of = self.marker.get("counts", {}), self.part_of
            return f"a part of it, {counts.get('accepted', 0):,} of {of.get('samples', 0):,} samples: {of.get('words')}"
        held = [f"{share} of {split}" for split in SPLITS if (share := self._share(f"{group_name(split)}/"))]
        total = len(self.files) + len(self.left_out)
        return f"a part of it, {len(self.files):,} of {total:,} files: {', '.join(held) or 'no images'}"

    def _share(self, group: str) -> str:
        """How much of a group is there: all, some, or empty for nothing."""
        if not any(name.startswith(group) for name in self.files):
            return ""
        return "some" if any(name.startswith(group) for name in self.left_out) else "all"


def payload_files(store: Path) -> list[str]:
    """Relative POSIX names of everything that the manifest of a folder must cover, sorted. Links are not followed."""
    return sorted(_payload(FolderPlace(store).listing()))


def write_seal(
    store: Path | Output, digests: Mapping[str, FileDigest], facts: Mapping[str, Any], marker_file: str = MARKER_FILE
) -> None:
    """Writes the manifest of the files and then, last of all, the marker with facts (JSON values) in it."""
    out = FolderOutput(store) if isinstance(store, Path) else store
    manifest = manifest_bytes(digests)
    out.write(MANIFEST_FILE, [manifest])
    sizes = {name: digest.size for name, digest in digests.items()}
    out.write(marker_file, [marker_bytes(facts, manifest, sizes)])


def read_seal(place: Place, markers: Sequence[str]) -> Seal:
    """Marker and manifest of the store at a place.

    markers: the names under which a marker is looked for, in this order (see seal_text.MARKERS).
    Where one of the two files is damaged, the other is still used and faults names the damage. Raises StoreError where
    there is no marker at all, where both files are damaged, or where the store is of another major schema version.
    """
    with ThreadPoolExecutor(1) as beside:  # of a remote place, one round trip for the two
        reading = beside.submit(place.read, MANIFEST_FILE, max_bytes=MAX_SEAL_BYTES)
        marker_file, marker_content = read_first(place, markers)
    faults: list[StoreFault] = []
    marker: dict[str, Any] = {}
    entries: dict[str, str] = {}
    manifest = b""
    try:
        marker = parse_marker(marker_content)
        require_known_schema(marker, f"{place.location}/{marker_file}")
    except ValueError as error:
        faults.append(StoreFault(path=marker_file, found=f"damaged completion marker: {error}"))
    try:
        content = reading.result()
        entries = parse_manifest(content)
        manifest = content
    except MissingError:
        faults.append(StoreFault(path=MANIFEST_FILE, found="missing"))
    except ValueError as error:
        faults.append(StoreFault(path=MANIFEST_FILE, found=str(error)))
    if not marker and not entries:
        found = "; ".join(f"{fault.path}: {fault.found}" for fault in faults)
        raise StoreError(f"{place.location}: marker and manifest are both damaged: {found}. Copy or build it again.")
    sizes: dict[str, int] = marker.get("files", {})
    if not faults and marker["manifest_sha256"] != hashlib.sha256(manifest).hexdigest():
        faults.append(StoreFault(path=MANIFEST_FILE, found="differs from the digest in the completion marker"))
        entries = {}
    elif not faults and not _lists_agree(marker, marker_file, entries):
        faults.append(StoreFault(path=marker_file, found="lists other files than the manifest"))
    return Seal(
        location=place.location,
        marker_file=marker_file,
        marker_bytes=marker_content,
        manifest_bytes=manifest,
        marker=marker,
        sizes=sizes,
        sha256=entries,
        faults=tuple(faults),
    )


def require_seal(place: Place, markers: Sequence[str]) -> Seal:
    """The same where marker and manifest are sound. Raises StoreError naming what is damaged."""
    seal = read_seal(place, markers)
    for fault in seal.faults:
        raise StoreError(f"{place.location}/{fault.path}: {fault.found}. {REMEDY}")
    return seal


def read_first(place: Place, markers: Sequence[str]) -> tuple[str, bytes]:
    """Name and content of the first of these markers that is there. Raises StoreError where there is none."""
    for name in markers:
        try:
            return name, place.read(name, max_bytes=MAX_SEAL_BYTES)
        except MissingError:
            continue
    kind = "not a release, or not a finished one" if markers[0] == RELEASE_MARKER_FILE else "not a finished store"
    raise StoreError(
        f"{place.location}: no {markers[0]} here: {kind}. Give the place where `sar1m build` or "
        "`sar1m release` ended; one that was interrupted is finished by running it again."
    )


def read_manifest(place: Place, digest: str) -> dict[str, str]:
    """sha256 by file name. Raises StoreError where the manifest is missing, damaged, or not the one of this digest."""
    content = place.read(MANIFEST_FILE, max_bytes=MAX_SEAL_BYTES)
    try:
        if hashlib.sha256(content).hexdigest() != digest:
            raise ValueError("differs from the digest in the completion marker")
        return parse_manifest(content)
    except ValueError as error:
        raise StoreError(f"{place.location}/{MANIFEST_FILE}: {error}. {REMEDY}") from error


def require_known_schema(marker: Mapping[str, Any], where: str) -> None:
    """Raises StoreError unless a store's marker states the major schema version of this code. Minor versions only add.

    where: the marker as messages name it. A marker without a version passes: readers of pixels ask for one themselves.
    """
    found = marker.get("schema_version", SCHEMA_VERSION)
    ours = SCHEMA_VERSION.partition(".")[0]
    if not isinstance(found, str) or found.partition(".")[0] != ours:
        raise StoreError(
            f"{where}: schema version {found}, but this version of sar1m reads schema {ours}.x (it writes "
            f"{SCHEMA_VERSION}). Use a version of sar1m that reads schema {found}, or build the store again."
        )


def read_marker(store: Path | Place) -> dict[str, Any] | None:
    """The marker of a build; None where the build is not finished. StoreError where it is damaged or of another major
    schema version."""
    place = FolderPlace(store) if isinstance(store, Path) else store
    try:
        marker = parse_marker(place.read(MARKER_FILE, max_bytes=MAX_SEAL_BYTES))
    except MissingError:
        return None
    except ValueError as error:
        raise StoreError(
            f"{place.location}/{MARKER_FILE}: damaged completion marker: {error}. Run the build again to make it anew."
        ) from error
    require_known_schema(marker, f"{place.location}/{MARKER_FILE}")
    return marker


Comparison = Callable[[Place, "Seal", Sequence[str]], Iterator[list[StoreFault]]]


def verify(
    store: Path | Place,
    progress: Callable[[str], None] = lambda _name: None,
    compare: Comparison | None = None,
) -> list[StoreFault]:
    """Every changed, missing, added or truncated file of a build, sorted by name; empty where all is well. Added files
    cannot be seen where a place cannot be listed.

    progress: called with the name of each file that was compared. compare: how files are; None: every byte, by sha256.
    Raises StoreError where marker or manifest cannot be used.
    """
    place = FolderPlace(store) if isinstance(store, Path) else store
    seal = read_seal(place, (MARKER_FILE,))
    if not seal.marker or not seal.manifest_bytes:
        raise StoreError(f"{place.location}/{seal.faults[0].path}: {seal.faults[0].found}. {REMEDY}")
    listing = place.listing()
    faults = [*seal.faults, *(() if listing is None else listing_faults(seal, _payload(listing)))]
    named = {fault.path for fault in faults}
    sound = [name for name in seal.files if name not in named]
    for name, found in zip(sound, (compare or content_faults)(place, seal, sound), strict=True):
        progress(name)
        faults += found
    return sorted(faults, key=lambda fault: fault.path)


def listing_faults(seal: Seal, listing: Mapping[str, int]) -> Iterator[StoreFault]:
    """What a listing alone shows: missing and added files, and other sizes than the seal's. listing: bytes by name of
    all that is there, NOT_A_FILE for what is no regular file."""
    for name, expected in seal.files.items():
        if name not in listing:
            yield StoreFault(path=name, found="missing")
        elif listing[name] == NOT_A_FILE:
            yield StoreFault(path=name, found="not a regular file")
        elif expected.size is not None and listing[name] != expected.size:
            yield StoreFault(path=name, found=f"{listing[name]} bytes, expected {expected.size}")
    own = {MANIFEST_FILE, seal.marker_file} | (set() if seal.marker_file == MARKER_FILE else {SIGNATURE_FILE})
    for name in listing.keys() - seal.files.keys() - own:
        yield StoreFault(path=name, found="not in the manifest")


def content_faults(place: Place, seal: Seal, names: Sequence[str]) -> Iterator[list[StoreFault]]:
    """What differs from the seal in the content of each of these files, in their order, some files at a time.

    A file that is missing or cannot be read is a fault. Raises UnreachableError where a server does not answer.
    """
    holders = {one.sha256: name for name, one in seal.files.items() if one.sha256 is not None}

    def compared(name: str) -> list[StoreFault]:
        found = _difference(place, name, seal.files[name], holders)
        return [] if found is None else [StoreFault(path=name, found=found)]

    with ThreadPoolExecutor(_READERS) as pool:
        yield from pool.map(compared, names)


def _difference(place: Place, name: str, expected: SealedFile, holders: Mapping[str, str]) -> str | None:
    """holders: which file has which content, to say so where files were swapped."""
    try:
        found = digest_pieces(place.stream(name))
    except UnreachableError:
        raise
    except MissingError:
        return "missing"
    except StoreError as error:
        return str(error)
    if found.sha256 == expected.sha256 or (expected.sha256 is None and found.size == expected.size):
        return None
    if found.sha256 in holders:
        return f"holds the content of {holders[found.sha256]}"
    if expected.size is not None and found.size != expected.size:
        return f"{found.size} bytes, expected {expected.size}"
    return "content differs from its sha256"


def _payload(listing: Mapping[str, int]) -> dict[str, int]:
    """Of a listing of a build's folder, what is neither scratch nor the seal itself."""
    return {
        name: size
        for name, size in listing.items()
        if name.split("/", 1)[0] not in SCRATCH_DIRS and name not in (MANIFEST_FILE, MARKER_FILE)
    }


def _lists_agree(marker: Mapping[str, Any], marker_file: str, entries: Mapping[str, str]) -> bool:
    some = marker_file == PARTIAL_FILE and PART_OF not in marker
    sizes: Mapping[str, int] = marker["files"]
    return sizes.keys() <= entries.keys() if some else sizes.keys() == entries.keys()
