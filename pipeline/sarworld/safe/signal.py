"""From the mean image to digital numbers: thermal noise, speckle, reflectors, borders."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from sar1m.core.radar.product import GrdChannel
from sar1m.core.speckle import speckle_field
from sar1m.records import F32, Bool
from sarworld.fields import keyed_rng
from sarworld.safe.corner_reflectors import add_target
from sarworld.safe.measurement import Strip
from sarworld.safe.radiometry import BETA_GAIN, noise_power
from sarworld.safe.scenario import SceneSpec
from sarworld.safe.truth import SafeTruth

GARBAGE_DN: Final = 12.0  # scale of the numbers that early processors left at borders
_STAGGER_PX: Final = 5  # real edges are staggered from swath part to swath part along azimuth


def valid_pixels(spec: SceneSpec) -> Bool:
    """Mask of pixels that hold signal, (lines, samples).

    A staggered band at near and far range holds none, and with border_garbage neither do the first and last lines.
    """
    blank = spec.signal.blank_px
    valid = np.ones((spec.lines, spec.samples), dtype=np.bool_)
    if blank == 0:
        return valid
    edge = blank + _STAGGER_PX * (np.arange(spec.lines) * 3 // spec.lines % 2)
    sample = np.arange(spec.samples)
    valid &= (sample >= edge[:, None]) & (sample < spec.samples - edge[:, None])
    if spec.signal.border_garbage:
        valid[:blank] = False
        valid[-blank:] = False
    return valid


def digital_numbers(truth: SafeTruth, channel: GrdChannel) -> npt.NDArray[np.uint16]:
    """Digital numbers of one channel, (lines, samples), as in the measurement."""
    spec, at = truth.spec, truth.product.channels.index(channel)
    power: F32 = truth.image.beta0[at] * np.float32(BETA_GAIN**2)
    power += noise_power(channel, slice(0, spec.lines), spec.samples)
    if spec.signal.looks is not None:
        rng = keyed_rng(spec.seed, spec.name, f"SAFE speckle {channel.polarisation}")
        power *= speckle_field(rng, power.shape, looks=spec.signal.looks, correlated=spec.signal.correlated)
    for reflector in truth.reflectors:
        add_target(power, reflector.line, reflector.sample, reflector.energy * BETA_GAIN**2)
    numbers = np.clip(np.rint(np.sqrt(power)), 1, 65535)
    return np.where(truth.image.valid, numbers, _border(spec, channel)).astype(np.uint16)


def _border(spec: SceneSpec, channel: GrdChannel) -> F32:
    """Digital numbers of pixels without signal, (lines, samples): 0, or the garbage of early processors."""
    shape = (spec.lines, spec.samples)
    if not spec.signal.border_garbage:
        return np.zeros(shape, dtype=np.float32)
    rng = keyed_rng(spec.seed, spec.name, f"border {channel.polarisation}")
    garbage: F32 = np.float32(GARBAGE_DN) * np.sqrt(rng.standard_exponential(shape, dtype=np.float32))
    return np.floor(garbage)


def image_strips(truth: SafeTruth, channel: GrdChannel) -> Iterator[Strip]:
    """The image of one channel as one strip."""
    yield 0, digital_numbers(truth, channel)
