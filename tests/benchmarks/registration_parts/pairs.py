"""Pairs and rival methods for the benchmarks of registration: real chips, simulated blocks, phase correlation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
import scipy.fft

from sar1m.config import BuildConfig, GridConfig, RegistrationConfig, SimulatedConfig
from sar1m.core.registration import register_block
from sar1m.records import F32
from sar1m.sources.sample import SampleSource
from sar1m.sources.simulated import SimulatedSource
from sar1m.store.errors import SourceError

RTC_FOLDER = Path(__file__).resolve().parents[4] / "shared" / "data" / "s1s2_rtc_pairs"
BANDS_10M_OF_12 = (2, 3, 4, 8)  # B02, B03, B04, B08 among the twelve of the RTC pairs
SEARCH_PX = 16
LOW_PASS_PX = 1.5  # Gaussian, of the rivals: the best of 0, 1.5 and 2.5
UNGATED = RegistrationConfig(search_px=SEARCH_PX, min_psr=1e-6, max_polarisation_spread_px=1e6)


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """sar (2, n, n) linear power and optical (4, n, n) reflectance of one place. truth_px: known shift, or None."""

    name: str
    sar: F32
    optical: F32
    truth_px: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A measured shift with its confidence; spread_px is NaN where a method has none."""

    row_px: float
    col_px: float
    psr: float
    spread_px: float = float("nan")


Method = Callable[[F32, F32], Estimate]


def sample_pairs() -> Iterator[Pair]:
    """The six BigEarthNet chips, 120 px; none where the sample package is not installed."""
    config = BuildConfig(grid=GridConfig(patch_px=112, halo_px=4))
    source = SampleSource()
    try:
        candidates = list(source.candidates(config))
    except SourceError:
        return
    for candidate in candidates:
        pixels = source.read(candidate, config)
        assert pixels.registration_optical is not None
        yield Pair(name=candidate.site, sar=pixels.sar, optical=pixels.registration_optical)


def rtc_pairs() -> Iterator[Pair]:
    """The three 224 px pairs beside the checkout; none where that folder is absent."""
    for sar_path in sorted((RTC_FOLDER / "S1RTC").glob("*.tif")):
        with rasterio.open(sar_path) as raster:
            sar = 10 ** (raster.read() / 10)
        with rasterio.open(RTC_FOLDER / "S2L2A" / sar_path.name) as raster:
            optical = raster.read(BANDS_10M_OF_12) / 1e4
        yield Pair(name=sar_path.stem, sar=sar.astype(np.float32), optical=optical.astype(np.float32))


def simulated_pairs(enl: float, count: int) -> Iterator[Pair]:
    """Clear simulated blocks of 256 px with their true shift."""
    config = BuildConfig(
        grid=GridConfig(patch_px=256, patches_per_side=1, halo_px=0),
        simulated=SimulatedConfig(enl=enl, max_shift_px=6, cloudy_share=0, unpaired_share=0),
    )
    source = SimulatedSource(count)
    for candidate in source.candidates(config):
        pixels = source.read(candidate, config)
        assert pixels.registration_optical is not None
        yield Pair(
            name=candidate.site,
            sar=pixels.sar,
            optical=pixels.registration_optical,
            truth_px=pixels.truth_shift_px,
        )


def double_angle(sar: F32, optical: F32) -> Estimate:
    """The package's method on one window, without its gate."""
    window = (0, 0, *sar.shape[-2:])
    shift = register_block(sar, optical, masked=None, windows=[window], settings=UNGATED).scene
    return Estimate(row_px=shift.row_px, col_px=shift.col_px, psr=shift.psr, spread_px=shift.polarisation_spread_px)


def phase_single(sar: F32, optical: F32) -> Estimate:
    """Phase correlation (Kuglin and Hines 1975) of the first polarisation with red; the highest absolute peak, since
    contrast may be reversed."""
    return _phase(_sar_db(sar[:1]), _root(optical[2:3]), signed=False)


def phase_summed(sar: F32, optical: F32) -> Estimate:
    """Phase correlation of gradient magnitudes, whitened spectra summed over polarisations and over bands: the best
    of seven variants tried on these pairs (brightness or magnitude, signed or absolute, three low-passes)."""
    return _phase(_magnitude(_sar_db(sar)), _magnitude(_root(optical)), signed=True)


METHODS: dict[str, Method] = {
    "double angle": double_angle,
    "phase, channels summed": phase_summed,
    "phase, one channel": phase_single,
}


def _sar_db(sar: F32) -> F32:
    return np.log(np.maximum(sar, np.float32(10**-3.5)))


def _root(optical: F32) -> F32:
    return np.sqrt(np.maximum(optical, 0))


def _magnitude(channels: F32) -> F32:
    down, right = np.gradient(channels, axis=(1, 2))
    return np.sqrt(down**2 + right**2)


def _phase(fixed: F32, moving: F32, *, signed: bool) -> Estimate:
    shape = fixed.shape[-2:]
    cross = np.conj(_whitened(fixed)) * _whitened(moving) * _low_pass(*shape)
    surface = scipy.fft.irfft2(cross, s=shape)
    lags = np.arange(-SEARCH_PX, SEARCH_PX + 1)
    window = surface[lags[:, None], lags]
    return _peak(window if signed else np.abs(window))


@lru_cache(maxsize=32)
def _low_pass(rows: int, cols: int) -> F32:
    frequency2 = scipy.fft.fftfreq(rows)[:, None] ** 2 + scipy.fft.rfftfreq(cols)[None] ** 2
    return np.exp(-2 * np.pi**2 * LOW_PASS_PX**2 * frequency2).astype(np.float32)


def _whitened(channels: F32) -> npt.NDArray[np.complex64]:
    rows, cols = (np.hanning(size).astype(np.float32) for size in channels.shape[-2:])
    channels = (channels - channels.mean(axis=(-2, -1), keepdims=True)) * rows[:, None] * cols
    spectrum = scipy.fft.rfft2(channels)
    return (spectrum / np.maximum(np.abs(spectrum), np.float32(1e-12))).sum(axis=0)


def _peak(surface: F32) -> Estimate:
    row, col = np.unravel_index(np.argmax(surface), surface.shape)
    outside = np.ones(surface.shape, bool)
    outside[max(0, row - 6) : row + 7, max(0, col - 6) : col + 7] = False
    psr = (surface[row, col] - surface[outside].mean()) / surface[outside].std()
    offsets = []
    for line, at in ((surface[:, col], row), (surface[row], col)):
        inside = 0 < at < len(line) - 1
        left, middle, right = (float(line[at + k]) for k in (-1, 0, 1)) if inside else (0.0, 1.0, 0.0)
        offsets.append(at + 0.5 * (left - right) / (left - 2 * middle + right) - SEARCH_PX)
    return Estimate(row_px=float(offsets[0]), col_px=float(offsets[1]), psr=float(psr))
