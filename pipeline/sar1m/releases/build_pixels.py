"""Pixels of finished builds: encoded chunks out of their shards, decoded, and hashes of the decoded pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sar1m.io.zarr_groups import ImageArray
from sar1m.store.array_metadata import linear_encoding
from sar1m.store.chunks import checked_payload, decode_chunk, most_chunk_bytes
from sar1m.store.errors import StoreError
from sar1m.store.schema import SPLITS, group_name
from sar1m.store.seal_text import parse_object
from sar1m.store.shard_index import ShardIndex, read_index, shard_name
from sar1m.store.side_files import read_bytes

REMEDY = "Check the build with `sar1m verify` and build it again."


class BuildChunks:
    """Chunks of the arrays of one split of a build. Indices are kept (16 bytes a sample and array), pixels are not."""

    def __init__(self, group: Path, images: Sequence[ImageArray]) -> None:
        self._group = group
        self._layouts = {image.layout.name: image.layout for image in images}
        self._indices: dict[Path, ShardIndex] = {}

    def chunk(self, array: str, number: int) -> bytes:
        """The encoded chunk of the sample at position number, checksum included and verified.

        Raises StoreError naming the shard where it is missing or damaged, or has no such chunk.
        """
        shard, slot = divmod(number, self._layouts[array].shard_samples)
        path = self._group / shard_name(array, shard)
        try:
            if path not in self._indices:
                self._indices[path] = self._read_index(array, path)
            span = self._indices[path].span(slot)
            if span is None:
                raise ValueError(f"slot {slot} holds no chunk, but the tables list its sample")
            chunk = _read_range(path, span[0], sum(span))
        except OSError as error:
            raise StoreError(f"{path}: cannot be read ({error.strerror}). {REMEDY}") from error
        except ValueError as error:
            raise StoreError(f"{path}: damaged: {error}. {REMEDY}") from error
        try:
            checked_payload(chunk)
        except ValueError:
            raise StoreError(f"{path}: damaged: the checksum of slot {slot} does not hold. {REMEDY}") from None
        return chunk

    def _read_index(self, array: str, path: Path) -> ShardIndex:
        layout = self._layouts[array]
        return read_index(
            lambda start, stop: _read_range(path, start, stop),
            file_bytes=path.stat().st_size,
            slots=layout.shard_samples,
            longest=most_chunk_bytes(layout.sample_bytes),
        )


def stored_images(root: Path, images: Sequence[ImageArray]) -> list[ImageArray]:
    """The same arrays in the encoding that the store at root states of them, which an older schema version may have
    chosen otherwise; as they are where no split has samples. Raises StoreError naming a zarr.json that cannot be used
    or differs from that of another split."""
    return [_stored_image(root, image) for image in images]


def _stored_image(root: Path, image: ImageArray) -> ImageArray:
    found = image
    names = [f"{group_name(split)}/{image.layout.name}/zarr.json" for split in SPLITS]
    for path in [root / name for name in names if (root / name).is_file()]:
        try:
            encoding = linear_encoding(parse_object(read_bytes(path, error=StoreError, remedy=REMEDY)), str(path))
        except (OSError, ValueError) as error:
            raise StoreError(f"{path}: cannot be read ({error}). {REMEDY}") from error
        if found is not image and encoding != found.encoding:
            raise StoreError(f"{path}: {encoding}, but {found.encoding} in another split. {REMEDY}")
        found = replace(image, encoding=encoding, layout=replace(image.layout, dtype=encoding.dtype))
    return found


def _read_range(path: Path, start: int, stop: int) -> bytes:
    with path.open("rb") as stream:
        stream.seek(start)
        return stream.read(stop - start)


def decode_pixels(chunk: bytes, image: ImageArray, *, origin: str) -> npt.NDArray[np.unsignedinteger]:
    """Digital numbers (C, H, W) of a chunk whose checksum holds. Raises StoreError naming origin where the chunk is of
    another size than the layout states; this is checked before memory is taken."""
    try:
        return decode_chunk(chunk, image.layout, image.compression)
    except ValueError as error:
        raise StoreError(f"{origin}, {image.layout.name}: {error}. {REMEDY}") from error


def array_hash(dn: npt.NDArray[np.unsignedinteger], array: str) -> str:
    """blake2b-128, hexadecimal, of one sample's decoded digital numbers: of `array|dtype|C,H,W|` and the little-endian
    pixels. Of pixels and not of their compressed bytes, so that repacking changes no hash."""
    header = f"{array}|{dn.dtype.name}|{','.join(map(str, dn.shape))}|"
    pixels = np.ascontiguousarray(dn, dtype=dn.dtype.newbyteorder("<"))
    return hashlib.blake2b(header.encode() + pixels.tobytes(), digest_size=16).hexdigest()


def pixel_hash(by_array: Mapping[str, str]) -> str:
    """blake2b-128, hexadecimal, of all arrays a sample has: of lines `array hash` sorted by array."""
    lines = "".join(f"{array} {found}\n" for array, found in sorted(by_array.items()))
    return hashlib.blake2b(lines.encode(), digest_size=16).hexdigest()
