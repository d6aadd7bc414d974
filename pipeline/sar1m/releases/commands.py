"""The commands of releases, which sar1m.cli puts beside its own, and what its verify does for a release."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sar1m.store.durable import local_folder
from sar1m.store.errors import ConfigError
from sar1m.store.printer import Printer, pasted

if TYPE_CHECKING:
    from sar1m.releases.rebuild import RebuildRequest
    from sar1m.releases.trust import Trust
    from sar1m.releases.verification import Sampling
    from sar1m.store.chunk_checksums import QuickComparison
    from sar1m.store.seal import Seal, StoreFault

# A command imports what it needs when it runs, see sar1m.cli.
# ruff: noqa: PLC0415

GB = 10**9
EXIT_CHANGED = 4
ManifestOption = Annotated[
    str | None,
    typer.Option("--manifest-sha256", metavar="HEX", help="The release's manifest must be this one, as published."),
]
SignerOption = Annotated[
    str | None, typer.Option("--signer", metavar="WHO", help="Its manifest must be signed by WHO of --allowed-signers.")
]
SignersOption = Annotated[
    Path | None,
    typer.Option("--allowed-signers", help="Keys as ssh-keygen has them. Default: ~/.ssh/allowed_signers."),
]
ReleaseArgument = Annotated[Path, typer.Argument(help="Folder of a release.")]


def release(  # noqa: PLR0913 - one argument an option
    builds: Annotated[list[Path], typer.Argument(help="Folders of finished builds; their order does not matter.")],
    version: Annotated[str, typer.Option("--version", help="MAJOR.MINOR.PATCH.")],
    out: Annotated[
        Path | None, typer.Option("--out", callback=local_folder, help="Default: releases/<name>-v<version>.")
    ] = None,
    name: Annotated[str, typer.Option("--name")] = "sar-1m",
    previous: Annotated[Path | None, typer.Option("--previous", help="The release that this one follows.")] = None,
    recipes: Annotated[
        bool,
        typer.Option("--recipes", help="Leaves out pixels that may not be passed on and ships recipes to make them."),
    ] = False,
    url: Annotated[
        str | None, typer.Option("--url", help="Address of publication, for citation and catalogues.")
    ] = None,
    published: Annotated[
        datetime | None,
        typer.Option("--date", formats=["%Y-%m-%d"], help="Day of publication, for citation and catalogues."),
    ] = None,
    *,
    sign: Annotated[
        Path | None, typer.Option("--sign", metavar="KEY", help="Signs the manifest by a key of ssh-keygen.")
    ] = None,
) -> None:
    """Makes a release of one or many builds, or goes on with one that was interrupted."""
    from sar1m.releases.make import ReleaseRequest, make_release
    from sar1m.terminal import TerminalWatch, program

    console = Printer()
    folder = Path("releases") / f"{name}-v{version}" if out is None else out
    request = ReleaseRequest(
        version=version,
        name=name,
        previous=previous,
        recipes=recipes,
        published=None if published is None else published.date(),
        url=url,
        sign=sign,
    )
    summary = make_release(builds, folder, request, TerminalWatch(console))
    audit = summary.audit
    console.say(f"{summary.title}: {'was there already' if summary.nothing_to_do else 'made'}.")
    if audit:
        distances = audit.get("least_distance_km", {})
        pairs = ", ".join(f"{pair} {'-' if km is None else f'{km:.1f} km'}" for pair, km in distances.items())
        console.say(f"Splits:  least distance {pairs}")
    counts = summary.marker["counts"]
    counted = ", ".join(f"{counts[key]:,} {key}" for key in ("accepted", "paired", "rejected", "failed"))
    console.say(f"Samples: {counted}")
    console.say_all(
        [
            f"Release: {folder}",
            f"Page:    {folder / 'report/index.html'}",
            f"Verify:  {pasted(program(), 'verify', folder)}",
        ]
    )


def diff(
    before: ReleaseArgument,
    after: ReleaseArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """Samples added, removed, changed (by pixel hash) and moved between splits from one release to another."""
    from sar1m.releases.differences import diff as compare

    found = compare(before, after)
    if as_json:
        sys.stdout.write(json.dumps(found.to_json(), indent=1) + "\n")
        return
    Printer().say_all(found.lines())


def drift(
    stores: Annotated[list[str], typer.Argument(help="Finished builds and releases: folders, https://, s3://, hf://.")],
    false_alarms: Annotated[
        float,
        typer.Option("--false-alarms", min=0.001, max=0.5, help="Chance of a change reported where there is none."),
    ] = 0.01,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """Shift between radar and optical by platform, track, processor and month, and whether it changed (exit code 4)."""
    from sar1m.releases.drift import drift as examine

    report = examine(stores, false_alarms=false_alarms)
    if as_json:
        sys.stdout.write(json.dumps(report.to_json(), indent=1) + "\n")
    else:
        Printer().say_all(report.lines())
    if report.changes:
        raise typer.Exit(EXIT_CHANGED)


def publish(
    folder: ReleaseArgument,
    target: Annotated[str, typer.Argument(help="A folder, s3://bucket/prefix or hf://datasets/owner/name.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Lists the files that would be sent, sends nothing.")
    ] = False,
    private: Annotated[bool, typer.Option("--private", help="A new hub repository is private.")] = False,
) -> None:
    """Verifies a release and publishes it, the completion marker last; goes on after interruptions."""
    from sar1m.releases.publishing.steps import publish as send
    from sar1m.releases.publishing.target import PublishOptions
    from sar1m.terminal import TerminalWatch

    console = Printer()
    summary = send(folder, target, PublishOptions(dry_run=dry_run, private=private), TerminalWatch(console))
    did = "would be sent" if dry_run else "sent"
    if dry_run:
        console.say_all(summary.sent)
    console.say(
        f"{summary.title} at {summary.location}: {len(summary.sent):,} files {did} ({summary.sent_bytes / GB:.2f} GB), "
        f"{summary.kept:,} there already.{'' if dry_run else ' Complete.'}",
    )


def get(  # noqa: PLR0913 - one argument an option
    target: Annotated[
        str, typer.Argument(help="Where the release lies: folder, s3://, https://, hf://datasets/...@tag.")
    ],
    out: Annotated[Path, typer.Argument(callback=local_folder, help="Folder to put it in.")],
    split: Annotated[str | None, typer.Option("--split", help="Only this split's images.")] = None,
    shards: Annotated[int | None, typer.Option("--shards", help="Only the first N shards of each array.")] = None,
    where: Annotated[
        str | None,
        typer.Option("--where", help="Only these samples: \"country = 'PRT' and relative_orbit in (45, 125)\"."),
    ] = None,
    bbox: Annotated[
        str | None, typer.Option("--bbox", help="Only samples whose centre lies in west,south,east,north.")
    ] = None,
    *,
    manifest_sha256: ManifestOption = None,
    signer: SignerOption = None,
    allowed_signers: SignersOption = None,
) -> None:
    """Downloads a release, or a part of it, and checks every file; goes on after interruptions."""
    from sar1m.releases.portions import Portion
    from sar1m.releases.portions import get as download
    from sar1m.store.sample_filter import SampleFilter, parse_box
    from sar1m.terminal import TerminalWatch, program

    console = Printer()
    samples = SampleFilter(where=where, bbox=None if bbox is None else parse_box(bbox))
    trust = trust_of(manifest_sha256, signer, allowed_signers)
    summary = download(target, out, Portion(split=split, shards=shards, samples=samples), TerminalWatch(console), trust)
    part = f", {summary.left_out} left out" if summary.left_out else ""
    title = summary.title + (summary.part and f", {summary.part}")
    console.say(
        f"{title}: {summary.fetched} files fetched ({summary.fetched_bytes / GB:.2f} GB), {summary.kept} there "
        f"already{part}."
    )
    if trust.words:
        console.say(f"Publisher: {trust.words}.")
    console.say(f"Verify: {pasted(program(), 'verify', summary.out)}")


def trust_of(manifest_sha256: str | None, signer: str | None, allowed_signers: Path | None) -> Trust:
    """What the options say of a release's publisher. Raises ConfigError as Trust."""
    from sar1m.releases.trust import ALLOWED_SIGNERS, Trust

    if allowed_signers is not None and signer is None:
        raise ConfigError("--allowed-signers: without --signer no signature is checked. Say whose it should be.")
    return Trust(manifest_sha256=manifest_sha256, signer=signer, allowed_signers=allowed_signers or ALLOWED_SIGNERS)


def is_release(folder: Path) -> bool:
    """Whether a folder holds a release, or a part of one, and not a build."""
    from sar1m.store.seal_text import RELEASE_MARKERS

    return any((folder / name).is_file() for name in RELEASE_MARKERS)


def seal_of(folder: Path) -> Seal:
    """The seal of a release in a folder, or of a part of one. Raises StoreError where it is damaged."""
    from sar1m.store.places.folder import FolderPlace
    from sar1m.store.seal import require_seal
    from sar1m.store.seal_text import RELEASE_MARKERS

    return require_seal(FolderPlace(folder), RELEASE_MARKERS)


def verify_a_release(
    location: str, sampling: Sampling | None, trust: Trust, quick: QuickComparison | None, console: Printer
) -> list[StoreFault]:
    """Verifies a release, prints what was compared, and returns the faults found."""
    from sar1m.releases.verification import verify_release
    from sar1m.terminal import TerminalWatch

    summary = verify_release(location, TerminalWatch(console), sampling, trust, quick)
    unlisted = "" if summary.listed else " Added files cannot be seen at this address."
    part = f" ({summary.part})" if summary.part else ""
    console.say(
        f"{summary.title} at {summary.location}{part}: {summary.read_files:,} of {summary.files:,} files "
        f"({summary.read_bytes / GB:.4g} GB) and {summary.read_chunks:,} chunks compared, {len(summary.faults)} faults."
        f"{unlisted}",
    )
    if summary.part_of:
        console.say("Every byte follows from the release that it says it is part of.")
        if not trust.words:
            console.say(f"Not checked: whether {summary.part_of} is the manifest that was published.")
    if trust.words and not summary.faults:
        console.say(f"Publisher: {trust.words}.")
    return list(summary.faults)


def rebuild_request(
    place: str, source: str | None, count: int, seed: int, overrides: Sequence[str] | None
) -> RebuildRequest | None:
    """What verify is asked to make again, None for nothing. Raises ConfigError before anything is read."""
    from sar1m.releases.rebuild import RebuildRequest

    if not count:
        return None
    if source is None:
        raise ConfigError("--rebuild: give --source too, the region as `sar1m build --region` takes it.")
    if "://" in place:
        raise ConfigError(
            f"--rebuild: {place} is an address, and samples are compared with a release in a folder. Get it, or some "
            f"of its samples, first: {pasted('sar1m', 'get', place, 'FOLDER')} (--where, --bbox), then verify FOLDER."
        )
    return RebuildRequest(release=Path(place), source=source, count=count, seed=seed, overrides=tuple(overrides or ()))


def rebuild_samples(request: RebuildRequest, console: Printer) -> list[StoreFault]:
    """Makes samples again from their source, compares them, and returns the faults found."""
    from sar1m.releases.rebuild import rebuild as make_again
    from sar1m.terminal import TerminalWatch

    summary = make_again(request, TerminalWatch(console))
    console.say(
        f"{len(summary.compared):,} of {summary.samples:,} samples made again ({summary.offered:,} are offered by "
        f"{request.source}; {summary.recipes:,} by recipe): {len(summary.faults)} faults.",
    )
    return list(summary.faults)
