"""The shift between a SAR and an optical picture of one place, for each patch and for the scene pair as a whole.

For the scene pair, the correlation surfaces of all patches of a block are added before the peak is searched for: one
patch may contain little information, but their sum contains much. The median of the patches' shifts is far worse than
the peak of the sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import numpy as np
import numpy.typing as npt

from sar1m.config import RegistrationConfig
from sar1m.core.correlation import Surfaces, correlate, locate_peaks, summits_near
from sar1m.core.orientation import orientation_fields, out_of_reach
from sar1m.core.quality import SAR_FLOOR_LINEAR
from sar1m.core.resample import block_mean, shift_subpixel
from sar1m.core.shift_field import ShiftField, fit_shift_field
from sar1m.records import F32, F64, Bool, Shift

Window = tuple[int, int, int, int]  # row, col, rows, cols in pixels of the block

BINNING = 2  # pixels over which the fields are averaged before the transforms, for speed
SAR_SMOOTHING_PASSES = 2  # of the kernel (1 2 1)/4 before the gradients; more costs accuracy under a fifth of a pixel
OPTICAL_SMOOTHING_PASSES = 1
BAND_SCALE_PX = 0.3  # a band so far from the others counts half
SIGMA_FACTORS = (1.1, 0.2, 0.5)  # of the surface's noise, the spread of polarisations and that of bands
SIGMA_FLOOR_PX = 0.05
SURE_PSR = 2.0  # over the least PSR: from here a patch is believed however far it lies from its block's field


@dataclass(frozen=True, kw_only=True)
class BlockRegistration:
    """Shifts of a block. patches: in the order of the windows. scene: of the scene pair, from the summed surfaces.
    field: over the block, where its patches do not share one shift; None where they do."""

    patches: tuple[Shift, ...]
    scene: Shift
    field: ShiftField | None = None

    def correction_px(self, number: int) -> tuple[float, float]:
        """The shift by which a patch is to be corrected, rows and columns; NaN where it is unknown.

        It is the scene's where the block has no field. Where it has one, it is the patch's own, and the field's where
        that is not measured or not believed.
        """
        if self.field is None:
            return self.scene.row_px, self.scene.col_px
        patch = self.patches[number]
        if patch.status == "measured" and not self.field.believed[number]:
            row_px, col_px = self.field.values[number].tolist()
            return row_px, col_px
        return patch.row_px, patch.col_px


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """Errors with which injected shifts are recovered, in pixels. NaN where nothing can be measured.

    injected: the shift that was injected.
    error: recovered shift minus (baseline + injected), where the baseline is the shift of the patch as it is.
    polarisation: half the difference of the errors of two polarisations, each with a shift of its own injected; NaN
        with one polarisation.
    psr: of the baseline.
    """

    injected_row_px: float
    injected_col_px: float
    error_row_px: float
    error_col_px: float
    polarisation_row_px: float
    polarisation_col_px: float
    psr: float


def register_block(
    sar: F32,
    optical: F32,
    *,
    masked: Bool | None,
    windows: Sequence[Window],
    settings: RegistrationConfig,
) -> BlockRegistration:
    """Shifts of the optical content against the SAR content: rows down, columns right.

    A patch whose measurement does not pass the thresholds takes the value of the block's field (status field) where the
    patches do not share one shift (see fit_shift_field), and that of the scene pair (status scene) where they do. Where
    that does not pass either, it is unmeasurable and its shift is NaN. Its own psr and spread are kept. psr is NaN
    where there is nothing to correlate.

    sar: (P, H, W) linear power; NaN without data.
    optical: (B, H, W) reflectance or display brightness, bands in the order of their wavelength (B02, B03, B04, B08);
        NaN without data. A pixel counts where every channel of both has a value.
    masked: (H, W) pixels to leave out, such as clouds.
    windows: the patches with their halo, wider than twice the search range.
    """
    measured = _surfaces(sar, optical, masked, windows, settings.search_px)
    gated = [_gated(_shift(one), settings) for one in measured]
    scene = gated[0] if len(gated) == 1 else _gated(_shift(reduce(add, measured)), settings)
    field = _field(gated, windows, settings)
    patches = tuple(_patch_or_block(one, scene, field, number) for number, one in enumerate(gated))
    return BlockRegistration(patches=patches, scene=scene, field=field)


def recover_shifts(sar: F32, optical: F32, *, rng: np.random.Generator, settings: RegistrationConfig) -> Recovery:
    """Injects a known sub-pixel shift into the optical patch and measures it: the self-test of a build.

    Shifts are drawn evenly within a third of the search range. Thresholds are not applied, so that gross errors count.
    On featureless land errors are small for the wrong reason: the same noise is measured twice. The difference between
    polarisations, each with its own speckle, shows this.

    sar, optical: (P, H, W) and (B, H, W) as in register_block, one patch with its halo, clouds NaN.
    """
    limit_px = settings.search_px / 3
    injected = [rng.uniform(-limit_px, limit_px, size=2) for _ in range(2)]
    moved = [shift_subpixel(optical, *shift_px) for shift_px in injected]

    def measure(channels: F32, partner: F32) -> Shift:
        window = (0, 0, *sar.shape[-2:])
        return _shift(_surfaces(channels, partner, None, [window], settings.search_px)[0])

    baseline = measure(sar, optical)
    error = _position(measure(sar, moved[0])) - _position(baseline) - injected[0]
    half = np.full(2, np.nan)
    if len(sar) > 1:
        first, second = (_position(measure(sar[k : k + 1], moved[k])) - injected[k] for k in range(2))
        half = (first - second) / 2
    return Recovery(
        injected_row_px=float(injected[0][0]),
        injected_col_px=float(injected[0][1]),
        error_row_px=float(error[0]),
        error_col_px=float(error[1]),
        polarisation_row_px=float(half[0]),
        polarisation_col_px=float(half[1]),
        psr=baseline.psr,
    )


def _position(shift: Shift) -> npt.NDArray[np.float64]:
    return np.array([shift.row_px, shift.col_px])


def _surfaces(sar: F32, optical: F32, masked: Bool | None, windows: Sequence[Window], search_px: int) -> list[Surfaces]:
    """Correlation surfaces of each window. Orientation fields are computed once for all of them."""
    fields_sar, valid_sar = _fields(_sar_channels(sar), masked, SAR_SMOOTHING_PASSES)
    fields_optical, valid_optical = _fields(_optical_channels(optical), masked, OPTICAL_SMOOTHING_PASSES)
    measured = []
    for window in windows:
        row, col, rows, cols = (value // BINNING for value in window)
        area = np.s_[..., row : row + rows, col : col + cols]
        measured.append(
            correlate(
                fields_sar[area], fields_optical[area], valid_sar[area], valid_optical[area], search_px // BINNING
            )
        )
    return measured


def _sar_channels(sar: F32) -> F32:
    """Logarithm of the power, (P, H, W)."""
    return np.log(np.maximum(sar, np.float32(SAR_FLOOR_LINEAR)))


def _optical_channels(optical: F32) -> F32:
    """Roots of brightness, (B, H, W).

    Bands stay as they are. Differences of bands show vegetation well, and where the bands of one picture lie apart from
    each other they show edges that are not there: near infrared minus red was 1 to 2 px off on two real sites.
    """
    return np.sqrt(np.maximum(optical, np.float32(0)))


def _fields(channels: F32, masked: Bool | None, smoothing_passes: int) -> tuple[F32, Bool]:
    """Orientation fields (C, 3, h, w) of channels (C, H, W), binned, and where they are valid (h, w).

    Gradients are taken before the binning, so that it loses edges hardly at all; what is smooth is the fields.
    """
    finite = math.isfinite(np.vdot(channels, channels))  # one quick pass; where the sum overflows, the long way
    valid: Bool = np.ones(channels.shape[1:], bool) if finite else np.asarray(np.isfinite(channels).all(axis=0))
    if masked is not None:
        valid &= ~masked
    if not valid.all():
        channels = np.where(valid, channels, np.float32(0))
    free = out_of_reach(valid, smoothing_passes=smoothing_passes)
    fields = orientation_fields(channels, free, smoothing_passes=smoothing_passes, binning=BINNING)
    whole = np.ones(fields.shape[2:], bool)
    return fields, whole if free.all() else block_mean(free[None].astype(np.float32), BINNING)[0] == 1


def _shift(measured: Surfaces) -> Shift:
    """The shift in pixels before binning, without thresholds.

    Bands whose own peak lies apart from the median of all count less.
    """
    overlap = measured.overlap
    joint = measured.by_fixed.sum(axis=0, keepdims=True)
    (common,) = locate_peaks(joint, overlap)
    bands = np.full((len(measured.by_moving), 2), np.nan)
    if common.inside:
        bands = summits_near(measured.by_moving, overlap, common.row_px, common.col_px) * BINNING
    found = np.isfinite(bands[:, 0])
    if len(bands) > 2 and found.any():
        apart = np.hypot(*(bands - np.median(bands[found], axis=0)).T)
        weights = 1 / (1 + np.square(np.where(np.isnan(apart), np.inf, apart) / BAND_SCALE_PX))
        (common,) = locate_peaks(np.einsum("b,bij->ij", weights, measured.by_moving)[None], overlap)
    single = locate_peaks(measured.by_fixed[:2], overlap) if len(measured.by_fixed) > 1 else ()
    spread = float("nan")
    if single:
        first, second = single
        spread = float(np.hypot(first.row_px - second.row_px, first.col_px - second.col_px)) * BINNING / 2
    band_spread = _rms_distance(bands)
    return Shift(
        row_px=common.row_px * BINNING,
        col_px=common.col_px * BINNING,
        sigma_px=_sigma(common.noise_px * BINNING, spread, band_spread),
        psr=common.psr,
        polarisation_spread_px=spread,
        band_spread_px=band_spread,
        band_offset_px=_band_offset(measured.among_moving),
        status="measured" if common.inside else "unmeasurable",
    )


def _sigma(noise_px: float, polarisation_spread_px: float, band_spread_px: float) -> float:
    """Standard deviation of a component of the shift, from what is seen of one window (coefficients: results file)."""
    parts = zip(SIGMA_FACTORS, (noise_px, polarisation_spread_px, band_spread_px), strict=True)
    return math.hypot(SIGMA_FLOOR_PX, *(factor * part for factor, part in parts if not math.isnan(part)))


def _rms_distance(points: F64) -> float:
    """Root mean square distance of points (N, 2) from their mean; NaN for fewer than two."""
    found = points[np.isfinite(points).all(axis=1)]
    return float(np.sqrt(np.square(found - found.mean(axis=0)).sum(axis=1).mean())) if len(found) > 1 else float("nan")


def _band_offset(among: F32) -> float:
    """The greatest distance between two bands, in pixels. Each band is measured against the sum of the others, to which
    it lies B / (B - 1) times as far as to the mean of all."""
    count = len(among)
    if count < 2:
        return float("nan")
    places = summits_near(among, np.ones(among.shape[1:], np.float32), 0, 0) * BINNING * (count - 1) / count
    return float(np.hypot(*(places[:, None] - places).reshape(-1, 2).T).max())


def _gated(shift: Shift, settings: RegistrationConfig) -> Shift:
    wide = shift.polarisation_spread_px > settings.max_polarisation_spread_px  # NaN, one polarisation, is not wide
    if shift.status == "measured" and shift.psr >= settings.min_psr and not wide:
        return shift
    unknown = float("nan")
    return replace(shift, row_px=unknown, col_px=unknown, sigma_px=unknown, status="unmeasurable")


def _field(patches: Sequence[Shift], windows: Sequence[Window], settings: RegistrationConfig) -> ShiftField | None:
    if settings.field == "none":
        return None
    return fit_shift_field(
        np.array([(row + rows / 2, col + cols / 2) for row, col, rows, cols in windows]),
        np.array([_position(shift) for shift in patches]),
        np.array([shift.sigma_px for shift in patches]),
        sure=np.array([shift.psr >= settings.min_psr + SURE_PSR for shift in patches]),
    )


def _patch_or_block(patch: Shift, scene: Shift, field: ShiftField | None, number: int) -> Shift:
    if patch.status == "measured":
        return patch
    if field is not None:
        row_px, col_px = field.values[number].tolist()
        sigma_px = float(field.sigmas_px[number])
        return replace(patch, row_px=row_px, col_px=col_px, sigma_px=sigma_px, status="field")
    if scene.status == "unmeasurable":
        return patch
    return replace(patch, row_px=scene.row_px, col_px=scene.col_px, sigma_px=scene.sigma_px, status="scene")
