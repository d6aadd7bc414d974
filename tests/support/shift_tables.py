"""Tables of made-up shifts with known changes, sealed as a build's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sar1m.io.tables import parquet_bytes
from sar1m.store.durable import write_durably
from sar1m.store.schema import SAMPLES_FILE, SCHEMA_VERSION
from sar1m.store.seal import write_seal
from sar1m.store.table_columns import SAMPLE_COLUMNS
from support.candidate_tables import candidate_table

PATCHES = 6


def rows(acquisitions: int = 240, seed: int = 0, **changed: Any) -> pd.DataFrame:
    """Six patches of each scene pair, that share its error; tracks over places of their own; two platforms, 18 months.
    The shift is that of a radar image displaced by `along` and `away` from month 2023-07 on."""
    rng = np.random.default_rng(seed)
    along, away = changed.pop("along", 0.0), changed.pop("away", 0.0)
    track, month, platform = (rng.integers(0, most, acquisitions) for most in (8, 18, 2))
    lies = 0.3 * rng.standard_normal((acquisitions, 2)) + rng.normal(0, 0.5, (8, 2))[track]
    lies[month >= 6] += (along, away)
    ascending = track % 2 == 0
    north = np.where(ascending, 1.0, -1.0)
    of = np.repeat(np.arange(acquisitions), PATCHES)
    shift = np.stack((north * lies[:, 0], -north * lies[:, 1]), axis=-1)[of]
    shift += 0.1 * rng.standard_normal(shift.shape)
    day = pd.to_datetime([f"{2023 + m // 12}-{m % 12 + 1:02d}-10T06:00:00" for m in month], utc=True)
    table = candidate_table(
        len(of),
        seed,
        sample_id=[f"p{i}_{seed}" for i in range(len(of))],
        sar_product=[f"s1-{seed}-{i}" for i in of],
        datatake=[f"{seed:02x}{i:04x}" for i in of],
        optical_product=[f"s2-{seed}-{i}" for i in of],
        sar_datetime=day[of],
        relative_orbit=(10 + track)[of],
        orbit_state=np.where(ascending, "ascending", "descending")[of],
        platform=np.where(platform == 1, "sentinel-1c", "sentinel-1a")[of],
        processing=np.where(platform == 1, "IW GRD, IPF 003.90; x", "IW GRD, IPF 003.40; x")[of],
        shift_row_px=shift[:, 0],
        shift_col_px=shift[:, 1],
        shift_sigma_px=0.1,
        **changed,
    )
    return table.assign(split="train", index=np.arange(len(of)), shard=0, block="b", paired=True)


def store(root: Path, table: pd.DataFrame, *, without: tuple[str, ...] = ()) -> Path:
    """A sealed store that holds no more than the table."""
    columns = [column for column in SAMPLE_COLUMNS if column.name not in without]
    full = table.reindex(columns=[column.name for column in columns])
    for column in columns:
        if column.name not in table:
            full[column.name] = "-" if column.type == "string" else 0
    digest = write_durably(root / SAMPLES_FILE, [parquet_bytes(full, columns)])
    write_seal(root, {SAMPLES_FILE: digest}, {"name": root.name, "schema_version": SCHEMA_VERSION})
    return root
