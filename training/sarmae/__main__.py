"""Entry point of the command `sarmae` and of `python -m sarmae`."""

from __future__ import annotations

from sar1m.store.entry import run_command


def main() -> None:
    """Runs the command line; says what to install where the trainer's libraries are missing."""
    run_command("sarmae", _command, extra="training")


def _command() -> None:
    from sarmae import cli  # noqa: PLC0415 - only now is it known to be wanted

    cli.main()


if __name__ == "__main__":
    main()
