"""Opening a split of a store: everything known and checked before the first pixel is read."""

from __future__ import annotations

import re

import numpy as np

from sar1m.store.chunk_checksums import checksums_name
from sar1m.store.chunks import CRC_BYTES, most_chunk_bytes
from sar1m.store.errors import StoreError
from sar1m.store.places.place import Place
from sar1m.store.schema import PARTIAL_FILE, SPLITS, group_name
from sar1m.store.seal import REMEDY
from sar1m.store.shard_index import index_bytes, shard_name
from sarmae.stream.batch import ImageSpec, SplitIndex
from sarmae.stream.sealed import SealedFiles, open_sealed
from sarmae.stream.zarr_meta import OPTICAL_RULES, SAR_RULES, read_column, read_group, read_image

# What open_split reads of a group: its own and the images' zarr.json, and whole small arrays.
_READ = re.compile(
    r"(?:(?:sar/|optical/)?zarr\.json|(?:pol|band|sample_key|paired|land_cover|enl|(?:sar|optical)_crc32c)/.+)"
)


def open_split(place: Place, split: str) -> SplitIndex:
    """The index of a split of a finished store; reads metadata and small arrays alone.

    Checks that the store is finished and sealed, that its arrays are what sar1m.store.schema says, and that every shard
    which has samples is in the manifest with a size that can be true; of a local store also that it is there with that
    size. enl is NaN throughout for stores older than that column. Raises StoreError naming the file and what differs.
    """
    sealed = open_sealed(place)
    group = group_name(split)
    _check_split(sealed, split)
    sealed.prefetch(name for name in sealed.sizes if _READ.fullmatch(name.removeprefix(f"{group}/")))
    read_group(sealed, group, split)
    sar, samples = read_image(sealed, group, SAR_RULES)
    optical = _optical(sealed, group, sar, samples)
    keys = read_column(sealed, group, "sample_key", "int64", samples)
    land_cover, land_cover_names = _land_cover(sealed, group, samples)
    paired = _paired(sealed, group, samples)
    if optical is None and paired.any():
        raise StoreError(f"{sealed.shown(group)}: has paired samples, but no optical array. {REMEDY}")
    index = SplitIndex(
        location=place.location,
        split=split,
        digest=sealed.digest,
        files={name: size for name, size in sealed.sizes.items() if name.startswith(f"{group}/")},
        sar=sar,
        optical=optical,
        paired=paired,
        keys=keys,
        enl=_enl(sealed, group, samples),
        land_cover=land_cover,
        land_cover_names=land_cover_names,
        checksums=_checksums(sealed, group, samples),
    )
    _check_shards(sealed, index, sar, np.arange(samples))
    if optical is not None:
        _check_shards(sealed, index, optical, np.flatnonzero(paired))
    return index


def splits_of(place: Place) -> list[str]:
    """The splits that have samples. StoreError where there is no finished store."""
    return _splits(open_sealed(place))


def _splits(sealed: SealedFiles) -> list[str]:
    return [name for name in SPLITS if f"{group_name(name)}/zarr.json" in sealed.sizes]


def _check_split(sealed: SealedFiles, split: str) -> None:
    there = _splits(sealed)
    if split in there:
        return
    if sealed.leaves_out(f"{group_name(split)}/zarr.json"):
        raise StoreError(
            f"{sealed.place.location}: a part of a release ({PARTIAL_FILE}) without split {split!r}; it holds "
            f"{', '.join(there) or 'no split'}. Get the rest into the same folder with `sar1m get`."
        )
    what = "has no samples in" if split in SPLITS else "knows no"
    raise StoreError(f"{sealed.place.location}: {what} split {split!r}. There are: {', '.join(there) or 'none'}.")


def _optical(sealed: SealedFiles, group: str, sar: ImageSpec, samples: int) -> ImageSpec | None:
    name = f"{group}/{OPTICAL_RULES.name}/zarr.json"
    if name not in sealed.sizes:
        return None
    optical, found = read_image(sealed, group, OPTICAL_RULES)
    if found != samples or optical.sample_shape[1:] != sar.sample_shape[1:]:
        raise StoreError(
            f"{sealed.shown(name)}: {found} samples of {optical.sample_shape[1:]} pixels, but sar has {samples} of "
            f"{sar.sample_shape[1:]}. {REMEDY}"
        )
    return optical


def _paired(sealed: SealedFiles, group: str, samples: int) -> np.ndarray:
    flags = read_column(sealed, group, "paired", "uint8", samples, zeros_are_absent=True)
    if flags.max() > 1:
        raise StoreError(f"{sealed.shown(group)}/paired: holds {flags.max()}, expected 0 and 1 alone. {REMEDY}")
    return flags.astype(bool)


def _land_cover(sealed: SealedFiles, group: str, samples: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """The column and its names; all unknown for a store without it. CF flags: names parted by blanks, in order."""
    name = f"{group}/land_cover/zarr.json"
    if name not in sealed.sizes:
        return np.zeros(samples, dtype=np.uint8), ("unknown",)
    numbers = read_column(sealed, group, "land_cover", "uint8", samples, zeros_are_absent=True)
    attributes = sealed.read_json(name).get("attributes")
    meanings = attributes.get("flag_meanings") if isinstance(attributes, dict) else None
    names = tuple(meanings.split()) if isinstance(meanings, str) else ()
    if not names or (samples and numbers.max() >= len(names)):
        raise StoreError(f"{sealed.shown(name)}: flag_meanings does not name every class of the column. {REMEDY}")
    return numbers, names


def _enl(sealed: SealedFiles, group: str, samples: int) -> np.ndarray:
    if f"{group}/enl/zarr.json" not in sealed.sizes:
        return np.full(samples, np.nan, dtype=np.float32)
    return read_column(sealed, group, "enl", "float32", samples)


def _checksums(sealed: SealedFiles, group: str, samples: int) -> dict[str, np.ndarray]:
    found = {}
    for image in (SAR_RULES.name, OPTICAL_RULES.name):
        name = checksums_name(image)
        if f"{group}/{name}/zarr.json" in sealed.sizes:
            found[image] = read_column(sealed, group, name, "uint32", samples, zeros_are_absent=True)
    return found


def _check_shards(sealed: SealedFiles, index: SplitIndex, spec: ImageSpec, stored: np.ndarray) -> None:
    """stored: numbers of the samples that have a chunk of this array."""
    shards, chunks = np.unique(stored // spec.slots, return_counts=True)
    for shard, count in zip(shards.tolist(), chunks.tolist(), strict=True):
        name = f"{group_name(index.split)}/{shard_name(spec.name, shard)}"
        shown, place = sealed.shown(name), sealed.place
        size = index.files.get(name)
        if size is None:
            raise StoreError(sealed.absent(name))
        least, most = _shard_bytes(spec, count)
        if not least <= size <= most:
            raise StoreError(f"{shown}: {size} bytes, expected {least} to {most} for {count} samples. {REMEDY}")
        if place.local_path(name) is not None and (found := place.size(name)) != size:
            what = "missing" if found is None else f"{found} bytes"
            raise StoreError(f"{shown}: {what}, expected {size} bytes. {REMEDY}")


def _shard_bytes(spec: ImageSpec, chunks: int) -> tuple[int, int]:
    """The least and the largest size that a shard of so many chunks can have."""
    index = index_bytes(spec.slots)
    if spec.codec == "none":
        exact = chunks * (spec.sample_bytes + CRC_BYTES) + index
        return exact, exact
    return chunks * (CRC_BYTES + 1) + index, chunks * most_chunk_bytes(spec.sample_bytes) + index
