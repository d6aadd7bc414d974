"""What masked patches are to be predicted as: their pixels, or features of them that speckle moves less.

pixel: normalised decibels. lowpass: the mean power around a place, in normalised decibels. log_ratio: for each size and
axis, the logarithm of the ratio of the mean powers of two opposite windows (the ratio detector of Touzi, Lopes and
Bousquet 1988, "A statistical and geometrical edge detector for SAR images"). hog: histograms of the gradients'
orientations (Dalal and Triggs 2005; as a target Wei et al. 2022, "MaskFeat"). mix: all four, by weight.

All but pixel see over the borders of a patch: their windows are wider than it.
"""

# B batch, P polarisations, C features of a place, N patches, M decoded ones, g places along a side of a patch

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

import torch
from torch import Tensor

from sarmae.model.loss import standardised
from sarmae.model.patches import flat_targets, take_patches
from sarmae.model.spec import HOG_BINS, RATIO_SIZES_PX, ModelSpec

LOWPASS_PX: Final = 9  # side of the window
LEAST_SHARE: Final = 0.25  # of a window's pixels that must be measured
DECIBELS: Final = 10 / math.log(10)  # of one unit of natural logarithm
HOG_FLOOR: Final = 1e-3  # under the length of a histogram, in normalised decibels: flat places stay near 0

Normalisation = Callable[[Tensor], Tensor]
Window = tuple[Tensor, Tensor]  # first and last + 1 pixel numbers along an axis, of each place


class Targets(NamedTuple):
    """values: (B, M, V). valid: (B, M, V) bool, where they rest on enough measured pixels."""

    values: Tensor
    valid: Tensor


def make_targets(images_db: Tensor, ids: Tensor, spec: ModelSpec, normalise: Normalisation) -> Targets:
    """The targets of the patches at ids (B, M) of images_db (B, P, H, W) in dB, NaN: no data.

    V is spec.target_values. normalise: the model's, of (any, P, H, W) dB. Parts of a mix follow each other in the order
    of TARGETS, scaled so that the mean squared error over all values is the weighted mean of the parts' own.
    """
    parts = {name: _PARTS[name](images_db, ids, spec, normalise) for name in spec.target_parts}
    values = [part.values * spec.part_scale(name) for name, part in parts.items()]
    return Targets(torch.cat(values, dim=2), torch.cat([part.valid for part in parts.values()], dim=2))


def _pixels(images_db: Tensor, ids: Tensor, spec: ModelSpec, normalise: Normalisation) -> Targets:
    """Only the patches asked for are touched."""
    wanted = take_patches(images_db, ids, spec.patch_px)
    values, valid = flat_targets(normalise(wanted.flatten(0, 1)).view_as(wanted)), ~flat_targets(wanted).isnan()
    return Targets(standardised(values, valid) if spec.norm_pix else values, valid)


def _lowpass(images_db: Tensor, ids: Tensor, spec: ModelSpec, normalise: Normalisation) -> Targets:
    half = LOWPASS_PX // 2
    places = _places(spec, images_db.device)
    window = _window(places, -half, half + 1)
    power = _MeanPower(images_db)(window, window, LOWPASS_PX**2)
    mean_db = DECIBELS * power.log()
    targets = _of_patches(normalise(mean_db), ~mean_db.isnan(), ids, spec.places)
    return Targets(standardised(*targets), targets.valid) if spec.norm_pix else targets


def _log_ratios(images_db: Tensor, ids: Tensor, spec: ModelSpec, _normalise: Normalisation) -> Targets:
    places, mean_power = _places(spec, images_db.device), _MeanPower(images_db)
    maps = []
    for size in RATIO_SIZES_PX:
        half = size // 2
        before, after, across = (_window(places, *ends) for ends in ((-half, 0), (1, half + 1), (-half, half + 1)))
        for first, second in (((before, across), (after, across)), ((across, before), (across, after))):
            powers = [mean_power(*windows, half * size) for windows in (first, second)]
            maps.append(powers[0].log() - powers[1].log())
    ratios = torch.cat(maps, dim=1)
    return _of_patches(ratios.nan_to_num(nan=0.0, posinf=math.inf, neginf=-math.inf), ~ratios.isnan(), ids, spec.places)


def _histograms(images_db: Tensor, ids: Tensor, spec: ModelSpec, normalise: Normalisation) -> Targets:
    """Of unsigned orientations, of normalised decibels, each gradient shared by the two nearest bins; length 1."""
    image = torch.where(images_db.isnan(), torch.nan, normalise(images_db))
    inner = torch.nn.functional.pad(image, (1, 1, 1, 1), value=torch.nan)
    down, right = inner[..., 2:, 1:-1] - inner[..., :-2, 1:-1], inner[..., 1:-1, 2:] - inner[..., 1:-1, :-2]
    measured = ~(down.isnan() | right.isnan())
    length = torch.hypot(down, right).where(measured, 0.0)
    bins = torch.atan2(down, right).where(measured, 0.0) % math.pi * (HOG_BINS / math.pi)
    lower = bins.floor()
    share, lower = bins - lower, lower.long() % HOG_BINS
    shape = (*image.shape[:2], HOG_BINS, *image.shape[2:])
    votes = image.new_zeros(shape)
    votes.scatter_(2, lower[:, :, None], (length * (1 - share))[:, :, None])
    votes.scatter_add_(2, ((lower + 1) % HOG_BINS)[:, :, None], (length * share)[:, :, None])
    side = spec.patch_px // spec.hog_cells
    cells = torch.nn.functional.avg_pool2d(votes.flatten(1, 2), side).view(*shape[:3], *(n // side for n in shape[3:]))
    cells = cells / (cells.norm(dim=2, keepdim=True) + HOG_FLOOR)
    enough = torch.nn.functional.avg_pool2d(measured.float(), side) >= LEAST_SHARE
    return _of_patches(cells.flatten(1, 2), enough.repeat_interleave(HOG_BINS, dim=1), ids, spec.hog_cells)


_PARTS: Final = {"pixel": _pixels, "lowpass": _lowpass, "log_ratio": _log_ratios, "hog": _histograms}


def _places(spec: ModelSpec, device: torch.device) -> Tensor:
    """Pixel numbers, along one axis, of the places at which windows are centred: the middles of equal cells."""
    side = spec.patch_px // spec.places
    return torch.arange(spec.image_px // side, device=device) * side + side // 2


def _window(places: Tensor, start: int, stop: int) -> Window:
    return places + start, places + stop


class _MeanPower:
    """Mean linear power in windows of images (B, P, H, W) in dB, cut at the image's borders, by integral images.

    Sums are float64: an integral image holds the whole scene's power, and dark windows are small differences of it.
    """

    def __init__(self, images_db: Tensor) -> None:
        measured = ~images_db.isnan()
        power = (images_db / DECIBELS).exp().where(measured, 0.0)
        layers = torch.stack([power, measured.float()]).double()
        self._integral = torch.nn.functional.pad(layers.cumsum(dim=-2).cumsum(dim=-1), (1, 0, 1, 0))

    def __call__(self, rows: Window, columns: Window, whole: int) -> Tensor:
        """(B, P, n, n) float32 for n x n windows; NaN where less than LEAST_SHARE of a window's `whole` pixels are
        measured."""
        height, width = (size - 1 for size in self._integral.shape[-2:])
        top, bottom = (self._integral[..., ends.clamp(0, height), :] for ends in rows)
        left, right = (ends.clamp(0, width) for ends in columns)
        band = bottom - top
        total, count = band[..., right] - band[..., left]
        return torch.where(count >= LEAST_SHARE * whole, total / count, torch.nan).float()


def _of_patches(maps: Tensor, valid: Tensor, ids: Tensor, places: int) -> Targets:
    """Of maps (B, C, h, w) with g = places a patch, what belongs to the patches at ids: (B, M, g * g * C)."""
    return Targets(*(flat_targets(take_patches(layer, ids, places)) for layer in (maps, valid)))
