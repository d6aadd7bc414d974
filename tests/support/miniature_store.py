"""A small finished store for tests of the page: made rows and pixels, written with the house's own table writer and
with zarr-python."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr

from sar1m.config import BuildConfig
from sar1m.io.tables import parquet_bytes
from sar1m.store.schema import SPLITS, optical_encoding, sar_encoding
from sar1m.store.table_columns import CANDIDATE_COLUMNS, FAILED_COLUMNS, REJECTED_COLUMNS, SAMPLE_COLUMNS

PATCH_PX = 32
BANDS = ["B04", "B03", "B02"]


@dataclass
class Recipe:
    """What the store holds. splits: split of each sample; unpaired: numbers of samples without partner."""

    splits: tuple[str, ...] = ("train", "train", "train", "train", "val", "test")
    unpaired: tuple[int, ...] = (1,)
    rejected: tuple[str, ...] = ("water", "cloud", "water")
    pols: tuple[str, ...] = ("VV", "VH")
    measured: bool = True
    name: str = "miniature"
    site: str = "Polder"
    overrides: dict[str, Any] = field(default_factory=dict)


def build_store(root: Path, recipe: Recipe | None = None) -> Path:
    """Writes a store into an empty folder and returns it."""
    recipe = recipe or Recipe()
    samples = pd.DataFrame(
        [_sample(recipe, number) for number in range(len(recipe.splits))], columns=_names(SAMPLE_COLUMNS)
    )
    rejected = pd.DataFrame(
        [_rejected(recipe, number) for number in range(len(recipe.rejected))], columns=_names(REJECTED_COLUMNS)
    )
    samples["index"] = samples.groupby("split").cumcount() if len(samples) else []
    failed = pd.DataFrame(columns=_names(FAILED_COLUMNS))
    for name, frame, columns in (
        ("samples", samples, SAMPLE_COLUMNS),
        ("rejected", rejected, REJECTED_COLUMNS),
        ("failed", failed, FAILED_COLUMNS),
    ):
        (root / f"{name}.parquet").write_bytes(parquet_bytes(frame, columns))
    for name, value in _statistics(recipe, samples, rejected).items():
        (root / "stats").mkdir(exist_ok=True)
        (root / "stats" / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    (root / "provenance").mkdir()
    (root / "provenance" / "config.toml").write_text(BuildConfig(name=recipe.name).to_toml(), encoding="utf-8")
    for split in SPLITS:
        _write_pixels(root, split, samples[samples["split"] == split], recipe)
    return root


def _names(columns: Any) -> list[str]:
    return [column.name for column in columns]


def _candidate(recipe: Recipe, number: int) -> dict[str, Any]:
    empty = {"string": "", "list<string>": [], "list<float64>": [0.0], "map<float32>": {}, "int64": 0, "int32": 0}
    row: dict[str, Any] = {c.name: None if c.nullable else empty.get(c.type, 0.0) for c in CANDIDATE_COLUMNS}
    lon, lat = 5.0 + 0.3 * (number % 3), 52.0 + 0.25 * (number // 3)
    row |= {
        "sample_id": f"patch_{number:03d}_S1A",
        "site": f"{recipe.site} {number % 2}",
        "epsg": 32631,
        "transform": [10.0, 0.0, 500000.0, 0.0, -10.0, 5761040.0],
        "gsd_m": 10.0,
        "lon": lon,
        "lat": lat,
        "bounds_lonlat": [lon - 0.02, lat - 0.012, lon + 0.02, lat + 0.012],
        "polarisations": list(recipe.pols),
        "quantity": "sigma0",
        "sar_datetime": datetime(2020, 6, 1, 5, tzinfo=UTC) + timedelta(days=number),
        "land_cover": {"Cropland": 0.9, "Water": 0.1} if number % 2 else {"Tree cover": 1.0},
        "labels": ["Pastures"] if number % 3 == 0 else [],
        "bands": BANDS,
        "optical_product": f"S2_{number}",
        "mean_db": [-9.0 - number, -16.0][: len(recipe.pols)],
    }
    if recipe.measured:
        row |= {
            "dynamic_range_db": 12.0 + number,
            "cloud_frac": 0.01 * number,
            "shift_row_px": 0.3 * number,
            "shift_col_px": -0.1 * number,
            "applied_row_px": float(round(0.3 * number)),
            "applied_col_px": 0.0,
            "residual_px": 0.2,
            "registration_psr": 9.0 + number,
            "registration_status": "measured",
            "dt_hours": 5.0,
            "optical_nodata_frac": 0.0,
            "optical_floor_min": 0.01,
            "optical_floor_max": 0.2,
        }
    else:
        row |= {c.name: np.nan for c in CANDIDATE_COLUMNS if c.type == "float32" and c.nullable}
    return row | recipe.overrides


def _sample(recipe: Recipe, number: int) -> dict[str, Any]:
    unpaired = number in recipe.unpaired
    row = _candidate(recipe, number) | {
        "paired": not unpaired,
        "unpaired_reason": "cloud" if unpaired else "",
        "split": recipe.splits[number],
        "block": f"50km_{recipe.splits[number]}",
        "shard": 0,
        "duplicates_of": "",
    }
    return row | ({"bands": []} if unpaired else {}) | recipe.overrides


def _rejected(recipe: Recipe, number: int) -> dict[str, Any]:
    row = _candidate(recipe, 100 + number) | {"reason": recipe.rejected[number], "duplicates_of": ""}
    return row | {"measured": 0.99, "limit": 0.95, "water_frac": 0.99 if recipe.measured else np.nan}


def _statistics(recipe: Recipe, samples: pd.DataFrame, rejected: pd.DataFrame) -> dict[str, dict[str, Any]]:
    paired = int(samples["paired"].sum())
    recoveries = [
        {"sample_id": f"patch_{n:03d}_S1A", "error_row_px": 0.05 * n, "error_col_px": -0.02 * n} for n in range(4)
    ]
    test = {"pairs": 4, "rmse_px": 0.11, "p95_px": 0.2, "bias_row_px": 0.01, "bias_col_px": 0.0}
    test |= {"under_1px_share": 1.0, "polarisation_rmse_px": 0.2, "recoveries": recoveries}
    second = {"method": "mutual information", "asked": 3, "measured": 2, "median_px": 0.31, "rms_px": 0.35}
    test |= {"second_estimator": second | {"p95_px": 0.48, "expected_rms_px": 0.29}}
    test |= {"band_offset": {"measured": 4, "median_px": 0.12, "p95_px": 0.4}}
    if not recipe.measured or not paired:
        test = dict.fromkeys(test) | {"pairs": 0, "recoveries": []}
    by_split = {split: int((samples["split"] == split).sum()) for split in SPLITS}
    pairs = ["train/val", "train/test", "val/test"]
    return {
        "summary": {
            "name": recipe.name,
            "region": "a box",
            "profile": "training",
            "patch_px": PATCH_PX,
            "quantity": "sigma0",
            "polarisations": list(recipe.pols),
            "optical_quantity": "reflectance",
            "optical_bands": BANDS,
            "counts": {
                "candidates": len(samples) + len(rejected),
                "accepted": len(samples),
                "rejected": len(rejected),
                "failed": 0,
                "paired": paired,
                "unpaired": len(samples) - paired,
            },
            "rejected_by_reason": {str(k): int(v) for k, v in rejected["reason"].value_counts().items()},
            "unpaired_by_reason": {"cloud": len(samples) - paired} if paired < len(samples) else {},
            "by_split": by_split,
            "sites": [],
        },
        "normalisation": {"sar": {}, "optical": {}},
        "self_test": test,
        "splits": {
            "buffer_km": 5.0,
            "block_km": 50.0,
            "blocks": {split: int(count > 0) for split, count in by_split.items()},
            "least_distance_km": dict(zip(pairs, [3.0, 20.5, None], strict=True)),
            "shared_sar_products": dict.fromkeys(pairs, 0),
            "buffer_holds": False,
        },
    }


def _write_pixels(root: Path, split: str, rows: pd.DataFrame, recipe: Recipe) -> None:
    if not len(rows):
        return
    random = np.random.default_rng(7)
    group = zarr.create_group(root / "data" / f"{split}.zarr", zarr_format=3)
    sar, optical = sar_encoding("training", "sigma0"), optical_encoding("training", "reflectance")
    fields = np.kron(random.normal(size=(len(rows), 1, 4, 4)), np.ones((1, 1, 8, 8)))
    speckle = random.normal(scale=2, size=(len(rows), len(recipe.pols), PATCH_PX, PATCH_PX))
    decibels = sar.encode(-12 + 4 * fields + speckle)
    reflectance = optical.encode(np.repeat(0.12 + 0.04 * fields, len(BANDS), axis=1))
    reflectance[~rows["paired"].to_numpy(dtype=bool)] = 0
    for name, values, encoding, dims in (
        ("sar", decibels, sar, ("sample", "pol", "y", "x")),
        ("optical", reflectance, optical, ("sample", "band", "y", "x")),
    ):
        group.create_array(
            name,
            data=values,
            chunks=(1, *values.shape[1:]),
            dimension_names=dims,
            attributes=encoding.cf_attributes(),
        )
