"""Tables of a speckle model: one row for each level of speckle; and the row that a sample gets.

Row 0 leaves a sample as it is. Every other row holds one level of speckle: a number of looks, or a sigma. There are 64
levels, 16 for thinning; looks are evenly spaced in the logarithm, sigmas evenly. Thinning has the levels once for each
class of scene looks.
"""
# B batch, R rows, Z table positions, J classes of scene looks, K levels, T filter taps

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np
import torch

from sar1m.store.errors import ConfigError
from sarmae.config import SareConfig
from sarmae.sare.quantiles import DB_PER_NEPER, F64, POSITIONS, gamma_db, lognormal_db, thinned_db
from sarmae.sare.spatial import filter_radius, filter_taps, gaussian_correlation, thinning_correlation

LEVELS: Final = 64
THINNING_LEVELS: Final = 16
MOST_KEPT: Final = 0.9  # of a scene's looks: a tenth or more is left for the other part
CLASS_STEP: Final = 1.05  # between scene looks; an estimate of them spreads by 5 to 20 %
MOST_SCENE_LOOKS: Final = 64.0


@dataclass(frozen=True, kw_only=True, eq=False)
class SpeckleTables:
    """The tables of a speckle model.

    on_input: (R, Z) float32, decibels to add to the input.
    on_target: (R, Z) float32, decibels to add to the target; None where the target stays as it is.
    taps: (R, T) float32, filters of the normal field; None for a white field.
    first_rows: (J,) int64, for each class of scene looks the first of its K rows; 0 where no speckle can be added.
    class_edges: (J - 1,) float32, looks between the classes.
    levels: K.
    """

    on_input: torch.Tensor
    on_target: torch.Tensor | None
    taps: torch.Tensor | None
    first_rows: torch.Tensor
    class_edges: torch.Tensor
    levels: int

    def to(self, device: torch.device) -> SpeckleTables:
        """The same tables on a device."""
        return SpeckleTables(
            on_input=self.on_input.to(device),
            on_target=None if self.on_target is None else self.on_target.to(device),
            taps=None if self.taps is None else self.taps.to(device),
            first_rows=self.first_rows.to(device),
            class_edges=self.class_edges.to(device),
            levels=self.levels,
        )

    def linear(self) -> SpeckleTables:
        """The same with factors to multiply on the input, for values that are not in decibels."""
        return replace(self, on_input=torch.exp(self.on_input.double() / DB_PER_NEPER).float())

    def rows(self, level: torch.Tensor, chosen: torch.Tensor, enl: torch.Tensor) -> torch.Tensor:
        """(B,) int64 rows of samples with these drawn levels (B,) and looks (B,); row 0 where not chosen (B,)."""
        first = self.first_rows[torch.bucketize(enl, self.class_edges)]
        return torch.where(chosen & (first > 0), first + level, 0)


def make_tables(config: SareConfig) -> SpeckleTables:
    """The tables of every model but `none`. Thinning without config.enl takes a second or two."""
    if config.speckle in ("thinning", "correlated_thinning"):
        return _thinning_tables(config)
    if config.speckle == "lognormal":
        return _table_per_level([lognormal_db(sigma) for sigma in config.sigma_max * _middles(LEVELS)], None)
    factors_db = [gamma_db(looks) for looks in _log_spread(config.min_looks, config.max_looks, LEVELS)]
    if config.speckle == "gamma":
        return _table_per_level(factors_db, None)
    wanted, radius = gaussian_correlation(config.correlation_px), filter_radius(config.correlation_px)
    return _table_per_level(factors_db, [filter_taps(_linear(factor), wanted, radius) for factor in factors_db])


def _thinning_tables(config: SareConfig) -> SpeckleTables:
    scene_looks = _scene_classes(config)
    inputs: list[F64] = []
    targets: list[F64] = []
    taps: list[F64] = []
    first_rows: list[int] = []
    for looks in scene_looks:
        most_kept = min(config.max_looks, MOST_KEPT * looks)
        first_rows.append(1 + len(inputs) if most_kept >= config.min_looks else 0)
        for kept in _log_spread(config.min_looks, most_kept, THINNING_LEVELS) if first_rows[-1] else ():
            kept_db, left_db = thinned_db(looks, float(kept))
            inputs.append(kept_db)
            targets.append(left_db)
            if config.speckle == "correlated_thinning":
                taps.append(_thinning_taps(config.correlation_px, looks, kept_db))
    if not inputs:
        raise ConfigError(
            f"sare: scenes of {scene_looks[-1]:.3g} looks cannot be thinned to min_looks = {config.min_looks:.3g}: "
            f"at most {MOST_KEPT} of them are kept. Lower sare.min_looks, or use another speckle model."
        )
    edges = [(low * high) ** 0.5 for low, high in pairwise(scene_looks)]
    return SpeckleTables(
        on_input=_with_silence(inputs, POSITIONS),
        on_target=_with_silence(targets, POSITIONS) if config.target == "complement" else None,
        taps=_with_silence(taps, 1 + filter_radius(config.correlation_px)) if taps else None,
        first_rows=torch.tensor(first_rows),
        class_edges=torch.tensor(edges, dtype=torch.float32),
        levels=THINNING_LEVELS,
    )


def _thinning_taps(correlation_px: float, scene_looks: float, kept_db: F64) -> F64:
    wanted = thinning_correlation(gaussian_correlation(correlation_px), scene_looks)
    return filter_taps(_linear(kept_db), wanted, filter_radius(correlation_px))


def _scene_classes(config: SareConfig) -> list[float]:
    """Looks of the classes: the configured ones alone, or 5 % apart from where thinning becomes possible; the first
    class is below that."""
    if config.enl is not None:
        return [config.enl]
    classes = [config.min_looks / MOST_KEPT / CLASS_STEP]
    while classes[-1] < MOST_SCENE_LOOKS:
        classes.append(classes[-1] * CLASS_STEP)
    return classes


def _table_per_level(factors_db: list[F64], taps: list[F64] | None) -> SpeckleTables:
    """Tables of a model that does the same to every scene."""
    return SpeckleTables(
        on_input=_with_silence(factors_db, POSITIONS),
        on_target=None,
        taps=None if taps is None else _with_silence(taps, len(taps[0])),
        first_rows=torch.ones(1, dtype=torch.int64),
        class_edges=torch.empty(0),
        levels=LEVELS,
    )


def _with_silence(rows: list[F64], length: int) -> torch.Tensor:
    """(R, length) float32: a row of zeros, then rows."""
    return torch.from_numpy(np.stack([np.zeros(length), *rows]).astype(np.float32))


def _middles(count: int) -> F64:
    """Middles of equal parts of 0..1."""
    return (np.arange(count) + 0.5) / count


def _log_spread(low: float, high: float, count: int) -> F64:
    """Middles of equal parts of low..high in the logarithm."""
    return np.asarray(low * (high / low) ** _middles(count))


def _linear(factor_db: F64) -> F64:
    return np.exp(factor_db / DB_PER_NEPER)
