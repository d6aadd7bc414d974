"""The command line `sarmae`: pretraining on the stores that `sar1m` builds, and what its features are worth.

Exit codes: 0 done; 1 error; 2 usage or configuration; 85 saved and stopped because the batch system asked (queue the
same command again); 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from sar1m.store.errors import Sar1mError
from sarmae.config import PretrainConfig, resolve_config
from sarmae.evaluate.command import evaluate
from sarmae.runs import UNTOLD_LICENCE, export_run
from sarmae.sarc.cache_writer import write_cache
from sarmae.terminal import console_watch, print_outcome
from sarmae.train.loop import pretrain as run_pretraining

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
console = Console()
problems = Console(stderr=True)
app.command()(evaluate)

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
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the run. Default: runs/<name>.")] = None,
    overrides: SetOption = None,
) -> None:
    """Pretrains a masked autoencoder, or goes on with a run that was stopped."""
    settings = _config(config, data, overrides)
    folder = Path("runs") / settings.name if out is None else out
    outcome = run_pretraining(settings, folder, console_watch(console))
    if outcome.leads:
        print_outcome(console, folder, outcome)
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)


@app.command()
def cache_teacher(
    out: Annotated[Path, typer.Option("--out", help="Folder of the cache; give it as sarc.cache afterwards.")],
    data: DataOption = None,
    config: ConfigOption = "smoke",
    overrides: SetOption = None,
) -> None:
    """Writes the teacher's features of all paired samples once, to train without teacher and optical pixels."""
    write_cache(_config(config, data, overrides), out, console_watch(console))


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    out: Annotated[Path, typer.Argument(help="Folder for the encoder and its card.")],
    licence: Annotated[
        str, typer.Option("--licence", help="SPDX identifier of the weights' licence.")
    ] = UNTOLD_LICENCE,
) -> None:
    """Writes the encoder as plain timm weights (.safetensors) with a model card."""
    weights = export_run(run, out, licence=licence)
    console.print(f"Encoder: {weights}", highlight=False, soft_wrap=True)


def main() -> None:
    """Entry point: turns our errors into one readable line and an exit code."""
    try:
        app(standalone_mode=True)
    except Sar1mError as error:
        problems.print(f"sarmae: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        _leave(error.exit_code)
    except SystemExit as end:
        _leave(end.code if isinstance(end.code, int) else int(end.code is not None))


def _leave(code: int) -> NoReturn:
    """Ends with an exit code. torchrun answers 1 whatever its ranks end with, so docker/jobs/launch.sh names a file in
    which the first rank to fail or stop leaves its own."""
    note = os.environ.get("SARMAE_EXIT_FILE")
    if code and note:
        with suppress(OSError), Path(note).open("x", encoding="utf-8") as stream:
            stream.write(str(code))
    sys.exit(code)


def _config(name: str, stores: list[str] | None, overrides: list[str] | None) -> PretrainConfig:
    config = resolve_config(name, overrides or [])
    if not stores:
        return config
    return config.model_copy(update={"data": config.data.model_copy(update={"stores": tuple(stores)})})
