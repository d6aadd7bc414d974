"""Product XML, parsed by defusedxml within limits and read by accessors whose errors name the element."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

import numpy as np
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from sar1m.records import F64, I64
from sar1m.store.errors import SourceError

MAX_DEPTH: Final = 64  # real annotations reach 9, manifests 15
MAX_TAGS: Final = 600_000  # a slice has 18,000; assembled products some ten times that
MAX_ATTRIBUTES: Final = 64  # of one element; the manifest's root has 12
MAX_LIST_CHARS: Final = 2**21  # one list of numbers; real ones have 25,000
MAX_WHOLE: Final = 2**53  # whole numbers that float64 holds exactly

_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?)Z?", re.ASCII)
_WHOLE: Final = re.compile(r"[+-]?\d{1,16}", re.ASCII)
# Every element and attribute under a namespace carries its whole address: a long one multiplies.
_LONG_NAMESPACE: Final = re.compile(rb"xmlns(?:[^=<]{65}|[^=<]{0,64}=\s*(?:\"[^\"]{257}|'[^']{257}))")
_FETCH: Final = "The file is damaged or of another kind: fetch the product again."


def parse_xml(content: bytes, file: str) -> XmlNode:
    """The root element of a document.

    file: name of the document, for messages.
    Raises SourceError where the text is not well formed, is not UTF-8, declares a document type or entities, or
    exceeds MAX_DEPTH, MAX_TAGS or MAX_ATTRIBUTES.
    """
    _check_bounds(content, file)
    parser = DefusedXMLParser(target=_BoundedTree(), forbid_dtd=True, forbid_entities=True, forbid_external=True)
    try:
        parser.feed(content)
        root: Element = parser.close()
    except DefusedXmlException as error:
        raise SourceError(
            f"{file}: declares a document type or entities ({type(error).__name__}), which can read files or fill the "
            f"memory. Expected plain XML. {_FETCH}"
        ) from error
    except (ParseError, ValueError, LookupError) as error:
        raise SourceError(f"{file}: not well-formed XML: {error}. {_FETCH}") from error
    return XmlNode(element=root, file=file, path=root.tag.rpartition("}")[2])


class _BoundedTree(TreeBuilder):
    """Stops at the first element that is nested too deeply."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0

    def start(self, tag: str, attrs: dict[str, str], /) -> Element:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ValueError(f"elements lie more than {MAX_DEPTH} deep")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> Element:
        self._depth -= 1
        return super().end(tag)


def _check_bounds(content: bytes, file: str) -> None:
    """Refuses what would cost much memory before the parser notices it."""
    tags = content.count(b"<")
    encoding = re.match(rb"\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([^\"']{0,40})", content)
    problem = ""
    if not content.strip():
        problem = f"is empty ({len(content)} bytes)"
    elif b"\0" in content or (encoding and encoding[1].lower() not in (b"utf-8", b"us-ascii", b"ascii")):
        problem = f"is not UTF-8 text: begins with {content[:40]!r}"
    elif tags > MAX_TAGS:
        problem = f"has {tags} tags, at most {MAX_TAGS} are read"
    elif max(piece.count(b"=") for piece in content.split(b"<")) > MAX_ATTRIBUTES:
        problem = f"has an element of more than {MAX_ATTRIBUTES} attributes"
    elif _LONG_NAMESPACE.search(content):
        problem = "declares a namespace of an absurd length"
    if problem:
        raise SourceError(f"{file}: {problem}. Expected XML of a Sentinel-1 product. {_FETCH}")


@dataclass(frozen=True, kw_only=True, eq=False)
class XmlNode:
    """An element with its file and its path in it.

    Accessors take paths of ElementTree. They raise SourceError, naming the file, the path, what was found and what was
    expected.
    """

    element: Element
    file: str
    path: str

    def wrong(self, found: str, expected: str, path: str = "") -> SourceError:
        """The error to raise where the element, or what stands at path below it, is not as expected."""
        return SourceError(f"{self.file}: {self._at(path)}: found {found}; expected {expected}. {_FETCH}")

    def one(self, path: str) -> XmlNode:
        """The only element at path."""
        found = self.element.findall(path)
        if len(found) != 1:
            raise self.wrong(f"{len(found)} elements" if found else "none", "one", path)
        return XmlNode(element=found[0], file=self.file, path=self._at(path))

    def all(self, path: str) -> list[XmlNode]:
        """All elements at path, in order; there may be none."""
        return [
            XmlNode(element=element, file=self.file, path=f"{self._at(path)}[{index}]")
            for index, element in enumerate(self.element.findall(path))
        ]

    def listed(self, parent: str, name: str, least: int, most: int) -> list[XmlNode]:
        """The elements of a name in the list at parent, least to most; `count`, where stated, must agree."""
        node = self.one(parent)
        found = node.all(name)
        stated = node.element.get("count")
        if stated is not None and stated.strip() != str(len(found)):
            raise node.wrong(f"{len(found)} elements but count {stated[:40]!r}", "as many as it states")
        if not least <= len(found) <= most:
            raise node.wrong(f"{len(found)} elements", f"{least} to {most}")
        return found

    def text(self, path: str) -> str:
        """Text of the only element at path, stripped. It must not be empty."""
        element = self.one(path).element
        text = (element.text or "").strip()
        if not text or len(element):
            raise self.wrong("no text" if not text else "elements", "a text", path)
        return text

    def choice(self, path: str, allowed: tuple[str, ...]) -> str:
        """A text that must be one of those allowed."""
        text = self.text(path)
        if text not in allowed:
            raise self.wrong(repr(text[:80]), " or ".join(allowed), path)
        return text

    def flag(self, path: str) -> bool:
        """A text that must be true or false."""
        return self.choice(path, ("true", "false")) == "true"

    def number(self, path: str, least: float, most: float) -> float:
        """A finite number from least to most."""
        text = self.text(path)
        try:
            value = float(text)
        except ValueError:
            value = np.nan
        if not least <= value <= most:
            raise self.wrong(repr(text[:80]), f"a number from {least:g} to {most:g}", path)
        return value

    def whole(self, path: str, least: int = -MAX_WHOLE, most: int = MAX_WHOLE) -> int:
        """A whole number from least to most."""
        text = self.text(path)
        value = int(text) if _WHOLE.fullmatch(text) else None
        if value is None or not least <= value <= most:
            raise self.wrong(repr(text[:80]), f"a whole number from {least} to {most}", path)
        return value

    def instant(self, path: str) -> datetime:
        """A UTC time such as 2021-08-09T17:39:53.153776, time-zone aware."""
        return self.instant_of(self.text(path), path)

    def instant_of(self, text: str, path: str) -> datetime:
        """As instant, from a text that was already read at path."""
        matched = _TIME.fullmatch(text)
        try:
            return datetime.fromisoformat(matched[1] if matched else "").replace(tzinfo=UTC)
        except ValueError:
            raise self.wrong(repr(text[:80]), "a UTC time such as 2021-08-09T17:39:53.153776", path) from None

    def seconds(self, path: str, epoch: datetime) -> float:
        """Seconds from epoch to the time at path."""
        return seconds_between(epoch, self.instant(path))

    def numbers(self, path: str) -> F64:
        """A list of finite numbers between spaces, (n,), at least one; its `count`, where stated, must agree."""
        node = self.one(path)
        text = node.element.text or ""
        if len(text) > MAX_LIST_CHARS:
            raise node.wrong(f"{len(text)} characters", f"at most {MAX_LIST_CHARS}")
        words = text.split()
        try:
            values = np.fromiter(map(float, words), dtype=np.float64, count=len(words))
        except ValueError as error:
            word = str(error).partition(": ")[2][:80] or "no number"
            raise node.wrong(f"{word} among {len(words)} words", "numbers between spaces") from None
        stated = node.element.get("count")
        if stated is not None and stated.strip() != str(len(words)):
            raise node.wrong(f"{len(words)} numbers but count {stated[:40]!r}", "as many as it states")
        if not len(words) or not np.isfinite(values).all():
            raise node.wrong(f"{np.count_nonzero(~np.isfinite(values))} of {len(words)} not finite", "finite numbers")
        return values

    def whole_numbers(self, path: str) -> I64:
        """A list of whole numbers, (n,), each larger than the one before."""
        values = self.numbers(path)
        if np.abs(values).max() > MAX_WHOLE or (values != np.rint(values)).any():
            raise self.wrong("fractions or huge numbers", "whole numbers", path)
        if (np.diff(values) <= 0).any():
            at = int(np.argmax(np.diff(values) <= 0))
            raise self.wrong(f"{values[at]:g} followed by {values[at + 1]:g}", "numbers that rise", path)
        return values.astype(np.int64)

    def _at(self, path: str) -> str:
        shown = re.sub(r"\{[^}]*\}", "", path)
        return f"{self.path}/{shown}" if shown else self.path


def seconds_between(epoch: datetime, instant: datetime) -> float:
    """Seconds from epoch to instant, the double nearest to the whole microseconds between them."""
    return (instant - epoch) // timedelta(microseconds=1) / 1e6
