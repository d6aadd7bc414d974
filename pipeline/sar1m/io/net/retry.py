"""Further attempts after a failure: how many, and after how long."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, TypeVar

from sar1m.io.net.faults import PassingError
from sar1m.io.net.limits import MAX_PAUSE_S
from sar1m.io.net.options import FetchSettings
from sar1m.store.errors import SourceError

MAX_DELAY_S: Final = 60.0

T = TypeVar("T")


def persistently(settings: FetchSettings, what: str, attempt: Callable[[], T]) -> T:
    """What attempt returns, repeated while it raises PassingError, at most limits.attempts times.

    Waits in between are random up to a bound that doubles ("full jitter": Brooker, AWS Architecture Blog 2015), and
    not under what the service asked for. Raises SourceError, beginning with what, when the last attempt fails too.
    """
    attempts = settings.limits.attempts
    for number in range(attempts):
        try:
            return attempt()
        except PassingError as fault:
            last = fault
        if number + 1 < attempts:
            time.sleep(delay_s(number, settings.first_delay_s, last.retry_after_s))
    raise SourceError(
        f"{what}: {last}; {attempts} attempts, none complete. Try again later: what is downloaded stays. If it "
        "persists, see whether the service is up, and lower download.requests_per_s and download.connections."
    )


def delay_s(number: int, first_s: float, retry_after_s: float | None) -> float:
    """Seconds to wait after attempt number (from 0)."""
    bound_s = min(MAX_DELAY_S, first_s * 2.0 ** min(number, 30))
    asked_s = min(retry_after_s or 0.0, MAX_PAUSE_S)
    return asked_s + random.uniform(0.0, bound_s)  # noqa: S311 - no secret hangs on it


def retry_after_s(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for (a number, or an HTTP date: RFC 9110, 10.2.3); None for others."""
    text = (value or "").strip()
    if text.isdecimal() and len(text) <= 9:
        return float(text)
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    seconds = (until - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None
