"""Ways to damage a JSON document: by its structure, by its text, by its bytes."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

DEEP, DIGITS = "@@DEEP@@", "@@DIGITS@@"
STRANGE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, -0.0, 1e308, -1e308, 1e-320, 10**30, 10**400, float("nan"), float("inf"),
    float("-inf"), "", " ", "x" * 200_000, "NaN", "null", "٣", "\x00", "\x1b[31mred", "line\r\nbreak", "\u202egnp",
    "\U0001f6f0", "\ud800", "é" * 300, "../../etc/passwd", "/vsicurl/http://169.254.169.254/", "file:///etc/passwd",
    "9999-99-99T00:00:00Z", "0001-01-01T00:00:00+14:00", "2021-08-09T17:39:60Z", "9999-12-31T23:59:59.999999Z",
    "POLYGON((nan nan,1 1,2 2,nan nan))", "POLYGON EMPTY", "GEOMETRYCOLLECTION(POINT(1 1))", [], {}, [[]], [None],
    {"type": "Polygon"}, [[[0, 0], [1, 1]]], {"": {"": ""}}, DEEP, DIGITS, [0] * 5_000, "Polygon", "MultiPolygon",
    "GeometryCollection", "Feature", "FeatureCollection", 181, -91, "513.57 MB", "1e9 GB",
)  # fmt: skip
Place = tuple[Any, Any]


def places(document: object) -> Iterator[Place]:
    """Every container of a document with each of its keys or numbers."""
    keys = list(document) if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else ()
    for key in keys:
        yield document, key
        yield from places(document[key])


def pick(rng: random.Random, document: object) -> Place:
    """By the name of the key first: most places are numbers of a ring."""
    found = list(places(document))
    kind = rng.choice(sorted({key if isinstance(key, str) else "" for _, key in found}))
    return rng.choice([one for one in found if (one[1] if isinstance(one[1], str) else "") == kind])


def drop(rng: random.Random, document: object) -> None:
    where, key = pick(rng, document)
    del where[key]


def retype(rng: random.Random, document: object) -> None:
    where, key = pick(rng, document)
    where[key] = rng.choice(STRANGE)


def double(rng: random.Random, document: object) -> None:
    where, key = pick(rng, document)
    times = rng.choice((1, 1, 5, 200))
    if isinstance(where, list):
        where[key:key] = [where[key]] * times
    else:
        where[f"{key} "] = where[key]


def swap(rng: random.Random, document: object) -> None:
    (one, first), (other, second) = pick(rng, document), pick(rng, document)
    one[first] = json.loads(json.dumps(other[second]))


def wrap(rng: random.Random, document: object) -> None:
    where, key = pick(rng, document)
    for _ in range(rng.choice((1, 1, 2, 70))):
        where[key] = rng.choice(([where[key]], {"a": where[key]}))


def rename(rng: random.Random, document: object) -> None:
    where, key = pick(rng, document)
    if isinstance(where, dict):
        where[rng.choice((key.upper(), key + "\x00", "", "__class__", "type", key[::-1]))] = where.pop(key)


def turn_signs(rng: random.Random, document: object) -> None:
    numbers = [(w, k) for w, k in places(document) if isinstance(w[k], int | float) and abs(w[k]) < 1e300]
    for where, key in rng.sample(numbers, min(len(numbers), rng.choice((1, 4, 50)))):
        where[key] = rng.choice((-where[key], where[key] * 1e6, where[key] + 360, -1e-9, where[key] * 1e-9))


BY_STRUCTURE: tuple[Callable[[random.Random, Any], None], ...] = (
    drop, drop, retype, retype, retype, retype, double, swap, wrap, rename, turn_signs,
)  # fmt: skip


def damaged_json(rng: random.Random, content: bytes) -> tuple[bytes, str]:
    """A mutant and what was done to it."""
    if rng.random() < 0.2:
        return damaged_bytes(rng, content)
    document, done = json.loads(content), []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        mutation = rng.choice(BY_STRUCTURE)
        done.append(mutation.__name__)
        if document:
            mutation(rng, document)
    text = json.dumps(document)
    if rng.random() < 0.1:  # a key that is there twice
        keys = list(re.finditer(r'"[^"\\]{1,40}": ', text))
        if keys:
            at = rng.choice(keys)
            text = text[: at.start()] + at[0] + rng.choice(("null, ", "7, ", '"x", ')) + text[at.start() :]
            done.append("twice")
    depth = rng.choice((50, 70, 100_000))
    text = text.replace(f'"{DEEP}"', "[" * depth + "]" * depth).replace(f'"{DIGITS}"', "9" * 5_000)
    return text.encode(), "+".join(done)


def damaged_bytes(rng: random.Random, content: bytes) -> tuple[bytes, str]:
    """The same without a look at what the bytes mean."""
    kind = rng.choice(("flip", "flip", "cut", "append", "mark", "utf-16", "other", "doubled"))
    if kind == "flip":
        changed = bytearray(content)
        for _ in range(rng.choice((1, 1, 3, 50))):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        return bytes(changed), kind
    other = rng.choice((b"", b"null", b"7", b"[]", b"{}", b"<html></html>", b"\xff\xfe", b"[" * 100_000, b'"' * 9_999))
    made = {
        "cut": content[: rng.randrange(len(content))],
        "append": content + rng.choice((b"}", b"\0", b"[]", content[:50])),
        "mark": b"\xef\xbb\xbf" + content,
        "utf-16": content.decode().encode("utf-16"),
        "other": other,
        "doubled": content + content,
    }
    return made[kind], kind
