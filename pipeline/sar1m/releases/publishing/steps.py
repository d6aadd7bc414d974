"""The steps of publishing: verify here; send data, metadata and manifest; check there; marker; tag.

After an interruption the same command goes on: files that are there with the right size and digest are not sent again.
Until the marker is there, no program takes the files for a release.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from sar1m.releases.publishing.folder import FolderTarget
from sar1m.releases.publishing.target import (
    CLAIM_FILE,
    Closing,
    Outgoing,
    PublishOptions,
    PublishSummary,
    Target,
    claim_of,
)
from sar1m.releases.verification import require_sound
from sar1m.releases.versions import parse_version
from sar1m.store.durable import digest_file
from sar1m.store.errors import ConfigError, OutputError, StoreError
from sar1m.store.places.folder import FolderPlace
from sar1m.store.progress import Watch
from sar1m.store.schema import DATA_DIR, MANIFEST_FILE, RELEASE_MARKER_FILE, SIGNATURE_FILE
from sar1m.store.seal import Seal, require_seal
from sar1m.store.seal_text import RELEASE_MARKERS, parse_marker


def publish(release: Path, target: str, options: PublishOptions, watch: Watch) -> PublishSummary:
    """Publishes a release folder at a path, s3://bucket/prefix or hf://datasets/owner/name.

    The target is the release's own place: its files lie there directly. Raises StoreError where the release does not
    verify or what arrived is not what was sent; OutputError where the target holds another version (a hub repository
    may hold an older one, which stays under its tag) or anything else; ConfigError for a target that cannot be one.
    """
    place = open_target(target, options)
    if isinstance(place, FolderTarget):
        place.require_apart(release)
    require_sound(release, watch)
    seal = require_seal(FolderPlace(release), RELEASE_MARKERS)
    if seal.marker_file != RELEASE_MARKER_FILE:
        raise StoreError(f"{release}: a part of a release, taken by `sar1m get`. Only a whole one is published.")
    files = _outgoing(release, seal)
    place.require_room(files)
    there = place.names()
    if _is_complete(place, there, seal):
        if not options.dry_run:
            _complete(place, release, seal, files, watch)
        return _summary(place, seal, (), kept=len(files), options=options)
    stale = _require_free(place, there, seal, files)
    held = place.holding(files) if CLAIM_FILE in there or stale else set()
    missing = [file for file in files if file.name not in held]
    if not options.dry_run:
        place.claim(claim_of(seal), stale)
        _send(place, files, missing, watch)
        _require_nothing_else(place, files)
        _complete(place, release, seal, files, watch)
    return _summary(place, seal, missing, kept=len(held), options=options)


def open_target(target: str, options: PublishOptions) -> Target:
    """The target that a text names. Raises ConfigError for anything but a path, s3:// or hf://datasets/owner/name."""
    # Clients of remote targets load only where they are needed.
    if target.startswith("hf://"):
        from sar1m.releases.publishing.hub import HubTarget  # noqa: PLC0415

        return HubTarget(target, private=options.private)
    if target.startswith("s3://"):
        from sar1m.releases.publishing.bucket import BucketTarget  # noqa: PLC0415

        return BucketTarget(target)
    if "://" in target:
        raise ConfigError(
            f"target {target.split(':', 1)[0]!r}...: expected a folder, s3://bucket/prefix or hf://datasets/owner/name."
        )
    return FolderTarget(Path(target))


def _outgoing(release: Path, seal: Seal) -> list[Outgoing]:
    """Every file in the order it goes: data, metadata, manifest."""
    files = [
        Outgoing(name=name, path=release / name, sha256=expected.sha256 or "", size=expected.size or 0)
        for name, expected in seal.files.items()
    ]
    files.sort(key=lambda file: (not file.name.startswith(f"{DATA_DIR}/"), file.name))
    own = [name for name in (SIGNATURE_FILE, MANIFEST_FILE) if (release / name).is_file()]
    return [*files, *(_local(release, name) for name in own)]


def _local(release: Path, name: str) -> Outgoing:
    digest = digest_file(release / name)
    return Outgoing(name=name, path=release / name, sha256=digest.sha256, size=digest.size)


def _complete(place: Target, release: Path, seal: Seal, files: Sequence[Outgoing], watch: Watch) -> None:
    marker = _local(release, RELEASE_MARKER_FILE)
    said = place.complete(Closing(marker=marker, tag=f"v{seal.version}", files=tuple(files)))
    if said:
        watch.note(said)


def _is_complete(place: Target, there: set[str], seal: Seal) -> bool:
    return RELEASE_MARKER_FILE in there and place.read(RELEASE_MARKER_FILE) == seal.marker_bytes


def _require_free(place: Target, there: set[str], seal: Seal, files: Sequence[Outgoing]) -> list[str]:
    """Files of a former version that make room, empty where there is none. Raises OutputError unless the place is
    empty, under way to this very release, or history keeps the former version that it holds."""
    if f"v{seal.version}" in place.tags():
        raise OutputError(
            f"{place.location}: version {seal.version} was published there and a version never changes. Give the "
            "release a new one."
        )
    if RELEASE_MARKER_FILE in there:
        _require_older(place, seal)
        kept = {file.name for file in files}
        return sorted(there - kept)
    if CLAIM_FILE in there:
        if place.read(CLAIM_FILE) != claim_of(seal):
            raise OutputError(
                f"{place.location}: another release is being published there (see {CLAIM_FILE}). Finish that one, "
                "remove what it left, or give another target."
            )
    elif there:
        raise OutputError(
            f"{place.location}: holds {_some(there)}, which is no release made by sar1m. Give another target."
        )
    return []


def _require_older(place: Target, seal: Seal) -> None:
    try:
        former = parse_marker(place.read(RELEASE_MARKER_FILE))
    except ValueError as error:
        raise OutputError(f"{place.location}/{RELEASE_MARKER_FILE}: damaged: {error}. Give another target.") from None
    version = str(former.get("version"))
    title = f"{former.get('name')} v{version}"
    if not place.keeps_history:
        raise OutputError(
            f"{place.location}: holds {title}, and what was published is not written over. Give another target for "
            f"{seal.title}, such as a folder named by its version."
        )
    if former.get("name") != seal.marker.get("name") or parse_version(version) >= parse_version(seal.version):
        raise OutputError(f"{place.location}: holds {title}, which {seal.title} does not follow. Give another target.")
    if f"v{version}" not in place.tags():
        raise OutputError(
            f"{place.location}: holds {title} without its tag, so it would be lost. Publish {title} again first: that "
            "sets the tag."
        )


def _send(place: Target, files: Sequence[Outgoing], missing: Sequence[Outgoing], watch: Watch) -> None:
    """Data before metadata before the manifest, each settled before the next begins; then the check. What did not
    arrive whole goes once more."""
    with watch.stage("send", len(missing)) as step:
        for phase in _phases(missing):
            place.send(phase, step)
    with watch.stage("check", len(files)) as step:
        wrong = set(place.differing(files, step))
    if not wrong:
        return
    again = [file for file in files if file.name in wrong]
    watch.note(f"{len(again)} files arrived damaged and are sent again: {_some(wrong)}")
    place.send(again, lambda: None)
    still = place.differing(again, lambda: None)
    if still:
        raise StoreError(
            f"{place.location}: {_some(still)} differ there from what was sent, twice. The release is not marked as "
            "complete. Try again, or look at the target's health."
        )


def _phases(files: Iterable[Outgoing]) -> list[list[Outgoing]]:
    phases: list[list[Outgoing]] = [[], [], []]
    for file in files:
        phases[2 if file.name == MANIFEST_FILE else int(not file.name.startswith(f"{DATA_DIR}/"))].append(file)
    return [phase for phase in phases if phase]


def _require_nothing_else(place: Target, files: Sequence[Outgoing]) -> None:
    extra = place.names() - {file.name for file in files} - {CLAIM_FILE}
    if extra:
        raise OutputError(f"{place.location}: {_some(extra)} appeared there, not of this release. Remove them.")


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - 3} more" if len(ordered) > 3 else ""
    return ", ".join(ordered[:3]) + more


def _summary(
    place: Target, seal: Seal, sent: Sequence[Outgoing], *, kept: int, options: PublishOptions
) -> PublishSummary:
    return PublishSummary(
        location=place.location,
        title=seal.title,
        sent=tuple(file.name for file in sent),
        sent_bytes=sum(file.size for file in sent),
        kept=kept,
        already_complete=not sent and kept > 0,
        dry_run=options.dry_run,
    )
