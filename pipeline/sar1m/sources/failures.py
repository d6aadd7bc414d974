"""Products that cannot be planned: each becomes a failed item by its name, and the others are built."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from sar1m.records import FailedItem
from sar1m.store.errors import ConfigError, SourceError


class Failing(Protocol):
    """PlanFailures.of for the names of one source."""

    def __call__(self, name: str, patches: int = 1) -> AbstractContextManager[None]:
        """Sets the product of this name aside where what is done to it fails."""
        ...


@dataclass
class PlanFailures:
    """Products of one source that could not be planned, in the order in which they were met."""

    found: list[FailedItem] = field(default_factory=list)

    @contextmanager
    def of(self, name: str, patches: int = 1) -> Iterator[None]:
        """Sets a product aside where what is done to it raises SourceError or ConfigError.

        patches: how many it would have given: 1 where only the pixels would say, 0 for what has no patch of its own, as
        an optical partner.
        """
        try:
            yield
        except (SourceError, ConfigError) as error:
            self.found.append(FailedItem(item_id=name, patches=patches, error=type(error).__name__, cause=str(error)))

    def refuse_all(self) -> None:
        """Raises the first failure, where there is one: nothing that it stood beside can be built either."""
        if self.found:
            raise refusal(self.found)


def refusal(failures: list[FailedItem]) -> SourceError | ConfigError:
    """The error of products none of which can be planned: that of the first, with the number of the others."""
    first, more = failures[0], len(failures) - 1
    words = f"{first.cause} {more} more products cannot be used either." if more else first.cause
    return ConfigError(words) if first.error == ConfigError.__name__ else SourceError(words)
