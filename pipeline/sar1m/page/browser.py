"""The pair browser of the page: which samples it shows, and what its script needs of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from sar1m.core.table import F64
from sar1m.page.previews import PreviewReader, Stretch
from sar1m.page.reasons import reason_words
from sar1m.page.store_contents import Contents, read_rows
from sar1m.store.places.place import Place
from sar1m.store.schema import SPLITS
from sar1m.store.table_columns import SAMPLE_COLUMNS, Column

BROWSER_SAMPLES = 60
BROWSER_CHARACTERS = 6_500_000  # of pictures, so that the page stays under 8 MB
LEAST_CLASS_SHARE = 0.05  # a class on less of a patch does not describe it
KEY_FACTS = (
    "sar_datetime",
    "optical_datetime",
    "dt_hours",
    "platform",
    "orbit_state",
    "registration_status",
    "shift_row_px",
    "shift_col_px",
    "residual_px",
    "registration_psr",
    "cloud_frac",
    "enl",
    "dynamic_range_db",
    "land_cover",
    "labels",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class BrowserSample:
    """One row of samples.parquet and its pictures as data URIs."""

    row: dict[str, Any]
    sar: str
    optical: str | None

    @property
    def classes(self) -> list[str]:
        """Names to filter by: land-cover classes over a twentieth of the patch, or the source's labels."""
        cover: Mapping[str, float] = self.row["land_cover"] or {}
        return sorted(name for name, share in cover.items() if share >= LEAST_CLASS_SHARE) or list(self.row["labels"])


def choose_positions(samples: pd.DataFrame) -> list[int]:
    """Positions in samples of at most 60 of them, the same for the same table.

    They are spread over the splits first, then over sites, and over paired and unpaired samples. Within these a hash of
    the sample's name decides.
    """
    order = np.array([_hash(name) for name in samples["sample_id"]], dtype=np.uint64)
    table = pd.DataFrame(
        {"split": samples["split"], "site": samples["site"], "paired": samples["paired"], "hash": order}
    ).reset_index(drop=True)
    table = table.sort_values("hash", kind="stable")
    table["turn"] = table.groupby(["split", "site", "paired"], sort=False).cumcount()
    table = table.sort_values(["turn", "hash"], kind="stable")
    members = {split: table.index[table["split"] == split].tolist() for split in SPLITS}
    taken: list[int] = []
    while len(taken) < BROWSER_SAMPLES and any(members.values()):
        for split in SPLITS:
            if members[split] and len(taken) < BROWSER_SAMPLES:
                taken.append(members[split].pop(0))
    return taken


def load_samples(contents: Contents, stretch: Stretch, pixels: Place) -> tuple[list[int], list[BrowserSample]]:
    """Positions and samples with their pictures, as many as fit the page, in the order of split, site and name."""
    positions = choose_positions(contents.samples)
    reader = PreviewReader(pixels, stretch)
    chosen: list[tuple[int, BrowserSample]] = []
    left = BROWSER_CHARACTERS
    for position, row in zip(positions, read_rows(contents.store, positions), strict=True):
        preview = reader.preview(row)
        left -= preview.size
        if left < 0:
            break
        chosen.append((position, BrowserSample(row=row, sar=preview.sar, optical=preview.optical)))
    chosen.sort(key=lambda pair: (SPLITS.index(pair[1].row["split"]), pair[1].row["site"], pair[1].row["sample_id"]))
    return [position for position, _ in chosen], [sample for _, sample in chosen]


def browser_json(samples: list[BrowserSample], x: F64, y: F64) -> Markup:
    """Everything the script shows, as JSON that is safe inside a script element. x, y: (n,) drawing units on the
    map."""
    payload = {
        "columns": [[c.name, c.description] for c in SAMPLE_COLUMNS],
        "facts": [[c.name for c in SAMPLE_COLUMNS].index(name) for name in KEY_FACTS],
        "samples": [
            {
                "id": sample.row["sample_id"],
                "split": sample.row["split"],
                "site": sample.row["site"],
                "paired": bool(sample.row["paired"]),
                "why": reason_words(str(sample.row["unpaired_reason"])),
                "classes": sample.classes,
                "place": [round(float(x[number]), 1), round(float(y[number]), 1)],
                "sar": sample.sar,
                "optical": sample.optical,
                "values": [readable(sample.row[column.name], column) for column in SAMPLE_COLUMNS],
            }
            for number, sample in enumerate(samples)
        ],
    }
    return script_json(payload)


def script_json(value: Any) -> Markup:  # noqa: ANN401 - any JSON value
    """JSON whose text can neither end a script element nor open a comment in it (HTML Living Standard, 4.12.1.3)."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - nothing is left in it that markup could begin with


def readable(value: Any, column: Column) -> str:  # noqa: ANN401 - any value of a table
    """A value of the metadata table as text with its unit; a dash where it is missing."""
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return "–"
    if isinstance(value, dict):
        shares = sorted(value.items(), key=lambda item: (-item[1], item[0]))
        return ", ".join(f"{name} {_per_cent(share)}" for name, share in shares) or "–"
    if isinstance(value, list):
        return ", ".join(_scalar(item, column) for item in value) + (_unit(column) if value else "–")
    return _scalar(value, column) + (_unit(column) if value != "" else "–")


def _scalar(value: Any, column: Column) -> str:  # noqa: ANN401 - any scalar of a table
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, float):
        digits = f"{value:.5f}" if column.unit == "deg" else f"{value:.10g}" if column.unit == "m" else f"{value:.4g}"
        return digits.replace("-", "−")
    return str(value)


def _per_cent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.005 or share == 0 else "<1 %"


def _unit(column: Column) -> str:
    return f" {column.unit}" if column.unit not in ("", "1") else ""


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(str(name).encode(), digest_size=8).digest(), "big")
