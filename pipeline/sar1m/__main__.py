"""Entry point of the command `sar1m` and of `python -m sar1m`.

The base install holds the contract alone, for those who only read a store; the command needs the pipeline's libraries.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line; says what to install where the pipeline's libraries are missing."""
    try:
        from sar1m import cli  # noqa: PLC0415 - only now is it known to be wanted

        cli.main()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "sar1m":
            raise
        sys.exit(f"sar1m: {error.name} is not installed. Install the pipeline: pip install 'sar1m[pipeline]'")


if __name__ == "__main__":
    main()
