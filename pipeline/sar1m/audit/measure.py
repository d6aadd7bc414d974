"""The shift of one pair of pictures: windows spread over what they share, their correlation surfaces summed.

A picture of up to WHOLE_PX is measured whole; of a larger one windows are taken, at most WINDOWS_PER_SIDE squared, so
that memory does not grow with the picture beyond its own numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import ndimage

from sar1m.config import RegistrationConfig
from sar1m.core.registration import Window, register_block
from sar1m.records import F32, Bool, Shift
from sar1m.store.errors import SourceError

WINDOW_PX: Final = 256
WINDOWS_PER_SIDE: Final = 8
WHOLE_PX: Final = WINDOW_PX * WINDOWS_PER_SIDE
MARGIN_PX: Final = 16  # around a window that is taken out, so that its edges do not count as edges of the ground
LEAST_PX: Final = 48  # a side; under it the search range leaves nothing to compare
FILL_PX: Final = 9  # side of the square that must hold one number in both pictures to count as fill
FILL_REACH_PX: Final = 8  # around fill: as far as JPEG smears its edge

ReadWindow = Callable[[int, int, int, int], F32]  # row, col, rows, cols


@dataclass(frozen=True, kw_only=True)
class PairShift:
    """shift: of the pair. rows, cols: of what both pictures show. windows: how many were compared; measured: how many
    of them pass the thresholds on their own; windows_apart_px: median distance of those from the shift of the pair, NaN
    of fewer than two. More than a sigma of single windows says that no one shift fits: turned, scaled, or relief."""

    shift: Shift
    rows: int
    cols: int
    windows: int
    measured: int
    windows_apart_px: float


def measure(sar: ReadWindow, optical: ReadWindow, size: tuple[int, int], settings: RegistrationConfig) -> PairShift:
    """The shift of the optical content against the SAR content.

    sar, optical: give windows (P, rows, cols) and (B, rows, cols) of the same pixels, as register_block takes them.
    size: rows and columns that both have. Areas in which both hold one number each, as frames do that nobody declared,
    are left out: their common edge would look like a perfect fit.
    Raises SourceError for a pair smaller than LEAST_PX or than three times the search range.
    """
    rows, cols = size
    least = max(LEAST_PX, 3 * settings.search_px)
    if min(rows, cols) < least:
        raise SourceError(
            f"the two have {rows} x {cols} px in common; at least {least} a side are needed to search "
            f"{settings.search_px} px. Give larger pictures, or search less (--search-px)."
        )
    spans = [_spans(rows), _spans(cols)]
    if max(rows, cols) <= WHOLE_PX:
        powers, bands = sar(0, 0, rows, cols), optical(0, 0, rows, cols)
        windows = [(row, col, high, wide) for row, high in spans[0] for col, wide in spans[1]]
    else:
        powers, bands, windows = _mosaic(sar, optical, size, spans)
    found = register_block(powers, bands, masked=_common_fill(powers, bands), windows=windows, settings=settings)
    own = [
        np.hypot(patch.row_px - found.scene.row_px, patch.col_px - found.scene.col_px)
        for patch in found.patches
        if patch.status == "measured"
    ]
    return PairShift(
        shift=found.scene,
        rows=rows,
        cols=cols,
        windows=len(windows),
        measured=len(own),
        windows_apart_px=float(np.median(own)) if len(own) > 1 else float("nan"),
    )


def _spans(length: int) -> list[tuple[int, int]]:
    """First pixel and length of the windows along one side: all of it, or windows spread evenly; even numbers."""
    count = min(max(length // WINDOW_PX, 1), WINDOWS_PER_SIDE)
    side = length // count // 2 * 2 if length <= WHOLE_PX else WINDOW_PX
    starts = np.linspace(0, length - side, count) if count > 1 else np.zeros(1)
    return [(int(start) // 2 * 2, side) for start in starts]


def _mosaic(
    sar: ReadWindow, optical: ReadWindow, size: tuple[int, int], spans: list[list[tuple[int, int]]]
) -> tuple[F32, F32, list[Window]]:
    """Windows with a margin each, beside each other in one block, NaN where the picture ends."""
    cell = WINDOW_PX + 2 * MARGIN_PX
    shape = (cell * len(spans[0]), cell * len(spans[1]))
    blocks: list[F32] = []
    for read in (sar, optical):
        block: F32 | None = None
        for (top, left), (row, col) in _cells(spans, cell):
            up, beside = max(row - MARGIN_PX, 0), max(col - MARGIN_PX, 0)
            high = min(row + WINDOW_PX + MARGIN_PX, size[0]) - up
            wide = min(col + WINDOW_PX + MARGIN_PX, size[1]) - beside
            values = read(up, beside, high, wide)
            if block is None:
                block = np.full((len(values), *shape), np.nan, dtype=np.float32)
            at_row, at_col = top + up - (row - MARGIN_PX), left + beside - (col - MARGIN_PX)
            block[:, at_row : at_row + high, at_col : at_col + wide] = values
        if block is not None:
            blocks.append(block)
    windows = [(top + MARGIN_PX, left + MARGIN_PX, WINDOW_PX, WINDOW_PX) for (top, left), _ in _cells(spans, cell)]
    return blocks[0], blocks[1], windows


def _cells(spans: list[list[tuple[int, int]]], cell: int) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """First pixel of each cell of the mosaic, and of its window in the picture."""
    for down, (row, _) in enumerate(spans[0]):
        for across, (col, _) in enumerate(spans[1]):
            yield (down * cell, across * cell), (row, col)


def _common_fill(sar: F32, optical: F32) -> Bool | None:
    flat = _flat(sar) & _flat(optical)
    if not flat.any():
        return None
    reach = FILL_PX + 2 * FILL_REACH_PX
    return np.asarray(ndimage.maximum_filter(flat, size=reach, mode="constant", cval=0))


def _flat(planes: F32) -> Bool:
    """Middles of squares of FILL_PX that hold one number, in all planes; NaN is no number."""
    flat = np.ones(planes.shape[1:], dtype=np.bool_)
    for plane in planes:
        lowest = ndimage.minimum_filter(plane, size=FILL_PX, mode="nearest")
        flat &= lowest == ndimage.maximum_filter(plane, size=FILL_PX, mode="nearest")
        if not flat.any():
            break
    return flat
