"""Counts of what all processes of a build have asked for and received; budgets, checked before each request."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sar1m.config import DownloadConfig
from sar1m.store.errors import BudgetError
from sar1m.store.shared_numbers import SharedNumbers


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Requests sent, redirects and repetitions included; bytes of bodies received; units of a service's quota."""

    requests: int = 0
    bytes: int = 0
    units: float = 0.0


class Meter:
    """Counts under root, shared. Bytes are charged before they are received, and settled to what came: a process
    killed in between leaves at most one step too many, never too few."""

    def __init__(self, root: Path, limits: DownloadConfig) -> None:
        self._numbers = SharedNumbers(root / "meter", "<qqd")
        self._limits = limits

    def usage(self) -> Usage:
        """Totals so far."""
        with self._numbers.held() as numbers:
            requests, count, units = numbers.read()
        return Usage(requests=int(requests), bytes=int(count), units=units)

    def charge(self, more: Usage, *, ahead_bytes: int = 0) -> None:
        """Adds to the counts, or raises BudgetError and adds nothing.

        ahead_bytes: bytes that are known to follow. They are checked against the budget and not added.
        """
        with self._numbers.held() as numbers:
            requests, count, units = numbers.read()
            after = Usage(
                requests=int(requests) + more.requests, bytes=int(count) + more.bytes, units=units + more.units
            )
            self._check(after, ahead_bytes)
            numbers.write(after.requests, after.bytes, after.units)

    def settle(self, less: Usage) -> None:
        """Takes back what was charged and not used."""
        with self._numbers.held() as numbers:
            requests, count, units = numbers.read()
            numbers.write(int(requests) - less.requests, int(count) - less.bytes, units - less.units)

    def _check(self, after: Usage, ahead_bytes: int) -> None:
        limits = self._limits
        wanted_gb = (after.bytes + ahead_bytes) / 1e9
        found = [
            ("max_requests", "requests", float(after.requests), float(limits.max_requests)),
            ("max_gb", "GB", wanted_gb, limits.max_gb),
            ("max_units", "units", after.units, limits.max_units),
        ]
        for key, unit, value, limit in found:
            if limit and value > limit:
                raise BudgetError(
                    f"download.{key}: the next request would bring this build to {value:.6g} {unit}; the budget is "
                    f"{limit:.6g}. It is not sent. Raise the budget or choose less; what is downloaded stays."
                )
