"""The few errors a user can meet. Each names the item, what was found, what was expected and what to do."""

from __future__ import annotations


class Sar1mError(Exception):
    """Base of every error we raise on purpose. exit_code is what the command line returns for it."""

    exit_code = 1


class ConfigError(Sar1mError):
    """The configuration cannot be used as written: unknown key, wrong type, impossible value."""

    exit_code = 2


class RegionError(Sar1mError):
    """The region of interest cannot be used: unknown name, not lon/lat, empty, self-crossing, outside the world."""

    exit_code = 2


class SourceError(Sar1mError):
    """An input item is missing, malformed or not what its description says. Names the file or product."""


class StoreError(Sar1mError):
    """A store, shard, staged blob or manifest is missing, damaged or not ours. Names the file."""


class MissingError(StoreError):
    """There is no file of that name."""


class UnreachableError(StoreError):
    """A server that does not answer, or refuses to. This says nothing of the store's content, so it is never counted
    among damaged files or samples."""


class OutputError(Sar1mError):
    """The output folder cannot be used: not ours, not writable, disk full."""


class LockedError(Sar1mError):
    """Another build works on the same output folder."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: batch systems retry on it


class UnfinishedError(Sar1mError):
    """A build was to be finished while work items of it are not prepared yet."""

    exit_code = 5


class WorkersError(Sar1mError):
    """The scheduler or the workers of a build are gone and do not come back, or cannot be used for it."""


class BudgetError(Sar1mError):
    """The next request would exceed a budget of [download]. Stops the build: every further item would meet it too."""


def printable(text: str) -> str:
    """Foreign text for use in a message: control characters, which could steer a terminal, are written as \\x1b."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
