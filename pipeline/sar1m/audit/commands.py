"""The commands audit-pairs and register, which sar1m.cli puts beside its own."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sar1m.store.durable import local_folder
from sar1m.store.errors import ConfigError
from sar1m.store.printer import Printer

if TYPE_CHECKING:
    from sar1m.audit.item import PairRow, PairWork
    from sar1m.audit.run import AuditSummary

# A command imports what it needs when it runs, see sar1m.cli.
# ruff: noqa: PLC0415

EXIT_SOME_FAILED = 3
EXIT_NOT_ALIGNED = 4

SearchOption = Annotated[
    int, typer.Option("--search-px", min=8, max=64, help="The largest shift that is searched, in pixels.")
]
SarUnitOption = Annotated[
    str,
    typer.Option(
        "--sar-unit", help="db, linear (power) or amplitude (also 8-bit pictures); auto: as the files say or look."
    ),
]
BandsOption = Annotated[
    str | None,
    typer.Option(
        "--optical-bands",
        metavar="N,N,...",
        help="Numbers of the optical bands in the order of wavelength, e.g. 3,2,1 for red, green, blue files.",
    ),
]


PlaceArgument = Annotated[
    str,
    typer.Argument(
        metavar="PLACE",
        help="Folder of pictures (pairs by their names, a pairs.json, STAC items), a tar, or a store or release, also "
        "remote.",
    ),
]
OutOption = Annotated[Path, typer.Option("--out", callback=local_folder, help="Folder for table and page.")]
LimitOption = Annotated[
    float, typer.Option("--limit-px", min=0, help="Exit code 4 where a measured pair is further off.")
]
WriteOption = Annotated[
    Path | None,
    typer.Option("--write", callback=local_folder, help="Writes measured pairs there, cut to what overlaps, lossless."),
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=0, help="Local processes; default one a core; 0: in this process.")
]
ResampleOption = Annotated[
    bool, typer.Option("--resample", help="With --write: moves the optical pictures by the fraction too.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Prints the figures as JSON.")]


def audit_pairs(  # noqa: PLR0913 - one argument an option
    place: PlaceArgument,
    out: OutOption = Path("audit"),
    limit_px: LimitOption = 1.0,
    search_px: SearchOption = 16,
    sar_unit: SarUnitOption = "auto",
    optical_bands: BandsOption = None,
    write: WriteOption = None,
    workers: WorkersOption = None,
    *,
    resample: ResampleOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measures how well SAR and optical pictures lie on each other, of pairs that others made."""
    from sar1m.audit.run import AuditRequest, audit
    from sar1m.terminal import TerminalWatch

    console = Printer()
    request = AuditRequest(
        place=place,
        out=out,
        work=_work(search_px, sar_unit, optical_bands, resample=resample),
        limit_px=limit_px,
        write_to=write,
        workers=workers,
    )
    summary = audit(request, TerminalWatch(Printer(stderr=True) if as_json else console))
    _print_summary(console, summary, write, as_json=as_json)
    if not summary.verdict.holds:
        raise typer.Exit(EXIT_NOT_ALIGNED)
    if summary.verdict.failed or summary.not_written:
        raise typer.Exit(EXIT_SOME_FAILED)


def register(
    sar: Annotated[Path, typer.Argument(metavar="SAR", help="TIFF, PNG or JPEG.")],
    optical: Annotated[Path, typer.Argument(metavar="OPTICAL", help="TIFF, PNG or JPEG.")],
    search_px: SearchOption = 16,
    sar_unit: SarUnitOption = "auto",
    optical_bands: BandsOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Measures the shift of one optical picture against one SAR picture."""
    from sar1m.audit.pair_files import FilePair, PictureAt
    from sar1m.audit.table import records

    work = _work(search_px, sar_unit, optical_bands, resample=False)
    files = [PictureAt(path=str(path), shown=str(path)) for path in (sar, optical)]
    row = work(FilePair(name=f"{sar} {optical}", sar=files[0], optical=files[1]))
    if as_json:
        (record,) = records([row])
        kept = {name: value for name, value in record.items() if name not in ("pair", "cause") and "moved" not in name}
        sys.stdout.write(json.dumps(kept, indent=1, sort_keys=True) + "\n")
    else:
        Printer().say_all(_register_lines(row, work))
    if row.status != "measured":
        raise typer.Exit(EXIT_NOT_ALIGNED)


def _work(search_px: int, sar_unit: str, optical_bands: str | None, *, resample: bool) -> PairWork:
    from sar1m.audit.item import pair_work

    bands = None if optical_bands is None else _numbers(optical_bands)
    return pair_work(search_px, sar_unit, bands, resample=resample)


def _numbers(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and part.isascii() and 1 <= int(part[:4]) <= 64 for part in parts):
        raise ConfigError(f"--optical-bands {text!r}: expected numbers from 1 with commas between, such as 3,2,1.")
    return tuple(int(part) for part in parts)


def _print_summary(console: Printer, summary: AuditSummary, write: Path | None, *, as_json: bool) -> None:
    from sar1m.audit.run import summary_json

    if as_json:
        sys.stdout.write(json.dumps(summary_json(summary), indent=1, sort_keys=True) + "\n")
        return
    _print_failed(console, summary.rows)
    console.say_all(summary.remarks)
    console.say(summary.verdict.line, style="bold")
    if write is not None:
        console.say(f"Written: {write} ({summary.written:,} pairs)")
        if summary.not_written:
            console.say(f"Not written: {summary.not_written:,} measured pairs; the table holds the cause of each.")
    console.say(f"Table:   {summary.table}")
    console.say(f"Page:    {summary.page}")


def _print_failed(console: Printer, rows: tuple[PairRow, ...]) -> None:
    from sar1m.terminal import SHOWN_FAILURES

    told = [row for row in rows if row.cause]
    for row in told[:SHOWN_FAILURES]:
        console.say(f"{row.status}: {row.pair}: {row.cause}", style="red")
    if len(told) > SHOWN_FAILURES:
        console.say(f"... and {len(told) - SHOWN_FAILURES:,} more: the table names them all.", style="red")


def _register_lines(row: PairRow, work: PairWork) -> list[str]:
    needed = work.registration.min_psr
    metres = "" if math.isnan(row.shift_m) else f", {row.shift_m:.1f} m on the ground"
    if row.status != "measured":
        shift = f"none found within {work.registration.search_px} px (--search-px)"
    else:
        shift = (
            f"{row.row_px:+.2f} rows (down), {row.col_px:+.2f} columns (right): the optical content lies "
            f"{row.shift_px:.2f} px{metres} from the SAR's"
        )
    alone = f"{row.windows_measured} of {row.windows} windows measure alone"
    apart = "" if math.isnan(row.windows_apart_px) else f", {row.windows_apart_px:.2f} px from it in the median"
    return [
        f"Shift:      {shift}",
        f"Sigma:      {'-' if math.isnan(row.sigma_px) else f'{row.sigma_px:.2f} px'}",
        f"Confidence: peak to sidelobe {row.psr:.1f} ({needed:g} needed); {alone}{apart}",
        f"Status:     {row.status} ({row.rows} x {row.cols} px in common)",
        *([f"Doubt:      {row.doubt}"] if row.doubt else []),
    ]
