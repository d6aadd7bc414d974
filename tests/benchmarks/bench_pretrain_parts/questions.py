"""What features are asked: land cover of cells and of images, by a linear map or by nearest neighbours."""

# S samples, D features, C classes

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from bench_pretrain_parts.features import Features
from bench_pretrain_parts.labelled import SPLITS, Labelled
from torch import Tensor

from sarmae.train.probe import NEIGHBOURS

STRENGTHS = tuple(10.0**power for power in range(-6, 2))  # of the ridge, relative to the mean feature variance
MOST_CELLS = 8192  # of a split
LEAST_SHOWN, LEAST_ASKED = 8, 5  # images of a class in train and in test
LEAST_SPREAD = 0.02  # standard deviation in train of a fraction that is asked for

Splits = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """On the test split; every strength of a ridge chosen on the val split. Accuracies are balanced over classes.

    cells_linear, cells_knn: class of a 16 px cell, 8 classes. image_r2: R2 of the images' land cover fractions, mean
    over the classes that vary. image_linear, image_knn: the class that takes most of an image. val: cells_linear on
    the val split, by which settings were chosen."""

    cells_linear: float
    cells_knn: float
    image_r2: float
    image_linear: float
    image_knn: float
    val: float


def ask(features: Mapping[str, Features], truth: Mapping[str, Labelled]) -> Answers:
    """All questions to the features of all splits."""
    cells = {split: features[split].cells.flatten(0, 2) for split in SPLITS}
    labels = {split: truth[split].cells.flatten() for split in SPLITS}
    chosen = {split: _some(len(labels[split])) for split in SPLITS}
    cells = _standardised({split: cells[split][chosen[split]] for split in SPLITS})
    labels = {split: labels[split][chosen[split]] for split in SPLITS}
    val, linear = _classify(cells, labels)
    images = _standardised({split: features[split].image for split in SPLITS})
    kept, dominant = _common(images, {split: truth[split].dominant for split in SPLITS})
    return Answers(
        cells_linear=linear,
        cells_knn=_nearest(cells, labels),
        image_r2=_explained(images, {split: truth[split].fractions for split in SPLITS}),
        image_linear=_classify(kept, dominant)[1],
        image_knn=_nearest(kept, dominant),
        val=val,
    )


def _some(count: int) -> Tensor:
    """A fixed random choice."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[:MOST_CELLS]


def _standardised(features: Splits) -> dict[str, Tensor]:
    mean, std = features["train"].mean(dim=0), features["train"].std(dim=0) + 1e-6
    return {split: (part - mean) / std for split, part in features.items()}


def _common(features: Splits, labels: Splits) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Images of the classes that are often enough the largest; the others stay out on both sides."""
    shown, asked = (torch.bincount(labels[split], minlength=8) for split in ("train", "test"))
    classes = ((shown >= LEAST_SHOWN) & (asked >= LEAST_ASKED)).nonzero()[:, 0]
    kept = {split: torch.isin(labels[split], classes) for split in SPLITS}
    numbered = {split: torch.searchsorted(classes, labels[split][kept[split]]) for split in SPLITS}
    return {split: features[split][kept[split]] for split in SPLITS}, numbered


def _ridges(features: Splits, targets: Tensor, weight: Tensor) -> list[dict[str, Tensor]]:
    """Predictions of every split, float64, by strength. weight: (S, 1) of the train samples, summing to 1."""
    inputs = {split: torch.cat([part, part.new_ones(len(part), 1)], dim=1).double() for split, part in features.items()}
    weighted = inputs["train"].T * weight.T
    normal, wanted = weighted @ inputs["train"], weighted @ targets
    ridge = torch.eye(len(normal), dtype=normal.dtype) * normal.diagonal().mean()
    solutions = [torch.linalg.solve(normal + strength * ridge, wanted) for strength in STRENGTHS]
    return [{split: part @ solution for split, part in inputs.items()} for solution in solutions]


def _classify(features: Splits, labels: Splits) -> tuple[float, float]:
    """Balanced accuracies (val, test) of a ridge onto class indicators, each class with the same total weight."""
    targets = torch.nn.functional.one_hot(labels["train"]).double()
    weight = (1 / targets.sum(dim=0).clamp(min=1))[labels["train"]][:, None]
    scores = [
        (_balanced(one["val"].argmax(dim=1), labels["val"]), _balanced(one["test"].argmax(dim=1), labels["test"]))
        for one in _ridges(features, targets, weight / weight.sum())
    ]
    return max(scores, key=lambda pair: pair[0])


def _nearest(features: Splits, labels: Splits) -> float:
    """Balanced accuracy of the class that weighs most among the nearest neighbours by cosine."""
    known, asked = (torch.nn.functional.normalize(features[split], dim=1) for split in ("train", "test"))
    classes = int(labels["train"].max()) + 1
    answers = []
    for part in asked.split(1024):
        likeness, nearest = (part @ known.T).topk(NEIGHBOURS, dim=1)
        votes = torch.zeros(len(part), classes).scatter_add_(1, labels["train"][nearest], likeness.clamp(min=0))
        answers.append(votes.argmax(dim=1))
    return _balanced(torch.cat(answers), labels["test"])


def _explained(features: Splits, fractions: Splits) -> float:
    """Mean R2 over the classes, against the mean of train."""
    varied = fractions["train"].std(dim=0) > LEAST_SPREAD
    targets = {split: fractions[split][:, varied] for split in SPLITS}
    count = len(targets["train"])
    weight = torch.full((count, 1), 1 / count, dtype=torch.float64)
    mean = targets["train"].mean(dim=0)

    def r2(found: Splits, split: str) -> float:
        missed = (found[split] - targets[split]).square().sum(dim=0)
        return float((1 - missed / (targets[split] - mean).square().sum(dim=0)).mean())

    found = _ridges(features, targets["train"], weight)
    return r2(max(found, key=lambda one: r2(one, "val")), "test")


def _balanced(found: Tensor, truth: Tensor) -> float:
    return float(torch.stack([(found[truth == label] == label).float().mean() for label in truth.unique()]).mean())
