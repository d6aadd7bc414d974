"""The commands that make stores, and what they need: build, plan, refilter, status, doctor, simulate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sar1m.cli.options import (
    ClusterOption,
    ConfigOption,
    FolderOption,
    OutOption,
    PatienceOption,
    RegionOption,
    SchedulerOption,
    SetOption,
    StoreArgument,
    StrictOption,
    WorkersOption,
    console,
    problems,
)
from sar1m.store.durable import local_folder
from sar1m.store.errors import OutputError
from sar1m.store.printer import pasted

if TYPE_CHECKING:
    from sar1m.building import BuildSummary
    from sar1m.sources.regions.region import Region

# A command imports what it needs when it runs, see sar1m.cli.
# ruff: noqa: PLC0415

EXIT_SOME_FAILED = 3


def build(  # noqa: PLR0913, PLR0917 - one argument an option
    region: RegionOption,
    out: OutOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    scheduler: SchedulerOption = None,
    cluster: ClusterOption = None,
    workers: WorkersOption = None,
    patience: PatienceOption = 60.0,
    plan: Annotated[Path | None, typer.Option("--plan", help="A table that `sar1m plan --to` wrote.")] = None,
    items: Annotated[
        str | None, typer.Option("--items", metavar="K/N", help="Prepares the K-th of N shares of the blocks, no more.")
    ] = None,
    *,
    finish: Annotated[bool, typer.Option("--finish", help="Makes the store, once all shares have ended.")] = False,
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
        cluster=cluster,
        patience_s=patience,
        plan=plan,
        items=items,
        finish=finish,
        strict=strict,
        watch=TerminalWatch(console),
    )
    _finish(folder, summary)


def plan(
    region: RegionOption,
    out: FolderOption = None,
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


def refilter(
    out: StoreArgument,
    config: ConfigOption = None,
    overrides: SetOption = None,
    scheduler: SchedulerOption = None,
    cluster: ClusterOption = None,
    workers: WorkersOption = None,
    patience: PatienceOption = 60.0,
) -> None:
    """Applies new thresholds to what is staged and packs anew. Reads no source. Keys not given stay as they were."""
    from sar1m import building
    from sar1m.config import resolve_config
    from sar1m.flow import WorkersSettings
    from sar1m.store.outputs.opening import open_output
    from sar1m.terminal import TerminalWatch

    if config is None:
        place = open_output(out)
        if place.size(building.CONFIG_FILE) is None:
            raise OutputError(
                f"{out}: no finished store with thresholds to start from. Finish it with `sar1m build`, or give "
                "--config."
            )
        with place.local([building.CONFIG_FILE]) as folder:
            settings = resolve_config(str(folder / building.CONFIG_FILE), overrides or [])
    else:
        settings = resolve_config(config, overrides or [])
    where = WorkersSettings(scheduler=scheduler, cluster=cluster, workers=workers, patience_s=patience)
    summary = building.refilter(out, settings, where, TerminalWatch(console))
    _finish(out, summary)


def status(out: StoreArgument) -> None:
    """Says how far a build has come."""
    from sar1m.building import how_far
    from sar1m.terminal import count_table

    planned, staged, marker = how_far(out)
    console.say(f"{planned.region}: {staged:,} of {len(planned.items):,} work items staged.")
    for item in planned.failed:
        console.say(f"failed: {item.item_id}: {item.error}: {item.cause}")
    if marker is None:
        console.say("The store is not complete. Run the same build command again to go on.")
        return
    if marker["plan"] == planned.digest():
        console.say("The store is complete.")
    else:
        console.say("The store is that of an earlier build. Run the same build command again to go on to this one.")
    console.print(count_table(marker))


def doctor(
    out: FolderOption = None,
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


def _place(region: str) -> Region:
    from sar1m.sources.regions.region import parse_region

    place = parse_region(region)
    for note in place.notes:
        problems.say(f"note: {note}")
    return place


def _finish(out: str | Path, summary: BuildSummary) -> None:
    from sar1m.store.outputs.opening import open_output
    from sar1m.terminal import print_summary

    print_summary(console, open_output(out), summary)
    if summary.failed:
        raise typer.Exit(EXIT_SOME_FAILED)
