"""The plan of a build: its work items with their content keys. It is kept beside the staged blocks, so that phase 2 can
run again without any source."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sar1m.config import BuildConfig
from sar1m.core.identity import content_key
from sar1m.records import Candidate, StoreKind
from sar1m.store.durable import write_durably
from sar1m.store.errors import OutputError, SourceError, StoreError
from sar1m.store.side_files import read_json

PREPARE_VERSION = 1  # part of every content key: raise it when the preparation of pixels or metrics changes
PLAN_FILE = "plan.json"
_MAX_PLAN_BYTES = 2**30  # some million work items


@dataclass(frozen=True, kw_only=True)
class PlannedItem:
    """One work item by name, content key and the number of patches it gives."""

    item_id: str
    key: str
    patches: int


@dataclass(frozen=True, kw_only=True)
class FailedItem:
    """A work item that could not be prepared, and why."""

    item_id: str
    patches: int
    error: str
    cause: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a build consists of. failed: items that phase 1 could not prepare; empty before phase 1."""

    region: str
    pixel_digest: str
    kind: StoreKind
    items: tuple[PlannedItem, ...]
    failed: tuple[FailedItem, ...] = ()

    @property
    def patches(self) -> int:
        """Patches of all items, prepared or failed."""
        return sum(item.patches for item in self.items)

    def digest(self) -> str:
        """blake2b-128 of the keys and of the failed items with their errors, in sorted order."""
        failed = [f"failed {item.item_id} {item.error} {item.cause}" for item in self.failed]
        lines = sorted([item.key for item in self.items] + failed)
        return hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()

    def with_failures(self, failed: Iterable[FailedItem]) -> Plan:
        """The same plan with the outcome of phase 1."""
        return replace(self, failed=tuple(sorted(failed, key=lambda item: item.item_id)))


def pixel_digest(config: BuildConfig) -> str:
    """Digest of all that shapes a staged block beside its inputs."""
    return f"{config.pixel_digest()}-{PREPARE_VERSION}"


def make_plan(region: str, candidates: Iterable[Candidate], config: BuildConfig) -> tuple[Plan, dict[str, Candidate]]:
    """The plan, and the candidates by content key.

    Raises SourceError where there are none, where two have the same name, or where they cannot share a store because
    units, polarisations or bands differ.
    """
    shaping = pixel_digest(config)
    by_key: dict[str, Candidate] = {}
    names: set[str] = set()
    for candidate in candidates:
        if candidate.item_id in names:
            raise SourceError(f"{candidate.item_id}: the source names two work items alike. Item names must differ.")
        names.add(candidate.item_id)
        by_key[content_key(candidate, shaping)] = candidate
    if not by_key:
        raise SourceError(f"{region}: the source offers no scene here. Check the region and the source's folder.")
    kind = _common_kind(list(by_key.values()))
    items = [
        PlannedItem(item_id=candidate.item_id, key=key, patches=len(candidate.patches))
        for key, candidate in by_key.items()
    ]
    items.sort(key=lambda item: item.item_id)
    return Plan(region=region, pixel_digest=shaping, kind=kind, items=tuple(items)), by_key


def write_plan(staging: Path, plan: Plan) -> None:
    """Keeps the plan beside the staged blocks."""
    write_durably(staging / PLAN_FILE, [json.dumps(asdict(plan), sort_keys=True).encode()])


def read_plan(staging: Path) -> Plan:
    """The plan kept by the last build. Raises OutputError where none was, StoreError where it is damaged."""
    path = staging / PLAN_FILE
    if not path.is_file():
        raise OutputError(f"{path}: no build has been here. Run `sar1m build` first.")
    remedy = "Run `sar1m build` again to make it anew."
    raw = read_json(path, error=StoreError, remedy=remedy, max_bytes=_MAX_PLAN_BYTES)
    try:
        kind = raw["kind"]
        return Plan(
            region=raw["region"],
            pixel_digest=raw["pixel_digest"],
            kind=StoreKind(
                quantity=kind["quantity"],
                optical_quantity=kind["optical_quantity"],
                polarisations=tuple(kind["polarisations"]),
                bands=tuple(kind["bands"]),
            ),
            items=tuple(PlannedItem(**item) for item in raw["items"]),
            failed=tuple(FailedItem(**item) for item in raw["failed"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: damaged plan ({error}). {remedy}") from error


def _common_kind(candidates: list[Candidate]) -> StoreKind:
    first_sar = candidates[0]
    first_optical = next((c for c in candidates if c.optical is not None), None)
    for candidate in candidates:
        _require_equal(candidate, first_sar, "SAR quantity", candidate.sar.quantity, first_sar.sar.quantity)
        pols = (candidate.sar.polarisations, first_sar.sar.polarisations)
        _require_equal(candidate, first_sar, "polarisations", *pols)
        if candidate.optical is not None and first_optical is not None and first_optical.optical is not None:
            ours, first = candidate.optical, first_optical.optical
            _require_equal(candidate, first_optical, "optical quantity", ours.quantity, first.quantity)
            _require_equal(candidate, first_optical, "optical bands", ours.bands, first.bands)
    optical = None if first_optical is None else first_optical.optical
    return StoreKind(
        quantity=first_sar.sar.quantity,
        polarisations=first_sar.sar.polarisations,
        optical_quantity="reflectance" if optical is None else optical.quantity,
        bands=() if optical is None else optical.bands,
    )


def _require_equal(candidate: Candidate, other: Candidate, what: str, found: object, expected: object) -> None:
    if found != expected:
        raise SourceError(
            f"{candidate.item_id}: {what} is {found}, but {other.item_id} has {expected}. One store holds one kind "
            "only; build them apart."
        )
