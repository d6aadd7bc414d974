"""Texts of others (names, licences, notices) in Markdown and in tables for spreadsheets: they stay text there."""

from __future__ import annotations

import re
from typing import Final

from sar1m.store.errors import printable

# What makes a cell a formula, also in its full-width form. Source: OWASP, CSV Injection.
_FORMULA: Final = re.compile(r"[\s'\"]*[=+\-@\uff1d\uff0b\uff0d\uff20]")
_MARKS: Final = (  # of CommonMark and GitHub, in this order
    (re.compile(r"\\(?=[!-/:-@\[-`{-~])"), r"\\\\"),
    (re.compile(r"([`*|$~])"), r"\\\1"),
    (re.compile(r"(?<!\w)_|_(?!\w)"), r"\\_"),
    (re.compile(r"\](?=[(\[:])"), r"\\]"),
    (re.compile(r"&(?=#?\w+;)"), "&amp;"),
    (re.compile(r"<"), "&lt;"),
    (re.compile(r"^(?=#|>|[+-]\s|[-=]+$)"), r"\\"),
    (re.compile(r"^(\d+)(?=[.)](?:\s|$))"), r"\1\\"),
)


def one_line(text: str) -> str:
    """The text on one line, control characters written out."""
    return printable(" ".join(text.split()))


def markdown_text(text: str) -> str:
    """The text as Markdown and HTML show it: one line without cells, links, images, tags, emphasis or headings."""
    shown = one_line(text)
    for pattern, instead in _MARKS:
        shown = pattern.sub(instead, shown)
    return shown


def spreadsheet_cell(text: str) -> str:
    """The text on one line; what a spreadsheet would compute gets an apostrophe before it."""
    shown = one_line(text)
    return f"'{shown}" if _FORMULA.match(shown) else shown
