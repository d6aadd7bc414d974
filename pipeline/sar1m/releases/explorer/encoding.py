"""How tables reach the page: typed arrays as base64 inside script files, which also load from file://.

A page that is opened from a folder can neither fetch nor import the files beside it; it can only run them as scripts.
So every part is a script that gives the page one value: packed numbers, texts with their codes, or plain JSON.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sar1m.page.browser import script_json

# With this head the search for private things knows that no text follows (release/privacy.py).
HEAD: Final = "data:;base64,"
_KINDS: Final = {"f4": "<f4", "u1": "<u1", "u2": "<u2", "u4": "<u4", "i4": "<i4"}

Json = Any


def packed(values: npt.ArrayLike, kind: str) -> dict[str, str]:
    """(n,) numbers as {"kind", "bytes"}, little-endian. kind: f4, u1, u2, u4 or i4."""
    content = np.ascontiguousarray(values, dtype=_KINDS[kind]).tobytes()
    return {"kind": kind, "bytes": HEAD + base64.b64encode(content).decode()}


def coded(values: Iterable[str]) -> dict[str, Json]:
    """(n,) texts as {"names", "codes"}: the distinct ones sorted, and packed positions in them."""
    names, codes = np.unique(np.array(list(values), dtype=object).astype(str), return_inverse=True)
    kind = "u1" if len(names) <= 2**8 else "u2" if len(names) <= 2**16 else "u4"
    return {"names": names.tolist(), "codes": packed(codes, kind)}


def repeated(values: Sequence[Json]) -> list[Json]:
    """(n,) values as [distinct ones in the order they come, position of each]: a product's name stands once a part."""
    places: dict[Json, int] = {}
    numbers = [places.setdefault(value, len(places)) for value in values]
    return [list(places), numbers]


def script_part(name: str, payload: Json) -> bytes:
    """A script that hands a value to the page, whether the page's own script runs before it or after it."""
    return f"(self.explorerParts??=[]).push([{script_json(name)},{script_json(payload)}]);\n".encode()
