"""Single image files: grey pictures of 8, 16 or 32 bits, read, cropped and measured."""

# B batch, C channels, H W pixels

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from sar1m.store.errors import ConfigError, SourceError
from sarmae.evaluate.label_splits import NO_SPLIT
from sarmae.evaluate.study_config import DatasetConfig

SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
SPLIT_NAMES: Final = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
COLOURED: Final = 2  # of 255: what JPEG's rounding makes of equal channels
_GREY_MODES: Final = ("L", "I;16", "I;16B", "I;16L", "I", "F")
_KEPT_BYTES: Final = 256 << 20
_STREAM: Final = 0x3057
_AT_ONCE: Final = 16  # images read for the moments

Pixels = NDArray[Any]


def root_of(config: DatasetConfig) -> Path:
    """The dataset's folder. Raises ConfigError where there is none."""
    root = Path(config.path).expanduser()
    if not root.is_dir():
        raise ConfigError(f"dataset path {config.path!r}: no such folder. Put the images there, or correct the path.")
    return root


def pictures_under(folder: Path) -> list[Path]:
    """All files with the suffix of a picture, in the order of their names, without hidden files."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return sorted(path for path in found if not path.name.startswith(".") and path.is_file())


def split_named(word: str) -> str:
    """train, val or test for a folder or file of that name in any case; NO_SPLIT for other names."""
    return SPLIT_NAMES.get(word.lower(), NO_SPLIT)


def natural(word: str) -> list[tuple[int, str]]:
    """Sort key by which `10` comes after `9`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", word)]


def drawn(count: int, config: DatasetConfig) -> NDArray[np.int64]:
    """Numbers of the samples that are used, ascending: all, or `most` of them drawn by split_seed."""
    if config.most is None or config.most >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng([_STREAM, config.split_seed]).permutation(count)[: config.most])


def read_grey(path: Path) -> Pixels:
    """(rows, cols) grey values in the type of the file: uint8, uint16, int32 or float32.

    Three or four channels are read as one where they are equal to within COLOURED of 255; transparency is ignored.
    Raises SourceError for a file that is not a complete picture, or a coloured one.
    """
    try:
        with Image.open(path) as picture:
            if picture.mode in _GREY_MODES:
                return np.array(picture)
            if picture.mode == "LA":
                return np.array(picture.getchannel("L"))
            channels = np.array(picture.convert("RGB"))
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise SourceError(f"{path}: cannot be read as a picture ({error}). Get the file again, or remove it.") from None
    spread = int(np.ptp(channels.astype(np.int16), axis=2).max())
    if spread > COLOURED:
        raise SourceError(
            f"{path}: a coloured picture, its channels differ by up to {spread} of 255; grey values of one SAR channel "
            "expected. Save the channel you mean as a single-band file."
        )
    return np.asarray(channels[:, :, 0])


class PixelCache:
    """Reads images by number and keeps them, up to _KEPT_BYTES, so that small sets are decoded once."""

    def __init__(self, read: Callable[[int], Pixels]) -> None:
        self._read, self._held, self._bytes = read, dict[int, Pixels](), 0

    def __call__(self, number: int) -> Pixels:
        """The pixels of an image, which must not be changed."""
        if number in self._held:
            return self._held[number]
        pixels = self._read(number)
        if self._bytes + pixels.nbytes <= _KEPT_BYTES:
            self._held[number] = pixels
            self._bytes += pixels.nbytes
        return pixels


def centre_window(pixels: Pixels, side_px: int) -> NDArray[np.float32]:
    """(side_px, side_px) float32 from the middle of (rows, cols), NaN beyond the image; never stretched."""
    cut = pixels[tuple(slice(max(0, (side - side_px) // 2), None) for side in pixels.shape)][:side_px, :side_px]
    window = np.full((side_px, side_px), np.nan, dtype=np.float32)
    row, col = ((side_px - side) // 2 for side in cut.shape)
    window[row : row + cut.shape[0], col : col + cut.shape[1]] = cut
    return window


def stacked(images: Iterable[NDArray[np.float32]], shape: tuple[int, ...]) -> torch.Tensor:
    """(B, *shape) float32 of images of that shape; (0, *shape) of none."""
    rows = list(images)
    return torch.from_numpy(np.stack(rows) if rows else np.empty((0, *shape), dtype=np.float32))


def moments(
    read: Callable[[Sequence[int]], torch.Tensor], numbers: Sequence[int], channels: int, where: Path | str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over the measured pixels of the numbered images.

    where: the dataset, for errors. Raises SourceError where a channel has no measured pixel, or only one value.
    """
    count, total, squares = (np.zeros(channels) for _ in range(3))
    for start in range(0, len(numbers), _AT_ONCE):
        images = read(numbers[start : start + _AT_ONCE])
        pixels = images.transpose(0, 1).double().numpy().reshape(channels, -1)
        measured = ~np.isnan(pixels)
        count += measured.sum(axis=1)
        total += np.where(measured, pixels, 0).sum(axis=1)
        squares += np.where(measured, pixels**2, 0).sum(axis=1)
    mean = total / np.maximum(count, 1)
    std = np.sqrt(np.maximum(squares / np.maximum(count, 1) - mean**2, 0))
    if not (count > 0).all() or not (std > 1e-9 * np.abs(mean)).all():
        raise SourceError(
            f"{where}: the {len(numbers)} images of train have no two different measured values in some channel. "
            "Nothing can be learned from them: check the files."
        )
    return tuple(mean.tolist()), tuple(std.tolist())
