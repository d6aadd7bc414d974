"""What is left of a catalogue's answers when items that cannot be used are taken out: one of them does not end the
search of a country; a service most of whose items are such does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from sar1m.sources.scene import Kind
from sar1m.sources.services.stac.items import AddressError, FoundScene, ItemRule, found_in
from sar1m.store.errors import SourceError

NAMED: Final = 3  # items that a remark names
_NAME: Final = 140  # characters of a name


@dataclass(frozen=True, kw_only=True)
class UnusableItem:
    """An item that is left out. is_foreign: because of where one of its assets stands; else because of what it says."""

    kind: Kind
    name: str
    is_foreign: bool
    why: str


@dataclass(kw_only=True)
class Sieve:
    """Takes the items of one search and gives the scenes among them.

    left_out: items that cannot be used are added here. items: seen so far. used: those that became scenes of the kind.
    """

    rule: ItemRule
    kind: Kind
    left_out: list[UnusableItem]
    items: int = 0
    used: int = 0
    faults: list[SourceError] = field(default_factory=list)

    def found(self, items: Iterable[object]) -> Iterator[FoundScene]:
        """Scenes of the items that can be used and are of the kind."""
        for item in items:
            self.items += 1
            try:
                found = found_in(item, self.rule, self.kind)
            except SourceError as error:
                self.faults.append(error)
                name = str(item.get("id")) if isinstance(item, dict) else f"number {self.items} of its answers"
                foreign = isinstance(error, AddressError)
                self.left_out.append(
                    UnusableItem(kind=self.kind, name=name[:_NAME], is_foreign=foreign, why=str(error))
                )
                continue
            if found is not None:
                self.used += 1
                yield found

    def require_mostly_usable(self) -> None:
        """Raises the first item's SourceError where more than half of the items could not be used.

        Items of other kinds do not count. The service itself is then wrong, or is not what it was taken for.
        """
        if len(self.faults) > self.used:
            raise self.faults[0]


def remarks_on(service: str, left_out: Iterable[UnusableItem]) -> list[str]:
    """A line for each kind and cause. An item that stands in several answers counts once."""
    groups: dict[tuple[Kind, bool], dict[str, str]] = {}
    for one in left_out:
        groups.setdefault((one.kind, one.is_foreign), {}).setdefault(one.name, one.why)
    return [_remark(service, kind, is_foreign, whys) for (kind, is_foreign), whys in sorted(groups.items())]


def _remark(service: str, kind: Kind, is_foreign: bool, whys: dict[str, str]) -> str:
    cause = "point to where nothing is fetched from" if is_foreign else "are malformed"
    names = [repr(name) for name in list(whys)[:NAMED]]
    if more := len(whys) - len(names):
        names.append(f"{more:,} more")
    return (
        f"{service}: {len(whys):,} {kind} items of its catalogue {cause} and are left out ({', '.join(names)}). "
        f"The first: {next(iter(whys.values()))}"
    )
