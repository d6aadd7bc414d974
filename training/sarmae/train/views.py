"""From a batch of digital numbers to the tensors of a step: crop and flips, decibels, speckle, mask, anchors.

Every draw is keyed by (seed, epoch, sample id), so it is the same for a sample at any world size, in any batch and
after any resume. Everything is computed on the device of the run.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from sarmae.config import PretrainConfig
from sarmae.sarc import Anchors
from sarmae.sare import Sare
from sarmae.stream.batch import Batch, ImageSpec
from sarmae.stream.keyed_random import DrawKey, uniform
from sarmae.stream.transforms import Dequantise, crop_flip
from sarmae.train.step import Views

MASK_STREAM = "mask"


class MakeViews:
    """Batches to views. sar, optical: encoding of the stream's arrays. patches: N of the model."""

    def __init__(
        self,
        config: PretrainConfig,
        sar: ImageSpec,
        optical: ImageSpec | None,
        anchors: Anchors | None,
        *,
        patches: int,
        device: torch.device,
    ) -> None:
        self._seed, self._patches, self._device = config.train.seed, patches, device
        self._crop = config.data.crop
        self._dequantise = Dequantise(sar, optical)
        self._sare = Sare(config.sare, seed=config.train.seed, units=sar.units)
        self._anchors = anchors
        self._sare.check(sar)
        height_px, width_px = sar.sample_shape[-2:]
        self._crop.check(height_px, width_px)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Views:
        """Views on the device of the run. The anchors of an unpaired sample must not be used."""
        cut = crop_flip(batch.to(self._device), self._crop, self._seed)
        values = self._dequantise(cut.batch)
        input_db, target_db = self._sare(values)
        key = DrawKey(seed=self._seed, epoch=values.epoch, stream=MASK_STREAM)
        noise = uniform(key, values.id, self._patches)
        anchors = None if self._anchors is None else self._anchors(replace(cut, batch=values), batch)
        return Views(input_db, target_db, noise, anchors, values.paired)
