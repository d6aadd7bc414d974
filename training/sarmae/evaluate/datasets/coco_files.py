"""COCO JSON files, read strictly: an error names the file and the entry."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sar1m.store.errors import SourceError
from sar1m.store.side_files import read_json
from sarmae.evaluate.datasets.listing import files_under, split_named
from sarmae.evaluate.datasets.pictures import natural
from sarmae.evaluate.label_splits import NO_SPLIT

MOST_BYTES: Final = 2**30  # of a COCO file; the largest that is known has half of that
_MOST_PX: Final = 2**31  # of a side or a place; far more than any picture has


@dataclass(frozen=True, kw_only=True, eq=False)
class BoxAnnotation:
    """An object. number: its id. label: name of its category. corners: (4,) x0 y0 x1 y1 in px, x1 > x0, y1 > y0."""

    number: int
    label: str
    corners: NDArray[np.float64]
    crowd: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class AnnotatedImage:
    """An image. source: the JSON with its entry. split: NO_SPLIT where the name of the JSON contains none."""

    file_name: str
    rows: int
    cols: int
    split: str
    source: Path
    annotations: tuple[BoxAnnotation, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class CocoAnnotations:
    """The images of one or more COCO files.

    pictures: in the order of split and file name.
    names: of all categories, in the order of their ids.
    notes: which files were not read.
    """

    pictures: tuple[AnnotatedImage, ...]
    names: tuple[str, ...]
    notes: tuple[str, ...]


def read_annotations(root: Path) -> CocoAnnotations:
    """The COCO files below the root. The split of a file is the one in its name (train.json, instances_val2017.json).

    Of several files for a split, the one with the shortest name is read (SSDD: test.json beside test_offshore.json).
    Where some files name a split, files that name none or two are not read (HRSID: train_test2017.json). Raises
    SourceError where there is no COCO file, a file is malformed, or two files hold the same image.
    """
    there = sorted(files_under(root, (".json",)), key=lambda path: path.name)
    documents = {path: document for path in there if (document := _read(path)) is not None}
    splits = {path: _split_of(path) for path in documents}
    by_split = {split: min(_of(splits, split), key=lambda path: len(path.stem)) for split in set(splits.values())}
    files = sorted(by_split.values()) if by_split.keys() - {NO_SPLIT} else sorted(documents)
    files = [path for path in files if len(by_split) == 1 or splits[path]]
    if not files:
        raise SourceError(f"{root}: no COCO file; {root}/annotations/train.json and test.json expected.")
    pictures, names = _joined({path: documents[path] for path in files}, splits)
    unread = sorted(path.name for path in documents if path not in files)
    return CocoAnnotations(
        pictures=tuple(sorted(pictures, key=lambda picture: (picture.split, natural(picture.file_name)))),
        names=names,
        notes=(f"not read: {', '.join(unread)}",) if unread else (),
    )


def _of(splits: Mapping[Path, str], split: str) -> list[Path]:
    return [path for path, its in splits.items() if its == split]


def _joined(
    documents: Mapping[Path, Mapping[str, Any]], splits: Mapping[Path, str]
) -> tuple[list[AnnotatedImage], tuple[str, ...]]:
    pictures, categories = list[AnnotatedImage](), dict[int, str]()
    for path, document in documents.items():
        names = _categories(path, document)
        for number, name in names.items():
            if categories.setdefault(number, name) != name:
                raise SourceError(f"{path}: category {number} is {name!r}, elsewhere {categories[number]!r}.")
        pictures.extend(_pictures(path, document, names, splits[path]))
    seen: dict[str, AnnotatedImage] = {}
    for picture in pictures:
        other = seen.setdefault(f"{picture.split}/{picture.file_name}", picture)
        if other is not picture:
            twice = "twice" if other.source == picture.source else f"in {other.source} too"
            raise SourceError(f"{picture.source}: image {picture.file_name!r} stands {twice}. Keep one of them.")
    return pictures, tuple(dict.fromkeys(categories[key] for key in sorted(categories)))


def _split_of(path: Path) -> str:
    words = re.split(r"[^A-Za-z]+", path.stem)
    named = [split for word in words if (split := split_named(word))]
    return named[0] if len(named) == 1 else NO_SPLIT


def _read(path: Path) -> Mapping[str, Any] | None:
    """The document; None for JSON that is not COCO. Raises SourceError where it cannot be read."""
    document = read_json(path, error=SourceError, remedy="Get the file again, or remove it.", max_bytes=MOST_BYTES)
    parts = ("images", "annotations", "categories")
    if not isinstance(document, dict) or not all(isinstance(document.get(part), list) for part in parts):
        return None
    return document


def _categories(path: Path, document: Mapping[str, Any]) -> dict[int, str]:
    names: dict[int, str] = {}
    for entry in document["categories"]:
        number, name = _field(path, entry, "id", int), _field(path, entry, "name", str)
        if number in names:
            raise SourceError(f"{path}: category id {number} stands twice ({names[number]!r}, {name!r}).")
        names[number] = name
    return names


def _pictures(path: Path, document: Mapping[str, Any], names: Mapping[int, str], split: str) -> list[AnnotatedImage]:
    entries: dict[int, Mapping[str, Any]] = {}
    for entry in document["images"]:
        number = _field(path, entry, "id", int)
        if number in entries:
            raise SourceError(
                f"{path}: image id {number} stands twice ({entries[number].get('file_name')!r}, "
                f"{entry.get('file_name')!r}). It is not clear which boxes belong to which image: correct the JSON."
            )
        entries[number] = entry
    annotations: dict[int, list[BoxAnnotation]] = {number: [] for number in entries}
    for entry in document["annotations"]:
        number = _field(path, entry, "image_id", int)
        if number not in annotations:
            raise SourceError(f"{path}: annotation {entry.get('id')} is of image {number}, which is not in the file.")
        annotations[number].append(_annotation(path, entry, names))
    for number, its in annotations.items():
        _refuse_twins(path, number, its)
    return [_picture(path, entry, annotations[number], split) for number, entry in entries.items()]


def _refuse_twins(path: Path, image: int, annotations: Sequence[BoxAnnotation]) -> None:
    """Raises SourceError where an object stands twice: the same box, or under one id boxes of the same whole pixels.

    One id for boxes at different places, as in published copies of SSDD, is no harm: ids are not used further.
    """
    exact, rounded = dict[tuple[str, bytes], int](), set[tuple[str, int, bytes]]()
    for one in annotations:
        if one.crowd:
            continue
        twin = exact.setdefault((one.label, one.corners.tobytes()), one.number)
        place = (one.label, one.number, (np.rint(one.corners) + 0.0).tobytes())
        if place in rounded or twin != one.number:
            twice = f"id {one.number} stands twice" if place in rounded else f"{twin} and {one.number} are the same"
            raise SourceError(
                f"{path}: annotation {twice}, with the box {one.corners.tolist()} of image {image}. Were they appended "
                "twice? The object would count twice: keep one of them."
            )
        rounded.add(place)


def _picture(path: Path, entry: Mapping[str, Any], annotations: Sequence[BoxAnnotation], split: str) -> AnnotatedImage:
    rows, cols = _field(path, entry, "height", int), _field(path, entry, "width", int)
    name = unicodedata.normalize("NFC", _field(path, entry, "file_name", str).replace("\\", "/"))
    if rows < 1 or cols < 1:
        raise SourceError(f"{path}: image {name!r} of {rows} rows of {cols} px. Correct height and width.")
    return AnnotatedImage(
        file_name=name, rows=rows, cols=cols, split=split, source=path, annotations=tuple(annotations)
    )


def _annotation(path: Path, entry: Mapping[str, Any], names: Mapping[int, str]) -> BoxAnnotation:
    number, category = _field(path, entry, "id", int), _field(path, entry, "category_id", int)
    if category not in names:
        raise SourceError(f"{path}: annotation {number} is of category {category}; known are {sorted(names)}.")
    box = _field(path, entry, "bbox", list)
    sound = len(box) == 4 and all(
        isinstance(side, int | float) and not isinstance(side, bool) and math.isfinite(side) and abs(side) < _MOST_PX
        for side in box
    )
    if not sound or box[2] <= 0 or box[3] <= 0:
        raise SourceError(
            f"{path}: annotation {number} of image {entry['image_id']} has the box {box}; x, y, width and height in "
            "px expected, the last two above 0. Correct or remove it."
        )
    crowd = entry.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise SourceError(f"{path}: annotation {number} has iscrowd {str(crowd)[:40]!r}; 0 or 1 expected. Correct it.")
    corners = np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]], dtype=np.float64)
    return BoxAnnotation(number=number, label=names[category], corners=corners, crowd=bool(crowd))


def _field(path: Path, entry: object, name: str, kind: type) -> Any:  # noqa: ANN401 - checked to be of the kind
    value = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        kinds = {int: "a whole number", str: "text", list: "a list"}
        raise SourceError(
            f"{path}: {name!r} of an entry is {'absent' if value is None else repr(value)[:40]}; {kinds[kind]} "
            f"expected. The entry: {str(entry)[:120]}. Correct the JSON."
        )
    return value
