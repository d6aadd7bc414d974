"""Groups of near-copies: images of the same echoes, turned, shifted a little, or with another contrast.

SAR-ACD holds every aircraft about four times with changed brightness. A random split would test on images that were in
training: a nearest neighbour on raw pixels is right for 93.6 % of them. Speckle distinguishes copies from similar
images: two acquisitions of one aircraft have different speckle, two copies of one acquisition have the same. So fine
texture is compared, in two steps:

1. `candidates`: compares moduli of the Fourier transform, which do not change with a shift, over the four turns and
flips that a modulus can distinguish. This is one matrix product of S x 4 S short rows, in blocks: 3,000 images take
under a second, 100,000 some minutes on one core, and memory grows with S alone.
2. `similarity`: of the candidates, the normalised correlation over all eight turns and flips and over shifts of whole
pixels up to MOST_SHIFT_PX, computed from the few frequencies kept.

Not found: copies that were scaled, turned by other angles than 90 degrees, or shifted by more than MOST_SHIFT_PX, and
images that overlap only at an edge. Threshold and its evidence: tests/benchmarks/results/near_copies.md.
"""

# S samples, N pairs, K kept frequencies from -BAND to BAND, H those from 0 to BAND, T shifts along a side

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

WINDOW_PX: Final = 64  # side of the window in the middle of an image that is compared
BAND: Final = 11  # frequencies up to this many cycles a window are kept; above lies what JPEG changes
MOST_SHIFT_PX: Final = 4
SAME: Final = 0.75  # similarity from which two images are near-copies
_PROMISING: Final = 0.5  # of moduli, from which a pair is looked at
_SMOOTH_PX: Final = 15  # what is wider than this is contrast and scene, not texture
_BLOCK: Final = 512
_ENOUGH: Final = 256  # images, from which the mean of the moduli is removed: it is common to all images
_BLANK: Final = 1e-6  # standard deviation of log amplitude under which an image has no texture to compare

_ROWS: Final = np.concatenate([np.arange(BAND + 1), np.arange(-BAND, 0)])  # K, in the order of np.fft
_COLS: Final = np.arange(BAND + 1)  # H; the other half of a real image's plane is their conjugate

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
C64 = NDArray[np.complex64]


class CandidatePairs(NamedTuple):
    """Pairs of images: first, second (N,) int64 with first < second; likeness (N,) float32, the largest first."""

    first: I64
    second: I64
    likeness: F32


@dataclass(frozen=True, kw_only=True)
class Leak:
    """Two images of different splits that are near-copies. similarity: in [SAME, 1]."""

    first: str
    second: str
    splits: tuple[str, str]
    similarity: float


def describe(grey: NDArray[np.floating]) -> C64:
    """(K, H) spectrum of the texture, with norm 1 over the whole plane. All 0 for an image without texture, which is a
    copy of no other.

    grey: (rows, cols) amplitudes, NaN where there is no data. With a value below 0 the scale is taken to be dB and used
    as it is; else the logarithm is used, on which gain and gamma corrections are a sum and a factor. Images smaller
    than WINDOW_PX stand in the middle of an empty window.
    """
    missing = ~np.isfinite(grey)
    filled = np.where(missing, 0, grey).astype(np.float64)
    log = filled if (filled < 0).any() else np.log1p(filled)
    if missing.all() or log[~missing].std() < _BLANK:
        return np.zeros((len(_ROWS), len(_COLS)), dtype=np.complex64)
    texture = np.where(missing, 0, log - _local_mean(np.where(missing, log[~missing].mean(), log)))
    spectrum = np.fft.rfft2(_window(texture))[_ROWS][:, _COLS]
    spectrum[0, 0] = 0
    energy = float((_weights() * np.abs(spectrum) ** 2).sum())
    return np.asarray(spectrum / max(np.sqrt(energy), _BLANK), dtype=np.complex64)


def find_groups(descriptors: C64, same: float = SAME) -> I64:
    """(S,) the group of each image. descriptors: (S, K, H). Near-copies, and near-copies of near-copies, are one group.

    Groups are numbered from 0 by their first image.
    """
    parents = np.arange(len(descriptors))
    pairs = candidates(descriptors)
    for start in range(0, len(pairs.first), _BLOCK):
        first, second = (column[start : start + _BLOCK] for column in pairs[:2])
        apart = _roots(parents, first) != _roots(parents, second)  # the others are joined already
        likeness = similarity(descriptors, first[apart], second[apart])
        for one, other in zip(first[apart][likeness >= same], second[apart][likeness >= same], strict=True):
            _join(parents, int(one), int(other))
    return np.unique(_roots(parents, np.arange(len(parents))), return_inverse=True)[1].astype(np.int64)


def leaks(descriptors: C64, splits: NDArray[np.str_], names: Sequence[str], same: float = SAME) -> tuple[Leak, ...]:
    """Near-copies in different splits, the most similar first."""
    pairs = candidates(descriptors)
    across = splits[pairs.first] != splits[pairs.second]
    first, second = pairs.first[across], pairs.second[across]
    likeness = similarity(descriptors, first, second)
    order = np.argsort(-likeness, kind="stable")
    return tuple(
        Leak(
            first=names[first[pair]],
            second=names[second[pair]],
            splits=(str(splits[first[pair]]), str(splits[second[pair]])),
            similarity=float(likeness[pair]),
        )
        for pair in order[likeness[order] >= same]
    )


def candidates(descriptors: C64) -> CandidatePairs:
    """Pairs of descriptors (S, K, H) with similar Fourier moduli in some turn. All other pairs are not near-copies."""
    turned = _moduli(descriptors)
    blocks = []
    for start in range(0, len(descriptors), _BLOCK):
        best = turned[0][start : start + _BLOCK] @ turned[0][start:].T
        for other in turned[1:]:
            np.maximum(best, turned[0][start : start + _BLOCK] @ other[start:].T, out=best)
        first, second = np.nonzero(best > _PROMISING)
        forward = first < second  # both count from start
        first, second = first[forward], second[forward]
        blocks.append((first + start, second + start, best[first, second]))
    columns = [np.concatenate(column) for column in zip(*blocks, strict=True)] or [
        np.empty(0) for _ in CandidatePairs._fields
    ]
    order = np.argsort(-columns[2], kind="stable")
    return CandidatePairs(
        columns[0][order].astype(np.int64), columns[1][order].astype(np.int64), columns[2][order].astype(np.float32)
    )


def similarity(descriptors: C64, first: I64, second: I64) -> F32:
    """(N,) largest normalised correlation of each pair over turns, flips and shifts up to MOST_SHIFT_PX."""
    likeness = np.empty(len(first), dtype=np.float32)
    for start in range(0, len(first), _BLOCK):
        part = slice(start, start + _BLOCK)
        likeness[part] = _correlate(descriptors[first[part]], descriptors[second[part]])
    return likeness


def _correlate(ones: C64, others: C64) -> F32:
    """(N,) largest value of eight cross-correlations near their origins. Mirroring a spectrum mirrors about pixel 0,
    one off the middle of the window, which one more pixel of shift makes good."""
    shifts = _shifts()
    best = np.full(len(ones), -1.0, dtype=np.float32)
    for turned in _eight(others):
        products = np.ascontiguousarray(ones * np.conj(turned)).reshape(len(ones), len(_ROWS) * len(_COLS))
        best = np.maximum(best, (products.view(np.float32) @ shifts).max(axis=1))
    return best


def _shifts() -> F32:
    """(2 K H, T T): turns real and imaginary parts of a product of spectra into its correlation at each shift, in one
    matrix product of real numbers."""
    shifts_px = np.arange(-MOST_SHIFT_PX - 1, MOST_SHIFT_PX + 2)
    down = np.exp(2j * np.pi / WINDOW_PX * np.outer(_ROWS, shifts_px))  # (K, T)
    along = _weights().T * np.exp(2j * np.pi / WINDOW_PX * np.outer(_COLS, shifts_px))  # (H, T)
    both = np.einsum("kr,hc->khrc", down, along).reshape(len(_ROWS) * len(_COLS), -1)
    return np.stack([both.real, -both.imag], axis=1).reshape(2 * len(both), -1).astype(np.float32)


def _eight(spectra: C64) -> list[C64]:
    """(N, K, H) of the eight turns and flips of the square."""
    back = -np.arange(len(_ROWS))
    flipped = [way for whole in (spectra, _transposed(spectra)) for way in (whole, whole[:, back])]
    return [*flipped, *(np.conj(way) for way in flipped)]


def _transposed(spectra: C64) -> C64:
    """The spectra of the transposed images; of the half that is not kept, the conjugates."""
    below = _ROWS[:, None] < 0
    rows = np.where(below, -_COLS, _COLS)
    found = spectra[:, rows, np.abs(_ROWS)[:, None]]
    return np.asarray(np.where(below, np.conj(found), found))


def _weights() -> NDArray[np.float64]:
    """(1, H): how often a kept frequency stands in the whole plane."""
    return np.where(_COLS == 0, 1.0, 2.0)[None]


def _moduli(descriptors: C64) -> list[F32]:
    """Four times (S, K H), rows of mean 0 and unit norm: moduli as they are, flipped, transposed, and both. A modulus
    is even, so four of the eight turns say everything."""
    back = -np.arange(len(_ROWS))
    ways = [way for whole in (descriptors, _transposed(descriptors)) for way in (whole, whole[:, back])]
    moduli = [np.abs(way).reshape(len(descriptors), len(_ROWS) * len(_COLS)) for way in ways]
    common = sum(one.mean(axis=0) for one in moduli) / len(moduli) if len(descriptors) >= _ENOUGH else 0
    return [_unit_rows(one - common) for one in moduli]


def _unit_rows(rows: F32) -> F32:
    rows = rows - rows.mean(axis=1, keepdims=True)
    norms: F32 = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(norms, np.float32(1e-12)))


def _local_mean(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over a square of _SMOOTH_PX, edges repeated."""
    padded = np.pad(image, _SMOOTH_PX // 2, mode="edge")
    summed = np.pad(padded, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    side = _SMOOTH_PX
    total = summed[side:, side:] - summed[:-side, side:] - summed[side:, :-side] + summed[:-side, :-side]
    return np.asarray(total / side**2)


def _window(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """(WINDOW_PX, WINDOW_PX) from the middle; 0 beyond the image."""
    cut = image[tuple(slice(max(0, (side - WINDOW_PX) // 2), None) for side in image.shape)][:WINDOW_PX, :WINDOW_PX]
    before = [(WINDOW_PX - side) // 2 for side in cut.shape]
    return np.pad(cut, [(low, WINDOW_PX - side - low) for low, side in zip(before, cut.shape, strict=True)])


def _roots(parents: I64, members: I64) -> I64:
    """The representative of each member. Paths are shortened for all members on the way."""
    while (parents != (shorter := parents[parents])).any():
        parents[:] = shorter
    return parents[members]


def _join(parents: I64, one: int, other: int) -> None:
    """Merges the groups of two members. The lower number represents both."""
    while parents[one] != one:
        one = int(parents[one])
    while parents[other] != other:
        other = int(parents[other])
    parents[max(one, other)] = min(one, other)
