"""Progress as lines: what a log shows of long work."""

import io

import pytest

from sar1m.store import progress
from sar1m.store.printer import Printer
from sar1m.store.progress import LineWatch
from sar1m.terminal import TerminalWatch


def test_a_stage_writes_a_line_every_ten_seconds_and_one_at_its_end(monkeypatch):
    seconds = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: seconds[0])
    lines = []
    with LineWatch(lines.append).stage("pack", 9) as step:
        for _ in range(9):
            seconds[0] += 4.0
            step()
    assert lines == ["pack: 3 of 9", "pack: 6 of 9", "pack: 9 of 9", "pack: done in 36.0 s"]


def test_a_stage_that_fails_is_not_reported_as_done():
    lines = []
    with pytest.raises(KeyError), LineWatch(lines.append).stage("pack", 9):
        raise KeyError
    assert lines == []


def test_a_note_keeps_its_brackets_whatever_the_console_would_make_of_them():
    out = io.StringIO()
    TerminalWatch(Printer(file=out, width=20)).note("[grid] and [bold]pixels[/bold] at https://example.org/a/long/path")
    assert out.getvalue() == "[grid] and [bold]pixels[/bold] at https://example.org/a/long/path\n"
