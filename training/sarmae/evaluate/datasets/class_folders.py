"""Pictures in class folders: split, class and depression angle of each, from the names of its folders."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from sar1m.store.errors import SourceError
from sarmae.evaluate.datasets.listing import SUFFIXES, files_in, folders_in, pictures_under, plain, split_named
from sarmae.evaluate.datasets.naming import LEFT_OUT
from sarmae.evaluate.label_splits import NO_SPLIT

_DEPRESSION: Final = re.compile(r"(\d+)_?DEG(REES)?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Chip:
    """A picture file.

    folders: below the folder of the split, without N_DEG, their letters composed.
    depression_deg: NaN where no folder names it.
    """

    path: Path
    split: str
    folders: tuple[str, ...]
    depression_deg: float


def find_chips(root: Path, classes: Mapping[str, str]) -> list[Chip]:
    """Every picture in a class folder, in the order of paths. A folder that holds a single folder and no picture is
    passed through. Links to folders are followed, hidden files and folders are nothing.

    Raises SourceError where there is no picture; where a picture lies in no class folder or beside the split folders;
    and where a class folder is empty, unless classes leaves it out.
    """
    paths = pictures_under(root)  # also refuses links that lead in circles
    root = _descend(root)
    splits = {folder: split for folder in folders_in(root) if (split := split_named(folder.name))}
    for folder in _class_folders(root, splits):
        if classes.get(plain(folder.name)) != LEFT_OUT and not pictures_under(folder):
            raise SourceError(
                f"{folder}: a class folder without pictures. Add some, remove it, or leave it out by "
                f'classes = {{"{folder.name}" = ""}}.'
            )
    chips = [_chip(root, path, splits) for path in paths]
    if not chips:
        raise SourceError(f"{root}: no pictures below it; {root}/CLASS/*.png (.jpg, .tif, .bmp) expected.")
    return chips


def label_keys(chips: Sequence[Chip], classes: Mapping[str, str]) -> list[str]:
    """The label of each chip: the deepest of its folders that is named in classes, else its top folder."""
    keys = []
    for chip in chips:
        paths = ["/".join(chip.folders[:depth]) for depth in range(len(chip.folders), 0, -1)]
        keys.append(next((path for path in paths if path in classes), chip.folders[0]))
    return keys


def _chip(root: Path, path: Path, splits: Mapping[Path, str]) -> Chip:
    parts = path.relative_to(root).parts[:-1]
    split = splits.get(root / parts[0], NO_SPLIT) if parts else NO_SPLIT
    below = parts[1:] if split else parts
    angles = [float(match[1]) for part in below if (match := _DEPRESSION.fullmatch(part))]
    folders = tuple(plain(part) for part in below if not _DEPRESSION.fullmatch(part))
    if not folders or (splits and not split):
        layout = "SPLIT/CLASS" if splits else "CLASS"
        raise SourceError(f"{path}: lies in no class folder; {root}/{layout}/... expected. Move it or remove it.")
    return Chip(path=path, split=split, folders=folders, depression_deg=angles[0] if angles else np.nan)


def _descend(root: Path) -> Path:
    """The first folder below root that holds several folders, a picture, or a folder of a split."""
    inner = folders_in(root)
    if len(inner) != 1 or split_named(inner[0].name) or files_in(root, SUFFIXES):
        return root
    return _descend(inner[0])


def _class_folders(root: Path, splits: Mapping[Path, str]) -> Iterator[Path]:
    for folder in [inner for split in splits for inner in folders_in(split)] if splits else folders_in(root):
        yield from folders_in(folder) if _DEPRESSION.fullmatch(folder.name) else [folder]
