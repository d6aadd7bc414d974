"""An audit from a place to its table and page; what is measured is kept line by line, so that no interruption loses it.

The output folder holds index.html, pairs.parquet, pairs.csv, and measured.jsonl: a line a pair as it was measured. The
same command reads the lines whose files and settings are still the same, and measures the rest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sar1m.audit.discover import Discovery, discover
from sar1m.audit.item import PairRow, PairWork
from sar1m.audit.page import render_page
from sar1m.audit.pair_files import PAIRS_FILE, FilePair
from sar1m.audit.reading import PairSource
from sar1m.audit.table import COLUMNS, csv_bytes, parquet_bytes, records
from sar1m.audit.verdict import Verdict, judge
from sar1m.flow import Workers, WorkersSettings
from sar1m.store.durable import json_bytes, write_durably, writing_to
from sar1m.store.errors import ConfigError, OutputError
from sar1m.store.file_lock import output_lock
from sar1m.store.progress import Watch

if TYPE_CHECKING:
    import pandas as pd

PAGE_FILE: Final = "index.html"
TABLE_FILE: Final = "pairs.parquet"
CSV_FILE: Final = "pairs.csv"
JOURNAL_FILE: Final = "measured.jsonl"
FEW_PAIRS: Final = 8  # so many are measured before other processes have started


@dataclass(frozen=True, kw_only=True)
class AuditRequest:
    """place: as discover takes it. out: output folder. write_to: folder for the aligned pictures. workers: None for one
    a core."""

    place: str
    out: Path
    work: PairWork
    limit_px: float = 1.0
    write_to: Path | None = None
    workers: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class AuditSummary:
    """rows: of all pairs, in the order of their names. reused: how many of them were measured before. written: pairs
    that lie aligned in the folder that was asked for. not_written: measured ones that should and do not."""

    rows: tuple[PairRow, ...]
    verdict: Verdict
    remarks: tuple[str, ...]
    reused: int
    written: int
    not_written: int
    page: Path
    table: Path

    @property
    def holds(self) -> bool:
        """Whether every measured pair lies within the limit, and there is one."""
        return self.verdict.holds

    def pairs(self) -> pd.DataFrame:
        """The table, one row a pair in the order of their names; columns: audit.table.COLUMNS. NaN where unknown."""
        import pandas as pd  # noqa: PLC0415 - the command does without

        return pd.DataFrame(records(self.rows), columns=[column.name for column in COLUMNS])


def audit(request: AuditRequest, watch: Watch) -> AuditSummary:
    """Measures every pair at a place, writes table and page, and the aligned pairs where that is asked for.

    A pair that cannot be read is a row with its cause. Raises SourceError where the place holds no pair, ConfigError
    where the output would lie among the pairs or over them, OutputError where it cannot be written.
    """
    work = _writing(request)
    found = discover(request.place)
    with output_lock(request.out, lock="audit.lock", work="audit"):
        if request.write_to is not None and not (request.write_to / PAIRS_FILE).exists():
            write_durably(request.write_to / PAIRS_FILE, [json_bytes([])])  # the folder is ours from here on
        former = _former(request.out / JOURNAL_FILE)
        keyed = [former.get(work.key_of(source)) for source in found.sources]
        known = [row for row in keyed if row is not None and _still_there(row, request.write_to)]
        rows = {row.pair: row for row in known}
        rows |= {row.pair: row for row in _measured(found, set(rows), work, request, watch)}
        ordered = tuple(rows[name] for name in sorted(rows))
        written = _list_written(request.write_to, ordered)
        verdict = judge(ordered, request.limit_px)
        page = render_page(_by_name(found.sources), ordered, verdict, work.how, title=_title(request.place))
        write_durably(request.out / TABLE_FILE, [parquet_bytes(ordered)])
        write_durably(request.out / CSV_FILE, [csv_bytes(ordered)])
        write_durably(request.out / PAGE_FILE, [page.encode()])
    return AuditSummary(
        rows=ordered,
        verdict=verdict,
        remarks=(*found.remarks, *verdict.remarks()),
        reused=len(known),
        written=written,
        not_written=sum(row.status == "measured" for row in ordered) - written if request.write_to else 0,
        page=request.out / PAGE_FILE,
        table=request.out / TABLE_FILE,
    )


def _writing(request: AuditRequest) -> PairWork:
    """How pairs are worked on. Raises ConfigError or OutputError where the aligned pictures cannot go where they are
    asked to."""
    target, place = request.write_to, Path(request.place)
    if target is None:
        if request.work.resample:
            raise ConfigError("--resample: moves what --write writes. Give --write FOLDER too.")
        return request.work
    if not place.is_dir() and not place.is_file():
        raise ConfigError(f"--write: {request.place} holds no picture files of its own; `sar1m get` fetches a release.")
    here, there = target.resolve(), place.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise ConfigError(
            f"--write {target}: lies in or over {request.place}, and would mix the aligned pictures with the others or "
            "replace them. Give a folder elsewhere."
        )
    if target.is_dir() and any(target.iterdir()) and not (target / PAIRS_FILE).exists():
        raise OutputError(f"{target}: holds other files. Give a new or empty folder to --write.")
    return replace(request.work, write_to=str(target))


def _measured(
    found: Discovery, known: set[str], work: PairWork, request: AuditRequest, watch: Watch
) -> Iterator[PairRow]:
    """Rows of the pairs that are not known, as they are finished; each is in the journal before it is given."""
    for failed in found.failed:
        yield PairRow(pair=failed.item_id, key="", status="failed", cause=failed.cause)
    left = [source for source in found.sources if source.name not in known]
    if not left:
        return
    few = request.workers is None and len(left) <= FEW_PAIRS
    settings = WorkersSettings(workers=0 if few else request.workers)
    journal = request.out / JOURNAL_FILE
    with Workers(settings) as workers, watch.stage("audit pairs", len(left)) as step:
        for outcome in workers.map(work, left):
            row = outcome.result
            if row is None:
                sar, optical = _paths(outcome.item)
                row = PairRow(
                    pair=outcome.item.name, key="", sar=sar, optical=optical, status="failed", cause=outcome.cause
                )
            else:
                with writing_to(journal), journal.open("a", encoding="utf-8") as stream:
                    stream.write(row.to_json() + "\n")
            step()
            yield row


def _former(journal: Path) -> dict[str, PairRow]:
    """Rows of a former run by their keys. A line that was cut off by a crash is left out."""
    rows: dict[str, PairRow] = {}
    if not journal.is_file():
        return rows
    with journal.open(encoding="utf-8") as stream:
        for line in stream:
            try:
                row = PairRow.from_json(line)
            except (ValueError, TypeError, KeyError):
                continue
            rows[row.key] = row
    return rows


def _still_there(row: PairRow, target: Path | None) -> bool:
    """Whether what a row says was written is there."""
    if target is None or not row.written:
        return True
    entry = json.loads(row.written)
    return all((target / entry[side]).is_file() for side in ("sar", "optical"))


def _list_written(target: Path | None, rows: Sequence[PairRow]) -> int:
    """Writes pairs.json beside the aligned pictures; how many pairs it lists."""
    if target is None:
        return 0
    entries = [json.loads(row.written) for row in rows if row.written]
    write_durably(target / PAIRS_FILE, [json_bytes(entries)])
    return len(entries)


def _by_name(sources: Sequence[PairSource]) -> Mapping[str, PairSource]:
    return {source.name: source for source in sources}


def _paths(source: PairSource) -> tuple[str, str]:
    if not isinstance(source, FilePair):
        return "", ""
    return source.sar.shown if source.sar else "", source.optical.shown if source.optical else ""


def _title(place: str) -> str:
    """The last name of a place, without what may be a secret."""
    return Path(place.split("?", maxsplit=1)[0].rstrip("/")).name or place


def summary_json(summary: AuditSummary) -> dict[str, Any]:
    """The figures of an audit, for machines."""
    verdict = summary.verdict
    return {
        "verdict": verdict.line,
        "holds": verdict.holds,
        "limit_px": verdict.limit_px,
        "measured": verdict.measured,
        "unmeasurable": verdict.unmeasurable,
        "failed": verdict.failed,
        "beyond": verdict.beyond,
    }
