"""Gradient orientation in double-angle form: edges that two sensors share, whatever their contrast.

A gradient g = gx + i gy in its double-angle form, g^2/|g|, is the same for an edge from dark to bright and for one from
bright to dark (Granlund 1978, "In search of a general picture processing operator"). Each channel becomes three real
fields: |g| and the real and imaginary part of its double-angle form.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from sar1m.core.resample import block_mean
from sar1m.records import F32, Bool

ENERGY_BLOCK_PX = 8  # gradient energy is equalised over blocks of this side, smoothed over three of them
ENERGY_FLOOR = 0.3  # of the image's mean energy, added: ground as flat as noise is not raised to the weight of edges
CACHED_PX = 2**17  # are worked on at once, in strips or channels together: fewer calls, and still in the cache
FLAT = np.float32(1e-12)  # what keeps divisions finite where there is no gradient at all
MIN_FREE = 0.05  # of a block's pixels, where their mean energy is taken


def out_of_reach(valid: Bool, *, smoothing_passes: int) -> Bool:
    """Where orientation_fields do not depend on pixels without data: valid (H, W) less a margin."""
    if valid.all():
        return valid
    reach = 2 * smoothing_passes + 3
    free: Bool = ndimage.binary_erosion(valid, np.ones((reach, reach), dtype=bool), border_value=1)
    return free


def orientation_fields(brightness: F32, free: Bool, *, smoothing_passes: int, binning: int = 1) -> F32:
    """Double-angle fields of channels, (C, 3, H // binning, W // binning): |g|, and real and imaginary part of g^2/|g|.

    They are divided by the root mean square of |g| around, which has a floor (ENERGY_FLOOR). They are 0 on flat ground,
    on the border of the image and where free is False. Binned fields are means over binning x binning pixels: gradients
    are taken before, so that fine edges count.

    brightness: (C, H, W) logarithm or root of a physical value, finite everywhere.
    free: (H, W), from out_of_reach.
    smoothing_passes: number of times that the kernel (1 2 1)/4 is applied along both axes before; each adds a variance
        of half a square pixel.
    binning: a divisor of ENERGY_BLOCK_PX.
    """
    channels, rows, cols = brightness.shape
    fields = np.empty((channels, 3, rows // binning, cols // binning), np.float32)
    energy = np.empty((channels, -(-rows // ENERGY_BLOCK_PX), -(-cols // ENERGY_BLOCK_PX)), np.float32)
    gaps = None if free.all() else free
    height = max(1, CACHED_PX // (cols * ENERGY_BLOCK_PX)) * ENERGY_BLOCK_PX
    at_once = max(1, CACHED_PX // (rows * cols))
    halo = smoothing_passes + 1
    for first in range(0, channels, at_once):
        some = slice(first, first + at_once)
        for top in range(0, rows, height):
            above, bottom = max(0, top - halo), min(rows, top + height)
            gradients = _gradients(brightness[some, above : bottom + halo], smoothing_passes)
            down, right = (one[:, top - above : bottom - above] for one in gradients)
            free_rows = None if gaps is None else gaps[top:bottom]
            part = fields[some, :, top // binning : bottom // binning]
            blocks = slice(top // ENERGY_BLOCK_PX, -(-bottom // ENERGY_BLOCK_PX))
            energy[some, blocks] = _fill_fields(part, down, right, free_rows, binning)
    fields *= _equalising_gain(energy, gaps, binning)[:, None, : rows // binning, : cols // binning]
    return fields


def _gradients(brightness: F32, smoothing_passes: int) -> tuple[F32, F32]:
    """Differences down and to the right of smoothed images (C, H, W)."""
    smooth = np.ascontiguousarray(brightness)
    down, right = np.empty(smooth.shape, np.float32), np.empty(smooth.shape, np.float32)
    for number in range(smoothing_passes):
        smooth = _smooth(smooth, out=smooth if number else np.empty_like(smooth), scratch=down)
    _difference(smooth, 1, out=down)
    _difference(smooth, 2, out=right)
    return down, right


def _fill_fields(fields: F32, down: F32, right: F32, free: Bool | None, binning: int) -> F32:
    """Fills fields (C, 3, h, w), before they are equalised, and returns the energy over blocks.

    down, right: gradients (C, H, W), overwritten. free: None where all pixels are.
    """
    if free is not None:
        down *= free
        right *= free
    imaginary = down * right
    down *= down
    right *= right
    real = right - down
    right += down  # the energy
    energy = _block_energy(right)
    magnitude = np.sqrt(right, out=right)
    turned = np.add(magnitude, FLAT, out=down)
    real /= turned
    imaginary /= turned
    for number, field in enumerate((magnitude, real, imaginary)):
        fields[:, number] = block_mean(field, binning)
    fields[:, 2] *= np.float32(2)
    return energy


def _equalising_gain(energy: F32, free: Bool | None, binning: int) -> F32:
    """1 / root of the mean energy around, with a floor, over each block of energy (C, I, J), repeated for its binned
    pixels."""
    around = _smoothed_blocks(energy)
    floor = np.float32(ENERGY_FLOOR) * around.mean(axis=(1, 2), keepdims=True)
    if free is not None:
        # the mean over what is there: a lower energy beside a gap would raise both images along its edge alike
        share = _smoothed_blocks(_block_energy(free[None].astype(np.float32)))
        around /= np.maximum(share, np.float32(MIN_FREE))
        floor /= max(share.mean(), np.float32(MIN_FREE))
    around += floor + FLAT**2
    np.sqrt(around, out=around)
    repeats = ENERGY_BLOCK_PX // binning
    gain: F32 = np.repeat(np.repeat(1 / around, repeats, axis=2), repeats, axis=1)
    return gain


def _smooth(images: F32, out: F32, scratch: F32) -> F32:
    """The kernel (1 2 1)/4 applied along both axes of (C, H, W), as two running means of two, which cause no shift.

    Pixels on the border stay as they are across it. All arrays are contiguous; out may be images. Returns out.
    """
    pairs, smooth = scratch.reshape(-1), out.reshape(-1)
    four = np.float32(4)
    for axis in (1, 2):  # as one long line, several times as fast as row by row; what it puts on the border is redone
        line, step = images.reshape(-1), out.strides[axis] // out.itemsize
        kept = [end * four for end in _ends(images, axis)]
        np.add(line[step:], line[:-step], out=pairs[:-step])
        np.add(pairs[step:-step], pairs[: -2 * step], out=smooth[step:-step])
        images = out
        first, last = _ends(out, axis)
        first[:], last[:] = kept
    out *= np.float32(1 / 16)
    return out


def _difference(images: F32, axis: int, out: F32) -> None:
    """The next pixel minus the one before along axis 1 or 2 of (C, H, W); 0 on the border. Contiguous."""
    line = images.reshape(-1)
    step, (first, last) = out.strides[axis] // out.itemsize, _ends(out, axis)
    np.subtract(line[2 * step :], line[: -2 * step], out=out.reshape(-1)[step:-step])
    first[:] = last[:] = 0


def _ends(images: F32, axis: int) -> tuple[F32, F32]:
    """Views of the first and the last pixels of (C, H, W) along axis 1 or 2."""
    return (images[:, 0], images[:, -1]) if axis == 1 else (images[..., 0], images[..., -1])


def _block_energy(energy: F32) -> F32:
    """Means of (C, H, W) over blocks of ENERGY_BLOCK_PX, the last extended by its border."""
    margin = [(0, -size % ENERGY_BLOCK_PX) for size in energy.shape[1:]]
    filled = np.pad(energy, [(0, 0), *margin], mode="edge") if any(after for _, after in margin) else energy
    return block_mean(filled, ENERGY_BLOCK_PX)


def _smoothed_blocks(blocks: F32) -> F32:
    return _smooth(blocks, out=blocks, scratch=np.empty_like(blocks))
