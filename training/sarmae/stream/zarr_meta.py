"""What a zarr.json may say: the arrays of a split, checked against the pipeline's contract before any allocation.

Source: Zarr v3 core specification; sharding_indexed codec, version 1.0; vlen-utf8 codec of zarr-extensions.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import zstd

from sar1m.store.errors import StoreError
from sar1m.store.schema import NODATA_DN
from sar1m.store.seal import REMEDY
from sarmae.stream.batch import Codec, ImageSpec
from sarmae.stream.codecs import CRC_BYTES, codec_of, named_codec, zstd_content_bytes
from sarmae.stream.sealed import SealedFiles

MAX_SAMPLE_BYTES = 64 * 2**20
MAX_SLOTS = 65_536
MAX_SAMPLES = 2**40
MAX_LABELS = 1024
MAX_FACTOR = 1e9  # of scale_factor and add_offset: decoded values stay finite in float32
MAX_LABEL_BYTES = 64 * 1024

_LITTLE: dict[str, Any] = {"name": "bytes", "configuration": {"endian": "little"}}
_CRC: dict[str, Any] = {"name": "crc32c"}
_SLASHED: dict[str, Any] = {"name": "default", "configuration": {"separator": "/"}}


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
    place = sealed.place(name)
    _expect(place, "node_type", meta.get("node_type"), "group")
    _expect(place, "zarr_format", meta.get("zarr_format"), 3)
    attributes = meta.get("attributes")
    _expect(place, "split", attributes.get("split") if isinstance(attributes, dict) else None, split)


def read_image(sealed: SealedFiles, group: str, rules: ImageRules) -> tuple[ImageSpec, int]:
    """An image array and how many samples it has. StoreError naming its zarr.json and the first thing that differs."""
    name = f"{group}/{rules.name}/zarr.json"
    meta, place = sealed.read_json(name), sealed.place(name)
    _expect_array(meta, place)
    shape = _integers(place, "shape", meta.get("shape"), 4)
    _expect(place, "dimension_names", meta.get("dimension_names"), ["sample", rules.dim, "y", "x"])
    _expect(place, "fill_value", meta.get("fill_value"), NODATA_DN)
    dtype = meta.get("data_type")
    if dtype not in rules.dtypes:
        raise _differs(place, "data_type", dtype, " or ".join(rules.dtypes))
    sample_bytes = math.prod(shape[1:]) * np.dtype(dtype).itemsize
    if sample_bytes > MAX_SAMPLE_BYTES or shape[0] > MAX_SAMPLES or shape[1] > MAX_LABELS:
        raise _differs(place, "shape", shape, f"samples of at most {MAX_SAMPLE_BYTES} bytes")
    scale_factor, add_offset, units = _encoding(meta.get("attributes"), place)
    spec = ImageSpec(
        name=rules.name,
        labels=_labels(sealed, group, rules.dim, shape[1]),
        sample_shape=(shape[1], shape[2], shape[3]),
        dtype=dtype,
        scale_factor=scale_factor,
        add_offset=add_offset,
        units=units,
        slots=_slots(meta, shape, place),
        codec=_codec(chunk_codecs(meta, place), np.dtype(dtype).itemsize, place),
    )
    return spec, shape[0]


def chunk_codecs(meta: Mapping[str, Any], place: str) -> list[Any]:
    """The codec chain of the chunks inside the shards: JSON, as found. StoreError where the array is not sharded as a
    store is: one sample a chunk, the index at the end, little-endian, with crc32c."""
    found = meta.get("codecs")
    name, options = _named(found[0], place) if isinstance(found, list) and len(found) == 1 else ("", {})
    if name != "sharding_indexed":
        raise _differs(place, "codecs", found, "sharding_indexed alone")
    _expect(place, "chunk_shape inside a shard", options.get("chunk_shape"), [1, *meta["shape"][1:]])
    _expect(place, "index_codecs", options.get("index_codecs"), [_LITTLE, _CRC])
    _expect(place, "index_location", options.get("index_location"), "end")
    chain = options.get("codecs")
    if not isinstance(chain, list):
        raise _differs(place, "codecs inside a shard", chain, "a list")
    return chain


def read_column(
    sealed: SealedFiles, group: str, name: str, dtype: str, samples: int, *, zeros_are_absent: bool = False
) -> np.ndarray:
    """A small array along the samples, of one chunk: (samples,) of dtype. StoreError where it is another.

    samples are believed only as far as the chunk has bytes for them. zeros_are_absent: a column without a chunk is 0
    throughout (zarr writes no such chunk); samples must be known from another column then.
    """
    place = sealed.place(f"{group}/{name}/zarr.json")
    meta = sealed.read_json(f"{group}/{name}/zarr.json")
    _expect_array(meta, place)
    _expect(place, "shape", meta.get("shape"), [samples])
    _expect(place, "data_type", meta.get("data_type"), dtype)
    _expect(place, "chunk_grid", meta.get("chunk_grid"), _regular([samples]))
    plain = {"name": "bytes"} if np.dtype(dtype).itemsize == 1 else _LITTLE
    _expect(place, "codecs", meta.get("codecs"), [plain, _CRC])
    _expect(place, "fill_value", meta.get("fill_value"), np.zeros((), dtype).item())
    chunk = f"{group}/{name}/c/0"
    if zeros_are_absent and chunk not in sealed.sizes:
        return np.zeros(samples, dtype=dtype)
    nbytes = samples * np.dtype(dtype).itemsize
    content = sealed.read(chunk, max_bytes=nbytes + CRC_BYTES)
    checksum = google_crc32c.value(content[:-CRC_BYTES]).to_bytes(CRC_BYTES, "little")
    if len(content) != nbytes + CRC_BYTES or content[-CRC_BYTES:] != checksum:
        raise StoreError(f"{sealed.place(chunk)}: not {nbytes} bytes and their checksum. {REMEDY}")
    return np.frombuffer(content[:-CRC_BYTES], np.dtype(dtype).newbyteorder("<")).astype(dtype)


def _labels(sealed: SealedFiles, group: str, dim: str, count: int) -> tuple[str, ...]:
    """The strings along an image's second dimension: vlen-utf8, zstd around it."""
    place = sealed.place(f"{group}/{dim}/zarr.json")
    meta = sealed.read_json(f"{group}/{dim}/zarr.json")
    _expect_array(meta, place)
    _expect(place, "shape", meta.get("shape"), [count])
    _expect(place, "data_type", meta.get("data_type"), "string")
    _expect(place, "chunk_grid", meta.get("chunk_grid"), _regular([count]))
    chain = meta.get("codecs")
    names = [_named(codec, place)[0] for codec in chain] if isinstance(chain, list) else []
    _expect(place, "codecs", names, ["vlen-utf8", "zstd"])
    chunk = f"{group}/{dim}/c/0"
    try:
        return _strings(sealed.read(chunk, max_bytes=MAX_LABEL_BYTES), count)
    except (ValueError, RuntimeError, struct.error) as error:
        raise StoreError(f"{sealed.place(chunk)}: not the {count} labels expected ({error}). {REMEDY}") from error


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


def _slots(meta: Mapping[str, Any], shape: Sequence[int], place: str) -> int:
    grid = meta.get("chunk_grid")
    options = grid.get("configuration") if isinstance(grid, dict) else None
    chunk_shape = options.get("chunk_shape") if isinstance(options, dict) else None
    shard = _integers(place, "chunk_grid.configuration.chunk_shape", chunk_shape, 4)
    _expect(place, "chunk_grid", grid, _regular([shard[0], *shape[1:]]))
    if shard[0] > MAX_SLOTS:
        raise _differs(place, "samples a shard", shard[0], f"at most {MAX_SLOTS}")
    return shard[0]


def _codec(chain: list[Any], itemsize: int, place: str) -> Codec:
    try:
        return codec_of(chain, itemsize)
    except ValueError as error:
        raise StoreError(f"{place}: {error}. {REMEDY}") from error


def _named(codec: object, place: str) -> tuple[str, Mapping[str, Any]]:
    try:
        return named_codec(codec)
    except ValueError as error:
        raise StoreError(f"{place}: {error}. {REMEDY}") from error


def _encoding(attributes: object, place: str) -> tuple[float, float, str]:
    told = attributes if isinstance(attributes, dict) else {}
    scale, offset, units = told.get("scale_factor"), told.get("add_offset"), told.get("units")
    _expect(place, "_FillValue", told.get("_FillValue"), NODATA_DN)
    if not isinstance(scale, (int, float)) or not 0 < scale < MAX_FACTOR:
        raise _differs(place, "scale_factor", scale, "a positive number")
    if not isinstance(offset, (int, float)) or not -MAX_FACTOR < offset < MAX_FACTOR:
        raise _differs(place, "add_offset", offset, "a finite number")
    if not isinstance(units, str):
        raise _differs(place, "units", units, "a unit")
    return float(scale), float(offset), units


def _expect_array(meta: Mapping[str, Any], place: str) -> None:
    _expect(place, "node_type", meta.get("node_type"), "array")
    _expect(place, "zarr_format", meta.get("zarr_format"), 3)
    _expect(place, "chunk_key_encoding", meta.get("chunk_key_encoding"), _SLASHED)
    _expect(place, "storage_transformers", meta.get("storage_transformers", []), [])


def _regular(chunk_shape: list[int]) -> dict[str, Any]:
    return {"name": "regular", "configuration": {"chunk_shape": chunk_shape}}


def _integers(place: str, what: str, found: object, count: int) -> list[int]:
    if not isinstance(found, list) or len(found) != count or not all(type(n) is int and n > 0 for n in found):
        raise _differs(place, what, found, f"{count} positive integers")
    return found


def _expect(place: str, what: str, found: object, expected: object) -> None:
    if found != expected or type(found) is not type(expected):
        raise _differs(place, what, found, expected)


def _differs(place: str, what: str, found: object, expected: object) -> StoreError:
    return StoreError(f"{place}: {what} is {str(found)[:200]}, expected {expected}. {REMEDY}")
