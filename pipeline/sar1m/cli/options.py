"""What several commands take, and where they write."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sar1m.store.durable import local_folder
from sar1m.store.printer import Printer

console = Printer()
problems = Printer(stderr=True)

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
    str | None,
    typer.Option("--out", help="Output folder, or s3://bucket/prefix (gs://, az://). Default: build/<region>."),
]
FolderOption = Annotated[
    Path | None, typer.Option("--out", callback=local_folder, help="Output folder. Default: build/<region>.")
]
SchedulerOption = Annotated[
    str | None, typer.Option("--scheduler", help="A running Dask scheduler, e.g. tcp://127.0.0.1:8786.")
]
ClusterOption = Annotated[
    Path | None, typer.Option("--cluster", help="A TOML file: what to ask a batch system for, by dask-jobqueue.")
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=0, help="Local processes; default one a core; 0: in this process.")
]
PatienceOption = Annotated[
    float, typer.Option("--patience", min=1, help="Seconds to wait for a scheduler or workers that are gone.")
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Stops at the first product or block that fails.")]
StoreArgument = Annotated[str, typer.Argument(metavar="OUT", help="Output folder of a build, or its address.")]
