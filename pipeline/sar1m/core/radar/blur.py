"""Blurring to a sensor's resolution."""

from __future__ import annotations

import numpy as np

from sar1m.core.radar.compiled import compiled
from sar1m.records import F32


def blurred(image: F32, resolution_px: float) -> F32:
    """An image (lines, samples) blurred to a resolution by a Gaussian that is cut off after two pixels.

    The edge pixels are repeated beyond the edge. NaN spreads by two pixels.

    resolution_px: full width at half maximum. Under 1 the image is returned as it is. Use it up to 3, where the cut
        loses 1 %.
    """
    if resolution_px < 1:
        return image
    sigma_px = resolution_px / np.sqrt(8 * np.log(2))
    taps = np.exp(-0.5 * (np.arange(3) / sigma_px) ** 2)
    taps /= taps[0] + 2 * taps[1:].sum()
    found = np.empty_like(image)
    _blur(image, taps.astype(np.float32), found)
    return found


@compiled
def _blur(image: F32, taps: F32, found: F32) -> None:
    lines, samples = image.shape
    middle, near, far = taps[0], taps[1], taps[2]
    column = np.empty(samples + 4, dtype=np.float32)
    for line in range(lines):
        up2, up1 = image[max(line - 2, 0)], image[max(line - 1, 0)]
        down1, down2 = image[min(line + 1, lines - 1)], image[min(line + 2, lines - 1)]
        here, out = image[line], found[line]
        for n in range(samples):
            column[n + 2] = middle * here[n] + near * (up1[n] + down1[n]) + far * (up2[n] + down2[n])
        column[0], column[1] = column[2], column[2]
        column[samples + 2], column[samples + 3] = column[samples + 1], column[samples + 1]
        for n in range(samples):
            out[n] = middle * column[n + 2] + near * (column[n + 1] + column[n + 3]) + far * (column[n] + column[n + 4])
