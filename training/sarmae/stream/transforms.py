"""Transforms of a batch between the reader and the model: crop and flips, then digital numbers to physical values.

Both sensors are cut at the same place and flipped the same way. Place and flips are drawn by (seed, epoch, sample id)
alone (keyed_random.py), so they are the same for a sample in any batch, on any rank and after any resume.
"""
# B batch, P polarisations, C bands, H W stored patch, S crop

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch

from sar1m.store.errors import ConfigError, StoreError
from sar1m.store.schema import LinearEncoding, display_brightness
from sarmae.stream.batch import Batch, ImageSpec
from sarmae.stream.keyed_random import DrawKey, integers
from sarmae.stream.loader_settings import TOKEN_PX, CropFlip

_BLOCK_PX: Final = 1 << 17  # looked up at a time on a CPU: indices and values of a block stay in the second-level cache
_STREAM: Final = "crop-flip"
_ROW, _COL, _FLIP_ROWS, _FLIP_COLS = range(4)  # counters of the stream: switching one off leaves the others as drawn


@dataclass(frozen=True, kw_only=True, eq=False)
class Geometry:
    """Where B samples were cut and how they were flipped, on the batch's device.

    rows_px, cols_px: (B,) int64, upper left corner of the crop in the stored patch.
    flipped_rows, flipped_cols: (B,) bool. The crop is flipped after it is cut, so the stored rows rows_px to
        rows_px + size_px - 1 hold it either way.
    size_px: side of the crop.
    """

    rows_px: torch.Tensor
    cols_px: torch.Tensor
    flipped_rows: torch.Tensor
    flipped_cols: torch.Tensor
    size_px: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Augmented:
    """A cropped and flipped batch, and its geometry, which the teacher cache needs."""

    batch: Batch
    geometry: Geometry


def crop_flip(batch: Batch, crop: CropFlip, seed: int) -> Augmented:
    """Crops and flips drawn by (seed, batch.epoch, batch.id): sar (B, P, S, S), optical (B, C, S, S), owned.

    Any dtype; digital numbers are the cheapest to move. Raises ConfigError where the patches are too small or align
    cannot hold, StoreError where the sensors differ in size.
    """
    return _cut(batch, draw_geometry(batch, crop, seed))


def centre_crop(batch: Batch, crop: CropFlip) -> Augmented:
    """The middle of every patch, never flipped: for evaluation. With align the nearest multiple of 16 px above and
    left of the middle. Errors as crop_flip."""
    heights = _checked_size(batch, crop)
    step = TOKEN_PX if crop.align else 1
    rows, cols = (
        torch.full_like(batch.id, (side - crop.crop_px) // 2 // step * step, dtype=torch.int64) for side in heights
    )
    never = torch.zeros_like(rows, dtype=torch.bool)
    return _cut(
        batch, Geometry(rows_px=rows, cols_px=cols, flipped_rows=never, flipped_cols=never, size_px=crop.crop_px)
    )


def draw_geometry(batch: Batch, crop: CropFlip, seed: int) -> Geometry:
    """Corners and flips of every sample, without touching a pixel. Errors as crop_flip."""
    height, width = _checked_size(batch, crop)
    key = DrawKey(seed=seed, epoch=batch.epoch, stream=_STREAM)
    step = TOKEN_PX if crop.align else 1

    def corner(counter: int, side_px: int) -> torch.Tensor:
        return integers(key, batch.id, 4, (side_px - crop.crop_px) // step + 1)[:, counter] * step

    coins = integers(key, batch.id, 4, 2).to(torch.bool)
    return Geometry(
        rows_px=corner(_ROW, height),
        cols_px=corner(_COL, width),
        flipped_rows=coins[:, _FLIP_ROWS] & crop.flip_rows,
        flipped_cols=coins[:, _FLIP_COLS] & crop.flip_cols,
        size_px=crop.crop_px,
    )


def _checked_size(batch: Batch, crop: CropFlip) -> tuple[int, int]:
    height, width = batch.sar.shape[-2:]
    if batch.optical is not None and batch.optical.shape[-2:] != batch.sar.shape[-2:]:
        raise StoreError(
            f"batch {batch.step} of epoch {batch.epoch}: optical patches of {tuple(batch.optical.shape[-2:])} px "
            f"beside SAR patches of {(height, width)} px; one grid for both expected. Check the store: sar1m verify."
        )
    crop.check(height, width)
    return height, width


def _cut(batch: Batch, geometry: Geometry) -> Augmented:
    # On a CPU a strided copy a sample moves whole rows, 25 times faster than gathering element by element; on an
    # accelerator one gather saves 2 B launches and the wait for the corners to come back to the host.
    take = _copy_windows if batch.sar.device.type == "cpu" else _gather_windows
    optical = None if batch.optical is None else take(batch.optical, geometry)
    return Augmented(batch=replace(batch, sar=take(batch.sar, geometry), optical=optical), geometry=geometry)


def _copy_windows(images: torch.Tensor, geometry: Geometry) -> torch.Tensor:
    """(B, C, S, S) of images (B, C, H, W) on a CPU."""
    size = geometry.size_px
    windows = images.new_empty((*images.shape[:2], size, size))
    source, target = images.numpy(), windows.numpy()
    turns = zip(geometry.flipped_rows.tolist(), geometry.flipped_cols.tolist(), strict=True)
    corners = zip(geometry.rows_px.tolist(), geometry.cols_px.tolist(), strict=True)
    for sample, ((row, col), (upside_down, mirrored)) in enumerate(zip(corners, turns, strict=True)):
        window = source[sample, :, row : row + size, col : col + size]
        target[sample] = window[:, :: -1 if upside_down else 1, :: -1 if mirrored else 1]
    return windows


def _gather_windows(images: torch.Tensor, geometry: Geometry) -> torch.Tensor:
    """(B, C, S, S) of images (B, C, H, W) on any device, without asking the device for a value."""
    # uint16 has no indexing kernels; int16 has, and the bits are the same
    bits = images.view(torch.int16) if images.dtype == torch.uint16 else images
    steps = torch.arange(geometry.size_px, device=images.device)

    def lines(first: torch.Tensor, flipped: torch.Tensor) -> torch.Tensor:
        return first[:, None] + torch.where(flipped[:, None], geometry.size_px - 1 - steps, steps)

    rows, cols = lines(geometry.rows_px, geometry.flipped_rows), lines(geometry.cols_px, geometry.flipped_cols)
    sample = torch.arange(len(images), device=images.device)[:, None, None, None]
    channel = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
    return bits[sample, channel, rows[:, None, :, None], cols[:, None, None, :]].view(images.dtype)


class Dequantise:
    """Digital numbers to physical values, by one table look-up, so that every device gives the bits of the schema.

    sar: float32 in the units of its ImageSpec (decibels in our stores), NaN where the digital number is 0 (no data).
    optical: float32 display brightness in [0, 1], 0.0 where there is no data and for all of an unpaired sample; the
        stretch is sar1m.store.schema.display_brightness, of the array's own scale and offset.
    """

    def __init__(self, sar: ImageSpec, optical: ImageSpec | None) -> None:
        self._dtypes = {"sar": sar.dtype, "optical": None if optical is None else optical.dtype}
        tables = {"sar": sar.encoding.decode(_every_number(sar.encoding))}
        if optical is not None:
            tables["optical"] = display_brightness(optical.encoding, _every_number(optical.encoding))
        host = torch.device("cpu")
        self._tables = {host: {name: torch.from_numpy(table) for name, table in tables.items()}}

    def __call__(self, batch: Batch) -> Batch:
        """The batch with sar and optical in float32, new tensors on the batch's device.

        Raises ConfigError where the batch does not hold the digital numbers of the two specifications.
        """
        sar = self._look_up("sar", batch.sar)
        optical = None if batch.optical is None else self._look_up("optical", batch.optical)
        return replace(batch, sar=sar, optical=optical)

    def _look_up(self, name: str, digital: torch.Tensor) -> torch.Tensor:
        found = str(digital.dtype).removeprefix("torch.")
        if found != self._dtypes[name]:
            raise ConfigError(
                f"dequantise: {name} holds {found}, {self._dtypes[name] or 'nothing'} expected. "
                "Dequantise a batch once, straight from the reader, with the specifications of its own store."
            )
        table = self._on(digital.device)[name]
        physical = torch.empty(digital.shape, dtype=torch.float32, device=digital.device)
        numbers, values = digital.reshape(-1), physical.view(-1)
        block = _BLOCK_PX if digital.device.type == "cpu" else max(1, len(values))
        for start in range(0, len(values), block):
            indices = numbers[start : start + block].to(torch.int32)
            torch.index_select(table, 0, indices, out=values[start : start + block])
        return physical

    def _on(self, device: torch.device) -> dict[str, torch.Tensor]:
        if device not in self._tables:
            host = self._tables[torch.device("cpu")]
            self._tables[device] = {name: table.to(device) for name, table in host.items()}
        return self._tables[device]


def _every_number(encoding: LinearEncoding) -> np.ndarray:
    """(largest DN + 1,): every digital number, in order."""
    return np.arange(encoding.max_dn + 1, dtype=encoding.dtype)
