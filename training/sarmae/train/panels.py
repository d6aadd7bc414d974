"""A picture of what a model reconstructs. A row is a sample: input, visible part, reconstruction, target."""

# B samples, P polarisations, S side of the crop

from __future__ import annotations

import torch
from torch import Tensor

from sarmae.model.patches import to_images
from sarmae.model.sarmae import SarMae
from sarmae.train.step import Views

SAMPLES = 4
GAP_PX = 4
MASKED_GREY = 0.5
SPAN_STD = 2.5  # grey runs over mean -+ this many standard deviations of the band


def panel(model: SarMae, views: Views) -> Tensor:
    """(3, B S + gaps, 4 S + gaps) uint8 of the first SAMPLES samples: input, visible part, reconstruction, target.

    First polarisation, decibels as grey by the model's own statistics. Patches that were seen stand in the
    reconstruction as they were: what is predicted there enters no loss and means nothing. With norm_pix each
    reconstructed patch carries its own target's mean and contrast, as in the figures of He et al. 2021. Where pixels
    are no target, reconstruction and target show the first feature of the first target, by its own spread.
    """
    input_db, target_db, noise = (part[:SAMPLES] for part in (views.input_db, views.target_db, views.noise))
    seen, given = _visible(noise, model), _grey(input_db, model)
    if model.spec.target_parts[0] == "pixel":
        answer, target = _grey(model.reconstruct(input_db, target_db, noise), model), _grey(target_db, model)
        filled = torch.where(seen, given, answer)
    else:
        answer, target = _features(model, input_db, target_db, noise)
        filled = torch.where(seen, target, answer)
    shown = torch.where(seen, given, torch.full_like(given, MASKED_GREY))
    rows = [torch.cat(_spaced(list(row), axis=1), dim=1) for row in zip(given, shown, filled, target, strict=True)]
    picture = torch.cat(_spaced(rows, axis=0), dim=0)
    return (picture * 255).round().to(torch.uint8).cpu().expand(3, -1, -1)


def _features(model: SarMae, input_db: Tensor, target_db: Tensor, noise: Tensor) -> list[Tensor]:
    """Prediction and target, (B, S, S) in 0..1 each; what was not measured is black in the target."""
    answer, (wanted, valid) = model.answers(input_db, target_db, noise)
    spread = wanted[valid].std().nan_to_num(nan=1.0).clamp(min=1e-6)
    places = round((wanted.shape[2] / model.spec.part_features(model.spec.target_parts[0])) ** 0.5)
    pictures = []
    for values, there in ((answer, torch.ones_like(valid)), (wanted, valid)):
        grey = torch.where(there, (values / (2 * SPAN_STD * spread) + 0.5).clamp(0, 1), 0.0)
        first = to_images(grey, places)[:, :1]
        pictures.append(torch.nn.functional.interpolate(first, size=input_db.shape[2:], mode="nearest")[:, 0])
    return pictures


def _visible(noise: Tensor, model: SarMae) -> Tensor:
    """(B, S, S) bool: pixels of patches that the encoder saw."""
    spec = model.spec
    ranks = noise.argsort(dim=1).argsort(dim=1)
    kept = (ranks < spec.kept).view(-1, spec.grid, spec.grid)
    return kept.repeat_interleave(spec.patch_px, dim=1).repeat_interleave(spec.patch_px, dim=2)


def _grey(images_db: Tensor, model: SarMae) -> Tensor:
    """(B, S, S) in 0..1 of the first polarisation; no data is black."""
    normalised = model.normalise(images_db)[:, 0]
    grey = (normalised / (2 * SPAN_STD) + 0.5).clamp(0, 1)
    return torch.where(images_db[:, 0].isnan(), 0.0, grey)


def _spaced(images: list[Tensor], *, axis: int) -> list[Tensor]:
    """Images with white gaps between them along an axis."""
    shape = list(images[0].shape)
    shape[axis] = GAP_PX
    gap = images[0].new_ones(shape)
    return [part for image in images for part in (gap, image)][1:]
