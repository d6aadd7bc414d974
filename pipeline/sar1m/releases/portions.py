"""Downloads of a release, whole or in part, each file checked on its way; the completion marker comes last."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sar1m.releases.hub import open_release
from sar1m.releases.portable_names import require_portable
from sar1m.store.durable import digest_file, remove_partials, remove_tree, settle_folders, write_durably
from sar1m.store.errors import ConfigError, OutputError, StoreError
from sar1m.store.file_lock import output_lock
from sar1m.store.places.folder import FolderPlace
from sar1m.store.places.place import Place
from sar1m.store.progress import Watch
from sar1m.store.schema import DATA_DIR, MANIFEST_FILE, PARTIAL_FILE, RELEASE_MARKER_FILE, SPLITS, group_name
from sar1m.store.seal import Seal, SealedFile, require_seal
from sar1m.store.seal_text import RELEASE_MARKERS, marker_bytes
from sar1m.store.shard_index import SHARD_NAME

_AT_ONCE: Final = 4


@dataclass(frozen=True, kw_only=True)
class Portion:
    """Which part of a release is wanted. Files that are no image data are always included.

    split: train, val or test; None for all.
    shards: how many shards of every image array, from the first; None for all.
    """

    split: str | None = None
    shards: int | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError for a split that no release has or a number that takes nothing."""
        if self.split is not None and self.split not in SPLITS:
            raise ConfigError(f"split {self.split!r}: expected one of {', '.join(SPLITS)}.")
        if self.shards is not None and self.shards < 1:
            raise ConfigError(f"shards {self.shards}: expected at least 1.")

    def holds(self, name: str) -> bool:
        """Whether a file belongs to it."""
        image_data = name.startswith(f"{DATA_DIR}/")
        if self.split is not None and image_data and not name.startswith(f"{group_name(self.split)}/"):
            return False
        shard = SHARD_NAME.fullmatch(name)
        return self.shards is None or shard is None or int(shard["number"]) < self.shards


@dataclass(frozen=True, kw_only=True)
class GetSummary:
    """fetched, fetched_bytes: of this run; kept: files that were there already with the right content; left_out: files
    of the release that do not belong to the portion."""

    title: str
    out: Path
    fetched: int
    fetched_bytes: int
    kept: int
    left_out: int


def get(target: str, out: Path, portion: Portion, watch: Watch) -> GetSummary:
    """Downloads a release, or goes on with a download that was interrupted. target: see hub.open_release.

    The download of a part ends with PARTIAL_DOWNLOAD.json in place of the completion marker. `sar1m verify` checks it
    as a part, and readers know that its absent shards are not empty ones. Raises StoreError where the release is not
    whole or a file that arrives differs from the manifest, OutputError where out holds something else.
    """
    place = open_release(target)
    seal = require_seal(place, RELEASE_MARKERS)
    if seal.marker_file != RELEASE_MARKER_FILE:
        raise StoreError(f"{place.location}: itself a part of a release. Get it from where the whole one lies.")
    require_portable(seal.files, place.location)
    out = out.absolute()
    _require_ours(out, seal)
    with output_lock(out):
        remove_partials(out)
        # What an earlier portion brought stays, and counts as wanted: portions add up to the whole.
        wanted = {name: one for name, one in seal.files.items() if portion.holds(name) or (out / name).exists()}
        missing = {name: one for name, one in wanted.items() if not _is_there(out / name, one)}
        # A marker vouches for what lies beside it: it goes before anything else changes.
        for name in RELEASE_MARKERS:
            remove_tree(out / name)
        write_durably(out / MANIFEST_FILE, [seal.manifest_bytes])
        with watch.stage("get", len(missing)) as step, ThreadPoolExecutor(_AT_ONCE) as pool:
            for _ in pool.map(lambda name: _fetch(place, name, missing[name], out), missing):
                step()
        settle_folders(out)
        _write_marker(out, seal, wanted)
    remove_tree(out / "build-log")
    return GetSummary(
        title=seal.title,
        out=out,
        fetched=len(missing),
        fetched_bytes=sum(one.size or 0 for one in missing.values()),
        kept=len(wanted) - len(missing),
        left_out=len(seal.files) - len(wanted),
    )


def _require_ours(out: Path, seal: Seal) -> None:
    """Raises OutputError unless out is new, empty, or holds this very release or a part of it."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file. Give a new or empty folder.")
    there = FolderPlace(out).listing() if out.exists() else {}
    for name in there:
        if (out / name).is_symlink():
            raise OutputError(f"{out / name}: is a link, and nothing is written or read through one. Remove it.")
    manifest = out / MANIFEST_FILE
    if manifest.is_file():
        if manifest.read_bytes() != seal.manifest_bytes:
            raise OutputError(f"{out}: holds another release, or another version of it. Give a new or empty folder.")
        return
    names = there
    if any(not name.startswith(("build-log/", f"{MANIFEST_FILE}.")) for name in names):
        raise OutputError(f"{out}: is not empty and holds no release. Give a new or empty folder.")


def _is_there(path: Path, expected: SealedFile) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size != expected.size:
        return False
    return digest_file(path).sha256 == expected.sha256


def _fetch(place: Place, name: str, expected: SealedFile, out: Path) -> None:
    """One file, whole and right, or not at all."""
    path = out / name
    for one in (path, *path.parents[: name.count("/")]):
        if one.is_symlink() or (one.exists() and one.is_dir() == (one is path)):
            raise OutputError(f"{one}: is in the way of a file of the release. Remove it.")
    write_durably(path, _checked(place, name, expected))


def _checked(place: Place, name: str, expected: SealedFile) -> Iterator[bytes]:
    """The pieces of a file; raises after the last one, while the file still has its temporary name."""
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


def _write_marker(out: Path, seal: Seal, wanted: Mapping[str, SealedFile]) -> None:
    if wanted.keys() == seal.files.keys():
        write_durably(out / RELEASE_MARKER_FILE, [seal.marker_bytes])
        return
    sizes = {name: seal.sizes[name] for name in wanted}
    write_durably(out / PARTIAL_FILE, [marker_bytes(seal.marker, seal.manifest_bytes, sizes)])
