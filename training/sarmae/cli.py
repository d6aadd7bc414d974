"""Pretrains on the stores that `sar1m` builds, exports encoders and evaluates them.

Exit codes: 0 done; 1 error; 2 usage or configuration; 85 saved and stopped because the batch system asked (queue the
same command again); 75 another run works in the same folder; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from sar1m.store.durable import local_folder
from sar1m.store.entry import EXIT_INTERRUPTED, Interrupted
from sar1m.store.errors import Sar1mError
from sar1m.store.printer import Printer, never_fail_on_letters
from sar1m.store.version import __version__

# A command imports what it needs when it runs: PyTorch takes seconds, help and version nothing.
# ruff: noqa: PLC0415

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
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


ConfigOption = Annotated[
    str, typer.Option("--config", help="A TOML file, or the name of one in training/configs (smoke, vit_base ...).")
]
DataOption = Annotated[
    list[str] | None, typer.Option("--data", help="A finished store, folder or URL. May be repeated.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Overrides one key: --set train.steps=100. May be repeated."),
]


@app.command()
def pretrain(
    data: DataOption = None,
    config: ConfigOption = "smoke",
    out: Annotated[
        Path | None, typer.Option("--out", callback=local_folder, help="Folder of the run. Default: runs/<name>.")
    ] = None,
    overrides: SetOption = None,
) -> None:
    """Pretrains a masked autoencoder, or goes on with a run that was stopped."""
    from sarmae import api
    from sarmae.terminal import console_watch, print_outcome

    settings = api.configuration(config, data or (), overrides or ())
    folder = api.run_folder(out, settings)
    outcome = api.pretrain(settings, out=folder, watch=console_watch(console))
    if outcome.leads:
        print_outcome(console, folder, outcome)
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)


@app.command()
def cache_teacher(
    out: Annotated[
        Path,
        typer.Option("--out", callback=local_folder, help="Folder of the cache; train with --set sarc.cache=FOLDER."),
    ],
    data: DataOption = None,
    config: ConfigOption = "smoke",
    overrides: SetOption = None,
) -> None:
    """Computes the teacher's features once, so that training needs neither teacher nor optical images."""
    from sarmae.api import configuration
    from sarmae.sarc.cache_writer import write_cache
    from sarmae.terminal import console_watch

    write_cache(configuration(config, data or (), overrides or ()), out, console_watch(console))


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    out: Annotated[Path, typer.Argument(callback=local_folder, help="Folder for the encoder and its card.")],
    licence: Annotated[str | None, typer.Option("--licence", help="SPDX identifier of the weights' licence.")] = None,
) -> None:
    """Writes the encoder as plain timm weights (.safetensors) with a model card."""
    from sarmae.runs import UNKNOWN_LICENCE, export_run

    weights = export_run(run, out, licence=licence or UNKNOWN_LICENCE)
    console.say(f"Encoder: {weights}")


@app.command()
def evaluate(
    data: Annotated[
        list[str] | None,
        typer.Argument(help="Labelled images: folders:PATH, store:PATH, masks:PATH or coco:PATH. May be repeated."),
    ] = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(help="An encoder: run:FOLDER, file:PATH, timm:NAME, efficientnet_lite0, pixels. May be repeated."),
    ] = None,
    config: Annotated[
        str | None, typer.Option("--config", help="A study: a TOML file, or a name in training/configs/studies.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", callback=local_folder, help="Folder of the study. Default: studies/<name>.")
    ] = None,
    overrides: SetOption = None,
) -> None:
    """Evaluates encoders on labelled images, or goes on with a study that was stopped."""
    from sarmae.evaluate.command import evaluate as run

    code = run(data or [], encoder or [], config, out, overrides or [])
    if code:
        raise typer.Exit(code)


def main() -> None:
    """Entry point: turns our errors into one readable line and an exit code."""
    never_fail_on_letters()
    try:
        app(standalone_mode=True)
    except Sar1mError as error:
        problems.say(f"sarmae: {error}", style="red")
        _leave(error.exit_code)
    except (Interrupted, KeyboardInterrupt):
        problems.say("sarmae: interrupted. What is saved is kept: the same command goes on from there.")
        _leave(EXIT_INTERRUPTED)
    except SystemExit as end:
        _leave(end.code if isinstance(end.code, int) else int(end.code is not None))


def _leave(code: int) -> NoReturn:
    """Ends with an exit code. torchrun ends with 1 whatever the codes of its ranks, so docker/jobs/launch.sh names a
    file to which the first rank that fails or stops writes its own."""
    note = os.environ.get("SARMAE_EXIT_FILE")
    if code and note:
        with suppress(OSError), Path(note).open("x", encoding="utf-8") as stream:
            stream.write(str(code))
    sys.exit(code)
