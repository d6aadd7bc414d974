"""Opens the encoder of an arm."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch

from sar1m.store.errors import ConfigError
from sarmae.encoders import encoder_of
from sarmae.evaluate.backbones.backbone import Backbone
from sarmae.evaluate.backbones.input_adapter import check_statistics, optical_adapter
from sarmae.evaluate.backbones.pixel_baselines import PixelBackbone, StatisticsBackbone
from sarmae.evaluate.backbones.sar_encoders import SarBackbone, open_encoder, starting_model
from sarmae.evaluate.backbones.timm_backbones import channels_of, timm_backbone
from sarmae.evaluate.labelled_images import Inputs
from sarmae.evaluate.study_config import ArmConfig, StudyConfig
from sarmae.runs import load_run_model
from sarmae.sarc.timm_networks import EFFICIENTNET, NetworkRequest, open_network, timm_name

RUN: Final = "run"
FILE: Final = "file"
TIMM: Final = "timm"
RANDOM: Final = "random"
PIXELS: Final = "pixels"
STATISTICS: Final = "statistics"


def open_backbone(arm: ArmConfig, inputs: Inputs, *, study: StudyConfig, seed: int, run: Path | None) -> Backbone:
    """The encoder of an arm for the images of a task: on the CPU, in eval mode, with gradients. No global state
    changes.

    inputs: of the task's images.
    seed: decides the weights of `random` and nothing else.
    run: folder of the arm's own pretraining at this seed; None for an arm that names an encoder.
    Raises ConfigError where the arm names no encoder or cannot take such images; CheckpointError for weights that are
    missing, damaged or of another model.
    """
    check_statistics(inputs)
    with torch.random.fork_rng(devices=[]):  # timm draws starting weights, even of what is then loaded
        return _open(arm, inputs, study, seed, run).eval()


def _open(arm: ArmConfig, inputs: Inputs, study: StudyConfig, seed: int, run: Path | None) -> Backbone:
    kind, _, place = (arm.encoder or RUN).partition(":")
    if arm.weights is not None and kind not in (TIMM, EFFICIENTNET):
        raise ConfigError(
            f"arm {arm.name!r}: weights = {arm.weights!r} goes with timm:NAME and {EFFICIENTNET} alone, its encoder is "
            f'{arm.encoder!r}. Leave weights out, or give encoder = "file:{arm.weights}".'
        )
    if kind == PIXELS:
        return PixelBackbone(arm.name, inputs)
    if kind == STATISTICS:
        return StatisticsBackbone(arm.name, inputs)
    if kind in (TIMM, EFFICIENTNET):
        return _open_timm(arm, inputs)
    config = study.pretraining_of(arm, seed)
    if kind == RANDOM:
        encoder = encoder_of(starting_model(config, inputs, image_px=config.data.crop_px), "starting weights")
    elif kind == FILE:
        encoder = open_encoder(Path(place), config, inputs)
    else:
        folder = _run_folder(arm, place, run)
        encoder = encoder_of(load_run_model(folder).model, str(folder))
    return SarBackbone(arm.name, encoder, inputs)


def _run_folder(arm: ArmConfig, place: str, run: Path | None) -> Path:
    if place:
        return Path(place)
    if run is None:
        raise ConfigError(
            f"arm {arm.name!r}: names no encoder and was not pretrained; the folder of a finished run expected. Let "
            "the study pretrain it, or set encoder."
        )
    return run


def _open_timm(arm: ArmConfig, inputs: Inputs) -> Backbone:
    words = str(arm.encoder)
    key = f"arm {arm.name!r}: encoder"
    asked = NetworkRequest(
        model=EFFICIENTNET if words == EFFICIENTNET else timm_name(words, key),
        weights=None if arm.weights is None else Path(arm.weights),
        words=words,
        name_key=key,
        weights_key="weights",
    )
    network = open_network(asked)
    return timm_backbone(arm.name, optical_adapter(inputs, channels_of(network)), network, inputs)
