"""Both pictures of a pair cut to what they share, the optical one moved onto the SAR.

The SAR's pixels are never changed. The optical picture is moved by whole pixels, which changes none of its numbers
either; with resampling also by the fraction that is left. Both then lie on the SAR's pixels, and say so: the place of
the optical picture is corrected to that of the SAR.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sar1m.core.resample import KERNEL_PX, shift_fraction
from sar1m.io.picture import Picture, opaque, without
from sar1m.records import Bool
from sar1m.store.errors import SourceError

STRIP_ROWS: Final = 1024  # resampled at once
LEAST_LEFT_PX: Final = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Overlap:
    """Two pictures of one size whose pixels are the same ones, by their places or by their sizes.

    row, col: of the first pixel in the SAR picture as it is stored.
    """

    sar: Picture
    optical: Picture
    row: int
    col: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Aligned:
    """Both pictures, cut and moved. moved_row_px, moved_col_px: by how much the optical content was moved up and to the
    left. row, col: of their first pixel in the SAR picture."""

    sar: Picture
    optical: Picture
    moved_row_px: float
    moved_col_px: float
    row: int
    col: int


def overlap_of(sar: Picture, optical: Picture) -> Overlap | None:
    """What two pictures share; None where both state places whose pixels are not the same ones.

    Raises SourceError where one states no place and they differ in size, or they do not meet.
    """
    if sar.ground is None or optical.ground is None:
        if sar.size != optical.size:
            nowhere = "neither states" if sar.ground is None and optical.ground is None else "only one states"
            raise SourceError(
                f"{optical.name}: has {_words(optical.size)}, {sar.name} has {_words(sar.size)}, and {nowhere} where "
                "it lies. Expected one size, or a place in both files: cut both to the same ground first."
            )
        return Overlap(sar=sar, optical=optical, row=0, col=0)
    offset = sar.ground.offset_to(
        optical.ground, (max(sar.size[0], optical.size[0]), max(sar.size[1], optical.size[1]))
    )
    if offset is None:
        return None
    (top, left), (bottom, right) = ((max(at, 0) for at in offset), _ends(sar.size, optical.size, offset))
    rows, cols = bottom - top, right - left
    if rows <= 0 or cols <= 0:
        raise SourceError(f"{optical.name}: lies beside {sar.name}: they share no pixel. Check which belong together.")
    return Overlap(
        sar=sar.cropped(top, left, rows, cols),
        optical=optical.cropped(top - offset[0], left - offset[1], rows, cols),
        row=top,
        col=left,
    )


def align(pair: Overlap, row_px: float, col_px: float, *, resample: bool) -> Aligned:
    """Cuts both to what they share once the optical content, which lies row_px below and col_px right, is moved back.

    resample: also by the fraction, by shift_fraction (core/resample.py); a pixel that depends on a missing one is
    missing, by the picture's own means, and rows and columns that reach beyond the picture are cut off.
    Raises SourceError where under LEAST_LEFT_PX would be left.
    """
    down, across = round(row_px), round(col_px)
    rows, cols = pair.sar.size[0] - abs(down), pair.sar.size[1] - abs(across)
    top, left = max(-down, 0), max(-across, 0)
    rest = (row_px - down, col_px - across) if resample else (0.0, 0.0)
    trims = [_trim(fraction) for fraction in rest]
    rows, cols = rows - sum(trims[0]), cols - sum(trims[1])
    if min(rows, cols) < LEAST_LEFT_PX:
        raise SourceError(f"{pair.sar.name}: a shift of {down}, {across} px leaves {rows} x {cols} px in common.")
    optical = pair.optical.cropped(max(down, 0), max(across, 0), rows + sum(trims[0]), cols + sum(trims[1]))
    if resample:
        optical = _moved(optical, -rest[0], -rest[1])
    top, left = top + trims[0][0], left + trims[1][0]
    sar = pair.sar.cropped(top, left, rows, cols)
    optical = replace(optical.cropped(trims[0][0], trims[1][0], rows, cols), ground=sar.ground)
    return Aligned(
        sar=sar,
        optical=optical,
        moved_row_px=down + rest[0],
        moved_col_px=across + rest[1],
        row=pair.row + top,
        col=pair.col + left,
    )


def _trim(fraction: float) -> tuple[int, int]:
    """Rows at the beginning and at the end that content moved back by a fraction leaves without a source."""
    return (int(fraction < 0), int(fraction > 0))


def _moved(picture: Picture, row_px: float, col_px: float) -> Picture:
    """The picture with its content moved by under a pixel. Numbers of integers are rounded and clipped to their type,
    and never become the one that means no data."""
    stored = picture.stored.copy()
    missing = picture.missing.copy()
    for top in range(0, picture.size[0], STRIP_ROWS):
        inner = np.s_[top : top + STRIP_ROWS]
        first = max(top - KERNEL_PX - 1, 0)
        outer = np.s_[first : top + STRIP_ROWS + KERNEL_PX + 1]
        values = picture.stored[list(picture.values), outer].astype(np.float32)
        values[:, picture.missing[outer]] = np.nan
        found = shift_fraction(values, row_px, col_px)[:, top - first : top - first + STRIP_ROWS]
        gone = np.asarray(np.isnan(found).any(axis=0))
        missing[inner] = gone
        for index, plane in zip(picture.values, found, strict=True):
            stored[index][inner] = _as_stored(plane, gone, picture, index)
    for index in set(range(len(stored))) - set(picture.values):
        stored[index] = opaque(stored.dtype)
    edge = _edge(picture.size, row_px, col_px)
    inside = without(picture, stored, missing & ~edge)
    return replace(inside, missing=missing)


def _as_stored(plane: npt.NDArray[np.float32], gone: Bool, picture: Picture, index: int) -> npt.NDArray[Any]:
    dtype, nodata = picture.stored.dtype, picture.stated[index].nodata
    if dtype.kind == "f":
        return plane.astype(dtype)
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    whole = np.clip(np.rint(np.where(gone, least, plane)), least, most)
    if nodata is not None and math.isfinite(nodata):
        whole = np.where(~gone & (whole == nodata), nodata + 1 if nodata < most else nodata - 1, whole)
    return whole.astype(dtype)


def _edge(size: tuple[int, int], row_px: float, col_px: float) -> Bool:
    """Rows and columns into which content from beyond the picture moves; they are cut off afterwards."""
    edge = np.zeros(size, dtype=np.bool_)
    for axis, shift_px in enumerate((row_px, col_px)):
        view = np.moveaxis(edge, axis, 0)
        if shift_px:
            view[0 if shift_px > 0 else -1] = True
    return edge


def _ends(sar: tuple[int, int], optical: tuple[int, int], offset: tuple[int, int]) -> tuple[int, int]:
    return min(sar[0], offset[0] + optical[0]), min(sar[1], offset[1] + optical[1])


def _words(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} px"
