"""Pairs of an image and its mask, in the usual folder layouts.

    root/images/*, root/masks/*                   folder names in any case, see _IMAGES and _MASKS
    root/s1/*_S1Hand.tif, root/label/*_LabelHand.tif, flood_train_data.csv ...          Sen1Floods11
    root/S1RTC/*.tif, root/LULC/*.tif                                                   TerraMesh
    root/train/images/*_HH.tiff ..., root/train/labels/*_gt.png                         a file a polarisation

The split comes from folders (above or below the two) or from lists of names (see split_lists). The two folders may lie
some levels down. An image and its mask have the same stem, except for a last word that all files of the folder share.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from sar1m.store.errors import SourceError
from sar1m.store.side_files import shown
from sarmae.evaluate.datasets.listing import SPLIT_NAMES, folders_in, pictures_under, plain, split_named
from sarmae.evaluate.datasets.pictures import natural
from sarmae.evaluate.datasets.split_lists import read_split_lists, refuse_other_forms
from sarmae.evaluate.label_splits import NO_SPLIT

_IMAGES: Final = ("images", "image", "imgs", "img", "s1", "s1hand", "s1rtc", "s1grd", "sar")
_MASKS: Final = ("masks", "mask", "labels", "label", "labelhand", "lulc", "gt", "annotations")
_LAST_WORD: Final = re.compile(r"_([A-Za-z][A-Za-z0-9]*)$")
POLARISATIONS: Final = ("HH", "HV", "VH", "VV")
_LEVELS: Final = 4  # below the root, down to which the two folders are looked for


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
    places = _places(root)
    pairs, lonely = [], 0
    for split, (images, masks) in places.items():
        more, alone = _pair_up(split, images, masks)
        pairs.extend(more)
        lonely += alone
    notes = [f"{lonely} images without a mask left out"] if lonely else []
    pairs.sort(key=lambda pair: (pair.split, natural(pair.stem)))
    if pairs and pairs[-1].split and not pairs[0].split:
        raise SourceError(
            f"{shown(pairs[0].mask)}: lies in no folder of a split, but {shown(pairs[-1].mask)} does. Put every image "
            f"into a folder of a split ({', '.join(SPLIT_NAMES)}), or none."
        )
    if pairs and not any(pair.split for pair in pairs):
        pairs, more_notes = _split_by_lists(root, pairs)
        notes += more_notes
    if not pairs:
        raise SourceError(f"{root}: no image has a mask. {_expected(root)}")
    word = _common_word([_last_word(pair.mask.stem) for pair in pairs])
    return ImageMaskPairs(
        pairs=tuple(pairs), masks=(next(iter(places.values()))[1].name.lower(), word.lower()), notes=tuple(notes)
    )


def _places(root: Path) -> dict[str, tuple[Path, Path]]:
    """Folders of images and masks by split: below the splits' folders, else under NO_SPLIT at the root or in the one
    folder below it that holds both.
    """
    tops = [folder for folder in folders_in(root) if split_named(folder.name)]
    if any(folder.name.lower() in _IMAGES for top in tops for folder in folders_in(top)):
        return _places_of_splits(root)
    level = [root]
    for _ in range(_LEVELS):
        both = [folder for folder in level if all(map(len, _candidates(folder)))]
        if both or any(map(len, _candidates(root))):
            break
        level = [inner for folder in level for inner in folders_in(folder)]
    if len(both) > 1:
        raise SourceError(f"{both[0]}: images and masks, and also in {both[1]}. Give the path of one of the two.")
    return {NO_SPLIT: _two_folders(both[0] if both else root)}


def _places_of_splits(root: Path) -> dict[str, tuple[Path, Path]]:
    """The two folders of each split. Raises SourceError for images in two folders of one split, or in none of them."""
    places: dict[str, tuple[Path, Path]] = {}
    for folder in folders_in(root):
        split = split_named(folder.name)
        if not split and any(_candidates(folder)):
            raise SourceError(
                f"{shown(folder)}: beside folders of splits, but its name is none of {', '.join(SPLIT_NAMES)}. "
                "Rename it, or move it out of the dataset."
            )
        if split in places:
            raise SourceError(
                f"{shown(folder)}: a second folder of {split}, beside {shown(places[split][0].parent)}. Put all images "
                f"of {split} into one of the two."
            )
        if split:
            places[split] = _two_folders(folder)
    return places


def _candidates(root: Path) -> tuple[list[Path], list[Path]]:
    """Folders that may hold images, and masks."""
    inner = folders_in(root)
    images, masks = ([folder for folder in inner if folder.name.lower() in names] for names in (_IMAGES, _MASKS))
    return images, masks


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
    for there, what in zip(_candidates(root), ("images", "masks"), strict=True):
        if len(there) != 1:
            listed_pairs = ", ".join(str(folder.name) for folder in there) or "none"
            raise SourceError(f"{root}: one folder of {what} expected, found {listed_pairs}. {_expected(root)}")
        found.append(there[0])
    return found[0], found[1]


def _expected(root: Path) -> str:
    return f"Expected {root}/images/NAME.tif and {root}/masks/NAME.png (also {', '.join(_IMAGES[4:])}; {_MASKS[-4:]})."


def _images_by_stem(folder: Path) -> dict[tuple[str, str], dict[str, Path]]:
    """Files by (split of the subfolder, stem), and by polarisation where every stem ends in one; else by ''."""
    paths = pictures_under(folder)
    words = [_last_word(path.stem) for path in paths]
    by_pol = bool(paths) and all(word.upper() in POLARISATIONS for word in words)
    common = "" if by_pol else _common_word(words)
    found: dict[tuple[str, str], dict[str, Path]] = {}
    for path, word in zip(paths, words, strict=True):
        stem = plain(path.stem).removesuffix(f"_{word if by_pol else common}")
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
        key = (_inner_split(folder, path), plain(path.stem).removesuffix(f"_{common}"))
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


def _split_by_lists(root: Path, pairs: Sequence[ImageMaskPair]) -> tuple[list[ImageMaskPair], list[str]]:
    """The pairs that lists of a split name, and notes; all of them, where there is no list."""
    names = {plain(pair.stem): pair.stem for pair in pairs}
    for pair in pairs:
        files = (pair.mask, *pair.images.values())
        names |= {plain(name): pair.stem for path in files for name in (path.name, path.stem)}
    listed = read_split_lists(root, names)
    if listed is None:
        if all(pair.split == NO_SPLIT for pair in pairs):
            refuse_other_forms(root)
        return list(pairs), []
    kept = [replace(pair, split=listed.splits[pair.stem]) for pair in pairs if pair.stem in listed.splits]
    left = len(pairs) - len(kept)
    return kept, [*listed.notes, *([f"{left} images left out: no list of a split names them"] if left else [])]
