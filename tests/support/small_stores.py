"""Finished stores of a few small samples, by the pipeline's own functions, with the pixels they hold."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from sar1m.core.identity import sample_key
from sar1m.io.zarr_groups import ImageArray, checksum_files, group_files
from sar1m.store.chunks import chunk_checksum, encode_chunk
from sar1m.store.durable import FileDigest
from sar1m.store.places.folder import FolderPlace
from sar1m.store.schema import MANIFEST_FILE, MARKER_FILE, SCHEMA_VERSION, ArrayLayout, optical_encoding, sar_encoding
from sar1m.store.seal import payload_files
from sar1m.store.seal_text import manifest_bytes, marker_bytes
from sar1m.store.shard_index import shard_name, shard_pieces
from sarmae.stream.layout import open_split
from sarmae.stream.reader import SplitReader

POLS, BANDS = ("VV", "VH"), ("B04", "B03", "B02")


@dataclass(frozen=True, kw_only=True)
class SmallStore:
    """sar (S, 2, side, side), optical (S, 3, side, side), 0 where unpaired; slots: samples a shard."""

    root: Path
    sar: np.ndarray
    optical: np.ndarray
    paired: np.ndarray
    enl: np.ndarray
    keys: np.ndarray
    slots: int

    @property
    def group(self) -> Path:
        return self.root / "data/train.zarr"


def small_store(
    root,
    *,
    samples=11,
    slots=4,
    compression="blosc-lz4",
    side=24,
    unpaired=(2, 8, 9),
    profile="training",
    bound=True,
):
    """A store of one split, train. Chunks of both arrays differ in length from sample to sample when compressed.

    bound: with checksums by sample, as since schema 1.3.
    """
    rng = np.random.default_rng([samples, side])
    encodings = {"sar": sar_encoding(profile, "gamma0"), "optical": optical_encoding(profile, "reflectance")}
    paired = ~np.isin(np.arange(samples), unpaired)
    pixels = {
        "sar": _textures(rng, (samples, len(POLS), side, side), "uint16"),
        "optical": _textures(rng, (samples, len(BANDS), side, side), encodings["optical"].dtype),
    }
    pixels["optical"] += encodings["optical"].encode(np.zeros(1))[0]  # reflectance over 0
    pixels["optical"][~paired] = 0
    names = [f"s{number}" for number in range(samples)]
    table = pd.DataFrame(
        {
            "sample_id": names,
            "paired": paired,
            "enl": np.where(np.arange(samples) % 3 == 0, np.nan, np.arange(samples) + 0.5).astype(np.float32),
            "land_cover": [{"Cropland": 0.6, "Tree cover": 0.4} if number % 2 else {} for number in range(samples)],
            "lon": np.linspace(0, 1, samples),
            "lat": np.linspace(5, 6, samples),
        }
    )
    images = [
        ImageArray(
            layout=ArrayLayout(
                name=name,
                dims=("sample", dim, "y", "x"),
                sample_shape=pixels[name].shape[1:],
                dtype=encodings[name].dtype,
                shard_samples=slots,
            ),
            encoding=encodings[name],
            compression=compression,
            labels=labels,
        )
        for name, dim, labels in (("sar", "pol", POLS), ("optical", "band", BANDS))
    ]
    group = root / "data/train.zarr"
    for name, content in group_files(images, table, {"split": "train"}).items():
        put(group / name, content)
    for image in images:
        name = image.layout.name
        there = paired if name == "optical" else np.ones(samples, dtype=bool)
        chunks = [
            encode_chunk(one, compression) if have else None for one, have in zip(pixels[name], there, strict=True)
        ]
        for shard in range(-(-samples // slots)):
            write_shard(group, name, shard, chunks[shard * slots : (shard + 1) * slots], slots)
        if bound:
            checksums = np.array([chunk_checksum(chunk) for chunk in chunks], dtype=np.uint32)
            for file, content in checksum_files({name: checksums}).items():
                put(group / file, content)
    seal(root)
    return SmallStore(
        root=root,
        **pixels,
        paired=paired,
        enl=table["enl"].to_numpy(),
        keys=np.array([sample_key(name) for name in names]),
        slots=slots,
    )


def _textures(rng, shape, dtype):
    """A level with a share of noisy pixels, both of its own, so that every sample packs to another length."""
    noisy = rng.uniform(size=shape) < rng.uniform(0.02, 0.15, size=(shape[0], 1, 1, 1))
    level = rng.integers(1, 200, size=(shape[0], 1, 1, 1))
    return np.where(noisy, rng.integers(1, 250, size=shape), level).astype(dtype)


def write_shard(group, array, number, chunks, slots):
    """A shard of encoded chunks; none where it would be empty, as the pipeline does."""
    if any(chunk is not None for chunk in chunks):
        put(group / shard_name(array, number), b"".join(shard_pieces(iter(chunks), slots=slots)))


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def seal(root, **facts):
    """Manifest and marker over what lies there now, as sar1m.store.seal writes them but for the fsync."""
    digests = {}
    for name in payload_files(root):
        content = (root / name).read_bytes()
        digests[name] = FileDigest(sha256=hashlib.sha256(content).hexdigest(), size=len(content))
    manifest = manifest_bytes(digests)
    sizes = {name: digest.size for name, digest in digests.items()}
    (root / MANIFEST_FILE).write_bytes(manifest)
    (root / MARKER_FILE).write_bytes(marker_bytes({"schema_version": SCHEMA_VERSION, **facts}, manifest, sizes))


def edit_json(path, change):
    """Applies change to the object in a JSON file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def read_all(store, objects=None, order=None):
    """Everything in the given order into rows that held other pixels before: index, sar, optical, faults by row."""
    objects = objects or FolderPlace(store.root)
    index = open_split(objects, "train")
    order = np.arange(len(index)) if order is None else order
    sar = np.full((len(order), *index.sar.sample_shape), 999, dtype=index.sar.dtype)
    optical = np.full((len(order), *index.optical.sample_shape), 99, dtype=index.optical.dtype)
    faults = SplitReader(index, objects).read_into(order, np.arange(len(order)), sar, optical)
    return index, sar, optical, faults


def damage(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 4
    path.write_bytes(content)


def opened(store, objects=FolderPlace, **options):
    index = open_split(objects(store.root), "train")
    sar = np.full_like(store.sar, 999)
    optical = np.full_like(store.optical, 99)
    return SplitReader(index, objects(store.root), **options), np.arange(len(index)), sar, optical
