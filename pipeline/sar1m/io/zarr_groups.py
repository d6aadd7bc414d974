"""The Zarr groups of a store: metadata, coordinates, and small arrays of one value for each sample."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.buffer import Buffer, cpu
from zarr.storage import MemoryStore

from sar1m.core.identity import sample_key
from sar1m.store.chunk_checksums import checksums_name
from sar1m.store.chunks import BLOSC_LEVEL, Compression
from sar1m.store.errors import StoreError
from sar1m.store.schema import ArrayLayout, LinearEncoding
from sar1m.store.seal import REMEDY
from sar1m.store.seal_text import parse_object

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


def checksum_files(checksums: Mapping[str, np.ndarray]) -> dict[str, bytes]:
    """The files of a split's arrays of checksums, by relative name. checksums: (S,) uint32 by image array, see
    store/chunk_checksums.py. They come after the shards, whose chunks they are of."""
    files: dict[str, Buffer] = {}
    root = zarr.create_group(MemoryStore(files), zarr_format=3)
    for array, values in checksums.items():
        about = f"crc32c at the end of the sample's chunk of {array}; 0 where it has none"
        _write_column(root, checksums_name(array), values, {"units": "1", "long_name": about})
    return {name: buffer.to_bytes() for name, buffer in sorted(files.items()) if name != "zarr.json"}


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
        _write_column(root, name, values, {"units": units, "long_name": long_name})
    _write_land_cover(root, samples)
    _write_column(root, "sample_id", ids, {})


def _write_column(root: zarr.Group, name: str, values: np.ndarray, attributes: Mapping[str, Any]) -> None:
    """One value for each sample, in one chunk."""
    form: dict[str, Any] = {"shape": values.shape, "chunks": (max(len(values), 1),), "dimension_names": ("sample",)}
    if values.dtype.kind in "UOT":
        array = root.create_array(name, dtype="str", attributes=dict(attributes), **form)
    else:
        array = root.create_array(
            name, dtype=values.dtype, compressors=[Crc32cCodec()], attributes=dict(attributes), **form
        )
    array[:] = values


def cut_group(files: Mapping[str, bytes], samples: int, numbers: np.ndarray) -> dict[str, bytes]:
    """The files of a split's group, without the shards, of some of its samples: as group_files gives them, by relative
    name.

    files: those of the whole split, of whatever minor schema version. samples: how many it has. numbers: (n,) positions
    of the wanted ones, ascending. The images' zarr.json keep everything but the length of their first dimension. Every
    other array along the samples is cut, the rest is kept as it is. Raises StoreError for files that zarr cannot read.
    """
    cut: dict[str, Buffer] = {}
    try:
        whole = zarr.open_group(_memory(files), mode="r")
        root = zarr.create_group(MemoryStore(cut), zarr_format=3)
        kept = {"zarr.json": files["zarr.json"]}
        for name, array in whole.arrays():
            if (getattr(array.metadata, "dimension_names", None) or ("",))[0] != "sample":
                kept |= {file: files[file] for file in files if file.startswith(f"{name}/")}
            elif array.shape[0] != samples:
                raise ValueError(f"{name} has {array.shape[0]} samples, {samples} expected")
            elif array.ndim > 1:
                described = parse_object(files[f"{name}/zarr.json"])
                described["shape"][0] = len(numbers)
                kept[f"{name}/zarr.json"] = json.dumps(described, indent=2).encode()
            else:
                _write_column(root, name, np.asarray(array[:])[numbers], array.attrs.asdict())
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise StoreError(f"the Zarr group of a split cannot be read ({error}). {REMEDY}") from error
    return {name: buffer.to_bytes() for name, buffer in sorted(cut.items()) if name not in kept} | kept


def different_files(expected: Mapping[str, bytes], found: Mapping[str, bytes]) -> list[str]:
    """Names of files in which two groups differ, without their shards; empty where they hold the same.

    Arrays along the samples that another version of zarr wrote are compared by value and attributes. Raises StoreError
    for files that zarr cannot read.
    """
    names = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if not names:
        return []
    try:
        one, other = (zarr.open_group(_memory(files), mode="r") for files in (expected, found))
        return [name for name in names if not _same_values(one.get(name.split("/")[0]), other.get(name.split("/")[0]))]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise StoreError(f"the Zarr group of a split cannot be read ({error}). {REMEDY}") from error


def _same_values(one: object, other: object) -> bool:
    if not isinstance(one, zarr.Array) or not isinstance(other, zarr.Array) or one.ndim > 1 or one.shape != other.shape:
        return False
    nan = one.dtype.kind == "f"
    same = np.array_equal(np.asarray(one[:]), np.asarray(other[:]), equal_nan=nan) and one.dtype == other.dtype
    return same and one.attrs.asdict() == other.attrs.asdict()


def _memory(files: Mapping[str, bytes]) -> MemoryStore:
    return MemoryStore({name: cpu.Buffer.from_bytes(content) for name, content in files.items()})


def _write_land_cover(root: zarr.Group, samples: pd.DataFrame) -> None:
    """Writes the class that covers most of each sample, as CF flags: 0 is unknown, others are numbered by name."""
    covers: list[dict[str, float]] = [dict(row or {}) for row in samples["land_cover"]]
    largest = [max(cover, key=lambda name: cover[name]) if cover else None for cover in covers]
    names = sorted({name for name in largest if name is not None})
    _write_column(
        root,
        "land_cover",
        np.array([0 if name is None else names.index(name) + 1 for name in largest], dtype=np.uint8),
        {
            "units": "1",
            "long_name": "land cover that takes most of the sample",
            "flag_values": list(range(len(names) + 1)),
            "flag_meanings": " ".join(["unknown", *(re.sub(r"[^A-Za-z0-9_.@+-]+", "_", name) for name in names)]),
        },
    )
