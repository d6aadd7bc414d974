"""The shift between a SAR and an optical picture of one place, for each patch and for the scene pair as a whole.

For the scene pair, the correlation surfaces of all patches of a block are added before the peak is searched for: one
patch may contain little information, but their sum contains much. The median of the patches' shifts is far worse than
the peak of the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import numpy as np
import numpy.typing as npt

from sar1m.config import RegistrationConfig
from sar1m.core.correlation import correlate, locate_peaks, orientation_fields, out_of_reach
from sar1m.core.resample import block_mean, shift_subpixel
from sar1m.records import F32, Bool, Shift

Window = tuple[int, int, int, int]  # row, col, rows, cols in pixels of the block

SAR_FLOOR_LINEAR = 10**-3.5  # -35 dB, under the noise floor of Sentinel-1 (NESZ -22 to -25 dB)
BINNING = 2  # pixels averaged before the gradients, for speed: unbinned is level on real chips, a quarter better on
# simulated worlds (0.17 against 0.24 px at 128 px, 4.4 looks)
SAR_SMOOTHING_PX = 1.5
OPTICAL_SMOOTHING_PX = 1.0


@dataclass(frozen=True, kw_only=True)
class BlockRegistration:
    """Shifts of a block. patches: in the order of the windows. scene: of the scene pair, from the summed surfaces."""

    patches: tuple[Shift, ...]
    scene: Shift


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


@dataclass(frozen=True, kw_only=True, eq=False)
class _Surfaces:
    """Correlation of one window. Those of several windows may be added.

    surfaces: (K, L, L) all polarisations together, then the first and the second where there are two.
    overlap: (L, L).
    """

    surfaces: F32
    overlap: F32

    def __add__(self, other: _Surfaces) -> _Surfaces:
        return _Surfaces(surfaces=self.surfaces + other.surfaces, overlap=self.overlap + other.overlap)


def register_block(
    sar: F32,
    optical: F32,
    *,
    masked: Bool | None,
    windows: Sequence[Window],
    settings: RegistrationConfig,
) -> BlockRegistration:
    """Shifts of the optical content against the SAR content: rows down, columns right.

    A patch whose measurement does not pass the thresholds takes the shift of the scene pair (status scene). Where that
    does not pass either, it is unmeasurable and its shift is NaN. Its own psr and spread are kept. psr is NaN where
    there is nothing to correlate.

    sar: (P, H, W) linear power; NaN without data.
    optical: (B, H, W) reflectance or display brightness, bands in the order of their wavelength (B02, B03, B04, B08);
        NaN without data. A pixel counts where every channel of both has a value.
    masked: (H, W) pixels to leave out, such as clouds.
    windows: the patches with their halo, wider than twice the search range.
    """
    measured = _surfaces(sar, optical, masked, windows, settings.search_px)
    gated = [_gated(_shift(one), settings) for one in measured]
    scene = gated[0] if len(gated) == 1 else _gated(_shift(reduce(add, measured)), settings)
    patches = tuple(_patch_or_scene(one, scene) for one in gated)
    return BlockRegistration(patches=patches, scene=scene)


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


def _surfaces(
    sar: F32, optical: F32, masked: Bool | None, windows: Sequence[Window], search_px: int
) -> list[_Surfaces]:
    """Correlation surfaces of each window. Orientation fields are computed once for all of them."""
    fields_sar, valid_sar = _fields(_sar_channels(sar), masked, SAR_SMOOTHING_PX)
    each_optical, valid_optical = _fields(_optical_channels(optical), masked, OPTICAL_SMOOTHING_PX)
    fields_optical = each_optical.sum(axis=0)
    measured = []
    for window in windows:
        row, col, rows, cols = (value // BINNING for value in window)
        area = np.s_[..., row : row + rows, col : col + cols]
        surfaces, overlap = correlate(
            fields_sar[area], fields_optical[area], valid_sar[area], valid_optical[area], search_px // BINNING
        )
        joint = surfaces.sum(axis=0, keepdims=True)
        surfaces = joint if len(surfaces) == 1 else np.concatenate([joint, surfaces[:2]])
        measured.append(_Surfaces(surfaces=surfaces, overlap=overlap))
    return measured


def _sar_channels(sar: F32) -> F32:
    """Logarithm of the binned power, (P, h, w)."""
    return np.log(np.maximum(block_mean(sar, BINNING), np.float32(SAR_FLOOR_LINEAR)))


def _optical_channels(optical: F32) -> F32:
    """Roots of brightness as three channels, (C, h, w); a single band stays one channel.

    They are the mean of all bands but the last, the last (near infrared), and the last minus the one before (near
    infrared minus red), which shows vegetation. Three channels cost less than four bands. Over nine real chips they are
    as good: better on six at 64 px, worse on the one under snow.
    """
    root = np.sqrt(np.maximum(block_mean(optical, BINNING), np.float32(0)))
    if len(root) == 1:
        return root
    return np.stack([root[:-1].mean(axis=0), root[-1], root[-1] - root[-2]])


def _fields(channels: F32, masked: Bool | None, smoothing_px: float) -> tuple[F32, Bool]:
    """Orientation fields (C, 3, h, w) of channels (C, h, w), and where they are valid (h, w).

    masked: (H, W) before binning. smoothing_px: standard deviation, in pixels before binning.
    """
    valid: Bool = np.asarray(np.isfinite(channels).all(axis=0))
    if masked is not None:
        valid &= block_mean(masked.astype(np.float32), BINNING) == 0
    if not valid.all():
        channels = np.where(valid, channels, np.float32(0))
    passes = round(2 * (smoothing_px / BINNING) ** 2)
    free = out_of_reach(valid, smoothing_passes=passes)
    return orientation_fields(channels, free, smoothing_passes=passes), free


def _shift(measured: _Surfaces) -> Shift:
    """The shift in pixels before binning, without thresholds."""
    overlap = np.broadcast_to(measured.overlap, measured.surfaces.shape)
    joint, *single = locate_peaks(measured.surfaces, overlap)
    spread = float("nan")
    if single:
        first, second = single
        spread = float(np.hypot(first.row_px - second.row_px, first.col_px - second.col_px)) * BINNING / 2
    return Shift(
        row_px=joint.row_px * BINNING,
        col_px=joint.col_px * BINNING,
        psr=joint.psr,
        polarisation_spread_px=spread,
        status="measured" if joint.inside else "unmeasurable",
    )


def _gated(shift: Shift, settings: RegistrationConfig) -> Shift:
    wide = shift.polarisation_spread_px > settings.max_polarisation_spread_px  # NaN, one polarisation, is not wide
    if shift.status == "measured" and shift.psr >= settings.min_psr and not wide:
        return shift
    return replace(shift, row_px=float("nan"), col_px=float("nan"), status="unmeasurable")


def _patch_or_scene(patch: Shift, scene: Shift) -> Shift:
    if patch.status == "measured" or scene.status == "unmeasurable":
        return patch
    return replace(patch, row_px=scene.row_px, col_px=scene.col_px, status="scene")
