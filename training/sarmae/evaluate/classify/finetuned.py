"""Fine-tuning: the whole encoder is trained for the task."""

# B batch, K classes

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from sarmae.evaluate.backbones.backbone import Backbone
from sarmae.evaluate.classify.classifier_training import I64, ClassifierTraining, Predict, most_likely
from sarmae.evaluate.classify.frozen_features import BATCH, FeatureScaling, FrozenFeatures
from sarmae.evaluate.fitting import fit, flip, flips_of, layerwise_groups


class Classifier(nn.Module):
    """Logits (B, K) of images: the pooled features of an encoder, standardised, and a linear layer.

    The scaling stays as it was before the training. The layer starts with all classes equal, so nothing is drawn.
    """

    def __init__(self, encoder: Backbone, scaling: FeatureScaling, classes: int) -> None:
        super().__init__()
        self.encoder, self.scaling = encoder, scaling
        self.weight = nn.Parameter(torch.zeros(classes, encoder.width))
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W)."""
        features = self.scaling(self.encoder(images).pooled)
        return nn.functional.linear(features, self.weight, self.bias)


def by_fine_tuning(training: ClassifierTraining) -> Predict:
    """A copy of the encoder and a linear layer, trained together by training.fit, with layer-wise decay of the
    learning rate and flips. The model after the last epoch counts; the val split is not used. The encoder itself
    stays as it is.
    """
    source, device = training.source, training.source.device
    scaling = source.scaling(training.standardise_by).to(device, torch.float32)
    encoder = copy.deepcopy(source.backbone)
    model = Classifier(encoder, scaling, training.classes).to(device).eval()
    labels = torch.from_numpy(training.labels).to(device)

    def step(numbers: Tensor, epoch: int) -> Tensor:
        samples = training.train[numbers.numpy()]
        images = source.images.read(samples.tolist()).to(device)
        if training.fit.flips:
            images = flip(images, flips_of(torch.from_numpy(samples), seed=training.seed, epoch=epoch))
        return nn.functional.cross_entropy(model(images), labels[samples])

    weights = layerwise_groups(encoder.depth_groups(), (model.weight, model.bias), layer_decay=training.fit.layer_decay)
    fit(step, weights, count=len(training.train), config=training.fit, seed=training.seed)

    @torch.no_grad()
    def predict(of: FrozenFeatures, numbers: I64) -> I64:
        parts = np.split(numbers, range(BATCH, len(numbers), BATCH))
        return most_likely(torch.cat([model(of.images.read(part.tolist()).to(device)) for part in parts]))

    return predict
