"""The Zarr groups of a store: metadata, coordinates, and small arrays of one value for each sample."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from sar1m.core.identity import sample_key
from sar1m.store.chunks import BLOSC_LEVEL, Compression
from sar1m.store.schema import ArrayLayout, LinearEncoding

COORDINATES = "sample_id lon lat"  # CF: auxiliary coordinates of the image arrays


@dataclass(frozen=True, kw_only=True)
class ImageArray:
    """Layout, encoding and compression of an image array of a split."""

    layout: ArrayLayout
    encoding: LinearEncoding
    compression: Compression
    labels: tuple[str, ...]  # of the second dimension: polarisations, bands or the one layer's name


def group_files(images: list[ImageArray], samples: pd.DataFrame, attributes: Mapping[str, Any]) -> dict[str, bytes]:
    """The files of a split's group, without the shards, by relative name.

    They are the zarr.json of every array, and the arrays paired, sample_key, sample_id, enl, land_cover, lon and lat.

    samples: rows of this split in the order of the store.
    """
    files: dict[str, Buffer] = {}
    root = zarr.create_group(MemoryStore(files), zarr_format=3, attributes=dict(attributes))
    for image in images:
        layout = image.layout
        root.create_array(
            layout.name,
            shape=(len(samples), *layout.sample_shape),
            chunks=layout.chunk_shape,
            shards=layout.shard_shape,
            dtype=layout.dtype,
            fill_value=0,
            compressors=_compressors(layout.dtype, image.compression),
            dimension_names=layout.dims,
            attributes={**image.encoding.cf_attributes(), "coordinates": COORDINATES},
        )
        _write_labels(root, layout.dims[1], image.labels)
    _write_columns(root, samples)
    return {name: buffer.to_bytes() for name, buffer in sorted(files.items())}


def _compressors(dtype: str, compression: Compression) -> list[Any]:
    """The codecs by which zarr describes and reads what chunks.encode_chunk writes."""
    if compression == "none":
        return [Crc32cCodec()]
    blosc = BloscCodec(cname="lz4", clevel=BLOSC_LEVEL, shuffle="bitshuffle", typesize=np.dtype(dtype).itemsize)
    return [blosc, Crc32cCodec()]


def _write_labels(root: zarr.Group, dim: str, labels: tuple[str, ...]) -> None:
    array = root.create_array(
        dim, shape=(len(labels),), chunks=(max(len(labels), 1),), dtype="str", dimension_names=(dim,)
    )
    array[:] = np.array(labels)


def _write_columns(root: zarr.Group, samples: pd.DataFrame) -> None:
    ids = samples["sample_id"].to_numpy(dtype=str) if len(samples) else np.array([], dtype="U1")
    columns: dict[str, tuple[np.ndarray, str, str]] = {
        "paired": (samples["paired"].to_numpy(dtype=np.uint8), "1", "1 where the sample has an optical partner"),
        "sample_key": (np.array([sample_key(name) for name in ids], dtype=np.int64), "1", "63-bit hash of sample_id"),
        "enl": (samples["enl"].to_numpy(dtype=np.float32), "1", "equivalent number of looks; NaN where unmeasured"),
        "lon": (samples["lon"].to_numpy(dtype=np.float64), "degrees_east", "longitude of the patch centre"),
        "lat": (samples["lat"].to_numpy(dtype=np.float64), "degrees_north", "latitude of the patch centre"),
    }
    for name, (values, units, long_name) in columns.items():
        root.create_array(
            name,
            data=values,
            chunks=(max(len(values), 1),),
            compressors=[Crc32cCodec()],
            dimension_names=("sample",),
            attributes={"units": units, "long_name": long_name},
        )
    _write_land_cover(root, samples)
    array = root.create_array(
        "sample_id", shape=ids.shape, chunks=(max(len(ids), 1),), dtype="str", dimension_names=("sample",)
    )
    array[:] = ids


def _write_land_cover(root: zarr.Group, samples: pd.DataFrame) -> None:
    """Writes the class that covers most of each sample, as CF flags: 0 is unknown, others are numbered by name."""
    covers: list[dict[str, float]] = [dict(row or {}) for row in samples["land_cover"]]
    largest = [max(cover, key=lambda name: cover[name]) if cover else None for cover in covers]
    names = sorted({name for name in largest if name is not None})
    root.create_array(
        "land_cover",
        data=np.array([0 if name is None else names.index(name) + 1 for name in largest], dtype=np.uint8),
        chunks=(max(len(largest), 1),),
        compressors=[Crc32cCodec()],
        dimension_names=("sample",),
        attributes={
            "units": "1",
            "long_name": "land cover that takes most of the sample",
            "flag_values": list(range(len(names) + 1)),
            "flag_meanings": " ".join(["unknown", *(re.sub(r"[^A-Za-z0-9_.@+-]+", "_", name) for name in names)]),
        },
    )
