"""A whole answer in memory, and JSON read within bounds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sar1m.io.net.faults import PassingError
from sar1m.store.errors import SourceError
from sar1m.store.side_files import json_value

MAX_JSON_BYTES: Final = 2**25  # of 3 bytes ([],) Python makes 64; 32 MiB stay under a gigabyte
_HTML: Final = re.compile(rb"\s*<(!doctype\s+html|html|head|body)\b", re.IGNORECASE)


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
    """JSON within MAX_JSON_BYTES and the limits of side_files. Raises SourceError, beginning with name, for others."""
    if len(content) > MAX_JSON_BYTES:
        raise SourceError(f"{name}: {len(content)} bytes of JSON; at most {MAX_JSON_BYTES} are read. Ask for less.")
    try:
        return json_value(content, finite=True)
    except ValueError as reason:
        raise SourceError(f"{name}: {reason} (begins with {content[:20]!r}). Try again later.") from None


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
