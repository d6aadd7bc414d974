"""Side files: the texts beside the pixels (JSON, GeoJSON, TOML, CSV, lists). Read and parsed here alone.

Anybody may have written one, and a name may lead to anything: a pipe that never answers, a device without an end. So
only regular files are opened, without waiting, and size, nesting, numbers and letters have limits. Functions that take
a path raise the caller's own class of error, which begins with the path and ends with the caller's remedy; functions
that take content raise ValueError with the reason alone.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
import stat
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

from sar1m.store.errors import Sar1mError, printable

MAX_SIDE_BYTES: Final = 64 * 2**20
_PART_BYTES: Final = 2**22  # asked for at once: memory for all of it is taken before the first byte is read
MAX_DEPTH: Final = 64  # of lists and tables in each other
MAX_CONTAINERS: Final = 2**24  # lists and tables of a JSON file; each costs 64 bytes of memory or more
MAX_INTEGER, MIN_INTEGER = 2**64 - 1, -(2**63)  # what 64 bits hold, signed or not

_KINDS: Final = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
# A dotted key of TOML, whose parser takes a time that grows with the square of the parts. The bounds keep this linear.
_KEY_PART: Final = r"""(?:[\w-]{1,200}+|"(?:[^"\\\n]|\\.){0,200}+"|'[^'\n]{0,200}+')"""
_LONG_KEY: Final = re.compile(rf"(?<![\w-]){_KEY_PART}(?:[ \t]{{0,9}}\.[ \t]{{0,9}}{_KEY_PART}){{{MAX_DEPTH}}}")
_ODD_ESCAPE: Final = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_BOMS: Final = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


def read_bytes(path: Path, *, error: type[Sar1mError], remedy: str, max_bytes: int = MAX_SIDE_BYTES) -> bytes:
    """The whole file.

    error: class of what is raised where there is no file, the name leads to anything but a regular file (links are
    followed), the file holds more than max_bytes, or the system refuses. remedy: the last sentence of the message.
    """
    try:
        return _content(path, max_bytes)
    except ValueError as reason:
        raise error(f"{shown(path)}: {reason}. {remedy}") from reason


def read_text(path: Path, *, error: type[Sar1mError], remedy: str, max_bytes: int = MAX_SIDE_BYTES) -> str:
    """The file as text_of gives it. Raises as read_bytes, and for what text_of refuses."""
    content = read_bytes(path, error=error, remedy=remedy, max_bytes=max_bytes)
    try:
        return text_of(content)
    except ValueError as reason:
        raise error(f"{shown(path)}: {reason}. {remedy}") from reason


def read_json(path: Path, *, error: type[Sar1mError], remedy: str, max_bytes: int = MAX_SIDE_BYTES) -> Any:  # noqa: ANN401
    """The file's JSON value as json_value gives it. Raises as read_bytes, and for what json_value refuses."""
    content = read_bytes(path, error=error, remedy=remedy, max_bytes=max_bytes)
    try:
        return json_value(content)
    except ValueError as reason:
        raise error(f"{shown(path)}: {reason}. {remedy}") from reason


def read_table(
    path: Path, *, error: type[Sar1mError], remedy: str, max_bytes: int = MAX_SIDE_BYTES
) -> list[tuple[int, list[str]]]:
    """The rows of a CSV file as csv_rows gives them. Raises as read_text, and for what csv_rows refuses."""
    text = read_text(path, error=error, remedy=remedy, max_bytes=max_bytes)
    try:
        return list(csv_rows(text))
    except ValueError as reason:
        raise error(f"{shown(path)}: {reason}. {remedy}") from reason


def require_regular(path: Path, *, error: type[Sar1mError], remedy: str) -> None:
    """Raises error unless the name leads to a regular file that can be opened: for files that a library opens."""
    try:
        os.close(_opened(path))
    except ValueError as reason:
        raise error(f"{shown(path)}: {reason}. {remedy}") from reason


def shown(path: Path) -> str:
    """A path as a message names it: its control characters written out."""
    return printable(str(path))


def text_of(content: bytes) -> str:
    """UTF-8 text, without a byte order mark. Raises ValueError for other encodings and for NUL."""
    named = next((name for bom, name in _BOMS.items() if content.startswith(bom)), None)
    if named is not None:
        raise ValueError(f"is {named} text; UTF-8 expected")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 text (byte {error.start} is 0x{content[error.start]:02x})") from None
    if (at := text.find("\0")) >= 0:
        raise ValueError(f"holds a NUL character (line {text.count(chr(10), 0, at) + 1}), which no text does")
    return text


def json_value(content: bytes, *, finite: bool = False) -> Any:  # noqa: ANN401 - the reader checks what it finds
    """The value of UTF-8 JSON. finite: NaN and Infinity, which Python writes and JSON does not know, are refused too.

    Raises ValueError for anything else; for more than MAX_DEPTH levels, MAX_CONTAINERS lists and objects or 64 bits of
    an integer; for a name that stands twice in an object; and for texts with \\u0000 or half a surrogate pair, which
    nothing can be called.
    """
    text = text_of(content)
    if (count := text.count("[") + text.count("{")) > MAX_CONTAINERS:
        raise ValueError(f"holds {count} lists and objects; at most {MAX_CONTAINERS} are read")
    try:
        constant = _not_finite if finite else None
        value = json.loads(text, parse_int=_integer, parse_constant=constant, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError(f"nests deeper than {MAX_DEPTH} levels") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error}") from None
    if count > MAX_DEPTH and not _flat_enough(content):
        raise ValueError(f"nests deeper than {MAX_DEPTH} levels")
    if _ODD_ESCAPE.search(text):
        require_storable(value)
    return value


def own_json(content: bytes) -> Any:  # noqa: ANN401 - the reader checks what it finds
    """The value of JSON that this program wrote and a checksum guards: nine times as fast as json_value, and without
    its limits on integers and names. Raises ValueError for what is not JSON."""
    from pydantic_core import from_json  # noqa: PLC0415  the trainer, which reads side files too, need not have it

    return from_json(content, allow_inf_nan=False)


def toml_value(text: str) -> dict[str, Any]:
    """The table of TOML text. Raises ValueError for anything else, and within the limits of json_value."""
    if _LONG_KEY.search(text):
        raise ValueError(f"nests deeper than {MAX_DEPTH} levels")
    try:
        value = tomllib.loads(text)
    except RecursionError:
        raise ValueError(f"nests deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:
        raise ValueError(f"is not valid TOML: {error}") from None
    require_storable(value)
    return value


def csv_rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Cells by line number, counted from 1; empty lines are passed over. Raises ValueError for a quote without its
    end, letters behind one, and cells over 131,072 letters."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        raise ValueError(f"is not CSV: {error} (line {reader.line_num})") from None


def require_storable(value: object) -> None:
    """Raises ValueError for a value of more than MAX_DEPTH levels, integers of more than 64 bits, and texts with NUL
    or half a surrogate pair, which no other program and no file's name can hold."""
    left = [(value, 1)]
    while left:
        one, depth = left.pop()
        if isinstance(one, dict | list | tuple):
            if depth > MAX_DEPTH:
                raise ValueError(f"nests deeper than {MAX_DEPTH} levels")
            inside = [*one.keys(), *one.values()] if isinstance(one, dict) else one
            left.extend((more, depth + 1) for more in inside)
        elif isinstance(one, str):
            if "\0" in one or _SURROGATE.search(one):
                raise ValueError(f"holds the text {one[:40]!a}, with a letter that is none")
        elif isinstance(one, int) and not MIN_INTEGER <= one <= MAX_INTEGER:
            raise ValueError(f"holds an integer of {one.bit_length()} bits; at most 64 bits are read")


def _content(path: Path, max_bytes: int) -> bytes:
    descriptor = _opened(path)
    try:
        size = os.fstat(descriptor).st_size
        if size > max_bytes:
            raise ValueError(f"holds {size} bytes; at most {max_bytes} are read of such a file")
        with open(descriptor, "rb", closefd=False) as stream:
            parts, left = [], max_bytes + 1
            while left and (part := stream.read(min(left, _PART_BYTES))):
                parts.append(part)
                left -= len(part)
        content = b"".join(parts)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)
    if len(content) > max_bytes:
        raise ValueError(f"holds more than {max_bytes} bytes, the most that is read of such a file")
    return content


def _opened(path: Path) -> int:
    """A descriptor of a regular file. The kind is asked first, since to open a device may already do something."""
    if "\0" in str(path):
        raise ValueError("holds a NUL character, which no file's name does")
    try:
        _require_kind(path.stat())
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        absent = error.errno in (errno.ENOENT, errno.ENOTDIR)
        raise ValueError("there is no such file" if absent else f"cannot be read: {error.strerror}") from error
    try:
        _require_kind(os.fstat(descriptor))  # another file may have taken the name
    except ValueError:
        os.close(descriptor)
        raise
    return descriptor


def _require_kind(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "no file")
        raise ValueError(f"is {kind}; a regular file expected")


def _integer(text: str) -> int:
    if len(text) <= 20 and MIN_INTEGER <= (number := int(text)) <= MAX_INTEGER:
        return number
    raise ValueError(f"holds the integer {text[:24]}{'...' if len(text) > 24 else ''}; at most 64 bits are read")


def _not_finite(text: str) -> NoReturn:
    raise ValueError(f"holds the number {text}, which JSON does not know")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"holds the name {twice[:80]!r} twice in one object; which one counts is not clear")
    return table


def _flat_enough(content: bytes) -> bool:
    """Whether sound JSON has at most MAX_DEPTH levels: each round takes the innermost one away."""
    brackets = _STRING.sub(b"", content).translate(None, _NOT_BRACKETS)
    for _ in range(MAX_DEPTH):
        if not brackets:
            return True
        brackets = brackets.replace(b"[]", b"\0").replace(b"{}", b"\0").replace(b"\0", b"")
    return not brackets
