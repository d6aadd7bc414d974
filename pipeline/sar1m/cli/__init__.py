"""The command line `sar1m`: from Sentinel-1 scenes to a verified dataset of SAR and optical patches.

Exit codes: 0 done; 1 error; 2 usage, configuration or region;
3 finished, but some work items failed (they are named); 4 drift found a change, audit-pairs a pair beyond
the limit or none it could measure, or register no shift;
5 --finish found work items that no share has prepared (they are named);
75 another build works on the same output; 130 interrupted.
"""

from __future__ import annotations

import signal
import sys
from typing import Annotated

import typer

from sar1m.audit import commands as audit_commands
from sar1m.cli.builds import build, doctor, plan, refilter, simulate, status
from sar1m.cli.options import console, problems
from sar1m.cli.stores import info, report, verify
from sar1m.releases import commands as release_commands
from sar1m.store.entry import EXIT_INTERRUPTED, Interrupted, heed_signals
from sar1m.store.errors import Sar1mError
from sar1m.store.printer import never_fail_on_letters
from sar1m.store.version import __version__

# A command imports what it needs when it runs: the pipeline's libraries take two seconds, help and version nothing.

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)


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


for command in (
    *(build, plan, doctor, status, refilter, verify),
    *(release_commands.release, release_commands.diff, release_commands.drift, release_commands.publish),
    *(release_commands.get, audit_commands.audit_pairs, audit_commands.register),
    *(report, info, simulate),
):
    app.command()(command)


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
