"""Entry point of the command `sar1m` and of `python -m sar1m`.

The base install holds the contract alone, for those who only read a store; the command needs the pipeline's libraries.
"""

from __future__ import annotations

from sar1m.store.entry import run_command


def main() -> None:
    """Runs the command line; says what to install where the pipeline's libraries are missing."""
    run_command("sar1m", _command, extra="pipeline")


def _command() -> None:
    from sar1m import cli  # noqa: PLC0415 - only now is it known to be wanted

    cli.main()


if __name__ == "__main__":
    main()
