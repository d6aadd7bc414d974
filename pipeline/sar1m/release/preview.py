"""preview.parquet: a few hundred samples with thumbnails, for dataset viewers that cannot open Zarr."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sar1m.core.table import keyed_hash
from sar1m.io.tables import ARROW_TYPES
from sar1m.release.catalogue import class_names
from sar1m.release.records import PREVIEW_FILE, ReleaseFacts
from sar1m.report.previews import PreviewReader, release_stretch
from sar1m.schema import SAMPLE_COLUMNS, SPLITS

PREVIEW_ROWS: Final = 300
ROW_GROUP: Final = 100  # viewers read a row group at a time: some 6 MB of pictures
KEY_COLUMNS: Final = (
    *("sample_id", "split", "index", "lon", "lat", "country", "sar_datetime", "platform", "orbit_state", "paired"),
    *("dt_hours", "residual_px", "cloud_frac", "enl", "dynamic_range_db"),
)
# As the hub's `datasets` library stores pictures.
IMAGE_TYPE: Final = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_HUB_TYPES: Final = {"timestamp": "timestamp[us, tz=UTC]"}


def preview_files(facts: ReleaseFacts) -> dict[str, bytes]:
    """preview.parquet. SAR: the first polarisation in grey between the release's percentiles; optical: red, green and
    blue; both without data transparent. Raises StoreError where pixels are missing."""
    chosen = facts.samples.iloc[choose_rows(facts.samples)]
    classes = class_names(chosen)
    pictures = list(_pictures(facts, chosen))
    columns = [column for column in SAMPLE_COLUMNS if column.name in KEY_COLUMNS]
    arrays = {
        **{c.name: pa.Array.from_pandas(chosen[c.name], type=ARROW_TYPES[c.type]) for c in columns},
        "class": pa.array(classes.tolist(), type=pa.string()),
        "sar": pa.array([sar for sar, _ in pictures], type=IMAGE_TYPE),
        "optical": pa.array([optical for _, optical in pictures], type=IMAGE_TYPE),
    }
    features: dict[str, Any] = {c.name: {"dtype": _HUB_TYPES.get(c.type, c.type), "_type": "Value"} for c in columns}
    features["class"] = {"dtype": "string", "_type": "Value"}
    features |= {"sar": {"_type": "Image"}, "optical": {"_type": "Image"}}
    table = pa.table(arrays).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": {name: features[name] for name in arrays}}})}
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", compression_level=3, row_group_size=ROW_GROUP)
    return {PREVIEW_FILE: buffer.getvalue()}


def choose_rows(samples: pd.DataFrame) -> list[int]:
    """Positions of at most 300 samples in store order, the same for the same table: by turns from every split, and in
    it from every class, by a hash of the sample's name."""
    draw = keyed_hash(samples["sample_id"], seed=0, purpose="preview")
    table = pd.DataFrame({"split": samples["split"].to_numpy(), "class": class_names(samples), "draw": draw})
    table = table.sort_values("draw", kind="stable")
    table["turn"] = table.groupby(["split", "class"], sort=False).cumcount()
    table = table.sort_values(["turn", "draw"], kind="stable")
    waiting = [table.index[table["split"] == split].tolist() for split in SPLITS]
    taken: list[int] = []
    for turn in range(max(map(len, waiting), default=0)):
        taken += [members[turn] for members in waiting if turn < len(members)]
        if len(taken) >= PREVIEW_ROWS:
            break
    return sorted(taken[:PREVIEW_ROWS])


def _pictures(facts: ReleaseFacts, chosen: pd.DataFrame) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
    stretch = replace(release_stretch(facts.normalisation, facts.summary), ratio_db=None)  # no ratio: grey
    reader = PreviewReader(facts.root, stretch)
    for row in chosen.to_dict("records"):
        preview = reader.preview({str(name): value for name, value in row.items()})
        optical = None if preview.optical is None else _image(preview.optical, f"{row['sample_id']}_optical.png")
        yield _image(preview.sar, f"{row['sample_id']}_sar.png"), optical


def _image(data_uri: str, path: str) -> dict[str, Any]:
    return {"bytes": base64.b64decode(data_uri.partition(",")[2], validate=True), "path": path}
