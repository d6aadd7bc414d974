"""A release from finished builds, in one command that can be killed at any moment and run again.

The release is made in a folder beside its place, <out>.making, and renamed when it is complete and sealed: at <out>
there is a complete release or none. The same builds, version and former release give the same bytes.

Over all builds together, each sample is held once, near-duplicates are removed, splits are drawn with their gap, and
audit and statistics are computed. The shares of [balance] (unpaired, water, land-cover class, ecoregion) are not
enforced again. Where each build keeps a share, their union keeps it too, apart from what near-duplicates, the gap and
recipes remove. Dropping samples to restore it would make a later MINOR version remove samples.
stats/coverage.json holds the shares of the union.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from sar1m.releases import versions
from sar1m.releases.builds import Build, open_builds, require_sound
from sar1m.releases.files import write_contents
from sar1m.releases.hub import open_release
from sar1m.releases.privacy import own_secrets
from sar1m.releases.selection import ReleaseSelection, choose
from sar1m.releases.trust import require_key, sign
from sar1m.releases.versions import Previous
from sar1m.store.durable import (
    local_folder,
    remove_partials,
    remove_tree,
    settle_folders,
    sync_directory,
    write_durably,
    writing_to,
)
from sar1m.store.errors import ConfigError, OutputError, Sar1mError, StoreError
from sar1m.store.file_lock import output_lock
from sar1m.store.progress import Watch
from sar1m.store.schema import DATA_DIR, RELEASE_MARKER_FILE
from sar1m.store.seal import require_seal
from sar1m.store.seal_text import RELEASE_MARKERS
from sar1m.store.side_files import read_json
from sar1m.store.version import __version__

MAKING_SUFFIX: Final = ".making"
INPUTS_FILE: Final = "inputs.json"  # in the folder under way: what it is being made from
LOCK_DIR: Final = "build-log"  # of store.file_lock
RECORDS_DIR: Final = "records"
ROOT_DIR: Final = "release"
_URL: Final = re.compile(r"[!#-;=?-\[\]_a-z~]+")  # what RFC 3986 allows, no more
_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class ReleaseRequest:
    """What a user asked for. previous: folder of the release this one follows. recipes: recipe-only optical pixels
    are left out and their recipes shipped. published, url: day and address of publication for the catalogues, which
    are not known otherwise. check_builds: every file of the builds is compared with its manifest. canaries:
    words that must appear nowhere, beside what privacy.py looks for of itself. sign: key by which the manifest is
    signed, see trust; it changes no other byte, and a release that is there already is signed too."""

    version: str
    name: str = "sar-1m"
    previous: Path | None = None
    recipes: bool = False
    published: date | None = None
    url: str | None = None
    check_builds: bool = True
    canaries: tuple[str, ...] = ()
    sign: Path | None = None


@dataclass(frozen=True, kw_only=True)
class ReleaseSummary:
    """How it ended. marker: RELEASE_COMPLETE.json; audit: leakage_audit.json."""

    root: Path
    marker: Mapping[str, Any]
    audit: Mapping[str, Any] = field(default_factory=dict)
    nothing_to_do: bool = False

    @property
    def title(self) -> str:
        """As one cites it: sar-1m v1.0.0."""
        return f"{self.marker['name']} v{self.marker['version']}"


def make_release(builds: Sequence[Path], out: Path, request: ReleaseRequest, watch: Watch) -> ReleaseSummary:
    """Makes the release, or goes on with one that was interrupted.

    Raises ConfigError where builds do not go together, licences forbid it or the version promises too little,
    StoreError where a build or the former release is damaged or splits leak, OutputError where out holds anything else
    or something private would leave, LockedError where another process makes the same release.
    """
    versions.parse_version(request.version)
    if not _NAME.fullmatch(request.name):
        raise ConfigError(f"name {request.name!r}: expected 1 to 64 letters, digits, dots, dashes or underscores.")
    if request.url is not None:
        _require_web_address(request.url)
    if request.sign is not None:
        require_key(request.sign)
    local_folder(out)
    out = out.absolute()
    opened = open_builds(builds)
    previous = None if request.previous is None else versions.read_previous(request.previous)
    if previous is not None:
        versions.require_follows(request.name, request.version, previous)
    inputs = _inputs(opened, request, previous)
    work = out.with_name(out.name + MAKING_SUFFIX)
    with output_lock(work):
        marker = _finished(out, inputs)
        nothing_to_do = marker is not None
        if marker is None:
            choice = _decide(opened, previous, request, work, watch)
            _prepare(work, inputs)
            secrets = own_secrets([out, *builds]) | dict.fromkeys(request.canaries, "a canary")
            identity = {**_identity(request), "inputs": inputs}
            write_contents(work / ROOT_DIR, work / RECORDS_DIR, choice, identity, secrets, watch)
            _install(work / ROOT_DIR, out)
            marker = require_seal(open_release(out), RELEASE_MARKERS).marker
        if request.sign is not None:
            sign(out, request.sign)
        remove_tree(work)
    audit = read_json(out / "leakage_audit.json", error=StoreError, remedy="Make the release again.")
    return ReleaseSummary(root=out, marker=marker, audit=audit, nothing_to_do=nothing_to_do)


def _identity(request: ReleaseRequest) -> dict[str, str]:
    """Name and version, and the day and the address of publication where they were given."""
    identity = {"name": request.name, "version": request.version}
    if request.published is not None:
        identity["published"] = request.published.isoformat()
    if request.url is not None:
        identity["url"] = request.url
    return identity


def _require_web_address(url: str) -> None:
    """Raises ConfigError unless a reader can follow it and it gives nobody's password away."""
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname or "@" in parts.netloc or not _URL.fullmatch(url):
        raise ConfigError("--url: expected https://host/path without user or password, of printable ASCII characters.")


def _inputs(builds: Sequence[Build], request: ReleaseRequest, previous: Previous | None) -> str:
    """blake2b-128 of all that decides the release's bytes, environment aside."""
    deciding = {
        "code": __version__,
        "builds": [build.digest for build in builds],
        **_identity(request),
        "recipes": request.recipes,
        "previous": None if previous is None else previous.digest,
    }
    return hashlib.blake2b(json.dumps(deciding, sort_keys=True).encode(), digest_size=16).hexdigest()


def _finished(out: Path, inputs: str) -> Mapping[str, Any] | None:
    """The marker where this very release stands whole in its place; None where the place is free."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    if not (out / RELEASE_MARKER_FILE).is_file():
        raise OutputError(f"{out}: exists and is no release. Give an empty or new folder as OUT.")
    marker = require_seal(open_release(out), RELEASE_MARKERS).marker
    if marker.get("inputs") != inputs:
        raise OutputError(
            f"{out}: holds {marker.get('name')} v{marker.get('version')} made from other builds or settings, and a "
            "release is never overwritten. Give another version and folder."
        )
    sizes = {name: (out / name).stat().st_size if (out / name).is_file() else None for name in marker["files"]}
    wrong = [name for name, size in sizes.items() if size != marker["files"][name]]
    if wrong:
        raise OutputError(f"{out}: damaged: {len(wrong)} files differ, first {wrong[0]}. Remove it and run again.")
    return marker


def _prepare(work: Path, inputs: str) -> None:
    """Keeps what an interrupted run of the same release left of its shards and their records; removes the rest."""
    note = json.dumps({"inputs": inputs}).encode()
    path = work / INPUTS_FILE
    same = path.is_file() and path.read_bytes() == note
    for entry in sorted(work.iterdir()):
        if entry.name != LOCK_DIR and not (same and entry.name in (INPUTS_FILE, RECORDS_DIR, ROOT_DIR)):
            remove_tree(entry)
    sync_directory(work)
    if not same:
        write_durably(path, [note])
    root = work / ROOT_DIR
    if root.is_dir():
        for entry in sorted(root.iterdir()):
            if entry.name != DATA_DIR:
                remove_tree(entry)
    remove_partials(work)


def _decide(
    builds: Sequence[Build], previous: Previous | None, request: ReleaseRequest, work: Path, watch: Watch
) -> ReleaseSelection:
    """Checks the builds and chooses the samples. Where a first attempt is refused, its working folder is removed."""
    try:
        if request.check_builds:
            with watch.stage("check builds", sum(len(build.marker["files"]) for build in builds)) as step:
                for build in builds:
                    require_sound(build, lambda _name: step())
        return choose(builds, request.version, previous, recipes=request.recipes)
    except Sar1mError:
        if not (work / INPUTS_FILE).exists():
            remove_tree(work)
        raise


def _install(root: Path, out: Path) -> None:
    """Makes every name durable, then puts the folder in its place in one rename."""
    settle_folders(root)
    with writing_to(out):
        root.rename(out)
        sync_directory(out.parent)
