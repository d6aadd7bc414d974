"""Codec chains: which are read, and the decoding through zarr-python of those that this pipeline does not write.

A chunk's header is untrusted: what it claims to unpack to is compared with the sample's size before anything is
unpacked or allocated (a 32 KB chunk can claim 1 GiB).
Source: Zarr v3 core specification and codecs bytes, blosc, crc32c; Zstandard frame format, RFC 8878, section 3.1.1.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from sar1m.store.array_metadata import named_codec
from sar1m.store.chunks import check_blosc_sizes, crc32c
from sarmae.stream.batch import Codec, ImageSpec

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_RLE, _ZSTD_RESERVED = 1, 3


def codec_of(chain: list[Any], itemsize: int) -> Codec:
    """How chunks of this codec chain (JSON of zarr.json) are read. ValueError saying why they are not.

    Allowed is [transpose], bytes, [blosc or zstd], crc32c: without a checksum no damage would be found, and other
    compressors cannot be bounded before they unpack.
    """
    codecs = [named_codec(codec) for codec in chain]
    names = [name for name, _ in codecs]
    plain = [name for name in names if name not in {"transpose", "blosc", "zstd"}]
    if plain != ["bytes", "crc32c"] or not _in_order(names):
        raise ValueError(f"its codecs are {names}; [transpose], bytes, [blosc or zstd], crc32c can be read")
    options = dict(codecs)
    little = itemsize == 1 or (options["bytes"].get("endian") == "little" and sys.byteorder == "little")
    if names == ["bytes", "crc32c"] and little:
        return "none"
    wanted = {"cname": "lz4", "shuffle": "bitshuffle", "typesize": itemsize}
    if names == ["bytes", "blosc", "crc32c"] and little and wanted.items() <= options["blosc"].items():
        return "blosc-lz4"
    return "zarr"


def _in_order(names: Sequence[str]) -> bool:
    ranks = [{"transpose": 0, "bytes": 1, "blosc": 2, "zstd": 2, "crc32c": 3}[name] for name in names]
    return all(before < after for before, after in itertools.pairwise(ranks))


def zstd_content_bytes(payload: bytes) -> int:
    """What a single zstd frame claims to unpack to. ValueError for anything but one whole frame with a stated size."""
    if payload[:4] != _ZSTD_MAGIC or len(payload) < 6:
        raise ValueError("it is no zstd frame")
    descriptor = payload[4]
    single, has_checksum = bool(descriptor & 0x20), bool(descriptor & 0x04)
    width = {0: int(single), 1: 2, 2: 4, 3: 8}[descriptor >> 6]
    start = 5 + (not single) + (0, 1, 2, 4)[descriptor & 3]
    if not width:
        raise ValueError("its zstd frame does not state its size")
    content = int.from_bytes(payload[start : start + width], "little") + (256 if width == 2 else 0)
    if _zstd_blocks_end(payload, start + width) + 4 * has_checksum != len(payload):
        raise ValueError("it is not one whole zstd frame")
    return content


def _zstd_blocks_end(payload: bytes, position: int) -> int:
    last = False
    while not last:
        if position + 3 > len(payload):
            raise ValueError("its zstd frame is cut off")
        header = int.from_bytes(payload[position : position + 3], "little")
        last, kind = bool(header & 1), header >> 1 & 3
        if kind == _ZSTD_RESERVED:
            raise ValueError("its zstd frame is malformed")
        position += 3 + (1 if kind == _ZSTD_RLE else header >> 3)
    return position


class ZarrDecoder:
    """Any other allowed chain, through zarr-python: the chunk is handed to it as an array of one chunk in memory.

    Not safe for threads: each has its own.
    """

    def __init__(self, spec: ImageSpec, chain: list[dict[str, Any]]) -> None:
        import zarr  # noqa: PLC0415 - half a second to import, for stores that are not of our codec
        from zarr.core.buffer import Buffer, cpu  # noqa: PLC0415
        from zarr.storage import MemoryStore  # noqa: PLC0415

        self._buffer = cpu.Buffer
        self._names = [codec["name"] for codec in chain]
        shape = [1, *spec.sample_shape]
        described = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": shape,
            "data_type": spec.dtype,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shape}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": 0,
            "codecs": chain,
            "attributes": {},
        }
        self._files: dict[str, Buffer] = {"zarr.json": self._buffer.from_bytes(json.dumps(described).encode())}
        self._array = zarr.open_array(MemoryStore(self._files), mode="r")

    def __call__(self, payload: np.ndarray, row: np.ndarray) -> None:
        """As decode_blosc_lz4."""
        content = payload.tobytes()
        self._check_claims(content, row.nbytes)
        self._files["c/0/0/0/0"] = self._buffer.from_bytes(content + crc32c(content))
        try:
            row[:] = np.ascontiguousarray(self._array[0]).reshape(-1).view(np.uint8)
        except (ValueError, RuntimeError, TypeError, OSError) as error:
            raise ValueError(f"zarr-python cannot decode it ({error})") from error

    def _check_claims(self, content: bytes, sample_bytes: int) -> None:
        if "blosc" in self._names:
            check_blosc_sizes(np.frombuffer(content, dtype=np.uint8), sample_bytes)
            return
        claimed = zstd_content_bytes(content) if "zstd" in self._names else len(content)
        if claimed != sample_bytes:
            raise ValueError(f"it claims to unpack to {claimed} bytes, a sample has {sample_bytes}")
