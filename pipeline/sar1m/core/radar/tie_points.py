"""Geocoding by tie points alone, without an orbit and with no heights but those of the tie points.

A product's tie points (its geolocation grid, or the ground control points inside a measurement TIFF) are 10 to 25 km
apart. The height of a tie point shifts it in range. With that shift removed, line and sample are fitted by a polynomial
of the position on the ellipsoid. The residuals at the tie points are interpolated between them, so that every tie point
is reproduced exactly. For a wanted point the shift is put back, for the height interpolated between the tie points
around it. Where the ground is at another height, the sample is wrong by relief_error_px.

Tie points have one more limit. The slant-to-ground polynomials change every second with the terrain's mean height, but
the tie points are three seconds apart. Over land the sample is therefore wrong by some pixels between them, even on a
plain (figures by product: tests/benchmarks/results/geometry.md). Range-Doppler geocoding with an orbit, at the heights
of the tie points (TiePointImage.height_m), does not have this error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sar1m.core.radar.geodesy import ecef_from_geodetic
from sar1m.core.radar.product import GrdGeometry
from sar1m.records import F64
from sar1m.store.errors import SourceError

_DEGREE: Final = 3  # of the polynomial in both ground coordinates together; higher ones swing between the tie points
_WITHIN: Final = 1.1  # of the tie points' extent: farther out the polynomials run wild
_PASSES: Final = 12  # each finds the tie points around from the last one's sample; in mountains 0.3 of the error stays
_TERMS: Final = (_DEGREE + 1) * (_DEGREE + 2) // 2
_POWERS: Final = tuple((east, north) for east in range(_DEGREE + 1) for north in range(_DEGREE + 1 - east))


@dataclass(frozen=True, kw_only=True, eq=False)
class TiePoints:
    """Positions of known line and sample, all (n,), forming a complete grid of lines and samples in any order.

    name: of the product, for messages.
    lon, lat: degrees. height_m: above the ellipsoid.
    incidence_deg: needed to 0.1 degrees only, since it scales nothing but differences of height between neighbours.
    """

    name: str
    line: F64
    sample: F64
    lon: F64
    lat: F64
    height_m: F64
    incidence_deg: F64
    range_spacing_m: float


@dataclass(frozen=True, kw_only=True, eq=False)
class TiePointModel:
    """Line and sample as functions of position.

    centre_m: (3,) Earth-fixed. ground_axes: (2, 3); ground coordinates are ground_axes @ (point - centre_m).
    coefficient_px: (10, 2) of the polynomials in ground coordinates, for line and for sample.
    line, sample: (I,) and (J,) of the grid of tie points.
    line_left_px, sample_left_px: (I, J) residuals of the polynomials at the tie points.
    height_m, incidence_deg: (I, J) of the tie points.
    """

    centre_m: F64
    ground_axes: F64
    coefficient_px: F64
    line: F64
    sample: F64
    line_left_px: F64
    sample_left_px: F64
    height_m: F64
    incidence_deg: F64
    range_spacing_m: float


@dataclass(frozen=True, kw_only=True, eq=False)
class TiePointImage:
    """Where points show in an image according to the tie points, all (...).

    line, sample: 0 at the centre of the first pixel.
    height_m, incidence_deg: interpolated between the tie points around.
    """

    line: F64
    sample: F64
    height_m: F64
    incidence_deg: F64


def annotated_tie_points(geometry: GrdGeometry) -> TiePoints:
    """The geolocation grid of a product's annotation as tie points."""
    grid = geometry.grid
    return TiePoints(
        name=geometry.name,
        line=grid.line.astype(np.float64),
        sample=grid.sample.astype(np.float64),
        lon=grid.lon,
        lat=grid.lat,
        height_m=grid.height_m,
        incidence_deg=grid.incidence_deg,
        range_spacing_m=geometry.range_spacing_m,
    )


def fit_tie_points(points: TiePoints) -> TiePointModel:
    """Fits the polynomials to tie points by least squares and keeps their residuals.

    Raises SourceError where tie points are not finite, form no complete grid, or are fewer than the terms require.
    """
    line, sample = np.unique(points.line), np.unique(points.sample)
    _check(points, line.size, sample.size)
    ground_m = ecef_from_geodetic(points.lon, points.lat, 0.0)
    centre_m = ground_m.mean(axis=0)
    # the two directions in which the points spread most, scaled to about -1..1: a plane good at poles and 180 degrees
    axes = np.linalg.svd(ground_m - centre_m, full_matrices=False)[2][:2]
    ground_axes = axes / np.abs((ground_m - centre_m) @ axes.T).max(axis=0)[:, None]
    at_zero = points.sample + _range_shift_px(points.height_m, points.incidence_deg, points.range_spacing_m)
    wanted = np.stack((points.line, at_zero), axis=-1)
    terms = _terms((ground_m - centre_m) @ ground_axes.T)
    coefficient_px = np.asarray(np.linalg.lstsq(terms, wanted, rcond=None)[0], dtype=np.float64)
    left_px = wanted - terms @ coefficient_px
    order = np.lexsort((points.sample, points.line)).reshape(line.size, sample.size)
    return TiePointModel(
        centre_m=centre_m,
        ground_axes=ground_axes,
        coefficient_px=coefficient_px,
        line=line,
        sample=sample,
        line_left_px=left_px[order, 0],
        sample_left_px=left_px[order, 1],
        height_m=points.height_m[order],
        incidence_deg=points.incidence_deg[order],
        range_spacing_m=points.range_spacing_m,
    )


def tie_point_coordinates(model: TiePointModel, lon_deg: npt.ArrayLike, lat_deg: npt.ArrayLike) -> TiePointImage:
    """Where positions in degrees show in the image; arguments broadcast.

    NaN for positions that are NaN, and for those outside the tie points by more than a tenth of their extent.
    """
    ground = (ecef_from_geodetic(lon_deg, lat_deg, 0.0) - model.centre_m) @ model.ground_axes.T
    shape = ground.shape[:-1]
    flat = ground.reshape(-1, 2)
    flat = np.where(np.all(np.abs(flat) <= _WITHIN, axis=1, keepdims=True), flat, np.nan)
    smooth_line, smooth_sample = (_terms(flat) @ model.coefficient_px).T
    line, sample = smooth_line, smooth_sample
    for _ in range(_PASSES):
        between = _Between.of(model, line, sample)
        height_m, incidence_deg = between.pick(model.height_m), between.pick(model.incidence_deg)
        line = smooth_line + between.pick(model.line_left_px)
        shift_px = _range_shift_px(height_m, incidence_deg, model.range_spacing_m)
        sample = smooth_sample + between.pick(model.sample_left_px) - shift_px
    return TiePointImage(
        line=line.reshape(shape),
        sample=sample.reshape(shape),
        height_m=height_m.reshape(shape),
        incidence_deg=incidence_deg.reshape(shape),
    )


def relief_error_px(height_difference_m: F64, incidence_deg: F64, range_spacing_m: float) -> F64:
    """Error of the sample in pixels, (...), at least 0, where the ground is not at the height of the tie points.

    It is |difference| / tan(incidence) / spacing: 14 px for 100 m at 35 degrees and 10 m.

    height_difference_m: of the ground from the tie points; NaN gives NaN.
    """
    return np.abs(_range_shift_px(height_difference_m, incidence_deg, range_spacing_m))


def _range_shift_px(height_m: F64, incidence_deg: F64, range_spacing_m: float) -> F64:
    """Number of samples by which its height moves a point towards the radar."""
    shift_px: F64 = height_m / np.tan(np.radians(incidence_deg)) / range_spacing_m
    return shift_px


def _check(points: TiePoints, lines: int, samples: int) -> None:
    """Raises SourceError for tie points that cannot be fitted."""
    remedy = "Geocode with the orbit instead, or leave the product out."
    count = points.line.size
    values = (points.line, points.sample, points.lon, points.lat, points.height_m, points.incidence_deg)
    if not all(np.isfinite(each).all() for each in values):
        raise SourceError(f"{points.name}: a tie point is not finite. {remedy}")
    if count != lines * samples or np.unique(np.stack((points.line, points.sample)), axis=1).shape[1] != count:
        raise SourceError(f"{points.name}: {count} tie points do not fill a grid of {lines} x {samples}. {remedy}")
    if count < 2 * _TERMS or min(lines, samples) <= _DEGREE:
        raise SourceError(
            f"{points.name}: a grid of {lines} x {samples} tie points; at least {_DEGREE + 1} a side and "
            f"{2 * _TERMS} in all are needed. {remedy}"
        )


def _terms(ground: F64) -> F64:
    """Products of Legendre polynomials (n, 10) of ground coordinates (n, 2) scaled to about -1..1."""
    east = np.polynomial.legendre.legvander(ground[:, 0], _DEGREE)
    north = np.polynomial.legendre.legvander(ground[:, 1], _DEGREE)
    return np.stack([east[:, i] * north[:, j] for i, j in _POWERS], axis=-1)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Between:
    """Positions (n,) among the tie points: row and column of the one before, and the part of the way to the next."""

    row: npt.NDArray[np.intp]
    col: npt.NDArray[np.intp]
    down: F64
    right: F64

    @classmethod
    def of(cls, model: TiePointModel, line: F64, sample: F64) -> _Between:
        row, down = _step(model.line, line)
        col, right = _step(model.sample, sample)
        return cls(row=row, col=col, down=down, right=right)

    def pick(self, values: F64) -> F64:
        """Values (I, J) of the tie points at the positions: bilinear; beyond the outermost, the value at the edge."""
        row, col, right = self.row, self.col, self.right
        upper = values[row, col] * (1 - right) + values[row, col + 1] * right
        lower = values[row + 1, col] * (1 - right) + values[row + 1, col + 1] * right
        found: F64 = upper * (1 - self.down) + lower * self.down
        return found


def _step(knots: F64, at: F64) -> tuple[npt.NDArray[np.intp], F64]:
    """Index of the knot before, and the part (0 to 1) of the way to the next, NaN for NaN."""
    before = np.clip(np.searchsorted(knots, at, side="right") - 1, 0, knots.size - 2)
    return before, np.clip((at - knots[before]) / (knots[before + 1] - knots[before]), 0.0, 1.0)
