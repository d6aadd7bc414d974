"""Has the injected speckle of a run the statistics it should have, and those of the speckle in the scenes?"""

# B batch, P polarisations, H W pixels, n windows of w x w pixels, q points of a distribution function

from __future__ import annotations

import math
from typing import Final, NamedTuple

import torch
from torch import Tensor

from sar1m.store.schema import SAR_FLOOR_DB
from sarmae.config import SareConfig
from sarmae.evaluate.quick.quick_check import QuickCheck
from sarmae.sare import Sare
from sarmae.sare.extra_speckle import DECIBELS
from sarmae.stream.batch import Batch

NAME: Final = "injected speckle"
WINDOW_PX: Final = 14
MOST_SPREAD: Final = 1.5  # of a window's variance over what the measured looks allow: above it there is structure
LEAST_WINDOWS: Final = 20
MEAN_TOLERANCE: Final = 0.02
LOOKS_TOLERANCE: Final = 0.1
LAW_TOLERANCE: Final = 0.03
LAG_TOLERANCE: Final = 0.15

_WITH_LOOKS: Final = ("gamma", "correlated")  # models whose factor is Gamma(L, 1/L) with the L that is drawn
_POINTS: Final = torch.logspace(-4, 1.5, 2048, dtype=torch.float64)


class _Law(NamedTuple):
    """Of factors, averaged over images: mean, equivalent looks, Kolmogorov-Smirnov distance to unit-mean gamma."""

    mean: float
    looks: float
    distance: float


def check_speckle(sare: SareConfig, values: Batch, units: str, seed: int) -> QuickCheck:
    """The statistics of injected speckle. The factor is noisy over clean power, pixel by pixel.

    values: dequantised samples.
    units: of the values; only decibels are checked.
    Models gamma and correlated are checked at their fewest, middle and most looks, against the gamma law of these
    looks; other models as they draw, the factor of each image against the gamma law of its own looks. Speckle of the
    scenes is measured in windows that are homogeneous by their measured looks.
    """
    if sare.speckle == "none" or units != DECIBELS:
        why = "the run injects no speckle" if sare.speckle == "none" else f"speckle is checked in dB, not in {units}"
        return QuickCheck(name=NAME, compared="nothing", values=(), verdict=f"Not checked: {why}.")
    found: list[tuple[str, float]] = []
    remarks: list[str] = []
    noisy = values.sar
    for looks in _levels(sare):
        drawn = {} if looks is None else {"min_looks": looks, "max_looks": looks}
        config = sare.model_copy(update={"probability": 1.0, **drawn})
        noisy = Sare(config, seed=seed, units=units)(values)[0]
        law = _law(noisy, values.sar, looks)
        label = "as drawn" if looks is None else f"{looks:.3g} looks"
        names = ("mean of the factor", "ENL of the factor", "KS distance to gamma")
        found += [(f"{label}: {name}", value) for name, value in zip(names, law, strict=True)]
        remarks += _remarks(label, law, looks)
    claim = "; ".join(remarks) if remarks else "the factor has mean 1 and the gamma law of the looks it claims"
    lags, seen = _neighbours(values, noisy)
    compared = (
        f"noisy over clean power of {len(values)} samples under {sare.speckle} speckle, against a unit-mean gamma law; "
        "neighbouring pixels in homogeneous windows, injected against measured"
    )
    return QuickCheck(name=NAME, compared=compared, values=(*found, *lags), verdict=f"{_sentence(claim)} {seen}")


def _levels(sare: SareConfig) -> list[float | None]:
    if sare.speckle not in _WITH_LOOKS:
        return [None]
    low, high = sare.min_looks, sare.max_looks
    return list(dict.fromkeys((high, math.sqrt(low * high), low)))


def _law(noisy: Tensor, clean: Tensor, looks: float | None) -> _Law:
    laws = []
    for image, before in zip(noisy.flatten(0, 1), clean.flatten(0, 1), strict=True):
        factor = _factor(image, before)
        if len(factor) > 1:
            mean = float(factor.mean())
            own = mean**2 / float(factor.var())
            laws.append(_Law(mean, own, _distance(factor / (mean if looks is None else 1), looks or own)))
    return _Law(*(sum(column) / len(laws) for column in zip(*laws, strict=True))) if laws else _Law(*(math.nan,) * 3)


def _factor(noisy: Tensor, clean: Tensor) -> Tensor:
    """Float64 ratios of power where both were measured and speckle did not end at the store's floor."""
    measured = clean.isfinite() & (noisy > SAR_FLOOR_DB)
    ratio: Tensor = 10 ** ((noisy - clean)[measured].double() / 10)
    return ratio


def _distance(factor: Tensor, looks: float) -> float:
    """The largest difference of the distribution functions at _POINTS."""
    points = _POINTS.to(factor.device)
    found = torch.searchsorted(factor.sort().values, points, right=True) / len(factor)
    shape = torch.tensor(looks, dtype=torch.float64, device=factor.device)
    return float((found - torch.special.gammainc(shape, shape * points)).abs().max())


def _remarks(label: str, law: _Law, looks: float | None) -> list[str]:
    found = []
    if not abs(law.mean - 1) <= MEAN_TOLERANCE:
        found.append(f"{label}: the factor's mean is {law.mean:.3f}, not 1: it brightens the scene")
    if looks is not None and not abs(law.looks / looks - 1) <= LOOKS_TOLERANCE:
        found.append(f"{label}: the factor has {law.looks:.3g} looks")
    if not law.distance <= LAW_TOLERANCE:
        found.append(f"{label}: its law is no gamma law (KS {law.distance:.3f})")
    return found


class _Homogeneous(NamedTuple):
    """Windows (n, w, w) of homogeneous areas, each over its own mean: of the scenes, of the factor, of both together.
    distances: of each image's own speckle to the gamma law of its measured looks."""

    scenes: Tensor
    injected: Tensor
    noisy: Tensor
    distances: list[float]


def _neighbours(values: Batch, noisy: Tensor) -> tuple[list[tuple[str, float]], str]:
    """Correlation of neighbours along columns in homogeneous windows, and what it says."""
    windows = _homogeneous(values, noisy)
    count = len(windows.scenes)
    if count < LEAST_WINDOWS:
        return [], f"The scenes' own speckle was not measured: {count} homogeneous windows, {LEAST_WINDOWS} needed."
    own, injected, both = (_lag(part) for part in windows[:3])
    found = [
        ("scenes: measured ENL, median", float(values.enl[values.enl.isfinite()].median())),
        ("scenes: correlation of neighbours", own),
        ("injected: correlation of neighbours", injected),
        ("after injection: correlation of neighbours", both),
    ]
    if windows.distances:
        mean = sum(windows.distances) / len(windows.distances)
        found.append(("scenes: KS distance to gamma of the measured ENL", mean))
    verdict = "as in" if abs(own - injected) <= LAG_TOLERANCE else f"by {own:.2f} in"
    return found, f"Neighbouring pixels of the injected speckle correlate by {injected:.2f}, {verdict} the scenes' own."


def _homogeneous(values: Batch, noisy: Tensor) -> _Homogeneous:
    """Windows whose spread the measured looks of their sample explain; samples without measured looks have none."""
    nothing = values.sar.new_empty(0, WINDOW_PX, WINDOW_PX)
    parts, distances = [(nothing, nothing, nothing)], []
    for number, looks in enumerate(values.enl.tolist()):
        for clean_db, noisy_db in zip(values.sar[number], noisy[number], strict=True) if looks > 0 else ():
            clean, after = _windows(10 ** (clean_db / 10)), _windows(10 ** (noisy_db / 10))
            own = _over_mean(clean)
            chosen = own.var(dim=(1, 2)) < MOST_SPREAD / looks  # False for NaN
            parts.append((own[chosen], (after / clean)[chosen], _over_mean(after)[chosen]))
            if int(chosen.sum()) >= LEAST_WINDOWS:
                distances.append(_distance(own[chosen].double().flatten(), looks))
    scenes, injected, both = (torch.cat(column) for column in zip(*parts, strict=True))
    return _Homogeneous(scenes, injected, both, distances)


def _over_mean(windows: Tensor) -> Tensor:
    return windows / windows.mean(dim=(1, 2), keepdim=True)


def _windows(power: Tensor) -> Tensor:
    """(n, w, w) windows that tile an image (H, W)."""
    tiles = power.unfold(0, WINDOW_PX, WINDOW_PX).unfold(1, WINDOW_PX, WINDOW_PX)
    return tiles.flatten(0, 1)


def _lag(windows: Tensor) -> float:
    """Correlation of neighbours along columns inside windows, each less its own mean."""
    centred = (windows - windows.mean(dim=(1, 2), keepdim=True)).double()
    return float((centred[..., :-1] * centred[..., 1:]).mean() / centred.square().mean())


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
