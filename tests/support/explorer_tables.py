"""Made-up releases for tests and benchmarks of the explorer: tables of any size, no pixels."""

import hashlib
import io

import numpy as np
import pandas as pd
from PIL import Image

from sar1m.config import BuildConfig
from sar1m.page.store_contents import METRIC_COLUMNS
from sar1m.releases.contents import LicenceRow, ReleaseFacts
from sar1m.releases.explorer.thumbnails import FULL_PX, FULL_SIZE_MOST, QUALITY, SMALL_PX, Pictures, spread_order
from sar1m.store.schema import SPLITS
from sar1m.store.table_columns import REJECTED_COLUMNS, SAMPLE_COLUMNS

CLASSES = ("Tree cover", "Cropland", "Grassland", "Built-up", "Bare", "Water", "Shrubland", "Wetland", "Moss", "Snow")
COUNTRIES = ("BRA", "CHN", "DEU", "ESP", "ETH", "FRA", "IDN", "IND", "KEN", "MEX", "NGA", "POL", "THA", "USA", "ZAF")
REASONS = ("cloud", "dt", "no_optical", "recipe_only")
UNMEASURED = ("snow_frac",)


def made_samples(count, seed=1):
    """A table as samples.parquet holds it, split by split; values without meaning, some missing."""
    rng = np.random.default_rng(seed)
    number = np.arange(count)
    centres = np.column_stack([rng.uniform(-170, 170, 400), rng.uniform(-55, 70, 400)])
    place = centres[rng.integers(0, 400, count)] + rng.normal(0, 1.2, (count, 2))
    lon, lat = (place[:, 0] + 180) % 360 - 180, np.clip(place[:, 1], -60, 80)
    split = np.array(SPLITS, dtype=object)[np.digitize(number / count, (0.8, 0.9))]
    paired = rng.random(count) > 0.2
    seconds = rng.integers(0, 3 * 365 * 86400, count)
    times = pd.Series(pd.Timestamp("2019-01-01", tz="UTC") + pd.to_timedelta(seconds, unit="s")).astype(
        "datetime64[us, UTC]"
    )
    scene = number // 40
    shares = rng.dirichlet(np.full(3, 0.6), count)
    chosen = [rng.choice(len(CLASSES), 3, replace=False) for _ in range(count)]
    told = {
        "sample_id": [f"{100 + n // 900}D_{n // 9 % 900}L_{n % 3}_{n // 3 % 3}_S1A_{n:08d}" for n in number],
        "cell": [f"{100 + n // 900}D_{n // 9 % 900}L" for n in number],
        "lon": lon,
        "lat": lat,
        "bounds_lonlat": np.column_stack([lon - 0.01, lat - 0.01, lon + 0.01, lat + 0.01]).tolist(),
        "epsg": 32633,
        "gsd_m": np.float32(10),
        "sar_product": [f"S1A_IW_GRDH_1SDV_20200101T000000_20200101T000025_{n:06d}_0001_ABCD" for n in scene],
        "sar_digest": [hashlib.blake2b(str(n).encode(), digest_size=16).hexdigest() for n in scene],
        "platform": np.array(["sentinel-1a", "sentinel-1b"], dtype=object)[scene % 2],
        "orbit_state": np.array(["ascending", "descending"], dtype=object)[scene // 2 % 2],
        "relative_orbit": scene % 175 + 1,
        "sar_datetime": times,
        "polarisations": [["VV", "VH"]] * count,
        "quantity": "gamma0",
        "processing": "made up",
        "provider": "simulated",
        "optical_product": [f"S2A_MSIL2A_20200102T000000_N0500_R001_T{n % 60:02d}ABC_{n:06d}" for n in scene],
        "optical_datetime": times + pd.Timedelta(hours=5),
        "bands": [["B04", "B03", "B02"]] * count,
        "optical_provider": "simulated",
        "registration_status": np.array(["measured", "scene"], dtype=object)[(rng.random(count) > 0.8).astype(int)],
        "mean_db": rng.normal(-12, 3, (count, 2)).tolist(),
        "land_cover": [
            {CLASSES[c]: float(s) for c, s in zip(names, share, strict=True)}
            for names, share in zip(chosen, shares, strict=True)
        ],
        "labels": [[]] * count,
        "country": np.array(COUNTRIES, dtype=object)[rng.integers(0, len(COUNTRIES), count)],
        "licence_sar": "CC0-1.0",
        "licence_optical": "CC0-1.0",
        "attribution": "none asked for",
        "flags": [[]] * count,
        "paired": paired,
        "unpaired_reason": np.where(paired, "", np.array(REASONS, dtype=object)[rng.integers(0, 4, count)]),
        "block": [f"30km_{n % 97}" for n in number],
        "split": split,
        "index": pd.Series(split).groupby(split).cumcount().to_numpy(),
    }
    for column in METRIC_COLUMNS:
        values = rng.gamma(2.0, 1.0, count).astype(np.float32)
        values[rng.random(count) < 0.05] = np.nan
        told[column.name] = np.full(count, np.nan, np.float32) if column.name in UNMEASURED else values
    names = [column.name for column in SAMPLE_COLUMNS]
    empty = {"string": "", "int32": 0, "int64": 0, "list<float64>": None, "list<string>": None}
    kinds = {column.name: column.type for column in SAMPLE_COLUMNS}
    return pd.DataFrame({name: told.get(name, empty.get(kinds[name])) for name in names}, index=number)


def made_facts(root, samples):
    """A release under way that holds these samples; of its files provenance/config.toml alone lies in root."""
    (root / "provenance").mkdir(parents=True, exist_ok=True)
    (root / "provenance/config.toml").write_text(BuildConfig(name="made-up").to_toml(), encoding="utf-8")
    by_split = {split: int((samples["split"] == split).sum()) for split in SPLITS}
    paired = int(samples["paired"].sum())
    unpaired = samples.loc[~samples["paired"], "unpaired_reason"].value_counts().sort_index()
    pairs = ("train-val", "train-test", "val-test")
    counts = {"candidates": len(samples) + 7, "accepted": len(samples), "rejected": 7, "failed": 0}
    summary = {
        "name": "made-up",
        "region": "nowhere",
        "profile": "training",
        "patch_px": 256,
        "gsd_m": 10.0,
        "quantity": "gamma0",
        "polarisations": ["VV", "VH"],
        "optical_quantity": "reflectance",
        "optical_bands": ["B04", "B03", "B02"],
        "counts": {**counts, "paired": paired, "unpaired": len(samples) - paired, "recipes": 0},
        "by_split": by_split,
        "rejected_by_reason": {"superseded_by_other_build": 4, "water": 3},
        "unpaired_by_reason": {str(name): int(count) for name, count in unpaired.items()},
        "sites": [],
    }
    return ReleaseFacts(
        root=root,
        name="made-up",
        version="0.1.0",
        samples=samples,
        rejected=pd.DataFrame({column.name: [] for column in REJECTED_COLUMNS}),
        counts=summary["counts"],
        normalisation={"sar": {}, "optical": {}},
        audit={
            "block_km": 30.0,
            "buffer_km": 5.0,
            "buffer_holds": True,
            "holds": True,
            "problems": [],
            "samples": by_split,
            "blocks": dict.fromkeys(SPLITS, 9),
            "least_distance_km": dict.fromkeys(pairs, 6.2),
            "shared_sar_products": dict.fromkeys(pairs, 0),
            "shared_optical_products": dict.fromkeys(pairs, 0),
        },
        summary=summary,
        licences=(
            LicenceRow(
                source="simulated (sar)",
                licence="CC0-1.0",
                url="https://example.org/terms",
                redistribution="redistribute",
                evidence="made up",
                samples=len(samples),
            ),
        ),
        years=(2019, 2020, 2021),
        previous=None,
        changes={"added": len(samples), "removed": 0, "changed": 0, "moved": 0},
    )


def made_pictures(samples, most):
    """Speckle of the size that the page would have, a few pictures again and again, of at most so many samples."""
    side = FULL_PX if len(samples) <= FULL_SIZE_MOST else SMALL_PX
    rng = np.random.default_rng(7)
    drawn = [_speckle(rng, side) for _ in range(24)]
    positions = tuple(sorted(spread_order(samples)[:most]))
    paired = samples["paired"].to_numpy()
    return Pictures(
        positions=positions,
        sar=tuple(drawn[n % 12] for n in positions),
        optical=tuple(drawn[12 + n % 12] if paired[n] else None for n in positions),
        longest_px=side,
    )


def _speckle(rng, side):
    base = np.kron(rng.uniform(40, 200, (8, 8, 3)), np.ones((side // 8, side // 8, 1)))
    buffer = io.BytesIO()
    grain = rng.gamma(4, 0.25, (side, side, 1))
    Image.fromarray(np.clip(base * grain, 0, 255).astype(np.uint8)).save(buffer, "WEBP", quality=QUALITY, method=4)
    return buffer.getvalue()
