"""What the zarr.json of a store's arrays says of their shards and chunks, checked before anything is allocated.

io/zarr_groups.py writes these files through zarr-python; readers believe them only as far as they are checked here.
Source: Zarr v3 core specification; sharding_indexed codec, version 1.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sar1m.store.errors import StoreError
from sar1m.store.schema import NODATA_DN, LinearEncoding
from sar1m.store.seal import REMEDY

MAX_SLOTS: Final = 65_536
MAX_FACTOR: Final = 1e9  # of scale_factor and add_offset: decoded values stay finite in float32

LITTLE_ENDIAN: Final[Mapping[str, Any]] = {"name": "bytes", "configuration": {"endian": "little"}}
CRC32C: Final[Mapping[str, Any]] = {"name": "crc32c"}
_SLASHED: Final = {"name": "default", "configuration": {"separator": "/"}}


def check_array(meta: Mapping[str, Any], place: str) -> None:
    """Raises StoreError unless this describes a Zarr v3 array whose chunks lie in files as a store's do.

    meta: the content of a zarr.json. place: the file as messages name it.
    """
    expect(place, "node_type", meta.get("node_type"), "array")
    expect(place, "zarr_format", meta.get("zarr_format"), 3)
    expect(place, "chunk_key_encoding", meta.get("chunk_key_encoding"), _SLASHED)
    expect(place, "storage_transformers", meta.get("storage_transformers", []), [])


def image_shape(meta: Mapping[str, Any], place: str) -> tuple[int, int, int, int]:
    """Samples, channels, rows and columns of an image array. StoreError where they are no positive integers."""
    samples, channels, rows, cols = positive_integers(place, "shape", meta.get("shape"), 4)
    return samples, channels, rows, cols


def shard_slots(meta: Mapping[str, Any], place: str) -> int:
    """Samples a shard of an image array holds. StoreError where shards do not run along the samples alone."""
    grid = meta.get("chunk_grid")
    options = grid.get("configuration") if isinstance(grid, dict) else None
    chunk_shape = options.get("chunk_shape") if isinstance(options, dict) else None
    slots = positive_integers(place, "chunk_grid.configuration.chunk_shape", chunk_shape, 4)[0]
    expect(place, "chunk_grid", grid, regular_grid([slots, *image_shape(meta, place)[1:]]))
    if slots > MAX_SLOTS:
        raise differs(place, "samples a shard", slots, f"at most {MAX_SLOTS}")
    return slots


def linear_encoding(meta: Mapping[str, Any], place: str) -> LinearEncoding:
    """How an image array is encoded, by its own attributes and by nothing else: stores of one profile differ in it from
    one schema version to the next. StoreError where it is none of 8 or 16 bits with a finite scale and offset."""
    dtype, found = meta.get("data_type"), meta.get("attributes")
    given = found if isinstance(found, dict) else {}
    scale, offset, units = given.get("scale_factor"), given.get("add_offset"), given.get("units")
    if dtype not in ("uint8", "uint16"):
        raise differs(place, "data_type", dtype, "uint8 or uint16")
    expect(place, "fill_value", meta.get("fill_value"), NODATA_DN)
    expect(place, "_FillValue", given.get("_FillValue"), NODATA_DN)
    if not isinstance(scale, (int, float)) or not 0 < scale < MAX_FACTOR:
        raise differs(place, "scale_factor", scale, "a positive number")
    if not isinstance(offset, (int, float)) or not -MAX_FACTOR < offset < MAX_FACTOR:
        raise differs(place, "add_offset", offset, "a finite number")
    if not isinstance(units, str):
        raise differs(place, "units", units, "a unit")
    return LinearEncoding(
        dtype=dtype,
        scale_factor=float(scale),
        add_offset=float(offset),
        units=units,
        long_name=str(given.get("long_name", "")),
    )


def chunk_codecs(meta: Mapping[str, Any], place: str) -> list[Any]:
    """The codec chain of the chunks inside the shards: JSON, as found. StoreError where the array is not sharded as a
    store is: one sample a chunk, the index at the end, little-endian, with crc32c."""
    found = meta.get("codecs")
    name: str = ""
    options: Mapping[str, Any] = {}
    if isinstance(found, list) and len(found) == 1:
        try:
            name, options = named_codec(found[0])
        except ValueError as error:
            raise StoreError(f"{place}: {error}. {REMEDY}") from error
    if name != "sharding_indexed":
        raise differs(place, "codecs", found, "sharding_indexed alone")
    expect(place, "chunk_shape inside a shard", options.get("chunk_shape"), [1, *image_shape(meta, place)[1:]])
    expect(place, "index_codecs", options.get("index_codecs"), [LITTLE_ENDIAN, CRC32C])
    expect(place, "index_location", options.get("index_location"), "end")
    chain = options.get("codecs")
    if not isinstance(chain, list):
        raise differs(place, "codecs inside a shard", chain, "a list")
    return chain


def named_codec(codec: object) -> tuple[str, Mapping[str, Any]]:
    """Name and configuration of one entry of a codec chain. ValueError where it is none."""
    if (
        not isinstance(codec, dict)
        or not isinstance(codec.get("name"), str)
        or codec.keys() - {"name", "configuration"}
    ):
        raise ValueError(f"no codec: {str(codec)[:120]}")
    options = codec.get("configuration", {})
    if not isinstance(options, dict):
        raise ValueError(f"codec {codec['name']!r} has a configuration that is no object")
    return codec["name"], options


def regular_grid(chunk_shape: list[int]) -> dict[str, Any]:
    """chunk_grid of an array of equal chunks (shards, where there are any)."""
    return {"name": "regular", "configuration": {"chunk_shape": chunk_shape}}


def positive_integers(place: str, what: str, found: object, count: int) -> list[int]:
    """found itself where it is a list of so many positive integers. StoreError otherwise."""
    if not isinstance(found, list) or len(found) != count or not all(type(n) is int and n > 0 for n in found):
        raise differs(place, what, found, f"{count} positive integers")
    return found


def expect(place: str, what: str, found: object, expected: object) -> None:
    """Raises StoreError unless what was found has the expected type and value."""
    if found != expected or type(found) is not type(expected):
        raise differs(place, what, found, expected)


def differs(place: str, what: str, found: object, expected: object) -> StoreError:
    """The error of a zarr.json in which something is not as a store has it."""
    return StoreError(f"{place}: {what} is {str(found)[:200]}, expected {expected}. {REMEDY}")
