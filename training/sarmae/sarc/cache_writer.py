"""Writing a teacher cache: the teacher's features of every paired sample, computed once from the whole stored image.

Afterwards training needs neither the teacher nor the optical pixels. One process writes it. After a kill at any moment
the same command goes on where it stopped. feature_cache.py describes the files, compression.py the coding.
"""
# B batch, G x G patches of a stored image, D components, T teacher width

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from sar1m.store.errors import ConfigError
from sar1m.store.file_lock import output_lock
from sar1m.store.progress import Watch
from sarmae.config import PretrainConfig
from sarmae.precision import computes_in_bf16
from sarmae.sarc.anchors import rgb_positions
from sarmae.sarc.compression import Basis, fit_basis
from sarmae.sarc.feature_cache import TEACHER_FILE, FeatureWriter, TeacherFacts, read_teacher, write_teacher
from sarmae.sarc.frozen_encoders import FrozenTeacher
from sarmae.sarc.teachers import NO_TEACHER, open_teacher
from sarmae.stream.batch import ImageSpec
from sarmae.stream.loader_settings import TOKEN_PX
from sarmae.stream.opening import Store, open_store
from sarmae.stream.order.sample_order import BlockRange
from sarmae.stream.read_ahead import BatchRequest, Reading
from sarmae.stream.transforms import Dequantise
from sarmae.train.parallel import pick_device

BATCH: Final = 64
LOCK_FILE: Final = "lock"
FIT_SAMPLES: Final = 256  # 65,536 patches of 256 px images: 256 vectors for each component
NOTE_EVERY_S: Final = 10.0


def write_cache(config: PretrainConfig, out: Path, watch: Watch) -> None:
    """Writes the features of config.sarc's teacher for all paired samples of the train split of config.data.stores.

    Stores that the folder already holds complete are left as they are, so stores may be added later. Raises ConfigError
    where there is nothing to write or the folder is another teacher's, LockedError where another process writes there,
    CheckpointError (weights) or StoreError.
    """
    stores = [_Source(store) for store in _open_stores(config, out)]
    paired = [source for source in stores if len(source.samples)]
    if not paired:
        raise ConfigError(f"data.stores: no paired sample in {', '.join(config.data.stores)}: nothing for a teacher.")
    if config.sarc.teacher == NO_TEACHER:
        raise ConfigError("sarc.teacher is none: nothing to write. Name one: --set sarc.teacher=efficientnet_lite0.")
    device = pick_device(config.train.device)
    teacher = open_teacher(config.sarc).to(device)
    teacher.bf16 = computes_in_bf16(config.train, device)
    teacher_features = _FeatureSource(teacher, config, device)
    with output_lock(out, lock=LOCK_FILE, work="cache-teacher"):
        facts, basis = _agree_on_basis(config.sarc.teacher, out, paired, teacher_features)
        watch.note(
            f"{facts.teacher}: {facts.width} features on {facts.components} components with {facts.variance_kept:.2%} "
            f"of the variance; {facts.sample_bytes / 1000:.1f} KB a sample, {sum(len(s.samples) for s in paired):,} "
            "samples"
        )
        for source in stores:
            _write_store(source, out, facts, basis.to(device), teacher_features, watch)
    watch.note(f"Complete. Train with --set sarc.teacher={facts.teacher} --set sarc.cache={out}")


@dataclass(frozen=True)
class _Source:
    """A store and the numbers of its paired samples."""

    store: Store

    @property
    def samples(self) -> np.ndarray:
        return np.flatnonzero(self.store.index.paired)

    @property
    def patch_px(self) -> int:
        return self.store.index.sar.sample_shape[-1]


class _FeatureSource:
    """Computes the teacher's features of samples, which are read ahead."""

    def __init__(self, teacher: FrozenTeacher, config: PretrainConfig, device: torch.device) -> None:
        self.teacher = teacher
        self._device = device
        self._settings = config.loader_settings(optical=True, pin_memory=device.type == "cuda")

    def features(self, source: _Source, samples: np.ndarray) -> Iterator[Tensor]:
        """(B, G * G, T) for batch after batch of samples, on the device. Raises ChunkError for one that is damaged."""
        if not len(samples):
            return
        index = source.store.index
        optical = _optical(source)
        bands, dequantise = rgb_positions(optical.labels), Dequantise(index.sar, optical)
        with Reading([source.store], self._settings) as reading:
            for batch, unread in reading.batches(_requests(source, samples)):
                if unread:
                    raise unread[0].error
                values = dequantise(batch.to(self._device)).optical
                if values is not None:
                    yield self.teacher(values[:, bands])


def _open_stores(config: PretrainConfig, out: Path) -> list[Store]:
    if not config.data.stores:
        raise ConfigError("data.stores: no store to look at. Give --data FOLDER.")
    data = config.data
    cache = data.disk_cache(out / "downloads")
    stores = [open_store(place, cache=cache, published_px=data.published_px) for place in data.stores]
    sides = {store.index.sar.sample_shape[-2:] for store in stores}
    side = min(sides)
    if len(sides) > 1 or side[0] != side[1] or side[0] % TOKEN_PX:
        raise ConfigError(
            f"data.stores: patches of {sorted(sides)} px; one side for all, a multiple of {TOKEN_PX} px, is expected. "
            "Write one cache for the stores of each side, or build them alike."
        )
    return stores


def _agree_on_basis(
    teacher: str, out: Path, sources: Sequence[_Source], teacher_features: _FeatureSource
) -> tuple[TeacherFacts, Basis]:
    """The folder's basis, where it is this teacher's; else one fitted to samples spread evenly over all stores."""
    sha256, patch_px = teacher_features.teacher.weights_sha256(), sources[0].patch_px
    if (out / TEACHER_FILE).is_file():
        facts, basis = read_teacher(out)
        wanted = (teacher, sha256, patch_px)
        if (facts.teacher, facts.weights_sha256, facts.patch_px) != wanted:
            raise ConfigError(
                f"{out}: holds features of {facts.teacher} (weights {facts.weights_sha256[:16]}..., patches of "
                f"{facts.patch_px} px), asked for are {teacher} ({sha256[:16]}..., {patch_px} px). Give another --out."
            )
        return facts, basis
    features = torch.cat([part.float().cpu().flatten(0, 1) for part in _spread(sources, teacher_features)])
    fit = fit_basis(features)
    facts = TeacherFacts(
        teacher=teacher,
        weights_sha256=sha256,
        patch_px=patch_px,
        width=fit.basis.width,
        components=fit.basis.kept,
        variance_kept=round(fit.variance_kept, 6),
        fitted_samples=len(features) // (patch_px // TOKEN_PX) ** 2,
    )
    write_teacher(out, facts, fit.basis)
    return facts, fit.basis


def _spread(sources: Sequence[_Source], teacher_features: _FeatureSource) -> Iterator[Tensor]:
    """Features of at most FIT_SAMPLES paired samples, evenly spaced over the stores one after the other."""
    borders = np.cumsum([0, *(len(source.samples) for source in sources)])
    chosen = np.unique(np.linspace(0, borders[-1] - 1, min(FIT_SAMPLES, borders[-1])).round().astype(np.int64))
    for source, first, last in zip(sources, borders, borders[1:], strict=False):
        within = chosen[(chosen >= first) & (chosen < last)] - first
        yield from teacher_features.features(source, source.samples[within])


def _write_store(
    source: _Source, out: Path, facts: TeacherFacts, basis: Basis, teacher_features: _FeatureSource, watch: Watch
) -> None:
    index, samples = source.store.index, source.samples
    with FeatureWriter(out / index.digest, facts.sample_bytes, index.keys[samples]) as writer:
        if writer.done:
            watch.note(f"{index.location}: going on at sample {writer.done:,} of {len(samples):,}")
        first = writer.done
        began = noted = time.monotonic()
        for features in teacher_features.features(source, samples[writer.done :]):
            writer.append(basis.encode(features).cpu().numpy())
            if time.monotonic() - noted > NOTE_EVERY_S:
                noted = time.monotonic()
                rate = (writer.done - first) / (noted - began)
                left_min = (len(samples) - writer.done) / rate / 60
                watch.note(f"{writer.done:,} of {len(samples):,}: {rate:,.0f} samples/s, {left_min:.1f} min left")
        writer.finish(index.digest, index.location)


def _requests(source: _Source, samples: np.ndarray) -> Iterator[BatchRequest]:
    for step, part in enumerate(np.split(samples, range(BATCH, len(samples), BATCH))):
        remote = source.store.remote is not None
        blocks = (BlockRange(store=0, start=int(part[0]), stop=int(part[-1]) + 1, step=step),) if remote else ()
        yield BatchRequest(epoch=0, step=step, store=np.zeros(len(part), dtype=np.int64), sample=part, blocks=blocks)


def _optical(source: _Source) -> ImageSpec:
    optical = source.store.index.optical
    if optical is None:
        raise ConfigError(f"{source.store.index.location}: has no optical images.")
    return optical
