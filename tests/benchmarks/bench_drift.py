"""How often `sar1m drift` cries change where there is none, and how small a step it sees.

    python tests/benchmarks/bench_drift.py [--tables 200]

Tables are made up (tests/support/shift_tables.py): acquisitions of 0.3 px scatter on eight tracks that lie 0.5 px
apart from each other, two platforms, 18 months, six patches each. A step away from the radar begins in the seventh
month. Writes results/drift.md beside this file. Some ten minutes on one core.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from sar1m.releases.drift import drift
from support.shift_tables import rows, store

RESULTS = Path(__file__).with_name("results") / "drift.md"


def found(folder: Path, acquisitions: int, step_px: float, tables: int) -> tuple[int, int]:
    """Of so many tables, those with a change, and those whose first change is dated right to two months."""
    changed, dated = 0, 0
    for seed in range(tables):
        report = drift([str(store(folder / "store", rows(acquisitions, seed, away=step_px)))])
        changed += bool(report.changes)
        months = ("2023-05", "2023-06", "2023-07", "2023-08", "2023-09")
        dated += bool(report.changes) and any(month in report.changes[0].name for month in months)
    return changed, dated


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=200, help="of each size without a step; a fifth with one")
    count = parser.parse_args().tables
    lines = ["| acquisitions | step px | tables | change reported | within two months |", "|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for acquisitions in (40, 120, 240, 480):
            for step_px in (0.0, 0.15, 0.3):
                tables = count if step_px == 0 else count // 5
                changed, dated = found(folder, acquisitions, step_px, tables)
                shown = "-" if step_px == 0 else str(dated)
                lines.append(f"| {acquisitions} | {step_px:g} | {tables} | {changed} | {shown} |")
                print(lines[-1], flush=True)
        table = rows(10_000)
        place = str(store(folder / "large", table))
        start = time.process_time()
        report = drift([place])
        taken_s = time.process_time() - start
    cost = f"{len(table):,} rows, 10,000 acquisitions, {report.contrasts} questions: {taken_s:.0f} CPU-s."
    print(cost)
    head = (
        "# What `sar1m drift` sees\n\n"
        f"`python tests/benchmarks/bench_drift.py` · {datetime.now(tz=UTC):%Y-%m-%d} · false alarms 0.01\n\n"
        "Acquisitions of 0.3 px scatter on eight tracks 0.5 px apart, two platforms, 18 months; a step away from the\n"
        "radar begins in the seventh month.\n\n"
    )
    RESULTS.write_text(head + "\n".join(lines) + f"\n\n{cost}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
