"""Entry point of the command `sarmae` and of `python -m sarmae`."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line; says what to install where the trainer's libraries are missing."""
    try:
        from sarmae import cli  # noqa: PLC0415 - only now is it known to be wanted

        cli.main()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] in {"sarmae", "sar1m"}:
            raise
        sys.exit(f"sarmae: {error.name} is not installed. Install the trainer: pip install 'sar1m[training]'")


if __name__ == "__main__":
    main()
