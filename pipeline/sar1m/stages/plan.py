"""The plan of a build: its work items with their content keys. It is kept beside the staged blocks, so that phase 2 can
run again without any source."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

from sar1m.config import BuildConfig
from sar1m.core.identity import content_key
from sar1m.records import Candidate, FailedItem, StoreKind
from sar1m.sources.failures import PlanFailures
from sar1m.stages.deciding import UNKNOWN_CODE, Code
from sar1m.store.errors import MissingError, OutputError, SourceError, StoreError
from sar1m.store.outputs.output import Output
from sar1m.store.side_files import json_value

PREPARE_VERSION = 1  # part of every content key: raise it when the preparation of pixels or metrics changes
PLAN_FILE = "plan.json"
BLOCKS_PREFIX = "blocks-"  # of the folder of staged blocks, before the digest of the code that makes them
_MAX_PLAN_BYTES = 2**30  # some million work items


@dataclass(frozen=True, kw_only=True)
class PlannedItem:
    """One work item by name, content key and the number of patches it gives."""

    item_id: str
    key: str
    patches: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a build consists of.

    failed: products that could not be planned, which have no work item, and after phase 1 the items that it could not
    prepare. code: what decides the staged blocks beside their content keys; empty where no block is kept.
    """

    region: str
    pixel_digest: str
    kind: StoreKind
    items: tuple[PlannedItem, ...]
    failed: tuple[FailedItem, ...] = ()
    code: Code = UNKNOWN_CODE

    @property
    def blocks(self) -> str:
        """The folder of the staged blocks, below staging. Another code has another folder: the same keys, and so the
        same order of samples, but no block of one among those of the other."""
        return f"{BLOCKS_PREFIX}{self.code.digest}"

    @property
    def patches(self) -> int:
        """Patches of all items, prepared or failed, and of the products that have no item."""
        planned = {item.item_id for item in self.items}
        beside = sum(failed.patches for failed in self.failed if failed.item_id not in planned)
        return beside + sum(item.patches for item in self.items)

    def digest(self) -> str:
        """blake2b-128 of the keys and of the failed items with their errors, in sorted order."""
        failed = [f"failed {item.item_id} {item.error} {item.cause}" for item in self.failed]
        lines = sorted([item.key for item in self.items] + failed)
        return hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()

    def with_failures(self, failed: Iterable[FailedItem]) -> Plan:
        """The same plan with further failures: the outcome of phase 1."""
        return replace(self, failed=tuple(sorted([*self.failed, *failed], key=lambda item: item.item_id)))


def pixel_digest(config: BuildConfig) -> str:
    """Digest of all that shapes a staged block beside its inputs."""
    return f"{config.pixel_digest()}-{PREPARE_VERSION}"


def make_plan(
    region: str,
    candidates: Iterable[Candidate],
    config: BuildConfig,
    failures: PlanFailures | None = None,
    *,
    strict: bool = False,
) -> tuple[Plan, dict[str, Candidate]]:
    """The plan, and the candidates by content key.

    failures: what the source sets aside while candidates runs. strict: the first of them is raised at once.
    Raises SourceError where there are no candidates, where two have the same name, or where they cannot share a store
    because units, polarisations or bands differ; the first failure where there is nothing else.
    """
    shaping = pixel_digest(config)
    failures = PlanFailures() if failures is None else failures
    by_key: dict[str, Candidate] = {}
    names: set[str] = set()
    for candidate in candidates:
        if strict:
            failures.refuse_all()
        if candidate.item_id in names:
            raise _named_alike(candidate.item_id)
        names.add(candidate.item_id)
        by_key[content_key(candidate, shaping)] = candidate
    if strict or not by_key:
        failures.refuse_all()
    if twice := names & {failed.item_id for failed in failures.found}:
        raise _named_alike(min(twice))
    if not by_key:
        raise SourceError(f"{region}: the source offers no scene here. Check the region and the source's folder.")
    kind = _common_kind(list(by_key.values()))
    items = [
        PlannedItem(item_id=candidate.item_id, key=key, patches=len(candidate.patches))
        for key, candidate in by_key.items()
    ]
    items.sort(key=lambda item: item.item_id)
    plan = Plan(region=region, pixel_digest=shaping, kind=kind, items=tuple(items))
    return plan.with_failures(failures.found), by_key


def _named_alike(item_id: str) -> SourceError:
    return SourceError(f"{item_id}: the source names two work items alike. Item names must differ.")


def write_plan(staging: Output, plan: Plan) -> None:
    """Keeps the plan beside the staged blocks."""
    staging.write(PLAN_FILE, [json.dumps(asdict(plan) | {"code": plan.code.to_json()}, sort_keys=True).encode()])


def read_plan(staging: Output) -> Plan:
    """The plan kept by the last build. Raises OutputError where none was, StoreError where it is damaged."""
    path = f"{staging.location}/{PLAN_FILE}"
    remedy = "Run `sar1m build` again to make it anew."
    try:
        raw = json_value(staging.read(PLAN_FILE, max_bytes=_MAX_PLAN_BYTES))
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
            code=Code.from_json(raw["code"]) if "code" in raw else UNKNOWN_CODE,  # earlier versions kept none
        )
    except MissingError as error:
        raise OutputError(f"{path}: no build has been here. Run `sar1m build` first.") from error
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
