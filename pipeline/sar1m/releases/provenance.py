"""What a release was made from: every product and pixel hash by sample, and recipes for pixels that stay away.

A hash is of decoded digital numbers (shards.array_hash), so that repacking and recompressing change none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import pandas as pd

from sar1m.io.tables import parquet_bytes
from sar1m.io.zarr_groups import ImageArray
from sar1m.releases.build_pixels import BuildChunks, array_hash, decode_pixels, pixel_hash
from sar1m.releases.builds import Build
from sar1m.releases.licences import RECIPE_ONLY
from sar1m.store.table_columns import CANDIDATE_COLUMNS, Column

_CONTRACT: Final = {column.name: column for column in CANDIDATE_COLUMNS}


def _text(name: str, description: str, *, nullable: bool = False) -> Column:
    return Column(name=name, type="string", unit="", description=description, nullable=nullable)


LOCK_COLUMNS: Final = (
    _CONTRACT["sample_id"],
    _CONTRACT["key"],
    *(_CONTRACT[name] for name in ("sar_product", "sar_digest", "provider", "processing")),
    *(_CONTRACT[name] for name in ("optical_product", "optical_digest", "optical_provider")),
    _text("build", "first 16 hexadecimal digits of the manifest's sha256 of the build that held the sample"),
    _text("sar_hash", "blake2b-128 of the decoded SAR digital numbers"),
    _text("optical_hash", "blake2b-128 of the decoded optical digital numbers; empty where unpaired", nullable=True),
    _text("pixel_hash", "blake2b-128 of the hashes of all arrays the sample has"),
)
RECIPE_COLUMNS: Final = (
    *(_CONTRACT[name] for name in ("sample_id", "key", "patch", "epsg", "transform", "gsd_m", "bounds_lonlat")),
    Column(name="rows", type="int32", unit="px", description="rows of the patch"),
    Column(name="cols", type="int32", unit="px", description="columns of the patch"),
    *(_CONTRACT[name] for name in ("optical_product", "optical_digest", "optical_provider", "optical_datetime")),
    *(_CONTRACT[name] for name in ("bands", "processing_baseline", "offset_applied", "licence_optical")),
    *(_CONTRACT[name] for name in ("applied_row_px", "applied_col_px")),
    _text("quantity", "reflectance or display"),
    _text("dtype", "type of the digital numbers; 0 means no data"),
    Column(name="scale_factor", type="float64", unit="", description="value = add_offset + scale_factor * DN"),
    Column(name="add_offset", type="float64", unit="", description="value = add_offset + scale_factor * DN"),
    _text("region", "region of the build that read the pixels: sar1m build --region"),
    _text("config", "its configuration, below provenance/builds: sar1m build --config"),
    _text("expected_hash", "blake2b-128 of the decoded optical digital numbers that come out"),
)


def lock_parquet(samples: pd.DataFrame, builds: Sequence[Build], hashes: Mapping[str, Mapping[str, str]]) -> bytes:
    """provenance/lock.parquet: LOCK_COLUMNS, one row a sample in store order. hashes: by sample_id, by array."""
    found = [hashes[name] for name in samples["sample_id"]]
    table = samples.assign(
        build=[builds[number].short for number in samples["origin_build"]],
        sar_hash=[one["sar"] for one in found],
        optical_hash=[one.get("optical") for one in found],
        pixel_hash=[pixel_hash(one) for one in found],
    )
    return parquet_bytes(table, LOCK_COLUMNS)


def recipes_parquet(samples: pd.DataFrame, builds: Sequence[Build]) -> bytes | None:
    """recipes.parquet of the samples that are unpaired for recipe_only; None where there are none.

    The expected hash is of the pixels the build holds. Raises StoreError where one of its chunks is damaged.
    """
    kept_back = samples[(samples["unpaired_reason"] == RECIPE_ONLY).to_numpy()]
    if kept_back.empty:
        return None
    image = next(image for image in builds[0].images if image.layout.name == "optical")
    readers = [build.readers() for build in builds]
    _bands, rows, cols = image.layout.sample_shape
    places = list(zip(*(kept_back[name] for name in ("origin_build", "origin_split", "origin_index")), strict=True))
    table = kept_back.assign(
        rows=rows,
        cols=cols,
        quantity=builds[0].kind.optical_quantity,
        dtype=image.encoding.dtype,
        scale_factor=image.encoding.scale_factor,
        add_offset=image.encoding.add_offset,
        region=[builds[number].marker["region"] for number, _, _ in places],
        config=[f"{builds[number].short}/config.toml" for number, _, _ in places],
        expected_hash=[_optical_hash(readers[build][split], int(at), image) for build, split, at in places],
    )
    return parquet_bytes(table, RECIPE_COLUMNS)


def _optical_hash(reader: BuildChunks, number: int, image: ImageArray) -> str:
    return array_hash(decode_pixels(reader.chunk("optical", number), image, origin="optical"), "optical")
