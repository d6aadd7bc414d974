"""What both commands do before and around their libraries: Ctrl-C, and packages that are not installed."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable
from importlib import metadata
from types import FrameType
from typing import Final, NoReturn

from sar1m.store.errors import printable

EXIT_INTERRUPTED: Final = 130
_DISTRIBUTION: Final = "sar1m"
_BUNDLES: Final = ("dev", "services")  # extras that bring others
_NOUNS: Final = {"pipeline": "the pipeline", "training": "the trainer"}
_MODULES: Final = {"PIL": "pillow", "ee": "earthengine-api", "sklearn": "scikit-learn"}  # named unlike their packages


class Interrupted(BaseException):
    """SIGINT or SIGTERM. Not KeyboardInterrupt, which typer turns into an exit without a word."""


def heed_signals(*numbers: signal.Signals) -> None:
    """From now on these signals raise Interrupted in the main thread."""
    for number in numbers:
        signal.signal(number, _interrupt)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise Interrupted


def run_command(program: str, main: Callable[[], None], *, extra: str) -> None:
    """Runs `main`, which imports what it needs, and ends in one line where it is interrupted or a package is missing.

    extra: of the installation, that the program cannot do without.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # docker/jobs/launch.sh keeps it from its ranks
        heed_signals(signal.SIGINT)
    try:
        main()
    except (Interrupted, KeyboardInterrupt):
        _end(f"{program}: interrupted.", EXIT_INTERRUPTED)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] in {"sar1m", "sarmae", "sarworld"}:
            raise
        _end(f"{program}: {error.name} is not installed. {install_hint(error.name, extra)}", 1)


def install_hint(module: str, extra: str) -> str:
    """What to type for a module that is missing: the given extra, unless others bring it and that one does not."""
    top = module.split(".", maxsplit=1)[0]
    package = _MODULES.get(top, top.replace("_", "-")).lower()
    extras = _extras_of(package)
    chosen = extra if extra in extras or not extras else extras[0]
    return f"Install {_NOUNS.get(chosen, 'it')}: pip install 'sar1m[{chosen}]'"


def _extras_of(package: str) -> list[str]:
    """The extras of the installation that bring a package, as its metadata say."""
    try:
        required = metadata.requires(_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return []
    found = (re.match(r"([A-Za-z0-9._-]+).*extra\s*==\s*[\"']([a-z0-9-]+)", line) for line in required)
    return [
        match[2]
        for match in found
        if match and match[1].lower().replace("_", "-") == package and match[2] not in _BUNDLES
    ]


def _end(line: str, code: int) -> NoReturn:
    sys.stderr.write(f"{printable(line)}\n")  # the library of the printer may be what is missing
    sys.exit(code)
