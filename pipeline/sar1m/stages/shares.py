"""Phase 1 in shares: processes that know nothing of each other prepare a part of the plan each.

A share takes its items by their place in the plan alone, so that shares are disjoint and complete whatever runs first.
What it could not prepare it leaves by name, for the command that finishes the build.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import islice

from sar1m.records import Candidate, FailedItem
from sar1m.stages.plan import Plan, read_plan, write_plan
from sar1m.stages.staged import staged_name
from sar1m.store.errors import ConfigError, MissingError, OutputError, StoreError, UnfinishedError
from sar1m.store.outputs.output import Output
from sar1m.store.side_files import MAX_SIDE_BYTES, json_value

_FAILED_SUFFIX = ".failed.json"
_NAMED = 10  # of the items that are missing; more hide what to do
MOST_SHARES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Share:
    """Share number of count, counted from 1."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def of(self, candidates: Mapping[str, Candidate]) -> dict[str, Candidate]:
        """The share's candidates by content key: a run of neighbours in the plan, which often read the same scenes.

        All shares of a count are disjoint and complete, and differ by one item at most.
        """
        first, end = ((number * len(candidates)) // self.count for number in (self.number - 1, self.number))
        return dict(islice(candidates.items(), first, end))


def parse_share(text: str) -> Share:
    """A share written as 3/64: the third of 64. Raises ConfigError where it is not one."""
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text.strip())
    if found is None or not 1 <= int(found[1]) <= int(found[2]) <= MOST_SHARES:
        raise ConfigError(f"--items {text}: expected NUMBER/COUNT, from 1/COUNT to COUNT/COUNT, as in 3/64.")
    return Share(number=int(found[1]), count=int(found[2]))


def keep_plan(staging: Output, plan: Plan) -> None:
    """Writes a share's plan, unless one of the same items and code is there, which may say more of failures."""
    try:
        former = read_plan(staging)
    except (OutputError, StoreError):
        former = None
    ours = (plan.items, plan.pixel_digest, plan.blocks)
    if former is None or (former.items, former.pixel_digest, former.blocks) != ours:
        write_plan(staging, plan)


def keep_failures(blocks: Output, tried: Mapping[str, Candidate], failed: Iterable[FailedItem]) -> None:
    """Leaves word of items, of those that were tried by content key, that a share could not prepare."""
    keys = {candidate.item_id: key for key, candidate in tried.items()}
    for item in failed:
        blocks.write(_failed_name(keys[item.item_id]), [json.dumps(asdict(item), sort_keys=True).encode()])


def forget_failures(blocks: Output, keys: Iterable[str]) -> None:
    """Takes back what former runs said of items, before they are tried again."""
    blocks.remove(*(_failed_name(key) for key in keys))


def failures_of_shares(blocks: Output, missing: Mapping[str, Candidate]) -> list[FailedItem]:
    """What the shares could not prepare, of the candidates by content key that are not staged.

    Raises UnfinishedError, naming the items, where there are some of which no share has said anything.
    """
    failed, untouched = [], []
    remedy = "Delete it and run the item's share again."
    for key, candidate in missing.items():
        name = _failed_name(key)
        try:
            failed.append(FailedItem(**json_value(blocks.read(name, max_bytes=MAX_SIDE_BYTES))))
        except MissingError:
            untouched.append(candidate.item_id)
        except (TypeError, ValueError) as error:
            raise StoreError(f"{blocks.location}/{name}: says nothing of a failed item ({error}). {remedy}") from error
    if untouched:
        more = f" and {len(untouched) - _NAMED} more" if len(untouched) > _NAMED else ""
        raise UnfinishedError(
            f"{blocks.location}: {len(untouched)} work items are not prepared: {', '.join(untouched[:_NAMED])}{more}. "
            "Run the shares that have not ended again (--items NUMBER/COUNT with the same region, configuration and "
            "plan; what is staged is not prepared anew) and then --finish; or run the command without --items and "
            "--finish, which prepares what is missing itself."
        )
    return failed


def _failed_name(key: str) -> str:
    return staged_name(key).removesuffix(".zip") + _FAILED_SUFFIX
