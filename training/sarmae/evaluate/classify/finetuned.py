"""The whole encoder trained for the task."""

# B batch, K classes

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from sarmae.evaluate.classify.lesson import I64, Lesson, Predict, most_likely
from sarmae.evaluate.classify.source import BATCH, Source, Standard
from sarmae.evaluate.fitting import fit, flip, flips_of, with_encoder
from sarmae.evaluate.values import Backbone


class Classifier(nn.Module):
    """Logits (B, K) of images: an encoder's pooled features, standardised as they were before the training, and a
    linear layer that starts with all classes alike, so nothing is drawn."""

    def __init__(self, encoder: Backbone, standard: Standard, classes: int) -> None:
        super().__init__()
        self.encoder, self.standard = encoder, standard
        self.weight = nn.Parameter(torch.zeros(classes, encoder.width))
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, images: Tensor) -> Tensor:
        """(B, K) of (B, C, H, W)."""
        features = self.standard(self.encoder(images).pooled)
        return nn.functional.linear(features, self.weight, self.bias)


def by_fine_tuning(lesson: Lesson) -> Predict:
    """A copy of the encoder and a linear layer, trained together by lesson.fit: layer-wise decay of the learning rate,
    flips. The last epoch counts, the val split is not used. The lesson's encoder stays as it is."""
    source, device = lesson.source, lesson.source.device
    standard = source.standard(lesson.seen).to(device, torch.float32)
    encoder = copy.deepcopy(source.backbone)
    model = Classifier(encoder, standard, lesson.classes).to(device).eval()
    labels = torch.from_numpy(lesson.labels).to(device)

    def step(numbers: Tensor, epoch: int) -> Tensor:
        samples = lesson.train[numbers.numpy()]
        images = source.images.read(samples.tolist()).to(device)
        if lesson.fit.flips:
            images = flip(images, flips_of(torch.from_numpy(samples), seed=lesson.seed, epoch=epoch))
        return nn.functional.cross_entropy(model(images), labels[samples])

    weights = with_encoder(encoder.depth_groups(), (model.weight, model.bias), layer_decay=lesson.fit.layer_decay)
    fit(step, weights, count=len(lesson.train), config=lesson.fit, seed=lesson.seed)

    @torch.no_grad()
    def predict(of: Source, numbers: I64) -> I64:
        parts = np.split(numbers, range(BATCH, len(numbers), BATCH))
        return most_likely(torch.cat([model(of.images.read(part.tolist()).to(device)) for part in parts]))

    return predict
