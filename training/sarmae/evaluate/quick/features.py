"""Does a run predict masked patches, and do its projected features match their own optical partner?"""

# B batch, S samples, N patches, K visible ones, P polarisations, V values of a patch, T teacher width

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from sarmae.evaluate.quick.quick_check import QuickCheck
from sarmae.model.loss import patch_moments
from sarmae.model.patches import mask_by_noise
from sarmae.model.sarmae import SarMae
from sarmae.train.objective import Projector
from sarmae.train.step import Views

RECONSTRUCTION: Final = "reconstruction"
PAIRS: Final = "optical pairs"
LEAST_PAIRS: Final = 8
SURE: Final = 2.0  # standard errors


@torch.no_grad()
def check_reconstruction(model: SarMae, batches: Sequence[Views]) -> QuickCheck:
    """Mean squared errors over measured values, in the unit of the first target (pixels: normalised decibels, in which
    a band's standard deviation is 1): on masked and on visible patches, and of predictors that need no model.

    With norm_pix the prediction gets the patch's own mean and contrast back, so it is compared to a flat patch of that
    mean.
    """
    parts = [_squared_errors(model, views) for views in batches]
    sums, counts = (torch.stack([part[place] for part in parts]).sum(dim=0) for place in (0, 1))
    errors = {name: float(value) for name, value in zip(_ERRORS, (sums / counts.clamp(min=1)).tolist(), strict=True)}
    by_patch = model.spec.standardises(model.spec.target_parts[0])
    rival = _OWN_MEAN if by_patch else _VISIBLE_MEAN
    if not by_patch:
        del errors[_OWN_MEAN]
    explained = 1 - errors[_MASKED] / max(errors[rival], 1e-12)
    what = "better" if explained > 0 else "worse"
    rival_name = {_OWN_MEAN: "flat patches of their own mean", _VISIBLE_MEAN: "the mean of the visible patches"}[rival]
    samples = sum(len(views.noise) for views in batches)
    return QuickCheck(
        name=RECONSTRUCTION,
        compared=f"predictions on masked and visible patches of {samples} samples, and predictors that need no model",
        values=(*errors.items(), ("share of the error explained on masked patches", explained)),
        verdict=(
            f"Masked patches are predicted {abs(explained):.1%} {what} than by {rival_name}. Visible patches are not "
            f"part of the loss: their error is {errors[_VISIBLE] / max(errors[_MASKED], 1e-12):.2f} times that of "
            "masked ones. Speckle in the target cannot be predicted, so no error can be 0."
        ),
    )


_MASKED: Final = "masked patches"
_VISIBLE: Final = "visible patches"
_OWN_MEAN: Final = "masked, each patch's own mean"
_VISIBLE_MEAN: Final = "masked, mean of the visible patches"
_BAND_MEAN: Final = "masked, mean of the band"
_ERRORS: Final = (_MASKED, _VISIBLE, _OWN_MEAN, _VISIBLE_MEAN, _BAND_MEAN)


def _squared_errors(model: SarMae, views: Views) -> tuple[Tensor, Tensor]:
    """Sums of squared errors and measured values, (5,) float64 each, in the order of _ERRORS."""
    spec = model.spec
    predicted, (target, measured) = model.answers(views.input_db, views.target_db, views.noise)
    masked = mask_by_noise(views.noise, spec.kept, 0).mask.bool()[:, :, None]
    seen = _visible_means(target, measured & ~masked, spec.part_features(spec.target_parts[0]))
    nothing = torch.zeros_like(target)
    asked = [
        (predicted, masked),
        (predicted, ~masked),
        (patch_moments(target, measured).mean, masked),
        (seen, masked),
        (nothing, masked),
    ]
    counted = [measured & where for _, where in asked]
    errors = [(guess - target).double().square() for guess, _ in asked]
    sums = torch.stack([(error * valid).sum() for error, valid in zip(errors, counted, strict=True)])
    return sums, torch.stack([valid.sum().double() for valid in counted])


def _visible_means(target: Tensor, valid: Tensor, bands: int) -> Tensor:
    """(B, 1, V): each sample's mean over visible measured values of each band, or feature."""
    by_band, there = (part.view(*part.shape[:2], -1, bands) for part in (target, valid))
    mean: Tensor = (by_band * there).sum(dim=(1, 2)) / there.sum(dim=(1, 2)).clamp(min=1)
    return mean.repeat(1, target.shape[2] // bands)[:, None]


@torch.no_grad()
def check_pairs(model: SarMae, projector: Projector, batches: Sequence[Views]) -> QuickCheck:
    """Cosine between projected visible tokens and the teacher's features at the same places: of their own optical
    partner, and of another sample's. Both raw, and after subtraction of the mean feature on both sides.

    A constant, the mean feature of the teacher, is compared to the partners too: SARC's loss reaches that value without
    any knowledge of the image.
    """
    projected, own, other = _features(model, projector, batches)
    samples = 0 if projected is None or own is None or other is None else len(projected)
    compared = f"projected SAR tokens of {samples} samples, the teacher's features of their own and of other partners"
    if samples < LEAST_PAIRS or projected is None or own is None or other is None:
        verdict = f"Not checked: {samples} paired samples, {LEAST_PAIRS} needed."
        return QuickCheck(name=PAIRS, compared=compared, values=(), verdict=verdict)
    mean_own, mean_projected = own.mean(dim=(0, 1)), projected.mean(dim=(0, 1))
    raw = [_cosine(projected, anchors) for anchors in (own, other)]
    centred = [_cosine(projected - mean_projected, anchors - mean_own) for anchors in (own, other)]
    constant = float(_cosine(mean_own.expand_as(own), own).mean())
    gain = (centred[0] - centred[1]).mean(dim=1)
    error = float(gain.std()) / math.sqrt(samples)
    values = (
        ("cosine, own partner", float(raw[0].mean())),
        ("cosine, another's partner", float(raw[1].mean())),
        ("cosine, a constant to the partners", constant),
        ("centred cosine, own partner", float(centred[0].mean())),
        ("centred cosine, another's partner", float(centred[1].mean())),
        ("centred, own less another's", float(gain.mean())),
        ("its standard error over samples", error),
        ("share of tokens nearer to their own partner", float((centred[0] > centred[1]).float().mean())),
    )
    return QuickCheck(name=PAIRS, compared=compared, values=values, verdict=_pairs_verdict(dict(values)))


def _pairs_verdict(values: dict[str, float]) -> str:
    gain, error = values["centred, own less another's"], values["its standard error over samples"]
    raw, constant = values["cosine, own partner"], values["cosine, a constant to the partners"]
    against = f"The raw cosine is {raw:.2f}; a constant reaches {constant:.2f}"
    if gain > SURE * error:
        return f"Features match their own partner: centred cosine higher by {gain:.3f} +- {error:.3f}. {against}."
    return (
        f"Features do not match their own partner: centred cosine differs by {gain:.3f} +- {error:.3f}. {against}, so "
        "the raw cosine is no evidence."
    )


def _features(
    model: SarMae, projector: Projector, batches: Sequence[Views]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """(S, K, T) of paired samples: projected tokens, features of the own partner, of the next sample's at the same
    places; None without pairs."""
    projected, places, anchors = [], [], []
    for views in batches:
        if views.anchors is not None and bool(views.paired.any()):
            out = model(views.input_db[views.paired], views.target_db[views.paired], views.noise[views.paired])
            projected.append(projector(out.visible).float())
            places.append(out.ids_keep)
            anchors.append(views.anchors[views.paired].float())
    if not projected:
        return None, None, None
    every, where = torch.cat(anchors), torch.cat(places)[:, :, None]
    return torch.cat(projected), every.take_along_dim(where, 1), every.roll(1, 0).take_along_dim(where, 1)


def _cosine(first: Tensor, second: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(first, second, dim=-1)
