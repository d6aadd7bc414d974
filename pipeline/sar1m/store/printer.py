"""What both programs print: texts of others as they are, and nothing that steers a terminal.

Names, paths and servers' words may hold anything. No markup or emoji code in them counts, control characters and those
that turn the direction of writing are written out (\\x1b, \\u202e), and the lines after a text's first are indented, so
that no text looks like a line of its own.
"""

from __future__ import annotations

import io
import os
import shlex
import sys
from collections.abc import Iterable
from typing import IO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from sar1m.store.errors import printable


class Printer(Console):
    """A console for texts of others. say prints text; print is for tables, which go through the same cleaning."""

    def __init__(self, *, stderr: bool = False, file: IO[str] | None = None, width: int | None = None) -> None:
        """stderr: to standard error. file, width: elsewhere, for tests."""
        super().__init__(stderr=stderr, file=file, width=width, markup=False, emoji=False, highlight=False)

    def say(self, text: str, *, style: str | None = None) -> None:
        """One text, unbroken however long it is."""
        self.print(text.replace("\n", "\n  "), style=style, soft_wrap=True)

    def say_all(self, texts: Iterable[str]) -> None:
        """Texts, each on a line of its own."""
        for text in texts:
            self.say(text)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As rich does it, with what is printed cleaned at the last moment, wherever it came from."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(_cleaned(segment.text), segment.style)


def _cleaned(text: str) -> str:
    return text if text.isprintable() else "\n".join(printable(part) for part in text.split("\n"))


def never_fail_on_letters() -> None:
    """Makes standard output and error write letters that their encoding lacks as escapes, and not fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def pasted(*words: str | os.PathLike[str]) -> str:
    """A command to be pasted into a shell: words with spaces or signs of the shell are quoted, unprintable letters
    written as bash's $'...' reads them."""
    return " ".join(_quoted(os.fspath(word)) for word in words)


def _quoted(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    return "$'" + "".join(map(_escaped, word)) + "'"


def _escaped(letter: str) -> str:
    if letter in "\\'":
        return f"\\{letter}"
    return letter if letter.isprintable() else "".join(f"\\x{byte:02x}" for byte in os.fsencode(letter))
