"""Candidate tables for tests of the selection: rows that pass every rule, with what a test wants changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sar1m.config import BalanceConfig, ScreeningConfig, SplitConfig
from sar1m.core.select import Selection, select
from sar1m.stages.columns import SECOND_COLUMNS
from sar1m.store.table_columns import CANDIDATE_COLUMNS

FIXED = {
    "epsg": 32631,
    "gsd_m": np.float32(10),
    "platform": "sentinel-1a",
    "orbit_state": "ascending",
    "quantity": "gamma0",
    "processing": "simulated",
    "provider": "simulated",
    "processing_baseline": "04.00",
    "offset_applied": -1000,
    "optical_provider": "simulated",
    "dt_hours": 10.0,
    "registration_psr": 9.0,
    "registration_status": "measured",
    "residual_px": 0.3,
    "sar_nodata_frac": 0.0,
    "optical_nodata_frac": 0.0,
    "optical_floor_min": 0.01,
    "optical_floor_max": 0.2,
    "cloud_frac": 0.01,
    "cloud_source": "scl",
    "snow_frac": 0.0,
    "water_frac": 0.1,
    "layover_shadow_frac": 0.0,
    "enl": 4.4,
    "dynamic_range_db": 12.0,
    "noise_floor_frac": 0.0,
    "plateau_frac": 0.001,
    "optical_plateau_frac": 0.01,
    "saturated_frac": 0.0,
    "country": "NLD",
    "ecoregion": None,
    "shift_field_order": None,
    "shift_field_rms_px": None,
    "shift_field_patches": None,
    "licence_sar": "CC-BY-4.0",
    "licence_optical": "CC-BY-4.0",
    "attribution": "contains modified Copernicus Sentinel data",
}
LISTS = {
    "transform": [10.0, 0.0, 5e5, 0.0, -10.0, 6e6],
    "polarisations": ["VV", "VH"],
    "bands": ["B04", "B03", "B02"],
    "mean_db": [-10.0, -17.0],
    "labels": [],
    "flags": [],
}
NOT_ASKED = dict.fromkeys(SECOND_COLUMNS)
ZERO_FLOATS = (
    "incidence_deg",
    "local_incidence_deg",
    "local_incidence_std_deg",
    "shift_row_px",
    "shift_col_px",
    "shift_sigma_px",
    "polarisation_spread_px",
    "band_spread_px",
    "band_offset_px",
    "scene_shift_row_px",
    "scene_shift_col_px",
    "scene_sigma_px",
    "scene_psr",
    "applied_row_px",
    "applied_col_px",
)


def candidate_table(count: int, seed: int = 0, **changed: Any) -> pd.DataFrame:
    """count good, paired, unlike candidates some degrees apart. changed: a whole column, or one value for all rows."""
    rng = np.random.default_rng(seed)
    number = np.arange(count)
    lon, lat = -170.0 + (number * 7.3) % 340, -60.0 + (number * 3.1) % 120
    columns: dict[str, Any] = {
        "sample_id": [f"p{i}_S1A" for i in number],
        "key": [f"{i * 2654435761 % 2**32:08x}{i:08x}" for i in number],
        "patch": [f"p{i}" for i in number],
        "cell": [f"c{i}" for i in number],
        "site": [f"c{i}" for i in number],
        "lon": lon,
        "lat": lat,
        "sar_product": [f"s1-{i}" for i in number],
        "sar_digest": [f"d{i}" for i in number],
        "relative_orbit": number % 175,
        "datatake": [f"{i:06x}" for i in number],
        "sar_datetime": pd.to_datetime(np.full(count, "2024-06-01T06:00:00"), utc=True),
        "optical_product": [f"s2-{i}" for i in number],
        "optical_digest": [f"e{i}" for i in number],
        "optical_datetime": pd.to_datetime(np.full(count, "2024-06-01T16:00:00"), utc=True),
        "phash": rng.integers(-(2**63), 2**63, size=count),
        "land_cover": [{"crop": 0.7, "tree": 0.3} for _ in number],
        **{name: [list(value) for _ in number] for name, value in LISTS.items()},
        **dict.fromkeys(ZERO_FLOATS, 0.0),
        **FIXED,
        **NOT_ASKED,
    }
    columns |= changed
    if "bounds_lonlat" not in columns:
        centres = [np.broadcast_to(columns[name], count) for name in ("lon", "lat")]
        columns["bounds_lonlat"] = [[x - 0.01, y - 0.01, x + 0.01, y + 0.01] for x, y in zip(*centres, strict=True)]
    return pd.DataFrame({column.name: columns[column.name] for column in CANDIDATE_COLUMNS}, index=range(count))


def choose(
    table: pd.DataFrame,
    *,
    screening: ScreeningConfig | None = None,
    balance: BalanceConfig | None = None,
    split: SplitConfig | None = None,
    seed: int = 7,
    excluded: Any = None,
) -> Selection:
    """select with the defaults of a build, without the shares unless a test asks for them."""
    free = BalanceConfig(max_unpaired_share=1.0, max_water_patch_share=1.0)
    return select(
        table,
        screening=screening or ScreeningConfig(),
        balance=balance or free,
        split=split or SplitConfig(),
        seed=seed,
        excluded=excluded,
    )


def reasons(selection: Selection) -> dict[str, tuple[str, float, float]]:
    """sample_id -> reason, measured, limit of everything turned away."""
    rows = selection.rejected
    return {
        name: (reason, measured, limit)
        for name, reason, measured, limit in zip(
            rows["sample_id"], rows["reason"], rows["measured"], rows["limit"], strict=True
        )
    }
