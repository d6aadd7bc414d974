"""Failures of requests, one class for each way to deal with them."""

from __future__ import annotations

from typing import Final

from sar1m.store.errors import SourceError

# 409 and 423 are among what Earth Engine and object stores answer to be asked again.
_PASSING: Final = frozenset({408, 409, 423, 425, 429, 500, 502, 503, 504, 507, 509, 520, 521, 522, 523, 524})


class StatusError(SourceError):
    """A service refused with an HTTP status that asking again does not change. status: that number."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status

    def __reduce__(self) -> tuple[type[StatusError], tuple[str, int]]:
        return type(self), (str(self), self.status)


class NoNetworkError(SourceError):
    """No name can be looked up. It is not asked again."""


class OfflineError(SourceError):
    """A product must first be brought online by its service (HTTP 202); it has been ordered or can be."""


class ChangedError(SourceError):
    """A file was replaced on the server while it was read in ranges. Open it again: nothing read may be mixed."""


class PassingError(Exception):
    """A failure after which another attempt may succeed. Its text holds no address beyond host and file name.

    retry_after_s: seconds that the service asked us to wait, None where it did not say.
    """

    def __init__(self, text: str, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


def is_passing(status: int) -> bool:
    """Whether a status is worth another attempt."""
    return status in _PASSING
