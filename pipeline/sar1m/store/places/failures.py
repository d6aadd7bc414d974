"""The clients' errors as ours. Their own messages hold signed addresses, so no error of ours quotes or chains them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from sar1m.store.errors import ConfigError, MissingError, OutputError, StoreError, UnreachableError

T = TypeVar("T")
_ATTEMPTS: Final = 4
_STATUS = re.compile(r"status code: (\d{3})|HTTP (?:status )?(\d{3})|^(\d{3}) ")
_REASONS = (  # of obstore's texts, what a user can act on
    ("RangeNotSupported", "the server ignores Range and would send the whole file"),
    ("NotPartial", "the server ignores Range and would send the whole file"),
    ("UnexpectedRange", "the server sent other bytes than those asked for"),
    ("MissingContentLength", "the server does not say how long its answer is"),
    ("TimedOut", "no answer in time"),
    ("Timeout", "no answer in time"),
    ("error sending request", "no connection, or no answer in time"),
    ("body error", "the answer breaks off, or goes on from a changed file"),
)


@contextmanager
def naming_failures(shown: str) -> Iterator[None]:
    """Turns an error of obstore or huggingface_hub into a MissingError or UnreachableError.

    shown: the file in the message; of the server's answer the message gives the status alone. Our own errors pass.
    """
    try:
        yield
    except (StoreError, ConfigError):
        raise
    except Exception as error:
        if not _is_clients(error):
            raise
        status, kind = _status(error), type(error).__name__
        if status == "404" or kind in {"NotFoundError", "FileNotFoundError"}:
            raise MissingError(
                f"{shown}: there is no such file. Check the location, and that what lies there is complete."
            ) from None
        reason = f"HTTP status {status}" if status else _reason(error)
        if status in {"401", "403"} or kind in {"PermissionDeniedError", "UnauthenticatedError"}:
            raise UnreachableError(
                f"{shown}: access refused: {reason}. Check the credentials in the environment (AWS_*, GOOGLE_*, "
                "AZURE_*, HF_TOKEN); a public bucket needs AWS_SKIP_SIGNATURE=true."
            ) from None
        raise UnreachableError(
            f"{shown}: the server does not do it: {reason}. Run the same command again when it does: what is finished "
            "or cached stays good."
        ) from None


def asked_again(request: Callable[[], T]) -> T:
    """Makes a request some times more where a client does so for none: of conditions, and where an answer breaks off or
    comes too late after it began. Each repetition must be harmless. Raises what the last one raised."""
    for attempt in range(1, _ATTEMPTS):
        try:
            return request()
        except (OutputError, UnreachableError):
            time.sleep(0.2 * 2**attempt)
    return request()


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those it was raised from: the clients wrap their own."""
    while error is not None:
        yield error
        error = error.__cause__


def _is_clients(error: Exception) -> bool:
    """Whether it comes from one of the clients' libraries, which are not imported just to ask."""
    families = ("obstore", "huggingface_hub", "httpx", "httpcore", "requests")  # httpx: also by the name httpx2
    kinds = (kind for one in _chain(error) for kind in type(one).__mro__)
    return isinstance(error, (OSError, ValueError)) or any(kind.__module__.startswith(families) for kind in kinds)


def _status(error: Exception) -> str:
    for one in _chain(error):
        code = getattr(getattr(one, "response", None), "status_code", None)
        if code is not None:
            return str(code)
    found = _STATUS.search(str(error))
    return "" if found is None else next(group for group in found.groups() if group)


def _reason(error: Exception) -> str:
    return next((reason for sign, reason in _REASONS if sign in str(error)), type(error).__name__)
