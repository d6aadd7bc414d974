"""What is printed steers no terminal: whatever names, paths and servers' words hold, in lines, tables and progress.

The oracles: a terminal acts on control characters and on nothing else, so none may arrive; bash itself reads back what
is printed to be pasted.
"""

import ast
import io
import re
import subprocess
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from sar1m import terminal
from sar1m.cli import main as sar1m_main
from sar1m.store.printer import Printer, never_fail_on_letters, pasted
from sarmae.cli import main as sarmae_main
from support.paths import ROOT

HOSTILE = (
    "[red]scene[/red]",
    "[/nothing]",
    "[link=https://example.org]x[/link]",
    ":smiley: :warning:",
    "\x1b[2J\x1b[31mgone",
    "\x1b]0;title\x07",
    "\x9b31m",
    "back\x08\x08\rover",
    "txt.\u202egnp",
    "\u2066isolated\u2069",
    "line\u2028paragraph\u2029",
    "not-utf-8-\udcff\udcfe",
    "\0nul\x7f",
    "tab\tand\vand\f",
)


def controls(text):
    """What a terminal could act on, newline aside; half surrogates, which no encoding writes."""
    return {letter for letter in text if unicodedata.category(letter) in {"Cc", "Cf", "Zl", "Zp", "Cs"}} - {"\n"}


def printed(act, width=200):
    stream = io.StringIO()
    act(Printer(file=stream, width=width))
    return stream.getvalue()


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_a_line_of_hostile_text_arrives_readable_and_tame(text):
    out = printed(lambda printer: printer.say(f"failed: {text}: why", style="red"))
    assert not controls(out)
    assert all(word in out for word in re.findall(r"[a-z]+", text))
    assert out.count("\n") == 1


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_tables_and_progress_are_as_tame_as_lines(text):
    table = Table(title=f"title {text}", caption=text)
    table.add_column(f"head {text}")
    table.add_row(f"cell {text}", end_section=True)
    out = printed(lambda printer: printer.print(table))
    assert not controls(out)
    assert "[red]" in out or "[red]" not in text
    stream = io.StringIO()
    printer = Printer(file=stream, width=200)
    printer._force_terminal = True
    with terminal.TerminalWatch(printer).stage(f"{text}", 2) as step:
        step()
    left = stream.getvalue()
    assert not {"\x1b[2J", "\x1b]0;", "\x9b", "\x07", "\u202e", "\x00"} & {
        left[i : i + n] for n in (1, 4) for i in range(len(left))
    }


@given(st.text(max_size=40))
def test_no_text_at_all_brings_a_control_character_or_a_second_line_that_looks_like_one(text):
    out = printed(lambda printer: printer.say(text), width=10)
    assert not controls(out)
    assert all(line.startswith("  ") or not line for line in out.split("\n")[1:])


def test_letters_that_the_output_cannot_write_are_escaped(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii"))
    never_fail_on_letters()
    Printer().say("Île-de-France / 北京")
    assert raw.getvalue() == b"\\xcele-de-France / \\u5317\\u4eac\n"


@pytest.mark.parametrize(
    "word", ["my folder", "a'b", 'a"b', "$HOME", "a;b", "*", "", "é", "-n", "a\\b", *HOSTILE[4:12]]
)
def test_a_pasted_command_means_the_very_words(word):
    command = pasted("printf", "%s", word)
    assert not controls(command)
    read = subprocess.run(["bash", "-c", command], capture_output=True, check=True).stdout
    assert read == word.encode("utf-8", "surrogateescape")


def test_plain_words_are_not_quoted():
    assert pasted("sar1m", "verify", Path("build/germany")) == "sar1m verify build/germany"


@pytest.mark.parametrize(("main", "words"), [(sar1m_main, ["verify"]), (sarmae_main, ["export", "{name}", "out"])])
@pytest.mark.parametrize("name", ["[red]x", "a\x1b[31mb", "a\nDone: all", "\u202eb"], ids=ascii)
def test_both_commands_name_a_strange_folder_tamely(monkeypatch, capsys, tmp_path, main, words, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["x", *(word.format(name=name) for word in words), *([name] * (len(words) == 1))])
    with pytest.raises(SystemExit) as ended:
        main()
    out = "".join(capsys.readouterr())
    assert ended.value.code not in (0, None)
    assert not controls(out)
    assert not any(line.startswith("Done") for line in out.splitlines())
    assert "[red]x" in out or name != "[red]x"


def test_nothing_else_prints():
    """Only the printer makes a console; nobody calls print; what is written besides is JSON, or the one line that says
    which library is missing."""
    consoles, writes = set(), set()
    for path in [*(ROOT / "pipeline/sar1m").rglob("*.py"), *(ROOT / "training/sarmae").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called in {"Console", "print", "typer.echo", "click.echo", "rich.print"}:
                consoles.add((path.name, called))
            if called in {"sys.stdout.write", "sys.stderr.write"}:
                writes.add(path.name)
                assert "json.dumps(" in ast.unparse(node) or "printable(" in ast.unparse(node)
    assert consoles == set()
    assert writes == {"stores.py", "commands.py", "entry.py"}
