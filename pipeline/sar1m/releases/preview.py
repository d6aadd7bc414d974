"""preview.parquet: a few hundred samples with thumbnails, for dataset viewers that cannot open Zarr."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import zarr
from PIL import Image

from sar1m.core.resample import block_mean
from sar1m.core.table import keyed_hash
from sar1m.io.tables import ARROW_TYPES
from sar1m.page.previews import optical_picture, release_stretch, sar_picture
from sar1m.records import F32, U8, Bool
from sar1m.releases.catalogue import class_names
from sar1m.releases.contents import PREVIEW_FILE, ReleaseFacts
from sar1m.store.errors import StoreError
from sar1m.store.schema import NODATA_DN, SPLITS, group_name
from sar1m.store.table_columns import SAMPLE_COLUMNS

PREVIEW_ROWS: Final = 300
THUMBNAIL_PX: Final = 128  # longest side
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
    for row in chosen.to_dict("records"):
        group = facts.root / group_name(row["split"])
        name, index = row["sample_id"], int(row["index"])
        sar_db = _small_db(_decoded(group / "sar", index))
        grey, valid = sar_picture(sar_db, stretch)
        sar = _image(grey[..., :1], valid, f"{name}_sar.png")
        if not row["paired"]:
            yield sar, None
            continue
        optical = block_mean(values := _decoded(group / "optical", index), _factor(values))
        rgb, valid = optical_picture(optical, row["bands"], stretch)
        yield sar, _image(rgb, valid, f"{name}_optical.png")


def _decoded(array: Path, index: int) -> F32:
    """Physical values (C, H, W) of one sample, NaN without data. zarr reads a missing shard as no data, silently."""
    try:
        opened = zarr.open_array(array, mode="r")
        dn = np.asarray(opened[index])
        scale, offset = (float(opened.attrs[key]) for key in ("scale_factor", "add_offset"))  # type: ignore[arg-type]
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise StoreError(f"{array}: sample {index} cannot be read ({type(error).__name__}: {error}).") from error
    if not dn.any():
        raise StoreError(f"{array}: sample {index} holds no data, expected pixels. Is a shard missing?")
    return np.where(dn == NODATA_DN, np.nan, offset + scale * dn.astype(np.float64)).astype(np.float32)


def _small_db(sar_db: F32) -> F32:
    """Thumbnail in decibels: powers are averaged, never their logarithms."""
    factor = _factor(sar_db)
    if factor == 1:
        return sar_db
    averaged: F32 = 10 * np.log10(block_mean((10.0 ** (sar_db / 10)).astype(np.float32), factor))
    return averaged


def _factor(image: F32) -> int:
    longest: int = max(image.shape[1:])
    return -(-longest // THUMBNAIL_PX)


def _image(colours: U8, valid: Bool, path: str) -> dict[str, Any]:
    """A PNG of grey (H, W, 1) or coloured (H, W, 3) values, with an alpha channel where some pixels hold no data."""
    shown = colours if valid.all() else np.dstack([colours, np.where(valid, 255, 0).astype(np.uint8)])
    buffer = io.BytesIO()
    Image.fromarray(shown[..., 0] if shown.shape[2] == 1 else shown).save(buffer, "PNG", compress_level=9)
    return {"bytes": buffer.getvalue(), "path": path}
