"""Grey pictures: read from a file of one band, cropped and measured."""

# B batch, C channels, H W pixels

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from sar1m.store.errors import SourceError
from sar1m.store.side_files import shown
from sarmae.evaluate.datasets.raster_file import RasterFile, read_raster
from sarmae.evaluate.study_config import DatasetConfig

COLOURED: Final = 2  # of 255: what JPEG's rounding makes of equal channels
_KEPT_BYTES: Final = 256 << 20
_STREAM: Final = 0x3057
_AT_ONCE: Final = 16  # images read for the moments

Pixels = NDArray[Any]


def natural(word: str) -> list[tuple[int, str]]:
    """Sort key by which `10` comes after `9`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", word)]


def drawn(count: int, config: DatasetConfig) -> NDArray[np.int64]:
    """Numbers of the samples that are used, ascending: all, or `most` of them drawn by split_seed."""
    if config.most is None or config.most >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng([_STREAM, config.split_seed]).permutation(count)[: config.most])


@dataclass(frozen=True, kw_only=True, eq=False)
class GreyImage:
    """A picture of one channel.

    pixels: (rows, cols) as stored, or float32 with NaN where the file says that there is no data.
    depth: what is stored, for comparisons.
    """

    pixels: Pixels
    depth: str

    @property
    def nbytes(self) -> int:
        return int(self.pixels.nbytes)


def read_grey(path: Path) -> GreyImage:
    """The grey values of a file with one band, or with three equal ones.

    Raises SourceError for a file that is not a complete picture, is coloured, has several bands or infinite values, or
    holds no data at all.
    """
    raster = read_raster(path)
    grey = one_grey(raster)
    if grey.dtype.kind == "f" and np.isinf(grey).any():
        raise SourceError(f"{shown(path)}: holds infinite values. Write NaN where there is no data.")
    pixels = grey if raster.missing is None else raster.filled(grey[None])[0]
    if pixels.dtype.kind == "f" and np.isnan(pixels).all():
        raise SourceError(f"{shown(path)}: no pixel has data. Remove it, or correct what it declares as no data.")
    return GreyImage(pixels=pixels, depth=raster.depth)


def one_grey(raster: RasterFile) -> Pixels:
    """(rows, cols) of a raster of one band, of a grey palette, or of three bands that are equal (8 bits: to within
    COLOURED of 255). Raises SourceError for others.
    """
    values = raster.values
    if raster.palette is not None and not raster.scaled:
        values = raster.palette[values[0]].transpose(2, 0, 1)
    spread = 0.0
    if len(values) == 3:
        wide = np.float64 if values.dtype.kind == "f" else np.int64
        spread = float(np.nan_to_num(np.ptp(values.astype(wide), axis=0)).max())
    if len(values) == 1 or (len(values) == 3 and spread <= (COLOURED if values.dtype == np.uint8 else 0)):
        return np.asarray(values[0])
    if len(values) == 3:
        raise SourceError(
            f"{shown(raster.path)}: a coloured picture, its channels differ by up to {spread:g}; grey values of one "
            "SAR channel expected. Save the channel you mean as a single-band file."
        )
    named = ", ".join(raster.descriptions) if any(raster.descriptions) else "without descriptions"
    raise SourceError(
        f"{shown(raster.path)}: {len(values)} bands of {values.dtype} ({named}); one band expected. Save the channel "
        "you mean as a single-band file."
    )


class Held(Protocol):
    """What a PixelCache keeps."""

    @property
    def nbytes(self) -> int:
        """Its size in memory."""


Kept = TypeVar("Kept", bound=Held)


class PixelCache(Generic[Kept]):
    """Reads images by number and keeps them, up to _KEPT_BYTES, so that small sets are decoded once."""

    def __init__(self, read: Callable[[int], Kept]) -> None:
        self._read, self._held, self._bytes = read, dict[int, Kept](), 0

    def __call__(self, number: int) -> Kept:
        """An image, which must not be changed."""
        if number in self._held:
            return self._held[number]
        image = self._read(number)
        if self._bytes + image.nbytes <= _KEPT_BYTES:
            self._held[number] = image
            self._bytes += image.nbytes
        return image


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
