"""A whole answer in memory, and JSON read within bounds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from sar1m.io.net.faults import PassingError
from sar1m.store.errors import SourceError

MAX_JSON_BYTES: Final = 2**25  # of 3 bytes ([],) Python makes 64; 32 MiB stay under a gigabyte
MAX_JSON_DEPTH: Final = 64
_HTML: Final = re.compile(rb"\s*<(!doctype\s+html|html|head|body)\b", re.IGNORECASE)
# Strings whole, also an unfinished one, so that no part is looked at twice.
_BRACKETS: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[{]|[\]}]', re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a service answered.

    headers: by lower-case names.
    url: the address that answered, after redirects, without an added signature.
    name: of the answer in messages.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    content: bytes = field(repr=False)
    url: str = field(repr=False)
    name: str = "answer"

    def json(self) -> Any:  # noqa: ANN401 - the reader checks what it finds
        """The content as JSON. Raises SourceError where it is not JSON, too large, too deep, or holds NaN."""
        return parse_json(self.content, self.name)


def parse_json(content: bytes, name: str) -> Any:  # noqa: ANN401 - the reader checks what it finds
    """JSON within MAX_JSON_BYTES and MAX_JSON_DEPTH. Raises SourceError, beginning with name, for anything else."""
    if len(content) > MAX_JSON_BYTES:
        raise SourceError(f"{name}: {len(content)} bytes of JSON; at most {MAX_JSON_BYTES} are read. Ask for less.")
    depth = 0
    for found in _BRACKETS.finditer(content):
        first = found[0][:1]
        depth += (first in b"[{") - (first in b"]}")
        if depth > MAX_JSON_DEPTH:
            raise SourceError(f"{name}: JSON nested deeper than {MAX_JSON_DEPTH}. It is not read.")
    try:
        return json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise SourceError(f"{name}: is no JSON (begins with {content[:20]!r}). Try again later.") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def check_media(shown: str, media_type: str, expect: tuple[str, ...], head: bytes) -> None:
    """Raises PassingError where an answer is not of an expected type: a web page with status 200 is a fault.

    expect: media types; application/json stands for application/...+json too, image/* for every image, */* for all
    but web pages. head: first bytes, since a page may be called anything.
    """
    wants_html = any("html" in wanted for wanted in expect)
    if not wants_html and ("html" in media_type or _HTML.match(head)):
        raise PassingError(f"{shown}: answered with a web page; expected {', '.join(expect)}")
    if not any(_fits(media_type, wanted) for wanted in expect):
        raise PassingError(f"{shown}: answered with {media_type[:60] or 'no type'}; expected {', '.join(expect)}")


def _fits(media_type: str, wanted: str) -> bool:
    if wanted in {"*/*", media_type}:
        return True
    if wanted.endswith("/*"):
        return media_type.startswith(wanted[:-1])
    return wanted == "application/json" and media_type.startswith("application/") and media_type.endswith("+json")
