"""A teacher cache on disk: one basis for all, and beside it the coded features of each store's paired samples.

    cache/
      teacher.json             which teacher with which weights, stored patch, components; digest of basis and of itself
      basis.safetensors        mean, components and steps of the codes (sarmae.sarc.compression)
      <digest of a store>/
        features.i8            samples one after the other: int8 (rows x columns of 16 px patches, components)
        index.bin              for each of them sample_key (int64) and crc32c of its bytes (uint32), little-endian
        COMPLETE.json          number of samples, sha256 of index.bin; absent while the store is being written

Features reach the disk before their entries in the index do, and the index before COMPLETE.json. A kill at any moment
leaves whole samples and at most a tail that the index does not know; the next run cuts it off and goes on.
"""
# S samples of a store, G x G patches of a stored image, D components

from __future__ import annotations

import hashlib
import json
import os
import weakref
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

import google_crc32c
import numpy as np
import safetensors.torch
from safetensors import SafetensorError

from sar1m.store.durable import make_folders, write_durably
from sar1m.store.errors import ConfigError, Sar1mError, StoreError
from sar1m.store.file_lock import try_lock
from sar1m.store.printer import pasted
from sar1m.store.side_files import read_json
from sarmae.sarc.compression import Basis
from sarmae.stream.loader_settings import TOKEN_PX

FORMAT: Final = 1
TEACHER_FILE: Final = "teacher.json"
BASIS_FILE: Final = "basis.safetensors"
FEATURES_FILE: Final = "features.i8"
INDEX_FILE: Final = "index.bin"
COMPLETE_FILE: Final = "COMPLETE.json"
INDEX_ENTRY: Final = np.dtype([("key", "<i8"), ("crc32c", "<u4")])
REMEDY: Final = "Fetch the file again, or remove it with its folder and run sarmae cache-teacher again."


@dataclass(frozen=True, kw_only=True)
class TeacherFacts:
    """What all features of a cache have in common. patch_px: side of the stored images. variance_kept: share of the
    variance of `fitted_samples` samples that the components hold."""

    teacher: str
    weights_sha256: str
    patch_px: int
    width: int
    components: int
    variance_kept: float
    fitted_samples: int

    @property
    def grid(self) -> int:
        """G: patches along a side of a stored image."""
        return self.patch_px // TOKEN_PX

    @property
    def sample_bytes(self) -> int:
        """Size of one sample's codes."""
        return self.grid**2 * self.components


def write_teacher(cache: Path, facts: TeacherFacts, basis: Basis) -> None:
    """Writes the basis, then the file that names it."""
    tensors = {"mean": basis.mean, "components": basis.components, "step": basis.step}
    content = safetensors.torch.save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()})
    write_durably(cache / BASIS_FILE, [content])
    sealed = {"format": FORMAT, **asdict(facts), "basis_sha256": hashlib.sha256(content).hexdigest()}
    write_sealed(cache / TEACHER_FILE, sealed)


def read_teacher(cache: Path) -> tuple[TeacherFacts, Basis]:
    """Raises ConfigError where there is no cache, StoreError where one of the two files is damaged."""
    if not (cache / TEACHER_FILE).is_file():
        command = pasted("sarmae", "cache-teacher", "--out", cache)
        raise ConfigError(f"sarc.cache: {cache} holds no {TEACHER_FILE}. Write it: {command}")
    facts = read_sealed(cache / TEACHER_FILE)
    if facts.pop("format", None) != FORMAT:
        raise StoreError(f"{cache / TEACHER_FILE}: of another format, expected {FORMAT}. Write the cache anew.")
    path, sha256 = cache / BASIS_FILE, facts.pop("basis_sha256", None)
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise StoreError(f"{path}: damaged: its sha256 is not the one in {TEACHER_FILE}. {REMEDY}")
        return TeacherFacts(**facts), Basis(**safetensors.torch.load(content))
    except (OSError, SafetensorError, TypeError) as error:
        raise StoreError(f"{path}: cannot be read: {error}. {REMEDY}") from error


class FeatureWriter:
    """Appends the codes of one store's paired samples, in their order. A context; one process at a time.

    keys: (S,) int64 of all of them. done: how many the folder holds. Raises ConfigError where another process writes
    there, StoreError where what it holds is of other samples.
    """

    def __init__(self, folder: Path, sample_bytes: int, keys: np.ndarray) -> None:
        self._folder, self._sample_bytes, self._keys = folder, sample_bytes, keys
        make_folders(folder)
        self._features, self._index = (folder / FEATURES_FILE).open("ab"), (folder / INDEX_FILE).open("ab")
        try:
            if not try_lock(self._features.fileno()):
                raise ConfigError(f"{folder}: another process is writing this cache. Wait for it, or end it.")
            self.done = self._cut_to_whole_samples()
        except Sar1mError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the files, so that another process may write."""
        self._features.close()
        self._index.close()

    def append(self, codes: np.ndarray) -> None:
        """(n, G * G, D) int8 of the next n samples; on disk when it returns."""
        entries = np.empty(len(codes), dtype=INDEX_ENTRY)
        entries["key"] = self._keys[self.done : self.done + len(codes)]
        entries["crc32c"] = [google_crc32c.value(np.ascontiguousarray(one)) for one in codes]
        for file, content in ((self._features, np.ascontiguousarray(codes)), (self._index, entries)):
            file.write(content.tobytes())
            file.flush()
            os.fsync(file.fileno())
        self.done += len(codes)

    def finish(self, store: str, location: str) -> None:
        """Names the store's features complete. store: digest; location: for people."""
        sha256 = hashlib.sha256((self._folder / INDEX_FILE).read_bytes()).hexdigest()
        facts = {"format": FORMAT, "store": store, "location": location, "samples": self.done, "index_sha256": sha256}
        write_sealed(self._folder / COMPLETE_FILE, facts)

    def _cut_to_whole_samples(self) -> int:
        """Samples whose features and entry are both there; what is beyond them is cut off."""
        index, features = self._folder / INDEX_FILE, self._folder / FEATURES_FILE
        known = np.fromfile(index, dtype=INDEX_ENTRY)
        done = min(len(known), features.stat().st_size // self._sample_bytes)
        if done > len(self._keys) or (known["key"][:done] != self._keys[:done]).any():
            raise StoreError(f"{index}: lists other samples than the store has. {REMEDY}")
        os.truncate(features, done * self._sample_bytes)
        os.truncate(index, done * INDEX_ENTRY.itemsize)
        return done


class StoreFeatures:
    """The coded features of one store, to be read by position. Safe for threads.

    Raises ConfigError where the folder is absent or not complete, StoreError where a file is damaged.
    """

    def __init__(self, cache: Path, digest: str, location: str, facts: TeacherFacts) -> None:
        folder = cache / digest
        if not (folder / COMPLETE_FILE).is_file():
            state = "unfinished" if folder.is_dir() else f"not in it, but of {_stores_of(cache)}"
            raise ConfigError(
                f"sarc.cache: {cache}: the features of {location} (digest {digest[:16]}...) are {state}. Run sarmae "
                f"cache-teacher --out {cache} with this store; it goes on where it stopped."
            )
        complete = read_sealed(folder / COMPLETE_FILE)
        self._path, self._facts = folder / FEATURES_FILE, facts
        self.index = _read_index(folder / INDEX_FILE, complete)
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY)
        except OSError as error:
            raise StoreError(f"{self._path}: cannot be read: {error.strerror}. {REMEDY}") from error
        weakref.finalize(self, os.close, self._descriptor)
        expected, found = len(self.index) * facts.sample_bytes, os.fstat(self._descriptor).st_size
        if found != expected:
            raise StoreError(
                f"{self._path}: {found} bytes, expected {expected} for {len(self.index)} samples. {REMEDY}"
            )

    def read_into(self, position: int, slot: np.ndarray) -> None:
        """One sample's codes into a C-contiguous int8 (G * G, D). Raises StoreError naming the sample if damaged."""
        view = slot.reshape(-1).view(np.uint8)
        length = os.preadv(self._descriptor, [view.data], position * self._facts.sample_bytes)
        if length != self._facts.sample_bytes or google_crc32c.value(view) != self.index["crc32c"][position]:
            key = int(self.index["key"][position])
            raise StoreError(f"{self._path}: the features of sample {key} are damaged: crc32c does not hold. {REMEDY}")


def _stores_of(cache: Path) -> str:
    """The stores whose features a cache holds complete, for people."""
    complete = [read_sealed(path) for path in sorted(cache.glob(f"*/{COMPLETE_FILE}"))]
    return ", ".join(f"{one['location']} (digest {one['store'][:16]}...)" for one in complete) or "no store"


def _read_index(path: Path, complete: Mapping[str, Any]) -> np.ndarray:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}. {REMEDY}") from error
    if hashlib.sha256(content).hexdigest() != complete.get("index_sha256"):
        raise StoreError(f"{path}: damaged: its sha256 is not the one in {COMPLETE_FILE}. {REMEDY}")
    return np.fromfile(path, dtype=INDEX_ENTRY)


def write_sealed(path: Path, facts: Mapping[str, Any]) -> None:
    """A JSON object with a digest of itself, whole or not at all."""
    write_durably(path, [json.dumps({**facts, "own_sha256": _own_digest(facts)}, indent=1).encode()])


def read_sealed(path: Path) -> dict[str, Any]:
    """What write_sealed wrote. Raises StoreError where it cannot be read or its digest does not hold."""
    facts = read_json(path, error=StoreError, remedy=REMEDY)
    try:
        own = facts.pop("own_sha256", None)
        if own != _own_digest(facts):
            raise ValueError("its digest of itself does not hold")
    except (ValueError, AttributeError, TypeError) as error:
        raise StoreError(f"{path}: damaged: {error}. {REMEDY}") from error
    return dict(facts)


def _own_digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
