"""Made-up detection tasks and an encoder small enough to train in a test."""

import numpy as np
import torch
from torch import nn

from sarmae.evaluate.backbones.backbone import Backbone, Features
from sarmae.evaluate.detect.detections import Detections
from sarmae.evaluate.labelled_images import BoxedScenes, Boxes, Inputs
from sarmae.evaluate.study_config import DatasetConfig, FitConfig, TaskConfig


class Pictures:
    """(S, C, H, W) in memory; reads: how many images each call asked for."""

    def __init__(self, pictures):
        self.pictures = torch.as_tensor(pictures, dtype=torch.float32)
        self.reads = []

    def __len__(self):
        return len(self.pictures)

    def read(self, numbers):
        self.reads.append(len(numbers))
        return self.pictures[list(numbers)].clone()


class Convolutions(Backbone):
    """Two convolutions to a grid of stride 8; NaN becomes 0."""

    name, width, stride_px, learns = "convolutions", 16, 8, True

    def __init__(self, learns=True):
        super().__init__()
        self.learns = learns
        generator = torch.Generator().manual_seed(5)
        with torch.random.fork_rng(devices=[]):
            self.first, self.second = nn.Conv2d(1, 16, 4, stride=4), nn.Conv2d(16, 16, 4, stride=2, padding=1)
        for layer in (self.first, self.second):
            nn.init.normal_(layer.weight, std=0.3, generator=generator)
            nn.init.zeros_(layer.bias)

    def forward(self, images):
        grid = self.second(torch.relu(self.first(images.nan_to_num())))
        return Features(pooled=grid.mean((2, 3)), grid=grid)

    def depth_groups(self):
        return (tuple(self.first.parameters()), tuple(self.second.parameters()))


def boxes(*corners, labels=None, crowd=None):
    count = len(corners)
    return Boxes(
        corners=np.array(corners, dtype=np.float32).reshape(count, 4),
        labels=np.array(labels or [0] * count, dtype=np.int64),
        crowd=np.array(crowd or [False] * count, dtype=bool),
    )


def found(*corners, scores, labels=None):
    count = len(corners)
    return Detections(
        corners=np.array(corners, dtype=np.float32).reshape(count, 4),
        labels=np.array(labels or [0] * count, dtype=np.int64),
        scores=np.array(scores, dtype=np.float32),
    )


def scenes(pictures, truth, tested, classes=("square",), groups=None):
    """The last `tested` images are the test split."""
    splits = ["train"] * (len(truth) - tested) + ["test"] * tested
    inputs = Inputs(units="picture", channels=("grey",), image_px=pictures.shape[-1], mean=(0.0,), std=(1.0,))
    return BoxedScenes(
        name="squares",
        inputs=inputs,
        images=Pictures(pictures),
        boxes=tuple(truth),
        classes=classes,
        splits=np.array(splits),
        groups=np.arange(len(truth)) if groups is None else np.array(groups),
    )


def squares(count, tested, seed=0, side_px=64, true=True):
    """Bright squares of 8 to 24 px in noise, one or two an image; not true: the boxes lie where nothing is."""
    rng = np.random.default_rng(seed)
    pictures, truth = rng.normal(0, 0.3, (count, 1, side_px, side_px)), []
    for number in range(count):
        corners = [_square(rng, side_px) for _ in range(int(rng.integers(1, 3)))]
        truth.append(boxes(*corners))
        for x0, y0, x1, y1 in corners if true else []:
            pictures[number, 0, y0:y1, x0:x1] += 3
    return scenes(pictures, truth, tested)


def _square(rng, side_px):
    size = int(rng.integers(8, 25))
    x0, y0 = (int(v) for v in rng.integers(0, side_px - size + 1, 2))
    return [x0, y0, x0 + size, y0 + size]


def question(bootstrap=0, label_shares=(), **fit):
    settings = {"epochs": 20, "batch": 4, "lr": 3e-3, **fit}
    return TaskConfig(
        name="find squares",
        kind="detection",
        dataset=DatasetConfig(kind="coco", path="nowhere"),
        bootstrap=bootstrap,
        label_shares=label_shares,
        fit=FitConfig(**settings),
    )
