"""Encoders that SARMAE pretrained: out of a run or an exported file, as plain timm models, ready for decibels."""
# B batch, P polarisations, S side of an image, N patches, D width

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
from sarmae.errors import CheckpointError
from sarmae.export import WEIGHTS_FILE, Pool, timm_arguments
from sarmae.model.sarmae import SarMae
from sarmae.runs import load_run_model
from sarmae.stream.normalise import Normalise
from sarmae.timm_door import timm
from sarmae.train.checkpoint import FOLDER as CHECKPOINTS
from sarmae.weights import DAMAGE, read_weights

METADATA_KEY: Final = "sarmae"  # the entry of an exported file's metadata, see sarmae.export
_POOLED_NORM: Final = re.compile(r"^fc_norm\.")
_NORM: Final = re.compile(r"^norm\.")


@dataclass(frozen=True, kw_only=True, eq=False)
class EncoderWeights:
    """A pretrained ViT and what is needed to build and feed it.

    architecture, arguments: of timm.create_model.
    weights: by timm's names, the last norm as `norm`.
    channels: polarisations in order.
    normalise: of decibels, as in pretraining.
    origin: for messages.
    """

    architecture: str
    arguments: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    channels: tuple[str, ...]
    normalise: Normalise
    origin: str

    def build(self, pool: Pool, **arguments: Any) -> nn.Module:  # noqa: ANN401 - timm's own
        """timm's model with the weights, for normalised images. Raises CheckpointError where they do not fit it.

        pool: `avg` averages the patch tokens before the last norm, which timm then calls fc_norm; `token` takes the
        class token. arguments: of timm.create_model, besides those of pretraining.
        """
        state = dict(self.weights)
        if pool == "avg":
            state = {_NORM.sub("fc_norm.", name): tensor for name, tensor in state.items()}
        arguments = {**self.arguments, "global_pool": pool, **arguments}
        try:
            with torch.random.fork_rng(devices=[]):
                network: nn.Module = timm.create_model(self.architecture, **arguments)
            network.load_state_dict(state)
        except DAMAGE as error:
            cause = " ".join(str(error).split())[:300]
            raise CheckpointError(
                f"{self.origin}: its weights are not those of {self.architecture} with {arguments}, which it says it "
                f"holds: {cause} It was changed after it was written: export it again."
            ) from error
        return network


class DecibelEncoder(nn.Module):
    """A pretrained ViT behind the normalisation that it was pretrained with.

    polarisations: of the input's channels, in order. network: timm's model, for normalised images.
    """

    def __init__(self, encoder: EncoderWeights) -> None:
        super().__init__()
        self.polarisations = encoder.channels
        self.normalise = encoder.normalise
        self.network = encoder.build("avg", dynamic_img_size=True)

    def forward(self, sar_db: Tensor) -> Tensor:
        """(B, D) features, one vector an image.

        sar_db: (B, P, S, S) float32, backscatter in dB, 10 log10 of linear power; NaN where there is no data. S is a
        multiple of the patch; the positions are interpolated to it.

        Raises ConfigError where the number of channels is another.
        """
        features: Tensor = self.network(self.normalise(sar_db))
        return features

    def tokens(self, sar_db: Tensor) -> Tensor:
        """(B, 1 + N, D): the class token, then those of the patches, row by row. sar_db: as in forward."""
        tokens: Tensor = self.network.forward_features(self.normalise(sar_db))  # type: ignore[operator]
        return tokens


def load_encoder(place: str | Path, device: str | torch.device = "cpu") -> DecibelEncoder:
    """The encoder of a pretraining run, in evaluation mode on a device: `load_encoder("runs/x")(sar_db)`.

    place: folder of a run, whose latest whole checkpoint is taken, with the moving average of the weights where the
    run kept one; or a folder or .safetensors file that `sarmae export` wrote.

    Raises CheckpointError where there is no such encoder, or it is damaged.
    """
    place = Path(place)
    if (place / CHECKPOINTS).is_dir():
        encoder = encoder_of(load_run_model(place).model, str(place))
    else:
        file = place / WEIGHTS_FILE if place.is_dir() else place
        found = read_exported(file)
        if found is None:
            raise CheckpointError(
                f"{file}: weights without the normalisation of their input; expected the folder of a run, or what "
                "`sarmae export` wrote. Begin a run from these weights (model.weights) and give its folder."
            )
        encoder = found
    return DecibelEncoder(encoder).to(device).eval()


def encoder_of(model: SarMae, origin: str) -> EncoderWeights:
    """The encoder of a pretraining model."""
    architecture, arguments = timm_arguments(model.spec, "token")
    return EncoderWeights(
        architecture=architecture,
        arguments=arguments,
        weights=model.encoder.state_dict(),
        channels=model.spec.polarisations,
        normalise=model.normalise,
        origin=origin,
    )


def read_exported(file: Path) -> EncoderWeights | None:
    """The encoder in a file that `sarmae export` wrote; None where the file has another origin.

    Raises CheckpointError where the file cannot be read, or its metadata do not describe an encoder.
    """
    weights = read_weights(file)
    facts = _metadata(file)
    if facts is None:
        return None
    try:
        normalise = Normalise(facts["mean_db"], facts["std_db"])
        channels = tuple(map(str, facts["polarisations"]))
        if len(channels) != len(normalise.mean_db):
            raise ValueError(f"{len(channels)} polarisations, {len(normalise.mean_db)} means")
        return EncoderWeights(
            architecture=str(facts["architecture"]),
            arguments=dict(facts["arguments"]),
            weights={_POOLED_NORM.sub("norm.", name): tensor for name, tensor in weights.items()},
            channels=channels,
            normalise=normalise,
            origin=str(file),
        )
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise _unfit_metadata(file, error) from error


def _metadata(file: Path) -> Mapping[str, Any] | None:
    """What `sarmae export` wrote beside the weights; None in a file of another origin."""
    if file.suffix != ".safetensors":
        return None
    with safetensors.safe_open(file, framework="pt") as opened:
        text = (opened.metadata() or {}).get(METADATA_KEY)
    if text is None:
        return None
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise _unfit_metadata(file, error) from error


def _unfit_metadata(file: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{file}: its metadata do not say which encoder it holds ({type(error).__name__}: {error}); expected "
        "architecture, arguments, polarisations, mean_db and std_db as `sarmae export` writes them. Export it again."
    )
