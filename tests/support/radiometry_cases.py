"""Small channels and images whose radiometry is known, for the tests of lut, calibration and border."""

from dataclasses import replace

import numpy as np

from sar1m.core.radar.calibration import calibrate
from sar1m.core.radar.product import AzimuthNoise, GrdChannel, ImageWindow, LutVectors, ThermalNoise

RAISED = 2.0**60


def window(line, sample, lines, samples):
    return ImageWindow(line=line, sample=sample, lines=lines, samples=samples)


def table(line, sample, value):
    """value(line, sample) annotated at line, each vector at its own samples."""
    samples = tuple(np.asarray(s, np.int64) for s in sample)
    values = tuple(np.asarray(value(at, s), np.float64) for at, s in zip(line, samples, strict=True))
    return LutVectors(line=np.asarray(line, np.int64), sample=samples, value=values)


def flat_table(lines, samples, value):
    """The same everywhere on an image."""
    return table([0, lines - 1], [[0, samples - 1]] * 2, lambda at, s: np.full(len(s), float(value)))


def block(swath, lines, samples, factor):
    """lines, samples: first and last, ends included; factor: at the first and at the last line."""
    return AzimuthNoise(
        swath=swath,
        first_line=lines[0],
        last_line=lines[1],
        first_sample=samples[0],
        last_sample=samples[1],
        line=np.array(lines, np.int64),
        factor=np.array(factor, np.float64),
    )


def channel(sigma, noise, *, beta=None, gamma=None, azimuth=()):
    """noise: table of range power, or None."""
    return GrdChannel(
        polarisation="VV",
        measurement="measurement/none.tiff",
        sigma=sigma,
        beta=sigma if beta is None else beta,
        gamma=sigma if gamma is None else gamma,
        noise=None if noise is None else ThermalNoise(range_power=noise, azimuth=tuple(azimuth)),
    )


def removed_noise(noise, at):
    """Noise in DN^2 that calibrate takes off in a window, in the precision of its results, float32.

    DN and calibration vector are 1, and the noise is raised by a power of two, beside which DN^2 = 1 vanishes.
    """
    raised = replace(noise.range_power, value=tuple(value * RAISED for value in noise.range_power.value))
    ones = channel(table([0], [[0]], lambda _, s: np.ones(len(s))), raised, azimuth=noise.azimuth)
    power = calibrate(np.ones((at.lines, at.samples), np.uint16), at, ones, "sigma0", denoise=True)
    return -power.astype(np.float64) / RAISED


def lut_values(lut, at):
    """Values of a table in a window, read as noise."""
    return removed_noise(ThermalNoise(range_power=lut, azimuth=()), at)


AMPLITUDE, NOISE_DN2 = 600.0, 900.0  # noise-equivalent sigma nought of -26 dB


def flat_channel(lines, samples, noise_dn2=NOISE_DN2):
    """A channel whose vectors are the same everywhere."""
    noise = None if noise_dn2 is None else flat_table(lines, samples, noise_dn2)
    return channel(flat_table(lines, samples, AMPLITUDE), noise)


def speckled(mean_power, rng, looks=4.4):
    """Digital numbers of a mean power, with independent speckle."""
    return np.rint(np.sqrt(mean_power * rng.gamma(looks, 1 / looks, np.shape(mean_power)))).astype(np.uint16)
