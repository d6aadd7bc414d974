"""The command line `sar1m`: from Sentinel-1 scenes to a verified dataset of SAR and optical patches.

Exit codes: 0 done; 1 error; 2 usage, configuration or region;
3 finished, but some work items failed (they are named); 4 drift found a change, audit-pairs a pair beyond
the limit or none it could measure, or register no shift;
75 another build works on the same output; 130 interrupted.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sar1m.audit import commands as audit_commands
from sar1m.releases import commands as release_commands
from sar1m.store.durable import local_folder
from sar1m.store.entry import EXIT_INTERRUPTED, Interrupted, heed_signals
from sar1m.store.errors import ConfigError, OutputError, Sar1mError
from sar1m.store.printer import Printer, never_fail_on_letters, pasted
from sar1m.store.version import __version__

if TYPE_CHECKING:
    from sar1m.building import BuildSummary
    from sar1m.sources.regions.region import Region
    from sar1m.store.seal import StoreFault

# A command imports what it needs when it runs: the pipeline's libraries take two seconds, help and version nothing.
# ruff: noqa: PLC0415

EXIT_SOME_FAILED = 3

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
console = Printer()
problems = Printer(stderr=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        console.say(__version__)
        raise typer.Exit


@app.callback(help=__doc__)
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Prints it.")
    ] = False,
) -> None: ...


RegionOption = Annotated[
    str,
    typer.Option(
        "--region",
        help="sample; safe:PATH; folder:PATH; simulated:CELLS; a country (name or ISO code); west,south,east,north; "
        "or a GeoJSON/GeoPackage file.",
    ),
]
ConfigOption = Annotated[
    str | None,
    typer.Option("--config", help="A TOML file, or the name of one in pipeline/configs (sample, sar1m, chips)."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Overrides one key: --set grid.patch_px=192. May be repeated."),
]
OutOption = Annotated[
    Path | None, typer.Option("--out", callback=local_folder, help="Output folder. Default: build/<region>.")
]
SchedulerOption = Annotated[
    str | None, typer.Option("--scheduler", help="A running Dask scheduler, e.g. tcp://127.0.0.1:8786.")
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=0, help="Local processes; default one a core; 0: in this process.")
]
PatienceOption = Annotated[
    float, typer.Option("--patience", min=1, help="Seconds to wait for a scheduler or workers that are gone.")
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Stops at the first product or block that fails.")]
StoreArgument = Annotated[Path, typer.Argument(metavar="OUT", callback=local_folder, help="Output folder of a build.")]


@app.command()
def build(  # noqa: PLR0913 - one argument an option
    region: RegionOption,
    out: OutOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    scheduler: SchedulerOption = None,
    workers: WorkersOption = None,
    patience: PatienceOption = 60.0,
    plan: Annotated[Path | None, typer.Option("--plan", help="A table that `sar1m plan --to` wrote.")] = None,
    *,
    strict: StrictOption = False,
) -> None:
    """Builds a dataset, or goes on with one that was interrupted."""
    from sar1m import api
    from sar1m.terminal import TerminalWatch

    place = _place(region)
    folder = api.output_folder(out, place)
    summary = api.build(
        region,
        folder,
        config=config,
        overrides=overrides or (),
        workers=workers,
        scheduler=scheduler,
        patience_s=patience,
        plan=plan,
        strict=strict,
        watch=TerminalWatch(console),
    )
    _finish(folder, summary)


@app.command()
def plan(
    region: RegionOption,
    out: OutOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to", callback=local_folder, help="Writes the plan of an area as a table that build --plan takes."
        ),
    ] = None,
    mbit: Annotated[float, typer.Option("--mbit", min=0.1, help="Your line, for the time estimate.")] = 200.0,
    *,
    strict: StrictOption = False,
) -> None:
    """Says what a build would consist of and cost. Reads no pixel; areas are searched at their services."""
    from sar1m import api
    from sar1m.terminal import TerminalWatch, print_failures, program

    _place(region)
    given = overrides or ()
    watch = TerminalWatch(console)
    found = api.plan(region, out, config=config, overrides=given, to=to, mbit=mbit, strict=strict, watch=watch)
    if found.totals is not None:
        if to is not None:
            console.say_all([pasted(program(), "build", "--region", region, "--plan", to)])
        return
    console.say_all(found.remarks)
    console.say(
        f"{found.region}: {found.work_items:,} work items ({found.paired:,} with an optical partner), "
        f"{found.patches:,} patches of {found.patch_px} px.",
    )
    if found.failed:
        print_failures(console, found.failed, "The build will name them all.")
        raise typer.Exit(EXIT_SOME_FAILED)


@app.command()
def doctor(
    out: OutOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    *,
    online: Annotated[bool, typer.Option("--online", help="Also asks each service whether it answers.")] = False,
) -> None:
    """Says which services of scenes can be used from here, with which credentials, and what to do for the others."""
    from sar1m.config import resolve_config
    from sar1m.sources.dispatch import open_fetcher
    from sar1m.sources.services.doctor import render, report

    settings = resolve_config(config or "sar1m", overrides or [])
    place = out if out is not None else Path("build")
    render(console, report(settings, open_fetcher(settings, place), place, online=online))


@app.command()
def status(out: StoreArgument) -> None:
    """Says how far a build has come."""
    from sar1m.stages.plan import read_plan
    from sar1m.stages.staged import staged_path
    from sar1m.store.seal import read_marker
    from sar1m.terminal import count_table

    planned = read_plan(out / "staging")
    staged = sum(staged_path(out / "staging", item.key).is_file() for item in planned.items)
    console.say(f"{planned.region}: {staged:,} of {len(planned.items):,} work items staged.")
    for item in planned.failed:
        console.say(f"failed: {item.item_id}: {item.error}: {item.cause}")
    marker = read_marker(out)
    if marker is None:
        console.say("The store is not complete. Run the same build command again to go on.")
        return
    if marker["plan"] == planned.digest():
        console.say("The store is complete.")
    else:
        console.say("The store is that of an earlier build. Run the same build command again to go on to this one.")
    console.print(count_table(marker))


@app.command()
def refilter(
    out: StoreArgument,
    config: ConfigOption = None,
    overrides: SetOption = None,
    scheduler: SchedulerOption = None,
    workers: WorkersOption = None,
    patience: PatienceOption = 60.0,
) -> None:
    """Applies new thresholds to what is staged and packs anew. Reads no source. Keys not given stay as they were."""
    from sar1m import building
    from sar1m.config import resolve_config
    from sar1m.flow import WorkersSettings
    from sar1m.terminal import TerminalWatch

    former = out / building.CONFIG_FILE
    if config is None and not former.is_file():
        raise OutputError(
            f"{out}: no finished store with thresholds to start from. Finish it with `sar1m build`, or give --config."
        )
    settings = resolve_config(config or str(former), overrides or [])
    where = WorkersSettings(scheduler=scheduler, workers=workers, patience_s=patience)
    summary = building.refilter(out, settings, where, TerminalWatch(console))
    _finish(out, summary)


@app.command()
def verify(  # noqa: PLR0913 - one argument an option
    place: Annotated[str, typer.Argument(metavar="PLACE", help="Output folder of a build, or a release, also remote.")],
    files: Annotated[int | None, typer.Option("--files", min=0, help="Of a release: so many, drawn.")] = None,
    chunks: Annotated[int, typer.Option("--chunks", min=0, help="With --files: and so many chunks of images.")] = 0,
    seed: Annotated[int, typer.Option("--seed", help="Of what is drawn.")] = 0,
    rebuild: Annotated[int, typer.Option("--rebuild", min=0, help="Of a release: makes so many samples again.")] = 0,
    source: Annotated[str | None, typer.Option("--source", help="With --rebuild: the region they come from.")] = None,
    overrides: SetOption = None,
    *,
    manifest_sha256: release_commands.ManifestOption = None,
    signer: release_commands.SignerOption = None,
    allowed_signers: release_commands.SignersOption = None,
) -> None:
    """Compares every file of a finished store or release with its manifest and names what differs."""
    if "://" not in place and not release_commands.is_release(Path(place)):
        if manifest_sha256 or signer:
            raise ConfigError(f"{place}: holds no release; --manifest-sha256 and --signer are of releases.")
        remedy = "Delete the named files and run the same build again: they are made anew."
        _report_faults(place, _verify_build(Path(place)), remedy)
        return
    from sar1m.releases.rebuild import RebuildRequest
    from sar1m.releases.verification import Sampling

    sampling = None if files is None else Sampling(files=files, chunks=chunks, seed=seed)
    trust = release_commands.trust_of(manifest_sha256, signer, allowed_signers)
    faults = release_commands.verify_a_release(place, sampling, trust, console)
    if rebuild:
        if source is None:
            raise ConfigError("--rebuild: give --source too, the region as `sar1m build --region` takes it.")
        given = tuple(overrides or ())
        request = RebuildRequest(release=Path(place), source=source, count=rebuild, seed=seed, overrides=given)
        faults += release_commands.rebuild_samples(request, console)
    _report_faults(place, faults, "Get the named files again (`sar1m get`), or ask their publisher.")


def _verify_build(out: Path) -> list[StoreFault]:
    from sar1m.api import verify_build
    from sar1m.store.seal import read_marker
    from sar1m.terminal import TerminalWatch

    faults = verify_build(out, TerminalWatch(problems))
    if not faults:
        files = len((read_marker(out) or {"files": ()})["files"])
        console.say(f"{out}: {files:,} files verified, no fault.")
    return faults


def _report_faults(place: str, faults: Sequence[StoreFault], remedy: str) -> None:
    for fault in faults:
        problems.say(f"{fault.path}: {fault.found}", style="red")
    if faults:
        problems.say(f"{len(faults)} faults in {place}. {remedy}")
        raise typer.Exit(1)


for name in ("release", "diff", "drift", "publish", "get"):
    app.command()(getattr(release_commands, name))
app.command()(audit_commands.audit_pairs)
app.command()(audit_commands.register)


@app.command()
def report(
    out: StoreArgument,
    to: Annotated[Path | None, typer.Option("--to", callback=local_folder, help="Writes a fresh page there.")] = None,
) -> None:
    """Prints where the store's page is, or writes a fresh one elsewhere (the store's own is under its manifest)."""
    from sar1m.store.schema import REPORT_FILE

    _facts_of_build(out)
    if to is None:
        console.say(str(out / REPORT_FILE))
        return
    from sar1m.page.build_page import render_report

    try:
        to.write_text(render_report(out), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{to}: cannot be written: {error.strerror}. Give another file to --to.") from error
    console.say(f"written: {to}")


@app.command()
def info(
    out: StoreArgument, *, as_json: Annotated[bool, typer.Option("--json", help="The marker itself.")] = False
) -> None:
    """Shows what a finished store, a release or a part of one holds and how to open it."""
    seal = release_commands.seal_of(out) if release_commands.is_release(out) else None
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
        array = json.dumps(f"{out}/{DATA_DIR}/{split}.zarr")  # a string of Python too, whatever it holds
        opening = f"import xarray; xarray.open_zarr({array}, consolidated=False)"
        console.say(opening)


@app.command()
def simulate(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", callback=local_folder, help="A new or empty folder.")],
    lon: Annotated[
        float, typer.Option(min=-180, max=180, help="Degrees; the scene lies over the nearest cell.")
    ] = 11.5,
    lat: Annotated[float, typer.Option(min=-75, max=75, help="Degrees.")] = 47.3,
    relief_m: Annotated[float, typer.Option(min=0, max=1500, help="Standard deviation of height.")] = 150.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    *,
    whole_swath: Annotated[
        bool, typer.Option("--whole-swath", help="16,700 x 26,000 px over repeated ground, SAR alone: for load tests.")
    ] = False,
) -> None:
    """Writes a Sentinel-1 product of a made-up place with DEM and optical partner, to try `safe:FOLDER` on."""
    from sar1m.sources.simulated import write_product
    from sar1m.terminal import program

    path = write_product(folder, lon=lon, lat=lat, relief_m=relief_m, seed=seed, whole_swath=whole_swath)
    console.say(f"Product: {path}")
    console.say(f"Build:   {pasted(program(), 'build', '--region', f'safe:{folder}')}")


def main() -> None:
    """Entry point: turns our errors into one readable line and an exit code."""
    never_fail_on_letters()
    heed_signals(signal.SIGINT, signal.SIGTERM)
    try:
        app(standalone_mode=True)
    except Sar1mError as error:
        problems.say(f"sar1m: {error}", style="red")
        sys.exit(error.exit_code)
    except Interrupted:
        problems.say("sar1m: interrupted. What is staged is kept: the same command goes on from there.")
        sys.exit(EXIT_INTERRUPTED)


def _place(region: str) -> Region:
    from sar1m.sources.regions.region import parse_region

    place = parse_region(region)
    for note in place.notes:
        problems.say(f"note: {note}")
    return place


def _facts_of_build(out: Path) -> dict[str, Any]:
    if release_commands.is_release(out):
        raise OutputError(f"{out}: a release, or a part of one. `sar1m info` and `sar1m verify` read those.")
    from sar1m import api

    return dict(api.open(out).facts)


def _finish(out: Path, summary: BuildSummary) -> None:
    from sar1m.terminal import print_summary

    print_summary(console, out, summary)
    if summary.failed:
        raise typer.Exit(EXIT_SOME_FAILED)
