"""Border noise: pixels at the edges of an image that hold no measurement.

The processor pads the image where no echo was recorded: at the range edges by staircases of some hundred samples (the
start of the sampling window changes during a data take), and at both ends of a data take by lines. From IPF 2.9 on
these pixels are 0. Before, range and azimuth compression left low values in them, which rise towards the image.

Thermal noise distinguishes padding from dark water. Every recorded pixel contains the receiver's noise, so its mean
power is at least that of the annotated noise. Padding contains none. From each edge we walk inwards, line by line (at
the range edges) or column by column (at the first and last lines). We estimate where the mean power changes from below
to above a third of the noise: where the cumulative sum of (power / noise - level) is smallest, decided once the sum has
risen well above that minimum (E. S. Page, Continuous inspection schemes, Biometrika 41, 1954). Only padding that is
connected to the edge counts, up to DEPTH_PX. A median over neighbouring lines removes single outliers and keeps the
staircase.

Padding with more than a third of the noise power cannot be distinguished from data in this way, and stays.

Facts from N. Miranda, Masking "No-value" Pixels on GRD Products (MPC-0243, 2015), which thresholds denoised values;
I. Ali et al., Methods to Remove the Border Noise From Sentinel-1 SAR Data (JSTARS 11, 2018). The method is our own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from scipy.ndimage import median_filter

from sar1m.core.radar.compiled import compiled
from sar1m.core.radar.lut import LutRows, lut_rows
from sar1m.core.radar.product import GrdChannel, ImageWindow
from sar1m.records import I64, U16

Edge = Literal["near", "far", "first", "last"]

DEPTH_PX: Final = 2048
"""Padding deeper than this (20 km of IW GRDH) is masked only where it is 0. Our real scene has 520 samples of it."""
HALO_PX: Final = 4
"""Neighbours on either side that the median of the depths includes."""

_VOID_LEVEL: Final = 0.35  # of the noise power; at a half, noise annotated twice too high would cost dark water
_OUTLIER_LEVEL: Final = 4.0  # of the noise power: one bright pixel counts as no more than this
_CHANGE: Final = 12.0  # 4 clipped outliers in a row, or some 18 pixels of nothing but thermal noise
_NESZ_RANGE: Final = (1e-3, 1e-2)
"""Annotated noise is clipped to -30..-20 dB of sigma nought: tables of early products are 0 or in another scale, later
ones are 0 under the padding. Our real tables run from -31.3 to -21.5 dB."""


@dataclass(frozen=True, kw_only=True)
class EdgeStrip:
    """The pixels that decide on one edge of a window. Read `window` and pass its digital numbers to edge_depth.

    edge: near (samples from 0 up), far (from the last sample down), first (lines from 0 up), last (from the last down).
    """

    edge: Edge
    window: ImageWindow


@dataclass(frozen=True, kw_only=True, eq=False)
class EdgeDepth:
    """Pixels without measurement at one edge.

    depth_px: (n,) their number, inwards from the image's edge, for each line (near, far) or sample (first, last) of
        the strip.
    """

    strip: EdgeStrip
    depth_px: I64


def edge_strips(window: ImageWindow, lines: int, samples: int, depth_px: int = DEPTH_PX) -> tuple[EdgeStrip, ...]:
    """The strips that decide on a window of an image of lines x samples; none for a window in the image's middle.

    The mask of a pixel depends on the strips of its line and column and of HALO_PX neighbours alone. It is therefore
    the same in every window.

    depth_px: depth of the strips.
    """
    first = max(window.line - HALO_PX, 0)
    count = min(window.line + window.lines + HALO_PX, lines) - first
    left = max(window.sample - HALO_PX, 0)
    width = min(window.sample + window.samples + HALO_PX, samples) - left
    across, along = min(depth_px, samples), min(depth_px, lines)
    strips = []
    if window.sample < across:
        strips.append(_strip("near", first, 0, count, across))
    if window.sample + window.samples > samples - across:
        strips.append(_strip("far", first, samples - across, count, across))
    if window.line < along:
        strips.append(_strip("first", 0, left, along, width))
    if window.line + window.lines > lines - along:
        strips.append(_strip("last", lines - along, left, along, width))
    return tuple(strips)


def edge_depth(dn: U16, strip: EdgeStrip, channel: GrdChannel) -> EdgeDepth:
    """Depth of the padding at one edge.

    All polarisations have the same padding. Use the co-polarised channel, whose echo is the stronger, and apply the
    result to all. Where the processor has removed the noise (channel.noise is None), the depth is 0: water may then be
    darker than any noise, and padding is already 0.

    dn: (lines, samples) digital numbers of strip.window.
    Raises ValueError where dn has another shape.
    """
    window = strip.window
    if dn.shape != (window.lines, window.samples):
        raise ValueError(f"digital numbers of shape {dn.shape}, expected the strip's {(window.lines, window.samples)}")
    by_line = strip.edge in ("near", "far")
    depth = np.zeros(window.lines if by_line else window.samples, np.int64)
    if channel.noise is not None:
        noise, gain = lut_rows(channel.noise.range_power, window), lut_rows(channel.sigma, window)
        _walk(dn, noise, gain, by_line, strip.edge in ("far", "last"), depth)
        depth = median_filter(depth, size=2 * HALO_PX + 1, mode="mirror")
    return EdgeDepth(strip=strip, depth_px=depth)


def valid_samples(window: ImageWindow, depths: Sequence[EdgeDepth]) -> npt.NDArray[np.bool_]:
    """Mask of a window's pixels, (lines, samples): False in the padding of its edges.

    DN 0 means no data anywhere in the image and is not part of this mask.

    depths: of all edge_strips of the window.
    """
    valid = np.ones((window.lines, window.samples), np.bool_)
    line = np.arange(window.line, window.line + window.lines)
    sample = np.arange(window.sample, window.sample + window.samples)
    for found in depths:
        strip = found.strip.window
        if found.strip.edge in ("near", "far"):
            depth = found.depth_px[line - strip.line][:, None]
            inward = sample - strip.sample if found.strip.edge == "near" else strip.sample + strip.samples - 1 - sample
            valid &= inward >= depth
        else:
            depth = found.depth_px[sample - strip.sample]
            inward = line - strip.line if found.strip.edge == "first" else strip.line + strip.lines - 1 - line
            valid &= inward[:, None] >= depth
    return valid


def _strip(edge: Edge, line: int, sample: int, lines: int, samples: int) -> EdgeStrip:
    return EdgeStrip(edge=edge, window=ImageWindow(line=line, sample=sample, lines=lines, samples=samples))


@compiled
def _value(rows: LutRows, line: int, sample: int) -> float:
    below, above = rows.row[rows.lower[line], sample], rows.row[rows.lower[line] + 1, sample]
    return float(below + rows.weight[line] * (above - below))


@compiled
def _walk(dn: U16, noise: LutRows, gain: LutRows, by_line: bool, backwards: bool, depth: I64) -> None:
    """Writes the depth of each line (by_line) or column, walking from its start or, backwards, from its end.

    Azimuth factors of the noise (1.00 to 1.14) are left out: they do not matter beside a level of a third.
    """
    length = dn.shape[1] if by_line else dn.shape[0]
    for k in range(depth.size):
        total, least, depth[k] = 0.0, 0.0, 0
        for step in range(length):
            inward = length - 1 - step if backwards else step
            i, j = (k, inward) if by_line else (inward, k)
            number, amplitude = np.float64(dn[i, j]), _value(gain, i, j)
            low, high = _NESZ_RANGE[0] * amplitude * amplitude, _NESZ_RANGE[1] * amplitude * amplitude
            reference = min(max(_value(noise, i, j), low), high)
            total += min(number * number / reference, _OUTLIER_LEVEL) - _VOID_LEVEL
            if total < least:
                least, depth[k] = total, step + 1
            elif total > least + _CHANGE:
                break
