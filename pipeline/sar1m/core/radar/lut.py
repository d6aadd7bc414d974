"""Look-up tables of a product on any window of its image.

A table is bilinear: linear along samples within each vector, then linear along lines between two vectors. For a window,
each of its few vectors is interpolated once along its samples; for each pixel, one linear blend of two vectors remains.

Outside the vectors the nearest vector, or the end value of the vector, is used. Annotated tables extend beyond the
image, and the last step of a noise table often falls to 0, a slope that must not be extrapolated.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sar1m.core.radar.product import ImageWindow, LutVectors
from sar1m.records import F64, I64


class LutRows(NamedTuple):
    """A table ready for the lines of a window; a named tuple because compiled code takes one as it is.

    row: (R, samples) vectors at the window's samples, R >= 2. The value at line i and sample j of the window is
    row[lower[i], j] (1 - weight[i]) + row[lower[i] + 1, j] weight[i].
    """

    row: F64
    lower: I64
    weight: F64


def lut_rows(lut: LutVectors, window: ImageWindow) -> LutRows:
    """The vectors that the window's lines lie between, interpolated along its samples."""
    line = np.arange(window.line, window.line + window.lines)
    sample = np.arange(window.sample, window.sample + window.samples)
    annotated = lut.line.astype(np.float64)
    last = len(annotated) - 1
    lower = np.clip(np.searchsorted(annotated, line, side="right") - 1, 0, max(last - 1, 0))
    upper = np.minimum(lower + 1, last)
    step = np.maximum(annotated[upper] - annotated[lower], 1.0)
    weight = np.clip((line - annotated[lower]) / step, 0.0, 1.0)
    first = int(lower.min())
    vectors = range(first, int(lower.max()) + 2)
    row = np.stack([np.interp(sample, lut.sample[v], lut.value[v]) for v in (min(v, last) for v in vectors)])
    return LutRows(row, (lower - first).astype(np.int64), weight)
