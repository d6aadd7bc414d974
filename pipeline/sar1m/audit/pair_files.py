"""Pairs as files: two paths, or two members of a tar, found by name or by a pairs.json.

pairs.json   a list of objects: name, and optionally sar, optical (paths relative to the list; else the pictures
             whose names end so) and corners_epsg<code> (x, y of the corners of both pictures: upper left, upper
             right, lower right, lower left)
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

from sar1m.audit.names import NamedPair, NameMatch, match_names
from sar1m.io.header import wkt_of
from sar1m.io.picture import PICTURE_SUFFIXES, Georeference, Picture, read_picture
from sar1m.io.raster_open import TiffBytes
from sar1m.store.errors import SourceError
from sar1m.store.side_files import read_json

PAIRS_FILE: Final = "pairs.json"
_CORNERS: Final = re.compile(r"corners_epsg([0-9]{4,6})")
_REMEDY: Final = "Correct the list, or remove it: pairs are then found by the names of the pictures."
_MAX_MEMBERS: Final = 2_000_000


@dataclass(frozen=True, kw_only=True)
class PictureAt:
    """A picture in a folder, or size bytes at offset of a tar. shown: its path as the user knows it, relative."""

    path: str
    shown: str
    offset: int = 0
    size: int = -1

    @property
    def in_tar(self) -> bool:
        """Whether it is a member of a tar."""
        return self.size >= 0

    def read(self) -> Picture:
        """The picture. Raises SourceError where it cannot be read or is damaged."""
        if not self.in_tar:
            return read_picture(Path(self.path))
        try:
            with Path(self.path).open("rb") as stream:
                stream.seek(self.offset)
                content = stream.read(self.size)
        except OSError as error:
            raise SourceError(f"{self.path}: cannot be read: {error.strerror}. Check its permissions.") from error
        return read_picture(TiffBytes(name=f"{self.path}: {self.shown}", content=content))

    def state(self) -> list[object]:
        """What changes when the file does: path, size and time of its last change, and those of files beside it."""
        beside = ("", ".msk", ".MSK", ".aux.xml")
        return [self.shown, self.offset, *(stamp for suffix in beside for stamp in _stamp(self.path + suffix))]


@dataclass(frozen=True, kw_only=True)
class FilePair:
    """Two pictures. corners: EPSG code and x, y of the upper left, upper right and lower left corner of both, where a
    list states them. fault: why they are no pair."""

    name: str
    sar: PictureAt | None
    optical: PictureAt | None
    corners: tuple[float, ...] = ()
    fault: str = ""

    def state(self) -> list[object]:
        """What changes when what is measured does."""
        found = [None if one is None else one.state() for one in (self.sar, self.optical)]
        return [self.name, *found, list(self.corners)]

    def placed(self, picture: Picture) -> Picture:
        """The picture where the list says that it lies; as it is where the list is silent."""
        if not self.corners:
            return picture
        epsg, left, top, right_x, right_y, down_x, down_y = self.corners
        rows, cols = picture.size
        across, down = (
            ((right_x - left) / cols, (right_y - top) / cols),
            ((down_x - left) / rows, (down_y - top) / rows),
        )
        if across[0] * down[1] == across[1] * down[0]:
            raise SourceError(f"{self.name}: its corners in {PAIRS_FILE} enclose no area. {_REMEDY}")
        transform = (across[0], down[0], left, across[1], down[1], top)
        return replace(picture, ground=Georeference(crs_wkt=wkt_of(int(epsg)), transform=transform))


@dataclass(frozen=True, kw_only=True)
class FoundPairs:
    """Pairs in the order of their names. remarks: what is worth saying of the whole, a sentence each."""

    pairs: tuple[FilePair, ...]
    remarks: tuple[str, ...] = ()


def folder_pairs(root: Path) -> FoundPairs:
    """The pairs of a folder.

    Raises SourceError where the folder cannot be read, or its pairs.json is wrong as a whole.
    """
    paths = sorted(_pictures(root))
    found = match_names(paths)
    at = {path: PictureAt(path=str(root / path), shown=path) for path in paths}
    if (root / PAIRS_FILE).exists():
        return _listed(root, found.pairs, at)
    return _of_names(found, at)


def tar_pairs(path: Path) -> FoundPairs:
    """The pairs of a tar that is not compressed, as WebDataset writes them. Raises SourceError where it is damaged."""
    at: dict[str, PictureAt] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for count, member in enumerate(archive):
                if count >= _MAX_MEMBERS:
                    raise SourceError(f"{path}: holds over {_MAX_MEMBERS} members. Split it.")
                if member.isreg() and not member.issparse():
                    shown = member.name.removeprefix("./")
                    at[shown] = PictureAt(path=str(path), shown=shown, offset=member.offset_data, size=member.size)
    except (OSError, tarfile.TarError) as error:
        raise SourceError(f"{path}: not a plain tar ({error}). Unpack compressed ones first.") from error
    return _of_names(match_names(at), at)


def _of_names(found: NameMatch, at: Mapping[str, PictureAt]) -> FoundPairs:
    pairs = tuple(
        FilePair(name=pair.name, sar=at.get(pair.sar), optical=at.get(pair.optical), fault=pair.fault)
        for pair in found.pairs
    )
    left = f"{found.neither:,} pictures are neither SAR nor optical by their names, and are left alone."
    return FoundPairs(pairs=pairs, remarks=(left,) if found.neither else ())


def _pictures(root: Path) -> Iterator[str]:
    """Paths of pictures below root, relative, with slashes. Links are followed, each folder is entered once."""

    def refuse(error: OSError) -> None:
        raise SourceError(f"{error.filename}: cannot be read: {error.strerror}. Check its permissions.") from error

    seen: set[str] = set()
    for folder, below, files in os.walk(root, followlinks=True, onerror=refuse):
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        below.sort()
        for name in files:
            if Path(name).suffix.lower() in PICTURE_SUFFIXES:
                yield Path(folder, name).relative_to(root).as_posix()


def _listed(root: Path, named: tuple[NamedPair, ...], at: Mapping[str, PictureAt]) -> FoundPairs:
    """Pairs of a list. Entries of one name and the same pictures are one pair; where they state different corners, it
    has no place: nobody knows which of them the pictures show."""
    listing = root / PAIRS_FILE
    content = read_json(listing, error=SourceError, remedy=_REMEDY)
    if not isinstance(content, list) or not all(isinstance(one, dict) for one in content):
        raise SourceError(f"{listing}: expected a list of objects with a name each. {_REMEDY}")
    by_name = {pair.name: pair for pair in named}
    pairs: dict[str, FilePair] = {}
    unplaced: set[str] = set()
    for number, entry in enumerate(content):
        name = entry.get("name")
        if not isinstance(name, str) or not name:
            raise SourceError(f"{listing}: entry {number} has the name {name!r}; expected text. {_REMEDY}")
        pair = _entry(root, entry, by_name.get(name), at)
        former = pairs.setdefault(name, pair)
        if former != pair and name not in unplaced:
            unplaced.add(name)
            same = (former.sar, former.optical) == (pair.sar, pair.optical)
            fault = former.fault or pair.fault or ("" if same else "listed twice, with different pictures")
            pairs[name] = replace(former, corners=(), fault=fault)
    remark = (
        f"{len(unplaced):,} names are listed more than once in {PAIRS_FILE} with different places: theirs is unknown."
    )
    ordered = tuple(pairs[name] for name in sorted(pairs))
    return FoundPairs(pairs=ordered, remarks=(remark,) if unplaced else ())


def _entry(root: Path, entry: Mapping[str, Any], named: NamedPair | None, at: Mapping[str, PictureAt]) -> FilePair:
    name = entry["name"]
    found: dict[str, PictureAt | None] = {}
    for side, guess in (("sar", named.sar if named else ""), ("optical", named.optical if named else "")):
        path = entry.get(side, guess)
        if not isinstance(path, str) or not path:
            fault = named.fault if named and named.fault else f"no {side} picture of this name"
            return FilePair(name=name, sar=None, optical=None, fault=fault)
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            return FilePair(name=name, sar=None, optical=None, fault=f"{path!r} leads out of the folder of the list")
        found[side] = at.get(path, PictureAt(path=str(root / path), shown=path))
    try:
        corners = _corners(entry)
    except ValueError as reason:
        return FilePair(name=name, sar=found["sar"], optical=found["optical"], fault=str(reason))
    return FilePair(name=name, sar=found["sar"], optical=found["optical"], corners=corners)


def _corners(entry: Mapping[str, Any]) -> tuple[float, ...]:
    for key, value in entry.items():
        code = _CORNERS.fullmatch(str(key))
        if code is None:
            continue
        try:
            upper_left, upper_right, _, lower_left = [(float(x), float(y)) for x, y in value]
            wkt_of(int(code[1]))
        except (TypeError, ValueError, OverflowError) as error:  # CRSError is a ValueError
            raise ValueError(f"{key} is no list of four corners in a known system ({error})") from error
        return (float(code[1]), *upper_left, *upper_right, *lower_left)
    return ()


def _stamp(path: str) -> tuple[object, ...]:
    try:
        found = os.stat(path)  # noqa: PTH116 - a path may hold any letters
    except OSError:
        return (None,)
    return found.st_size, found.st_mtime_ns
