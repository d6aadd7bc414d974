"""Limits on the measures of one patch: which samples are rejected, and which lose their optical partner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sar1m.config import ScreeningConfig
from sar1m.core.sphere import KM_PER_DEGREE, east_of, widths_deg
from sar1m.core.table import F64, I64, Bool, Rejections, Strings, finite_lists, floats, list_numbers
from sar1m.records import KNOWN_SHIFT
from sar1m.store.errors import ConfigError

ALWAYS_NUMBERS = ("lon", "lat", "gsd_m", "sar_nodata_frac")
NUMBERS_WHERE_DATA = ("dynamic_range_db", "noise_floor_frac")  # without a valid pixel there is nothing to measure
FLOOR_SPREAD = 0.04  # reflectance: floors of bands that an offset lifts lie this near to each other


@dataclass(frozen=True, kw_only=True, eq=False)
class Rule:
    """One rule applied to all n rows. broken: (n,). measured: (n,). limit: the value allowed."""

    name: str
    broken: Bool
    measured: F64
    limit: float


@dataclass(frozen=True, kw_only=True, eq=False)
class OpticalVerdict:
    """The reason for which each row loses its optical partner; "" where it keeps it. All fields are (n,)."""

    reason: Strings
    measured: F64
    limit: F64

    @property
    def paired(self) -> Bool:
        """Rows that keep their partner."""
        paired: Bool = self.reason == ""
        return paired

    def of(self, rows: I64) -> OpticalVerdict:
        """The verdict on some rows."""
        return OpticalVerdict(reason=self.reason[rows], measured=self.measured[rows], limit=self.limit[rows])

    def as_rejections(self) -> Rejections:
        """Rejections of all rows without a partner."""
        rows = np.flatnonzero(~self.paired)
        return Rejections.of(rows, self.reason[rows], self.measured[rows], self.limit[rows])


def sar_rejections(table: pd.DataFrame, config: ScreeningConfig, excluded: Sequence[Rule] = ()) -> Rejections:
    """Rows that break a rule for the SAR side, each with the first rule that it breaks.

    The order is: numbers that every patch has (non_finite), the rules `excluded`, sar_nodata, numbers that every patch
    with data has (non_finite), plateau, dynamic_range, noise_floor, layover_shadow, water. A missing share of plateaus,
    layover or water is unknown and breaks no rule.
    """
    rules = [
        _unreadable(table, ALWAYS_NUMBERS, ("bounds_lonlat", "transform")),
        *excluded,
        _at_most(table, "sar_nodata", "sar_nodata_frac", config.max_sar_nodata_frac),
        _unreadable(table, NUMBERS_WHERE_DATA, ("mean_db",)),
        _at_most(table, "plateau", "plateau_frac", config.max_plateau_frac),
        _at_least(table, "dynamic_range", "dynamic_range_db", config.min_dynamic_range_db),
        _at_most(table, "noise_floor", "noise_floor_frac", config.max_noise_floor_frac),
        _at_most(table, "layover_shadow", "layover_shadow_frac", config.max_layover_shadow_frac),
        _at_most(table, "water", "water_frac", config.max_water_frac),
    ]
    reason, measured, limit = _first_broken(rules, len(table))
    rows = np.flatnonzero(reason != "")
    return Rejections.of(rows, reason[rows], measured[rows], limit[rows])


def judge_optical(table: pd.DataFrame, config: ScreeningConfig) -> OpticalVerdict:
    """Whether each row keeps its optical partner.

    The order of rules is: no_optical, dt, optical_nodata (also where it was not measured), optical_plateau, saturated,
    radiometric_offset (before cloud, since a picture that is 0.1 too bright looks cloudy), cloud, residual. Unknown
    dates, plateaus, saturation, floors and cloud break no rule. The residual counts only where the shift was measured,
    on the patch, by the field of its block or on the scene pair. A low peak-to-sidelobe ratio breaks no rule, since
    desert, forest and sea always have one.
    """
    dt_hours, nodata_frac = np.abs(floats(table, "dt_hours")), floats(table, "optical_nodata_frac")
    residual_px = floats(table, "residual_px")
    product = table["optical_product"]
    no_optical = (product.isna() | (product == "")).to_numpy(dtype=np.bool_)
    known_shift = table["registration_status"].isin(KNOWN_SHIFT).to_numpy(dtype=np.bool_)
    missing = np.full(len(table), np.nan)
    rules = [
        Rule(name="no_optical", broken=no_optical, measured=missing, limit=np.nan),
        Rule(name="dt", broken=_over(dt_hours, config.max_dt_hours), measured=dt_hours, limit=config.max_dt_hours),
        Rule(
            name="optical_nodata",
            broken=np.isnan(nodata_frac) | _over(nodata_frac, config.max_optical_nodata_frac),
            measured=nodata_frac,
            limit=config.max_optical_nodata_frac,
        ),
        _at_most(table, "optical_plateau", "optical_plateau_frac", config.max_optical_plateau_frac),
        _at_most(table, "saturated", "saturated_frac", config.max_saturated_frac),
        *_radiometric_offset(table, config),
        _at_most(table, "cloud", "cloud_frac", config.max_cloud_frac),
        Rule(
            name="residual",
            broken=known_shift & (np.isnan(residual_px) | _over(residual_px, config.max_residual_px)),
            measured=residual_px,
            limit=config.max_residual_px,
        ),
    ]
    reason, measured, limit = _first_broken(rules, len(table))
    return OpticalVerdict(reason=reason, measured=measured, limit=limit)


def _radiometric_offset(table: pd.DataFrame, config: ScreeningConfig) -> list[Rule]:
    """That a partner's pixels agree with the offset that was taken off. `measured`: the lowest floor of its bands.

    An offset of 1000 DN that is still there lifts the floor of every band to reflectance 0.1: bright ground alone does
    so in some bands, and not in B10. One taken off twice puts it near -0.1. Unknown floors break no rule.
    """
    low, high = floats(table, "optical_floor_min"), floats(table, "optical_floor_max")
    left = ~_over(-low, -config.max_optical_floor) & ~_over(high, config.max_optical_floor + FLOOR_SPREAD)
    left &= np.isfinite(low) & np.isfinite(high)
    return [
        Rule(name="radiometric_offset", broken=left, measured=low, limit=config.max_optical_floor),
        Rule(
            name="radiometric_offset",
            broken=_over(-low, -config.min_optical_floor),
            measured=low,
            limit=config.min_optical_floor,
        ),
    ]


def footprint_rule(table: pd.DataFrame, boxes_lonlat: F64, buffer_km: float) -> Rule:
    """The rule that patches touch no box and come no nearer to one than buffer_km. Boxes are places of test sets.

    `measured` is the gap between patch and nearest box in km, 0 where they overlap. Degrees are converted to km on the
    sphere. East-west gaps use the cosine of the higher latitude at which the two face each other, so that errors lead
    to leaving out.

    boxes_lonlat: (n, 4) west, south, east, north in degrees; west > east crosses the antimeridian.
    Raises ConfigError naming a box that is invalid.
    """
    boxes = np.asarray(boxes_lonlat, dtype=np.float64).reshape(-1, 4)
    _check_boxes(boxes)
    gap_km = np.full(len(table), np.inf)
    rows = np.flatnonzero(finite_lists(table, "bounds_lonlat"))
    if len(boxes) and len(rows):
        gap_km[rows] = _least_gap_km(list_numbers(table, "bounds_lonlat", rows), boxes, buffer_km)
    return Rule(name="benchmark_footprint", broken=gap_km <= buffer_km, measured=gap_km, limit=buffer_km)


def _over(measured: F64, limit: float) -> Bool:
    # The table holds float32: 0.05 there is a little over the 0.05 of the configuration.
    return measured.astype(np.float32) > np.float32(limit)


def _at_most(table: pd.DataFrame, name: str, column: str, limit: float) -> Rule:
    measured = floats(table, column)
    return Rule(name=name, broken=_over(measured, limit), measured=measured, limit=limit)


def _at_least(table: pd.DataFrame, name: str, column: str, limit: float) -> Rule:
    measured = floats(table, column)
    return Rule(name=name, broken=_over(-measured, -limit), measured=measured, limit=limit)


def _unreadable(table: pd.DataFrame, numbers: Sequence[str], lists: Sequence[str]) -> Rule:
    readable = np.logical_and.reduce(
        [np.isfinite(floats(table, name)) for name in numbers] + [finite_lists(table, name) for name in lists]
    )
    return Rule(name="non_finite", broken=~readable, measured=np.full(len(table), np.nan), limit=np.nan)


def _first_broken(rules: Sequence[Rule], count: int) -> tuple[Strings, F64, F64]:
    """Name, measured value and limit of the first rule that each row breaks, (n,) each; "" and NaN where none."""
    reason = np.full(count, "", dtype=object)
    measured, limit = np.full(count, np.nan), np.full(count, np.nan)
    for rule in reversed(rules):
        reason[rule.broken] = rule.name
        measured[rule.broken], limit[rule.broken] = rule.measured[rule.broken], rule.limit
    return reason, measured, limit


def _check_boxes(boxes: F64) -> None:
    longitudes, latitudes = boxes[:, [0, 2]], boxes[:, [1, 3]]
    good = np.isfinite(boxes).all(axis=1) & (np.abs(latitudes) <= 90).all(axis=1)
    good &= (np.abs(longitudes) <= 180).all(axis=1) & (boxes[:, 1] <= boxes[:, 3])
    if not good.all():
        number = int(np.flatnonzero(~good)[0])
        raise ConfigError(
            f"excluded footprint {number}: found {boxes[number].tolist()}, expected west, south, east, north "
            "in degrees with south <= north. Give the footprints in longitude and latitude (EPSG:4326)."
        )


def _least_gap_km(patches: F64, boxes: F64, buffer_km: float) -> F64:
    """Gap from each patch to the nearest box in km, (k,); inf where all boxes are far.

    Patches are sorted by latitude, so that each box is compared with few of them.
    """
    order = np.argsort(patches[:, 1], kind="stable")
    lon, half_lon = _centre_and_half_width(patches[order])
    south, north = patches[order, 1], patches[order, 3]
    reach_deg = buffer_km / KM_PER_DEGREE
    tallest_deg = float((north - south).max())
    box_lon, box_half_lon = _centre_and_half_width(boxes)
    starts = np.searchsorted(south, boxes[:, 1] - reach_deg - tallest_deg, side="left")
    stops = np.searchsorted(south, boxes[:, 3] + reach_deg, side="right")
    least = np.full(len(patches), np.inf)
    for number in np.flatnonzero(stops > starts):
        near = slice(starts[number], stops[number])
        apart_deg = np.abs(east_of(lon[near], box_lon[number]))
        gap_lon = np.maximum(apart_deg - half_lon[near] - box_half_lon[number], 0)
        gap_lat = np.maximum(np.maximum(boxes[number, 1] - north[near], south[near] - boxes[number, 3]), 0)
        facing = [np.clip(edge, boxes[number, 1], boxes[number, 3]) for edge in (south[near], north[near])]
        highest = np.abs([south[near], north[near], *facing]).max(axis=0)
        gap_km = KM_PER_DEGREE * np.hypot(gap_lat, gap_lon * np.cos(np.radians(highest)))
        least[near] = np.minimum(least[near], gap_km)
    unsorted = np.empty_like(least)
    unsorted[order] = least
    return unsorted


def _centre_and_half_width(boxes: F64) -> tuple[F64, F64]:
    width = widths_deg(boxes)
    return boxes[:, 0] + width / 2, width / 2
