"""Encoders that this program pretrained, exported or begins with, unpacked for evaluation and as plain timm models."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import safetensors
import torch
from torch import Tensor, nn

from sar1m.store.errors import ConfigError
from sarmae.config import PretrainConfig
from sarmae.errors import CheckpointError
from sarmae.evaluate.backbones.entrance import sar_entrance
from sarmae.evaluate.backbones.trained import TransformerBackbone
from sarmae.evaluate.values import Inputs
from sarmae.export import WEIGHTS_FILE, timm_arguments
from sarmae.model.sarmae import SarMae, build_model
from sarmae.model.spec import ModelSpec, encoder_size
from sarmae.stream.band_statistics import SarStatistics
from sarmae.stream.normalise import Normalise
from sarmae.timm_door import timm
from sarmae.weights import DAMAGE, load_published, read_weights

TOLD: Final = "sarmae"  # the entry of an exported file's metadata, see sarmae.export
_POOLED_NORM: Final = re.compile(r"^fc_norm\.")
_NORM: Final = re.compile(r"^norm\.")


@dataclass(frozen=True, kw_only=True, eq=False)
class Unpacked:
    """A ViT of ours. architecture, arguments: of timm.create_model. weights: by timm's names, the last norm as `norm`.

    channels: polarisations in order. normalise: of decibels, as in pretraining. origin: for messages.
    """

    architecture: str
    arguments: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    channels: tuple[str, ...]
    normalise: Normalise
    origin: str


class SarBackbone(TransformerBackbone):
    """A ViT of ours: the mean of its patch tokens, in the normalisation that it was pretrained with."""

    def __init__(self, name: str, unpacked: Unpacked, inputs: Inputs) -> None:
        entrance = sar_entrance(inputs, unpacked.channels, unpacked.normalise)
        network = _as_timm(unpacked, "token", {"dynamic_img_size": True})
        super().__init__(name, entrance, network, inputs, patch_mean=True)
        self._unpacked = unpacked
        self._image_px = inputs.image_px

    def plain_twin(self) -> nn.Module:
        """What a user of the exported file has: timm's model of its image size, with these weights and average pooling,
        for normalised images (B, E, image_px, image_px), E the encoder's channels. On the CPU, in eval mode."""
        state = {name: tensor.detach().cpu() for name, tensor in self.network.state_dict().items()}
        told = self._unpacked
        arguments = {**told.arguments, "img_size": self._image_px}
        twin = Unpacked(
            architecture=told.architecture,
            arguments=arguments,
            weights=state,
            channels=told.channels,
            normalise=told.normalise,
            origin=told.origin,
        )
        return _as_timm(twin, "avg", {}).eval()


def unpack(model: SarMae, origin: str) -> Unpacked:
    """The encoder of a pretraining model."""
    architecture, arguments = timm_arguments(model.spec, "token")
    return Unpacked(
        architecture=architecture,
        arguments=arguments,
        weights=model.encoder.state_dict(),
        channels=model.spec.polarisations,
        normalise=model.normalise,
        origin=origin,
    )


def unpack_file(path: Path, config: PretrainConfig, inputs: Inputs) -> Unpacked:
    """An encoder out of a folder or file that `sarmae export` wrote, or out of a published MAE or SARMAE checkpoint.

    A published one must have the shape that config.model says; its channels are adapted to the task's, whose train
    split gives the normalisation. Raises CheckpointError, ConfigError where config makes no model.
    """
    file = path / WEIGHTS_FILE if path.is_dir() else path
    weights = read_weights(file)
    told = _metadata(file)
    if told is not None:
        return _exported(file, told, weights)
    model = starting_model(config, inputs, image_px=inputs.image_px)
    load_published(model, file, with_decoder=False)
    return unpack(model, str(file))


def starting_model(config: PretrainConfig, inputs: Inputs, *, image_px: int) -> SarMae:
    """The model of a pretraining configuration at step 0, for the channels and by the statistics of a task."""
    size = config.model
    width, depth, heads = encoder_size(size.size)
    if size.width is not None and size.depth is not None and size.heads is not None:
        width, depth, heads = size.width, size.depth, size.heads
    shape = {"patch_px", "decoder_width", "decoder_depth", "decoder_heads", "mask_ratio", "decode_share", "norm_pix"}
    spec = ModelSpec(
        image_px=image_px,
        polarisations=inputs.channels,
        width=width,
        depth=depth,
        heads=heads,
        **size.model_dump(include=shape),
    )
    statistics = SarStatistics(
        polarisations=inputs.channels, mean_db=inputs.mean, std_db=inputs.std, basis="train", samples=0
    )
    return build_model(spec, statistics, seed=config.train.seed)


def _as_timm(unpacked: Unpacked, pool: str, more: Mapping[str, Any]) -> nn.Module:
    """timm's model with the weights; with pool "avg" timm calls the last norm fc_norm."""
    state = dict(unpacked.weights)
    if pool == "avg":
        state = {_NORM.sub("fc_norm.", name): tensor for name, tensor in state.items()}
    arguments = {**unpacked.arguments, "global_pool": pool, **more}
    try:
        with torch.random.fork_rng(devices=[]):
            network: nn.Module = timm.create_model(unpacked.architecture, **arguments)
        network.load_state_dict(state)
    except DAMAGE as error:
        cause = " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"{unpacked.origin}: its weights are not those of {unpacked.architecture} with {arguments}, which it says "
            f"it holds: {cause} It was changed after it was written: export it again."
        ) from error
    return network


def _metadata(file: Path) -> Mapping[str, Any] | None:
    """What `sarmae export` told in a file; None in a file of others."""
    if file.suffix != ".safetensors":
        return None
    with safetensors.safe_open(file, framework="pt") as opened:
        told = (opened.metadata() or {}).get(TOLD)
    if told is None:
        return None
    try:
        return dict(json.loads(told))
    except (ValueError, TypeError) as error:
        raise _untold(file, error) from error


def _exported(file: Path, told: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Unpacked:
    try:
        normalise = Normalise(told["mean_db"], told["std_db"])
        channels = tuple(map(str, told["polarisations"]))
        if len(channels) != len(normalise.mean_db):
            raise ValueError(f"{len(channels)} polarisations, {len(normalise.mean_db)} means")
        return Unpacked(
            architecture=str(told["architecture"]),
            arguments=dict(told["arguments"]),
            weights={_POOLED_NORM.sub("norm.", name): tensor for name, tensor in weights.items()},
            channels=channels,
            normalise=normalise,
            origin=str(file),
        )
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise _untold(file, error) from error


def _untold(file: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{file}: its metadata do not say which encoder it holds ({type(error).__name__}: {error}); expected "
        "architecture, arguments, polarisations, mean_db and std_db as `sarmae export` writes them. Export it again."
    )
