"""Radiometric calibration: digital numbers to backscatter, with thermal noise removed.

sigma0 = (DN^2 - noise) / A_sigma^2, and likewise beta0 and gamma0 (against the ellipsoid) with their own vectors.
noise = range vector x azimuth factor of the block that the pixel lies in. Where blocks overlap, the later one counts. A
pixel in no block has the factor 1, as all pixels of stripmap products and of products before IPF 2.9 do.
Source: Sentinel-1 product specification, S1-RS-MDA-52-7441; radiometric calibration, ESA-EOPG-CSCOP-TN-0002;
thermal denoising, MPC-0392.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import numpy as np

from sar1m.core.radar.compiled import compiled
from sar1m.core.radar.lut import LutRows, lut_rows
from sar1m.core.radar.product import AzimuthNoise, GrdChannel, ImageWindow, LutVectors, ThermalNoise
from sar1m.records import F32, F64, I64, U16

Quantity = Literal["sigma0", "beta0", "gamma0"]

NO_BLOCK_FACTOR: Final = 1.0


class _NoiseRows(NamedTuple):
    """Noise prepared for a window.

    span: (blocks, 4) first and last line, first and last sample of each block, included, from the window's corner.
    factor: (blocks, lines).
    """

    range_power: LutRows
    span: I64
    factor: F64


def calibrate(dn: U16, window: ImageWindow, channel: GrdChannel, quantity: Quantity, *, denoise: bool) -> F32:
    """Backscatter of a window in linear power, (lines, samples); NaN where DN is 0 (no data).

    Values may be negative after noise removal and are kept: clipping would bias every mean. Arithmetic is in float64;
    the result is rounded once.

    dn: (lines, samples) digital numbers of the window.
    denoise: whether to subtract thermal noise; without effect where the processor has done so (channel.noise is None).
    Raises ValueError where the shape of dn is not the window's.
    """
    if dn.shape != (window.lines, window.samples):
        raise ValueError(f"digital numbers of shape {dn.shape}, expected the window's {(window.lines, window.samples)}")
    noise = channel.noise if denoise else None
    rows = _no_noise() if noise is None else _noise_rows(noise, window)
    power = np.empty(dn.shape, np.float32)
    _calibrate(dn, lut_rows(_vectors(channel, quantity), window), rows, noise is not None, power)
    return power


def nesz(channel: GrdChannel, window: ImageWindow) -> float | None:
    """Mean noise-equivalent sigma nought of a window, linear.

    Pixels whose annotated noise is 0 are left out: tables hold 0 under the image's empty border. None where no pixel
    remains (early products annotate no noise) and where the processor has removed the noise.
    """
    if channel.noise is None:
        return None
    total, count = _sum_nesz(_noise_rows(channel.noise, window), lut_rows(channel.sigma, window), window.samples)
    return total / count if count else None


def _vectors(channel: GrdChannel, quantity: Quantity) -> LutVectors:
    return {"sigma0": channel.sigma, "beta0": channel.beta, "gamma0": channel.gamma}[quantity]


def _noise_rows(noise: ThermalNoise, window: ImageWindow) -> _NoiseRows:
    blocks = [block for block in noise.azimuth if _touches(block, window)]
    line = np.arange(window.line, window.line + window.lines)
    reach = [(b.first_line, b.last_line, b.first_sample, b.last_sample) for b in blocks]
    corner = np.array([window.line, window.line, window.sample, window.sample], np.int64)
    span = np.array(reach, np.int64).reshape(-1, 4) - corner
    factor = np.array([np.interp(line, block.line, block.factor) for block in blocks]).reshape(-1, window.lines)
    return _NoiseRows(lut_rows(noise.range_power, window), span, factor)


def _touches(block: AzimuthNoise, window: ImageWindow) -> bool:
    return (
        block.first_line < window.line + window.lines
        and block.last_line >= window.line
        and block.first_sample < window.sample + window.samples
        and block.last_sample >= window.sample
    )


def _no_noise() -> _NoiseRows:
    empty = LutRows(np.zeros((2, 0)), np.zeros(0, np.int64), np.zeros(0))
    return _NoiseRows(empty, np.zeros((0, 4), np.int64), np.zeros((0, 0)))


@compiled
def _blend(rows: LutRows, line: int, out: F64) -> None:
    """Writes one line of a table to out, (samples,). line: from the window's first."""
    below, above, weight = rows.row[rows.lower[line]], rows.row[rows.lower[line] + 1], rows.weight[line]
    for j in range(out.size):
        out[j] = below[j] + weight * (above[j] - below[j])


@compiled
def _noise_line(noise: _NoiseRows, line: int, factor: F64, out: F64) -> None:
    """Writes one line of noise power to out, (samples,). factor: scratch of the same shape."""
    _blend(noise.range_power, line, out)
    factor[:] = NO_BLOCK_FACTOR
    for b in range(noise.span.shape[0]):
        if noise.span[b, 0] <= line <= noise.span[b, 1]:
            factor[max(noise.span[b, 2], 0) : min(noise.span[b, 3] + 1, out.size)] = noise.factor[b, line]
    for j in range(out.size):
        out[j] *= factor[j]


@compiled
def _calibrate(dn: U16, amplitude: LutRows, noise: _NoiseRows, denoise: bool, power: F32) -> None:
    lines, samples = dn.shape
    gain, removed, factor = np.empty(samples), np.zeros(samples), np.empty(samples)
    for i in range(lines):
        _blend(amplitude, i, gain)
        if denoise:
            _noise_line(noise, i, factor, removed)
        for j in range(samples):
            number = np.float64(dn[i, j])
            value = (number * number - removed[j]) / (gain[j] * gain[j])
            power[i, j] = value if number > 0.0 else np.nan


@compiled
def _sum_nesz(noise: _NoiseRows, amplitude: LutRows, samples: int) -> tuple[float, int]:
    out, factor, gain = np.empty(samples), np.empty(samples), np.empty(samples)
    total, count = 0.0, 0
    for i in range(amplitude.lower.size):
        _blend(amplitude, i, gain)
        _noise_line(noise, i, factor, out)
        for j in range(samples):
            if out[j] > 0.0:
                total += out[j] / (gain[j] * gain[j])
                count += 1
    return total, count
