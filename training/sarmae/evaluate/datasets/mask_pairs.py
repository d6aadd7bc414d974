"""Pairs of an image and its mask, in the usual folder layouts.

    root/images/*, root/masks/*                   folder names in any case, see _IMAGES and _MASKS
    root/s1/*_S1Hand.tif, root/label/*_LabelHand.tif, flood_train_data.csv ...          Sen1Floods11
    root/S1RTC/*.tif, root/LULC/*.tif                                                   TerraMesh
    root/train/images/*_HH.tiff ..., root/train/labels/*_gt.png                         a file a polarisation

The split comes from folders (above or below the two) or from lists of names (a .csv or .txt with train, val or test in
its own name). An image and its mask have the same stem, except for a last word that all files of the folder share.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sar1m.store.errors import SourceError
from sarmae.evaluate.datasets.pictures import natural, pictures_under, split_named
from sarmae.evaluate.label_splits import NO_SPLIT

_IMAGES: Final = ("images", "image", "imgs", "img", "s1", "s1hand", "s1rtc", "s1grd", "sar")
_MASKS: Final = ("masks", "mask", "labels", "label", "labelhand", "lulc", "gt", "annotations")
_LAST_WORD: Final = re.compile(r"_([A-Za-z][A-Za-z0-9]*)$")
POLARISATIONS: Final = ("HH", "HV", "VH", "VV")
_LISTS: Final = (".csv", ".txt")


@dataclass(frozen=True, kw_only=True)
class ImageMaskPair:
    """A scene.

    images: one file with all channels, or one file for each polarisation, by its name.
    stem: without suffixes.
    split: NO_SPLIT where the dataset has none.
    """

    stem: str
    images: Mapping[str, Path]
    mask: Path
    split: str


@dataclass(frozen=True, kw_only=True)
class ImageMaskPairs:
    """All pairs of a dataset.

    masks: in small letters, the name of the folder of masks and the last word of their file names.
    notes: what was left out.
    """

    pairs: tuple[ImageMaskPair, ...]
    masks: tuple[str, str]
    notes: tuple[str, ...]


def find_pairs(root: Path) -> ImageMaskPairs:
    """All pairs, in the natural order of splits and stems.

    Images without a mask are left out and noted. Raises SourceError where one of the two folders is missing, a mask has
    no image, two files have the same role, or no image has a mask.
    """
    tops = {split: folder for folder in sorted(_folders(root)) if (split := split_named(folder.name))}
    places = _places(root, tops)
    pairs, lonely = [], 0
    for split, (images, masks) in places.items():
        more, alone = _pair_up(split, images, masks)
        pairs.extend(more)
        lonely += alone
    notes = [f"{lonely} images without a mask left out"] if lonely else []
    pairs.sort(key=lambda pair: (pair.split, natural(pair.stem)))
    listed = _listed(root)
    if listed and not any(pair.split for pair in pairs):
        pairs, notes = _split_by_lists(pairs, listed, notes)
    if not pairs:
        raise SourceError(f"{root}: no image has a mask. {_expected(root)}")
    word = _common_word([_last_word(pair.mask.stem) for pair in pairs])
    return ImageMaskPairs(
        pairs=tuple(pairs), masks=(next(iter(places.values()))[1].name.lower(), word.lower()), notes=tuple(notes)
    )


def _places(root: Path, tops: Mapping[str, Path]) -> dict[str, tuple[Path, Path]]:
    """Folders of images and masks by split: below the splits' folders, else at the root under NO_SPLIT."""
    if any(folder.name.lower() in _IMAGES for top in tops.values() for folder in _folders(top)):
        return {split: _two_folders(folder) for split, folder in tops.items()}
    return {NO_SPLIT: _two_folders(root)}


def _pair_up(split: str, images: Path, masks: Path) -> tuple[list[ImageMaskPair], int]:
    """Pairs of two folders, and the number of images without a mask."""
    by_stem, by_mask = _images_by_stem(images), _masks_by_stem(masks)
    for (inner, stem), mask in by_mask.items():
        if (inner, stem) not in by_stem:
            raise SourceError(f"{mask}: no image {stem!r} in {images}. Get the image, or remove the mask.")
    pairs = [
        ImageMaskPair(stem=key[1], images=by_stem[key], mask=mask, split=split or key[0])
        for key, mask in by_mask.items()
    ]
    return pairs, len(by_stem.keys() - by_mask.keys())


def _two_folders(root: Path) -> tuple[Path, Path]:
    """The folders of images and of masks. Raises SourceError where one is missing or there are several."""
    found = []
    for names, what in ((_IMAGES, "images"), (_MASKS, "masks")):
        there = [folder for folder in _folders(root) if folder.name.lower() in names]
        if len(there) != 1:
            listed_pairs = ", ".join(str(folder.name) for folder in there) or "none"
            raise SourceError(f"{root}: one folder of {what} expected, found {listed_pairs}. {_expected(root)}")
        found.append(there[0])
    return found[0], found[1]


def _expected(root: Path) -> str:
    return f"Expected {root}/images/NAME.tif and {root}/masks/NAME.png (also {', '.join(_IMAGES[4:])}; {_MASKS[-4:]})."


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]


def _images_by_stem(folder: Path) -> dict[tuple[str, str], dict[str, Path]]:
    """Files by (split of the subfolder, stem), and by polarisation where every stem ends in one; else by ''."""
    paths = pictures_under(folder)
    words = [_last_word(path.stem) for path in paths]
    by_pol = bool(paths) and all(word.upper() in POLARISATIONS for word in words)
    common = "" if by_pol else _common_word(words)
    found: dict[tuple[str, str], dict[str, Path]] = {}
    for path, word in zip(paths, words, strict=True):
        stem = path.stem.removesuffix(f"_{word if by_pol else common}")
        files = found.setdefault((_inner_split(folder, path), stem), {})
        pol = word.upper() if by_pol else ""
        if pol in files:
            raise SourceError(f"{path}: the same image as {files[pol]}? Both are called {stem!r}. Remove one.")
        files[pol] = path
    return found


def _masks_by_stem(folder: Path) -> dict[tuple[str, str], Path]:
    paths = pictures_under(folder)
    common = _common_word([_last_word(path.stem) for path in paths])
    found: dict[tuple[str, str], Path] = {}
    for path in paths:
        key = (_inner_split(folder, path), path.stem.removesuffix(f"_{common}"))
        if key in found:
            raise SourceError(f"{path}: the same mask as {found[key]}? Both are called {key[1]!r}. Remove one.")
        found[key] = path
    return found


def _last_word(stem: str) -> str:
    match = _LAST_WORD.search(stem)
    return match[1] if match else ""


def _common_word(words: Sequence[str]) -> str:
    return words[0] if words and len(set(words)) == 1 else ""


def _inner_split(folder: Path, path: Path) -> str:
    return split_named(path.relative_to(folder).parts[0])


def _listed(root: Path) -> dict[str, set[str]]:
    """Stems by split, from lists of names beside the images."""
    listed: dict[str, set[str]] = {}
    for path in sorted([*root.glob("*"), *root.glob("splits/*")]):
        splits = [split for word in re.split(r"[^A-Za-z]+", path.stem) if (split := split_named(word))]
        if path.suffix.lower() in _LISTS and splits:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
            listed.setdefault(splits[0], set()).update(Path(line.split(",")[0].strip()).stem for line in lines if line)
    return listed


def _split_by_lists(
    pairs: Sequence[ImageMaskPair], listed: Mapping[str, set[str]], notes: list[str]
) -> tuple[list[ImageMaskPair], list[str]]:
    listed_pairs: list[ImageMaskPair] = []
    for pair in pairs:
        names = {pair.stem, *(path.stem for path in pair.images.values())}
        splits = [split for split, stems in listed.items() if names & stems]
        if len(splits) > 1:
            raise SourceError(f"{pair.mask}: listed in {' and in '.join(splits)}. Correct the lists of the split.")
        if splits:
            listed_pairs.append(ImageMaskPair(stem=pair.stem, images=pair.images, mask=pair.mask, split=splits[0]))
    more = (
        [f"{len(pairs) - len(listed_pairs)} images left out: no list of a split names them"]
        if len(listed_pairs) < len(pairs)
        else []
    )
    return listed_pairs, [*notes, *more]
