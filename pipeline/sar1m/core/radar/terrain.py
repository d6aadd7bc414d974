"""Radiometric terrain flattening, with masks of layover and shadow and the local incidence angle.

gamma0_T = beta0 A_beta / A_gamma. A_gamma is the area of all lit ground that falls into a pixel of the image, projected
at right angles to the line of sight. A_beta is the area of that pixel in the slant plane. On level ground this equals
gamma0_E = beta0 tan(incidence).
Source: D. Small, "Flattening gamma: radiometric terrain correction for SAR imagery", IEEE TGRS 49(8) (2011).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sar1m.core.radar.blur import blurred
from sar1m.core.radar.compiled import compiled
from sar1m.core.radar.facets import lit_area
from sar1m.core.radar.lattice import Lattice
from sar1m.core.radar.product import ImageWindow
from sar1m.core.radar.shadow import layover_and_shadow
from sar1m.core.radar.sight import Sight, fit_sight, row_factors
from sar1m.records import F32, Bool

_LEAST_SHARE: Final = 0.05  # of the area level ground gives: below, the quotient is noise (sarsen, issue 85)
_GUARD_PX: Final = 4  # beyond geometry: the reach of an interpolation and of a facet


@dataclass(frozen=True, kw_only=True, eq=False)
class Flattening:
    """What terrain flattening gives for a window of the image and for a map.

    area_factor: (lines, samples) of the window; gamma0_T = beta0 * area_factor. NaN where the lit area is under 5 % of
        that of level ground, where nothing is lit, and where ground of unknown height may fall.
    layover, shadow: (rows, cols) of the map.
    incidence_deg: (rows, cols) local incidence angle, against the surface; over 90 where the surface faces away from
        the radar, NaN where a height that it needs is unknown.
    complete: whether the margin was wide enough. False where terrain beyond it, between the lowest and the highest
        height given, could still fold onto the map or shade it.
    """

    area_factor: F32
    layover: Bool
    shadow: Bool
    incidence_deg: F32
    complete: bool


def margin_px(lattice: Lattice, relief_m: float) -> tuple[int, int]:
    """Rows and columns of heights that flatten needs on each side of a map.

    Ground that folds into the same radar pixel lies up to relief / tan(incidence) away, ground that casts shadow up to
    relief * tan(incidence), both along the direction of sight.

    relief_m: difference between the highest and the lowest height around.
    """
    return _margin_px(fit_sight(lattice), relief_m)


def _margin_px(sight: Sight, relief_m: float) -> tuple[int, int]:
    """As margin_px, from the fields of the line of sight."""
    steepest, flattest = float(sight.tan_incidence.max()), float(sight.tan_incidence.min())
    reach_px = relief_m * max(steepest, 1 / flattest) / sight.pitch_m
    return _GUARD_PX + int(abs(sight.away[0]) * reach_px), _GUARD_PX + int(abs(sight.away[1]) * reach_px)


def flatten(
    lattice: Lattice,
    height_m: npt.NDArray[np.floating],
    margin: tuple[int, int],
    window: ImageWindow,
    *,
    resolution_px: float = 0.0,
) -> Flattening:
    """The area factor in a window of the image, and masks and local incidence on the map without its margin.

    lattice: of the map with its margin.
    height_m: (rows, cols) of the map with its margin, above the ellipsoid; NaN where unknown.
    margin: rows and columns on each side that are left out of the result, at least 1 each (see margin_px).
    window: the part of the image that the factor is for.
    resolution_px: resolution of the image in its pixels; 0 where pixels are sharp. The area is blurred by the same
        amount: the image spreads the echo of a slope over two pixels, and so must the area that it is divided by. On
        simulated slopes of 30 to 45 degrees facing a radar of 22 m resolution, a sharp area is 0.8 dB off and the
        blurred one 0.1 dB.
    """
    heights_m = np.ascontiguousarray(height_m, dtype=np.float32)
    low_m, high_m = float(np.fmin.reduce(heights_m, axis=None)), float(np.fmax.reduce(heights_m, axis=None))
    sight = fit_sight(lattice)
    layover, shadow = layover_and_shadow(heights_m, sight)
    area = blurred(lit_area(lattice, heights_m, sight, shadow, window), resolution_px)
    level = 1 / float(np.mean(sight.tan_incidence))
    factor = _reciprocal(area, np.float32(_LEAST_SHARE * level))
    inner = tuple(slice(edge, size - edge) for edge, size in zip(margin, heights_m.shape, strict=True))
    return Flattening(
        area_factor=factor,
        layover=layover[inner],
        shadow=shadow[inner],
        incidence_deg=_local_incidence_deg(heights_m, sight, margin),
        complete=bool(np.all(np.asarray(margin) >= _margin_px(sight, high_m - low_m))),
    )


@compiled
def _reciprocal(area: F32, least: np.float32) -> F32:
    """1 / area; NaN where the area is under the least."""
    factor = np.empty(area.shape, dtype=np.float32)
    for row in range(area.shape[0]):
        for col in range(area.shape[1]):
            value = area[row, col]
            factor[row, col] = np.float32(1) / value if value >= least else np.float32(np.nan)
    return factor


def _local_incidence_deg(height_m: F32, sight: Sight, margin: tuple[int, int]) -> F32:
    """Angle between the line of sight and the surface's normal, for the pixels inside a margin.

    The slope of a pixel comes from the heights of the pixels on either side of it.
    """
    rows, cols = (size - 2 * edge for size, edge in zip(height_m.shape, margin, strict=True))
    found = np.empty((rows, cols), dtype=np.float32)
    by_pitch = sight.slant_area_m2 / sight.pitch_m
    fields = (sight.flat * by_pitch, sight.per_col * by_pitch, sight.per_row * by_pitch)
    factors = row_factors(fields, margin[0] + np.arange(rows), margin[1], height_m.shape)
    around_m = height_m[margin[0] - 1 : margin[0] + rows + 1, margin[1] - 1 : margin[1] + cols + 1]
    _incidence(np.ascontiguousarray(around_m), factors, np.float32(sight.pitch_m), found)
    return found


@compiled
def _incidence(around_m: F32, factors: F32, pitch_m: np.float32, found: F32) -> None:
    """Writes local incidence in degrees to found, from heights with one more pixel on every side.

    Source of the arc cosine (to 2e-8 rad): M. Abramowitz, I. Stegun, "Handbook of Mathematical Functions", 4.4.46.
    """
    half, zero, one, straight = np.float32(0.5), np.float32(0), np.float32(1), np.float32(180)
    square, degrees = pitch_m * pitch_m, np.float32(180 / np.pi)
    p0, p1, p2 = np.float32(1.5707963050), np.float32(-0.2145988016), np.float32(0.0889789874)
    p3, p4, p5 = np.float32(-0.0501743046), np.float32(0.0308918810), np.float32(-0.0170881256)
    p6, p7 = np.float32(0.0066700901), np.float32(-0.0012624911)
    for n in range(found.shape[0]):
        f, g, h = factors[n, 0], factors[n, 1], factors[n, 2]
        f0, f1, g0, g1, h0, h1 = f[0], f[1], g[0], g[1], h[0], h[1]
        above, here, below, out = around_m[n], around_m[n + 1], around_m[n + 2], found[n]
        for col in range(out.size):
            x = np.float32(col)
            rise_col, rise_row = half * (here[col + 2] - here[col]), half * (below[col + 1] - above[col + 1])
            seen = (f0 + f1 * x) + rise_col * (g0 + g1 * x) + rise_row * (h0 + h1 * x)
            cosine = seen / np.sqrt(square + rise_col * rise_col + rise_row * rise_row)
            y = abs(cosine)
            y = one if y > one else y
            angle = ((p7 * y + p6) * y + p5) * y + p4
            angle = (((angle * y + p3) * y + p2) * y + p1) * y + p0
            angle = degrees * angle * np.sqrt(one - y)
            angle = straight - angle if cosine < zero else angle
            out[col] = angle if here[col + 1] == here[col + 1] else here[col + 1]
