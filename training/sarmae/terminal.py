"""What a person sees while a run goes on: a line a log step, and a summary at the end."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from sarmae.train.loop import Outcome, Progress


class TerminalWatch:
    """A Watch that prints lines, in a terminal and in a log file alike."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def note(self, text: str) -> None:
        """One line, links left as they are."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def progress(self, progress: Progress) -> None:
        """The line of a log step."""
        self.note(progress_line(progress))


def progress_line(progress: Progress) -> str:
    """step 120/1000  loss 0.832 (mae 0.801, sarc 0.312)  312 img/s  MFU 41 %  wait 0.4 %  3 min left"""
    parts = f" (mae {progress.mae:.4f}, sarc {progress.sarc:.4f})" if progress.sarc else ""
    bad = f"  {progress.bad_steps} bad steps" if progress.bad_steps else ""
    width = len(str(progress.steps))
    return (
        f"step {progress.step:>{width}}/{progress.steps}  loss {progress.loss:.4f}{parts}"
        f"  {progress.images_per_s:,.0f} img/s  MFU {progress.utilisation:.0%}  wait {progress.data_wait:.1%}"
        f"  {duration(progress.seconds_left)} left{bad}"
    )


def duration(seconds: float) -> str:
    """Seconds, minutes, hours or days, as one would say it."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def print_outcome(console: Console, folder: Path, outcome: Outcome) -> None:
    """Where the run stands and what to do next."""
    told = TerminalWatch(console)
    if outcome.exit_code == 0:
        told.note(f"Done: {outcome.step} steps.")
    told.note(f"Run:     {folder} (metrics.jsonl, tensorboard, checkpoints)")
    called = Path(sys.argv[0])  # so that the printed command can be typed as it stands
    program = str(called) if called.name == "sarmae" else "sarmae"
    told.note(f"Encoder: {program} export {folder} {folder}/encoder")
