"""The commands that read finished stores: verify, report, info."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sar1m.cli.options import SetOption, StoreArgument, console, problems
from sar1m.releases import commands as release_commands
from sar1m.store.durable import local_folder
from sar1m.store.errors import ConfigError, OutputError
from sar1m.store.schema import MARKER_FILE

if TYPE_CHECKING:
    from sar1m.store.chunk_checksums import QuickComparison
    from sar1m.store.seal import StoreFault

# A command imports what it needs when it runs, see sar1m.cli.
# ruff: noqa: PLC0415


def verify(  # noqa: PLR0913 - one argument an option
    place: Annotated[str, typer.Argument(metavar="PLACE", help="Output folder of a build, or a release, also remote.")],
    files: Annotated[int | None, typer.Option("--files", min=0, help="Of a release: so many, drawn.")] = None,
    chunks: Annotated[int, typer.Option("--chunks", min=0, help="With --files: and so many chunks of images.")] = 0,
    seed: Annotated[int, typer.Option("--seed", help="Of what is drawn.")] = 0,
    rebuild: Annotated[int, typer.Option("--rebuild", min=0, help="Of a release: makes so many samples again.")] = 0,
    source: Annotated[str | None, typer.Option("--source", help="With --rebuild: the region they come from.")] = None,
    overrides: SetOption = None,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Of shards, index and checksums of chunks alone.")] = False,
    manifest_sha256: release_commands.ManifestOption = None,
    signer: release_commands.SignerOption = None,
    allowed_signers: release_commands.SignersOption = None,
) -> None:
    """Compares every file of a finished store or release with its manifest and names what differs."""
    from sar1m.api import is_build
    from sar1m.store.chunk_checksums import QuickComparison

    if quick and files is not None:
        raise ConfigError("--quick: looks at every file; leave out --files.")
    comparison = QuickComparison() if quick else None
    again = release_commands.rebuild_request(place, source, rebuild, seed, overrides)
    if is_build(place):
        if manifest_sha256 or signer or again:
            raise ConfigError(f"{place}: holds no release; --manifest-sha256, --signer and --rebuild are of releases.")
        remedy = "Delete the named files and run the same build again: they are made anew."
        _report_faults(place, _verify_build(place, comparison), remedy)
        return
    from sar1m.releases.verification import Sampling

    sampling = None if files is None else Sampling(files=files, chunks=chunks, seed=seed)
    trust = release_commands.trust_of(manifest_sha256, signer, allowed_signers)
    faults = release_commands.verify_a_release(place, sampling, trust, comparison, console)
    if again:
        faults += release_commands.rebuild_samples(again, console)
    _report_faults(place, faults, "Get the named files again (`sar1m get`), or ask their publisher.")


def _verify_build(place: str, quick: QuickComparison | None) -> list[StoreFault]:
    from sar1m.api import verify_build
    from sar1m.store.places.opening import open_place
    from sar1m.store.seal import read_marker
    from sar1m.terminal import TerminalWatch

    out = open_place(place)
    faults = verify_build(out, TerminalWatch(problems), quick)
    if not faults:
        files = len((read_marker(out) or {"files": ()})["files"])
        looked = "" if quick is None else f", of the shards {quick.chunks:,} checksums of chunks, not their pixels"
        console.say(f"{out.location}: {files:,} files verified{looked}, no fault.")
    return faults


def _report_faults(place: str, faults: Sequence[StoreFault], remedy: str) -> None:
    """Names the faults, or else what is worth knowing of a sound store; exit code 1 where there are faults."""
    for fault in faults:
        problems.say(f"{fault.path}: {fault.found}", style="red")
    if faults:
        problems.say(f"{len(faults)} faults in {place}. {remedy}")
        raise typer.Exit(1)
    if "://" not in place:
        _name_other_code(Path(place))


def _name_other_code(store: Path) -> None:
    from sar1m.stages.deciding import differences_from_here, in_words
    from sar1m.store.places.folder import FolderPlace

    place = FolderPlace(store)
    found = differences_from_here(place, place.listing())
    if found:
        console.say(
            f"For your information: other code or libraries than these made it: {in_words(found)}. Its bytes are as "
            "they were sealed; a build of these scenes here may give others."
        )


def report(
    out: StoreArgument,
    to: Annotated[Path | None, typer.Option("--to", callback=local_folder, help="Writes a fresh page there.")] = None,
) -> None:
    """Prints where the store's page is, or writes a fresh one elsewhere (the store's own is under its manifest)."""
    from sar1m.store.outputs.opening import open_output
    from sar1m.store.schema import DATA_DIR, REPORT_FILE

    marker = _facts_of_build(out)
    if to is None:
        console.say(f"{open_output(out).location}/{REPORT_FILE}" if "://" in out else str(Path(out) / REPORT_FILE))
        return
    from sar1m.page.build_page import render_report

    place = open_output(out)
    shards = f"{DATA_DIR}/"
    with place.local([name for name in marker["files"] if not name.startswith(shards)]) as folder:
        page = render_report(folder, place)
    try:
        to.write_text(page, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{to}: cannot be written: {error.strerror}. Give another file to --to.") from error
    console.say(f"written: {to}")


def info(
    out: StoreArgument, *, as_json: Annotated[bool, typer.Option("--json", help="The marker itself.")] = False
) -> None:
    """Shows what a finished store, a release or a part of one holds and how to open it."""
    folder = None if "://" in out else Path(out)
    seal = release_commands.seal_of(folder) if folder and release_commands.is_release(folder) else None
    marker = _facts_of_build(out) if seal is None else dict(seal.marker)
    if as_json:
        sys.stdout.write(json.dumps(marker, indent=1, sort_keys=True) + "\n")
        return
    from sar1m.store.schema import DATA_DIR, SPLITS
    from sar1m.terminal import count_table

    size = sum(marker["files"].values())
    title = marker["name"] if seal is None else f"{seal.title}{seal.part and f' ({seal.part})'}"
    console.say(
        f"{title} ({marker['region']}), schema {marker['schema_version']}, made by sar1m "
        f"{marker['code_version']}: {len(marker['files']):,} files, {size / 1e6:,.1f} MB.",
    )
    console.print(count_table(marker))
    there = (name for name in SPLITS if f"{DATA_DIR}/{name}.zarr/zarr.json" in marker["files"])
    split = next((name for name in there if marker["by_split"].get(name)), None)
    if split is not None:
        array = json.dumps(f"{out.rstrip('/')}/{DATA_DIR}/{split}.zarr")  # a string of Python too, whatever it holds
        opening = f"import xarray; xarray.open_zarr({array}, consolidated=False)"
        if folder is None:
            store = f"zarr.storage.ObjectStore(obstore.store.from_url({array}), read_only=True)"
            opening = f"import obstore, xarray, zarr; xarray.open_zarr({store}, consolidated=False)"
        console.say(opening)


def _facts_of_build(out: str) -> dict[str, Any]:
    if "://" in out:
        from sar1m.store.outputs.opening import open_output
        from sar1m.store.seal import read_marker

        marker = read_marker(open_output(out))
        if marker is None:
            raise OutputError(
                f"{out}: no {MARKER_FILE} here: not a finished build. Finish it with `sar1m build`; of a release at an "
                "address see `sar1m verify` and `sar1m get`."
            )
        return marker
    if release_commands.is_release(Path(out)):
        raise OutputError(f"{out}: a release, or a part of one. `sar1m info` and `sar1m verify` read those.")
    from sar1m import api

    return dict(api.open(out).facts)
