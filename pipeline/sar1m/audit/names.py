"""Which pictures of a folder or a tar belong together, by their names.

A word of the path says on which side a picture stands: sar/003.png and optical/003.jpg; s1_4/ROIs_s1_4_p1.tif and
s2_4/ROIs_s2_4_p1.tif; S1RTC/x.tif and S2L2A/x.tif; 0001.sar.png and 0001.opt.jpg. With these words taken out, the names
of a pair are equal. Words of both sides in one name of a folder (sar_optical/) say nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

from sar1m.io.picture import PICTURE_SUFFIXES

# The first stand before the later where several pictures of one side have one name.
SAR_WORDS: Final = ("sar", "s1", "s1rtc", "s1grd", "sentinel1", "vv", "vh")
OPTICAL_WORDS: Final = (
    *("optical", "opt", "s2", "s2l2a", "s2l1c", "s2rgb", "s2a", "s2c", "sentinel2", "eo", "rgb", "msi"),
)
_WORD: Final = re.compile(r"[A-Za-z0-9]+")
_PREFERRED: Final = ("s1rtc", "s1grd", "vv", "s2l2a", "s2l1c", "s2rgb", "s2a", "s2c")  # of one dataset, on purpose


@dataclass(frozen=True, kw_only=True)
class NamedPair:
    """Two pictures by their paths. fault: why they are no pair; then one or both are empty."""

    name: str
    sar: str = ""
    optical: str = ""
    fault: str = ""


@dataclass(frozen=True, kw_only=True)
class NameMatch:
    """Pairs in the order of their names. neither: how many pictures stand on neither side."""

    pairs: tuple[NamedPair, ...]
    neither: int


@dataclass
class _Sides:
    sar: list[str] = field(default_factory=list)
    optical: list[str] = field(default_factory=list)


def match_names(paths: Iterable[str]) -> NameMatch:
    """Pairs among paths, relative, with slashes. What is no picture by its suffix is left alone.

    A picture without partner, and names of which one side has two pictures, become faults.
    """
    found: dict[str, _Sides] = {}
    neither = 0
    for path in sorted(paths):
        if PurePosixPath(path).suffix.lower() not in PICTURE_SUFFIXES:
            continue
        side, key = _side_and_key(path)
        if side == "":
            neither += 1
            continue
        sides = found.setdefault(key, _Sides())
        (sides.sar if side == "sar" else sides.optical).append(path)
    keys = sorted(found)
    names = _short_names(keys)
    pairs = tuple(_pair(name, found[key]) for name, key in zip(names, keys, strict=True))
    return NameMatch(pairs=pairs, neither=neither)


def _pair(name: str, sides: _Sides) -> NamedPair:
    sar, optical = _preferred(sides.sar), _preferred(sides.optical)
    for what, found in (("SAR", sar), ("optical", optical)):
        if len(found) > 1:
            return NamedPair(name=name, fault=f"{len(found)} {what} pictures have this name: {', '.join(found[:3])}")
    if not sar or not optical:
        there, what = (optical, "SAR") if not sar else (sar, "optical")
        return NamedPair(
            name=name, sar="".join(sar), optical="".join(optical), fault=f"no {what} picture belongs to {there[0]}"
        )
    return NamedPair(name=name, sar=sar[0], optical=optical[0])


def _preferred(paths: Sequence[str]) -> list[str]:
    """The one picture that counts where a dataset holds several products of a side in folders of their own."""
    if len(paths) < 2:
        return list(paths)
    for word in _PREFERRED:
        holding = [path for path in paths if word in _words(path)]
        if len(holding) == 1:
            return holding
    return list(paths)


def _side_and_key(path: str) -> tuple[str, str]:
    """sar, optical or nothing, and the path without the words that say so and without suffix.

    The word nearest to the end of the path decides."""
    parts = list(PurePosixPath(path).with_suffix("").parts)
    side = ""
    for number in reversed(range(len(parts))):
        found = _sides_of(parts[number])
        if len(found) == 1:
            side = side or next(iter(found))
            if found == {side}:
                words = SAR_WORDS if side == "sar" else OPTICAL_WORDS
                parts[number] = _WORD.sub(lambda word: "*" if word[0].lower() in words else word[0], parts[number])  # noqa: B023
    return side, "/".join(parts)


def _sides_of(part: str) -> set[str]:
    words = set(_words(part))
    found = {"sar"} if words & set(SAR_WORDS) else set()
    return found | ({"optical"} if words & set(OPTICAL_WORDS) else set())


def _words(path: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(path)]


def _short_names(keys: Sequence[str]) -> list[str]:
    """Names of pairs: what the keys hold beside stars, the folders left out that all of them share or that say nothing
    else; the keys themselves where that would make two equal."""
    short = ["/".join(part for part in key.split("/") if set(part) - {"*", "_", "-", "."}) or key for key in keys]
    plain = [re.sub(r"(?<![A-Za-z0-9])\*[_.-]?|[_.-]?\*(?![A-Za-z0-9])", "", name) or name for name in short]
    if len(set(plain)) == len(plain):
        return plain
    return short if len(set(short)) == len(short) else list(keys)
