"""The index of a folder of the published SAR-1M (arXiv 2512.16635): its lists, and which pictures can be read.

The layout, as the authors' training code of April 2026 (MiliLab/SARMAE) reads it:

    FOLDER/SAR/...          SAR pictures, grey or three equal colours
    FOLDER/OPT/...          optical pictures
    FOLDER/paired.json      list of {"sar": name, "optical": name}; names relative to SAR/ and OPT/, or led by them
    FOLDER/unpaired.json    list of names or of {"sar": name}, relative to SAR/ or led by it

The pictures are 8-bit display brightness of many sensors: no unit, no place, no date, hence no way into our own store,
whose samples have all three. They are of several sizes; the authors stretch every one to 224 px, which changes pixel
spacing and speckle from picture to picture. Here a fixed window is cut from the middle, and smaller pictures are left
out by name.
"""
# S usable samples

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from sar1m.store.errors import ConfigError, StoreError
from sar1m.store.places.place import checked_name
from sar1m.store.side_files import read_json
from sarmae.stream.batch import ImageSpec, SplitIndex
from sarmae.stream.published.decode import picture_size

PAIRED_FILE: Final = "paired.json"
UNPAIRED_FILE: Final = "unpaired.json"
SAR_FOLDER: Final = "SAR"
OPTICAL_FOLDER: Final = "OPT"

_MAX_LIST_BYTES: Final = 1 << 30  # 750,000 pairs take some 100 MB


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureEntry:
    """One entry of the lists: names of its pictures relative to the folder; optical is None where unpaired."""

    sar: str
    optical: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class UnusablePicture:
    """One entry that cannot be used, and why. name: its SAR picture's, or its place in a list."""

    name: str
    cause: str


@dataclass(frozen=True, kw_only=True, eq=False)
class PublishedIndex:
    """A folder of the published data set after its pictures' headers were read.

    listed: the S usable entries, pairs first, in the order of the lists. split: the same as every reader's index; its
    digest covers names and sizes of the files and the window, not their content. left_out: everything else.
    """

    folder: Path
    listed: tuple[PictureEntry, ...]
    split: SplitIndex
    left_out: tuple[UnusablePicture, ...]


def index_published(folder: Path, *, published_px: int = 256, threads: int = 4) -> PublishedIndex:
    """Reads both lists and every picture's header. published_px: side of the window that is cut from each picture.

    Left out and named: entries that are no names or lead out of the folder, SAR pictures listed before, pictures that
    are missing, no 8-bit PNG or JPEG, or smaller than published_px, and pairs whose two pictures differ in size. Raises
    ConfigError for an impossible published_px or threads, StoreError where a list cannot be read or nothing is usable.
    """
    if published_px < 1 or threads < 1:
        raise ConfigError(
            f"published data: published_px {published_px} and threads {threads}; at least 1 each expected."
        )
    entries = [*_entries(folder, PAIRED_FILE), *_entries(folder, UNPAIRED_FILE)]
    with ThreadPoolExecutor(threads, thread_name_prefix="headers") as pool:
        judged = list(pool.map(lambda entry: _judge(folder, entry, published_px), entries))
    usable: dict[str, _Usable] = {}
    left_out: list[UnusablePicture] = []
    for verdict in judged:
        if isinstance(verdict, UnusablePicture):
            left_out.append(verdict)
        elif verdict.listed.sar in usable:
            left_out.append(UnusablePicture(name=verdict.listed.sar, cause="listed before; the first entry stands"))
        else:
            usable[verdict.listed.sar] = verdict
    if not usable:
        named = "; ".join(f"{out.name}: {out.cause}" for out in left_out[:3])
        raise StoreError(f"{folder}: none of {len(entries)} listed samples can be used. {named}")
    return PublishedIndex(
        folder=folder,
        listed=tuple(one.listed for one in usable.values()),
        split=_split_index(folder, list(usable.values()), published_px),
        left_out=tuple(left_out),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Usable:
    """An entry whose pictures can be read, and their sizes in bytes: SAR, then optical where there is one."""

    listed: PictureEntry
    file_bytes: tuple[int, ...]


def _entries(folder: Path, name: str) -> Iterator[PictureEntry | UnusablePicture]:
    """The entries of one list. Raises StoreError where the list itself cannot be read."""
    for number, entry in enumerate(_parsed_list(folder / name)):
        try:
            if name == PAIRED_FILE:
                yield PictureEntry(
                    sar=_picture(entry, "sar", SAR_FOLDER), optical=_picture(entry, "optical", OPTICAL_FOLDER)
                )
            else:
                sar = entry if isinstance(entry, dict) else {"sar": entry}
                yield PictureEntry(sar=_picture(sar, "sar", SAR_FOLDER), optical=None)
        except StoreError as error:
            yield UnusablePicture(name=f"{name}[{number}]", cause=str(error))


def _parsed_list(path: Path) -> list[object]:
    remedy = (
        f"The published SAR-1M has {PAIRED_FILE} and {UNPAIRED_FILE}, JSON lists of names, beside its folders "
        f"{SAR_FOLDER} and {OPTICAL_FOLDER}; where there are no such samples, write []."
    )
    entries = read_json(path, error=StoreError, remedy=remedy, max_bytes=_MAX_LIST_BYTES)
    if not isinstance(entries, list):
        raise StoreError(f"{path}: a list expected, found {type(entries).__name__}. Download it again.")
    return entries


def _picture(entry: object, sensor: str, folder: str) -> str:
    """The picture's name relative to the data set. Raises StoreError where it is none or leads elsewhere."""
    name = entry.get(sensor) if isinstance(entry, dict) else None
    if not isinstance(name, str):
        raise StoreError(f"{entry!r:.80}: no name of a picture under {sensor!r}.")
    return checked_name(f"{folder}/{name.removeprefix(folder + '/')}")


def _judge(folder: Path, entry: PictureEntry | UnusablePicture, published_px: int) -> _Usable | UnusablePicture:
    if isinstance(entry, UnusablePicture):
        return entry
    names = [entry.sar] if entry.optical is None else [entry.sar, entry.optical]
    try:
        shapes = [picture_size(folder / name) for name in names]
        file_bytes = tuple((folder / name).stat().st_size for name in names)
    except (OSError, StoreError) as error:
        return UnusablePicture(name=entry.sar, cause=str(error))
    if min(shapes[0]) < published_px:
        return UnusablePicture(
            name=entry.sar, cause=f"{_by(shapes[0])}; at least {published_px} px a side are asked for"
        )
    if shapes[-1] != shapes[0]:
        return UnusablePicture(name=entry.sar, cause=f"{_by(shapes[0])}, but its optical picture {_by(shapes[-1])}")
    return _Usable(listed=entry, file_bytes=file_bytes)


def _by(shape: tuple[int, int]) -> str:
    return f"{shape[0]} x {shape[1]} px"


def _split_index(folder: Path, usable: Sequence[_Usable], published_px: int) -> SplitIndex:
    files = {
        name: size
        for one in usable
        for name, size in zip((one.listed.sar, one.listed.optical), one.file_bytes, strict=False)
        if name is not None
    }
    identity = json.dumps([published_px, *files.items()], separators=(",", ":"))
    return SplitIndex(
        location=str(folder),
        split="train",
        digest=hashlib.blake2b(identity.encode(), digest_size=16).hexdigest(),
        files=files,
        sar=_display_spec("sar", ("display",), published_px),
        optical=_display_spec("optical", ("R", "G", "B"), published_px),
        paired=np.array([one.listed.optical is not None for one in usable]),
        keys=np.array([_key(one.listed.sar) for one in usable], dtype=np.int64),
        enl=np.full(len(usable), np.nan, dtype=np.float32),
        land_cover=np.zeros(len(usable), dtype=np.uint8),
        land_cover_names=("unknown",),
    )


def _display_spec(name: str, labels: tuple[str, ...], published_px: int) -> ImageSpec:
    return ImageSpec(
        name=name,
        labels=labels,
        sample_shape=(len(labels), published_px, published_px),
        dtype="uint8",
        scale_factor=1.0,
        add_offset=0.0,
        units="1",
        slots=1,
        codec="none",
    )


def _key(name: str) -> int:
    """63-bit hash of a name, as the pipeline hashes sample ids."""
    return int.from_bytes(hashlib.blake2b(os.fsencode(name), digest_size=8).digest(), "little") >> 1
