"""Trains the detector, together with its encoder or on the grids of a frozen one."""

# S images of the train split, B batch, F ways to flip an image, D h w an encoder's grid

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
from torch import Tensor

from sarmae.evaluate.backbones.backbone import Backbone, Features
from sarmae.evaluate.detect.detector import Detector, DetectorOutput, Locations
from sarmae.evaluate.detect.geometry import mirror
from sarmae.evaluate.detect.targets import BoxTensors, assign, detection_loss
from sarmae.evaluate.fitting import fit, flip, flips_of, layerwise_groups, parameter_groups, seeded
from sarmae.evaluate.labelled_images import BoxedScenes
from sarmae.evaluate.study_config import FitConfig

KEPT_FEATURES_BYTES: Final = 2 * 2**30  # of a frozen encoder's grids; above that they are computed in every epoch
FLIPS: Final = ((False, False), (False, True), (True, False), (True, True))  # upside down, left and right swapped


class TrainedDetector(NamedTuple):
    """An encoder and the detector on its grid."""

    backbone: Backbone
    detector: Detector

    def predict(self, images: Tensor) -> tuple[DetectorOutput, Locations]:
        """Predictions for images (B, C, H, W) on the modules' device."""
        output, locations = self.detector(self.backbone(images).grid)
        return output, locations


@dataclass(frozen=True, kw_only=True, eq=False)
class DetectorTraining:
    """The training of one detector.

    train: numbers of the images.
    freeze: whether the encoder stays as it is.
    """

    task: BoxedScenes
    train: Sequence[int]
    config: FitConfig
    freeze: bool
    seed: int
    device: torch.device

    def flips(self, positions: Tensor, epoch: int) -> Tensor:
        """(B, 2) bool: how the images at these positions of train are flipped."""
        if not self.config.flips:
            return torch.zeros(len(positions), 2, dtype=torch.bool)
        return flips_of(positions, seed=self.seed, epoch=epoch)

    def images(self, positions: Sequence[int], flips: Tensor) -> Tensor:
        """(B, C, H, W), flipped."""
        images = self.task.images.read([self.train[position] for position in positions])
        return flip(images.to(self.device), flips)

    def objects(self, position: int, flips: Tensor) -> BoxTensors:
        """The boxes of the image at a position of train, flipped like the image. flips: (2,)."""
        objects = BoxTensors.of(self.task.boxes[self.train[position]], self.device)
        side_px = self.task.inputs.image_px
        corners = mirror(objects.corners, down=bool(flips[0]), across=bool(flips[1]), image_px=(side_px, side_px))
        return objects._replace(corners=corners)


def train_detector(backbone: Backbone, training: DetectorTraining) -> TrainedDetector:
    """The detector after the last epoch. A learning backbone is copied, so the one given stays as it is.

    The grids of a frozen encoder are computed once for each way to flip an image and kept on the CPU, where they take
    no more than KEPT_FEATURES_BYTES; else they are computed in every epoch. Nothing else grows with the number of
    images.
    """
    classes = len(training.task.classes)
    detector = seeded(
        lambda: Detector(backbone.width, backbone.stride_px, classes), seed=training.seed, name="detector"
    ).to(training.device)
    if training.freeze:
        trained = TrainedDetector(backbone.eval(), detector)
        grids, weights = _frozen_grids(trained.backbone, training), parameter_groups(detector.parameters())
    else:
        trained = TrainedDetector(copy.deepcopy(backbone).eval(), detector)
        grids = _Grids(trained.backbone, training)
        groups = trained.backbone.depth_groups()
        weights = layerwise_groups(groups, detector.parameters(), layer_decay=training.config.layer_decay)

    def step(positions: Tensor, epoch: int) -> Tensor:
        flips = training.flips(positions, epoch)
        output, locations = detector(grids.of(positions, flips))
        targets = [
            assign(training.objects(position, turned), locations)
            for position, turned in zip(positions.tolist(), flips, strict=True)
        ]
        return detection_loss(output, locations, targets)

    fit(step, weights, count=len(training.train), config=training.config, seed=training.seed)
    return trained


class _Grids:
    """The grids of the training images, computed when they are needed."""

    def __init__(self, backbone: Backbone, training: DetectorTraining) -> None:
        self._backbone = backbone
        self._training = training

    def of(self, positions: Tensor, flips: Tensor) -> Tensor:
        """Grids (B, D, h, w) on the training's device."""
        with torch.set_grad_enabled(not self._training.freeze):
            seen: Features = self._backbone(self._training.images(positions.tolist(), flips))
        return seen.grid


class _KeptGrids(_Grids):
    """The same grids, computed once."""

    def __init__(self, backbone: Backbone, training: DetectorTraining, ways: Sequence[tuple[bool, bool]]) -> None:
        super().__init__(backbone, training)
        every = torch.arange(len(training.train))
        self._kept = {
            way: torch.cat(
                [
                    super(_KeptGrids, self).of(part, torch.tensor([way] * len(part))).cpu()
                    for part in torch.split(every, training.config.batch)
                ]
            )
            for way in ways
        }

    def of(self, positions: Tensor, flips: Tensor) -> Tensor:
        ways = [(bool(down), bool(across)) for down, across in flips.tolist()]
        grids = [self._kept[way][position] for way, position in zip(ways, positions.tolist(), strict=True)]
        return torch.stack(grids).to(self._training.device)


def _frozen_grids(backbone: Backbone, training: DetectorTraining) -> _Grids:
    ways = FLIPS if training.config.flips else FLIPS[:1]
    positions = torch.zeros(1, dtype=torch.int64)
    one = _Grids(backbone, training).of(positions, torch.zeros(1, 2, dtype=torch.bool))
    bytes_kept = one.numel() * one.element_size() * len(training.train) * len(ways)
    if bytes_kept <= KEPT_FEATURES_BYTES and training.config.epochs >= len(ways):
        return _KeptGrids(backbone, training, ways)
    return _Grids(backbone, training)
