"""Groups of near-copies: images that show the same echoes again, turned, moved a little, or with another contrast.

SAR-ACD holds every aircraft about four times with changed brightness, so a random split asks for images that were
taught: a nearest neighbour on raw pixels is right in 93.6 % of them. Speckle tells copies from likenesses: two
acquisitions of one aircraft have different speckle, two copies of one acquisition the same. What is compared is
therefore fine texture, in two steps:

1. `candidates`: moduli of the Fourier transform, which no shift changes, over the four turns and flips that a modulus
   can tell apart. One matrix product of S x 4 S short rows in blocks: 3,000 images take under a second, 100,000 some
   minutes on one core, and memory grows with S alone.
2. `similarity`: of the candidates, normalised correlation over all eight turns and flips and over shifts.

Not found: copies that were scaled, turned by other angles than 90 degrees, or moved by more than MOST_SHIFT_PX, and
images that share an edge alone. Threshold and its evidence: tests/benchmarks/results/near_copies.md.
"""

# S samples, N pairs, D side of a descriptor, K kept frequencies

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

WINDOW_PX: Final = 64  # side of the window in the middle of an image that is compared
SIDE: Final = 32  # D: of a descriptor, cells of 2 x 2 px
MOST_SHIFT_PX: Final = 4
SAME: Final = 0.7  # similarity from which two images are near-copies
_PROMISING: Final = 0.5  # of moduli, from which a pair is looked at
_SMOOTH_PX: Final = 15  # what is wider than this is contrast and scene, not texture
_BAND: Final = 11  # frequencies up to this many cycles a window are kept; above lies what JPEG changes
_BLOCK: Final = 512
_BLANK: Final = 1e-6  # standard deviation of log amplitude under which an image has no texture to compare

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


class Pairs(NamedTuple):
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


def describe(grey: NDArray[np.floating]) -> F32:
    """(SIDE, SIDE) texture of unit norm and mean 0; all 0 for an image without texture, which is no copy of any other.

    grey: (rows, cols) amplitudes, NaN: no data. Values below 0 are taken as they are on a scale of dB, others on a
    log scale, on which gain and gamma corrections are a sum and a factor. Smaller images than WINDOW_PX stand in the
    middle of an empty window.
    """
    missing = ~np.isfinite(grey)
    filled = np.where(missing, 0, grey).astype(np.float64)
    log = filled if (filled < 0).any() else np.log1p(filled)
    if missing.all() or log[~missing].std() < _BLANK:
        return np.zeros((SIDE, SIDE), dtype=np.float32)
    texture = np.where(missing, 0, log - _local_mean(np.where(missing, log[~missing].mean(), log)))
    cells = _window(texture).reshape(SIDE, WINDOW_PX // SIDE, SIDE, WINDOW_PX // SIDE).mean(axis=(1, 3))
    cells -= cells.mean()
    norm = np.linalg.norm(cells)
    return (cells / max(norm, _BLANK)).astype(np.float32)


def find_groups(descriptors: F32, same: float = SAME) -> I64:
    """(S,) group of each image of descriptors (S, D, D): near-copies, and near-copies of near-copies, share one.

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


def leaks(descriptors: F32, splits: NDArray[np.str_], names: Sequence[str], same: float = SAME) -> tuple[Leak, ...]:
    """Near-copies across splits, the most alike first."""
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


def candidates(descriptors: F32) -> Pairs:
    """Pairs of descriptors (S, D, D) whose Fourier moduli are alike in some turn; the others are no near-copies."""
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
    columns = [np.concatenate(column) for column in zip(*blocks, strict=True)] or [np.empty(0)] * 3
    order = np.argsort(-columns[2], kind="stable")
    return Pairs(
        columns[0][order].astype(np.int64), columns[1][order].astype(np.int64), columns[2][order].astype(np.float32)
    )


def similarity(descriptors: F32, first: I64, second: I64) -> F32:
    """(N,) largest normalised correlation of each pair over turns, flips and shifts up to MOST_SHIFT_PX."""
    likeness = np.empty(len(first), dtype=np.float32)
    for start in range(0, len(first), _BLOCK):
        part = slice(start, start + _BLOCK)
        likeness[part] = _correlate(descriptors[first[part]], descriptors[second[part]])
    return likeness


def _correlate(ones: F32, others: F32) -> NDArray[np.float64]:
    """(N,) largest value of eight circular cross-correlations near their origins. Mirroring about cell 0 mirrors the
    spectrum; it lies one cell off mirroring about the middle, which one more cell of shift makes good."""
    most = MOST_SHIFT_PX * SIDE // WINDOW_PX + 1
    near = np.arange(-most, most + 1) % SIDE
    mirrored = -np.arange(SIDE) % SIDE
    half = slice(SIDE // 2 + 1)
    spectra, turned = np.fft.fft2(ones)[:, :, half], np.conj(np.fft.fft2(others))
    best = np.full(len(ones), -1.0)
    for way in (turned, turned.transpose(0, 2, 1)):
        for one in (way, way[:, mirrored], way[:, :, mirrored], way[:, mirrored][:, :, mirrored]):
            surface = np.fft.irfft2(spectra * one[:, :, half], s=(SIDE, SIDE))
            best = np.maximum(best, surface[:, near][:, :, near].max(axis=(1, 2)))
    return best


def _moduli(descriptors: F32) -> list[F32]:
    """Four times (S, K), rows of mean 0 and unit norm: moduli of the lower frequencies, as they are, flipped,
    transposed, and both. A modulus is even, so half of the plane and four of the eight turns say everything."""
    plane = np.fft.fftshift(np.abs(np.fft.fft2(descriptors)), axes=(1, 2)).astype(np.float32)
    middle = slice(SIDE // 2 - _BAND, SIDE // 2 + _BAND + 1)
    plane = plane[:, middle, middle]
    plane -= plane.mean(axis=0) if len(plane) > _BLOCK else 0  # what all have in common tells no copy
    half = np.arange(plane[0].size).reshape(plane[0].shape) < plane[0].size // 2
    transposed = plane.transpose(0, 2, 1)
    return [_unit_rows(one[:, half]) for one in (plane, plane[:, :, ::-1], transposed, transposed[:, :, ::-1])]


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
    """The representative of each member; paths are shortened for all while looking."""
    while (parents != (shorter := parents[parents])).any():
        parents[:] = shorter
    return parents[members]


def _join(parents: I64, one: int, other: int) -> None:
    """Makes the groups of two members one; the lower number represents it."""
    while parents[one] != one:
        one = int(parents[one])
    while parents[other] != other:
        other = int(parents[other])
    parents[max(one, other)] = min(one, other)
