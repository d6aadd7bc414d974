"""Building blocks of the simulated world: keyed randomness, fractal fields, and a sensor's point spread function."""

from __future__ import annotations

import hashlib
import math
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from sar1m.records import F32

PSF_SIGMA_PX: Final = 0.8  # of a Gaussian: about 19 m between half-power points on a 10 m grid
PSF_RADIUS_PX: Final = 5


def keyed_rng(seed: int, *names: str) -> np.random.Generator:
    """A Philox generator keyed by a seed and names.

    The same seed and names give the same stream on any worker and in any order; others give independent streams.
    """
    text = "\x00".join((str(seed), *names))
    key = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))


def fractal_field(
    rng: np.random.Generator, shape: tuple[int, int], *, slope: float, longest_px: float, shortest_px: float
) -> F32:
    """A random field of mean 0 and variance 1, (rows, cols), whose power falls as wavenumber^-slope.

    The field is periodic on a raster that is up to a few pixels larger than shape. A raster smaller than longest_px
    has the lower variance of a window of that size.

    slope: of the two-dimensional power spectrum; 3 is rough ground, 4 smooth hills.
    longest_px: longer wavelengths fade out. shortest_px: shorter wavelengths are absent.
    Source: spectral synthesis of fractional Brownian surfaces, Saupe 1988.
    """
    rows, cols = (fft.next_fast_len(length, real=True) for length in shape)
    top, right = (min(max(1, int(length / shortest_px)), (length - 1) // 2) for length in (rows, cols))
    wave_y = np.concatenate([np.arange(0, top + 1), np.arange(-top, 0)]) / rows
    wave_x = np.arange(0, right + 1) / cols
    square = wave_y[:, None] ** 2 + wave_x[None, :] ** 2 + longest_px**-2.0
    amplitude = (square ** (-slope / 4)).astype(np.float32)
    amplitude[0, 0] = 0
    modes = rng.standard_normal((2, *amplitude.shape), dtype=np.float32)
    spectrum = np.zeros((rows, cols // 2 + 1), dtype=np.complex64)
    waves = (modes[0] + 1j * modes[1]) * amplitude
    spectrum[: top + 1, : right + 1] = waves[: top + 1]
    spectrum[-top:, : right + 1] = waves[-top:]
    field: F32 = fft.irfft2(spectrum, s=(rows, cols), workers=1)
    share = min(1.0, math.sqrt(rows * cols) / longest_px)  # of the wavelengths that fit on the raster
    field *= np.float32(share ** max(0.0, slope / 2 - 1)) / field.std()
    return field[: shape[0], : shape[1]]


def observe(scene: F32, shift_px: tuple[float, float], margin_px: int) -> F32:
    """The scene as seen by a sensor with a point spread function, whose image is displaced.

    Displacement and blur are one step: a Gaussian point spread function sampled off centre. A displacement by a
    fraction of a pixel is therefore as exact as one by whole pixels (phase error under 0.002 px for wavelengths of
    4 px and more).

    scene: (rows, cols) with a margin of margin_px on each side. The result has no margin.
    shift_px: rows down, columns right.
    Raises ValueError where the margin is too small for the displacement.
    """
    needed = margin_for(max(abs(shift_px[0]), abs(shift_px[1])))
    if margin_px < needed:
        raise ValueError(f"a displacement by {shift_px} px needs a margin of {needed} px; the scene has {margin_px} px")
    image = scene
    for axis, shift in enumerate(shift_px):
        whole = math.floor(shift + 0.5)
        image = ndimage.correlate1d(image, _taps(shift - whole), axis=axis)
        kept = slice(margin_px - whole, image.shape[axis] - margin_px - whole)
        image = image[kept] if axis == 0 else image[:, kept]
    return image


def margin_for(largest_shift_px: float) -> int:
    """The margin in pixels that observe needs on each side for shifts up to largest_shift_px."""
    return math.ceil(largest_shift_px) + PSF_RADIUS_PX + 1


def _taps(fraction_px: float) -> npt.NDArray[np.float64]:
    # the image at r shows what lies at r - fraction: tap j weighs scene[r + j] by its distance from there
    offsets = np.arange(-PSF_RADIUS_PX, PSF_RADIUS_PX + 1) + fraction_px
    weights: npt.NDArray[np.float64] = np.exp(-(offsets**2) / (2 * PSF_SIGMA_PX**2))
    weights /= weights.sum()
    return weights
