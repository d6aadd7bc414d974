"""Lists of names that state a split (train.txt, flood_test_data.csv), in any common encoding, with any separator."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Final

from sar1m.store.errors import SourceError
from sar1m.store.side_files import read_bytes, shown
from sarmae.evaluate.datasets.listing import files_under, plain, split_named

SUFFIXES: Final = (".csv", ".txt", ".tsv", ".lst")
_REMEDY: Final = "Correct the list, or remove it."
# the place of Sen1Floods11's lists beside that of its chips: v1.1/data/flood_events/HandLabeled
_CHIPS: Final = ("data", "flood_events", "HandLabeled")
_LISTS: Final = "splits/flood_handlabeled"
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True, kw_only=True)
class ListedSplits:
    """splits: of each image that a list names, its split. notes: for the report."""

    splits: Mapping[str, str]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _SplitList:
    path: Path
    split: str
    named: frozenset[str]
    unknown: int


def read_split_lists(root: Path, images: Mapping[str, str]) -> ListedSplits | None:
    """The splits that lists below root state, or beside it where Sen1Floods11 keeps them; None where there is no list.

    images: by every name under which a list may state it (stem or file name), the image.
    Lists of a folder in which none names an image are of other data; they are noted.
    Raises SourceError where a list cannot be read, names no image beside lists that do, no list names any, or an image
    stands in lists of two splits.
    """
    lists = [_read(path, split, images) for path, split in _find(root)]
    if not lists:
        return None
    used = [one for one in lists if any(other.named for other in lists if other.path.parent == one.path.parent)]
    for one in used or lists:
        if not one.named:
            raise SourceError(
                f"{shown(one.path)}: none of its {one.unknown} lines names an image of {shown(root)}, such as "
                f"{next(iter(images), 'NAME.tif')!r}. {_REMEDY}"
            )
    stated: dict[str, _SplitList] = {}
    for one in used:
        for image in one.named:
            other = stated.setdefault(image, one)
            if other.split != one.split:
                raise SourceError(f"{shown(one.path)}: lists {image!r}, which {shown(other.path)} lists too. {_REMEDY}")
    notes = [f"{one.unknown} lines of {one.path.name} name no image here" for one in used if one.unknown]
    notes += [f"not read, of other images: {one.path.name}" for one in lists if one not in used]
    return ListedSplits(splits={image: one.split for image, one in stated.items()}, notes=tuple(notes))


def refuse_other_forms(root: Path) -> None:
    """Raises SourceError where a file below root seems to state a split in a form that is not read: splits.csv with a
    column for it, train.json. It would be passed over, and the split be drawn at random."""
    for path in files_under(root, (*SUFFIXES, ".json")):
        stem = path.stem.lower()
        if stem in ("split", "splits") or (path.suffix.lower() == ".json" and split_named(stem)):
            raise SourceError(
                f"{shown(path)}: seems to state a split, in a form that is not read. Write a list of names for each "
                "part (train.txt, val.txt, test.txt), or remove the file to have the split drawn."
            )


def _find(root: Path) -> list[tuple[Path, str]]:
    paths = files_under(root, SUFFIXES)
    beside = (
        root.absolute().parents[len(_CHIPS) - 1] / _LISTS if root.absolute().parts[-len(_CHIPS) :] == _CHIPS else root
    )
    if beside != root and beside.is_dir():
        paths += files_under(beside, SUFFIXES)
    found = []
    for path in paths:
        splits = [split for word in re.split(r"[^A-Za-z]+", path.stem) if (split := split_named(word))]
        if splits:
            found.append((path, splits[0]))
    return found


def _read(path: Path, split: str, images: Mapping[str, str]) -> _SplitList:
    text = _decoded(path, read_bytes(path, error=SourceError, remedy=_REMEDY))
    lines = [line for line in re.split(r"\r\n|\r|\n", text) if line.strip()]
    try:
        tables = [cut(lines) for cut in _CUTS]
    except csv.Error as error:
        raise SourceError(f"{shown(path)}: cannot be read as a list ({error}). {_REMEDY}") from error
    # the separator is the one by which most lines name an image
    matches = max(
        ([_named(fields, images) for fields in rows] for rows in tables), key=lambda rows: sum(map(bool, rows))
    )
    for line, named in zip(lines, matches, strict=False):
        if len(named) > 1:
            raise SourceError(
                f"{shown(path)}: the line {line[:80]!r} names {' and '.join(sorted(named))}; one image a line "
                f"expected. {_REMEDY}"
            )
    return _SplitList(
        path=path,
        split=split,
        named=frozenset(name for named in matches for name in named),
        unknown=sum(not named for named in matches),
    )


def _named(fields: Sequence[str], images: Mapping[str, str]) -> frozenset[str]:
    """The images that a line names, by a path, a file name or a stem."""
    found = set()
    for field in fields:
        name = PureWindowsPath(plain(field.strip().strip("'\"").strip())).name
        stem = name.rpartition(".")[0]
        if (image := images.get(name) or images.get(stem)) is not None:
            found.add(image)
    return frozenset(found)


def _whole(lines: Sequence[str]) -> list[list[str]]:
    return [[line] for line in lines]


def _words(lines: Sequence[str]) -> list[list[str]]:
    return [line.split() for line in lines]


def _by(separator: str) -> Callable[[Sequence[str]], list[list[str]]]:
    def cut(lines: Sequence[str]) -> list[list[str]]:
        return [next(csv.reader(io.StringIO(line), delimiter=separator, skipinitialspace=True), []) for line in lines]

    return cut


_CUTS: Final = (_whole, _by(","), _by(";"), _by("\t"), _by("|"), _words)


def _decoded(path: Path, content: bytes) -> str:
    """The text: by its byte order mark; else UTF-8; else UTF-16 where every other byte is zero; else Windows-1252, or
    Latin-1 where that has no such letter.
    """
    marked = next((name for bom, name in _BOMS if content.startswith(bom)), None)
    wide = ("utf-16-le", "utf-16-be") if b"\0" in content else ()
    for encoding in (marked,) if marked else (*wide, "utf-8", "cp1252", "latin-1"):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text and not (encoding in wide and not _mostly_latin(text)):
            return text
    raise SourceError(f"{shown(path)}: no text in {marked or 'an encoding that is known'}. {_REMEDY}")


def _mostly_latin(text: str) -> bool:
    return sum(letter < "\u0250" for letter in text) > len(text) / 2
