"""What every source offers: candidates in a fixed order, and the pixels of one of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from sar1m.config import BuildConfig
from sar1m.records import BlockPixels, Candidate
from sar1m.sources.failures import PlanFailures


class Source(Protocol):
    """Where scenes come from.

    Instances pickle and hold no secrets: credentials are read from a worker's environment.
    """

    @property
    def remarks(self) -> Sequence[str]:
        """What candidates left out on purpose and why, one line each; complete once candidates has run to its end."""
        ...

    @property
    def failures(self) -> PlanFailures:
        """Products that candidates could not plan; complete once it has run to its end."""
        ...

    def candidates(self, config: BuildConfig) -> Iterator[Candidate]:
        """Work items in an order that depends on the inputs and the configuration alone.

        A product that cannot be used is set aside in failures; it stops nobody else. Raises SourceError or RegionError
        where the source as a whole cannot be used, or none of its products.
        """
        ...

    def read(self, candidate: Candidate, config: BuildConfig) -> BlockPixels:
        """The pixels of one work item on candidate.grid with its halo. Runs on a worker.

        Raises SourceError that names the file where an input is missing, damaged or not as described.
        """
        ...
