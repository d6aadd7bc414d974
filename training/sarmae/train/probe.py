"""Land cover from the features during training, by k nearest neighbours and by a linear classifier.

Both classifiers learn from samples of the train split and are tested on samples of the val split, or on part of train
where val is too small. A sample's feature is the mean of the encoder's patch tokens over the whole centre crop, without
mask and without extra speckle. Both scores are balanced accuracies: the mean over the classes of the share of right
answers.
"""

# B batch, S samples, D width of the features, K classes

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sar1m.store.cache.bound import CacheConfig
from sar1m.store.cache.place import open_cached
from sarmae.model.sarmae import SarMae
from sarmae.stream.layout import splits_of
from sarmae.stream.loader_settings import CropFlip
from sarmae.stream.opening import PUBLISHED, open_store
from sarmae.stream.read_ahead import read_samples
from sarmae.stream.transforms import Dequantise, centre_crop

NEIGHBOURS = 10
RIDGE = 1e-2  # of the linear classifier, relative to the mean feature variance
LEAST_ASKED = 32  # fewer give a figure of chance
LEAST_SHOWN = 8  # teaching samples of a class
MOST_TEACHING, MOST_ASKED = 1024, 512  # at 224 px and two polarisations 0.6 GB
PIECE = 64


@dataclass(frozen=True, kw_only=True)
class ProbeSet:
    """Samples with a known land cover on the CPU: sar_db (S, P, H, W), labels (S,) int64, and which of them teach."""

    sar_db: Tensor
    labels: Tensor
    teaches: Tensor
    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ProbeScores:
    """Balanced accuracies on the asked samples; chance is one over the number of classes."""

    knn: float
    linear: float
    classes: int


def score(features: Tensor, probe: ProbeSet) -> ProbeScores:
    """Scores of features (S, D) of the probe's samples, float32 on any device."""
    known, asked = features[probe.teaches], features[~probe.teaches]
    labels = probe.labels.to(features.device)
    truth, answers = labels[probe.teaches], labels[~probe.teaches]
    classes = len(probe.names)
    mean, std = known.mean(dim=0), known.std(dim=0) + 1e-6
    known, asked = (known - mean) / std, (asked - mean) / std
    return ProbeScores(
        knn=_balanced(_neighbours(known, truth, asked, classes), answers, classes),
        linear=_balanced(_linear(known, truth, asked, classes), answers, classes),
        classes=classes,
    )


@torch.no_grad()
def encode(model: SarMae, sar_db: Tensor, *, batch: int = 64) -> Tensor:
    """(S, D) float32: the mean patch token of each sample (S, P, H, W) dB, on the model's device."""
    device = next(model.parameters()).device
    parts = [model.tokens(part.to(device))[:, 1:].float().mean(dim=1) for part in torch.split(sar_db, batch)]
    return torch.cat(parts)


def _neighbours(known: Tensor, truth: Tensor, asked: Tensor, classes: int) -> Tensor:
    """The class most of the nearest neighbours by cosine have, weighted by their similarity."""
    unit_known, unit_asked = (torch.nn.functional.normalize(part, dim=1) for part in (known, asked))
    similarity, nearest = (unit_asked @ unit_known.T).topk(min(NEIGHBOURS, len(known)), dim=1)
    votes = torch.zeros(len(asked), classes, device=asked.device)
    return votes.scatter_add_(1, truth[nearest], similarity.clamp(min=0)).argmax(dim=1)


def _linear(known: Tensor, truth: Tensor, asked: Tensor, classes: int) -> Tensor:
    """Ridge regression onto class indicators, each class with the same total weight; solved exactly, in float64."""
    ones = known.new_ones(len(known), 1)
    inputs = torch.cat([known, ones], dim=1).double()
    targets = torch.nn.functional.one_hot(truth, classes).double()
    weight = (1.0 / targets.sum(dim=0).clamp(min=1))[truth][:, None]
    normal = inputs.T @ (inputs * weight)
    normal += RIDGE * torch.eye(len(normal), dtype=normal.dtype, device=normal.device) * normal.diagonal().mean()
    solution: Tensor = torch.linalg.solve(normal, inputs.T @ (targets * weight))
    return (torch.cat([asked, asked.new_ones(len(asked), 1)], dim=1).double() @ solution).argmax(dim=1)


def _balanced(found: Tensor, truth: Tensor, classes: int) -> float:
    shares = [
        float((found[truth == label] == label).float().mean()) for label in range(classes) if (truth == label).any()
    ]
    return float(np.mean(shares))


def open_probe(locations: Sequence[str], crop: CropFlip, cache: CacheConfig | None) -> ProbeSet | None:
    """The probe's samples out of the stores; None where too few samples have a known land cover.

    The val split is asked; where it has under LEAST_ASKED of them, every fourth teaching sample is asked instead.
    """
    teaching = [part for place in locations for part in _read(place, "train", MOST_TEACHING, crop, cache)]
    held_out = [part for place in locations for part in _read(place, "val", MOST_ASKED, crop, cache)]
    taught = sum(len(part.labels) for part in teaching)
    asked = sum(len(part.labels) for part in held_out)
    parts = [*teaching, *held_out] if asked >= LEAST_ASKED else teaching
    labels = [name for part in parts for name in part.labels]
    numbers = torch.arange(len(labels))
    teaches = numbers < taught if asked >= LEAST_ASKED else numbers % 4 != 0
    if not labels:
        return None
    return _common_classes(torch.cat([part.sar_db for part in parts]), labels, teaches)


def _common_classes(sar_db: Tensor, labels: list[str], teaches: Tensor) -> ProbeSet | None:
    """Leaves out classes with few teaching samples. None where too little is left."""
    shown = Counter(name for name, teaching in zip(labels, teaches.tolist(), strict=True) if teaching)
    names = tuple(sorted(name for name, count in shown.items() if count >= LEAST_SHOWN))
    kept = torch.tensor([name in names for name in labels])
    if len(names) < 2 or int((kept & ~teaches).sum()) < LEAST_ASKED:
        return None
    numbers = torch.tensor([names.index(name) for name in labels if name in names], dtype=torch.int64)
    return ProbeSet(sar_db=sar_db[kept], labels=numbers, teaches=teaches[kept], names=names)


class _Part(NamedTuple):
    sar_db: Tensor
    labels: list[str]


def _read(location: str, split: str, most: int, crop: CropFlip, cache: CacheConfig | None) -> Iterator[_Part]:
    """Centre crops in dB of samples with a known land cover, and its names; nothing for a split that is empty."""
    if location.startswith(PUBLISHED):
        return
    place = open_cached(location, cache)
    if split not in splits_of(place):
        return
    store = open_store(location, split=split, optical=False, cache=cache)
    index = store.index
    known = np.flatnonzero(index.land_cover > 0)
    chosen = known[np.argsort(index.keys[known], kind="stable")][:most]  # keys are hashes: a fixed random choice
    dequantise = Dequantise(index.sar, None)
    pieces = [read_samples(store, piece) for piece in np.array_split(chosen, max(len(chosen) // PIECE, 1))]
    yield _Part(
        torch.cat([dequantise(centre_crop(piece, crop).batch).sar for piece in pieces]),
        [index.land_cover_names[number] for number in index.land_cover[chosen]],
    )
