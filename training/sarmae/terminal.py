"""What the command prints: lines while it works, and a summary at the end of a run."""

from __future__ import annotations

import sys
from pathlib import Path

from sar1m.store.printer import Printer, pasted
from sar1m.store.progress import LineWatch
from sarmae.train.loop import PretrainOutcome


def console_watch(console: Printer) -> LineWatch:
    """A Watch that prints lines, the same in a terminal and in a log file."""
    return LineWatch(console.say)


def print_outcome(console: Printer, folder: Path, outcome: PretrainOutcome) -> None:
    """Where the files of the run are and what to do next."""
    watch = console_watch(console)
    if outcome.exit_code == 0:
        watch.note(f"Done: {outcome.step} steps.")
    watch.note(f"Run:     {folder} (metrics.jsonl, tensorboard, checkpoints)")
    called = Path(sys.argv[0])  # so that the printed command can be typed as it stands
    program = str(called) if called.name == "sarmae" else "sarmae"
    watch.note(f"Encoder: {pasted(program, 'export', folder, folder / 'encoder')}")
