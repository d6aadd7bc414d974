"""The ways to keep versions of the same samples that are compared, and writing two versions in each.

Of a release its train split goes in: the arrays sar and optical. Every layout has the release's codecs (blosc-lz4,
then crc32c) unless its name says otherwise.
"""

from __future__ import annotations

import json
import shutil
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import zarr
from zarr.storage import LocalStore

ARRAYS = ("sar", "optical")
NO_CHUNK = 2**64 - 1  # offset of an empty slot in a shard's index
ENTRY_BYTES = 16
INDEX_CRC_BYTES = 4
PIXELS = "data/train.zarr"


@dataclass(frozen=True)
class Layout:
    """kind: plain (a folder a version), icechunk, or virtual (an Icechunk repository over the releases' shards).
    appended: new samples stand behind the old ones and removed ones leave a hole; else the order is the release's.
    checksum: whether a chunk ends with its crc32c."""

    label: str
    kind: str
    sharded: bool
    appended: bool = False
    checksum: bool = True


LAYOUTS = (
    Layout("plain Zarr, as released", "plain", sharded=True),
    Layout("plain Zarr, appended", "plain", sharded=True, appended=True),
    Layout("Icechunk, sharded, as released", "icechunk", sharded=True),
    Layout("Icechunk, sharded, appended", "icechunk", sharded=True, appended=True),
    Layout("Icechunk, a chunk a sample, as released", "icechunk", sharded=False),
    Layout("Icechunk, a chunk a sample, appended", "icechunk", sharded=False, appended=True),
    Layout("Icechunk, virtual chunks in our shards", "virtual", sharded=False),
    Layout("Icechunk, a chunk a sample, without crc32c", "icechunk", sharded=False, checksum=False),
)
BY_LABEL = {layout.label: layout for layout in LAYOUTS}


@dataclass(frozen=True)
class Version:
    """A release's train split. pixels: by array; ids: sample_id by row."""

    root: Path
    ids: list[str]
    pixels: dict[str, np.ndarray]

    @staticmethod
    def read(root: Path) -> Version:
        """All of it, into memory."""
        group = zarr.open_group(root / PIXELS, mode="r")
        return Version(root, group["sample_id"][:].tolist(), {name: group[name][:] for name in ARRAYS})

    def metadata(self, name: str, layout: Layout) -> dict[str, Any]:
        """zarr.json of an array in a layout."""
        told: dict[str, Any] = json.loads((self.root / PIXELS / name / "zarr.json").read_text())
        if not layout.sharded:
            inner = told["codecs"][0]["configuration"]
            told["chunk_grid"]["configuration"]["chunk_shape"] = inner["chunk_shape"]
            told["codecs"] = [one for one in inner["codecs"] if layout.checksum or one["name"] != "crc32c"]
        return told


@dataclass(frozen=True)
class Written:
    """Of one version: seconds it took, and what its files add to those of the version before it."""

    wall_s: float
    cpu_s: float
    added_bytes: int
    added_objects: int
    whole_bytes: int
    whole_objects: int


def write(layout: Layout, target: Path, versions: list[Version]) -> list[Written]:
    """Both versions, one after the other."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    writers: dict[str, Callable[..., None]] = {"plain": _plain, "icechunk": _committed, "virtual": _virtual}
    written = []
    for number, version in enumerate(versions):
        before = _files(target)
        former = versions[number - 1] if number else None
        wall, cpu = time.perf_counter(), time.process_time()
        writers[layout.kind](layout, target, number, version, former)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        after = _files(target)
        new = _unlike(target, number) if layout.kind == "plain" else {k: v for k, v in after.items() if k not in before}
        own = _files(target / f"v{number}") if layout.kind == "plain" else after
        written.append(Written(wall, cpu, sum(new.values()), len(new), sum(own.values()), len(own)))
    return written


def open_arrays(layout: Layout, target: Path, number: int) -> dict[str, Any]:
    """The two arrays of a version, through zarr-python."""
    store: Any = LocalStore(target / f"v{number}", read_only=True)
    if layout.kind != "plain":
        store = repository(layout, target).readonly_session(tag=f"v{number}").store
    group = zarr.open_group(store, mode="r")
    return {name: group[name] for name in ARRAYS}


def repository(layout: Layout, target: Path) -> icechunk.Repository:
    """Of an Icechunk layout."""
    return icechunk.Repository.open(icechunk.local_filesystem_storage(str(target)), **_virtual_access(layout, target))


def _files(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def _unlike(target: Path, number: int) -> dict[str, int]:
    """Files of a version that differ from those of the one before: the others could be links to it."""
    here, former = target / f"v{number}", target / f"v{number - 1}"
    return {
        name: size
        for name, size in _files(here).items()
        if not (former / name).is_file() or (former / name).read_bytes() != (here / name).read_bytes()
    }


def _plain(layout: Layout, target: Path, number: int, version: Version, former: Version | None) -> None:
    if layout.appended and former is not None:
        shutil.copytree(target / f"v{number - 1}", target / f"v{number}")
    store = LocalStore(target / f"v{number}")
    _fill(layout, store, version, former)


def _committed(layout: Layout, target: Path, number: int, version: Version, former: Version | None) -> None:
    storage = icechunk.local_filesystem_storage(str(target))
    repo = icechunk.Repository.open(storage) if number else icechunk.Repository.create(storage)
    session = repo.writable_session("main")
    _fill(layout, session.store, version, former)
    repo.create_tag(f"v{number}", snapshot_id=session.commit(f"version {number}"))


def _fill(layout: Layout, store: Any, version: Version, former: Version | None) -> None:
    """Writes through zarr-python: decoded pixels in, encoded chunks out."""
    if former is not None and layout.appended:
        _append(store, version, former)
        return
    group = zarr.open_group(store, mode="a")
    for name, pixels in version.pixels.items():
        _put_metadata(store, name, version.metadata(name, layout))
        group[name][:] = pixels


def _append(store: Any, version: Version, former: Version) -> None:
    """Writes the shards, or chunks, in which something changes, each once."""
    known, wanted = set(former.ids), set(version.ids)
    gone = [row for row, name in enumerate(former.ids) if name not in wanted]
    new = [row for row, name in enumerate(version.ids) if name not in known]
    group = zarr.open_group(store, mode="a")
    for name, pixels in version.pixels.items():
        after = np.concatenate([former.pixels[name], pixels[new]])
        after[gone] = 0
        array = group[name]
        array.resize(after.shape)
        step = (array.shards or array.chunks)[0]
        for start in range(0, len(after), step):
            if not np.array_equal(after[start : start + step], former.pixels[name][start : start + step]):
                array[start : start + step] = after[start : start + step]


def _put_metadata(store: Any, name: str, told: dict[str, Any]) -> None:
    """Of an array in place of what was there."""
    zarr.core.sync.sync(store.delete_dir(name))
    content = zarr.core.buffer.default_buffer_prototype().buffer.from_bytes(json.dumps(told).encode())
    zarr.core.sync.sync(store.set(f"{name}/zarr.json", content))


def _virtual_access(layout: Layout, target: Path) -> dict[str, Any]:
    if layout.kind != "virtual":
        return {}
    prefix = f"file://{target.parent.absolute()}/"
    config = icechunk.RepositoryConfig.default()
    config.set_virtual_chunk_container(
        icechunk.VirtualChunkContainer(prefix, icechunk.local_filesystem_store(prefix.removeprefix("file://")))
    )
    return {"config": config, "authorize_virtual_chunk_access": {prefix: None}}


def _virtual(layout: Layout, target: Path, number: int, version: Version, former: Version | None) -> None:
    storage, access = icechunk.local_filesystem_storage(str(target)), _virtual_access(layout, target)
    repo = icechunk.Repository.open(storage, **access) if number else icechunk.Repository.create(storage, **access)
    session = repo.writable_session("main")
    zarr.open_group(session.store, mode="a")
    for name in ARRAYS:
        _put_metadata(session.store, name, version.metadata(name, layout))
        session.store.set_virtual_refs(f"/{name}", _chunks_in_shards(version, name))
    repo.create_tag(f"v{number}", snapshot_id=session.commit(f"version {number}"))


def _chunks_in_shards(version: Version, name: str) -> list[icechunk.VirtualChunkSpec]:
    """Where the chunk of every sample lies, by the index at each shard's end."""
    folder = version.root / PIXELS / name
    slots = json.loads((folder / "zarr.json").read_text())["chunk_grid"]["configuration"]["chunk_shape"][0]
    specs = []
    for path in sorted(folder.glob("c/*/0/0/0")):
        content = path.read_bytes()
        index = content[-slots * ENTRY_BYTES - INDEX_CRC_BYTES : -INDEX_CRC_BYTES]
        first = int(path.parts[-4]) * slots
        for slot, (offset, length) in enumerate(struct.iter_unpack("<QQ", index)):
            if offset != NO_CHUNK:
                place = [first + slot, 0, 0, 0]
                specs.append(icechunk.VirtualChunkSpec(place, f"file://{path.absolute()}", offset, length))
    return specs
