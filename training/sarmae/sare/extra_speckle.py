"""SARE: extra speckle on the input of the model, drawn by (seed, epoch, sample id), on the batch's device.

Speckle multiplies the linear power, so in decibels it is added: no power is computed, none can become 0 or NaN. Every
polarisation has its own. A sample's speckle depends on no other sample, on no thread count and on no world size.
"""
# B batch, P polarisations, H W pixels, R rows of the tables

from __future__ import annotations

from typing import Final

import torch

from sar1m.store.errors import ConfigError
from sar1m.store.schema import SAR_FLOOR_DB
from sarmae.config import SareConfig
from sarmae.sare.model_tables import SpeckleTables, make_tables
from sarmae.sare.quantiles import LIMIT, POSITIONS, positions_of
from sarmae.sare.spatial import filtered
from sarmae.stream.batch import Batch, ImageSpec
from sarmae.stream.keyed_random import DrawKey, integers, normal, uniform

DECIBELS: Final = "dB"
COIN_STREAM: Final = "sare-coin"
LEVEL_STREAM: Final = "sare-level"
FIELD_STREAM: Final = "sare-field"

_ANY_UNIT: Final = ("lognormal", "none")  # models that claim no physics and may act on display brightness
_SAMPLES_AT_A_TIME: Final = 64  # on an accelerator; on a CPU one, so that its fields stay in the second-level cache
_WITHIN: Final = LIMIT - 1e-3


class Sare:
    """Speckles batches as the configuration says. units: of the values, `dB`, or anything else for brightness.

    gamma: times Gamma(L', 1/L'); a scene of L looks comes to L L' / (L + L' + 1), K-distributed.
    correlated: the same marginal law, intensities correlated by exp(-(lag / correlation_px)^2) along rows and columns.
    thinning: to exactly l of the scene's L looks; the complement, exactly L - l looks, is independent of it given the
    mean power where the scene's speckle is white. A scene with 0.9 L < min_looks cannot be thinned and stays as it is,
    input and target. Unless config.enl fixes L, it is taken to the nearest of classes 5 % apart that end at 64, which
    adds up to 0.6 % of mu^2 to the covariance and 2 % to the variances.
    correlated_thinning: Beta shares correlated so that the parts stay uncorrelated at all lags where the scene's own
    speckle is correlated by correlation_px. On real chips thinned by half, neighbours of the two parts correlate by
    0.33 to 0.37 under white thinning and by 0.03 at most under this; looks 6 assumed for 4.4 add 5 % of mu^2 to either.
    lognormal: times exp(sigma n), mean exp(sigma^2 / 2), as the authors' code does to 8-bit pixels, but without its
    clamp. On brightness it multiplies brightness, on decibels the power.
    none: nothing.

    Raises ConfigError where a physical model meets values that are not in decibels.
    """

    def __init__(self, config: SareConfig, *, seed: int, units: str = DECIBELS) -> None:
        self._config, self._seed, self._units = config, seed, units
        if units != DECIBELS and config.speckle not in _ANY_UNIT:
            raise ConfigError(_not_decibels(config, f"values in units {units!r}"))
        self._tables: dict[torch.device, SpeckleTables] = {}
        if config.speckle != "none":
            tables = make_tables(config)
            self._tables[torch.device("cpu")] = tables if units == DECIBELS else tables.linear()

    def check(self, sar: ImageSpec) -> None:
        """ConfigError where a store's SAR is not in the units this was made for; call it before the first batch."""
        if sar.units != self._units and self._config.speckle != "none":
            raise ConfigError(_not_decibels(self._config, f"array {sar.name!r} in units {sar.units!r}"))

    @torch.no_grad()
    def __call__(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Input and target (B, P, H, W) of batch.sar float32, both NaN where it is NaN (no data).

        The target is batch.sar itself, but for the complement of thinning. A sample that gets no speckle (probability,
        too few looks) is its own input and target. Decibels stop at the store's floor of -60 dB; display brightness has
        no limits. Raises ConfigError where batch.sar is not float32.
        """
        if self._config.speckle == "none":
            return batch.sar, batch.sar
        if batch.sar.dtype != torch.float32:
            raise ConfigError(
                f"speckle: SAR values are {batch.sar.dtype}; float32 expected. Dequantise the batch first."
            )
        tables = self._on(batch.sar.device)
        rows = self._draw_rows(batch, tables)
        speckled = torch.empty_like(batch.sar, memory_format=torch.contiguous_format)
        target = batch.sar if tables.on_target is None else torch.empty_like(speckled)
        on_cpu = batch.sar.device.type == "cpu"
        step = 1 if on_cpu else _SAMPLES_AT_A_TIME
        for start in range(0, len(batch), step):
            part = slice(start, start + step)
            values = batch.sar[part]
            silent = on_cpu and not rows[part].any()  # elsewhere to ask is to wait for the device
            positions = None if silent else self._positions(batch, part, tables, rows[part])
            self._apply(values, tables.on_input, positions, speckled[part])
            if tables.on_target is not None:
                self._apply(values, tables.on_target, positions, target[part])
        return speckled, target

    def _key(self, batch: Batch, stream: str) -> DrawKey:
        return DrawKey(seed=self._seed, epoch=batch.epoch, stream=stream)

    def _draw_rows(self, batch: Batch, tables: SpeckleTables) -> torch.Tensor:
        """(B,) int64, the row of the tables that each sample gets."""
        config = self._config
        chosen = uniform(self._key(batch, COIN_STREAM), batch.id, 1)[:, 0] < config.probability
        level = integers(self._key(batch, LEVEL_STREAM), batch.id, 1, tables.levels)[:, 0]
        measured = torch.isfinite(batch.enl) & (batch.enl > 0)
        return tables.rows(level, chosen, torch.where(measured, batch.enl, config.default_enl))

    def _positions(self, batch: Batch, part: slice, tables: SpeckleTables, rows: torch.Tensor) -> torch.Tensor:
        """(b P H W,) int32 places in the flattened tables, of the samples of one part."""
        shape = tuple(batch.sar.shape[1:])
        key, ids = self._key(batch, FIELD_STREAM), batch.id[part]
        if tables.taps is None:
            field = normal(key, ids, shape)
        else:
            taps = tables.taps[rows]
            margin = 2 * (taps.shape[1] - 1)
            white = normal(key, ids, (shape[0], shape[1] + margin, shape[2] + margin))
            field = filtered(white, taps).clamp_(-_WITHIN, _WITHIN)
        first = (rows * POSITIONS).to(torch.int32)
        return positions_of(field).add_(first[:, None, None, None]).view(-1)

    def _apply(
        self, values: torch.Tensor, table: torch.Tensor, positions: torch.Tensor | None, out: torch.Tensor
    ) -> None:
        if positions is None:
            out.copy_(values)
            return
        factor = torch.index_select(table.view(-1), 0, positions).view(values.shape)
        if self._units == DECIBELS:
            torch.add(values, factor, out=out).clamp_(min=SAR_FLOOR_DB)
        else:
            torch.mul(values, factor, out=out)

    def _on(self, device: torch.device) -> SpeckleTables:
        if device not in self._tables:
            self._tables[device] = self._tables[torch.device("cpu")].to(device)
        return self._tables[device]


def _not_decibels(config: SareConfig, found: str) -> str:
    return (
        f"sare.speckle = {config.speckle!r}: {found}; {DECIBELS} expected. Speckle statistics hold for calibrated "
        f"power only. For display pictures set sare.speckle to one of {', '.join(_ANY_UNIT)}."
    )
