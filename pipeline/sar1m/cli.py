"""The command line `sar1m`: from Sentinel-1 scenes to a verified dataset of SAR and optical patches.

Exit codes: 0 done; 1 error; 2 usage, configuration or region;
3 finished, but some work items failed (they are named);
75 another build works on the same output; 130 interrupted.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console

from sar1m import __version__, building
from sar1m.config import BuildConfig, resolve_config
from sar1m.flow import WorkersSettings
from sar1m.page.build_page import render_report
from sar1m.releases import commands as release_commands
from sar1m.releases.rebuild import RebuildRequest
from sar1m.releases.verification import Sampling
from sar1m.sources.dispatch import open_area, open_fetcher, open_source
from sar1m.sources.regions.region import Region, cells_of, parse_region
from sar1m.stages.plan import make_plan, read_plan
from sar1m.stages.staged import staged_path
from sar1m.store.errors import ConfigError, OutputError, Sar1mError
from sar1m.store.schema import DATA_DIR, MARKER_FILE, REPORT_FILE, SPLITS
from sar1m.store.seal import Fault, read_marker
from sar1m.store.seal import verify as find_faults
from sar1m.terminal import TerminalWatch, count_table, print_summary, program

EXIT_SOME_FAILED = 3
EXIT_INTERRUPTED = 130

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
console = Console()
problems = Console(stderr=True)

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
OutOption = Annotated[Path | None, typer.Option("--out", help="Output folder. Default: build/<region>.")]
SchedulerOption = Annotated[
    str | None, typer.Option("--scheduler", help="A running Dask scheduler, e.g. tcp://127.0.0.1:8786.")
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=0, help="Local processes; default one a core; 0: in this process.")
]
StoreArgument = Annotated[Path, typer.Argument(metavar="OUT", help="Output folder of a build.")]


@app.command()
def build(
    region: RegionOption,
    out: OutOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    scheduler: SchedulerOption = None,
    workers: WorkersOption = None,
    plan: Annotated[Path | None, typer.Option("--plan", help="A table that `sar1m plan --to` wrote.")] = None,
) -> None:
    """Builds a dataset, or goes on with one that was interrupted."""
    place = _place(region)
    request = building.BuildRequest(
        region=region,
        out=_out(out, place),
        config=_config(config, overrides, place),
        workers=WorkersSettings(scheduler=scheduler, workers=workers),
        plan=plan,
    )
    _finish(request.out, building.build(request, TerminalWatch(console)))


@app.command()
def plan(
    region: RegionOption,
    out: OutOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="Writes the plan of an area as a table that build --plan takes.")
    ] = None,
    mbit: Annotated[float, typer.Option("--mbit", min=0.1, help="Your line, for the time estimate.")] = 200.0,
) -> None:
    """Says what a build would consist of and cost. Reads no pixel; areas are searched at their services."""
    place = _place(region)
    settings = _config(config, overrides, place)
    if place.kind == "area":
        _plan_area(place, settings, _out(out, place), to, mbit)
        return
    source = open_source(place, settings, _out(out, place))
    planned, candidates = make_plan(place.label, source.candidates(settings), settings)
    _print_lines(source.remarks)
    paired = sum(candidate.optical is not None for candidate in candidates.values())
    console.print(
        f"{place.label}: {len(planned.items):,} work items ({paired:,} with an optical partner), "
        f"{planned.patches:,} patches of {settings.grid.patch_px} px.",
        soft_wrap=True,
    )


def _plan_area(place: Region, settings: BuildConfig, out: Path, to: Path | None, mbit: float) -> None:
    # Services bring clients and a compiler that the other commands need not load.
    from sar1m.sources.area.plan_table import write_plan_table  # noqa: PLC0415
    from sar1m.sources.area.pricing import Pace, price_rows, require_within, summary, total  # noqa: PLC0415

    cells = len(cells_of(place))
    most = cells * settings.grid.patches_per_side**2
    _print_lines([f"{place.label}: {cells:,} cells of 10 km, up to {most:,} patches per date."])
    source = open_area(place, settings, out)
    found = source.plan(settings)
    prices = price_rows(found, source.sar, source.optical, settings)
    totals = total(found, prices, settings, Pace(mbit=mbit, workers=os.cpu_count() or 1))
    _print_lines([*found.remarks(settings.area.scenes_per_cell), *summary(totals)])
    require_within(totals, settings.download)
    if to is not None:
        write_plan_table(to, found, prices, settings)
        _print_lines([f"written: {to}", f"{program()} build --region {place.label} --plan {to}"])


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


@app.command()
def doctor(
    out: OutOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    *,
    online: Annotated[bool, typer.Option("--online", help="Also asks each service whether it answers.")] = False,
) -> None:
    """Says which services of scenes can be used from here, with which credentials, and what to do for the others."""
    from sar1m.sources.services.doctor import render, report  # noqa: PLC0415  a compiler others need not load

    settings = resolve_config(config or "sar1m", overrides or [])
    place = out if out is not None else Path("build")
    render(console, report(settings, open_fetcher(settings, place), place, online=online))


@app.command()
def status(out: StoreArgument) -> None:
    """Says how far a build has come."""
    planned = read_plan(out / "staging")
    staged = sum(staged_path(out / "staging", item.key).is_file() for item in planned.items)
    console.print(f"{planned.region}: {staged:,} of {len(planned.items):,} work items staged.", highlight=False)
    for item in planned.failed:
        console.print(
            f"failed: {item.item_id}: {item.error}: {item.cause}", markup=False, highlight=False, soft_wrap=True
        )
    marker = read_marker(out)
    if marker is None:
        console.print("The store is not complete. Run the same build command again to go on.")
        return
    if marker["plan"] == planned.digest():
        console.print("The store is complete.")
    else:
        console.print("The store is that of an earlier build. Run the same build command again to go on to this one.")
    console.print(count_table(marker))


@app.command()
def refilter(
    out: StoreArgument,
    config: ConfigOption = None,
    overrides: SetOption = None,
    scheduler: SchedulerOption = None,
    workers: WorkersOption = None,
) -> None:
    """Applies new thresholds to what is staged and packs anew. Reads no source. Keys not given stay as they were."""
    former = out / building.CONFIG_FILE
    if config is None and not former.is_file():
        raise OutputError(
            f"{out}: no finished store with thresholds to start from. Finish it with `sar1m build`, or give --config."
        )
    settings = resolve_config(config or str(former), overrides or [])
    summary = building.refilter(
        out, settings, WorkersSettings(scheduler=scheduler, workers=workers), TerminalWatch(console)
    )
    _finish(out, summary)


@app.command()
def verify(
    place: Annotated[str, typer.Argument(metavar="PLACE", help="Output folder of a build, or a release, also remote.")],
    files: Annotated[
        int | None, typer.Option("--files", min=0, help="Of a release: only so many files, drawn.")
    ] = None,
    chunks: Annotated[int, typer.Option("--chunks", min=0, help="With --files: and so many chunks of images.")] = 0,
    seed: Annotated[int, typer.Option("--seed", help="Of what is drawn.")] = 0,
    rebuild: Annotated[int, typer.Option("--rebuild", min=0, help="Of a release: makes so many samples again.")] = 0,
    source: Annotated[str | None, typer.Option("--source", help="With --rebuild: the region they come from.")] = None,
    overrides: SetOption = None,
) -> None:
    """Compares every file of a finished store or release with its manifest and names what differs."""
    if "://" not in place and not release_commands.is_release(Path(place)):
        remedy = "Delete the named files and run the same build again: they are made anew."
        _tell_faults(place, _verify_store(Path(place)), remedy)
        return
    sampling = None if files is None else Sampling(files=files, chunks=chunks, seed=seed)
    faults = release_commands.verify_a_release(place, sampling, console)
    if rebuild:
        if source is None:
            raise ConfigError("--rebuild: give --source too, the region as `sar1m build --region` takes it.")
        request = RebuildRequest(
            release=Path(place), source=source, count=rebuild, seed=seed, overrides=tuple(overrides or ())
        )
        faults += release_commands.rebuild_samples(request, console)
    _tell_faults(place, faults, "Get the named files again (`sar1m get`).")


def _verify_store(out: Path) -> list[Fault]:
    marker = read_marker(out)
    files = 0 if marker is None else len(marker["files"])
    with TerminalWatch(problems).stage("verify", files) as step:
        faults = find_faults(out, lambda _name: step())
    if not faults:
        console.print(f"{out}: {files:,} files verified, no fault.", highlight=False, soft_wrap=True)
    return faults


def _tell_faults(place: str, faults: Sequence[Fault], remedy: str) -> None:
    for fault in faults:
        problems.print(f"{fault.path}: {fault.found}", style="red", markup=False, highlight=False, soft_wrap=True)
    if faults:
        problems.print(f"{len(faults)} faults in {place}. {remedy}", highlight=False, soft_wrap=True)
        raise typer.Exit(1)


for command in (release_commands.release, release_commands.diff, release_commands.publish, release_commands.get):
    app.command()(command)


@app.command()
def report(
    out: StoreArgument, to: Annotated[Path | None, typer.Option("--to", help="Writes a fresh page there.")] = None
) -> None:
    """Prints where the store's page is, or writes a fresh one elsewhere (the store's own is under its manifest)."""
    _require_complete(out)
    if to is None:
        console.print(str(out / REPORT_FILE), highlight=False, soft_wrap=True)
        return
    try:
        to.write_text(render_report(out), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{to}: cannot be written: {error.strerror}. Give another file to --to.") from error
    console.print(f"written: {to}", highlight=False, soft_wrap=True)


@app.command()
def info(
    out: StoreArgument, *, as_json: Annotated[bool, typer.Option("--json", help="The marker itself.")] = False
) -> None:
    """Shows what a finished store, a release or a part of one holds and how to open it."""
    seal = release_commands.seal_of(out) if release_commands.is_release(out) else None
    marker = _require_complete(out) if seal is None else dict(seal.marker)
    if as_json:
        sys.stdout.write(json.dumps(marker, indent=1, sort_keys=True) + "\n")
        return
    size = sum(marker["files"].values())
    title = marker["name"] if seal is None else f"{seal.title}{seal.part and f' ({seal.part})'}"
    console.print(
        f"{title} ({marker['region']}), schema {marker['schema_version']}, made by sar1m "
        f"{marker['code_version']}: {len(marker['files']):,} files, {size / 1e6:,.1f} MB.",
        highlight=False,
        soft_wrap=True,
    )
    console.print(count_table(marker))
    there = (name for name in SPLITS if f"{DATA_DIR}/{name}.zarr/zarr.json" in marker["files"])
    split = next((name for name in there if marker["by_split"].get(name)), None)
    if split is not None:
        opening = f'import xarray; xarray.open_zarr("{out}/{DATA_DIR}/{split}.zarr", consolidated=False)'
        console.print(opening, highlight=False, soft_wrap=True)


@app.command()
def simulate(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new or empty folder.")],
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
    from sarworld.safe.demonstration import write_demonstration  # noqa: PLC0415  a compiler others need not load

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder}: is not empty. Give a new or empty folder.")
    path = write_demonstration(folder, lon=lon, lat=lat, relief_m=relief_m, seed=seed, whole_swath=whole_swath)
    console.print(f"Product: {path}", highlight=False, soft_wrap=True)
    console.print(f"Build:   {program()} build --region safe:{folder}", highlight=False, soft_wrap=True)


@app.command()
def version() -> None:
    """Prints the version."""
    console.print(__version__, highlight=False)


def main() -> None:
    """Entry point: turns our errors into one readable line and an exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        app(standalone_mode=True)
    except Sar1mError as error:
        problems.print(f"sar1m: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except _Interrupted:
        problems.print("sar1m: interrupted. What is staged is kept: the same command goes on from there.")
        sys.exit(EXIT_INTERRUPTED)


class _Interrupted(BaseException):
    """SIGINT or SIGTERM. Not KeyboardInterrupt, which typer turns into an exit without a word."""


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise _Interrupted


def _place(region: str) -> Region:
    place = parse_region(region)
    for note in place.notes:
        problems.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    return place


def _config(name: str | None, overrides: list[str] | None, place: Region) -> BuildConfig:
    default = "sample" if place.kind == "sample" else "sar1m"
    return resolve_config(name or default, overrides or [])


def _out(out: Path | None, place: Region) -> Path:
    return out if out is not None else Path("build") / place.label


def _require_complete(out: Path) -> dict[str, Any]:
    if release_commands.is_release(out):
        raise OutputError(f"{out}: a release, or a part of one: `sar1m info` and `sar1m verify` tell of those.")
    marker = read_marker(out)
    if marker is None:
        raise OutputError(f"{out}: no {MARKER_FILE} here: not a finished store. Finish it with `sar1m build`.")
    return marker


def _finish(out: Path, summary: building.BuildSummary) -> None:
    print_summary(console, out, summary)
    if summary.failed:
        raise typer.Exit(EXIT_SOME_FAILED)
