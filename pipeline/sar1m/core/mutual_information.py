"""The shift between a SAR and an optical picture by mutual information: a second opinion on core/registration.py.

It shares no step with orientation correlation: no gradient, no transform, no product of pixels. It shares the pixels,
and one speckle misleads both: their errors correlate by about 0.5, so that either may be further off than the two are
apart (tests/benchmarks/results/second_estimator.md).

Each picture is sorted into classes, and the lag is sought at which the classes of one tell most about those of the
other (Viola and Wells 1997; Maes et al. 1997). Mutual information is taken tile by tile and added, since one table for
a whole patch follows broad land cover rather than borders (regional mutual information, Studholme et al. 2006). The
tiles also give the uncertainty, by the jackknife.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sar1m.core.quality import SAR_FLOOR_LINEAR
from sar1m.core.resample import block_mean
from sar1m.records import F32, F64, I64, Bool

CLASSES_A_FEATURE = 4  # of two features; CLASSES of one
CLASSES = CLASSES_A_FEATURE**2
TILE_PX = 64
LEAST_TILES_A_SIDE = 2  # smaller windows have smaller tiles
NARROW_TILE_PX = 48  # tiles under this a side hold too few pixels for so many classes
NARROW_CLASSES_A_FEATURE = 3
LEAST_OVERLAP = 0.25  # of a tile's pixels at every lag; a tile with less is left out at all of them
LEAST_TILES = 4  # fewer give no uncertainty
COARSE = 2  # binning of the search over all lags
COARSE_SMOOTHING_PX = 0.7  # Gaussian, binned pixels, of the SAR picture alone
FINE_SMOOTHING_PX = 1.0
FINE_REACH = 3  # lags around the coarse peak
FIT_REACH = 2  # lags around the fine peak that the paraboloid is fitted to
FINE_ROUNDS = 4
SIGMA_FACTOR = 1.3  # of the jackknife's standard deviation; from worlds of the simulator and tile 11SLT
SIGMA_FLOOR_PX = 0.05
LEAST_PSR = 4.0  # of a clear peak
GREATEST_SIGMA_PX = 0.65
GUARD_PX = 6  # half side of the square around the coarse peak that the sidelobe statistics leave out

Lags = npt.NDArray[np.int_]


@dataclass(frozen=True, kw_only=True)
class InformationShift:
    """Where the optical content lies against the SAR content, rows down and columns right, in pixels.

    sigma_px: one standard deviation of row_px, and of col_px, by the jackknife over tiles, calibrated.
    psr: (peak - mean) / std of the mutual information over the lags beyond GUARD_PX.
    All NaN where too few tiles have data in both pictures, or where the peak lies on the edge of the search.
    """

    row_px: float
    col_px: float
    sigma_px: float
    psr: float

    @property
    def clear(self) -> bool:
        """Whether the peak stands out and the tiles agree on it, so that the shift may be compared with another."""
        return self.psr >= LEAST_PSR and self.sigma_px <= GREATEST_SIGMA_PX


NOT_FOUND = InformationShift(row_px=float("nan"), col_px=float("nan"), sigma_px=float("nan"), psr=float("nan"))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Classified:
    """Two pictures as classes, (H, W); CLASSES stands for no data. tile: (H, W) number of the tile, of so many."""

    sar: I64
    optical: I64
    tile: I64
    tiles: int


def information_shift(sar: F32, optical: F32, *, search_px: int) -> InformationShift:
    """The lag of highest mutual information, to a fraction of a pixel.

    The search runs over all lags at half the resolution, then over whole pixels around its peak.

    sar: (P, H, W) linear power; the first two polarisations count. optical: (B, H, W) reflectance or display
        brightness; its two principal components count. NaN without data: a pixel counts where every channel has a
        value. search_px: the largest shift that is searched; a side of under four times of it leaves too little of
        the tiles. Windows of 64 px are seldom clear on real ground.
    """
    half = search_px // COARSE
    lags = np.arange(-half, half + 1)
    coarse = _classified(sar, optical, COARSE, COARSE_SMOOTHING_PX)
    information = _information(coarse, lags, lags)
    if len(information) < LEAST_TILES:
        return NOT_FOUND
    surface = information.sum(axis=0)
    row, col = _highest(surface)
    if not (0 < row < 2 * half and 0 < col < 2 * half):
        return NOT_FOUND
    near = COARSE * (np.array(_summit(surface, (row, col), 1)) - half)
    fine = _classified(sar, optical, 1, FINE_SMOOTHING_PX)
    return _refined(fine, near, _psr(surface, (row, col)))


def _refined(pictures: _Classified, near: F64, psr: float) -> InformationShift:
    """The peak at whole pixels around near, moved on while it lies at the edge of the lags that are looked at."""
    centre = np.rint(near).astype(int)
    for _ in range(FINE_ROUNDS):
        rows, cols = (at + np.arange(-FINE_REACH, FINE_REACH + 1) for at in centre)
        information = _information(pictures, rows, cols)
        if len(information) < LEAST_TILES:
            return NOT_FOUND
        surface = information.sum(axis=0)
        peak = _highest(surface)
        if all(FIT_REACH <= at <= 2 * FINE_REACH - FIT_REACH for at in peak):
            break
        centre = centre + np.array(peak) - FINE_REACH
    else:
        return NOT_FOUND
    found = np.array(_summit(surface, peak, FIT_REACH)) - FINE_REACH + centre
    without = np.array([_summit(surface - one, peak, FIT_REACH) for one in information])
    count = len(without)
    variance = (count - 1) / count * ((without - without.mean(axis=0)) ** 2).sum(axis=0)
    return InformationShift(
        row_px=float(found[0]),
        col_px=float(found[1]),
        sigma_px=math.hypot(SIGMA_FLOOR_PX, SIGMA_FACTOR * math.sqrt(variance.mean())),
        psr=psr,
    )


def _classified(sar: F32, optical: F32, binning: int, smoothing_px: float) -> _Classified:
    """Both pictures, binned, as classes of equal population in each feature."""
    power = np.log(np.maximum(block_mean(sar[:2], binning), np.float32(SAR_FLOOR_LINEAR)))
    root = np.sqrt(np.maximum(block_mean(optical, binning), np.float32(0)))
    valid_sar: Bool = np.asarray(np.isfinite(power).all(axis=0))
    valid_optical: Bool = np.asarray(np.isfinite(root).all(axis=0))
    rows, cols = valid_sar.shape
    down, right = (max(LEAST_TILES_A_SIDE, round(size * binning / TILE_PX)) for size in (rows, cols))
    narrow = min(rows / down, cols / right) * binning < NARROW_TILE_PX
    count = NARROW_CLASSES_A_FEATURE if narrow else CLASSES_A_FEATURE
    tile = (np.arange(rows) * down // rows)[:, None] * right + np.arange(cols) * right // cols
    return _Classified(
        sar=_classes(_smoothed(power, valid_sar, smoothing_px), valid_sar, count),
        optical=_classes(_principal(root, valid_optical), valid_optical, count),
        tile=tile.astype(np.int64),
        tiles=down * right,
    )


def _smoothed(channels: F32, valid: Bool, smoothing_px: float) -> F32:
    """Channels (C, H, W) under a Gaussian; pixels without data weigh nothing and stay NaN."""
    weight = ndimage.gaussian_filter(valid.astype(np.float32), smoothing_px, mode="nearest")
    filled = np.where(valid, channels, np.float32(0))
    smooth = np.stack([ndimage.gaussian_filter(one, smoothing_px, mode="nearest") for one in filled])
    return np.where(valid, smooth / np.maximum(weight, np.float32(1e-6)), np.float32(np.nan))


def _principal(bands: F32, valid: Bool) -> F32:
    """The first two principal components of (B, H, W); one band stays as it is."""
    if len(bands) == 1 or not valid.any():
        return bands[:1]
    known = bands[:, valid].astype(np.float64)
    known -= known.mean(axis=1, keepdims=True)
    axes = np.linalg.eigh(known @ known.T)[1][:, :-3:-1].T
    axes *= np.sign(np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1))
    return np.tensordot(axes.astype(np.float32), bands, axes=1)


def _classes(features: F32, valid: Bool, a_feature: int) -> I64:
    """One class a pixel: so many classes of each of two features, their square of a single one."""
    count = a_feature if len(features) > 1 else a_feature**2
    classes = np.zeros(valid.shape, np.int64)
    if not valid.any():
        return classes + CLASSES
    for feature in features:
        edges = np.quantile(feature[valid], np.arange(1, count) / count)
        classes = classes * count + np.searchsorted(edges, feature)
    return np.where(valid, classes, CLASSES)


def _information(pictures: _Classified, row_lags: Lags, col_lags: Lags) -> F64:
    """Mutual information by tile and lag, (T, R, C): nats a pixel times the pixels that the tile has on average.

    The same SAR pixels are looked at for all lags where these are few, so that a lag gains nothing by its overlap; over
    many lags that would leave too little of a patch. Only tiles with enough data at every lag are returned.
    """
    rows, cols = pictures.sar.shape
    few = len(row_lags) <= 2 * FINE_REACH + 1
    keys = (pictures.tile * (CLASSES + 1) + pictures.sar) * (CLASSES + 1)
    sizes = np.bincount(pictures.tile.ravel(), minlength=pictures.tiles)
    information = np.empty((pictures.tiles, len(row_lags), len(col_lags)))
    pixels = np.empty(information.shape, np.int64)
    table = _entropy_table(int(sizes.max()))
    for i, row in enumerate(row_lags.tolist()):
        down = _common(rows, row_lags if few else row_lags[i : i + 1])
        for j, col in enumerate(col_lags.tolist()):
            right = _common(cols, col_lags if few else col_lags[j : j + 1])
            moved = pictures.optical[_moved(down, row), _moved(right, col)]
            joint = np.bincount((keys[down, right] + moved).ravel(), minlength=pictures.tiles * (CLASSES + 1) ** 2)
            counts = joint.reshape(pictures.tiles, CLASSES + 1, CLASSES + 1)[:, :CLASSES, :CLASSES]
            information[:, i, j], pixels[:, i, j] = _tile_information(counts, table)
    enough = pixels.min(axis=(1, 2)) >= LEAST_OVERLAP * sizes
    kept: F64 = information[enough] * pixels[enough].mean(axis=(1, 2))[:, None, None]
    return kept


def _common(size: int, lags: Lags) -> slice:
    """The positions whose partner lies inside at every one of the lags."""
    return slice(max(0, -int(lags.min())), max(0, size - max(0, int(lags.max()))))


def _moved(span: slice, lag: int) -> slice:
    return slice(span.start + lag, max(span.start, span.stop) + lag)


def _tile_information(counts: I64, table: F64) -> tuple[F64, I64]:
    """Nats a pixel of joint histograms (T, A, B), less what chance alone gives (Miller 1955), and their pixels."""
    of_sar, of_optical = counts.sum(axis=2), counts.sum(axis=1)
    pixels = of_sar.sum(axis=1)
    total = table[counts].sum(axis=(1, 2)) - table[of_sar].sum(axis=1) - table[of_optical].sum(axis=1) + table[pixels]
    chance = np.count_nonzero(counts, axis=(1, 2)) + 1
    chance -= np.count_nonzero(of_sar, axis=1) + np.count_nonzero(of_optical, axis=1)
    return (total - chance / 2) / np.maximum(pixels, 1), pixels


def _entropy_table(largest: int) -> F64:
    """n log n of n = 0 .. largest."""
    numbers = np.arange(largest + 1, dtype=np.float64)
    return numbers * np.log(np.maximum(numbers, 1))


def _highest(surface: F64) -> tuple[int, int]:
    row, col = divmod(int(np.argmax(surface)), surface.shape[1])
    return row, col


def _psr(surface: F64, peak: tuple[int, int]) -> float:
    reach = GUARD_PX // COARSE
    outside = np.ones(surface.shape, dtype=bool)
    outside[tuple(slice(max(0, at - reach), at + reach + 1) for at in peak)] = False
    level, spread = surface[outside].mean(), surface[outside].std()
    return float((surface[peak] - level) / spread) if spread > 0 else float("nan")


def _summit(surface: F64, peak: tuple[int, int], reach: int) -> tuple[float, float]:
    """Position of the summit of a least-squares paraboloid around a peak, at most reach lags from it."""
    down, right = (axis.ravel() for axis in np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64))
    design = np.stack([np.ones(down.size), right, down, right**2, right * down, down**2], axis=1)
    around = surface[tuple(slice(at - reach, at + reach + 1) for at in peak)]
    _, x, y, xx, xy, yy = np.linalg.lstsq(design, around.ravel(), rcond=None)[0]
    determinant = 4 * xx * yy - xy**2
    if xx >= 0 or determinant <= 0:
        return float(peak[0]), float(peak[1])
    offset = np.array([xy * x - 2 * xx * y, xy * y - 2 * yy * x]) / determinant
    row, col = np.array(peak) + np.clip(offset, -reach, reach)
    return float(row), float(col)
