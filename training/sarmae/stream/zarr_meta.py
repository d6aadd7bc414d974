"""What a zarr.json may say: the arrays of a split, checked against the pipeline's contract before any allocation.

Source: Zarr v3 core specification; sharding_indexed codec, version 1.0; vlen-utf8 codec of zarr-extensions.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numcodecs import zstd

from sar1m.store.array_metadata import (
    CRC32C,
    LITTLE_ENDIAN,
    check_array,
    chunk_codecs,
    differs,
    expect,
    image_shape,
    linear_encoding,
    named_codec,
    regular_grid,
    shard_slots,
)
from sar1m.store.chunks import CRC_BYTES, checked_payload
from sar1m.store.errors import StoreError
from sar1m.store.seal import REMEDY
from sarmae.stream.batch import Codec, ImageSpec
from sarmae.stream.codecs import codec_of, zstd_content_bytes
from sarmae.stream.sealed import SealedFiles

MAX_SAMPLE_BYTES = 64 * 2**20
MAX_SAMPLES = 2**40
MAX_LABELS = 1024
MAX_LABEL_BYTES = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class ImageRules:
    """What is asked of an image array: its second dimension's name and the integers it may hold."""

    name: str
    dim: str
    dtypes: tuple[str, ...]


SAR_RULES = ImageRules(name="sar", dim="pol", dtypes=("uint16",))
OPTICAL_RULES = ImageRules(name="optical", dim="band", dtypes=("uint8", "uint16"))


def read_group(sealed: SealedFiles, group: str, split: str) -> None:
    """Checks a split's own zarr.json. StoreError where it is no group, or one of another split."""
    name = f"{group}/zarr.json"
    meta = sealed.read_json(name)
    shown = sealed.shown(name)
    expect(shown, "node_type", meta.get("node_type"), "group")
    expect(shown, "zarr_format", meta.get("zarr_format"), 3)
    attributes = meta.get("attributes")
    expect(shown, "split", attributes.get("split") if isinstance(attributes, dict) else None, split)


def read_image(sealed: SealedFiles, group: str, rules: ImageRules) -> tuple[ImageSpec, int]:
    """An image array and how many samples it has. StoreError naming its zarr.json and the first thing that differs."""
    name = f"{group}/{rules.name}/zarr.json"
    meta, shown = sealed.read_json(name), sealed.shown(name)
    check_array(meta, shown)
    shape = image_shape(meta, shown)
    expect(shown, "dimension_names", meta.get("dimension_names"), ["sample", rules.dim, "y", "x"])
    encoding = linear_encoding(meta, shown)
    if encoding.dtype not in rules.dtypes:
        raise differs(shown, "data_type", encoding.dtype, " or ".join(rules.dtypes))
    sample_bytes = math.prod(shape[1:]) * np.dtype(encoding.dtype).itemsize
    if sample_bytes > MAX_SAMPLE_BYTES or shape[0] > MAX_SAMPLES or shape[1] > MAX_LABELS:
        raise differs(shown, "shape", shape, f"samples of at most {MAX_SAMPLE_BYTES} bytes")
    spec = ImageSpec(
        name=rules.name,
        labels=_labels(sealed, group, rules.dim, shape[1]),
        sample_shape=(shape[1], shape[2], shape[3]),
        dtype=encoding.dtype,
        scale_factor=encoding.scale_factor,
        add_offset=encoding.add_offset,
        units=encoding.units,
        slots=shard_slots(meta, shown),
        codec=_codec(chunk_codecs(meta, shown), np.dtype(encoding.dtype).itemsize, shown),
    )
    return spec, shape[0]


def read_column(
    sealed: SealedFiles, group: str, name: str, dtype: str, samples: int, *, zeros_are_absent: bool = False
) -> np.ndarray:
    """A small array along the samples, of one chunk: (samples,) of dtype. StoreError where it is another.

    samples are believed only as far as the chunk has bytes for them. zeros_are_absent: a column without a chunk is 0
    throughout (zarr writes no such chunk); samples must be known from another column then.
    """
    shown = sealed.shown(f"{group}/{name}/zarr.json")
    meta = sealed.read_json(f"{group}/{name}/zarr.json")
    check_array(meta, shown)
    expect(shown, "shape", meta.get("shape"), [samples])
    expect(shown, "data_type", meta.get("data_type"), dtype)
    expect(shown, "chunk_grid", meta.get("chunk_grid"), regular_grid([samples]))
    plain = {"name": "bytes"} if np.dtype(dtype).itemsize == 1 else LITTLE_ENDIAN
    expect(shown, "codecs", meta.get("codecs"), [plain, CRC32C])
    expect(shown, "fill_value", meta.get("fill_value"), np.zeros((), dtype).item())
    chunk = f"{group}/{name}/c/0"
    if zeros_are_absent and chunk not in sealed.sizes:
        return np.zeros(samples, dtype=dtype)
    nbytes = samples * np.dtype(dtype).itemsize
    content = sealed.read(chunk, max_bytes=nbytes + CRC_BYTES)
    try:
        payload = checked_payload(content)
        if len(payload) != nbytes:
            raise ValueError(f"{len(payload)} bytes")
    except ValueError as error:
        raise StoreError(f"{sealed.shown(chunk)}: not {nbytes} bytes and their checksum ({error}). {REMEDY}") from error
    return np.frombuffer(payload, np.dtype(dtype).newbyteorder("<")).astype(dtype)


def _labels(sealed: SealedFiles, group: str, dim: str, count: int) -> tuple[str, ...]:
    """The strings along an image's second dimension: vlen-utf8, zstd around it."""
    shown = sealed.shown(f"{group}/{dim}/zarr.json")
    meta = sealed.read_json(f"{group}/{dim}/zarr.json")
    check_array(meta, shown)
    expect(shown, "shape", meta.get("shape"), [count])
    expect(shown, "data_type", meta.get("data_type"), "string")
    expect(shown, "chunk_grid", meta.get("chunk_grid"), regular_grid([count]))
    chain = meta.get("codecs")
    chunk = f"{group}/{dim}/c/0"
    try:
        names = [named_codec(codec)[0] for codec in chain] if isinstance(chain, list) else []
        expect(shown, "codecs", names, ["vlen-utf8", "zstd"])
        return _strings(sealed.read(chunk, max_bytes=MAX_LABEL_BYTES), count)
    except (ValueError, RuntimeError, struct.error) as error:
        raise StoreError(f"{sealed.shown(chunk)}: not the {count} labels expected ({error}). {REMEDY}") from error


def _strings(content: bytes, count: int) -> tuple[str, ...]:
    if zstd_content_bytes(content) > MAX_LABEL_BYTES:
        raise ValueError("they unpack to more than labels need")
    unpacked = bytes(zstd.decompress(content))
    if struct.unpack_from("<I", unpacked)[0] != count:
        raise ValueError("another number of strings")
    strings, position = [], 4
    for _ in range(count):
        (length,) = struct.unpack_from("<I", unpacked, position)
        strings.append(unpacked[position + 4 : position + 4 + length].decode("utf-8"))
        position += 4 + length
    if position != len(unpacked) or len(set(strings)) != count:
        raise ValueError("cut off, or not distinct")
    return tuple(strings)


def _codec(chain: list[Any], itemsize: int, shown: str) -> Codec:
    try:
        return codec_of(chain, itemsize)
    except ValueError as error:
        raise StoreError(f"{shown}: {error}. {REMEDY}") from error
