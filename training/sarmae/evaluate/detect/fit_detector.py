"""Training the detector, with its encoder or on top of what a frozen one sees."""

# S images of the train split, B batch, F ways to mirror an image, D h w an encoder's grid

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
from torch import Tensor

from sarmae.evaluate.detect.detector import Answers, Detector, Locations
from sarmae.evaluate.detect.geometry import mirror
from sarmae.evaluate.detect.targets import Objects, assign, detection_loss
from sarmae.evaluate.fitting import fit, flip, flips_of, rated, seeded, with_encoder
from sarmae.evaluate.study_config import FitConfig
from sarmae.evaluate.values import Backbone, BoxedScenes, Seen

KEPT_FEATURES_BYTES: Final = 2 * 2**30  # of a frozen encoder's grids; beyond they are computed again every epoch
FLIPS: Final = ((False, False), (False, True), (True, False), (True, True))  # upside down, left and right swapped


class Trained(NamedTuple):
    """An encoder and the detector on top of it."""

    backbone: Backbone
    detector: Detector

    def answer(self, images: Tensor) -> tuple[Answers, Locations]:
        """images: (B, C, H, W) on the modules' device."""
        answers, locations = self.detector(self.backbone(images).grid)
        return answers, locations


@dataclass(frozen=True, kw_only=True, eq=False)
class Lesson:
    """What is taught. train: numbers of the images. freeze: the encoder stays as it is."""

    task: BoxedScenes
    train: Sequence[int]
    config: FitConfig
    freeze: bool
    seed: int
    device: torch.device

    def flips(self, positions: Tensor, epoch: int) -> Tensor:
        """(B, 2) bool of the images at these positions of train."""
        if not self.config.flips:
            return torch.zeros(len(positions), 2, dtype=torch.bool)
        return flips_of(positions, seed=self.seed, epoch=epoch)

    def images(self, positions: Sequence[int], flips: Tensor) -> Tensor:
        """(B, C, H, W), mirrored."""
        images = self.task.images.read([self.train[position] for position in positions])
        return flip(images.to(self.device), flips)

    def objects(self, position: int, flips: Tensor) -> Objects:
        """Of the image at a position of train, mirrored as it is; flips: (2,)."""
        objects = Objects.of(self.task.boxes[self.train[position]], self.device)
        side_px = self.task.inputs.image_px
        corners = mirror(objects.corners, down=bool(flips[0]), across=bool(flips[1]), image_px=(side_px, side_px))
        return objects._replace(corners=corners)


def train(backbone: Backbone, lesson: Lesson) -> Trained:
    """The detector after the last epoch, with a copy of the backbone, which itself stays as it is.

    Frozen, the encoder's grids are computed once for every way an image is mirrored and kept on the CPU while they take
    no more than KEPT_FEATURES_BYTES, else every epoch anew; nothing else grows with the number of images.
    """
    classes = len(lesson.task.classes)
    detector = seeded(
        lambda: Detector(backbone.width, backbone.stride_px, classes), seed=lesson.seed, name="detector"
    ).to(lesson.device)
    if lesson.freeze:
        trained = Trained(backbone.eval(), detector)
        grids, weights = _frozen_grids(trained.backbone, lesson), rated(detector.parameters())
    else:
        trained = Trained(copy.deepcopy(backbone).eval(), detector)
        grids = _Grids(trained.backbone, lesson)
        groups = trained.backbone.depth_groups()
        weights = with_encoder(groups, detector.parameters(), layer_decay=lesson.config.layer_decay)

    def step(positions: Tensor, epoch: int) -> Tensor:
        flips = lesson.flips(positions, epoch)
        answers, locations = detector(grids.of(positions, flips))
        targets = [
            assign(lesson.objects(position, turned), locations)
            for position, turned in zip(positions.tolist(), flips, strict=True)
        ]
        return detection_loss(answers, locations, targets)

    fit(step, weights, count=len(lesson.train), config=lesson.config, seed=lesson.seed)
    return trained


class _Grids:
    """What the encoder sees in images of the lesson, computed when asked."""

    def __init__(self, backbone: Backbone, lesson: Lesson) -> None:
        self._backbone = backbone
        self._lesson = lesson

    def of(self, positions: Tensor, flips: Tensor) -> Tensor:
        """(B, D, h, w) on the lesson's device."""
        with torch.set_grad_enabled(not self._lesson.freeze):
            seen: Seen = self._backbone(self._lesson.images(positions.tolist(), flips))
        return seen.grid


class _KeptGrids(_Grids):
    """The same, computed once."""

    def __init__(self, backbone: Backbone, lesson: Lesson, ways: Sequence[tuple[bool, bool]]) -> None:
        super().__init__(backbone, lesson)
        every = torch.arange(len(lesson.train))
        self._kept = {
            way: torch.cat(
                [
                    super(_KeptGrids, self).of(part, torch.tensor([way] * len(part))).cpu()
                    for part in torch.split(every, lesson.config.batch)
                ]
            )
            for way in ways
        }

    def of(self, positions: Tensor, flips: Tensor) -> Tensor:
        ways = [(bool(down), bool(across)) for down, across in flips.tolist()]
        grids = [self._kept[way][position] for way, position in zip(ways, positions.tolist(), strict=True)]
        return torch.stack(grids).to(self._lesson.device)


def _frozen_grids(backbone: Backbone, lesson: Lesson) -> _Grids:
    ways = FLIPS if lesson.config.flips else FLIPS[:1]
    positions = torch.zeros(1, dtype=torch.int64)
    one = _Grids(backbone, lesson).of(positions, torch.zeros(1, 2, dtype=torch.bool))
    bytes_kept = one.numel() * one.element_size() * len(lesson.train) * len(ways)
    if bytes_kept <= KEPT_FEATURES_BYTES and lesson.config.epochs >= len(ways):
        return _KeptGrids(backbone, lesson, ways)
    return _Grids(backbone, lesson)
