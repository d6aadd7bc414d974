"""The shift between a SAR and an optical picture of one place, patch by patch and for the scene pair as a whole.

Many small patches that say little each say much together: the correlation surfaces of a block's patches are added
before the peak is looked for. The median of per-patch shifts is far worse than the peak of the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import numpy as np

from sar1m.config import RegistrationConfig
from sar1m.core.correlation import (
    NO_PEAK,
    C64,
    Peak,
    Surface,
    correlate,
    locate_peak,
    orientation_fields,
    window_spectra,
)
from sar1m.core.resample import shift_subpixel
from sar1m.records import F32, Bool, Shift

Window = tuple[int, int, int, int]  # row, col, rows, cols in pixels of the block

SAR_FLOOR_LINEAR = 10**-3.5  # -35 dB, under the noise floor of Sentinel-1 (NESZ -22 to -25 dB)


@dataclass(frozen=True, kw_only=True)
class BlockRegistration:
    """Shifts of a block: one a patch in the order of the windows, and the scene pair's from the summed surfaces."""

    patches: tuple[Shift, ...]
    scene: Shift


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """How well injected shifts come back, in pixels: recovered less (own baseline + injected), rows and columns; and
    the same with another shift injected for each of two polarisations, as half the difference of their errors (NaN
    with one polarisation). psr of the baseline. All NaN where nothing can be measured."""

    error_row_px: float
    error_col_px: float
    polarisation_row_px: float
    polarisation_col_px: float
    psr: float


@dataclass(frozen=True, kw_only=True, eq=False)
class _Surfaces:
    """Surfaces of one window: all polarisations together, and each of the first two (none with one polarisation)."""

    joint: Surface
    single: tuple[Surface, ...]


def register_block(
    sar: F32, optical: F32, *, masked: Bool | None, windows: Sequence[Window], settings: RegistrationConfig
) -> BlockRegistration:
    """Shifts of the optical against the SAR content: rows down, columns right.

    sar: (P, H, W) linear power; optical: (B, H, W), reflectance or display brightness, the 10 m bands. NaN without
    data; a pixel counts where every channel has a value and masked (H, W; clouds) is False. windows: the patches
    with their halo. A patch under the gate takes the scene pair's shift (status scene) where that passes, and is
    unmeasurable with NaN shifts otherwise; its own psr and spread are kept. Without any data: psr NaN.
    """
    fields_sar, valid_sar = _fields(_sar_brightness(sar), masked)
    fields_optical, valid_optical = _fields(_optical_brightness(optical), masked)
    surfaces = []
    for row, col, rows, cols in windows:
        area = np.s_[row : row + rows, col : col + cols]
        spectra_sar = window_spectra(fields_sar[:, :, *area], valid_sar[area], settings.search_px)
        spectra_optical = window_spectra(fields_optical.sum(axis=0)[:, *area], valid_optical[area], settings.search_px)
        surfaces.append(_window_surfaces(spectra_sar, spectra_optical, settings.search_px, (rows, cols)))
    scene = _gated(_scene_shift(surfaces), settings)
    patches = tuple(_patch_or_scene(_gated(_shift(one, 1), settings), scene) for one in surfaces)
    return BlockRegistration(patches=patches, scene=scene)


def recover_shifts(sar: F32, optical: F32, *, rng: np.random.Generator, settings: RegistrationConfig) -> Recovery:
    """Injects a known sub-pixel shift into the optical patch and measures it again; the self-test of a build.

    sar (P, H, W) and optical (B, H, W) as in register_block, one patch with its halo. Shifts are drawn evenly
    within a third of the search range. On featureless land errors are small for the wrong reason (the same noise is
    measured twice), which the polarisations' disagreement shows.
    """
    whole = (0, 0, *sar.shape[-2:])
    limit = settings.search_px / 3
    injected = [rng.uniform(-limit, limit, size=2) for _ in range(2)]
    moved = [shift_subpixel(optical, *shift_px) for shift_px in injected]

    def measured(channels: F32, partner: F32) -> np.ndarray:
        block = register_block(channels, partner, masked=None, windows=[whole], settings=settings)
        return np.array([block.scene.row_px, block.scene.col_px])

    baseline = register_block(sar, optical, masked=None, windows=[whole], settings=settings).scene
    error = measured(sar, moved[0]) - (baseline.row_px, baseline.col_px) - injected[0]
    pair = [measured(sar[k : k + 1], moved[k]) - injected[k] for k in range(min(2, len(sar)))]
    half = (pair[0] - pair[1]) / 2 if len(pair) == 2 else np.full(2, np.nan)
    return Recovery(
        error_row_px=float(error[0]),
        error_col_px=float(error[1]),
        polarisation_row_px=float(half[0]),
        polarisation_col_px=float(half[1]),
        psr=baseline.psr,
    )


def _sar_brightness(sar: F32) -> F32:
    return np.log(np.maximum(sar, np.float32(SAR_FLOOR_LINEAR)))


def _optical_brightness(optical: F32) -> F32:
    return np.sqrt(np.maximum(optical, np.float32(0)))


def _fields(brightness: F32, masked: Bool | None) -> tuple[F32, Bool]:
    valid = np.isfinite(brightness).all(axis=0)
    if masked is not None:
        valid &= ~masked
    finite = np.where(np.isfinite(brightness), brightness, np.float32(0))
    return orientation_fields(finite, valid), valid


def _window_surfaces(sar: C64, optical: C64, search_px: int, window: tuple[int, int]) -> _Surfaces:
    joint = sar.sum(axis=0)
    joint[3] = sar[0, 3]
    single = sar[:2] if len(sar) > 1 else sar[:0]
    return _Surfaces(
        joint=correlate(joint, optical, search_px, window),
        single=tuple(correlate(one, optical, search_px, window) for one in single),
    )


def _scene_shift(surfaces: Sequence[_Surfaces]) -> Shift:
    if not surfaces:
        return _as_shift(NO_PEAK, float("nan"))
    total = _Surfaces(
        joint=reduce(add, (one.joint for one in surfaces)),
        single=tuple(reduce(add, column) for column in zip(*(one.single for one in surfaces), strict=True)),
    )
    return _shift(total, len(surfaces))


def _shift(surfaces: _Surfaces, patches: int) -> Shift:
    spread = float("nan")
    if surfaces.single:
        first, second = (locate_peak(one, patches) for one in surfaces.single)
        spread = float(np.hypot(first.row_px - second.row_px, first.col_px - second.col_px)) / 2
    return _as_shift(locate_peak(surfaces.joint, patches), spread)


def _as_shift(peak: Peak, spread_px: float) -> Shift:
    return Shift(
        row_px=peak.row_px,
        col_px=peak.col_px,
        psr=peak.psr,
        polarisation_spread_px=spread_px,
        status="measured" if peak.inside else "unmeasurable",
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
