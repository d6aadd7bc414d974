"""Injected speckle beside observed: on homogeneous windows of real Sentinel-1 chips, and of simulated ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from scipy import ndimage, stats

from sar1m.core.speckle import estimate_enl, speckle_field
from sar1m.records import F32
from sarmae.config import SareConfig
from sarmae.sare import Sare
from sarmae.stream.batch import Batch

REAL_FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data"
FOLDERS = ("s1s2_rtc_pairs/S1RTC", "flood_chips/s1")
WINDOW_PX = 14
MOST_SPREAD = 1.5  # of a window's variance over what the chip's looks allow: above it there is structure
EXTRA_LOOKS = 2.0
MIN_WINDOWS = 20


@dataclass(frozen=True, kw_only=True, eq=False)
class Chip:
    """One polarisation, (rows, cols) linear power."""

    name: str
    power: F32


def real_chips() -> Iterator[Chip]:
    """VV and VH of every chip beside the checkout that has data; none where the folders are absent."""
    for path in sorted(path for folder in FOLDERS for path in (REAL_FOLDER / folder).glob("*.tif")):
        with rasterio.open(path) as raster:
            decibels = raster.read()
        for polarisation, band in zip(("VV", "VH"), decibels, strict=True):
            if np.isfinite(band).any():
                yield Chip(name=f"{path.stem} {polarisation}", power=(10 ** (band / 10)).astype(np.float32))


def simulated_chip(looks: float, side_px: int = 512) -> Chip:
    """Fields of 64 px of different brightness under correlated speckle."""
    rng = np.random.default_rng(4)
    fields = np.kron(rng.uniform(0.02, 0.2, (side_px // 64, side_px // 64)), np.ones((64, 64)))
    speckle = speckle_field(rng, (side_px, side_px), looks=looks, correlated=True)
    return Chip(
        name=f"simulated, {looks:g} looks", power=(ndimage.uniform_filter(fields, 3) * speckle).astype(np.float32)
    )


def speckled(power: F32, **config: Any) -> tuple[F32, F32]:
    """Input and target, linear, of one image of any size; correlated models as in their default."""
    decibels = 10 * torch.from_numpy(power).log10()
    batch = Batch(
        sar=decibels[None, None],
        optical=None,
        paired=torch.ones(1, dtype=torch.bool),
        id=torch.tensor([17]),
        enl=torch.tensor([float("nan")]),
        epoch=0,
        step=0,
    )
    parts = Sare(SareConfig(**{"probability": 1.0, **config}), seed=1)(batch)
    kept, other = ((10 ** (part[0, 0] / 10)).numpy() for part in parts)
    return kept, other


def windows_of(power: F32) -> F32:
    """(n, 14, 14) windows that tile an image, each over its own mean; NaN where one holds a NaN."""
    rows, cols = (side // WINDOW_PX for side in power.shape)
    tiles = power[: rows * WINDOW_PX, : cols * WINDOW_PX].reshape(rows, WINDOW_PX, cols, WINDOW_PX)
    stacked = tiles.transpose(0, 2, 1, 3).reshape(-1, WINDOW_PX, WINDOW_PX)
    return stacked / stacked.mean(axis=(1, 2), keepdims=True)


def homogeneous(power: F32, looks: float) -> np.ndarray:
    """(n,) bool of windows_of: whose variance speckle of that many looks explains."""
    chosen: np.ndarray = windows_of(power).var(axis=(1, 2)) < MOST_SPREAD / looks  # False for NaN
    return chosen


def lagged(first: F32, second: F32, lag: int) -> float:
    """Mean covariance inside windows of mean 1, along columns."""
    return float(((first - 1)[..., : WINDOW_PX - lag] * (second - 1)[..., lag:]).mean())


def chip_row(chip: Chip) -> dict[str, Any] | None:
    """Looks, law and correlation of a chip's speckle beside those of injected speckle of as many looks; leak of the
    thinned pair. None where there are too few homogeneous windows."""
    looks = estimate_enl(chip.power).value
    if not np.isfinite(looks):
        return None
    chosen = homogeneous(chip.power, looks)
    if np.count_nonzero(chosen) < MIN_WINDOWS:
        return None
    observed = windows_of(chip.power)[chosen]
    extra, _ = speckled(chip.power, speckle="gamma", min_looks=EXTRA_LOOKS, max_looks=EXTRA_LOOKS)
    return {
        "chip": chip.name,
        "ENL": looks,
        "windows": len(observed),
        **_laws(observed, looks),
        "lag 1 observed": lagged(observed, observed, 1) / lagged(observed, observed, 0),
        "lag 2": lagged(observed, observed, 2) / lagged(observed, observed, 0),
        "lag 1 injected": _injected_lag(looks),
        "ENL x 2 looks": estimate_enl(extra).value,
        "expected": looks * EXTRA_LOOKS / (looks + EXTRA_LOOKS + 1),
        **_leaks(chip.power, chosen, looks),
    }


def _laws(observed: F32, looks: float) -> dict[str, float]:
    """Two-sample KS distances; the lognormal has the same coefficient of variation."""
    deviation = np.sqrt(np.log(1 + 1 / looks))
    lognormal = np.exp(deviation * np.random.default_rng(2).standard_normal((512, 512))).astype(np.float32)
    injected = {
        "gamma": _injected("gamma", looks),
        "correlated": _injected("correlated", looks),
        "lognormal": lognormal,
    }
    return {f"KS {name}": _distance(observed, field, looks) for name, field in injected.items()}


def _distance(observed: F32, field: F32, looks: float) -> float:
    same_choice = windows_of(field)[homogeneous(field, looks)]
    return float(stats.ks_2samp(observed.ravel(), same_choice.ravel()).statistic)


def _injected(speckle: str, looks: float) -> F32:
    flat = np.ones((512, 512), dtype=np.float32)
    return speckled(flat, speckle=speckle, min_looks=looks, max_looks=looks)[0]


def _injected_lag(looks: float) -> float:
    field = _injected("correlated", looks)
    same_choice = windows_of(field)[homogeneous(field, looks)]
    return lagged(same_choice, same_choice, 1) / lagged(same_choice, same_choice, 0)


def _leaks(power: F32, chosen: np.ndarray, looks: float) -> dict[str, float]:
    """Covariance of the thinned parts over the geometric mean of their variances, at lags 0 and 1."""
    leaks = {}
    half = {"target": "complement", "enl": looks, "min_looks": looks / 2, "max_looks": looks / 2}
    for speckle, short in (("thinning", "white"), ("correlated_thinning", "corr.")):
        kept, left = (windows_of(part)[chosen] for part in speckled(power, speckle=speckle, **half))
        scale = np.sqrt(lagged(kept, kept, 0) * lagged(left, left, 0))
        for lag in (0, 1):
            leaks[f"leak {short} {lag}"] = lagged(kept, left, lag) / scale
    return leaks
