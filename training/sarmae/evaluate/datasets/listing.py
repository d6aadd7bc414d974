"""Files and folders below a dataset's folder: links are followed, what systems and editors leave behind is nothing."""

from __future__ import annotations

import os
import stat
import unicodedata
from pathlib import Path
from typing import Final

from sar1m.store.errors import ConfigError, SourceError
from sar1m.store.side_files import shown
from sarmae.evaluate.label_splits import NO_SPLIT
from sarmae.evaluate.study_config import DatasetConfig

SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp")
# Of images too, but not read here.
_OTHER_SUFFIXES: Final = (
    *(".webp", ".gif", ".jp2", ".j2k", ".jpx", ".jxl", ".avif", ".heic", ".pgm", ".ppm", ".tga", ".img", ".vrt"),
    *(".npy", ".npz", ".mat", ".h5", ".hdf5", ".nc"),
)
SPLIT_NAMES: Final = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_LONGEST_LINK: Final = 4096  # bytes
# In small letters. Names that begin with a dot are hidden everywhere.
_LEFT_BEHIND: Final = (
    *("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "@eadir", "$recycle.bin", "lost+found"),
    *("system volume information", "__pycache__"),
)


def root_of(config: DatasetConfig) -> Path:
    """The dataset's folder. Raises ConfigError where there is none."""
    root = Path(config.path).expanduser()
    if "\0" in config.path or not root.is_dir():
        raise ConfigError(f"dataset path {config.path!r}: no such folder. Put the images there, or correct the path.")
    return root


def split_named(word: str) -> str:
    """train, val or test for a folder or file of that name in any case; NO_SPLIT for other names."""
    return SPLIT_NAMES.get(word.lower(), NO_SPLIT)


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder and the links to folders, by name, without hidden ones. Raises as files_under."""
    return [path for path, found in _entries(folder) if stat.S_ISDIR(found.st_mode)]


def files_in(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files in a folder with one of the suffixes, in any case, without hidden ones. Raises as files_under."""
    there = [path for path, found in _entries(folder) if not stat.S_ISDIR(found.st_mode)]
    return [path for path in there if path.suffix.lower() in suffixes]


def files_under(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """All files below a folder with one of the suffixes, in any case, in the order of their paths, hidden ones apart.

    Raises SourceError for a link that leads nowhere, for a folder that is reached twice by links (its files would count
    twice, or for ever), and for a folder that cannot be read.
    """
    found: list[Path] = []
    seen = {_identity(_stat(folder)): folder}
    left = [folder]
    while left:
        current = left.pop()
        found += files_in(current, suffixes)
        for inner in folders_in(current):
            there = seen.setdefault(_identity(_stat(inner)), inner)
            if there != inner:
                raise SourceError(
                    f"{shown(inner)}: leads to the same folder as {shown(there)}, so its files would be read twice. "
                    "Remove the link, or put it outside of the dataset."
                )
            left.append(inner)
    return sorted(found)


def pictures_under(folder: Path) -> list[Path]:
    """All files below a folder with the suffix of a picture that can be read.

    Raises as files_under, and SourceError for an image of another format, which would silently be absent, unless the
    same image lies beside it in a format that is read.
    """
    there = files_under(folder, SUFFIXES + _OTHER_SUFFIXES)
    paths = [path for path in there if path.suffix.lower() in SUFFIXES]
    known = {path.with_suffix("") for path in paths}
    absent = [path for path in there if path.with_suffix("") not in known]
    if absent:
        lost = f"{len(absent)} file{'s' * (len(absent) != 1)}"
        raise SourceError(
            f"{shown(absent[0])}: {absent[0].suffix} is not read, so {lost} would be left out; PNG, JPEG, TIFF or BMP "
            f"expected. Convert them, or move them out of {shown(folder)}."
        )
    return paths


def plain(name: str) -> str:
    """A name as it is compared: its letters composed, as macOS does not write them."""
    return unicodedata.normalize("NFC", name)


def _entries(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """What lies in a folder, links followed."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise SourceError(f"{shown(folder)}: cannot be read: {error.strerror}. Mend the permissions.") from error
    found = [(folder / name, _stat(folder / name)) for name in names if not _hidden(name)]
    for path, facts in found:
        if stat.S_ISREG(facts.st_mode) and facts.st_size < _LONGEST_LINK and not path.suffix:
            _refuse_written_link(path)
    return found


def _refuse_written_link(path: Path) -> None:
    """Raises SourceError for a link that git or an archive left as a text file: its folder would silently be absent."""
    try:
        target = path.read_text(encoding="utf-8")
        there = target.strip() == target != "" and "\0" not in target and (path.parent / target).is_dir()
    except (OSError, ValueError):
        return
    if there:
        raise SourceError(
            f"{shown(path)}: a link to the folder {target!r} that was copied as a text file, so its files are "
            "absent. Make it a link, or put the folder in its place."
        )


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LEFT_BEHIND


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        what = "a link that leads nowhere" if path.is_symlink() else "cannot be read"
        raise SourceError(f"{shown(path)}: {what} ({error.strerror}). Mend or remove it.") from error


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
