"""Boxes in COCO JSON: SSDD, HRSID, SARDet-100k and datasets with the same layout.

    root/annotations/{train,test}.json, root/images/*.jpg            SSDD
    root/annotations/{train2017,test2017}.json, root/JPEGImages/*    HRSID
    root/Annotations/*.json, root/JPEGImages/{train,val,test}/*      SARDet-100k

Images are scaled until their longer side is image_px (bilinear, antialiased). They stand in the upper left corner of a
square; the rest of it has no data. Boxes are scaled like the image and clipped to it. A box that lies wholly outside is
left out and noted. The format: https://cocodataset.org/#format-data, boxes are x, y, width, height.
"""

# B batch, n boxes, S images

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sar1m.store.errors import SourceError
from sar1m.store.side_files import shown
from sarmae.evaluate.datasets.coco_files import AnnotatedImage, BoxAnnotation, read_annotations
from sarmae.evaluate.datasets.listing import SUFFIXES, files_under, plain, root_of, split_named
from sarmae.evaluate.datasets.naming import place_labels
from sarmae.evaluate.datasets.pictures import PixelCache, drawn, moments, read_grey, stacked
from sarmae.evaluate.label_splits import SplitSamples, assign_splits
from sarmae.evaluate.labelled_images import BoxedScenes, Boxes, Inputs
from sarmae.evaluate.near_copies import describe, find_groups
from sarmae.evaluate.study_config import DatasetConfig


class ScaledImages:
    """Picture files, scaled into squares of image_px."""

    def __init__(self, paths: Sequence[Path], image_px: int) -> None:
        self._paths, self._image_px = tuple(paths), image_px
        self.scaled = PixelCache(lambda number: scale_into(read_grey(self._paths[number]).pixels, self._image_px))

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, numbers: Sequence[int]) -> torch.Tensor:
        """(B, 1, image_px, image_px) float32 grey values, NaN right of and below the image."""
        side = self._image_px
        return stacked((self.scaled(int(number))[None] for number in numbers), (1, side, side))


def scale_into(pixels: NDArray[np.generic], side_px: int) -> NDArray[np.float32]:
    """The picture (rows, cols) in a square (side_px, side_px) float32: its longer side is side_px, NaN to the right
    and below.
    """
    rows, cols = scaled_shape(pixels.shape, side_px)
    grey = torch.from_numpy(pixels.astype(np.float32))[None, None]
    smaller = torch.nn.functional.interpolate(grey, (rows, cols), mode="bilinear", antialias=True)
    square = np.full((side_px, side_px), np.nan, dtype=np.float32)
    square[:rows, :cols] = smaller[0, 0].numpy()
    return square


def scaled_shape(shape: Sequence[int], side_px: int) -> tuple[int, int]:
    """Rows and columns when the longer of them is side_px; at least 1."""
    rows, cols = (max(1, round(side * side_px / max(shape))) for side in shape)
    return rows, cols


def open_coco(config: DatasetConfig, name: str) -> BoxedScenes:
    """Images with boxes. hold_out may name the attribute `folder` (of the image, under the root).

    Raises SourceError for JSON that is not COCO; for repeated image or category ids; for boxes that are not four finite
    numbers or have no area; for images that are missing or of another size than the JSON states; and for contradicting
    class names. Raises ConfigError for classes.
    """
    root = root_of(config)
    coco = read_annotations(root)
    pictures = [coco.pictures[number] for number in drawn(len(coco.pictures), config)]
    paths = _find_files(root, pictures)
    classes, positions = place_labels(coco.names, config.classes, root)
    _check_units(pictures)
    groups = _groups(paths, pictures)
    own = np.array([picture.split for picture in pictures])
    folders = np.array([path.parent.relative_to(root).as_posix() for path in paths])
    labels = np.zeros(len(paths), dtype=np.int64)
    assigned = assign_splits(
        config, SplitSamples(groups=groups, labels=labels, own=own, attributes={"folder": folders})
    )
    images = ScaledImages([paths[number] for number in assigned.kept], config.image_px)
    boxes, beyond = _boxes([pictures[number] for number in assigned.kept], positions, config.image_px)
    _check_boxed_splits(root, boxes, assigned.splits)
    mean, std = moments(images.read, np.flatnonzero(assigned.splits == "train").tolist(), 1, root)
    return BoxedScenes(
        name=name,
        inputs=Inputs(units="picture", channels=("grey",), image_px=config.image_px, mean=mean, std=std),
        images=images,
        boxes=boxes,
        classes=classes,
        splits=assigned.splits,
        groups=assigned.groups,
        notes=(
            *assigned.notes,
            *coco.notes,
            *([f"{len(beyond)} boxes that lie beyond their image left out ({beyond[0]})"] if beyond else []),
            f"longer side scaled to {config.image_px} px; {sum(len(one.labels) for one in boxes)} boxes",
        ),
    )


def _find_files(root: Path, pictures: Sequence[AnnotatedImage]) -> list[Path]:
    """The file of each picture: its file_name under the root or under a folder of its split; else the file with that
    last part.
    """
    by_name: dict[str, list[Path]] = {}
    for path in files_under(root, SUFFIXES):
        by_name.setdefault(plain(path.name), []).append(path)
    found: dict[Path, AnnotatedImage] = {}
    for picture in pictures:
        there = by_name.get(Path(picture.file_name).name, [])
        there = [path for path in there if plain(path.as_posix()).endswith(f"/{picture.file_name}")] or there
        if len(there) > 1:  # the same name in the folders of several splits
            there = [path for path in there if picture.split in map(split_named, path.relative_to(root).parts)] or there
        if len(there) != 1:
            what = f"{len(there)} files of that name" if there else "no such PNG, JPEG, TIFF or BMP file"
            raise SourceError(
                f"{picture.source}: image {picture.file_name!r}: {what} below {root}. Put it there once, e.g. into "
                f"{root}/images, or remove it from the JSON."
            )
        if there[0] in found:
            raise SourceError(
                f"{picture.source}: image {picture.file_name!r} is the file {there[0]}, as is "
                f"{found[there[0]].file_name!r} of {found[there[0]].source}. Keep one of them."
            )
        found[there[0]] = picture
    return list(found)


def _groups(paths: Sequence[Path], pictures: Sequence[AnnotatedImage]) -> NDArray[np.int64]:
    """Groups of near-copies. Reads every image once. Raises SourceError for a size other than in the JSON, or a
    depth other than the first.
    """
    descriptors = []
    first = ""
    for path, picture in zip(paths, pictures, strict=True):
        image = read_grey(path)
        rows, cols = image.pixels.shape
        first = first or image.depth
        if (rows, cols) != (picture.rows, picture.cols) or image.depth != first:
            raise SourceError(
                f"{path}: {rows} rows of {cols} px of {image.depth}; {picture.source} says {picture.rows} of "
                f"{picture.cols}, the first image is {first}. The boxes would not fit: correct the file or the JSON."
            )
        descriptors.append(describe(image.pixels))
    return find_groups(np.stack(descriptors))


def _check_units(pictures: Sequence[AnnotatedImage]) -> None:
    """Raises SourceError where the boxes as a whole are no x, y, width and height in px of their images."""
    boxes = [(picture, one.corners) for picture in pictures for one in picture.annotations if not one.crowd]
    far = [(its, box) for its, box in boxes if box[2] > its.cols + 1 or box[3] > its.rows + 1]
    shares = bool(boxes) and all((box <= 1).all() for _, box in boxes)
    if shares or 2 * len(far) > len(boxes):
        picture, box = (far or boxes)[0]
        found = "all lie within the first pixel" if shares else f"{len(far)} reach beyond their image"
        asked = "shares of the image" if shares else "x0, y0, x1 and y1"
        raise SourceError(
            f"{shown(picture.source)}: of {len(boxes)} boxes {found}, such as x {box[0]:g} to {box[2]:g} and y "
            f"{box[1]:g} to {box[3]:g} in {picture.file_name!r} of {picture.cols} x {picture.rows} px; x, y, width and "
            f"height in px expected. Are they {asked}? Convert them."
        )


def _boxes(
    pictures: Sequence[AnnotatedImage], positions: Mapping[str, int], side_px: int
) -> tuple[tuple[Boxes, ...], list[str]]:
    """The boxes of each image in its scaled pixels, and the annotations that lie outside their image."""
    boxes, beyond = [], []
    for picture in pictures:
        inside: list[tuple[NDArray[np.float64], BoxAnnotation]] = []
        for one in picture.annotations:
            if one.label in positions:
                corners = np.clip(one.corners, 0, (picture.cols, picture.rows) * 2)
                if (corners[2:] > corners[:2]).all():
                    inside.append((corners, one))
                else:
                    beyond.append(f"{picture.file_name}, annotation {one.number}")
        rows, cols = scaled_shape((picture.rows, picture.cols), side_px)
        scale = np.array([cols / picture.cols, rows / picture.rows] * 2)
        boxes.append(
            Boxes(
                corners=(np.array([corners for corners, _ in inside]).reshape(-1, 4) * scale).astype(np.float32),
                labels=np.array([positions[one.label] for _, one in inside], dtype=np.int64),
                crowd=np.array([one.crowd for _, one in inside], dtype=np.bool_),
            )
        )
    return tuple(boxes), beyond


def _check_boxed_splits(root: Path, boxes: Sequence[Boxes], splits: NDArray[np.str_]) -> None:
    for split in ("train", "test"):
        found = sum(int((~one.crowd).sum()) for one, its in zip(boxes, splits, strict=True) if its == split)
        if not found:
            raise SourceError(
                f"{root}: {split} has {int((splits == split).sum())} images with no box among them (iscrowd = 1 "
                f"apart). Is there a JSON of {split} with images, annotations and categories, where the set has its "
                "own split? Else add annotated images that are no near-copies of others, or change the split."
            )
