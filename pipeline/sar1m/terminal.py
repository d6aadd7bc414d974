"""What a person sees while a build runs: a progress bar in a terminal, plain lines in a log file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from sar1m.building import BuildSummary
from sar1m.records import FailedItem
from sar1m.stages.statistics import registration_words
from sar1m.store.errors import StoreError
from sar1m.store.outputs.output import Output
from sar1m.store.printer import Printer, pasted
from sar1m.store.progress import LineWatch
from sar1m.store.schema import REPORT_FILE, SPLITS, STATS_DIR
from sar1m.store.side_files import MAX_SIDE_BYTES, json_value

SHOWN_FAILURES = 10  # more of them hide the counts


class RateColumn(ProgressColumn):
    """Steps a second, over the whole stage."""

    def render(self, task: Task) -> Text:
        """Rate of the task so far; nothing before the first step."""
        rate = task.finished_speed or task.speed
        return Text(f"{rate:,.1f}/s" if rate else "", style="progress.data.speed")


class TerminalWatch(LineWatch):
    """A Watch that draws progress bars in a terminal, and writes lines where there is none."""

    def __init__(self, console: Printer) -> None:
        super().__init__(console.say)
        self._console = console

    def stage(self, title: str, total: int) -> AbstractContextManager[Callable[[], None]]:
        """In a terminal a bar with rate and time left, or a pulse where total is 0."""
        return self._bar(title, total) if self._console.is_terminal else super().stage(title, total)

    @contextmanager
    def _bar(self, title: str, total: int) -> Iterator[Callable[[], None]]:
        columns = (TextColumn("{task.description:<15}", markup=False), BarColumn(), MofNCompleteColumn(), RateColumn())
        with Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=self._console) as progress:
            task = progress.add_task(title, total=total or None)
            yield lambda: progress.advance(task)
            if not total:
                progress.update(task, total=1, completed=1)


def print_summary(console: Printer, out: Output, summary: BuildSummary) -> None:
    """How a build ended: what was done, what was left out and why, where to look."""
    if summary.nothing_to_do:
        console.say(f"Nothing to do: {out.location} is complete for this region and configuration.")
    else:
        console.say(
            f"Blocks: {summary.prepared} prepared, {summary.reused} already there, {len(summary.failed)} failed.",
        )
    if summary.facts:
        _print_store(console, out, summary)
    names = pasted(program(), "status", out.location) if summary.facts else f"{out.location}/build-log"
    print_failures(console, summary.failed, f"{names} names them all.")
    if not summary.facts:
        console.say("Once all shares have ended, the same command with --finish in place of --items makes the store.")
        return
    console.say(f"Store:  {out.location}")
    console.say(f"Page:   {out.location}/{REPORT_FILE}")
    console.say(f"Verify: {pasted(program(), 'verify', out.location)}")


def _print_store(console: Printer, out: Output, summary: BuildSummary) -> None:
    console.print(count_table(summary.facts))
    for sentence in _registration(out) if summary.facts["counts"]["paired"] else ():
        console.say(sentence)


def _registration(out: Output) -> list[str]:
    name = f"{STATS_DIR}/self_test.json"
    try:
        return registration_words(json_value(out.read(name, max_bytes=MAX_SIDE_BYTES)))
    except ValueError as error:
        raise StoreError(
            f"{out.location}/{name}: {error}. Check it: {pasted(program(), 'verify', out.location)}"
        ) from error


def print_failures(console: Printer, failed: Sequence[FailedItem], others: str) -> None:
    """What failed and why; others: where those beyond SHOWN_FAILURES are named."""
    for item in failed[:SHOWN_FAILURES]:
        text = f"failed: {item.item_id}: {item.error}: {item.cause}"
        console.say(text, style="red")
    if len(failed) > SHOWN_FAILURES:
        more = f"... and {len(failed) - SHOWN_FAILURES} more: {others}"
        console.say(more, style="red")


def program() -> str:
    """How the user called us, so that a printed command can be typed as it stands."""
    called = Path(sys.argv[0])
    return str(called) if called.name == "sar1m" else "sar1m"


def count_table(facts: dict[str, Any]) -> Table:
    """Candidates = accepted + rejected + failed, with reasons."""
    counts = facts["counts"]
    table = Table(box=None, pad_edge=False)
    table.add_column("samples")
    table.add_column("number", justify="right")
    table.add_row("candidates", f"{counts['candidates']:,}")
    table.add_row("= accepted", f"{counts['accepted']:,}")
    table.add_row("    paired with optical", f"{counts['paired']:,}")
    table.add_row("    SAR alone", f"{counts['unpaired']:,}")
    for reason, count in facts["unpaired_by_reason"].items():
        table.add_row(f"      for {reason}", f"{count:,}")
    for split in SPLITS:
        table.add_row(f"    in {split}", f"{facts['by_split'][split]:,}")
    table.add_row("+ rejected", f"{counts['rejected']:,}")
    for reason, count in facts["rejected_by_reason"].items():
        table.add_row(f"    for {reason}", f"{count:,}")
    table.add_row("+ failed", f"{counts['failed']:,}")
    return table
