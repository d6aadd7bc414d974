"""The teacher's features at each step: of the optical partners, at the patches of the crop.

There are two sources. Live: a frozen encoder computes them from every crop. Cached: they were computed once from the
whole stored images, and a crop at multiples of 16 px is a slice of their grid. A cached feature was computed with all
of the stored image around it, a live one with the crop alone. A flip turns the grid of cached features, where a live
encoder sees the flipped image. tests/benchmarks/results/teacher-cache.md measures how much that changes them.
"""
# B batch, N patches of the crop, g patches along its side, G along the stored image's, D components, T teacher width

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import torch
from torch import Tensor

from sar1m.store.errors import ConfigError, StoreError
from sarmae.config import PretrainConfig
from sarmae.precision import computes_in_bf16
from sarmae.sarc.compression import Basis
from sarmae.sarc.feature_cache import StoreFeatures, TeacherFacts, read_teacher
from sarmae.sarc.frozen_encoders import FrozenTeacher
from sarmae.sarc.teachers import NO_TEACHER, open_teacher, weights_at_hand
from sarmae.stream.batch import Batch, ImageSpec
from sarmae.stream.loader_settings import TOKEN_PX
from sarmae.stream.order.specification import StoreShare
from sarmae.stream.transforms import Augmented, Geometry

# names that stores give their bands: ours, of Sentinel-2; published pictures
RGB_LABELS: Final = (("B04", "B03", "B02"), ("R", "G", "B"))
READ_THREADS: Final = 4  # reading and checking one sample is some 20 microseconds, from a disk 100


class Anchors(Protocol):
    """A source of the teacher's features. width: T. needs_optical: whether batches must hold the optical partners."""

    width: int
    needs_optical: bool

    def prepare(self, optical: ImageSpec | None, stores: Sequence[StoreShare]) -> None:
        """To be called once, before the first batch. ConfigError or StoreError where the stores do not fit the teacher.

        optical: encoding of the stream's optical array; None where none is read.
        stores: of the stream.
        """

    def __call__(self, augmented: Augmented, host: Batch | None = None) -> Tensor:
        """(B, N, T) features on the batch's device, row by row; for unpaired samples any finite values.

        augmented: with optical values as display brightness 0..1.
        host: the batch as the loader gave it, with ids and flags on the CPU. Without it the call waits for a batch on
            an accelerator.
        """


def open_anchors(config: PretrainConfig, device: torch.device) -> Anchors | None:
    """The teacher of a configuration on a device, from its cache where one is given; None for the teacher `none`.

    Raises ConfigError, CheckpointError (weights) or StoreError (a damaged cache).
    """
    if config.sarc.teacher == NO_TEACHER:
        return None
    if config.model.patch_px != TOKEN_PX:
        raise ConfigError(
            f"sarc.teacher: features are made for patches of {TOKEN_PX} px, model.patch_px is {config.model.patch_px}. "
            f"Set model.patch_px = {TOKEN_PX}, or sarc.teacher = none."
        )
    if config.sarc.cache is not None:
        return CachedAnchors(Path(config.sarc.cache), config, device)
    teacher = open_teacher(config.sarc).to(device)
    teacher.bf16 = computes_in_bf16(config.train, device)
    return LiveAnchors(teacher)


class LiveAnchors:
    """Features that the teacher computes from every crop."""

    needs_optical = True

    def __init__(self, teacher: FrozenTeacher) -> None:
        self._teacher = teacher
        self.width = teacher.width
        self._bands: tuple[int, ...] = ()

    def prepare(self, optical: ImageSpec | None, stores: Sequence[StoreShare]) -> None:
        """ConfigError where the stores have no optical images, or bands that are not known."""
        if optical is None:
            raise ConfigError(
                f"sarc.teacher: it looks at optical partners, and {', '.join(store.name for store in stores)} "
                "have none. Train on stores with pairs, or set sarc.teacher = none."
            )
        self._bands = rgb_positions(optical.labels)

    def __call__(self, augmented: Augmented, host: Batch | None = None) -> Tensor:
        """ConfigError where the batch holds no optical images."""
        optical = augmented.batch.optical
        if optical is None:
            raise ConfigError("sarc.teacher: this batch holds no optical images. Open the loader with optical=True.")
        rows = _paired_rows(augmented.batch, host)
        if rows is None:
            features: Tensor = self._teacher(optical[:, self._bands])
            return features
        seen = self._teacher(optical[rows][:, self._bands]) if len(rows) else None
        patches = (augmented.geometry.size_px // TOKEN_PX) ** 2
        everything = torch.zeros(
            (len(optical), patches, self.width),
            dtype=torch.float32 if seen is None else seen.dtype,
            device=optical.device,
        )
        return everything if seen is None else everything.index_copy_(0, rows, seen)


class CachedAnchors:
    """Features out of a cache that `sarmae cache-teacher` wrote: neither teacher nor optical pixels are needed."""

    needs_optical = False

    def __init__(self, cache: Path, config: PretrainConfig, device: torch.device) -> None:
        self._cache, self._device = cache, device
        self._facts, basis = read_teacher(cache)
        _check_same_teacher(cache, self._facts, config)
        self._basis: Basis = basis.to(device)
        self.width = basis.width
        self._stores: list[StoreFeatures] = []
        self._keys = np.empty(0, dtype=np.int64)  # sorted
        self._place = np.empty((0, 2), dtype=np.int64)  # store and position in it, in the order of the keys
        self._readers = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="anchors")

    def prepare(self, optical: ImageSpec | None, stores: Sequence[StoreShare]) -> None:  # noqa: ARG002 - reads no pixels
        """ConfigError where a store's features are not there, or two stores hold the same sample."""
        self._stores = [StoreFeatures(self._cache, store.digest, store.name, self._facts) for store in stores]
        keys = np.concatenate([store.index["key"] for store in self._stores])
        sizes = [len(store.index) for store in self._stores]
        place = [np.repeat(np.arange(len(sizes)), sizes), np.concatenate([np.arange(size) for size in sizes])]
        order = np.argsort(keys, kind="stable")
        self._keys, self._place = keys[order], np.stack(place, axis=1)[order]
        twice = self._keys[1:][self._keys[1:] == self._keys[:-1]]
        if len(twice):
            raise ConfigError(
                f"sarc.cache: {len(twice)} samples, {twice[0]} among them, are in two of the stores, and a batch does "
                "not say of which. Train on one of the two, or without sarc.cache."
            )

    def __call__(self, augmented: Augmented, host: Batch | None = None) -> Tensor:
        """As Anchors. Raises StoreError naming a paired sample that the cache lacks or whose features are damaged."""
        known = augmented.batch if host is None else host
        codes = self._read(known.id.cpu().numpy(), known.paired.cpu().numpy())
        return self._basis.decode(slice_grid(codes.to(self._device, non_blocking=True), augmented.geometry))

    def _read(self, ids: np.ndarray, paired: np.ndarray) -> Tensor:
        """(B, G, G, D) int8 on the host; unpaired rows are 0."""
        grid, kept = self._facts.grid, self._facts.components
        codes = torch.zeros((len(ids), grid, grid, kept), dtype=torch.int8, pin_memory=self._device.type == "cuda")
        rows = np.flatnonzero(paired)
        places = self._find(ids[rows])
        slots = codes.numpy()

        def read(number: int) -> None:
            store, position = places[number]
            self._stores[store].read_into(int(position), slots[rows[number]])

        for _ in self._readers.map(read, range(len(rows))):
            pass  # raises here what a reader raised
        return codes

    def _find(self, ids: np.ndarray) -> np.ndarray:
        """(n, 2) store and position of each id."""
        at = np.searchsorted(self._keys, ids)
        found = (at < len(self._keys)) & (np.append(self._keys, -1)[at] == ids)
        if not found.all():
            raise StoreError(
                f"{self._cache}: no features of the paired sample {ids[~found][0]} ({int((~found).sum())} of this "
                "batch are missing). The cache is of other stores than the run's: write it anew (sarmae cache-teacher)."
            )
        return self._place[at]


def rgb_positions(labels: Sequence[str]) -> tuple[int, ...]:
    """The positions of red, green and blue among a store's bands. ConfigError where they are not among them."""
    for names in RGB_LABELS:
        if set(names) <= set(labels):
            return tuple(labels.index(name) for name in names)
    known = " or ".join(", ".join(names) for names in RGB_LABELS)
    raise ConfigError(
        f"sarc.teacher: the stores' optical bands are {', '.join(labels)}; red, green and blue are expected among them "
        f"as {known}. Build the store with these bands, or set sarc.teacher = none."
    )


def slice_grid(stored: Tensor, geometry: Geometry) -> Tensor:
    """The features under each crop, flipped as the crop was: (B, g * g, D), row by row, of stored (B, G, G, D)."""
    grid = geometry.size_px // TOKEN_PX
    steps = torch.arange(grid, device=stored.device)

    def lines(first_px: Tensor, flipped: Tensor) -> Tensor:
        return first_px[:, None] // TOKEN_PX + torch.where(flipped[:, None], grid - 1 - steps, steps)

    rows = lines(geometry.rows_px, geometry.flipped_rows)[:, :, None]
    cols = lines(geometry.cols_px, geometry.flipped_cols)[:, None, :]
    sample = torch.arange(len(stored), device=stored.device)[:, None, None]
    return stored[sample, rows, cols].flatten(1, 2)


def _paired_rows(batch: Batch, host: Batch | None) -> Tensor | None:
    """Numbers of the paired samples, on the batch's device; None where the host does not know them."""
    flags = batch.paired if host is None else host.paired
    if flags.device.type != "cpu":
        return None
    return flags.nonzero()[:, 0].to(batch.paired.device, non_blocking=True)


def _check_same_teacher(cache: Path, facts: TeacherFacts, config: PretrainConfig) -> None:
    if facts.teacher != config.sarc.teacher:
        raise ConfigError(
            f"sarc.cache: {cache} holds features of {facts.teacher}, sarc.teacher is {config.sarc.teacher}. Set "
            f"sarc.teacher = {facts.teacher}, or write another cache."
        )
    if not config.data.align:
        raise ConfigError(
            f"sarc.cache: data.align is off, and cached features are of patches at multiples of {TOKEN_PX} px. Set "
            "data.align = true, or train without sarc.cache."
        )
    if not weights_at_hand(config.sarc):
        return  # nothing to compare with: the name must do
    found = open_teacher(config.sarc).weights_sha256()
    if found != facts.weights_sha256:
        raise ConfigError(
            f"sarc.cache: {cache} holds features of weights with sha256 {facts.weights_sha256[:16]}..., those given "
            f"({config.sarc.weights or 'the package'}) have {found[:16]}... Give the weights the cache was written "
            "with, or write another cache."
        )
