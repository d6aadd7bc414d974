"""`python -m sar1m` is the command line."""

from sar1m.cli import main

main()
